use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use cairn_ledger::head;
use cairn_schemas::data::{NodeCapabilities, SensorLoss, StreamHead, StreamOpened};
use cairn_schemas::record::Record;
use cairn_schemas::time::{ManualClock, Timestamp};
use cairn_schemas::wire::StreamPosition;

use super::*;
use crate::random::SystemRandom;

mod faults;
mod kill;
mod reconcile;

const ALL: usize = usize::MAX;

struct Bench {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    limits: SpoolLimits,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            folder: tempfile::tempdir().unwrap(),
            clock: Arc::new(ManualClock::new(Timestamp::from_nanos(1_700_000_000_000_000_000))),
            limits: SpoolLimits::default(),
        }
    }

    fn small(len_max: u64, reserve_len: u64, segment_len_max: u64) -> Bench {
        Bench { limits: SpoolLimits { len_max, reserve_len, segment_len_max }, ..Bench::new() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("spool")
    }

    fn open_on(&self, disk: Box<dyn Disk>) -> Result<Spool, SpoolError> {
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as Arc<dyn Clock>;
        Spool::open_on(&self.path(), &node(), &key(), self.limits, clock, Arc::new(SystemRandom), disk)
    }

    fn open(&self) -> Spool {
        self.open_on(Box::new(SystemDisk)).unwrap()
    }

    /// The segment files of the current stream, oldest first.
    fn segments(&self, spool: &Spool) -> Vec<PathBuf> {
        let folder = self.path().join(spool.stream().as_str());
        let names = crate::durable::names(&folder).unwrap();
        names.iter().filter(|name| name.ends_with(".seg")).map(|name| folder.join(name)).collect()
    }
}

fn node() -> NodeId {
    "sensor-1".parse().unwrap()
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn draft(version: &str) -> Draft {
    Draft::new(&NodeCapabilities { live: true, version: version.to_owned(), can: Vec::new(), cannot: Vec::new() })
}

/// Every pending record, checked to be one whole chain from its first record on.
fn pending(spool: &Spool) -> Vec<Record> {
    let Some(pending) = spool.pending(ALL, ALL).unwrap() else { return Vec::new() };
    chained(&pending)
}

fn chained(pending: &Pending) -> Vec<Record> {
    let records: Vec<Record> = pending.records.iter().map(|bytes| Record::parse(bytes).unwrap()).collect();
    let mut expected = pending.first;
    for (index, record) in records.iter().enumerate() {
        assert_eq!((&record.stream, record.sequence), (&pending.stream, expected));
        if index > 0 {
            assert_eq!(record.prevdigest, Digest::leaf(&pending.records[index - 1]));
        }
        expected = expected.next();
    }
    records
}

fn versions(records: &[Record]) -> Vec<String> {
    records.iter().filter_map(|record| record.data_as::<NodeCapabilities>().ok()).map(|data| data.version).collect()
}

#[test]
fn records_are_pending_until_trimmed_and_the_stream_goes_on_after_a_restart() {
    let bench = Bench::new();
    let spool = bench.open();
    let stream = spool.stream();
    let recorded = spool.append(vec![draft("a"), draft("b")]).unwrap();
    assert_eq!(recorded.iter().map(|r| r.sequence.0).collect::<Vec<_>>(), [1, 2]);
    let records = pending(&spool);
    assert_eq!(records[0].data_as::<StreamOpened>().unwrap().predecessor, None);
    assert_eq!(versions(&records), ["a", "b"]);
    assert_eq!(Digest::leaf(&records[2].to_bytes().unwrap()), recorded[1].leaf);

    spool.trim(&stream, Sequence(1)).unwrap();
    assert_eq!(versions(&pending(&spool)), ["b"]);
    spool.trim(&stream, Sequence(0)).unwrap();
    assert_eq!(versions(&pending(&spool)), ["b"], "a late answer takes nothing back");
    spool.trim(&stream, Sequence(2)).unwrap();
    assert_eq!(spool.pending(ALL, ALL).unwrap(), None);
    drop(spool);

    let spool = bench.open();
    assert_eq!(spool.stream(), stream);
    assert_eq!(spool.record(draft("c")).unwrap().sequence, Sequence(3));
    assert_eq!(versions(&pending(&spool)), ["a", "b", "c"], "what was sent is sent again, and taken once");
}

#[test]
fn the_chain_goes_on_after_every_record_was_trimmed() {
    let bench = Bench::small(1 << 20, 1 << 16, 2_000);
    let spool = bench.open();
    let stream = spool.stream();
    let mut last = None;
    for index in 0..40 {
        last = Some(spool.record(draft(&index.to_string())).unwrap());
    }
    let last = last.unwrap();
    spool.trim(&stream, last.sequence).unwrap();
    assert_eq!(bench.segments(&spool).len(), 1, "segments that were sent whole are gone");
    drop(spool);
    let spool = bench.open();
    assert_eq!(spool.stream(), stream);
    let first_kept = spool.pending(ALL, ALL).unwrap().map_or(last.sequence, |pending| pending.first);
    assert!(first_kept.0 > 20);
    let next = spool.record(draft("next")).unwrap();
    assert_eq!(next.sequence, last.sequence.next());
    let records = pending(&spool);
    assert_eq!(records[records.len() - 1].prevdigest, last.leaf);
}

#[test]
fn what_is_sent_at_once_is_bounded_and_never_nothing() {
    let bench = Bench::new();
    let spool = bench.open();
    spool.append((0..10).map(|index| draft(&index.to_string())).collect()).unwrap();
    let len = |max_records, max_bytes| spool.pending(max_records, max_bytes).unwrap().unwrap().records.len();
    assert_eq!(len(3, ALL), 3);
    assert_eq!(len(ALL, 1), 1, "a record longer than the limit still goes");
    let two: usize = spool.pending(2, ALL).unwrap().unwrap().records.iter().map(|record| record.len() + 1).sum();
    assert_eq!(len(ALL, two), 2);
    assert_eq!(len(ALL, two - 1), 1);
}

#[test]
fn heads_are_due_after_a_second_or_4096_records_and_at_the_close() {
    let bench = Bench::new();
    let spool = bench.open();
    let heads = |spool: &Spool| -> Vec<(Sequence, StreamHead)> {
        let records = pending(spool);
        records.iter().filter_map(|r| Some((r.sequence, r.data_as::<StreamHead>().ok()?))).collect()
    };
    spool.tick().unwrap();
    assert_eq!(heads(&spool), []);
    bench.clock.advance(Duration::from_secs(1));
    spool.tick().unwrap();
    spool.tick().unwrap();
    assert_eq!(heads(&spool).len(), 1, "nothing is unsigned after a head");

    let seen = |size| CheckpointSeen { origin: "ledger/1".into(), size, root: Digest::sha256(&[1]) };
    spool.saw_checkpoint(seen(9));
    spool.saw_checkpoint(seen(8));
    spool.append((0..4_095).map(|_| draft("x")).collect()).unwrap();
    assert_eq!(heads(&spool).len(), 1);
    spool.record(draft("y")).unwrap();
    assert_eq!(heads(&spool).len(), 2);
    spool.record(draft("z")).unwrap();
    spool.close().unwrap();
    spool.close().unwrap();
    let heads = heads(&spool);
    assert_eq!(heads.len(), 3);
    for (sequence, signed) in &heads {
        assert_eq!(signed.sequence.next(), *sequence);
        head::verify(signed, &spool.stream(), &key().verifying_key()).unwrap();
    }
    assert_eq!(heads[1].1.checkpoint, Some(seen(9)), "an older checkpoint changes nothing");
    assert!(matches!(spool.record(draft("late")), Err(SpoolError::Closed)));
    drop(spool);
    let spool = bench.open();
    bench.clock.advance(Duration::from_secs(5));
    spool.tick().unwrap();
    assert_eq!(pending(&spool).iter().filter(|r| r.data_as::<StreamHead>().is_ok()).count(), 3, "all was signed");
}

#[test]
fn unsigned_records_are_signed_after_a_crash() {
    let bench = Bench::new();
    bench.open().record(draft("a")).unwrap();
    let spool = bench.open();
    bench.clock.advance(Duration::from_secs(1));
    spool.tick().unwrap();
    let records = pending(&spool);
    assert!(records[records.len() - 1].data_as::<StreamHead>().is_ok());
}

#[test]
fn a_draft_that_makes_no_record_takes_no_number() {
    let bench = Bench::new();
    let spool = bench.open();
    let too_long = draft(&"x".repeat(70_000));
    assert!(matches!(spool.append(vec![draft("a"), too_long]), Err(SpoolError::Seal(_))));
    assert_eq!(spool.record(draft("b")).unwrap().sequence, Sequence(1));
    assert_eq!(versions(&pending(&spool)), ["b"]);
}

#[test]
fn two_processes_do_not_share_a_spool() {
    let bench = Bench::new();
    let spool = bench.open();
    assert!(matches!(bench.open_on(Box::new(SystemDisk)), Err(SpoolError::InUse { .. })));
    drop(spool);
    bench.open();
}

#[test]
fn a_full_spool_refuses_counts_and_says_so() {
    let bench = Bench::small(24_000, 6_000, 4_000);
    let spool = bench.open();
    let stream = spool.stream();
    let mut taken = 0;
    let refused = loop {
        match spool.record(draft("fill")) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    let SpoolError::Full { len, limit } = refused else { panic!("{refused}") };
    assert_eq!(limit, 18_000);
    assert!(len > limit && taken > 10);
    let losses = |spool: &Spool| -> Vec<SensorLoss> {
        pending(spool).iter().filter_map(|record| record.data_as().ok()).collect()
    };
    assert_eq!(losses(&spool).iter().map(|loss| loss.lost).collect::<Vec<_>>(), [1], "the fact is there at once");
    for _ in 0..5 {
        bench.clock.advance(Duration::from_millis(10));
        assert!(spool.record(draft("more")).is_err());
    }
    assert_eq!(spool.status().refused, 6);
    assert_eq!(losses(&spool).len(), 1, "one record for the beginning, not one for each");

    // Heads still fit: the reserve is theirs.
    bench.clock.advance(Duration::from_secs(1));
    spool.tick().unwrap();
    let last = spool.status().last.unwrap();
    let records = pending(&spool);
    assert!(records.iter().any(|record| record.data_as::<StreamHead>().is_ok()));

    spool.trim(&stream, last).unwrap();
    spool.record(draft("again")).unwrap();
    let all: Vec<SensorLoss> = records.iter().chain(&pending(&spool)).filter_map(|r| r.data_as().ok()).collect();
    assert_eq!(all.iter().map(|loss| loss.lost).sum::<u64>(), 6, "every refused record is in a record: {all:?}");
    assert_eq!(all[0].family, "node.capabilities");
    assert_eq!(
        bench.open_on(Box::new(SystemDisk)).unwrap_err().to_string(),
        SpoolError::InUse { path: bench.path() }.to_string()
    );
}

#[test]
fn a_torn_tail_is_dropped_wherever_it_is_cut() {
    let bench = Bench::new();
    let spool = bench.open();
    spool.append(vec![draft("a"), draft("b")]).unwrap();
    let segment = bench.segments(&spool).remove(0);
    let acknowledged = fs::read(&segment).unwrap();
    let stream = spool.stream();
    spool.record(draft("torn")).unwrap();
    let whole = fs::read(&segment).unwrap();
    drop(spool);
    for cut in (acknowledged.len()..whole.len()).step_by(37) {
        fs::write(&segment, &whole[..cut]).unwrap();
        let spool = bench.open();
        assert_eq!(spool.stream(), stream);
        assert_eq!(versions(&pending(&spool)), ["a", "b"], "cut at {cut}");
        assert_eq!(spool.record(draft("c")).unwrap().sequence, Sequence(3));
        assert_eq!(versions(&pending(&spool)), ["a", "b", "c"]);
    }
}

#[test]
fn damage_begins_a_new_stream_that_names_the_old_and_sends_what_is_good_of_it() {
    let bench = Bench::new();
    let spool = bench.open();
    let old = spool.stream();
    let a = spool.record(draft("a")).unwrap();
    let segment = bench.segments(&spool).remove(0);
    let at = fs::metadata(&segment).unwrap().len() as usize + 100;
    spool.record(draft("b")).unwrap();
    spool.record(draft("c")).unwrap();
    drop(spool);
    let mut bytes = fs::read(&segment).unwrap();
    bytes[at] ^= 1;
    fs::write(&segment, bytes).unwrap();

    for _ in 0..2 {
        let spool = bench.open();
        assert_ne!(spool.stream(), old);
        let first = spool.pending(ALL, ALL).unwrap().unwrap();
        assert_eq!(first.stream, old, "the old stream is sent first, after every restart until it is sent");
        assert_eq!(versions(&chained(&first)), ["a"]);
    }
    let spool = bench.open();
    spool.trim(&old, a.sequence).unwrap();
    let records = pending(&spool);
    let opened: StreamOpened = records[0].data_as().unwrap();
    let predecessor = opened.predecessor.unwrap();
    assert_eq!((predecessor.stream, predecessor.sequence, predecessor.digest), (old.clone(), a.sequence, a.leaf));
    assert!(bench.path().join("aside").join(old.as_str()).is_dir(), "damaged bytes are kept for people");
    drop(spool);
    assert_eq!(versions(&pending(&bench.open())), Vec::<String>::new());
}

#[test]
fn an_unreadable_header_a_missing_segment_and_a_foreign_one_are_damage() {
    type Break = fn(&Path);
    let cases: [(&str, Break); 3] = [
        ("header", |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[20] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("missing", |path| fs::remove_file(path).unwrap()),
        ("short", |path| fs::write(path, b"CAIRN").unwrap()),
    ];
    for (name, break_it) in cases {
        let bench = Bench::new();
        let spool = bench.open();
        let old = spool.stream();
        spool.record(draft("a")).unwrap();
        let segment = bench.segments(&spool).remove(0);
        drop(spool);
        break_it(&segment);
        let spool = bench.open();
        assert_ne!(spool.stream(), old, "{name}");
        spool.record(draft("b")).unwrap();
        assert_eq!(versions(&pending(&spool)), ["b"], "{name}");
    }
}

#[test]
fn files_of_a_newer_version_are_left_alone() {
    let bench = Bench::new();
    let spool = bench.open();
    let segment = bench.segments(&spool).remove(0);
    drop(spool);
    let current = bench.path().join("current");
    let text = fs::read_to_string(&current).unwrap();
    fs::write(&current, text.replace("\"version\":1", "\"version\":2")).unwrap();
    let error = bench.open_on(Box::new(SystemDisk)).unwrap_err();
    assert!(matches!(error, SpoolError::NewerVersion { found: 2, .. }), "{error}");
    fs::write(&current, &text).unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[8] = 7;
    fs::write(&segment, bytes).unwrap();
    let error = bench.open_on(Box::new(SystemDisk)).unwrap_err();
    assert!(matches!(error, SpoolError::NewerVersion { found: 7, .. }), "{error}");
}

#[test]
fn a_folder_that_nothing_names_is_set_aside() {
    let bench = Bench::new();
    let stray = StreamId::new(&node(), [9; 16]);
    let stream = bench.open().stream();
    queue::Queue::create(&bench.path().join(stray.as_str()), &stray).unwrap();
    assert_eq!(bench.open().stream(), stream);
    assert!(bench.path().join("aside").join(stray.as_str()).is_dir());
}

#[test]
fn many_threads_share_syncs_and_each_gets_its_own_place() {
    struct Counting(Arc<AtomicU64>);
    impl Disk for Counting {
        fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
            SystemDisk.write(file, bytes, at)
        }
        fn sync(&self, file: &File) -> io::Result<()> {
            self.0.fetch_add(1, Ordering::SeqCst);
            SystemDisk.sync(file)
        }
        fn cut(&self, file: &File, len: u64) -> io::Result<()> {
            SystemDisk.cut(file, len)
        }
    }
    let syncs = Arc::new(AtomicU64::new(0));
    let bench = Bench::small(64 << 20, 1 << 20, 20_000);
    let spool = bench.open_on(Box::new(Counting(Arc::clone(&syncs)))).unwrap();
    let places: Vec<Recorded> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|thread| {
                let spool = spool.clone();
                scope.spawn(move || {
                    (0..50).map(|n| spool.record(draft(&format!("{thread}.{n}"))).unwrap()).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let numbers: BTreeSet<u64> = places.iter().map(|place| place.sequence.0).collect();
    assert_eq!(numbers.len(), 800);
    let records = pending(&spool);
    for place in &places {
        let bytes = records[usize::try_from(place.sequence.0).unwrap()].to_bytes().unwrap();
        assert_eq!(Digest::leaf(&bytes), place.leaf);
    }
    assert!(bench.segments(&spool).len() > 5);
    println!("800 records of 16 threads took {} syncs", syncs.load(Ordering::SeqCst));
}

#[test]
fn waiting_ends_when_something_is_pending_or_the_spool_is_closed() {
    let bench = Bench::new();
    let spool = bench.open();
    let stream = spool.stream();
    assert!(spool.wait_pending(Duration::ZERO), "stream.opened is pending");
    spool.trim(&stream, Sequence(0)).unwrap();
    assert!(!spool.wait_pending(Duration::ZERO));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| spool.wait_pending(Duration::from_secs(600)));
        spool.record(draft("a")).unwrap();
        assert!(waiter.join().unwrap());
        spool.trim(&stream, Sequence(1)).unwrap();
        let waiter = scope.spawn(|| spool.wait_pending(Duration::from_secs(600)));
        spool.close().unwrap();
        waiter.join().unwrap();
    });
}

#[test]
fn what_is_offered_and_refused_is_no_loss_and_goes_to_no_other_stream() {
    let bench = Bench::small(6_000, 3_000, 1_000);
    let spool = bench.open();
    let stream = spool.stream();
    while spool.offer(Some(&stream), vec![draft("x")]).is_ok() {}
    assert!(matches!(spool.offer(None, vec![draft("y")]), Err(SpoolError::Full { .. })));
    assert_eq!(spool.status().refused, 0);
    assert!(!pending(&spool).iter().any(|record| record.data_as::<SensorLoss>().is_ok()));

    let other = StreamId::new(&node(), [9; 16]);
    assert!(matches!(spool.offer(Some(&other), vec![draft("z")]), Err(SpoolError::OtherStream { .. })));
}

#[test]
fn a_record_is_found_whether_it_was_sent_or_not() {
    let bench = Bench::small(1 << 20, 3_000, 1_000);
    let spool = bench.open();
    let places: Vec<Recorded> = ["a", "b", "c", "d", "e"].map(|version| spool.record(draft(version)).unwrap()).to_vec();
    let newest = &places[4];
    spool.trim(&newest.stream, newest.sequence).unwrap();
    let is = |version: &'static str| move |record: &Record| versions(std::slice::from_ref(record)) == [version];
    assert_eq!(spool.find(Sequence(0), is("e")).unwrap().unwrap().sequence, newest.sequence);
    assert_eq!(spool.find(newest.sequence, is("e")).unwrap().unwrap().sequence, newest.sequence);
    assert_eq!(spool.find(newest.sequence.next(), is("e")).unwrap(), None);
    assert_eq!(spool.find(Sequence(0), is("a")).unwrap(), None, "sent, with its whole segment");
}
