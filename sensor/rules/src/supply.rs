//! What a source of events supplies, so that a rule that asks for more is told so: a check on a field that is not supplied is false,
//! and never guessed.
//!
//! The engine can read more than any one source gives: a capture of Falco's holds events that no sensor of ours makes.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use crate::event::EventType;
use crate::fields;

/// Event types and fields that a source gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supply {
    events: BTreeSet<EventType>,
    fields: BTreeSet<String>,
}

static SENSOR: LazyLock<Supply> = LazyLock::new(|| {
    let mut supply = Supply { events: BTreeSet::new(), fields: BTreeSet::new() };
    for line in include_str!("supply/sensor.txt").lines() {
        match line.split_once(' ') {
            Some(("event", name)) => supply.events.extend(EventType::by_name(name)),
            Some(("field", name)) => supply.fields.extend([name.to_owned()]),
            _ => {}
        }
    }
    supply
});

impl Supply {
    /// What the eBPF sensor gives on a machine where all of its programs load.
    #[must_use]
    pub fn sensor() -> &'static Supply {
        &SENSOR
    }

    /// Everything that the engine can read: replay cases and captures may hold it.
    #[must_use]
    pub fn everything() -> Supply {
        Supply { events: EventType::all().collect(), fields: fields::readable().collect() }
    }

    /// Does it give events of this type?
    #[must_use]
    pub fn has_event(&self, event_type: EventType) -> bool {
        self.events.contains(&event_type)
    }

    /// Does it give this field, and can the engine read it? The name as a rule writes it: `proc.aname[2]`.
    #[must_use]
    pub fn has_field(&self, written: &str) -> bool {
        let name = written.split('[').next().unwrap_or(written);
        self.fields.contains(name) && fields::is_readable(name)
    }

    /// The event types it gives, in order of name.
    pub fn events(&self) -> impl Iterator<Item = EventType> + '_ {
        self.events.iter().copied()
    }

    /// The same without these fields and events: a node that lacks a kernel program, or a container runtime.
    #[must_use]
    pub fn without<'a>(&self, absent: impl IntoIterator<Item = &'a str>) -> Supply {
        let mut rest = self.clone();
        for name in absent {
            rest.fields.remove(name);
            if let Some(event_type) = EventType::by_name(name) {
                rest.events.remove(&event_type);
            }
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_sensor_gives_is_known_and_can_be_read() {
        let lines = include_str!("supply/sensor.txt").lines().filter(|line| !line.starts_with('#'));
        for line in lines {
            match line.split_once(' ') {
                Some(("event", name)) => assert!(EventType::by_name(name).is_some(), "{name}"),
                Some(("field", name)) => assert!(fields::is_readable(name), "{name}"),
                _ => panic!("{line}"),
            }
        }
    }

    #[test]
    fn what_a_node_lacks_can_be_taken_away() {
        let rest = Supply::sensor().without(["openat2", "proc.aname"]);
        assert!(!rest.has_event(EventType::OPENAT2));
        assert!(!rest.has_field("proc.aname[2]"));
        assert!(rest.has_field("proc.name"));
    }
}
