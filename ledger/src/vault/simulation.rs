//! The vault in thousands of schedules over a disk that fails and forgets. What was kept opens; what was destroyed is gone, from the
//! disk's bytes too, and stays gone; an erasure that began is finished.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_schemas::commitment::{Commitment, Disclosure, KeyId};
use cairn_schemas::data::ErasureReason;
use cairn_schemas::digest::Digest;
use cairn_schemas::time::Timestamp;
use serde_json::json;

use super::{Erasure, Vault, VaultError, key_path};
use crate::disk::Disk as _;
use crate::disk::schedules::{SCHEDULES, Schedule, hold};
use crate::random::Random;

/// Numbers that look random, are the same in every run, and never come twice.
struct Counted(AtomicU64);

impl Random for Counted {
    fn fill(&self, bytes: &mut [u8]) -> std::io::Result<()> {
        let drawn = Digest::sha256(&self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        bytes.copy_from_slice(&drawn.as_bytes()[..bytes.len()]);
        Ok(())
    }
}

struct Held {
    subject: &'static str,
    secret: Vec<u8>,
    values: Vec<(Commitment, Disclosure)>,
    /// Somebody began to erase it: it may be gone, and must be once the erasure is finished.
    begun: bool,
}

#[derive(Default)]
struct Promises {
    held: BTreeMap<KeyId, Held>,
    destroyed: BTreeMap<KeyId, Vec<u8>>,
    /// Erasures that began and were not recorded, and those that were.
    pending: Vec<Erasure>,
    recorded: Vec<Erasure>,
    values: u8,
}

impl Promises {
    fn live(&mut self, schedule: &mut Schedule, random: &Arc<Counted>) -> Result<(), VaultError> {
        let vault = Vault::open_on(Arc::new(schedule.disk.clone()), random.clone())?;
        self.finish(&vault)?;
        for _ in 0..=schedule.random.below(8) {
            let subject = ["alice", "bob", "carol"][schedule.random.below(3) as usize];
            match schedule.random.below(8) {
                0..=4 => {
                    let id = vault.key_for(subject, None, Timestamp::from_nanos(1))?;
                    let file = schedule.disk.read(&key_path(id)).unwrap();
                    let secret = file[file.len() - 32..].to_vec();
                    assert!(!self.destroyed.contains_key(&id), "a destroyed key takes values");
                    self.held.entry(id).or_insert(Held { subject, secret, values: Vec::new(), begun: false });
                    self.values += 1;
                    let disclosure = Disclosure::new([self.values; 16], "/user", &json!(self.values)).unwrap();
                    vault.keep(&[(id, disclosure.clone())])?;
                    let value = (disclosure.commitment(id), disclosure);
                    self.held.get_mut(&id).unwrap().values.push(value);
                }
                _ => {
                    let keys = match vault.keys_of(subject) {
                        Err(VaultError::NoSubject) => continue,
                        keys => keys?,
                    };
                    // Some of them may be unknown: made by a call that failed.
                    for id in &keys {
                        if let Some(held) = self.held.get_mut(id) {
                            held.begun = true;
                        }
                    }
                    self.pending.extend(vault.begin_erasure(&keys, ErasureReason::Request, None)?);
                    self.finish(&vault)?;
                }
            }
        }
        Ok(())
    }

    /// As whoever opens a vault does, and as an erasure goes on.
    fn finish(&mut self, vault: &Vault) -> Result<(), VaultError> {
        let pending = vault.pending()?;
        for erasure in &self.pending {
            assert!(pending.contains(erasure), "an erasure that began was forgotten");
        }
        for erasure in &self.recorded {
            assert!(!pending.contains(erasure), "an erasure that was recorded came back");
        }
        for erasure in pending {
            // It may have begun in a call that failed. Once it destroys anything it must come to its record.
            if !self.pending.contains(&erasure) {
                self.pending.push(erasure.clone());
            }
            vault.destroy(&erasure)?;
            for id in erasure.keys() {
                assert!(!vault.has_key(*id)?, "the key is there");
                if let Some(held) = self.held.remove(id) {
                    self.destroyed.insert(*id, held.secret);
                }
            }
            // From here on the record is durable, so that the erasure may be forgotten.
            self.pending.retain(|other| *other != erasure);
            vault.recorded(&erasure)?;
            self.recorded.push(erasure);
        }
        // What is not pending and was not destroyed did not begin.
        self.held.values_mut().for_each(|held| held.begun = false);
        Ok(())
    }

    fn verify(&self, schedule: &Schedule, vault: &Vault) {
        for (id, Held { subject, values, .. }) in &self.held {
            assert!(vault.keys_of(subject).unwrap().contains(id), "{subject} has another key");
            for (commitment, disclosure) in values {
                assert_eq!(vault.disclosure(commitment).unwrap(), *disclosure);
            }
        }
        for (id, secret) in &self.destroyed {
            assert!(!vault.has_key(*id).unwrap(), "a destroyed key came back");
            assert!(!schedule.disk.holds(secret), "a destroyed key is on the disk");
            for path in schedule.disk.published().into_keys() {
                assert!(!path.contains(&id.to_string()), "{path} is of a key that was destroyed");
            }
        }
    }
}

#[test]
fn the_vault_keeps_what_it_was_given_and_forgets_what_it_was_told_to() {
    let syncs = hold(SCHEDULES, &|schedule| {
        let random = Arc::new(Counted(AtomicU64::new(0)));
        let mut promises = Promises::default();
        for _ in 0..=schedule.random.below(3) {
            schedule.arm(90);
            let failed = promises.live(schedule, &random).err().map(|error| format!("{error:?}"));
            schedule.end_life(failed);
        }
        schedule.settle();
        let vault = Vault::open_on(Arc::new(schedule.disk.clone()), random).unwrap();
        promises.finish(&vault).unwrap();
        promises.verify(schedule, &vault);
    });
    println!("{syncs} syncs");
}
