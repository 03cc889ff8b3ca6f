//! What the protocol needs of an object store, and what an answer may mean.
//!
//! The contract is S3's: a PUT is there whole or not at all, reads and lists see every PUT and DELETE that was answered, and a
//! condition is judged in the same step as the write. A call without an answer may have been done, may never be, and may be done later.

use std::future::Future;

/// What must hold for a PUT to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// `If-None-Match: *`: there is no object.
    Absent,
    /// `If-Match`: the object is the one with this tag.
    Is(String),
}

/// An object as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) bytes: Vec<u8>,
    pub(crate) etag: String,
    pub(crate) version: Option<String>,
}

/// What a PUT made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) etag: String,
    /// Where the bucket keeps versions.
    pub(crate) version: Option<String>,
}

/// An object to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Removal {
    pub(crate) key: String,
    pub(crate) version: Option<String>,
}

/// Why a call was not answered with what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ObjectError {
    /// 412: the condition does not hold. Not done, by this request: an earlier one whose answer was lost may have been.
    #[error("the condition does not hold (412)")]
    Precondition,
    /// 409: another request to the same key is on its way. Not done.
    #[error("another request is writing the same object (409)")]
    Conflict,
    /// No answer, or one that says nothing (5xx). Nobody knows.
    #[error("no answer: {0}")]
    Unknown(String),
    /// Refused for what it is: permissions, a missing bucket. Not done, and will not be.
    #[error("{0}")]
    Refused(String),
}

/// A bucket's objects under one prefix. Keys are relative to it.
pub(crate) trait ObjectStore: Send + Sync + 'static {
    /// The newest version; `None` where there is none, or a delete marker.
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Object>, ObjectError>> + Send;

    /// Writes an object with a checksum of its bytes. `lock`: under Object Lock, where the store was told for how long.
    fn put(
        &self,
        key: &str,
        bytes: &[u8],
        condition: &Condition,
        lock: bool,
    ) -> impl Future<Output = Result<Stored, ObjectError>> + Send;

    /// Every key that begins so, rising.
    fn list(&self, prefix: &str) -> impl Future<Output = Result<Vec<String>, ObjectError>> + Send;

    /// Removes objects that nobody needs: the version that is named, or else every version there is. No error where there is none.
    fn delete(&self, objects: &[Removal]) -> impl Future<Output = Result<(), ObjectError>> + Send;

    /// Lets time pass before a call is made for the `attempt`th time, from 1.
    fn pause(&self, attempt: u32) -> impl Future<Output = ()> + Send;
}
