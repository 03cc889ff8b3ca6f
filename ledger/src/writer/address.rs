//! Where a ledger lies, by one text: a directory, or `s3://bucket/prefix`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use cairn_schemas::data::LedgerOpened;
use cairn_schemas::time::Clock;
use thiserror::Error;

use super::{Ledger, OpenError, Signers};
use crate::durable::NewFile;
use crate::note::NoteSigner;
use crate::store::StoreError;

/// Where a ledger lies.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// A directory of this machine.
    Dir(PathBuf),
    /// A bucket.
    #[cfg(feature = "s3")]
    S3(crate::s3::Place),
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AddressError {
    /// It begins with `s3://` and goes on wrongly.
    #[cfg(feature = "s3")]
    #[error(transparent)]
    S3(#[from] crate::s3::PlaceError),
    /// It begins with `s3://`, and this program was built without that.
    #[error(
        "{text} lies in S3, and this program was built without feature `s3`: take a release build, or `cargo build --features s3`"
    )]
    NoS3 {
        /// The text.
        text: String,
    },
    /// Another scheme, or nothing.
    #[error("{text:?} is neither a directory nor s3://bucket/prefix")]
    Scheme {
        /// The text.
        text: String,
    },
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        match text.split_once("://") {
            #[cfg(feature = "s3")]
            Some(("s3", _)) => Ok(Address::S3(text.parse()?)),
            #[cfg(not(feature = "s3"))]
            Some(("s3", _)) => Err(AddressError::NoS3 { text: text.to_owned() }),
            None if !text.is_empty() => Ok(Address::Dir(text.into())),
            _ => Err(AddressError::Scheme { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Dir(dir) => dir.display().fmt(f),
            #[cfg(feature = "s3")]
            Address::S3(place) => place.fmt(f),
        }
    }
}

impl From<&Path> for Address {
    fn from(dir: &Path) -> Address {
        Address::Dir(dir.to_owned())
    }
}

impl Ledger {
    /// [`Ledger::create`], wherever it is to lie.
    ///
    /// # Errors
    /// As [`Ledger::create`]; [`OpenError::Bucket`].
    pub fn create_at(
        address: &Address,
        opened: &LedgerOpened,
        signer: NoteSigner,
        clock: Arc<dyn Clock>,
    ) -> Result<Ledger, OpenError> {
        match address {
            Address::Dir(dir) => Ledger::create(dir, opened, signer, clock),
            #[cfg(feature = "s3")]
            Address::S3(place) => {
                let bucket = crate::s3::Bucket::connect(place, clock.clone())?;
                Ledger::run(super::open::create_in(Arc::new(bucket), opened, signer, clock)?)
            }
        }
    }

    /// [`Ledger::open`], wherever it lies. In S3 this takes a moment while another writer may be alive: it must be silent for ten seconds.
    ///
    /// # Errors
    /// As [`Ledger::open`]; [`OpenError::Bucket`].
    pub fn open_at(address: &Address, signers: impl Into<Signers>, clock: Arc<dyn Clock>) -> Result<Ledger, OpenError> {
        match address {
            Address::Dir(dir) => Ledger::open(dir, signers, clock),
            #[cfg(feature = "s3")]
            Address::S3(place) => {
                let bucket = crate::s3::Bucket::connect(place, clock.clone())?;
                Ledger::run(super::open::open_in(Arc::new(bucket), signers, clock)?)
            }
        }
    }

    /// Puts a file that never changes beside the records, durable when this returns: a release's, below `releases/`, or a blob, below
    /// `blobs/`. In a directory others may write these files themselves; in a bucket this is the way.
    ///
    /// # Errors
    /// Another place; the store's error; the file is there with other bytes.
    pub fn put_file(&self, path: &str, bytes: Vec<u8>) -> std::io::Result<()> {
        let plain = !path.split('/').any(|part| matches!(part, "" | "." | ".."));
        if !plain || !(path.starts_with("releases/") || path.starts_with("blobs/")) {
            let reason = format!("{path} is neither below releases/ nor below blobs/");
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, reason));
        }
        let file = NewFile { path: path.to_owned(), bytes };
        self.inner.shared().root.write_named(&file).map_err(|error| match error {
            StoreError::Io(error) => error,
            conflict => std::io::Error::other(conflict),
        })
    }

    /// A file of the ledger, by its path below the root.
    ///
    /// # Errors
    /// The store's; `NotFound` where there is none.
    pub fn read_file(&self, path: &str) -> std::io::Result<Vec<u8>> {
        self.inner.shared().root.read(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        assert_eq!("data/ledger".parse(), Ok(Address::Dir("data/ledger".into())));
        assert!(matches!("".parse::<Address>(), Err(AddressError::Scheme { .. })));
        assert!(matches!("gs://bucket/x".parse::<Address>(), Err(AddressError::Scheme { .. })));
        let s3 = "s3://evidence/prod".parse::<Address>();
        #[cfg(feature = "s3")]
        assert_eq!(s3.unwrap().to_string(), "s3://evidence/prod");
        #[cfg(not(feature = "s3"))]
        assert!(s3.unwrap_err().to_string().contains("feature `s3`"));
    }
}
