//! A candidate's way to a release: staged, signed, recorded, proven, in the order that `build.rs` gives.

use std::collections::BTreeMap;

use cairn_ledger::volume::Place;
use cairn_release::bundle;
use cairn_release::signers::Signature;
use cairn_release::statement::{
    self, Author, Base64, CommitEvidence, Predicate, SignatureSummary, Statement, TestSummary,
};
use cairn_schemas::commitment::Personal;
use cairn_schemas::data::{CommitSignature, ReleaseBuilt, TestCounts};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{ReleaseRef, Serial};
use cairn_schemas::record::Draft;
use cairn_schemas::token::token;

use super::{
    BuildError, Builder, COSIGN_PATIENCE, Candidate, EMAIL_CLASS, FOLD_PATIENCE, LIFETIME, Looked, PUBLISH_PATIENCE,
};
use crate::control::Recorded;

impl Builder {
    /// Whether what a staged statement says of the fleet's past still holds.
    pub(super) fn still_true(&self, statement: &Statement) -> bool {
        let state = self.live.read();
        statement.predicate.known_good == state.is_known_good(statement.content)
            && statement.predicate.same_content_as == state.newest_with(statement.content)
    }

    pub(super) fn stage(&self, serial: Serial, candidate: &Candidate) -> Result<(Statement, Digest), BuildError> {
        self.store.delete(serial)?;
        let statement = statement::build(&candidate.content_tar, self.predicate(serial, candidate));
        let signed = bundle::sign(&statement.to_bytes()?, &self.signer);
        self.store.stage(serial, &candidate.content_tar, &signed)?;
        Ok((statement, Digest::sha256(&signed)))
    }

    fn predicate(&self, serial: Serial, candidate: &Candidate) -> Predicate {
        let content = Digest::sha256(&candidate.content_tar);
        let (known_good, same_content_as) = {
            let state = self.live.read();
            (state.is_known_good(content), state.newest_with(content))
        };
        let (snapshot, tests, now) = (&candidate.snapshot, &candidate.tests, self.clock.now());
        Predicate {
            serial,
            built: now,
            expires: now.plus(LIFETIME),
            commit: CommitEvidence {
                id: snapshot.commit.id.clone(),
                raw: Base64(snapshot.commit_raw.clone()),
                trees: snapshot.trees_raw.iter().cloned().map(Base64).collect(),
            },
            signature: SignatureSummary::from(&candidate.signature),
            author: Author { name: snapshot.commit.author.name.clone(), email: snapshot.commit.author.email.clone() },
            reviewers: statement::reviewers(&snapshot.commit.message),
            tests: TestSummary {
                passed: tests.passed as u64,
                failed: tests.failed as u64,
                covered: (tests.coverage.total - tests.coverage.uncovered.len()) as u64,
                coverable: tests.coverage.total as u64,
            },
            tools: BTreeMap::from([("cairn".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]),
            known_good,
            same_content_as,
        }
    }

    /// The record of a signed statement. Personal data stands there in the clear, here as tokens.
    pub(super) fn built(&self, statement: &Statement, digest: Digest, signature: &Signature) -> ReleaseBuilt {
        let predicate = &statement.predicate;
        let token = |value: &str| Personal::from(token(&self.token_key, EMAIL_CLASS, value));
        ReleaseBuilt {
            serial: predicate.serial,
            commit: predicate.commit.id.clone(),
            content: statement.content,
            statement: digest,
            expires: predicate.expires,
            signature: match signature {
                Signature::Listed { key, principal } => {
                    CommitSignature::Ssh { key: key.clone(), principal: token(principal) }
                }
                _ => CommitSignature::None,
            },
            author: token(&predicate.author.email),
            known_good: predicate.known_good,
            same_content_as: predicate.same_content_as,
            tests: TestCounts { passed: predicate.tests.passed, failed: predicate.tests.failed },
        }
    }

    pub(super) fn record(&self, built: &ReleaseBuilt) -> Result<Looked, BuildError> {
        let release = ReleaseRef { serial: built.serial, digest: built.content };
        let draft = Draft::new(built).subject(release.to_string()).foreignid(built.serial.to_string());
        let recorded = self.append(draft)?;
        let bytes = recorded.records.into_iter().next().unwrap_or_default();
        self.finish(built.serial, recorded.place, &bytes)?;
        Ok(Looked::Built(release))
    }

    /// What follows the record: its copy beside the release, and the proof.
    pub(super) fn finish(&self, serial: Serial, place: Place, record: &[u8]) -> Result<(), BuildError> {
        self.store.write_record(serial, record)?;
        let size = place.index.size_with();
        if !self.ledger.wait_published_in(place.volume, size, PUBLISH_PATIENCE) {
            return Err(BuildError::NotPublished { place });
        }
        let proof = if self.ledger.demands_witnesses() && self.ledger.volume() == place.volume {
            // Nodes believe nothing that the witnesses did not see.
            if !self.ledger.wait_cosigned(size, COSIGN_PATIENCE) {
                return Err(BuildError::NotCosigned { place });
            }
            self.ledger.inclusion_cosigned(place.index, size)?
        } else {
            self.ledger.inclusion_in(place, size)?
        };
        self.store.write_proof(serial, &proof)?;
        self.proven.add(serial);
        Ok(())
    }

    /// Records and waits until the state knows: what is decided next is decided with it.
    pub(super) fn append(&self, draft: Draft) -> Result<Recorded, BuildError> {
        let recorded = self.control.append(vec![draft])?;
        if self.live.wait_for(recorded.place, FOLD_PATIENCE) {
            return Ok(recorded);
        }
        Err(BuildError::NotFolded { place: recorded.place })
    }
}
