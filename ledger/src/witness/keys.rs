//! A witness's keys: `<dir>/witness.key`, mode 0600, one private key a line, made when the witness is.
//!
//! Keys and memory belong together. A witness whose memory is lost would cosign any history of any log anew: it must not go on
//! under the same keys, and [`open`] refuses that.

use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use thiserror::Error;

use super::WITNESS_KEYS_MAX;
use super::store::DirStore;
use crate::cosignature::CosignatureSigner;
use crate::files::{self, DiskError, Readers};
use crate::mldsa::SecretKey;
use crate::note::{NoteError, check_name};
use crate::random::Random;

/// The file.
pub const KEY_FILE: &str = "witness.key";

/// Why a witness cannot start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no key, and no name to make one under.
    #[error("there is no witness in {} yet, and it needs a name", .dir.display())]
    NoName {
        /// The folder.
        dir: PathBuf,
    },
    /// The name cannot be one.
    #[error(transparent)]
    Name(#[from] NoteError),
    /// There is a witness of another name.
    #[error("the witness in {} is {actual}, not {expected}", .dir.display())]
    AnotherName {
        /// The folder.
        dir: PathBuf,
        /// The name that was asked for.
        expected: String,
        /// Its name.
        actual: String,
    },
    /// The key file holds something else.
    #[error("line {line} of {} is not a key of a witness: {reason}", .path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        reason: NoteError,
    },
    /// No key, or too many.
    #[error("{} holds {count} keys; a witness has 1 to {WITNESS_KEYS_MAX}", .path.display())]
    Count {
        /// The file.
        path: PathBuf,
        /// How many.
        count: usize,
    },
    /// There are keys, and no memory.
    #[error("{} has keys of a witness, and what it cosigned is not there any more", .dir.display())]
    Forgotten {
        /// The folder.
        dir: PathBuf,
    },
    /// Another process is this witness.
    #[error("another process is the witness in {}: it holds `lock`", .dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// The system could not.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The system has no randomness.
    #[error("no randomness for a key")]
    Random(#[source] std::io::Error),
}

/// How a witness is made, where there is none.
#[derive(Debug, Clone, Default)]
pub struct New {
    /// Its name: a URL without the scheme, commonly.
    pub name: Option<String>,
    /// Whether it has an ML-DSA-44 key too.
    pub mldsa: bool,
}

/// Opens the witness in a folder, or makes it: its keys and its memory.
///
/// # Errors
/// [`OpenError`].
pub fn open(dir: &Path, new: &New, random: &dyn Random) -> Result<(Vec<CosignatureSigner>, DirStore), OpenError> {
    let path = dir.join(KEY_FILE);
    let text = files::read_optional(&path)?;
    if text.is_some() && !dir.join("logs").is_dir() {
        return Err(OpenError::Forgotten { dir: dir.to_owned() });
    }
    if text.is_none() && new.name.is_none() {
        return Err(OpenError::NoName { dir: dir.to_owned() });
    }
    files::create_folder(dir, Readers::Owner)?;
    // The memory first: keys without one are refused.
    let store = DirStore::open(dir).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => OpenError::Locked { dir: dir.to_owned() },
        _ => DiskError::of("open", dir)(error).into(),
    })?;
    let signers = match text {
        Some(text) => read(&path, &String::from_utf8_lossy(&text))?,
        None => make(&path, new, random)?,
    };
    let actual = signers[0].verifier().name();
    match &new.name {
        Some(name) if name != actual => {
            Err(OpenError::AnotherName { dir: dir.to_owned(), expected: name.clone(), actual: actual.to_owned() })
        }
        _ => Ok((signers, store)),
    }
}

fn read(path: &Path, text: &str) -> Result<Vec<CosignatureSigner>, OpenError> {
    let mut signers = Vec::new();
    for (line, key) in (1..).zip(text.lines()).filter(|(_, key)| !key.is_empty()) {
        let refuse = |reason| OpenError::NotAKey { path: path.to_owned(), line, reason };
        signers.push(CosignatureSigner::from_text(key).map_err(refuse)?);
    }
    if !(1..=WITNESS_KEYS_MAX).contains(&signers.len()) {
        return Err(OpenError::Count { path: path.to_owned(), count: signers.len() });
    }
    Ok(signers)
}

fn make(path: &Path, new: &New, random: &dyn Random) -> Result<Vec<CosignatureSigner>, OpenError> {
    let name = new.name.as_deref().unwrap_or_default();
    check_name(name)?;
    let draw = || {
        let mut seed = [0; 32];
        random.fill(&mut seed).map(|()| seed).map_err(OpenError::Random)
    };
    let mut signers = vec![CosignatureSigner::ed25519(name, SigningKey::from_bytes(&draw()?))?];
    if new.mldsa {
        signers.push(CosignatureSigner::mldsa44(name, SecretKey::from_seed(&draw()?))?);
    }
    let text: String = signers.iter().map(|signer| signer.to_text() + "\n").collect();
    files::replace(path, text.as_bytes(), Readers::Owner)?;
    Ok(signers)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::random::SystemRandom;

    fn named(name: &str) -> New {
        New { name: Some(name.to_owned()), mldsa: true }
    }

    #[test]
    fn a_witness_is_made_once_and_keeps_its_keys() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("w");
        let opened = |new: &New| open(&dir, new, &SystemRandom).map(|(signers, _)| signers);
        assert!(matches!(opened(&New::default()), Err(OpenError::NoName { .. })));
        assert!(matches!(opened(&named("a b")), Err(OpenError::Name(_))));
        let made = opened(&named("w.example")).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&dir.join(KEY_FILE))), (0o700, 0o600));
        let keys = |signers: &[CosignatureSigner]| signers.iter().map(|s| s.verifier().to_string()).collect::<Vec<_>>();
        assert_eq!(made.len(), 2);
        for new in [New::default(), named("w.example")] {
            assert_eq!(keys(&opened(&new).unwrap()), keys(&made));
        }
        assert!(matches!(opened(&named("other")), Err(OpenError::AnotherName { .. })));
        let held = open(&dir, &New::default(), &SystemRandom).unwrap();
        assert!(matches!(opened(&New::default()), Err(OpenError::Locked { .. })));
        drop(held);
        std::fs::remove_dir_all(dir.join("logs")).unwrap();
        assert!(matches!(opened(&New::default()), Err(OpenError::Forgotten { .. })));
    }

    #[test]
    fn a_key_file_with_something_else_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        drop(open(folder.path(), &named("w"), &SystemRandom).unwrap());
        let path = folder.path().join(KEY_FILE);
        let good = std::fs::read_to_string(&path).unwrap();
        let refused = |text: &str| {
            std::fs::write(&path, text).unwrap();
            open(folder.path(), &New::default(), &SystemRandom).map(drop).unwrap_err()
        };
        assert!(matches!(refused("\n"), OpenError::Count { count: 0, .. }));
        assert!(matches!(refused(&good.repeat(3)), OpenError::Count { count: 6, .. }));
        let error = refused(&format!("{good}PRIVATE+KEY+x\n"));
        assert!(matches!(error, OpenError::NotAKey { line: 3, .. }) && !error.to_string().contains("PRIVATE+KEY+x"));
    }
}
