//! A ledger in an S3 bucket: the same files as in a directory, as objects under a prefix; and in the place of the write-ahead log, groups
//! of records that are staged as objects. What makes one writer the writer is compare-and-swap on `checkpoint`. The bytes are in
//! `ledger/FORMAT.md`, S3. `session` is the protocol, without a network, and simulated; `client` speaks to the server; `bucket` is
//! what the writer sees.

mod bucket;
mod client;
mod epoch;
mod group;
mod objects;
mod place;
mod release_files;
mod session;

pub use client::ConnectError;
pub use place::{PREFIX_LEN_MAX, Place, PlaceError, RETENTION_DAYS_MAX};

pub(crate) use bucket::{Bucket, Reader, is_immutable};
pub(crate) use epoch::Epoch;

/// The length in bytes of the object that these records are staged as, if they are one group.
#[cfg(feature = "bench")]
#[must_use]
pub fn staged_len(records: &[Vec<u8>]) -> usize {
    let leaf = |record: &Vec<u8>| (record.clone().into(), cairn_schemas::digest::Digest::leaf(record));
    let group: Vec<crate::streams::Written> = records.iter().map(leaf).collect();
    group::pack(cairn_schemas::ids::RecordIndex(0), &group).len()
}
