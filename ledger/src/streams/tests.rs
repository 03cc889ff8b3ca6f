use cairn_schemas::data::{CheckpointSeen, ContainmentFinished, Predecessor};
use cairn_schemas::ids::{ReleaseRef, Serial};
use cairn_schemas::types::NodeKind;

use super::*;
use crate::fixture::{Producer, at, capabilities, opened};

/// The rules with the ledger that they make.
struct Rules {
    streams: Streams,
    written: Vec<Written>,
    control: Producer,
}

impl Rules {
    /// With a control stream, and the nodes `sensor-1` and `sensor-2` joined.
    fn new() -> Rules {
        let (streams, first) = Streams::create(&opened(), at(0)).unwrap();
        let mut rules = Rules { streams, written: vec![first], control: Producer::control() };
        let opening = rules.control.opening(None);
        let control = rules.control.stream();
        rules.give(&control, opening).unwrap();
        for producer in [Producer::named("sensor-1", 11, 1), Producer::named("sensor-2", 12, 2)] {
            rules.join(producer.joined()).unwrap();
        }
        rules
    }

    fn join(&mut self, draft: Draft) -> Result<Outcome, Refusal> {
        let record = self.control.seal(draft);
        let control = self.control.stream();
        self.give(&control, record)
    }

    fn give(&mut self, stream: &StreamId, bytes: Vec<u8>) -> Result<Outcome, Refusal> {
        self.give_with(stream, bytes, &History::new())
    }

    fn give_with(&mut self, stream: &StreamId, bytes: Vec<u8>, history: &History) -> Result<Outcome, Refusal> {
        let incoming = Incoming::read(stream, &bytes);
        let before = self.written.len();
        let answer = self.streams.accept(stream, &incoming, history, at(3), &mut self.written);
        let room: usize =
            self.written[before..].iter().map(|(bytes, _)| bytes.len() + crate::wal::FRAME_HEADER_LEN).sum();
        assert!(room as u64 <= incoming.room());
        assert_eq!(self.streams.next().0, self.written.len() as u64);
        answer
    }

    /// An open stream of `sensor-1`.
    fn sensor(&mut self) -> Producer {
        let mut sensor = Producer::named("sensor-1", 11, 1);
        let opening = sensor.opening(None);
        self.give(&sensor.stream(), opening).unwrap();
        sensor
    }

    fn last<T: cairn_schemas::data::RecordData>(&self) -> T {
        Record::parse(&self.written.last().unwrap().0).unwrap().data_as().unwrap()
    }

    /// The state is the same when it is rebuilt from the records.
    fn replayed(&self) -> Streams {
        let (mut streams, _) = Streams::replay_first(&self.written[0].0).unwrap();
        for (bytes, leaf) in &self.written[1..] {
            streams.replay(bytes, *leaf).unwrap();
        }
        let show = |streams: &Streams| {
            let mut all: Vec<String> = streams
                .streams
                .iter()
                .map(|(id, stream)| {
                    format!(
                        "{id} {:?} {:?} {:?} {}",
                        stream.recent,
                        stream.opened,
                        stream.foreignids,
                        stream.forks_noted.len()
                    )
                })
                .collect();
            all.sort();
            (all, streams.own.next(), streams.own.prev(), streams.next, streams.nodes.len())
        };
        assert_eq!(show(&streams), show(&self.streams));
        streams
    }
}

/// A place in volume 1.
fn here(index: u64) -> Place {
    Place { volume: 1, index: RecordIndex(index) }
}

fn taken(index: u64) -> Result<Outcome, Refusal> {
    Ok(Outcome::Taken(RecordIndex(index)))
}

#[test]
fn records_that_follow_are_taken_and_repeats_get_their_first_index() {
    let mut rules = Rules::new();
    let mut sensor = rules.sensor();
    let (a, b, head) = (sensor.record(1), sensor.record(2), sensor.head());
    let stream = sensor.stream();
    assert_eq!(rules.give(&stream, a.clone()), taken(5));
    assert_eq!(rules.give(&stream, b.clone()), taken(6));
    assert_eq!(rules.give(&stream, head.clone()), taken(7));
    for (bytes, index) in [(a, 5), (b, 6), (head, 7)] {
        assert_eq!(rules.give(&stream, bytes), Ok(Outcome::Repeat(here(index))));
    }
    assert_eq!(rules.written.len(), 8);
    let position = rules.streams.position(&stream).unwrap();
    assert_eq!((position.sequence, position.place, position.leaf), (Sequence(3), Some(here(7)), sensor.chain.prev()));
    rules.replayed();
}

#[test]
fn a_stream_begins_with_its_opening() {
    let mut rules = Rules::new();
    let refused = |rules: &mut Rules, producer: &Producer, bytes: Vec<u8>, expected: &str| {
        let refusal = rules.give(&producer.stream(), bytes).unwrap_err();
        assert!(refusal.to_string().contains(expected), "{refusal}");
    };
    let mut stranger = Producer::named("stranger", 20, 9);
    let opening = stranger.opening(None);
    refused(&mut rules, &stranger, opening, "has not joined");
    let mut other_key = Producer::named("sensor-1", 99, 9);
    let opening = other_key.opening(None);
    refused(&mut rules, &other_key, opening, "another key");
    let mut sensor = Producer::named("sensor-1", 11, 1);
    let record = sensor.record(1);
    refused(&mut rules, &sensor, record, "a stream begins with cairn.stream.opened.v1");
    let late = sensor.opening(None);
    refused(&mut rules, &sensor, late, "at sequence 0");
    refused(&mut rules, &sensor, b"{}".to_vec(), "cannot begin with this record");
    let mut sensor = Producer::named("sensor-1", 11, 1);
    let own = Predecessor { stream: sensor.stream(), sequence: Sequence(0), digest: Digest::ZERO };
    let opening = sensor.opening(Some(own));
    refused(&mut rules, &sensor, opening, "is not an earlier stream of sensor-1");
    let mut sensor = Producer::named("sensor-1", 11, 1);
    let foreign = Predecessor {
        stream: Producer::named("sensor-2", 12, 2).stream(),
        sequence: Sequence(0),
        digest: Digest::ZERO,
    };
    let opening = sensor.opening(Some(foreign));
    refused(&mut rules, &sensor, opening, "is not an earlier stream of sensor-1");
    assert_eq!(rules.give(&StreamId::ledger(), b"{}".to_vec()), Err(Refusal::OwnStream));
    assert_eq!(rules.written.len(), 4, "nothing of these is in the ledger");
}

#[test]
fn a_lost_disk_opens_a_new_stream_after_its_predecessor() {
    let mut rules = Rules::new();
    let first = rules.sensor();
    let mut second = Producer::named("sensor-1", 11, 7);
    let before = Predecessor { stream: first.stream(), sequence: Sequence(0), digest: first.chain.prev() };
    let opening = second.opening(Some(before));
    assert_eq!(rules.give(&second.stream(), opening.clone()), taken(5));
    assert_eq!(rules.give(&second.stream(), opening), Ok(Outcome::Repeat(here(5))));
    // Opening it once more is not valid, and changes nothing else.
    let again = second.opening(None);
    let outcome = rules.give(&second.stream(), again).unwrap();
    assert_eq!(outcome, Outcome::Rejected(RecordIndex(6), "the stream was opened before".into()));
    rules.replayed();
}

#[test]
fn a_gap_is_taken_and_noted() {
    let mut rules = Rules::new();
    let mut sensor = rules.sensor();
    let stream = sensor.stream();
    let expected = sensor.chain.prev();
    let (lost, lost_too) = (sensor.record(1), sensor.record(2));
    let found = sensor.chain.prev();
    let after = sensor.record(3);
    assert_eq!(rules.give(&stream, after.clone()), taken(6), "the note stands before it");
    let gap = Record::parse(&rules.written[5].0).unwrap().data_as::<StreamGap>().unwrap();
    assert_eq!(gap, StreamGap { stream: stream.clone(), from: Sequence(1), to: Sequence(2), expected, found });
    // What was passed over does not come in later.
    for late in [lost, lost_too] {
        assert!(matches!(rules.give(&stream, late), Err(Refusal::PassedOver { last: Sequence(3), .. })));
    }
    assert_eq!(rules.give(&stream, after), Ok(Outcome::Repeat(here(6))));
    let head = sensor.head();
    assert_eq!(rules.give(&stream, head), taken(7));
    rules.replayed();
}

#[test]
fn a_fork_is_refused_and_noted_once() {
    let mut rules = Rules::new();
    let mut sensor = rules.sensor();
    let stream = sensor.stream();
    let mut clone = Producer { chain: sensor.chain.clone(), key: sensor.key.clone(), node: sensor.node.clone() };
    let (ours, theirs) = (sensor.record(1), clone.record(2));
    assert_eq!(rules.give(&stream, ours.clone()), taken(5));
    let refusal = Refusal::Forked {
        stream: stream.clone(),
        sequence: Sequence(1),
        accepted: Digest::leaf(&ours),
        refused: Digest::leaf(&theirs),
    };
    assert_eq!(rules.give(&stream, theirs.clone()), Err(refusal.clone()));
    let forked: StreamForked = rules.last();
    assert_eq!(
        (forked.sequence, forked.accepted, forked.refused),
        (Sequence(1), Digest::leaf(&ours), Digest::leaf(&theirs))
    );
    // The clone goes on: its next record follows one that was refused. That is the same fork, and noted already.
    let next = clone.record(3);
    assert_eq!(rules.give(&stream, next), Err(refusal.clone()));
    assert_eq!(rules.give(&stream, theirs), Err(refusal));
    assert_eq!(rules.written.len(), 7);
    // The stream itself goes on.
    let more = sensor.record(4);
    assert_eq!(rules.give(&stream, more), taken(7));
    rules.replayed();
}

#[test]
fn forks_are_noted_up_to_a_limit_and_refused_beyond() {
    let mut rules = Rules::new();
    let mut sensor = rules.sensor();
    let stream = sensor.stream();
    let before = sensor.chain.clone();
    let record = sensor.record(0);
    rules.give(&stream, record).unwrap();
    let written = rules.written.len();
    for number in 1..=FORKS_NOTED_MAX as u64 + 1 {
        let other = before.clone().seal(capabilities(number), at(1)).unwrap().bytes;
        assert!(matches!(rules.give(&stream, other), Err(Refusal::Forked { .. })));
    }
    assert_eq!(rules.written.len(), written + FORKS_NOTED_MAX);
    rules.replayed();
}

#[test]
fn an_invalid_record_is_replaced_and_the_stream_goes_on() {
    let mut rules = Rules::new();
    let mut sensor = rules.sensor();
    let stream = sensor.stream();
    let good = sensor.record(1);
    let bad = String::from_utf8(good).unwrap().replace("\"live\":true", "\"live\":\"x\"").into_bytes();
    let outcome = rules.give(&stream, bad.clone()).unwrap();
    let Outcome::Rejected(RecordIndex(5), reason) = &outcome else { panic!("{outcome:?}") };
    assert!(reason.contains("invalid type: string"), "{reason}");
    let rejected: StreamRejected = rules.last();
    assert_eq!(
        (rejected.stream, rejected.sequence, rejected.digest),
        (stream.clone(), Sequence(1), Digest::leaf(&bad))
    );
    assert_eq!(&rejected.reason, reason);
    assert_eq!(rules.give(&stream, bad.clone()), Ok(Outcome::Repeat(here(5))));
    // The producer's next record follows the bytes that it sent.
    sensor.chain = Chain::resume(stream.clone(), Sequence(2), Digest::leaf(&bad), 0, at(1));
    let next = sensor.record(2);
    assert_eq!(rules.give(&stream, next), taken(6));
    rules.replayed();
}

#[test]
fn bytes_that_say_nothing_take_the_next_place() {
    let mut rules = Rules::new();
    let mut sensor = rules.sensor();
    let stream = sensor.stream();
    for (index, garbage) in [(5, &b"not json"[..]), (6, b""), (7, &[0xff; 70_000]), (8, b"{\"sequence\":5}")] {
        let outcome = rules.give(&stream, garbage.to_vec()).unwrap();
        assert!(matches!(outcome, Outcome::Rejected(at, _) if at.0 == index), "{outcome:?}");
        assert_eq!(rules.give(&stream, garbage.to_vec()), Ok(Outcome::Repeat(here(index))));
    }
    assert_eq!(rules.streams.position(&stream).unwrap().sequence, Sequence(4));
    // A record of another stream says where it belongs, but not here.
    let elsewhere = Producer::named("sensor-2", 12, 2).opening(None);
    let Ok(Outcome::Rejected(_, reason)) = rules.give(&stream, elsewhere) else { panic!() };
    assert!(reason.contains("names stream sensor-2."), "{reason}");
    sensor.chain = Chain::resume(stream.clone(), Sequence(6), rules.streams.position(&stream).unwrap().leaf, 0, at(1));
    let next = sensor.record(1);
    assert_eq!(rules.give(&stream, next), taken(10));
    rules.replayed();
}

#[test]
fn a_type_of_another_role_is_rejected() {
    let mut rules = Rules::new();
    let mut sensor = rules.sensor();
    let stream = sensor.stream();
    let record = sensor.seal(Producer::named("sensor-3", 13, 3).joined());
    let outcome = rules.give(&stream, record).unwrap();
    let reason = "type cairn.node.joined.v1 is not one that this producer may write";
    assert_eq!(outcome, Outcome::Rejected(RecordIndex(5), reason.into()));
    let refusal = rules.give(&Producer::named("sensor-3", 13, 3).stream(), b"".to_vec()).unwrap_err();
    assert!(matches!(refusal, Refusal::NotJoined { .. }), "a node cannot let others in");
}

#[test]
fn heads_must_cover_the_record_before_and_be_signed() {
    let mut rules = Rules::new();
    let mut sensor = rules.sensor();
    let stream = sensor.stream();
    let mut reject = |draft: StreamHead, expected: &str| {
        let record = sensor.seal(Draft::new(&draft));
        let Ok(Outcome::Rejected(_, reason)) = rules.give(&stream, record) else { panic!("{expected}") };
        assert!(reason.contains(expected), "{reason}");
        sensor.chain.prev()
    };
    let key = |seed| ed25519_dalek::SigningKey::from_bytes(&[seed; 32]);
    let sign = |seed, sequence, digest| {
        let seen = CheckpointSeen { origin: "test/1".into(), size: 1, root: Digest::ZERO };
        head::sign(&key(seed), &stream, Sequence(sequence), digest, Some(seen)).unwrap()
    };
    let first = reject(sign(11, 0, Digest::ZERO), "does not cover the record before it");
    let second = reject(sign(11, 0, first), "does not cover the record before it");
    let third = reject(sign(12, 2, second), "is not signed by the stream's key");
    let mut forged = sign(11, 3, third);
    forged.checkpoint = None;
    reject(forged, "is not signed by the stream's key");
    let head = sensor.head();
    assert_eq!(rules.give(&stream, head), taken(9));
}

#[test]
fn a_node_joins_once() {
    let mut rules = Rules::new();
    let again = Producer::named("sensor-1", 11, 1).joined();
    assert!(matches!(rules.join(again), Ok(Outcome::Taken(_))), "the same again is no harm");
    let Ok(Outcome::Rejected(_, reason)) = rules.join(Producer::named("sensor-1", 50, 1).joined()) else { panic!() };
    assert!(reason.contains("joined before"), "{reason}");
    let Ok(Outcome::Rejected(..)) = rules.join(Producer::named("control", 51, 1).joined()) else { panic!() };
    let admission = |draft: Draft| {
        let mut draft = draft;
        draft.data["kind"] = serde_json::to_value(NodeKind::Admission).unwrap();
        draft
    };
    let Ok(Outcome::Rejected(..)) = rules.join(admission(Producer::named("sensor-1", 11, 1).joined())) else {
        panic!()
    };
    assert!(matches!(rules.join(admission(Producer::named("gate", 52, 1).joined())), Ok(Outcome::Taken(_))));
    rules.replayed();
}

#[test]
fn a_foreign_id_is_used_once_in_its_stream() {
    let mut rules = Rules::new();
    let mut sensor = rules.sensor();
    let stream = sensor.stream();
    let record = sensor.seal(capabilities(1).foreignid("ticket-7"));
    assert_eq!(rules.give(&stream, record.clone()), taken(5));
    assert_eq!(rules.give(&stream, record), Ok(Outcome::Repeat(here(5))));
    let again = sensor.seal(capabilities(2).foreignid("ticket-7"));
    let outcome = rules.give(&stream, again).unwrap();
    assert_eq!(outcome, Outcome::Rejected(RecordIndex(6), "foreignid \"ticket-7\" is that of record 5".into()));
    for streams in [&rules.streams, &rules.replayed()] {
        assert_eq!(streams.foreign(&stream, "ticket-7"), Some(here(5)));
        assert_eq!(streams.foreign(&stream, "ticket-8"), None);
    }
    let control = rules.control.stream();
    assert_eq!(rules.streams.foreign(&control, "ticket-7"), None, "unique in its stream, not beyond");
}

#[test]
fn old_repeats_are_found_by_their_history() {
    let mut rules = Rules::new();
    let mut sensor = rules.sensor();
    let stream = sensor.stream();
    let records: Vec<Vec<u8>> = (0..=RECENT_MAX as u64).map(|number| sensor.record(number)).collect();
    for record in &records {
        rules.give(&stream, record.clone()).unwrap();
    }
    // `stream.opened` and the first record are forgotten now; the second one is the oldest that is remembered.
    let incoming = [Incoming::read(&stream, &records[0]), Incoming::read(&stream, &records[1])];
    assert_eq!(rules.streams.forgotten(&stream, &incoming), Some((here(4), vec![Sequence(1)])));
    assert_eq!(rules.give(&stream, records[1].clone()), Ok(Outcome::Repeat(here(6))));
    assert!(matches!(rules.give(&stream, records[0].clone()), Err(Refusal::PassedOver { .. })));
    let history = History::from([(Sequence(1), (here(5), Digest::leaf(&records[0])))]);
    let repeat = rules.give_with(&stream, records[0].clone(), &history);
    assert_eq!(repeat, Ok(Outcome::Repeat(here(5))));
    let other = History::from([(Sequence(1), (here(5), Digest::ZERO))]);
    assert!(matches!(rules.give_with(&stream, records[0].clone(), &other), Err(Refusal::Forked { .. })));
}

#[test]
fn sequences_at_their_limit_and_one_past_it() {
    let mut rules = Rules::new();
    let mut sensor = rules.sensor();
    let stream = sensor.stream();
    let mut give = |sequence: u64| {
        sensor.chain = Chain::resume(stream.clone(), Sequence(7), Digest::ZERO, 0, at(0));
        let record = String::from_utf8(sensor.record(0)).unwrap();
        rules.give(&stream, record.replace(&Sequence(7).padded(), &Sequence(sequence).padded()).into_bytes())
    };
    for sequence in [SEQUENCE_MAX + 1, u64::MAX] {
        assert!(matches!(give(sequence), Err(Refusal::SequenceTooLarge { .. })));
    }
    assert_eq!(give(SEQUENCE_MAX), taken(6));
    assert!(matches!(give(SEQUENCE_MAX + 1), Err(Refusal::SequenceTooLarge { .. })));
}

#[test]
fn reasons_are_cut_at_their_limit() {
    assert_eq!(cut("a\u{1b}b\nc"), "a?b?c");
    assert_eq!(cut(&"x".repeat(REASON_LEN_MAX)).len(), REASON_LEN_MAX);
    assert_eq!(cut(&"é".repeat(REASON_LEN_MAX)).len(), REASON_LEN_MAX);
    assert_eq!(cut(&("x".to_owned() + &"é".repeat(REASON_LEN_MAX))).len(), REASON_LEN_MAX - 1);
    let mut rules = Rules::new();
    let stream = rules.sensor().stream();
    // The worst that a reason can hold: every character doubles when it is written.
    let hostile = format!("{{\"specversion\":\"{}\"}}", "\\\\\\\"".repeat(5_000));
    rules.give(&stream, hostile.into_bytes()).unwrap();
}

#[test]
fn records_of_a_later_version_take_their_place() {
    let mut rules = Rules::new();
    let sensor = rules.sensor();
    let stream = sensor.stream();
    let record = Producer { chain: sensor.chain.clone(), key: sensor.key.clone(), node: sensor.node.clone() }.record(1);
    let later = String::from_utf8(record).unwrap().replace("cairn.node.capabilities.v1", "cairn.node.dreamt.v9");
    rules.streams.replay(later.as_bytes(), Digest::leaf(later.as_bytes())).unwrap();
    assert_eq!(rules.streams.position(&stream).unwrap().sequence, Sequence(1));
    let again = rules.streams.replay(later.as_bytes(), Digest::leaf(later.as_bytes())).unwrap_err();
    assert!(again.to_string().contains("is past sequence 1"), "{again}");
    let unknown = Producer::named("sensor-2", 12, 5).record(1);
    assert!(rules.streams.replay(&unknown, Digest::ZERO).unwrap_err().to_string().contains("is not open"));
}

#[test]
fn attributes_are_the_same_from_the_end_and_from_the_whole() {
    let mut sensor = Producer::named("sensor-1", 11, 1);
    let mut tricky = capabilities(1);
    tricky.data["can"] = serde_json::json!([r#"","type":"cairn.x.v1"}"#, r#"","source":"/streams/ledger"#, "é\u{1}\\"]);
    let read_end = |record: &[u8]| Attributes::read_end(record, &mut Ids::default());
    let read_all = |record: &[u8]| Attributes::read_all(record, &mut Ids::default());
    let finished = ContainmentFinished {
        request: Sequence(1),
        outcome: cairn_schemas::data::Outcome::Killed,
        error: None,
        acted_us: 7,
    };
    let release = ReleaseRef { serial: Serial(7), digest: Digest::sha256(b"content") };
    let plain = [
        sensor.opening(None),
        sensor.record(7),
        sensor.head(),
        sensor.seal(tricky.clone()),
        sensor.seal(tricky.clone().subject("somebody, é")),
        sensor.seal(capabilities(2).subject("somebody \\").foreignid("é,1")),
        sensor.seal(Draft::new(&finished).release(release)),
        Producer::control().opening(None),
    ];
    for record in &plain {
        let found = read_end(record);
        assert!(found.is_some(), "{}", String::from_utf8_lossy(record));
        assert_eq!(found, read_all(record).ok());
    }
    assert_eq!(read_end(&plain[5]).unwrap().foreignid, Some(short("é,1")));
    // Escapes are the other way's.
    for (draft, foreignid) in [
        (tricky.clone().foreignid(r#"},"foreignid":"1"#), Some(r#"},"foreignid":"1"#)),
        (tricky.clone().foreignid("\\1"), Some("\\1")),
        (tricky.clone().subject(r#"","specversion":"1.0"#), None),
    ] {
        let record = sensor.seal(draft);
        assert_eq!(read_end(&record), None);
        let found = Attributes::read(&record, &mut Ids::default());
        assert_eq!(found, read_all(&record));
        assert_eq!(found.unwrap().foreignid, foreignid.map(short));
    }
    // Whatever is cut off or changed is never something else than before.
    for record in &plain[4..7] {
        for at in 0..record.len() {
            assert_eq!(read_end(&record[..at]), None);
            let mut changed = record.clone();
            changed[at] = b' ';
            if let (Some(found), Ok(whole)) = (read_end(&changed), read_all(&changed)) {
                assert_eq!(found, whole, "byte {at}");
            }
        }
    }
    // Ids are read once, whichever stream comes next.
    let (mut ids, mut other) = (Ids::default(), Producer::control());
    let mixed = [plain[0].clone(), other.opening(None), plain[1].clone(), other.record(1)];
    for record in &mixed {
        assert_eq!(Attributes::read(record, &mut ids), read_all(record));
    }
    assert!(Attributes::read(b"garbage", &mut ids).is_err());
}
