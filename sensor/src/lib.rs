//! The sensor of a machine: what happens there, what the rules make of it, and what is done about it.
//!
//! [`kernel`] brings events, [`source`] is what it is one of; [`detection`] turns alerts into records, [`redact`] hides personal
//! values, [`respond`] says which responses a detection has, [`contain`] ends a process and only that process, and `act` records
//! that it does. Deciding is pure; [`watch`] is the loop. Only [`kernel`], [`contain`] and [`names`] touch the machine.

mod act;
pub mod contain;
pub mod detection;
pub mod kernel;
mod learnt;
pub mod names;
pub mod open_containment;
pub mod redact;
pub mod respond;
pub mod source;
pub mod watch;

pub use watch::Watch;
