//! A witness in thousands of schedules over a disk that fails and forgets. Whatever it answered or showed with its signature belongs to
//! one history, and the proof of another one that it was asked to cosign is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cairn_schemas::digest::Digest;
use cairn_schemas::ids::TreeSize;

use super::fixture::{Log, cosigner};
use super::store::DirStore;
use super::{Answer, KnownLog, KnownLogs, Witness};
use crate::checkpoint::Checkpoint;
use crate::cosignature::CosignTime;
use crate::disk::Disk as _;
use crate::disk::schedules::{SCHEDULES, Schedule, hold};

/// Records that two histories of a log share, and how far they are shown.
const SHARED: usize = 3;
const SHOWN: usize = 9;

/// A log of so many records, of the first or the second history.
fn log(origin: &str, second: bool, size: usize) -> Log {
    let mut log = Log::new(origin);
    log.grow(size.min(SHARED), "shared");
    log.grow(size.saturating_sub(SHARED), if second { "second" } else { "first" });
    log
}

#[derive(Default)]
struct Promises {
    /// Of each log, the roots that the witness signed for, by size.
    signed: BTreeMap<String, BTreeMap<u64, Digest>>,
    /// Of each log, whether it was the first or the second history that the witness went on with.
    went: BTreeMap<String, bool>,
    /// Files of evidence that were kept.
    kept: BTreeSet<String>,
}

impl Promises {
    fn signed(&mut self, origin: &str, checkpoint: &[u8]) {
        let (Checkpoint { size, root, .. }, _) = Checkpoint::parse(checkpoint).unwrap();
        let before = self.signed.entry(origin.to_owned()).or_default().insert(size.0, root);
        assert!(before.is_none_or(|before| before == root), "{size} was signed with two roots");
        if size.0 as usize > SHARED {
            let (theirs, _) = Checkpoint::parse(&log(origin, true, size.0 as usize).head(size)).unwrap();
            let second = theirs.root == root;
            let went = *self.went.entry(origin.to_owned()).or_insert(second);
            assert_eq!(went, second, "{size} is of the other history");
        }
    }

    fn live(&mut self, schedule: &mut Schedule) -> Result<(), String> {
        let store = DirStore::open_on(Arc::new(schedule.disk.clone())).map_err(|error| error.to_string())?;
        let mut logs = KnownLogs::new();
        logs.add(KnownLog::ledger(&Log::new("test/1").vkey()).unwrap()).unwrap();
        let witness = Witness::new(vec![cosigner("w.example", 7)], logs, Box::new(store));
        for _ in 0..=schedule.random.below(10) {
            let origin = ["test/1", "test/2"][schedule.random.below(2) as usize];
            let digest = Digest::sha256(origin.as_bytes());
            if schedule.random.below(3) == 0 {
                if let Some(shown) = witness.newest(&digest).map_err(|error| error.to_string())? {
                    self.signed(origin, &shown);
                }
                continue;
            }
            let (second, size) = (schedule.random.flip(), 1 + schedule.random.below(SHOWN as u64));
            let log = log(origin, second, size as usize);
            let mut old = 0;
            // Told where the witness stands, whoever asks asks from there.
            for _ in 0..2 {
                let request = log.request(old);
                match witness.add_checkpoint(&request.to_bytes(), CosignTime(100)) {
                    Answer::Cosigned(_) => {
                        self.signed(origin, &request.checkpoint);
                        break;
                    }
                    Answer::Conflict(TreeSize(known)) => {
                        let root = |checkpoint: &[u8]| Checkpoint::parse(checkpoint).unwrap().0.root;
                        let other = self.signed.get(origin).and_then(|signed| signed.get(&size));
                        if known == size && other.is_some_and(|other| *other != root(&request.checkpoint)) {
                            let evidence = Digest::sha256(&request.checkpoint);
                            self.kept.insert(format!("logs/{digest}/evidence/{evidence}"));
                        }
                        if known > size {
                            break;
                        }
                        old = known;
                    }
                    Answer::Refused(refusal) if refusal.status() == 500 => return Err(refusal.to_string()),
                    Answer::Refused(_) => break,
                }
            }
        }
        Ok(())
    }
}

#[test]
fn a_witness_signs_one_history_whatever_it_forgets() {
    let syncs = hold(SCHEDULES, &|schedule| {
        let mut promises = Promises::default();
        for _ in 0..=schedule.random.below(4) {
            schedule.arm(40);
            let failed = promises.live(schedule).err();
            schedule.end_life(failed);
        }
        schedule.settle();
        promises.live(schedule).unwrap();
        for path in &promises.kept {
            let found = schedule.disk.read(path).map(|bytes| Digest::sha256(&bytes).to_string());
            assert!(found.is_ok_and(|found| path.ends_with(&found)), "{path} was kept");
        }
    });
    println!("{syncs} syncs");
}
