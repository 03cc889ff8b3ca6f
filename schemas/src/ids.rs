//! Names and numbers that must not be mixed up, each a type of its own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::{Digest, is_lower_hex};

/// Longest node id, in bytes.
pub const NODE_ID_LEN_MAX: usize = 64;
/// Longest ring name, in bytes.
pub const RING_NAME_LEN_MAX: usize = 64;
/// Largest integer that a record may carry as a JSON number: 2^53 − 1 (RFC 8785 turns numbers into doubles).
pub const INTEGER_MAX: u64 = (1 << 53) - 1;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {what}: expected {expected}")]
pub struct NotAnId {
    /// The kind of id that was wanted.
    pub what: &'static str,
    /// The text, cut at 80 characters.
    pub text: String,
    /// What a good one looks like.
    pub expected: &'static str,
}

impl NotAnId {
    fn new(what: &'static str, text: &str, expected: &'static str) -> NotAnId {
        NotAnId { what, text: text.chars().take(80).collect(), expected }
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;

            fn from_str(text: &str) -> Result<$name, Self::Err> {
                text.parse().map($name)
            }
        }
    };
}

number!(
    /// A record's place in its volume, from 0.
    RecordIndex
);
number!(
    /// How many records a tree holds.
    TreeSize
);
number!(
    /// A release's number: given at build, rises by one, from 1.
    Serial
);

impl RecordIndex {
    /// The smallest tree that holds this record.
    #[must_use]
    pub const fn size_with(self) -> TreeSize {
        TreeSize(self.0 + 1)
    }
}

/// A record's number in its stream, from 0. In JSON always a string of 20 decimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The number after this one. A stream ends before it could overflow: 2^64 records do not happen.
    #[must_use]
    pub const fn next(self) -> Sequence {
        Sequence(self.0 + 1)
    }

    /// 20 decimal digits, so that text order is number order.
    #[must_use]
    pub fn padded(self) -> String {
        format!("{:020}", self.0)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Sequence {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Sequence, NotAnId> {
        let refuse = || NotAnId::new("sequence", text, "20 decimal digits");
        if text.len() != 20 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refuse());
        }
        text.parse().map(Sequence).map_err(|_| refuse())
    }
}

impl Serialize for Sequence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.padded())
    }
}

macro_rules! from_text {
    ($name:ident, $pattern:literal) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                crate::text::from_text(deserializer)
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "pattern": $pattern})
            }
        }
    };
}

from_text!(Sequence, "^[0-9]{20}$");

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $expected:literal, $pattern:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<$name, NotAnId> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok($name(text.to_owned())) } else { Err(NotAnId::new($what, text, $expected)) }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        from_text!($name, $pattern);
    };
}

fn is_label(text: &str, len_max: usize) -> bool {
    !text.is_empty()
        && text.len() <= len_max
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

name!(
    /// A node's id, given by the control plane when the node joins.
    NodeId,
    "node id",
    "1 to 64 of a-z, 0-9 and -, not at an end",
    "^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$",
    |text| is_label(text, NODE_ID_LEN_MAX)
);
name!(
    /// A ring's name in `cairn.yaml`.
    RingName,
    "ring name",
    "1 to 64 of a-z, 0-9 and -, not at an end",
    "^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$",
    |text| is_label(text, RING_NAME_LEN_MAX)
);
name!(
    /// A Git commit id: 40 (SHA-1) or 64 (SHA-256) lower-case hexadecimal digits.
    CommitId,
    "commit id",
    "40 or 64 lower-case hexadecimal digits",
    "^([0-9a-f]{40}|[0-9a-f]{64})$",
    |text| (text.len() == 40 || text.len() == 64)
        && is_lower_hex(text)
);
name!(
    /// One producer's numbered records: `<node id>.<32 hexadecimal digits>`, or `ledger` for the ledger's own.
    StreamId,
    "stream id",
    "`ledger`, or a node id, a dot and 32 lower-case hexadecimal digits",
    "^(ledger|[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?\\.[0-9a-f]{32})$",
    |text| text == "ledger"
        || text.split_once('.').is_some_and(|(node, random)| {
            is_label(node, NODE_ID_LEN_MAX)
                && random.len() == 32
                && is_lower_hex(random)
        })
);

impl StreamId {
    /// The ledger's own stream.
    #[must_use]
    pub fn ledger() -> StreamId {
        StreamId("ledger".to_owned())
    }

    /// A new stream of `node`; `random` comes from the system's generator and is drawn when the spool is made.
    #[must_use]
    pub fn new(node: &NodeId, random: [u8; 16]) -> StreamId {
        StreamId(format!("{node}.{}", base16ct::lower::encode_string(&random)))
    }

    /// Whose stream this is; `None` for the ledger's own.
    #[must_use]
    pub fn node(&self) -> Option<NodeId> {
        self.0.split_once('.').map(|(node, _)| NodeId(node.to_owned()))
    }

    /// Whether this is the ledger's own stream.
    #[must_use]
    pub fn is_ledger(&self) -> bool {
        self.0 == "ledger"
    }
}

/// A release: its serial and the SHA-256 of its `content.tar`. Written `<serial>@sha256:<hex>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReleaseRef {
    /// The serial.
    pub serial: Serial,
    /// SHA-256 of `content.tar`.
    pub digest: Digest,
}

impl fmt::Display for ReleaseRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@sha256:{}", self.serial, self.digest)
    }
}

impl FromStr for ReleaseRef {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<ReleaseRef, NotAnId> {
        let refuse = || NotAnId::new("release", text, "<serial>@sha256:<64 hexadecimal digits>");
        let (serial, digest) = text.split_once("@sha256:").ok_or_else(refuse)?;
        // One spelling only: no sign, no leading zero.
        if !serial.bytes().all(|byte| byte.is_ascii_digit()) || serial.starts_with('0') {
            return Err(refuse());
        }
        let number: u64 = serial.parse().map_err(|_| refuse())?;
        if number > INTEGER_MAX {
            return Err(refuse());
        }
        Ok(ReleaseRef { serial: Serial(number), digest: digest.parse().map_err(|_| refuse())? })
    }
}

impl Serialize for ReleaseRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

from_text!(ReleaseRef, "^[1-9][0-9]*@sha256:[0-9a-f]{64}$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_refs_round_trip_and_refuse_other_spellings() {
        let reference = ReleaseRef { serial: Serial(7), digest: Digest::sha256(b"content") };
        assert_eq!(reference.to_string().parse(), Ok(reference));
        for bad in ["7", "07@sha256:00", "0@sha256:", &reference.to_string().replace("7@", "07@")] {
            assert!(bad.parse::<ReleaseRef>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_at_their_limit_and_one_past_it() {
        assert!("a".repeat(NODE_ID_LEN_MAX).parse::<NodeId>().is_ok());
        assert!("a".repeat(NODE_ID_LEN_MAX + 1).parse::<NodeId>().is_err());
        for bad in ["", "-a", "a-", "A", "a.b", "a/b", ".."] {
            assert!(bad.parse::<NodeId>().is_err(), "{bad:?}");
            assert!(bad.parse::<RingName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_stream_names_its_node() {
        let node: NodeId = "sensor-1".parse().unwrap();
        let stream = StreamId::new(&node, [7; 16]);
        assert_eq!(stream.to_string().parse(), Ok(stream.clone()));
        assert_eq!(stream.node(), Some(node));
        assert!(StreamId::ledger().is_ledger());
        assert!("sensor-1.zz".parse::<StreamId>().is_err());
    }

    #[test]
    fn sequences_are_20_digits() {
        assert_eq!(Sequence(5).padded(), "00000000000000000005");
        assert_eq!("00000000000000000005".parse(), Ok(Sequence(5)));
        assert!("5".parse::<Sequence>().is_err());
        assert!("99999999999999999999".parse::<Sequence>().is_err());
    }
}
