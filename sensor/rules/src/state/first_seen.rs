//! `first_seen`: a key that was not seen before, or not for long.
//!
//! While a rule learns, keys are taken in silently. A key is forgotten when it was not seen for `forget`, and is new again then.

use super::table::Kept;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FirstSeen {
    pub(crate) learn_ns: u64,
    pub(crate) forget_ns: u64,
}

/// Whether a key was seen; when is the table's to know.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) is_known: bool,
}

impl Kept for Known {
    fn bytes(&self) -> usize {
        0
    }
}

impl Known {
    /// Is it new?
    pub(crate) fn event(&mut self) -> bool {
        !std::mem::replace(&mut self.is_known, true)
    }
}
