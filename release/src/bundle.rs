//! `statement.sigstore.json`: a Sigstore bundle v0.3 around a DSSE envelope with one ECDSA P-256 signature by a plain key.
//!
//! No certificate, no transparency-log entry: the ledger is this project's log. Written as canonical JSON (RFC 8785). Tools
//! that others wrote check it: `release/interop/` says which and how.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
#[cfg(feature = "sign")]
use cairn_schemas::canonical;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::key::ReleaseKey;
#[cfg(feature = "sign")]
use crate::key::ReleaseSigner;

/// The bundle's media type.
pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// The envelope's payload type.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// Largest bundle, in bytes.
pub const BUNDLE_LEN_MAX: usize = 16 * 1024 * 1024;

/// Why bytes are not a bundle, or its signature is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BundleError {
    /// More than [`BUNDLE_LEN_MAX`].
    #[error("the bundle is {len} bytes, more than {BUNDLE_LEN_MAX}")]
    TooLarge {
        /// Its length.
        len: usize,
    },
    /// Not JSON of the bundle's shape.
    #[error("not a Sigstore bundle: {reason}")]
    Malformed {
        /// What the reader said.
        reason: String,
    },
    /// Another media or payload type.
    #[error("the bundle's {field} is `{found}`, not `{expected}`")]
    Type {
        /// Which field.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
        /// What it is, escaped.
        found: String,
    },
    /// Not exactly one signature: Sigstore's rule.
    #[error("the bundle has {count} signatures, and must have one")]
    Signatures {
        /// How many.
        count: usize,
    },
    /// `keyid` and `hint` differ.
    #[error("the bundle names two keys: keyid `{keyid}`, hint `{hint}`")]
    TwoKeys {
        /// In the envelope, escaped.
        keyid: String,
        /// In the verification material, escaped.
        hint: String,
    },
    /// Signed by another key.
    #[error("the bundle is signed by key {found}, and the pinned release key is {expected}")]
    OtherKey {
        /// The pinned key's hint.
        expected: String,
        /// The bundle's, escaped.
        found: String,
    },
    /// The signature is not the key's over this payload.
    #[error("the signature on the statement is wrong")]
    WrongSignature,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BundleJson {
    media_type: String,
    verification_material: Material,
    dsse_envelope: Envelope,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Material {
    public_key: PublicKey,
    // Others may add their log's entries or a time stamp to a copy; nothing here relies on them.
    #[serde(default)]
    tlog_entries: Vec<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timestamp_verification_data: Option<serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicKey {
    hint: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeSignature {
    sig: String,
    keyid: String,
}

/// A bundle, taken apart; [`Bundle::verify`] gives the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    payload: Vec<u8>,
    signature: Vec<u8>,
    keyid: String,
}

impl Bundle {
    /// Reads a bundle; checks its form and no signature.
    ///
    /// # Errors
    /// [`BundleError`]: what is malformed.
    pub fn parse(bytes: &[u8]) -> Result<Bundle, BundleError> {
        if bytes.len() > BUNDLE_LEN_MAX {
            return Err(BundleError::TooLarge { len: bytes.len() });
        }
        let malformed = |reason: String| BundleError::Malformed { reason };
        let json: BundleJson = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        let (material, envelope) = (json.verification_material, json.dsse_envelope);
        check_type("mediaType", MEDIA_TYPE, &json.media_type)?;
        check_type("payloadType", PAYLOAD_TYPE, &envelope.payload_type)?;
        let count = envelope.signatures.len();
        let [signature] =
            <[EnvelopeSignature; 1]>::try_from(envelope.signatures).map_err(|_| BundleError::Signatures { count })?;
        let hint = material.public_key.hint;
        if signature.keyid != hint {
            let escaped = |text: &str| text.escape_debug().to_string();
            return Err(BundleError::TwoKeys { keyid: escaped(&signature.keyid), hint: escaped(&hint) });
        }
        let decode = |what: &str, text: &str| {
            STANDARD.decode(text).map_err(|error| malformed(format!("{what} is not base64: {error}")))
        };
        let (payload, sig) = (decode("payload", &envelope.payload)?, decode("sig", &signature.sig)?);
        Ok(Bundle { payload, signature: sig, keyid: hint })
    }

    /// The payload, once `key` is known to have signed it.
    ///
    /// # Errors
    /// [`BundleError::OtherKey`], [`BundleError::WrongSignature`].
    pub fn verify(&self, key: &ReleaseKey) -> Result<&[u8], BundleError> {
        if self.keyid != key.hint() {
            let found = self.keyid.escape_debug().to_string();
            return Err(BundleError::OtherKey { expected: key.hint(), found });
        }
        if !key.verifies(&pae(PAYLOAD_TYPE, &self.payload), &self.signature) {
            return Err(BundleError::WrongSignature);
        }
        Ok(&self.payload)
    }

    /// The payload as it stands, by whomever it was signed. For readers who show a release they cannot check, and for resuming
    /// one's own work after a crash.
    #[must_use]
    pub fn payload_unverified(&self) -> &[u8] {
        &self.payload
    }
}

/// Signs a statement's bytes and writes the bundle. The same statement and key give the same bytes.
#[cfg(feature = "sign")]
#[must_use]
pub fn sign(statement: &[u8], signer: &ReleaseSigner) -> Vec<u8> {
    let hint = signer.public().hint();
    let signature = STANDARD.encode(signer.sign(&pae(PAYLOAD_TYPE, statement)));
    let json = BundleJson {
        media_type: MEDIA_TYPE.to_owned(),
        verification_material: Material {
            public_key: PublicKey { hint: hint.clone() },
            tlog_entries: Vec::new(),
            timestamp_verification_data: None,
        },
        dsse_envelope: Envelope {
            payload: STANDARD.encode(statement),
            payload_type: PAYLOAD_TYPE.to_owned(),
            signatures: vec![EnvelopeSignature { sig: signature, keyid: hint }],
        },
    };
    let value = serde_json::to_value(json).expect("invariant: texts and lists become JSON");
    canonical::to_bytes(&value).expect("invariant: no numbers in a bundle")
}

/// DSSE's pre-authentication encoding: what is signed, so that a payload cannot be taken for one of another type.
#[must_use]
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

fn check_type(field: &'static str, expected: &'static str, found: &str) -> Result<(), BundleError> {
    if found == expected {
        return Ok(());
    }
    let found = found.chars().take(80).collect::<String>().escape_debug().to_string();
    Err(BundleError::Type { field, expected, found })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed() -> (Vec<u8>, ReleaseSigner) {
        let signer = ReleaseSigner::generate().unwrap();
        (sign(b"{\"a\":\"b\"}", &signer), signer)
    }

    /// The example of the DSSE specification (protocol.md).
    #[test]
    fn the_encoding_is_dsses() {
        assert_eq!(
            pae("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn a_signed_statement_is_read_back() {
        let (bytes, signer) = signed();
        assert_eq!(bytes, sign(b"{\"a\":\"b\"}", &signer), "deterministic");
        assert!(canonical::parse(&bytes).is_ok());
        let bundle = Bundle::parse(&bytes).unwrap();
        assert_eq!(bundle.verify(signer.public()).unwrap(), b"{\"a\":\"b\"}");
        let other = ReleaseSigner::generate().unwrap();
        assert!(matches!(bundle.verify(other.public()), Err(BundleError::OtherKey { .. })));
    }

    #[test]
    fn tampered_bundles_are_refused() {
        let (bytes, signer) = signed();
        let text = String::from_utf8(bytes).unwrap();
        let payload = STANDARD.encode(b"{\"a\":\"c\"}");
        let changed = text.replace(&STANDARD.encode(b"{\"a\":\"b\"}"), &payload);
        let bundle = Bundle::parse(changed.as_bytes()).unwrap();
        assert_eq!(bundle.verify(signer.public()), Err(BundleError::WrongSignature));

        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let refuse = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut value = value.clone();
            change(&mut value);
            Bundle::parse(value.to_string().as_bytes()).unwrap_err()
        };
        let envelope = |value: &mut serde_json::Value| value["dsseEnvelope"].take();
        assert!(matches!(refuse(&|value| drop(envelope(value))), BundleError::Malformed { .. }));
        assert!(matches!(refuse(&|value| value["mediaType"] = "x".into()), BundleError::Type { .. }));
        assert!(matches!(refuse(&|value| value["dsseEnvelope"]["payloadType"] = "x".into()), BundleError::Type { .. }));
        assert!(matches!(refuse(&|value| value["extra"] = "x".into()), BundleError::Malformed { .. }));
        let twice = refuse(&|value| {
            let signature = value["dsseEnvelope"]["signatures"][0].clone();
            value["dsseEnvelope"]["signatures"] = vec![signature.clone(), signature].into();
        });
        assert_eq!(twice, BundleError::Signatures { count: 2 });
        let two_keys = refuse(&|value| value["verificationMaterial"]["publicKey"]["hint"] = "x".into());
        assert!(matches!(two_keys, BundleError::TwoKeys { .. }));
    }

    #[test]
    fn the_largest_bundle_and_one_byte_more() {
        let (mut bytes, _) = signed();
        bytes.resize(BUNDLE_LEN_MAX, b' ');
        assert!(Bundle::parse(&bytes).is_ok());
        bytes.push(b' ');
        assert_eq!(Bundle::parse(&bytes), Err(BundleError::TooLarge { len: BUNDLE_LEN_MAX + 1 }));
    }
}
