//! The kinds of faults and of findings, each with its text in JSON. `verify/REPORT.md` lists them all, which a test holds.

use serde::{Deserialize, Serialize};

macro_rules! kinds {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)*
        }

        impl $name {
            /// Every kind.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// Its text in JSON.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $text,)*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

kinds! {
    /// What is wrong.
    FaultKind {
        /// The system could not read a file or a folder. When all faults are of this kind, nothing can be told.
        Unreadable = "unreadable",
        /// `checkpoint` is missing.
        CheckpointMissing = "checkpoint_missing",
        /// A checkpoint is not one.
        CheckpointMalformed = "checkpoint_malformed",
        /// A checkpoint is not signed by the key it must be.
        CheckpointSignature = "checkpoint_signature",
        /// A checkpoint is of another log.
        CheckpointOrigin = "checkpoint_origin",
        /// A larger checkpoint was signed before: this one was rolled back, or the log has two histories.
        CheckpointRolledBack = "checkpoint_rolled_back",
        /// The records' root is not the checkpoint's.
        RootWrong = "root_wrong",
        /// A retained checkpoint is of another history.
        RetainedWrong = "retained_wrong",
        /// An earlier report saw another history.
        SinceWrong = "since_wrong",
        /// A hash tile is missing.
        TileMissing = "tile_missing",
        /// A hash tile's length is not that of its width.
        TileMalformed = "tile_malformed",
        /// A hash tile's bytes are not what the tree determines.
        TileWrong = "tile_wrong",
        /// An entry bundle is missing.
        BundleMissing = "bundle_missing",
        /// An entry bundle is cut, or goes on after its last record.
        BundleMalformed = "bundle_malformed",
        /// A record's bytes are not those that the tree holds the hash of.
        RecordWrong = "record_wrong",
        /// A record is not canonical, or not of the form that its type demands.
        RecordInvalid = "record_invalid",
        /// Record 0 is not this ledger's `ledger.opened`, or there is a second one.
        LedgerOpened = "ledger_opened",
        /// The key given is none of the ledger's own.
        KeyMismatch = "key_mismatch",
        /// Checkpoints are said to be signed by another key from a record on, and the root key did not endorse it.
        KeyEndorsement = "key_endorsement",
        /// Other witnesses are said to count from a record on, and the root key did not endorse it, or the policy is none.
        WitnessesEndorsement = "witnesses_endorsement",
        /// The witness policy given is not met by any checkpoint.
        PolicyNotMet = "policy_not_met",
        /// A cosignature by a witness of the policy is wrong.
        CosignatureWrong = "cosignature_wrong",
        /// A volume between two others, or one that the volume before announces, is missing.
        VolumeMissing = "volume_missing",
        /// A volume does not follow from the one before: its checkpoint, its end, or its key.
        VolumeChain = "volume_chain",
        /// A volume takes over nodes or streams otherwise than the one before left them.
        VolumeCarried = "volume_carried",
        /// Records stand behind the one that ended the volume.
        VolumeEnded = "volume_ended",
        /// A stream of a node that never joined.
        StreamUnknown = "stream_unknown",
        /// A stream does not begin with its `stream.opened`, by the right node and key, or has a second one.
        StreamOpening = "stream_opening",
        /// A record's number does not follow, and the ledger did not note a gap.
        Sequence = "sequence",
        /// A record does not carry the hash of the one before.
        PrevDigest = "prevdigest",
        /// A `foreignid` came twice in one stream.
        ForeignId = "foreignid",
        /// A record of a type that its producer may not write.
        Role = "role",
        /// A head does not stand where it says.
        HeadPlace = "head_place",
        /// A head is not signed by its producer's key.
        HeadSignature = "head_signature",
        /// A producer saw a checkpoint that is not of this history.
        HeadCheckpoint = "head_checkpoint",
        /// What the ledger notes of a stream (gap, fork, rejected record) is not what the stream shows.
        LedgerNote = "ledger_note",
        /// The control plane saw records that are not here.
        ObservedMissing = "observed_missing",
        /// A node joined again with another key or as something else, or with something that is no key.
        NodeJoined = "node_joined",
        /// A release's serial does not follow the one before, or its record contradicts itself.
        ReleaseBuilt = "release_built",
        /// A record names a release that was not built before it.
        ReleaseUnknown = "release_unknown",
        /// A node decided by a release that it had not loaded.
        ReleaseNotLoaded = "release_not_loaded",
        /// A node loaded a release that no checkpoint of that time could prove to it.
        ReleaseNotProven = "release_not_proven",
        /// A containment's record names a detection or a request that is not there.
        ContainmentUnpaired = "containment_unpaired",
        /// A release's file is missing.
        ReleaseFileMissing = "release_file_missing",
        /// A release's file is not what its record says.
        ReleaseFileWrong = "release_file_wrong",
        /// A release's statement is not signed by the release key, or does not state this release.
        ReleaseStatement = "release_statement",
        /// A release's content is not the commit's.
        ReleaseContent = "release_content",
        /// A release's proof does not hold.
        ReleaseProof = "release_proof",
        /// Release files for which there is no record.
        ReleaseUnrecorded = "release_unrecorded",
        /// `versions.jsonl` of a mirror is not what it should be.
        VersionsMalformed = "versions_malformed",
        /// A delete marker hides an object that never changes.
        ObjectHidden = "object_hidden",
        /// An object that never changes has several versions in the bucket.
        ObjectRewritten = "object_rewritten",
        /// A mirror's file is not the object that the bucket had.
        MirrorWrong = "mirror_wrong",
        /// A record's reference to a blob is not one, or contradicts another record's.
        BlobReference = "blob_reference",
        /// A blob is missing, and no record says that its key was destroyed.
        BlobMissing = "blob_missing",
        /// A blob's bytes are not those that its record names.
        BlobWrong = "blob_wrong",
        /// The vault cannot open commitments, and no record says that their key was destroyed.
        DisclosureMissing = "disclosure_missing",
        /// The vault has another value for a commitment, or the commitment was moved.
        DisclosureWrong = "disclosure_wrong",
        /// A key that a record says is destroyed is in the vault.
        KeyNotErased = "key_not_erased",
    }
}

kinds! {
    /// What an auditor should look at. With `--strict` it fails the verification.
    FindingKind {
        /// Records are missing from a stream, and its producer did not declare it.
        Gap = "gap",
        /// A second record came for a number that was taken; it was refused.
        Fork = "fork",
        /// A record was not valid and was not taken.
        Rejected = "rejected",
        /// Records after a stream's newest signed head.
        Unattested = "unattested",
        /// A producer opened a new stream and did not go on from this one.
        Abandoned = "abandoned",
        /// A stream grew after its producer had opened another: a cloned machine.
        Cloned = "cloned",
        /// A stream's clock ran backwards.
        TimeBackwards = "time_backwards",
        /// A containment was requested, and what came of it was not recorded.
        ContainmentUnfinished = "containment_unfinished",
        /// A node decided by a release, and the record of its loading may be among those that are missing.
        ReleaseNotShown = "release_not_shown",
        /// A release's record is there and it was not offered yet; not all of its files are written.
        ReleaseUnfinished = "release_unfinished",
        /// Records that the newest cosigned checkpoint does not cover.
        Unwitnessed = "unwitnessed",
        /// A volume was opened over a backup, over damage, or without the old key: what came after its beginning may be lost.
        VolumeReplaced = "volume_replaced",
        /// A producer saw a checkpoint whose records a restored ledger does not hold.
        CheckpointLost = "checkpoint_lost",
        /// Records are dated after a time at which witnesses had them, or long before one at which they did not have them.
        TimeContradicted = "time_contradicted",
        /// Objects that never change are not locked in the bucket.
        NotLocked = "not_locked",
        /// A record refers to something under a key that was destroyed before.
        ErasedKeyUsed = "erased_key_used",
        /// An erasure has begun in the vault, and the ledger does not say so yet.
        ErasureUnrecorded = "erasure_unrecorded",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_one_text_each() {
        let texts: std::collections::BTreeSet<&str> = FaultKind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(texts.len(), FaultKind::ALL.len());
        for kind in FaultKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }
}
