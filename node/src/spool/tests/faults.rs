//! Every call that a write is made of is failed twice: not done, and done but reported failed. After each fault the spool is
//! reopened and must hold exactly what was acknowledged, in one chain, and go on.

use super::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Write,
    Sync,
    Cut,
}

/// Fails the `at`-th call of one kind.
struct Faulty {
    call: Call,
    done: bool,
    at: usize,
    count: AtomicUsize,
}

impl Faulty {
    fn apply(&self, call: Call, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        if call != self.call || self.count.fetch_add(1, Ordering::SeqCst) != self.at {
            return act();
        }
        if self.done {
            act()?;
        }
        Err(io::Error::other("injected"))
    }
}

impl Disk for Faulty {
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        self.apply(Call::Write, || SystemDisk.write(file, bytes, at))
    }
    fn sync(&self, file: &File) -> io::Result<()> {
        self.apply(Call::Sync, || SystemDisk.sync(file))
    }
    fn cut(&self, file: &File, len: u64) -> io::Result<()> {
        self.apply(Call::Cut, || SystemDisk.cut(file, len))
    }
}

#[test]
fn each_fault_leaves_exactly_what_was_acknowledged() {
    for call in [Call::Write, Call::Sync] {
        for done in [false, true] {
            for at in 0..5 {
                let case = format!("{call:?} {at}, done: {done}");
                let bench = Bench::small(1 << 20, 1 << 16, 1_500);
                let spool = bench.open_on(Box::new(Faulty { call, done, at, count: AtomicUsize::new(0) })).unwrap();
                let mut acknowledged = Vec::new();
                let mut refused = 0;
                for n in 0..8 {
                    match spool.record(draft(&n.to_string())) {
                        Ok(recorded) => acknowledged.push((n.to_string(), recorded)),
                        Err(SpoolError::NotDurable { .. }) => refused += 1,
                        Err(error) => panic!("{case}: {error}"),
                    }
                }
                assert_eq!(refused, 1, "{case}: the spool goes on after a failed write");
                let stream = spool.stream();
                // Not closed: the process dies here.
                drop(spool);
                let spool = bench.open();
                assert_eq!(spool.stream(), stream, "{case}");
                let records = pending(&spool);
                assert_eq!(
                    versions(&records),
                    acknowledged.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>(),
                    "{case}"
                );
                for (_, place) in &acknowledged {
                    let bytes = records[usize::try_from(place.sequence.0).unwrap()].to_bytes().unwrap();
                    assert_eq!(Digest::leaf(&bytes), place.leaf, "{case}");
                }
                let losses: Vec<SensorLoss> = records.iter().filter_map(|record| record.data_as().ok()).collect();
                assert_eq!(
                    losses.iter().map(|loss| loss.lost).sum::<u64>(),
                    1,
                    "{case}: the refused record is accounted for"
                );
                spool.record(draft("after")).unwrap();
            }
        }
    }
}

#[test]
fn a_record_that_failed_but_reached_the_disk_is_not_taken_back_as_acknowledged() {
    // The process dies right after the failed sync, before anything could be cut: the bytes are there, nobody was told.
    let bench = Bench::new();
    let spool =
        bench.open_on(Box::new(Faulty { call: Call::Sync, done: true, at: 1, count: AtomicUsize::new(0) })).unwrap();
    spool.record(draft("a")).unwrap();
    assert!(spool.record(draft("b")).is_err());
    drop(spool);
    // It may appear: then it is one record like any other, and whoever was refused did not act on it.
    let spool = bench.open();
    let records = pending(&spool);
    assert!([vec!["a"], vec!["a", "b"]].contains(&versions(&records).iter().map(String::as_str).collect()));
}

#[test]
fn a_cut_that_fails_is_tried_again() {
    struct Twice(Faulty, Faulty);
    impl Disk for Twice {
        fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
            self.0.write(file, bytes, at)
        }
        fn sync(&self, file: &File) -> io::Result<()> {
            SystemDisk.sync(file)
        }
        fn cut(&self, file: &File, len: u64) -> io::Result<()> {
            self.1.cut(file, len)
        }
    }
    for done in [false, true] {
        let bench = Bench::new();
        let faulty = |call, at| Faulty { call, done, at, count: AtomicUsize::new(0) };
        let spool = bench.open_on(Box::new(Twice(faulty(Call::Write, 1), faulty(Call::Cut, 0)))).unwrap();
        spool.record(draft("a")).unwrap();
        assert!(spool.record(draft("b")).is_err());
        assert!(spool.record(draft("c")).is_err(), "what the failed write left must be cut first");
        spool.record(draft("d")).unwrap();
        drop(spool);
        assert_eq!(versions(&pending(&bench.open())), ["a", "d"]);
    }
}

#[test]
fn threads_that_wait_for_a_failed_batch_are_all_told() {
    let bench = Bench::new();
    let spool =
        bench.open_on(Box::new(Faulty { call: Call::Sync, done: false, at: 3, count: AtomicUsize::new(0) })).unwrap();
    let outcomes: Vec<(String, bool)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..12)
            .map(|thread| {
                let spool = spool.clone();
                scope.spawn(move || {
                    (0..10)
                        .map(|n| {
                            let name = format!("{thread}.{n}");
                            let taken = spool.record(draft(&name)).is_ok();
                            (name, taken)
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    drop(spool);
    let here: BTreeSet<String> = versions(&pending(&bench.open())).into_iter().collect();
    let told: BTreeSet<String> = outcomes.iter().filter(|(_, taken)| *taken).map(|(name, _)| name.clone()).collect();
    assert_eq!(here, told);
    assert!(told.len() < 120, "somebody was told that it failed");
}

#[test]
fn a_segment_that_cannot_be_made_refuses_until_it_can() {
    let bench = Bench::small(1 << 20, 1 << 16, 600);
    let spool = bench.open();
    spool.record(draft("a")).unwrap();
    spool.record(draft("b")).unwrap();
    let folder = bench.path().join(spool.stream().as_str());
    let away = bench.path().join("away");
    fs::rename(&folder, &away).unwrap();
    for _ in 0..2 {
        assert!(matches!(spool.record(draft("lost")), Err(SpoolError::NotDurable { .. })));
    }
    fs::rename(&away, &folder).unwrap();
    spool.record(draft("c")).unwrap();
    drop(spool);
    let records = pending(&bench.open());
    assert_eq!(versions(&records), ["a", "b", "c"]);
    let lost: u64 = records.iter().filter_map(|r| r.data_as::<SensorLoss>().ok()).map(|loss| loss.lost).sum();
    assert_eq!(lost, 2);
}
