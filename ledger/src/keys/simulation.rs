//! Key folders in thousands of schedules over a disk that fails and forgets: a key that anybody was given is there, and through a change of
//! keys the one in force is always among those that a ledger is opened with.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::disk::schedules::{SCHEDULES, Schedule, hold};

struct Counted(AtomicU64);

impl Random for Counted {
    fn fill(&self, bytes: &mut [u8]) -> std::io::Result<()> {
        let drawn = Digest::sha256(&self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        bytes.copy_from_slice(&drawn.as_bytes()[..bytes.len()]);
        Ok(())
    }
}

#[derive(Default)]
struct Promises {
    /// Root, release and control: what `ledger.opened` names.
    made: Option<(String, String, [u8; 32])>,
    /// The checkpoints' key in force, and those before it.
    in_force: Option<String>,
    before: Vec<String>,
    /// A change of keys was brought to its end, and no other begun.
    adopted: bool,
    producers: BTreeMap<NodeId, [u8; 32]>,
}

impl Promises {
    fn live(&mut self, schedule: &mut Schedule, random: &Counted) -> Result<(), KeysError> {
        let keys = on(schedule);
        if self.made.is_none() {
            let made = keys.make(random)?;
            self.made = Some((made.root, made.release, made.control.to_bytes()));
            self.in_force = Some(made.ledger.to_text());
        }
        for _ in 0..=schedule.random.below(5) {
            match schedule.random.below(4) {
                0 => {
                    let name: NodeId = ["ci", "cd"][schedule.random.below(2) as usize].parse().unwrap();
                    let key = keys.make_producer(&name, random)?.to_bytes();
                    let before = self.producers.insert(name, key);
                    assert!(before.is_none_or(|before| before == key), "a producer has another key");
                }
                1 | 2 => {
                    // A record that names it is durable when it is there.
                    self.adopted = false;
                    let next = keys.make_next_ledger("test/1", random)?.to_text();
                    let before = self.in_force.replace(next.clone()).filter(|before| *before != next);
                    self.before.extend(before);
                }
                // Only when the record that names it is there.
                _ => {
                    let next = keys.next_ledger()?.map(|next| next.to_text());
                    if next == self.in_force {
                        keys.adopt_next_ledger()?;
                        self.adopted = true;
                    }
                }
            }
        }
        Ok(())
    }

    fn verify(&self, schedule: &Schedule) {
        let Some((root, release, control)) = &self.made else { return };
        let keys = on(schedule);
        let found = keys.load().unwrap();
        assert_eq!((&found.root, &found.release, &found.control.to_bytes()), (root, release, control));
        let signers: Vec<String> = keys.ledger_signers().unwrap().iter().map(NoteSigner::to_text).collect();
        assert!(signers.contains(self.in_force.as_ref().unwrap()), "the key in force is gone");
        assert!(!self.adopted || signers.len() == 1, "a change of keys that was over is not");
        let files: Vec<String> =
            schedule.disk.published().into_values().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect();
        for before in &self.before {
            assert!(files.iter().any(|file| file.trim() == before), "a key that was in force is gone");
        }
        for (name, key) in &self.producers {
            assert_eq!(keys.producer(name).unwrap().map(|key| key.to_bytes()), Some(*key));
        }
    }
}

fn on(schedule: &Schedule) -> KeyFolder {
    KeyFolder { disk: Arc::new(schedule.disk.clone()), ..KeyFolder::at("keys".into()) }
}

#[test]
fn a_key_that_anybody_relies_on_is_there() {
    let syncs = hold(SCHEDULES, &|schedule| {
        let random = Counted(AtomicU64::new(0));
        let mut promises = Promises::default();
        for _ in 0..=schedule.random.below(4) {
            schedule.arm(50);
            let failed = promises.live(schedule, &random).err().map(|error| format!("{error:?}"));
            schedule.end_life(failed);
        }
        schedule.settle();
        promises.verify(schedule);
    });
    println!("{syncs} syncs");
}
