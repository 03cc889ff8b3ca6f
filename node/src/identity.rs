//! Who this node is: its key, its id, its credential, and what it pinned when it joined.
//!
//! Two files in the node's folder, written in this order, each durable before the next step, so that a crash anywhere is
//! repaired by calling [`join`] again with the same token:
//! 1. `node.key`, the stream key: made first, so that a repeated join shows the same public key;
//! 2. `POST /v1/nodes/join`: the control plane answers a repeat of the same token with the same key as it did the first time;
//! 3. `identity.json`: everything it answered. Once it exists the token is not looked at any more.
//!
//! What the control plane sends is believed only if the digest of its pins is the one that the token carries: whoever handed
//! over the token decides whom this node trusts.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cairn_ledger::witness::tls::Authorities;
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::NodeId;
use cairn_schemas::token::TokenKey;
use cairn_schemas::types::NodeKind;
use cairn_schemas::wire::{JoinRequest, JoinToken, PROTOCOL, Pins};
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use crate::client::{Client, ClientError};
use crate::durable::{self, DiskError};
use crate::random::Random;

/// The newest form of `identity.json` that this version reads and writes.
pub const IDENTITY_VERSION: u32 = 1;

const KEY_FILE: &str = "node.key";
const IDENTITY_FILE: &str = "identity.json";

/// Why a node has no identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A file could not be read or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// `node.key` is not a key.
    #[error("{} is not a node key: expected 64 hexadecimal digits and a line feed", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// `identity.json` cannot be read.
    #[error("{} is not an identity: {reason}", path.display())]
    NotAnIdentity {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// `identity.json` was written by a newer version.
    #[error("{} has version {found}; this program reads up to {IDENTITY_VERSION}", path.display())]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// There is no randomness.
    #[error("the system gives no random bytes: {0}")]
    Random(#[source] io::Error),
    /// The control plane did not take the node.
    #[error("the join failed: {0}")]
    Refused(#[from] ClientError),
    /// The pins are not the ones that the token names.
    #[error(
        "the control plane's pins have the digest {actual}, the token says {expected}: it is not the one the token was made for"
    )]
    OtherPins {
        /// What the token carries.
        expected: Digest,
        /// What was sent.
        actual: Digest,
    },
    /// The token key in the pins is not 32 bytes of base64.
    #[error("the token key that the control plane sent is not 32 bytes of base64")]
    NotATokenKey,
}

/// A node's identity. `Debug` shows no secret.
#[derive(Clone)]
pub struct Identity {
    node: NodeId,
    kind: NodeKind,
    labels: BTreeMap<String, String>,
    credential: String,
    pins: Pins,
    token_key: TokenKey,
    key: SigningKey,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({}, {})", self.node, self.kind.as_str())
    }
}

/// `identity.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    version: u32,
    node: NodeId,
    kind: NodeKind,
    labels: BTreeMap<String, String>,
    credential: String,
    pins: Pins,
}

impl Identity {
    /// Reads the identity in a node's folder; `None` if it has not joined.
    ///
    /// # Errors
    /// A file is there and cannot be used.
    pub fn load(folder: &Path) -> Result<Option<Identity>, IdentityError> {
        let path = folder.join(IDENTITY_FILE);
        let Some(bytes) = durable::read_optional(&path)? else { return Ok(None) };
        let refuse = |reason: String| IdentityError::NotAnIdentity { path: path.clone(), reason };
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string()))?;
        if let Some(found) = value.get("version").and_then(serde_json::Value::as_u64)
            && found > u64::from(IDENTITY_VERSION)
        {
            return Err(IdentityError::NewerVersion { path, found: u32::try_from(found).unwrap_or(u32::MAX) });
        }
        let file: IdentityFile = serde_json::from_value(value).map_err(|error| refuse(error.to_string()))?;
        let key = load_key(folder)?.ok_or_else(|| refuse(format!("{KEY_FILE} beside it is missing")))?;
        Ok(Some(Identity::assemble(file, key)?))
    }

    /// The node's id.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> NodeKind {
        self.kind
    }

    /// The labels it joined with.
    #[must_use]
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// What it pinned.
    #[must_use]
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The key for personal values.
    #[must_use]
    pub fn token_key(&self) -> &TokenKey {
        &self.token_key
    }

    /// The stream key's public half: standard base64 of 32 bytes, as records carry it.
    #[must_use]
    pub fn public_key(&self) -> String {
        STANDARD.encode(self.key.verifying_key().as_bytes())
    }

    /// The stream key.
    #[must_use]
    pub fn signing_key(&self) -> &SigningKey {
        &self.key
    }

    /// A client that shows this node's credential, and takes certificates by these authorities beside the machine's.
    #[must_use]
    pub fn client(&self, url: &str, authorities: &Authorities) -> Client {
        Client::trusting(url, authorities).with_credential(&self.credential)
    }

    fn assemble(file: IdentityFile, key: SigningKey) -> Result<Identity, IdentityError> {
        let token_bytes = STANDARD.decode(&file.pins.token_key).map_err(|_| IdentityError::NotATokenKey)?;
        let token_key = TokenKey {
            epoch: file.pins.token_epoch.clone(),
            key: token_bytes.try_into().map_err(|_| IdentityError::NotATokenKey)?,
        };
        let IdentityFile { node, kind, labels, credential, pins, .. } = file;
        Ok(Identity { node, kind, labels, credential, pins, token_key, key })
    }
}

/// Joins the fleet of the control plane at `url`, or finds that this folder's node has joined already.
///
/// # Errors
/// The folder cannot be used, the control plane refuses, or it is not the one that the token was made for. Safe to repeat.
pub fn join(
    folder: &Path,
    url: &str,
    token: &JoinToken,
    kind: NodeKind,
    labels: &BTreeMap<String, String>,
    random: &dyn Random,
) -> Result<Identity, IdentityError> {
    durable::create_folder(folder)?;
    if let Some(identity) = Identity::load(folder)? {
        return Ok(identity);
    }
    let key = match load_key(folder)? {
        Some(key) => key,
        None => make_key(folder, random)?,
    };
    let request = JoinRequest {
        token: token.to_string(),
        kind,
        key: STANDARD.encode(key.verifying_key().as_bytes()),
        labels: labels.clone(),
        protocol: PROTOCOL.to_owned(),
    };
    let answer = Client::new(url).join(&request)?;
    let actual = answer.pins.digest();
    if actual != token.pins {
        return Err(IdentityError::OtherPins { expected: token.pins, actual });
    }
    let file = IdentityFile {
        version: IDENTITY_VERSION,
        node: answer.node,
        kind,
        labels: labels.clone(),
        credential: answer.credential,
        pins: answer.pins,
    };
    let mut bytes = serde_json::to_vec_pretty(&file).expect("invariant: identities have text keys");
    bytes.push(b'\n');
    // Checked before it is kept: an identity that could not be loaded again would lock the node out.
    let identity = Identity::assemble(file, key)?;
    durable::replace(&folder.join(IDENTITY_FILE), &bytes)?;
    Ok(identity)
}

fn load_key(folder: &Path) -> Result<Option<SigningKey>, IdentityError> {
    let path = folder.join(KEY_FILE);
    let Some(text) = durable::read_optional(&path)? else { return Ok(None) };
    let mut seed = [0u8; 32];
    let digits = text.strip_suffix(b"\n").unwrap_or(&text);
    hex::decode_to_slice(digits, &mut seed).map_err(|_| IdentityError::NotAKey { path })?;
    Ok(Some(SigningKey::from_bytes(&seed)))
}

fn make_key(folder: &Path, random: &dyn Random) -> Result<SigningKey, IdentityError> {
    let mut seed = [0u8; 32];
    random.fill(&mut seed).map_err(IdentityError::Random)?;
    durable::replace(&folder.join(KEY_FILE), format!("{}\n", hex::encode(seed)).as_bytes())?;
    Ok(SigningKey::from_bytes(&seed))
}

#[cfg(test)]
mod tests;
