//! Who may join, and who has: one-time join tokens and nodes' bearer credentials, on disk as hashes only.
//!
//! In the key folder (0700):
//! - `joins/<SHA-256 of the token's secret>.json`: what kind of node the token admits, and whom it admitted.
//! - `nodes/<node id>.json`: SHA-256 of the node's credential.
//! - `credentials.key`: 32 random bytes, from which credentials are computed together with the token's secret. Neither this key nor
//!   the files above suffice to make one.
//!
//! A join is idempotent: the same token with the same public key gets the same answer, so that a node that crashed before it
//! kept the answer asks again. The same token with another key is refused: it was used.
//!
//! Order within a join, each step durable before the next: the token's file names the node → the node's credential file → (by the
//! caller) `node.joined` in the ledger → the answer. A crash anywhere is repaired by the node asking again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::NodeId;
use cairn_schemas::types::NodeKind;
use cairn_schemas::wire::{JoinRequest, JoinToken, NotAJoinToken, PROTOCOL, Pins};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use crate::durable::{self, DiskError, Readers};

/// Most labels a node may have.
pub const LABELS_MAX: usize = 32;
/// Longest name or value of a label, bytes.
pub const LABEL_LEN_MAX: usize = 128;

/// Why nobody joined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Not a token at all.
    #[error(transparent)]
    NotAToken(#[from] NotAJoinToken),
    /// No such token was made here.
    #[error("this join token is not known here")]
    Unknown,
    /// It admitted another key before.
    #[error("this join token was used before, by {node} with another key")]
    Used {
        /// Whom it admitted.
        node: NodeId,
    },
    /// It admits another kind of node.
    #[error("this join token admits a {expected} node, not {actual}")]
    WrongKind {
        /// The kind it admits.
        expected: &'static str,
        /// The kind that asked.
        actual: &'static str,
    },
    /// Not an Ed25519 public key.
    #[error("the node's key is not an Ed25519 public key: expected standard base64 of 32 bytes")]
    NotAKey,
    /// The labels are too many or too long.
    #[error("a node has at most {LABELS_MAX} labels of at most {LABEL_LEN_MAX} bytes; found {what}")]
    Labels {
        /// What is too large.
        what: String,
    },
    /// A protocol that this version does not speak.
    #[error("the node speaks protocol {found:?}; this control plane speaks {PROTOCOL}")]
    Protocol {
        /// What it said, cut at 20 characters.
        found: String,
    },
    /// The registry could not be read or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A file of the registry is not what this program wrote.
    #[error("{} is not readable: {source}; restore it from a backup", path.display())]
    NotReadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// `joins/<hash>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFile {
    kind: NodeKind,
    used: Option<Used>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Used {
    node: NodeId,
    key: String,
}

/// `nodes/<node>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialFile {
    credential: Digest,
}

/// A node that may go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Its id.
    pub node: NodeId,
    /// Its credential.
    pub credential: String,
}

/// The registry. One per control plane; calls block for a few writes.
pub struct Joins {
    folder: PathBuf,
    secret: [u8; 32],
    pins: Pins,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    tokens: BTreeMap<Digest, TokenFile>,
    credentials: BTreeMap<NodeId, Digest>,
}

impl std::fmt::Debug for Joins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Joins({})", self.folder.display())
    }
}

impl Joins {
    /// Reads the registry in the key folder. `secret` is the content of `credentials.key`; `pins` is what each node that joins gets.
    ///
    /// # Errors
    /// A file is there and cannot be read.
    pub fn open(keys: &Path, secret: [u8; 32], pins: Pins) -> Result<Joins, JoinError> {
        let mut known = Known::default();
        for (digest, path) in files(&keys.join("joins"))? {
            if let Ok(digest) = digest.parse() {
                known.tokens.insert(digest, read(&path)?);
            }
        }
        for (node, path) in files(&keys.join("nodes"))? {
            if let Ok(node) = node.parse() {
                known.credentials.insert(node, read::<CredentialFile>(&path)?.credential);
            }
        }
        Ok(Joins { folder: keys.to_owned(), secret, pins, known: Mutex::new(known) })
    }

    /// What a node that joins pins.
    #[must_use]
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// Makes a one-time token for a node of this kind. `secret` is 32 random bytes.
    ///
    /// # Errors
    /// The registry could not be written.
    pub fn make_token(&self, kind: NodeKind, secret: [u8; 32]) -> Result<JoinToken, JoinError> {
        let token = JoinToken { secret: hex::encode(secret), pins: self.pins.digest() };
        let mut known = self.lock();
        let file = TokenFile { kind, used: None };
        self.write_token(&mut known, Digest::sha256(&secret), file)?;
        Ok(token)
    }

    /// Whether this token was made here.
    #[must_use]
    pub fn is_known(&self, token: &JoinToken) -> bool {
        self.find(token).is_some()
    }

    /// Whether this token admitted a node.
    #[must_use]
    pub fn was_used(&self, token: &JoinToken) -> bool {
        self.find(token).is_some_and(|file| file.used.is_some())
    }

    fn find(&self, token: &JoinToken) -> Option<TokenFile> {
        let mut secret = [0u8; 32];
        hex::decode_to_slice(&token.secret, &mut secret).ok()?;
        self.lock().token(Digest::sha256(&secret))
    }

    /// Admits a node, or finds that it was admitted before.
    ///
    /// # Errors
    /// Any [`JoinError`]; nothing changes then but for [`JoinError::Disk`], after which asking again is safe.
    pub fn admit(&self, request: &JoinRequest) -> Result<Admitted, JoinError> {
        check_protocol(&request.protocol)?;
        check_labels(&request.labels)?;
        let key = STANDARD.decode(&request.key).map_err(|_| JoinError::NotAKey)?;
        let key: [u8; 32] = key.try_into().map_err(|_| JoinError::NotAKey)?;
        ed25519_dalek::VerifyingKey::from_bytes(&key).map_err(|_| JoinError::NotAKey)?;
        let token: JoinToken = request.token.parse()?;
        let mut secret = [0u8; 32];
        hex::decode_to_slice(&token.secret, &mut secret).map_err(|_| NotAJoinToken)?;
        let hash = Digest::sha256(&secret);

        let mut known = self.lock();
        let file = known.token(hash).ok_or(JoinError::Unknown)?;
        if file.kind != request.kind {
            return Err(JoinError::WrongKind { expected: file.kind.as_str(), actual: request.kind.as_str() });
        }
        let node = match file.used {
            Some(used) if used.key == request.key => used.node,
            Some(used) => return Err(JoinError::Used { node: used.node }),
            None => {
                let node = known.new_id(request.kind, &key);
                let used = Some(Used { node: node.clone(), key: request.key.clone() });
                self.write_token(&mut known, hash, TokenFile { kind: file.kind, used })?;
                node
            }
        };
        let credential = self.credential(&node, &secret, &key);
        let digest = Digest::sha256(credential.as_bytes());
        if known.credentials.get(&node) != Some(&digest) {
            let path = self.folder.join("nodes").join(format!("{node}.json"));
            put(&path, &CredentialFile { credential: digest })?;
            known.credentials.insert(node.clone(), digest);
        }
        Ok(Admitted { node, credential })
    }

    /// Whose credential this is.
    #[must_use]
    pub fn authenticate(&self, credential: &str) -> Option<NodeId> {
        let (node, _) = credential.strip_prefix("cairn-node.")?.split_once('.')?;
        let node: NodeId = node.parse().ok()?;
        let digest = Digest::sha256(credential.as_bytes());
        let known = self.lock();
        let expected = known.credentials.get(&node)?;
        bool::from(expected.as_bytes().ct_eq(digest.as_bytes())).then_some(node)
    }

    /// `cairn-node.<node>.<64 hexadecimal digits>`. Hashed inputs have fixed lengths, so that none can run into another.
    fn credential(&self, node: &NodeId, token_secret: &[u8; 32], key: &[u8; 32]) -> String {
        let input = [b"cairn node credential v1", &self.secret[..], token_secret, key].concat();
        format!("cairn-node.{node}.{}", Digest::sha256(&input))
    }

    fn write_token(&self, known: &mut Known, hash: Digest, file: TokenFile) -> Result<(), JoinError> {
        put(&self.folder.join("joins").join(format!("{hash}.json")), &file)?;
        known.tokens.insert(hash, file);
        Ok(())
    }

    /// A panic while the lock was held cannot have left half a change: memory is changed last, by one insert.
    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Known {
    /// Every entry is compared, each in constant time: how long it takes tells nothing about how much of a guess was right.
    fn token(&self, hash: Digest) -> Option<TokenFile> {
        let mut found = None;
        for (candidate, file) in &self.tokens {
            if bool::from(candidate.as_bytes().ct_eq(hash.as_bytes())) {
                found = Some(file.clone());
            }
        }
        found
    }

    /// The kind and the first digits of the key's hash; more digits where another node has those.
    fn new_id(&self, kind: NodeKind, key: &[u8; 32]) -> NodeId {
        let hash = Digest::sha256(key).to_string();
        let taken = |id: &NodeId| {
            self.credentials.contains_key(id)
                || self.tokens.values().any(|file| file.used.as_ref().is_some_and(|used| used.node == *id))
        };
        [8, 16, 32]
            .into_iter()
            .map(|digits| format!("{}-{}", kind.as_str(), &hash[..digits]))
            .map(|id| id.parse().expect("invariant: a kind, a dash and hexadecimal digits are a node id"))
            .find(|id| !taken(id))
            .expect("invariant: 128 bits of SHA-256 do not collide")
    }
}

fn check_protocol(found: &str) -> Result<(), JoinError> {
    let refuse = || JoinError::Protocol { found: found.chars().take(20).collect() };
    let parse = |text: &str| {
        let (major, minor) = text.split_once('.')?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    };
    let (major, minor) = parse(found).ok_or_else(refuse)?;
    let (our_major, our_minor) = parse(PROTOCOL).expect("invariant: our own protocol is <major>.<minor>");
    if major == our_major && minor <= our_minor && our_minor - minor <= 1 { Ok(()) } else { Err(refuse()) }
}

fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), JoinError> {
    if labels.len() > LABELS_MAX {
        return Err(JoinError::Labels { what: format!("{} labels", labels.len()) });
    }
    match labels.iter().flat_map(|(name, value)| [name, value]).map(String::len).max() {
        Some(len) if len > LABEL_LEN_MAX => Err(JoinError::Labels { what: format!("one of {len} bytes") }),
        _ => Ok(()),
    }
}

/// The `.json` files of a folder, by the name before that.
fn files(folder: &Path) -> Result<Vec<(String, PathBuf)>, DiskError> {
    let names = durable::names(folder)?;
    Ok(names.iter().filter_map(|name| Some((name.strip_suffix(".json")?.to_owned(), folder.join(name)))).collect())
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, JoinError> {
    let bytes = std::fs::read(path).map_err(DiskError::of("read", path))?;
    serde_json::from_slice(&bytes).map_err(|source| JoinError::NotReadable { path: path.to_owned(), source })
}

fn put<T: Serialize>(path: &Path, value: &T) -> Result<(), JoinError> {
    if let Some(folder) = path.parent() {
        durable::create_folder(folder, Readers::Owner)?;
    }
    let mut bytes = serde_json::to_vec(value).expect("invariant: registry files have text keys");
    bytes.push(b'\n');
    Ok(durable::write(path, &bytes, Readers::Owner)?)
}

#[cfg(test)]
pub(crate) mod tests;
