//! The record types, and which producer may write which.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What kind of node a stream's producer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum NodeKind {
    /// A sensor on a machine.
    Sensor,
    /// An admission server of a cluster.
    Admission,
    /// A producer on the ledger's own machine: `cairn ledger append`.
    Local,
}

impl NodeKind {
    /// `sensor`, `admission` or `local`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            NodeKind::Sensor => "sensor",
            NodeKind::Admission => "admission",
            NodeKind::Local => "local",
        }
    }
}

/// Who writes a stream. A type is accepted only from its role's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The ledger itself: stream `ledger`.
    Ledger,
    /// The control plane.
    Control,
    /// A node.
    Node(NodeKind),
}

/// Why a text is not a record type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a record type that this version knows")]
pub struct UnknownType {
    /// The text, cut at 80 characters.
    pub text: String,
}

/// Who may write a type, as bits.
struct Writers(u8);

const LEDGER: u8 = 1;
const CONTROL: u8 = 2;
const SENSOR: u8 = 4;
const ADMISSION: u8 = 8;
const LOCAL: u8 = 16;
const NODE: u8 = SENSOR | ADMISSION;
const PRODUCER: u8 = CONTROL | NODE | LOCAL;

macro_rules! record_types {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $writers:expr, $data:ident;)*) => {
        /// A record's type: `cairn.<noun>.<verb>.v1`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum RecordType {
            $($(#[$doc])* $name,)*
        }

        impl RecordType {
            /// Every type, in the order of FORMAT.md's table.
            pub const ALL: &'static [RecordType] = &[$(RecordType::$name,)*];

            /// `cairn.<noun>.<verb>.v1`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(RecordType::$name => concat!("cairn.", $text, ".v1"),)*
                }
            }

            /// The type whose text is `cairn.<name>.v1`.
            fn from_name(name: &str) -> Option<RecordType> {
                match name {
                    $($text => Some(RecordType::$name),)*
                    _ => None,
                }
            }

            const fn writers(self) -> Writers {
                match self {
                    $(RecordType::$name => Writers($writers),)*
                }
            }

            /// Checks that `data`, a JSON value or its text, has the form of this type.
            ///
            /// # Errors
            /// What serde says is missing or wrong.
            pub fn check_data<'de, D: serde::Deserializer<'de>>(self, data: D) -> Result<(), D::Error> {
                if self == RecordType::EvidenceReceived {
                    return crate::data::EvidenceReceived::check(data);
                }
                match self {
                    $(RecordType::$name => <crate::data::$data as Deserialize>::deserialize(data).map(drop),)*
                }
            }

            /// The JSON Schema of this type's `data`, as `schemas/v1/<type>.schema.json` holds it.
            #[cfg(feature = "schema")]
            #[must_use]
            pub fn schema(self) -> schemars::Schema {
                match self {
                    $(RecordType::$name => schemars::schema_for!(crate::data::$data),)*
                }
            }
        }

        $(
            impl crate::data::RecordData for crate::data::$data {
                const TYPE: RecordType = RecordType::$name;
            }
        )*
    };
}

record_types! {
    /// The ledger was made: its names and keys. Index 0.
    LedgerOpened = "ledger.opened", LEDGER, LedgerOpened;
    /// More of what a new volume takes over, directly behind its `ledger.opened`.
    LedgerCarried = "ledger.carried", LEDGER, LedgerCarried;
    /// The volume ends with this record; another one goes on.
    LedgerClosed = "ledger.closed", LEDGER, LedgerClosed;
    /// The ledger ends with this record, for good.
    LedgerFrozen = "ledger.frozen", LEDGER, LedgerFrozen;
    /// Checkpoints that cover this record are signed by another key than those that do not.
    LedgerKeyRotated = "ledger.keyrotated", LEDGER, LedgerKeyRotated;
    /// From here on other witnesses must cosign.
    LedgerWitnessesChanged = "ledger.witnesseschanged", LEDGER, LedgerWitnessesChanged;
    /// A stream's record did not follow the one before: records are missing, and nobody declared it.
    StreamGap = "stream.gap", LEDGER, StreamGap;
    /// A second record with a sequence that was taken: refused.
    StreamForked = "stream.forked", LEDGER, StreamForked;
    /// A record that was not valid stood here; it was not taken.
    StreamRejected = "stream.rejected", LEDGER, StreamRejected;
    /// A producer began a stream.
    StreamOpened = "stream.opened", PRODUCER, StreamOpened;
    /// A producer's signature over its stream so far.
    StreamHead = "stream.head", PRODUCER, StreamHead;
    /// The heads of all streams, as the control plane saw them: a withheld tail shows.
    FleetObserved = "fleet.observed", CONTROL, FleetObserved;
    /// A commit became a release.
    ReleaseBuilt = "release.built", CONTROL, ReleaseBuilt;
    /// A commit did not become a release.
    ReleaseRejected = "release.rejected", CONTROL, ReleaseRejected;
    /// The policy repo's history was rewritten; the new tip is not followed.
    GitRefused = "git.refused", CONTROL, GitRefused;
    /// A release is offered to a ring.
    RolloutEntered = "rollout.entered", CONTROL, RolloutEntered;
    /// A release passed a ring's gates.
    RolloutAdvanced = "rollout.advanced", CONTROL, RolloutAdvanced;
    /// A rollout waits for a person.
    RolloutHeld = "rollout.held", CONTROL, RolloutHeld;
    /// A rollout was given up; nodes go back.
    RolloutAborted = "rollout.aborted", CONTROL, RolloutAborted;
    /// A newer release took a rollout's place.
    RolloutSuperseded = "rollout.superseded", CONTROL, RolloutSuperseded;
    /// A release passed its last ring.
    RolloutPromoted = "rollout.promoted", CONTROL, RolloutPromoted;
    /// A node joined.
    NodeJoined = "node.joined", CONTROL, NodeJoined;
    /// What a node can and cannot do.
    NodeCapabilities = "node.capabilities", NODE, NodeCapabilities;
    /// A node activated a release.
    NodeLoaded = "node.loaded", NODE, NodeLoaded;
    /// A node refused a release.
    NodeRefused = "node.refused", NODE, NodeRefused;
    /// A node went back to its last good release by itself.
    NodeFellback = "node.fellback", NODE, NodeFellback;
    /// A node saw two checkpoints that cannot both be of one history.
    NodeConflict = "node.conflict", NODE, NodeConflict;
    /// An admission decision.
    AdmissionDecided = "admission.decided", ADMISSION, AdmissionDecided;
    /// A rule matched.
    DetectionRaised = "detection.raised", SENSOR | CONTROL, DetectionRaised;
    /// A containment is about to act.
    ContainmentRequested = "containment.requested", SENSOR, ContainmentRequested;
    /// A containment acted, or could not.
    ContainmentFinished = "containment.finished", SENSOR, ContainmentFinished;
    /// A containment that may not act: not recordable, or guarded.
    ContainmentRefused = "containment.refused", SENSOR, ContainmentRefused;
    /// Events or records were lost, and how many.
    SensorLoss = "sensor.loss", NODE | LOCAL, SensorLoss;
    /// Evidence from elsewhere.
    EvidenceReceived = "evidence.received", CONTROL | LOCAL, EvidenceReceived;
    /// Keys of personal values or blobs were destroyed.
    PrivacyErased = "privacy.erased", CONTROL, PrivacyErased;
    /// Personal values were shown to somebody.
    PrivacyDisclosed = "privacy.disclosed", CONTROL, PrivacyDisclosed;
}

impl RecordType {
    /// Whether a stream of this role may hold records of this type.
    #[must_use]
    pub const fn allowed(self, role: Role) -> bool {
        let bit = match role {
            Role::Ledger => LEDGER,
            Role::Control => CONTROL,
            Role::Node(NodeKind::Sensor) => SENSOR,
            Role::Node(NodeKind::Admission) => ADMISSION,
            Role::Node(NodeKind::Local) => LOCAL,
        };
        self.writers().0 & bit != 0
    }

    /// Whether records of this type name the release that decided: the `release` attribute is required then, and refused
    /// elsewhere.
    #[must_use]
    pub const fn is_decision(self) -> bool {
        matches!(
            self,
            RecordType::AdmissionDecided
                | RecordType::DetectionRaised
                | RecordType::ContainmentRequested
                | RecordType::ContainmentFinished
                | RecordType::ContainmentRefused
        )
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RecordType {
    type Err = UnknownType;

    fn from_str(text: &str) -> Result<RecordType, UnknownType> {
        text.strip_prefix("cairn.")
            .and_then(|rest| rest.strip_suffix(".v1"))
            .and_then(RecordType::from_name)
            .ok_or_else(|| UnknownType { text: text.chars().take(80).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_round_trip() {
        for &kind in RecordType::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert!(kind.as_str().starts_with("cairn.") && kind.as_str().ends_with(".v1"));
        }
        assert!("cairn.release.built.v2".parse::<RecordType>().is_err());
    }

    #[test]
    fn a_node_writes_nothing_of_the_control_planes() {
        for &kind in RecordType::ALL {
            let text = kind.as_str();
            let reserved = [
                "cairn.release.",
                "cairn.rollout.",
                "cairn.operator.",
                "cairn.ledger.",
                "cairn.git.",
                "cairn.privacy.",
            ];
            if reserved.iter().any(|prefix| text.starts_with(prefix)) {
                assert!(!kind.allowed(Role::Node(NodeKind::Local)), "{text}");
                assert!(!kind.allowed(Role::Node(NodeKind::Sensor)), "{text}");
                assert!(!kind.allowed(Role::Node(NodeKind::Admission)), "{text}");
            }
        }
        assert!(!RecordType::AdmissionDecided.allowed(Role::Node(NodeKind::Sensor)));
        assert!(!RecordType::StreamGap.allowed(Role::Control));
        assert!(RecordType::DetectionRaised.allowed(Role::Control), "of documents that the intake takes in");
        assert!(!RecordType::DetectionRaised.allowed(Role::Node(NodeKind::Local)));
    }
}
