//! `fleet.yaml`: whom a fleet trusts. It lies beside the ledger, outside the policy repo, so that no pull request can widen it.

use serde::{Deserialize, Serialize};

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
