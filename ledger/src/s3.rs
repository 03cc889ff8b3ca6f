//! A ledger in an S3 bucket: the same files as in a directory, as objects under a prefix; and in the place of the write-ahead log, groups
//! of records that are staged as objects. What makes one writer the writer is compare-and-swap on `checkpoint`. The bytes are in
//! `ledger/FORMAT.md`, S3. `session` is the protocol, without a network, and simulated; `client` speaks to the server; `bucket` is
//! what the writer sees.

mod bucket;
mod client;
mod epoch;
mod objects;
mod place;
mod release_files;
mod session;

pub use client::ConnectError;
pub use place::{PREFIX_LEN_MAX, Place, PlaceError, RETENTION_DAYS_MAX};

pub(crate) use bucket::{Bucket, Reader, is_immutable};
pub(crate) use epoch::Epoch;
