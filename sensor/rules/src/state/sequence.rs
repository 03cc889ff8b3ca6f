//! `sequence`: an event for which `after` holds, and then, of the same key, one for which the rule's condition does.
//!
//! The latest first event counts, and counts once: a second event uses it up. Events at the same time are in the order they come in, and
//! one event is not both.

use std::sync::Arc;

use super::table::Kept;
use crate::compile::{Node, Outline, Reader, TypeSet};
use crate::engine::Context;
use crate::fields::FieldValue;
use crate::limits::STATE_SHOWN_BYTES_MAX;
use crate::text::Text;

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub(crate) within_ns: u64,
    /// What must have happened, and for which event types it can hold.
    pub(crate) after: Arc<Node>,
    /// The same as its author reads it.
    pub(crate) outline: Arc<Outline>,
    pub(crate) types: TypeSet,
    /// The first event's fields that make its key, in the order of those of the second.
    pub(crate) by: Box<[Reader]>,
}

impl Sequence {
    /// Has the event all that the key of a first event is made of? One that lacks a part of it pairs with none.
    pub(crate) fn has_key(&self, context: &Context<'_>) -> bool {
        self.by.iter().all(|reader| reader.read(context).is_some())
    }
}

/// A first event.
#[derive(Debug, Default)]
pub(crate) struct First {
    pub(crate) time_ns: u64,
    /// Those of its fields that alerts show, in order.
    pub(crate) fields: Box<[FieldValue]>,
}

impl Kept for First {
    fn bytes(&self) -> usize {
        let bytes = |value: &FieldValue| match value {
            FieldValue::Text(text) => text.as_bytes().len(),
            FieldValue::List(texts) => texts.iter().map(|text| size_of::<Text>() + text.as_bytes().len()).sum(),
            _ => 0,
        };
        self.fields.iter().map(|value| size_of::<FieldValue>() + bytes(value)).sum()
    }
}

/// A value as it is kept: cut to what an alert shows.
pub(crate) fn kept(value: FieldValue) -> FieldValue {
    let cut = |text: &Text| Text::from(&text.as_bytes()[..text.as_bytes().len().min(STATE_SHOWN_BYTES_MAX)]);
    match value {
        FieldValue::Text(text) => FieldValue::Text(cut(&text)),
        FieldValue::List(texts) => {
            let mut room = STATE_SHOWN_BYTES_MAX;
            let fits = |text: &&Text| {
                let fits = text.as_bytes().len() <= room;
                room = room.saturating_sub(text.as_bytes().len());
                fits
            };
            FieldValue::List(texts.iter().take(64).take_while(fits).cloned().collect())
        }
        other => other,
    }
}
