//! The key folder (0700): one secret per file (0600).
//!
//! | file | what |
//! |---|---|
//! | `root.key` | Ed25519, the private key text of the Go note tools, named `<ledger>/root`. Needed for rotation only: move it off the machine |
//! | `ledger.key` | the same form, named `<ledger>/1`: signs checkpoints |
//! | `release.key` | P-256, PKCS#8 PEM: signs releases |
//! | `control.key` | Ed25519 seed, hexadecimal: signs the control plane's stream heads |
//! | `token-<epoch>.key` | 32 bytes, hexadecimal: tokens in place of personal values |
//! | `credentials.key` | 32 bytes, hexadecimal: see [`crate::joins`] |
//!
//! Made in this order. The ledger's name comes from the root key, so that a crash between two files changes nothing.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cairn_ledger::note::{NoteSigner, VerifierKey};
use cairn_release::key::ReleaseSigner;
use cairn_schemas::digest::Digest;
use cairn_schemas::fleet::{FLEET_VERSION, Fleet, FleetKeys, LedgerConfig, SignersConfig};
use cairn_schemas::token::TokenKey;
use ed25519_dalek::SigningKey;

use super::SetupError;
use crate::durable::{self, DiskError, Readers};
use crate::random::{Random, draw};

/// The root's file.
pub(super) const ROOT_FILE: &str = "root.key";
const LEDGER_FILE: &str = "ledger.key";
const RELEASE_FILE: &str = "release.key";
const CONTROL_FILE: &str = "control.key";
const CREDENTIALS_FILE: &str = "credentials.key";
/// The first token epoch.
const FIRST_EPOCH: &str = "e1";
/// The control plane's id as a producer.
const CONTROL_NODE: &str = "control";

/// The secrets that daily work needs. `Debug` shows none.
pub struct Keys {
    /// Signs checkpoints.
    pub ledger: NoteSigner,
    /// Signs releases.
    pub release: ReleaseSigner,
    /// Signs the control plane's heads.
    pub control: SigningKey,
    /// Makes tokens of personal values.
    pub token: TokenKey,
    /// Makes nodes' credentials.
    pub credentials: [u8; 32],
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({:?}, secret)", self.ledger)
    }
}

/// Makes what is missing, and says what the fleet's public half is. Only before there is a `fleet.yaml`.
pub(super) fn make(folder: &Path, signers: SignersConfig, random: &dyn Random) -> Result<(bool, Fleet), SetupError> {
    durable::create_folder(folder, Readers::Owner)?;
    let mut made = false;
    let root = or_make(&folder.join(ROOT_FILE), &mut made, || {
        let key = SigningKey::from_bytes(&draw(random)?);
        let hash = Digest::sha256(key.verifying_key().as_bytes()).to_string();
        let signer = NoteSigner::new(&format!("cairn-{}/root", &hash[..8]), key);
        Ok(signer.expect("invariant: such a name is a key name").to_text())
    })?;
    let root_path = folder.join(ROOT_FILE);
    let root = NoteSigner::from_text(root.trim()).map_err(|error| bad(&root_path, &error))?;
    let name = root
        .verifier()
        .name()
        .strip_suffix("/root")
        .ok_or_else(|| bad(&root_path, &"its name does not end in /root"))?;
    let epoch = FIRST_EPOCH;
    or_make(&folder.join(LEDGER_FILE), &mut made, || {
        let signer = NoteSigner::new(&format!("{name}/1"), SigningKey::from_bytes(&draw(random)?));
        Ok(signer.expect("invariant: such a name is a key name").to_text())
    })?;
    or_make(&folder.join(RELEASE_FILE), &mut made, || {
        let signer = ReleaseSigner::generate().map_err(std::io::Error::other)?;
        Ok(signer.to_pem().to_string())
    })?;
    for file in [CONTROL_FILE.to_owned(), token_file(epoch), CREDENTIALS_FILE.to_owned()] {
        or_make(&folder.join(file), &mut made, || Ok(hex::encode(draw::<32>(random)?)))?;
    }
    let keys = read_all(folder, epoch)?;
    let fleet = Fleet {
        version: FLEET_VERSION,
        name: name.to_owned(),
        keys: FleetKeys {
            root: root.verifier().to_string(),
            ledger: keys.ledger.verifier().to_string(),
            release: keys.release.public().to_pem(),
            control: public(&keys.control),
        },
        control_node: CONTROL_NODE.parse().expect("invariant: a good node id"),
        token_epoch: epoch.to_owned(),
        signers,
        witnesses: None,
        witnesses_endorsement: None,
        witnesses_ca: None,
        ledger: LedgerConfig::default(),
        intake: Vec::new(),
    };
    Ok((made, fleet))
}

/// Reads the keys that `fleet` names, and checks that they are those. The root key need not be there.
pub(super) fn load(folder: &Path, fleet: &Fleet) -> Result<Keys, SetupError> {
    let keys = read_all(folder, &fleet.token_epoch)?;
    for (file, ours, theirs) in [
        (LEDGER_FILE, keys.ledger.verifier().to_string(), &fleet.keys.ledger),
        (RELEASE_FILE, keys.release.public().to_pem(), &fleet.keys.release),
        (CONTROL_FILE, public(&keys.control), &fleet.keys.control),
    ] {
        if ours.trim() != theirs.trim() && !(file == LEDGER_FILE && was_replaced(folder, theirs)) {
            return Err(SetupError::OtherKey { path: folder.join(file) });
        }
    }
    Ok(keys)
}

/// Whether this ledger key is one that another took the place of: it is kept, and `fleet.yaml` still names it.
pub(super) fn was_replaced(folder: &Path, vkey: &str) -> bool {
    let old = vkey.trim().parse::<VerifierKey>().ok();
    old.is_some_and(|old| folder.join(format!("ledger-{:08x}.key", old.id())).exists())
}

fn read_all(folder: &Path, epoch: &str) -> Result<Keys, SetupError> {
    let text = |file: &str| read(&folder.join(file));
    let ledger = folder.join(LEDGER_FILE);
    let release = folder.join(RELEASE_FILE);
    Ok(Keys {
        ledger: NoteSigner::from_text(text(LEDGER_FILE)?.trim()).map_err(|error| bad(&ledger, &error))?,
        release: ReleaseSigner::from_pem(&text(RELEASE_FILE)?).map_err(|error| bad(&release, &error))?,
        control: SigningKey::from_bytes(&seed(&folder.join(CONTROL_FILE))?),
        token: TokenKey { epoch: epoch.to_owned(), key: seed(&folder.join(token_file(epoch)))? },
        credentials: seed(&folder.join(CREDENTIALS_FILE))?,
    })
}

fn token_file(epoch: &str) -> String {
    format!("token-{epoch}.key")
}

/// Standard base64 of an Ed25519 public key, as records and `fleet.yaml` carry it.
fn public(key: &SigningKey) -> String {
    STANDARD.encode(key.verifying_key().as_bytes())
}

fn or_make(
    path: &Path,
    made: &mut bool,
    make: impl FnOnce() -> Result<String, std::io::Error>,
) -> Result<String, SetupError> {
    if let Some(bytes) = durable::read_optional(path)? {
        return String::from_utf8(bytes).map_err(|_| bad(path, &"not a text"));
    }
    let mut text = make().map_err(SetupError::Random)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    durable::write(path, text.as_bytes(), Readers::Owner)?;
    *made = true;
    Ok(text)
}

fn read(path: &Path) -> Result<String, SetupError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(SetupError::KeyMissing { path: path.to_owned() })
        }
        Err(error) => Err(DiskError::of("read", path)(error).into()),
    }
}

fn seed(path: &Path) -> Result<[u8; 32], SetupError> {
    let mut seed = [0; 32];
    let text = read(path)?;
    hex::decode_to_slice(text.trim(), &mut seed).map_err(|_| bad(path, &"expected 64 hexadecimal digits"))?;
    Ok(seed)
}

fn bad(path: &Path, reason: &dyn std::fmt::Display) -> SetupError {
    SetupError::NotAKey { path: PathBuf::from(path), reason: reason.to_string() }
}
