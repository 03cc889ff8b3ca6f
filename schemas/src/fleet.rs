//! `fleet.yaml`: whom a fleet trusts. It lies beside the ledger, outside the policy repo, so that no pull request can widen it.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::ids::NodeId;

/// The newest form of `fleet.yaml` and of the data folder that this version reads and writes.
pub const FLEET_VERSION: u32 = 1;

/// The file `fleet.yaml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// Form of this file and of the folder around it; a newer one is refused.
    pub version: u32,
    /// The ledger's name; the first volume's checkpoint origin is `<name>/1`.
    pub name: String,
    /// Public keys; the secrets lie in `keys/`.
    pub keys: FleetKeys,
    /// The control plane's id as a producer.
    pub control_node: NodeId,
    /// The token key in force: its file is `keys/token-<epoch>.key`.
    pub token_epoch: String,
    /// Who may sign policy commits.
    pub signers: SignersConfig,
    /// The witness policy, C2SP tlog-policy: whose cosignatures a checkpoint needs before a node believes a release. None: nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witnesses: Option<String>,
    /// The root key's word for that policy, a signed note (`ledger/FORMAT.md`, Endorsements). Not needed while `root.key` lies in `keys/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witnesses_endorsement: Option<String>,
    /// A file with the certificates, PEM, by which those of witnesses with `https://` URLs may be, beside the machine's own authorities; a
    /// relative path begins at the folder of this file. Who is believed is said by the keys in `witnesses`, not by this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witnesses_ca: Option<String>,
    /// How the ledger is kept.
    #[serde(default)]
    pub ledger: LedgerConfig,
    /// Who may send events from outside, of which source. Read when the control plane starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub intake: Vec<IntakeConfig>,
}

/// Somebody who sends events from outside: `POST /v1/intake/<source>` with a bearer token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct IntakeConfig {
    /// What records call it: 1 to 64 of a-z, 0-9 and `-`. Another name is another sender, whose events were never sent before.
    pub name: String,
    /// The one source of events that it may send: `k8s_audit`, `aws_cloudtrail`, `okta`, `github`, `json`, or one that the policy declares.
    pub source: String,
    /// SHA-256 of each bearer token that it may show, 64 hexadecimal digits: one, or while it is changed two.
    pub token_sha256: Vec<Digest>,
    /// Events a second that are taken in the long run. A batch counts as an event for each kilobyte if it has fewer.
    #[serde(default = "events_per_second")]
    pub events_per_second: u32,
}

/// Events a second that an intake takes where `fleet.yaml` does not say.
pub const INTAKE_EVENTS_PER_SECOND: u32 = 1_000;
/// Most senders.
pub const INTAKES_MAX: usize = 256;
/// Most tokens of one.
pub const INTAKE_TOKENS_MAX: usize = 4;
/// Longest name of one, bytes.
pub const INTAKE_NAME_LEN_MAX: usize = 64;

fn events_per_second() -> u32 {
    INTAKE_EVENTS_PER_SECOND
}

/// What is wrong with the senders in `fleet.yaml`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IntakeFault {
    /// More than [`INTAKES_MAX`].
    #[error("{count} intakes, more than {INTAKES_MAX}")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// Not a name.
    #[error("intake name {name:?}: expected 1 to {INTAKE_NAME_LEN_MAX} of a-z, 0-9 and `-`")]
    Name {
        /// The name.
        name: String,
    },
    /// Two of one name.
    #[error("two intakes are named {name:?}")]
    Repeated {
        /// The name.
        name: String,
    },
    /// What nobody can send.
    #[error("intake {name:?}: source {source_name:?} is not one of documents")]
    Source {
        /// The intake.
        name: String,
        /// The source.
        source_name: String,
    },
    /// No token, or too many.
    #[error("intake {name:?}: {count} tokens; expected 1 to {INTAKE_TOKENS_MAX}")]
    Tokens {
        /// The intake.
        name: String,
        /// How many.
        count: usize,
    },
    /// A token of two: nobody could say who sends.
    #[error("intake {name:?} has a token that {other:?} has too")]
    SharedToken {
        /// The intake.
        name: String,
        /// The other one.
        other: String,
    },
    /// No event at all.
    #[error("intake {name:?}: `events_per_second` is 0")]
    Rate {
        /// The intake.
        name: String,
    },
}

impl Fleet {
    /// Checks what the form of the file does not: the senders of events.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check_intake(&self) -> Result<(), IntakeFault> {
        let count = self.intake.len();
        if count > INTAKES_MAX {
            return Err(IntakeFault::TooMany { count });
        }
        for (number, intake) in self.intake.iter().enumerate() {
            let name = || intake.name.clone();
            let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            if !(1..=INTAKE_NAME_LEN_MAX).contains(&intake.name.len()) || !intake.name.bytes().all(is_name) {
                return Err(IntakeFault::Name { name: intake.name.chars().take(80).collect() });
            }
            let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if intake.source == "syscall" || intake.source.is_empty() || !intake.source.bytes().all(is_word) {
                return Err(IntakeFault::Source { name: name(), source_name: intake.source.clone() });
            }
            let count = intake.token_sha256.len();
            if !(1..=INTAKE_TOKENS_MAX).contains(&count) {
                return Err(IntakeFault::Tokens { name: name(), count });
            }
            if intake.events_per_second == 0 {
                return Err(IntakeFault::Rate { name: name() });
            }
            for other in &self.intake[..number] {
                if other.name == intake.name {
                    return Err(IntakeFault::Repeated { name: name() });
                }
                if other.token_sha256.iter().any(|token| intake.token_sha256.contains(token)) {
                    return Err(IntakeFault::SharedToken { name: name(), other: other.name.clone() });
                }
            }
        }
        Ok(())
    }
}

/// How a fleet's ledger is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LedgerConfig {
    /// Where it lies: `s3://bucket/prefix`, with `?retention=<days>d` under Object Lock. None: in `ledger/` beside this file. Server, region
    /// and credentials come from where every AWS tool looks. It cannot be changed while the fleet lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// When the current volume is closed and the next one opened.
    #[serde(default)]
    pub rotate_after: RotateAfter,
}

/// Days after which a volume is closed where `fleet.yaml` does not say.
pub const ROTATE_AFTER_DAYS: u64 = 365;

/// When a volume is closed: whichever comes first. Where the file has the field and names neither: never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RotateAfter {
    /// When its first record is so many days old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u64>,
    /// When it has so many records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
}

impl Default for RotateAfter {
    fn default() -> RotateAfter {
        RotateAfter { days: Some(ROTATE_AFTER_DAYS), records: None }
    }
}

/// The public keys of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FleetKeys {
    /// The offline root, as a vkey.
    pub root: String,
    /// The ledger's checkpoints, as a vkey.
    pub ledger: String,
    /// The releases: P-256, SPKI, PEM.
    pub release: String,
    /// The control plane's streams: Ed25519, standard base64 of 32 bytes.
    pub control: String,
}

/// Who may sign policy commits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum SignersConfig {
    /// Anybody: commits need no signature, and records say `none`. For `cairn up`.
    UnsignedAllowed,
    /// These lines, in the form of OpenSSH's `allowed_signers` file.
    AllowedSigners(Vec<String>),
}
