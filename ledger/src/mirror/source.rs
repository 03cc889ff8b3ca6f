//! Where a mirror copies from.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use cairn_schemas::ids::TreeSize;
use thiserror::Error;

use super::MirrorError;
use crate::volume;

/// A file of the original.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) path: String,
    /// Where it is known without reading the file.
    pub(super) len: Option<u64>,
}

/// An original: paths are relative to it, with `/`.
pub(super) trait Files: Sync {
    /// What people are told that it is.
    fn name(&self) -> String;

    /// The volumes of which there is anything, rising.
    fn volumes(&self) -> Result<Vec<u64>, MirrorError>;

    /// Every file; where the original cannot be asked, those that ledgers with these volumes and sizes have.
    fn list(&self, sizes: &[(u64, TreeSize)]) -> Result<Vec<Found>, MirrorError>;

    /// The whole file; `None` where there is none.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, MirrorError>;
}

/// A ledger to be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// A directory of this machine.
    Dir(PathBuf),
    /// A server that serves a ledger's files below this URL, without `/` at its end.
    #[cfg(feature = "witness-client")]
    Http(String),
    /// A bucket.
    #[cfg(feature = "s3")]
    S3(crate::s3::Place),
}

/// Why a text names nothing that can be copied.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SourceError {
    /// It is a URL that this build does not read.
    #[error("{text}: this program was built without feature `{feature}`")]
    NotBuilt {
        /// The text.
        text: String,
        /// What is missing.
        feature: &'static str,
    },
    /// It begins with `s3://` and goes on wrongly.
    #[cfg(feature = "s3")]
    #[error(transparent)]
    S3(#[from] crate::s3::PlaceError),
    /// Another scheme, or nothing.
    #[error("{text:?} is neither a directory nor an http://, https:// or s3:// URL")]
    Scheme {
        /// The text.
        text: String,
    },
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Source, SourceError> {
        #[cfg(not(all(feature = "s3", feature = "witness-client")))]
        let not_built = |feature| Err::<Source, _>(SourceError::NotBuilt { text: text.to_owned(), feature });
        match text.split_once("://") {
            #[cfg(feature = "s3")]
            Some(("s3", _)) => Ok(Source::S3(text.parse()?)),
            #[cfg(not(feature = "s3"))]
            Some(("s3", _)) => not_built("s3"),
            #[cfg(feature = "witness-client")]
            Some(("http" | "https", rest)) if !rest.is_empty() => {
                Ok(Source::Http(text.trim_end_matches('/').to_owned()))
            }
            #[cfg(not(feature = "witness-client"))]
            Some(("http" | "https", _)) => not_built("witness-client"),
            None if !text.is_empty() => Ok(Source::Dir(text.into())),
            _ => Err(SourceError::Scheme { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Dir(dir) => dir.display().fmt(f),
            #[cfg(feature = "witness-client")]
            Source::Http(url) => url.fmt(f),
            #[cfg(feature = "s3")]
            Source::S3(place) => place.fmt(f),
        }
    }
}

impl Source {
    pub(super) fn open(&self) -> Result<Box<dyn Files>, MirrorError> {
        match self {
            Source::Dir(dir) => Ok(Box::new(Dir(dir.clone()))),
            #[cfg(feature = "witness-client")]
            Source::Http(url) => Ok(Box::new(http::Http::new(url))),
            #[cfg(feature = "s3")]
            Source::S3(place) => Ok(Box::new(bucket::Objects::open(place)?)),
        }
    }
}

fn failed(from: &dyn fmt::Display, what: &str, reason: impl fmt::Display) -> MirrorError {
    MirrorError::Source { from: from.to_string(), what: what.to_owned(), reason: reason.to_string() }
}

/// The volumes that there may be, given the names in `volume/`; not those that are being dropped.
fn named(names: &[String]) -> Vec<u64> {
    let later = names.iter().filter_map(|name| volume::parse_number(name)).filter(|number| *number > 1);
    let mut volumes: Vec<u64> = std::iter::once(1).chain(later).collect();
    volumes.sort_unstable();
    volume::without_dropped(volumes, &volume::marked(names.iter().map(String::as_str)))
}

struct Dir(PathBuf);

impl Dir {
    fn walk(&self, folder: &Path, found: &mut Vec<Found>) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            // Links are not followed: what they lead to is no part of the ledger.
            let (kind, path) = (entry.file_type()?, entry.path());
            if kind.is_dir() {
                self.walk(&path, found)?;
            } else if kind.is_file()
                && let Some(relative) = path.strip_prefix(&self.0).ok().and_then(Path::to_str)
            {
                match entry.metadata() {
                    Ok(metadata) => found.push(Found { path: relative.to_owned(), len: Some(metadata.len()) }),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

impl Files for Dir {
    fn name(&self) -> String {
        self.0.display().to_string()
    }

    fn volumes(&self) -> Result<Vec<u64>, MirrorError> {
        let names = crate::files::names(&self.0.join(volume::VOLUME_FOLDER));
        let names = names.map_err(|error| failed(&self.name(), volume::VOLUME_FOLDER, error))?;
        Ok(named(&names))
    }

    fn list(&self, _: &[(u64, TreeSize)]) -> Result<Vec<Found>, MirrorError> {
        let mut found = Vec::new();
        self.walk(&self.0, &mut found).map_err(|error| failed(&self.name(), "the list of files", error))?;
        Ok(found)
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, MirrorError> {
        match fs::read(self.0.join(path)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(failed(&self.name(), path, error)),
        }
    }
}

#[cfg(feature = "witness-client")]
mod http {
    use std::time::Duration;

    use super::*;
    use crate::dir::{CHECKPOINT_FILE, RELEASE_FILE_LEN_MAX};
    use crate::tile::TileId;
    use crate::witness::http::HttpTransport;

    /// How long one file may take.
    const FILE_TIMEOUT: Duration = Duration::from_secs(60);
    /// A release's files, the proof last: where it is served, the others are.
    const RELEASE_FILES: [&str; 4] = ["content.tar", "statement.sigstore.json", "record.json", "release.tlog-proof"];

    /// So many volumes may have been dropped: at one a week, those of ten years. Where there is no ledger at all, it is asked for as many.
    const DROPPED_MAX: u64 = 520;

    /// A server. It cannot be asked for a list: what there must be follows from the checkpoints, and releases are numbered without gaps.
    pub(super) struct Http {
        url: String,
        transport: HttpTransport,
    }

    impl Http {
        pub(super) fn new(url: &str) -> Http {
            Http { url: url.to_owned(), transport: HttpTransport::new(FILE_TIMEOUT) }
        }
    }

    impl Files for Http {
        fn name(&self) -> String {
            self.url.clone()
        }

        fn volumes(&self) -> Result<Vec<u64>, MirrorError> {
            let mut volumes = Vec::new();
            for number in 1.. {
                match self.read(&volume::path(number, CHECKPOINT_FILE))? {
                    Some(_) => volumes.push(number),
                    // The oldest are dropped first. Where none was found, it is asked for those behind them.
                    None if volumes.is_empty() && number <= DROPPED_MAX => {}
                    None => break,
                }
            }
            Ok(volumes)
        }

        fn list(&self, sizes: &[(u64, TreeSize)]) -> Result<Vec<Found>, MirrorError> {
            let mut found = Vec::new();
            for (number, size) in sizes {
                let tiles = TileId::all(*size).map(|tile| tile.to_string());
                let kept = crate::dir::numbered_path(*size);
                found.extend(tiles.chain([kept]).map(|path| Found { path: volume::path(*number, &path), len: None }));
            }
            for serial in 1_u64.. {
                let paths = RELEASE_FILES.map(|file| format!("releases/{serial}/{file}"));
                // The first file's absence is that of the release.
                if self.read(&paths[3])?.is_none() {
                    break;
                }
                found.extend(paths.map(|path| Found { path, len: None }));
            }
            Ok(found)
        }

        fn read(&self, path: &str) -> Result<Option<Vec<u8>>, MirrorError> {
            let limit = usize::try_from(RELEASE_FILE_LEN_MAX).unwrap_or(usize::MAX);
            self.transport.get(&format!("{}/{path}", self.url), limit).map_err(|error| failed(&self.url, path, error))
        }
    }
}

#[cfg(feature = "s3")]
mod bucket {
    use super::*;
    use crate::s3::{Place, Reader};

    /// A bucket's objects, the newest version of each.
    pub(super) struct Objects {
        place: Place,
        reader: Reader,
    }

    impl Objects {
        pub(super) fn open(place: &Place) -> Result<Objects, MirrorError> {
            let reader = Reader::connect(place).map_err(|error| failed(place, "the bucket", error))?;
            Ok(Objects { place: place.clone(), reader })
        }
    }

    impl Files for Objects {
        fn name(&self) -> String {
            self.place.to_string()
        }

        fn volumes(&self) -> Result<Vec<u64>, MirrorError> {
            let names = self.reader.names(volume::VOLUME_FOLDER);
            let names = names.map_err(|error| failed(&self.place, volume::VOLUME_FOLDER, error))?;
            Ok(named(&names))
        }

        fn list(&self, _: &[(u64, TreeSize)]) -> Result<Vec<Found>, MirrorError> {
            let listed = self.reader.list().map_err(|error| failed(&self.place, "the list of objects", error))?;
            // A key that is no path cannot become a file; `versions.jsonl` names it.
            let is_path = |key: &str| key.split('/').all(|part| !matches!(part, "" | "." | ".."));
            let files = listed.into_iter().filter(|(key, _)| is_path(key));
            Ok(files.map(|(path, len)| Found { path, len: Some(len) }).collect())
        }

        fn read(&self, path: &str) -> Result<Option<Vec<u8>>, MirrorError> {
            self.reader.read(path).map_err(|error| failed(&self.place, path, error))
        }
    }
}
