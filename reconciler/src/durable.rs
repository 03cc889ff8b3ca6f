//! Small files that must survive a crash: see [`cairn_ledger::files`].

pub use cairn_ledger::files::{DiskError, Readers};
pub(crate) use cairn_ledger::files::{create_folder, names, read_optional, replace as write};
