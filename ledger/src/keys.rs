//! The key folder of a ledger (0700): one secret per file (0600), beside the ledger and never in it.
//!
//! | file | what |
//! |---|---|
//! | `root.key` | Ed25519, the private key text of the Go note tools, named `<ledger>/root`. Needed for rotation only: move it off the machine |
//! | `ledger.key` | the same form, named `<ledger>/<volume>`: signs checkpoints |
//! | `ledger-next.key` | the key that is about to take its place, while keys are changed |
//! | `ledger-<key id>.key` | keys that were in force before |
//! | `release.key` | P-256, PKCS#8 PEM: signs releases |
//! | `control.key` | Ed25519 seed, hexadecimal: signs the control stream's heads |
//! | `local/<name>.key` | Ed25519 seed, hexadecimal: signs the heads of the local producer of that name |
//!
//! Made in this order. The ledger's name comes from the root key, so that a crash between two files changes nothing. A ledger
//! inside a data folder of `cairn up` (there is a `fleet.yaml` beside it) has its keys in that folder's `keys/`, in the same form;
//! any other in `<LEDGER>.keys/`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_schemas::digest::Digest;
use cairn_schemas::ids::NodeId;
use ed25519_dalek::SigningKey;
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use thiserror::Error;

use crate::beside::{beside, resolve};
use crate::disk::{DirDisk, Disk};
use crate::durable::parent;
use crate::files::{DiskError, replace_on};
use crate::note::NoteSigner;
use crate::random::Random;

mod rotation;

pub use rotation::NEXT_LEDGER_FILE;

/// The root key's file.
pub const ROOT_FILE: &str = "root.key";
/// The checkpoints' key's file.
pub const LEDGER_FILE: &str = "ledger.key";
/// The releases' key's file.
pub const RELEASE_FILE: &str = "release.key";
/// The control stream's key's file.
pub const CONTROL_FILE: &str = "control.key";
/// The folder of local producers' keys.
pub const LOCAL_FOLDER: &str = "local";
/// The file beside a ledger that makes the keys those of a whole fleet.
const FLEET_FILE: &str = "fleet.yaml";
/// How often a P-256 secret is drawn before the generator is not believed: one draw in 2^32 is no secret.
const DRAWS_MAX: usize = 8;

/// Why a key is not to be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeysError {
    /// A file could not be read or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The file is not there.
    #[error("the key {} is missing", .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file is there and holds something else.
    #[error("{} is not a key: {reason}", .path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The path of the ledger is none.
    #[error("{} cannot be a ledger's path", .path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random(#[source] std::io::Error),
}

/// Where a ledger's keys lie.
#[derive(Clone)]
pub struct KeyFolder {
    path: PathBuf,
    fleet: bool,
    disk: Arc<dyn Disk>,
}

impl std::fmt::Debug for KeyFolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyFolder").field("path", &self.path).field("fleet", &self.fleet).finish_non_exhaustive()
    }
}

/// A ledger's public keys, as its `ledger.opened` names them, and the secrets that its writer needs. `Debug` shows none.
pub struct LedgerKeys {
    /// The ledger's name.
    pub name: String,
    /// The root's public key, as a vkey.
    pub root: String,
    /// Signs checkpoints.
    pub ledger: NoteSigner,
    /// The releases' public key, SPKI PEM.
    pub release: String,
    /// Signs the control stream's heads.
    pub control: SigningKey,
}

impl std::fmt::Debug for LedgerKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LedgerKeys({}, secret)", self.name)
    }
}

impl KeyFolder {
    /// The key folder of the ledger at this path, which need not exist yet. Nothing is made.
    ///
    /// # Errors
    /// [`KeysError::Path`].
    pub fn of(ledger: &Path) -> Result<KeyFolder, KeysError> {
        let fail = |source| KeysError::Path { path: ledger.to_owned(), source };
        let resolved = resolve(ledger).map_err(fail)?;
        if resolved.with_file_name(FLEET_FILE).is_file() {
            return Ok(KeyFolder { fleet: true, ..KeyFolder::at(resolved.with_file_name("keys")) });
        }
        Ok(KeyFolder::at(beside(ledger, ".keys").map_err(fail)?))
    }

    /// A key folder at this path, for a ledger of its own.
    #[must_use]
    pub fn at(path: PathBuf) -> KeyFolder {
        let disk = Arc::new(DirDisk::private(path.clone()));
        KeyFolder { path, fleet: false, disk }
    }

    /// The key folder at this path, for a ledger that nothing lies beside: that of a fleet, where it is the `keys` beside a `fleet.yaml`,
    /// or of a ledger of its own.
    #[must_use]
    pub fn given(path: PathBuf) -> KeyFolder {
        let path = resolve(&path).unwrap_or(path);
        let fleet = path.file_name().is_some_and(|name| name == "keys") && path.with_file_name(FLEET_FILE).is_file();
        KeyFolder { fleet, ..KeyFolder::at(path) }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the keys are those of a fleet: `fleet.yaml` lies beside the ledger, and `cairn up` makes what is missing.
    #[must_use]
    pub fn is_fleets(&self) -> bool {
        self.fleet
    }

    /// Whether there is a checkpoints' key: then there may be a ledger, though its folder shows none.
    ///
    /// # Errors
    /// [`KeysError::Disk`].
    pub fn has_ledger_key(&self) -> Result<bool, KeysError> {
        Ok(self.read(LEDGER_FILE)?.is_some())
    }

    /// Makes the keys that are missing, each durable before the next, and reads them. Only before there is a ledger.
    ///
    /// # Errors
    /// Any [`KeysError`].
    pub fn make(&self, random: &dyn Random) -> Result<LedgerKeys, KeysError> {
        self.make_folder()?;
        self.or_make(ROOT_FILE, || {
            let key = SigningKey::from_bytes(&draw(random)?);
            let hash = Digest::sha256(key.verifying_key().as_bytes()).to_string();
            let signer = NoteSigner::new(&format!("cairn-{}/root", &hash[..8]), key);
            Ok(signer.expect("invariant: such a name is a key name").to_text())
        })?;
        let name = self.name(&self.root()?)?;
        self.or_make(LEDGER_FILE, || {
            let signer = NoteSigner::new(&format!("{name}/1"), SigningKey::from_bytes(&draw(random)?));
            Ok(signer.expect("invariant: such a name is a key name").to_text())
        })?;
        self.or_make(RELEASE_FILE, || make_release(random))?;
        self.or_make(CONTROL_FILE, || Ok(format_seed(&draw(random)?)))?;
        self.load()
    }

    /// Reads the keys that a new ledger is made with: all of them must be there.
    ///
    /// # Errors
    /// [`KeysError::Missing`], [`KeysError::NotAKey`], [`KeysError::Disk`].
    pub fn load(&self) -> Result<LedgerKeys, KeysError> {
        let root = self.root()?;
        let name = self.name(&root)?;
        let release = p256::SecretKey::from_pkcs8_pem(self.text(RELEASE_FILE)?.trim())
            .ok()
            .and_then(|secret| secret.public_key().to_public_key_pem(LineEnding::LF).ok())
            .ok_or_else(|| self.bad(RELEASE_FILE, "expected a P-256 private key in PKCS#8 PEM"))?;
        let root = root.verifier().to_string();
        Ok(LedgerKeys { name, root, ledger: self.ledger()?, release, control: self.control()? })
    }

    /// The root key: authorises rotation. It may have been moved away.
    ///
    /// # Errors
    /// As [`KeyFolder::load`].
    pub fn root(&self) -> Result<NoteSigner, KeysError> {
        self.note_signer(ROOT_FILE)
    }

    /// The checkpoints' key, under the name that it has in its file.
    ///
    /// # Errors
    /// As [`KeyFolder::load`].
    pub fn ledger(&self) -> Result<NoteSigner, KeysError> {
        self.note_signer(LEDGER_FILE)
    }

    /// The control stream's key.
    ///
    /// # Errors
    /// As [`KeyFolder::load`].
    pub fn control(&self) -> Result<SigningKey, KeysError> {
        self.seed(CONTROL_FILE)
    }

    /// The key of a local producer; `None` where it has none yet.
    ///
    /// # Errors
    /// [`KeysError::NotAKey`], [`KeysError::Disk`].
    pub fn producer(&self, name: &NodeId) -> Result<Option<SigningKey>, KeysError> {
        match self.seed(&producer_file(name)) {
            Ok(key) => Ok(Some(key)),
            Err(KeysError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the key of a local producer, durable when this returns, or reads the one that is there.
    ///
    /// # Errors
    /// Any [`KeysError`].
    pub fn make_producer(&self, name: &NodeId, random: &dyn Random) -> Result<SigningKey, KeysError> {
        self.make_folder()?;
        let folder = self.path.join(LOCAL_FOLDER);
        self.disk.create_folder(LOCAL_FOLDER).map_err(DiskError::of("create folder", &folder))?;
        self.sync("")?;
        let file = producer_file(name);
        self.or_make(&file, || Ok(format_seed(&draw(random)?)))?;
        self.seed(&file)
    }

    /// Puts a new checkpoints' key in the place of the old, as one step.
    ///
    /// # Errors
    /// [`KeysError::Disk`].
    pub fn replace_ledger(&self, signer: &NoteSigner) -> Result<(), KeysError> {
        let text = format!("{}\n", signer.to_text());
        self.replace(LEDGER_FILE, &text)
    }

    fn make_folder(&self) -> Result<(), KeysError> {
        Ok(self.disk.make_root().map_err(DiskError::of("create folder", &self.path))?)
    }

    fn read(&self, file: &str) -> Result<Option<Vec<u8>>, KeysError> {
        match self.disk.read(file) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(DiskError::of("read", &self.path.join(file))(source).into()),
        }
    }

    fn replace(&self, file: &str, text: &str) -> Result<(), KeysError> {
        Ok(replace_on(&*self.disk, &self.path, file, text.as_bytes())?)
    }

    #[track_caller]
    fn sync(&self, folder: &str) -> Result<(), KeysError> {
        Ok(self.disk.sync_folder(folder).map_err(DiskError::of("sync folder", &self.path.join(folder)))?)
    }

    fn name(&self, root: &NoteSigner) -> Result<String, KeysError> {
        let name = root.verifier().name().strip_suffix("/root");
        name.map(str::to_owned).ok_or_else(|| self.bad(ROOT_FILE, "its name does not end in /root"))
    }

    fn note_signer(&self, file: &str) -> Result<NoteSigner, KeysError> {
        NoteSigner::from_text(self.text(file)?.trim()).map_err(|error| self.bad(file, &error.to_string()))
    }

    fn seed(&self, file: &str) -> Result<SigningKey, KeysError> {
        let refuse = || self.bad(file, "expected 64 hexadecimal digits");
        // A digest's text is the same 64 lower-case hexadecimal digits.
        let digits: Digest = self.text(file)?.trim().to_ascii_lowercase().parse().map_err(|_| refuse())?;
        Ok(SigningKey::from_bytes(digits.as_bytes()))
    }

    fn text(&self, file: &str) -> Result<String, KeysError> {
        let path = self.path.join(file);
        let bytes = self.read(file)?.ok_or(KeysError::Missing { path })?;
        String::from_utf8(bytes).map_err(|_| self.bad(file, "not a text"))
    }

    fn or_make(&self, file: &str, make: impl FnOnce() -> std::io::Result<String>) -> Result<(), KeysError> {
        if self.read(file)?.is_some() {
            // Whoever made it may have ended before its name was durable. A ledger is about to be signed with it.
            return self.sync(parent(file));
        }
        let mut text = make().map_err(KeysError::Random)?;
        if !text.ends_with('\n') {
            text.push('\n');
        }
        self.replace(file, &text)
    }

    fn bad(&self, file: &str, reason: &str) -> KeysError {
        KeysError::NotAKey { path: self.path.join(file), reason: reason.to_owned() }
    }
}

fn producer_file(name: &NodeId) -> String {
    format!("{LOCAL_FOLDER}/{name}.key")
}

fn format_seed(seed: &[u8; 32]) -> String {
    Digest::from(*seed).to_string()
}

fn make_release(random: &dyn Random) -> std::io::Result<String> {
    for _ in 0..DRAWS_MAX {
        let drawn = draw(random)?;
        if let Ok(secret) = p256::SecretKey::from_slice(&drawn) {
            let pem = secret.to_pkcs8_pem(LineEnding::LF).map_err(std::io::Error::other)?;
            return Ok(pem.to_string());
        }
    }
    Err(std::io::Error::other("it gave no P-256 secret"))
}

fn draw(random: &dyn Random) -> std::io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    random.fill(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::random::SystemRandom;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn keys_are_made_once_and_are_their_owners_only() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyFolder::of(&folder.path().join("ledger")).unwrap();
        assert_eq!(keys.path(), folder.path().canonicalize().unwrap().join("ledger.keys"));
        let made = keys.make(&SystemRandom).unwrap();
        assert_eq!(made.ledger.verifier().name(), format!("{}/1", made.name));
        assert!(made.root.starts_with(&format!("{}/root+", made.name)));
        assert!(made.release.starts_with("-----BEGIN PUBLIC KEY-----\n"));
        let again = keys.make(&SystemRandom).unwrap();
        assert_eq!(
            (&made.root, &made.release, made.control.to_bytes()),
            (&again.root, &again.release, again.control.to_bytes())
        );
        let name: NodeId = "ci".parse().unwrap();
        assert!(keys.producer(&name).unwrap().is_none());
        let producer = keys.make_producer(&name, &SystemRandom).unwrap();
        assert_eq!(keys.producer(&name).unwrap().unwrap().to_bytes(), producer.to_bytes());
        assert_eq!((mode(keys.path()), mode(&keys.path().join(LOCAL_FOLDER))), (0o700, 0o700));
        for file in [ROOT_FILE, LEDGER_FILE, RELEASE_FILE, CONTROL_FILE, "local/ci.key"] {
            assert_eq!(mode(&keys.path().join(file)), 0o600, "{file}");
        }
    }

    #[test]
    fn a_ledger_in_a_fleets_folder_uses_the_fleets_keys() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FLEET_FILE), "").unwrap();
        let keys = KeyFolder::of(&folder.path().join("ledger")).unwrap();
        assert_eq!((keys.path(), keys.is_fleets()), (&*folder.path().canonicalize().unwrap().join("keys"), true));
    }

    #[test]
    fn what_is_missing_or_broken_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyFolder::at(folder.path().join("keys"));
        assert!(matches!(keys.load(), Err(KeysError::Missing { path }) if path.ends_with(ROOT_FILE)));
        keys.make(&SystemRandom).unwrap();
        for file in [ROOT_FILE, LEDGER_FILE, RELEASE_FILE, CONTROL_FILE] {
            let path = keys.path().join(file);
            let good = std::fs::read(&path).unwrap();
            std::fs::write(&path, "nonsense").unwrap();
            assert!(matches!(keys.load(), Err(KeysError::NotAKey { path, .. }) if path.ends_with(file)), "{file}");
            std::fs::write(&path, good).unwrap();
        }
        keys.load().unwrap();
    }
}
