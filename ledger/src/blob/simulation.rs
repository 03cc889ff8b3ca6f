//! Blobs in thousands of schedules over a disk that fails and forgets: one that was put is there with its bytes, and one that was removed
//! does not come back.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::disk::schedules::{SCHEDULES, Schedule, hold};

#[derive(Default)]
struct Promises {
    put: BTreeMap<Digest, (KeyId, Vec<u8>)>,
    /// Keys whose blobs may be gone, and those whose blobs are.
    removing: BTreeSet<KeyId>,
    removed: BTreeSet<KeyId>,
    number: u8,
}

impl Promises {
    fn live(&mut self, Schedule { disk, random }: &mut Schedule) -> Result<(), DiskError> {
        let root = Path::new("ledger");
        for _ in 0..=random.below(8) {
            let key = KeyId([random.below(3) as u8; 16]);
            if random.below(4) > 0 {
                if self.removing.contains(&key) {
                    continue;
                }
                // A few sizes around that of a sector; the nonce makes them differ.
                self.number += 1;
                let plain = vec![self.number; random.below(1_200) as usize];
                let (reference, file) = seal(key, &VaultKey::from_bytes([3; 32]), &[self.number; 24], &plain).unwrap();
                put_on(disk, root, &reference, &file)?;
                self.put.insert(reference.digest, (key, file));
            } else {
                self.removing.insert(key);
                remove_under_on(disk, root, &[key].into())?;
                self.removed.insert(key);
            }
        }
        Ok(())
    }

    fn verify(&self, schedule: &Schedule) {
        for (digest, (key, file)) in &self.put {
            if !self.removing.contains(key) {
                let found = schedule.disk.read(&path(digest)).ok();
                assert_eq!(found.as_ref(), Some(file), "a blob that was put is gone, or another one");
            }
        }
        for (path, bytes) in schedule.disk.published() {
            let key = key_of(&bytes).ok().filter(|_| !path.ends_with(".tmp"));
            assert!(key.is_none_or(|key| !self.removed.contains(&key)), "{path} was removed");
        }
    }
}

#[test]
fn a_blob_that_was_put_is_there_and_one_that_was_removed_is_not() {
    let syncs = hold(SCHEDULES, &|schedule| {
        let mut promises = Promises::default();
        for _ in 0..=schedule.random.below(3) {
            schedule.arm(40);
            let failed = promises.live(schedule).err().map(|error| format!("{error:?}"));
            schedule.end_life(failed);
        }
        schedule.settle();
        promises.verify(schedule);
    });
    println!("{syncs} syncs");
}
