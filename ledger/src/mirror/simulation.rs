//! A mirror in thousands of schedules over a disk that fails and forgets: whatever a crash leaves, its checkpoint covers nothing that is
//! not there, what a run reported stays, and the next run makes it whole.

use std::sync::OnceLock;

use super::tests::{Growing, check};
use super::*;
use crate::disk::schedules::{Schedule, audit, hold, scratch};

/// Copies of the mirror are made to be checked, which takes longer than what the other stores do.
const SCHEDULES: u64 = 600;

/// A ledger at one moment.
#[derive(Clone)]
struct Moment(BTreeMap<String, Vec<u8>>);

impl Files for Moment {
    fn name(&self) -> String {
        "a ledger".to_owned()
    }

    fn volumes(&self) -> Result<Vec<u64>, MirrorError> {
        Ok(vec![1, 2])
    }

    fn list(&self, _: &[(u64, TreeSize)]) -> Result<Vec<Found>, MirrorError> {
        let found = |(path, bytes): (&String, &Vec<u8>)| Found { path: path.clone(), len: Some(bytes.len() as u64) };
        Ok(self.0.iter().map(found).collect())
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, MirrorError> {
        Ok(self.0.get(path).cloned())
    }
}

/// A ledger as it grows, into a second volume.
fn moments() -> &'static [Moment] {
    static MOMENTS: OnceLock<Vec<Moment>> = OnceLock::new();
    MOMENTS.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("ledger");
        let mut ledger = Growing::create(&dir);
        let moment = || {
            let files = crate::dir::LedgerDir::open(&dir).unwrap().files().unwrap();
            let files = files.into_iter().filter(|path| !path.contains("wal/") && path != "lock");
            Moment(files.map(|path| (path.clone(), std::fs::read(dir.join(&path)).unwrap())).collect())
        };
        let mut moments = Vec::new();
        for size in [2, 3, 17, 255, 257, 300] {
            ledger.to(size);
            moments.push(moment());
        }
        ledger.ledger.rotate(crate::writer::Rotation::default()).unwrap();
        moments.push(moment());
        ledger.to(5);
        moments.push(moment());
        moments
    })
}

#[derive(Default)]
struct Promises {
    /// The moment that the next run copies, and the last one that was reported.
    next: usize,
    reported: Option<usize>,
}

fn copy(disk: &dyn Disk, moment: &Moment) -> Result<Mirrored, MirrorError> {
    let heads = read_heads(moment)?;
    let target = Target { disk, dir: Path::new("mirror") };
    // One at a time: a schedule is the same each time.
    let mut mirrored = copy_under(moment, &target, &heads, 1, &|_, _| {})?;
    finish(&target, &heads, &mut mirrored)?;
    assert!(mirrored.is_whole(), "{mirrored:?}");
    Ok(mirrored)
}

impl Promises {
    fn live(&mut self, schedule: &mut Schedule) -> Result<(), MirrorError> {
        for _ in 0..=schedule.random.below(3) {
            copy(&schedule.disk, &moments()[self.next])?;
            self.reported = Some(self.next);
            let further = schedule.random.below(3) as usize;
            self.next = (self.next + further).min(moments().len() - 1);
        }
        Ok(())
    }

    /// What the mirror's checkpoints cover is there, and is no less than what was reported.
    fn verify(&self, schedule: &Schedule) {
        let folder = tempfile::tempdir_in(scratch()).unwrap();
        schedule.disk.copy_to(folder.path());
        let reported = self.reported.map(|reported| read_heads(&moments()[reported]).unwrap()).unwrap_or_default();
        let files = schedule.disk.published();
        for (path, bytes) in self.reported.map(|reported| &moments()[reported].0).into_iter().flatten() {
            // Partial tiles go, and checkpoints are replaced.
            let stays = !path.contains(".p/") && !path.ends_with(CHECKPOINT_FILE);
            assert!(!stays || files.get(path) == Some(bytes), "{path} was copied");
        }
        for volume in [1, 2] {
            let dir = folder.path().join(volume::folder(volume));
            let covered = if dir.join(CHECKPOINT_FILE).exists() { check(&dir) } else { 0 };
            let reported = reported.iter().find(|head| head.volume == volume).map_or(0, |head| head.size.0);
            assert!(covered >= reported, "volume {volume}: {covered}, and {reported} were reported");
        }
    }
}

#[test]
fn a_mirrors_checkpoint_covers_what_is_there_whatever_a_crash_leaves() {
    let syncs = hold(SCHEDULES, &|schedule| {
        let mut promises = Promises::default();
        for _ in 0..=schedule.random.below(3) {
            schedule.arm(120);
            let failed = promises.live(schedule).err().map(|error| format!("{error:?}"));
            schedule.end_life(failed);
            promises.verify(schedule);
        }
        schedule.settle();
        promises.verify(schedule);
        promises.next = moments().len() - 1;
        copy(&schedule.disk, &moments()[promises.next]).unwrap();
        let folder = tempfile::tempdir_in(scratch()).unwrap();
        schedule.disk.copy_to(folder.path());
        audit(folder.path());
    });
    println!("{syncs} syncs");
}
