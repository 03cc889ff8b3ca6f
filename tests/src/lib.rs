//! The harness that end-to-end tests share: start the real binary, use Git and HTTP as a user would, read the ledger's bytes.
//! The tests themselves are in `tests/tests/`.
//!
//! Nothing here asserts a time. Waits have a bound far beyond what is expected, so that a slow machine is not a failure, and
//! measured times are printed.

pub mod kernel;
pub mod ledger;
pub mod shell;
pub mod up;
