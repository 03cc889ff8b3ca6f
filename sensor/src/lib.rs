//! The sensor of a machine: what happens there, what the rules make of it, and what is done about it.

pub mod kernel;
