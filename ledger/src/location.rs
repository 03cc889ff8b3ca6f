//! Where a ledger lies that is only read: a directory, or with feature `s3` a bucket.
//!
//! Nothing here needs a key of the ledger or its lock, and nothing is written. What lies beside a directory, such as the index, lies for
//! a bucket in this user's cache folder: it is derived, and may be deleted.

use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::dir::{DirError, LedgerDir};
use crate::volume;

/// Where a ledger lies that is read.
#[derive(Clone)]
pub struct Location(Files);

#[derive(Clone)]
enum Files {
    Dir(PathBuf),
    #[cfg(feature = "s3")]
    Bucket(Bucket),
}

#[cfg(feature = "s3")]
#[derive(Clone)]
struct Bucket {
    place: crate::s3::Place,
    reader: std::sync::Arc<crate::s3::Reader>,
    /// The volume's folder with `/` behind it; empty for the ledger's root.
    below: String,
}

impl From<&Path> for Location {
    fn from(dir: &Path) -> Location {
        Location(Files::Dir(dir.to_owned()))
    }
}

impl From<&PathBuf> for Location {
    fn from(dir: &PathBuf) -> Location {
        Location::from(&**dir)
    }
}

impl From<&Location> for Location {
    fn from(location: &Location) -> Location {
        location.clone()
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Files::Dir(dir) => dir.display().fmt(f),
            #[cfg(feature = "s3")]
            Files::Bucket(bucket) => bucket.place.fmt(f),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({self})")
    }
}

impl Location {
    /// The ledger at this address.
    ///
    /// # Errors
    /// The bucket cannot be used.
    #[cfg(feature = "write")]
    pub fn of(address: &crate::writer::Address) -> Result<Location, DirError> {
        match address {
            crate::writer::Address::Dir(dir) => Ok(Location::from(dir)),
            #[cfg(feature = "s3")]
            crate::writer::Address::S3(place) => {
                let reader = crate::s3::Reader::connect(place)
                    .map_err(|error| DirError::Read { file: place.to_string(), source: io::Error::other(error) })?;
                let reader = std::sync::Arc::new(reader);
                Ok(Location(Files::Bucket(Bucket { place: place.clone(), reader, below: String::new() })))
            }
        }
    }

    /// The directory, where it is one.
    #[must_use]
    pub fn dir(&self) -> Option<&Path> {
        match &self.0 {
            Files::Dir(dir) => Some(dir),
            #[cfg(feature = "s3")]
            Files::Bucket(_) => None,
        }
    }

    /// A volume of the ledger whose root this is.
    ///
    /// # Errors
    /// As [`LedgerDir::open`].
    pub fn volume(&self, number: u64) -> Result<LedgerDir, DirError> {
        LedgerDir::at(match &self.0 {
            Files::Dir(dir) => Location(Files::Dir(dir.join(volume::folder(number)))),
            #[cfg(feature = "s3")]
            Files::Bucket(bucket) => {
                let below = volume::path(number, "");
                Location(Files::Bucket(Bucket { below, ..bucket.clone() }))
            }
        })
    }

    /// Whether there is a ledger.
    pub(crate) fn holds_ledger(&self) -> Result<(), DirError> {
        match &self.0 {
            Files::Dir(path) => {
                let exists = |path: &Path| {
                    path.try_exists().map_err(|source| DirError::Read { file: path.display().to_string(), source })
                };
                if !exists(path)? {
                    return Err(DirError::Absent { path: path.clone() });
                }
                if !exists(&path.join(crate::dir::CHECKPOINT_FILE))? && !exists(&path.join("tile"))? {
                    return Err(DirError::NotALedger { path: path.clone() });
                }
                Ok(())
            }
            #[cfg(feature = "s3")]
            Files::Bucket(bucket) => match self.read(crate::dir::CHECKPOINT_FILE, crate::note::NOTE_LEN_MAX as u64) {
                Ok(_) => Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let path = PathBuf::from(format!("{}/{}", bucket.place, bucket.below).trim_end_matches('/'));
                    Err(DirError::NotALedger { path })
                }
                Err(source) => Err(DirError::Read { file: crate::dir::CHECKPOINT_FILE.to_owned(), source }),
            },
        }
    }

    /// A file, or its first bytes where it is longer than `limit` and one more.
    pub(crate) fn read(&self, file: &str, limit: u64) -> io::Result<Vec<u8>> {
        match &self.0 {
            Files::Dir(root) => {
                let mut bytes = Vec::new();
                std::fs::File::open(root.join(file))?.take(limit + 1).read_to_end(&mut bytes)?;
                Ok(bytes)
            }
            #[cfg(feature = "s3")]
            Files::Bucket(bucket) => bucket.read(file),
        }
    }

    /// The names in a folder, and whether each is a folder.
    pub(crate) fn list(&self, folder: &str) -> io::Result<Vec<(String, bool)>> {
        match &self.0 {
            Files::Dir(root) => std::fs::read_dir(root.join(folder))?
                .map(|entry| {
                    let entry = entry?;
                    Ok((entry.file_name().to_string_lossy().into_owned(), entry.file_type()?.is_dir()))
                })
                .collect(),
            #[cfg(feature = "s3")]
            Files::Bucket(bucket) => bucket.list(folder),
        }
    }

    /// Where the index of a volume lies.
    #[cfg(feature = "write")]
    pub(crate) fn index_folder(&self, number: u64) -> io::Result<PathBuf> {
        match &self.0 {
            Files::Dir(dir) => crate::index::folder(dir, number),
            #[cfg(feature = "s3")]
            Files::Bucket(bucket) => Ok(bucket.cache()?.join(number.to_string())),
        }
    }
}

#[cfg(feature = "s3")]
impl Bucket {
    fn read(&self, file: &str) -> io::Result<Vec<u8>> {
        let read = self.reader.read(&format!("{}{file}", self.below)).map_err(io::Error::other)?;
        let bytes = read.ok_or(io::ErrorKind::NotFound)?;
        if file != crate::dir::CHECKPOINT_FILE {
            return Ok(bytes);
        }
        // Who writes is nobody's business here; a volume without records is none yet.
        let (note, _, checkpoint) = crate::s3::Epoch::off(&bytes).map_err(io::Error::other)?;
        if checkpoint.size.0 == 0 { Err(io::ErrorKind::NotFound.into()) } else { Ok(note) }
    }

    fn list(&self, folder: &str) -> io::Result<Vec<(String, bool)>> {
        let listed = format!("{}{folder}", self.below);
        self.reader.entries(listed.trim_end_matches('/')).map_err(io::Error::other)
    }

    /// `<cache>/cairn/<bucket>/<prefix>.index`, in the user's cache folder.
    fn cache(&self) -> io::Result<PathBuf> {
        let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = of("XDG_CACHE_HOME").or_else(|| of("HOME").map(|home| home.join(".cache")));
        let cache = cache.ok_or_else(|| io::Error::other("neither XDG_CACHE_HOME nor HOME names a cache folder"))?;
        let name = match self.place.prefix.as_str() {
            "" => format!("{}.index", self.place.bucket),
            prefix => format!("{}/{prefix}.index", self.place.bucket),
        };
        Ok(cache.join("cairn").join(name))
    }
}
