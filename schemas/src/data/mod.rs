//! One struct per record type: what stands under `data`.
//!
//! Fields that a reader does not know are ignored, so that records survive upgrades; fields that are missing or of another form
//! are refused. Personal fields have the type [`crate::commitment::Personal`]: a token or a commitment, and
//! nothing else.

mod admission;
mod detection;
mod evidence;
mod ledger;
mod node;
mod release;
mod rollout;
mod stream;

pub use admission::*;
pub use detection::*;
pub use evidence::*;
pub use ledger::*;
pub use node::*;
pub use release::*;
pub use rollout::*;
pub use stream::*;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::types::RecordType;

/// The `data` of one record type.
pub trait RecordData: Serialize + DeserializeOwned {
    /// The type it belongs to.
    const TYPE: RecordType;
}
