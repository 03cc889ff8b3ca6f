//! What the ledger says about a stream, against what is here.

use super::*;

fn at(sequence: u64, digest: Digest) -> StreamPosition {
    StreamPosition { sequence: Some(Sequence(sequence)), digest }
}

const UNKNOWN: StreamPosition = StreamPosition { sequence: None, digest: Digest::ZERO };

#[test]
fn one_history_is_sent_from_where_the_ledger_has_it() {
    let bench = Bench::new();
    let spool = bench.open();
    let stream = spool.stream();
    let places = spool.append(vec![draft("a"), draft("b"), draft("c")]).unwrap();
    assert_eq!(spool.reconcile(&stream, &UNKNOWN).unwrap(), Reconciled::OneHistory);
    assert_eq!(pending(&spool).len(), 4);
    assert_eq!(spool.reconcile(&stream, &at(2, places[1].leaf)).unwrap(), Reconciled::OneHistory);
    assert_eq!(versions(&pending(&spool)), ["c"]);
    // A ledger that went back to a backup: what is still on this disk is sent again.
    assert_eq!(spool.reconcile(&stream, &at(1, places[0].leaf)).unwrap(), Reconciled::OneHistory);
    assert_eq!(versions(&pending(&spool)), ["b", "c"]);
    assert_eq!(spool.reconcile(&stream, &at(3, places[2].leaf)).unwrap(), Reconciled::OneHistory);
    assert_eq!(spool.status().pending, 0);
}

#[test]
fn records_that_neither_side_has_are_a_gap_and_the_stream_goes_on() {
    let bench = Bench::small(1 << 20, 1 << 16, 1_000);
    let spool = bench.open();
    let stream = spool.stream();
    let places: Vec<Recorded> = (0..20).map(|n| spool.record(draft(&n.to_string())).unwrap()).collect();
    spool.trim(&stream, places[19].sequence).unwrap();
    let missing = Sequence(2);
    let said = spool.reconcile(&stream, &at(1, places[0].leaf)).unwrap();
    assert_eq!(said, Reconciled::LedgerBehind { missing });
    assert!(spool.status().pending > 0, "what is still here is sent");
    assert_eq!(spool.stream(), stream);
}

#[test]
fn a_ledger_that_is_ahead_means_that_this_disk_went_back() {
    let bench = Bench::new();
    let spool = bench.open();
    let old = spool.stream();
    spool.record(draft("a")).unwrap();
    let there = Digest::sha256(b"a record that this disk has lost");
    let said = spool.reconcile(&old, &at(7, there)).unwrap();
    let new = spool.stream();
    assert_ne!(new, old);
    assert!(matches!(&said, Reconciled::NewStream { old: o, new: n, .. } if *o == old && *n == new), "{said:?}");
    let records = pending(&spool);
    let predecessor = records[0].data_as::<StreamOpened>().unwrap().predecessor.unwrap();
    assert_eq!((predecessor.stream, predecessor.sequence, predecessor.digest), (old.clone(), Sequence(7), there));
    assert_eq!(spool.record(draft("b")).unwrap().stream, new);
    drop(spool);
    let spool = bench.open();
    assert_eq!(spool.stream(), new);
    assert!(bench.path().join("aside").join(old.as_str()).is_dir());
}

#[test]
fn another_history_is_left_and_what_is_pending_is_carried_over() {
    let bench = Bench::new();
    let spool = bench.open();
    let old = spool.stream();
    let places = spool.append(vec![draft("a"), draft("b")]).unwrap();
    bench.clock.advance(Duration::from_secs(1));
    spool.tick().unwrap();
    // A clone of this disk was faster: the ledger has another record 1.
    let said = spool.reconcile(&old, &at(1, Digest::sha256(b"the clone's"))).unwrap();
    assert!(matches!(said, Reconciled::NewStream { carried: 2, .. }), "{said:?}");
    let records = pending(&spool);
    assert_eq!(versions(&records), ["a", "b"], "its own heads and opening stay behind");
    assert_eq!(records[1].foreignid, Some(format!("{old}/{}", places[0].sequence.padded())));
    let predecessor = records[0].data_as::<StreamOpened>().unwrap().predecessor.unwrap();
    assert_eq!(predecessor.stream, old);
    assert_eq!(spool.reconcile(&old, &UNKNOWN).unwrap(), Reconciled::OneHistory, "it is no longer this spool's");
}

#[test]
fn a_retired_stream_that_the_ledger_will_not_take_is_carried_into_the_current_one() {
    let bench = Bench::new();
    let spool = bench.open();
    let old = spool.stream();
    spool.record(draft("a")).unwrap();
    let segment = bench.segments(&spool).remove(0);
    let end = fs::metadata(&segment).unwrap().len() as usize;
    spool.record(draft("b")).unwrap();
    spool.record(draft("c")).unwrap();
    drop(spool);
    let mut bytes = fs::read(&segment).unwrap();
    bytes[end + 50] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let spool = bench.open();
    assert_ne!(spool.stream(), old);
    let said = spool.reconcile(&old, &at(1, Digest::sha256(b"other"))).unwrap();
    assert!(matches!(said, Reconciled::NewStream { carried: 1, .. }), "{said:?}");
    let records = pending(&spool);
    assert_eq!(records[0].stream, spool.stream());
    assert_eq!(versions(&records), ["a"]);
}

#[test]
fn a_crash_while_the_stream_is_switched_is_finished_at_the_next_start() {
    // As left by a crash after `current` was replaced and before the old folder was moved.
    let bench = Bench::new();
    let spool = bench.open();
    let old = spool.stream();
    spool.record(draft("a")).unwrap();
    let new = StreamId::new(&node(), [3; 16]);
    let producer = streams::Producer {
        folder: &bench.path(),
        node: &node(),
        key: &key(),
        clock: &*bench.clock,
        random: &SystemRandom,
    };
    drop(spool);
    let made = producer.begin_for_test(&old);
    assert_ne!(made, new);
    let spool = bench.open();
    assert_eq!(spool.stream(), made);
    let first = spool.pending(ALL, ALL).unwrap().unwrap();
    assert_eq!(first.stream, old, "the predecessor is still sent");
}
