use cairn_ledger::producer::Chain;
use cairn_schemas::data::{Inability, NodeCapabilities};
use cairn_schemas::record::Draft;
use cairn_schemas::time::Timestamp;

use super::*;

fn stream() -> StreamId {
    StreamId::new(&"sensor-1".parse().unwrap(), [0xab; 16])
}

fn records(count: usize) -> Vec<Vec<u8>> {
    let mut chain = Chain::new(stream());
    let one = |index: usize| NodeCapabilities {
        live: true,
        version: format!("0.1.{index}"),
        can: Vec::new(),
        cannot: vec![Inability { what: "kill".into(), why: "x".repeat(index) }],
    };
    (0..count).map(|index| chain.seal(Draft::new(&one(index)), Timestamp::from_nanos(1)).unwrap().bytes).collect()
}

/// A segment with one batch per slice.
fn file(batches: &[&[Vec<u8>]]) -> Vec<u8> {
    let mut bytes = Header { stream: stream(), state: ChainState::START }.encode().to_vec();
    for batch in batches {
        let durable = bytes.len() as u64;
        for record in *batch {
            encode_frame(record, durable, &mut bytes);
        }
    }
    bytes
}

#[test]
fn headers_round_trip_and_every_bit_counts() {
    let state = ChainState { next: Sequence(9), prev: Digest::sha256(b"x"), unsigned: 3 };
    let longest = StreamId::new(&"n".repeat(64).parse().unwrap(), [1; 16]);
    for stream in [stream(), longest] {
        let header = Header { stream, state };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Ok(header));
        for at in 0..HEADER_LEN {
            let mut bad = bytes;
            bad[at] ^= 1;
            assert!(Header::decode(&bad).is_err(), "byte {at}");
        }
        assert_eq!(Header::decode(&bytes[..255]), Err(HeaderError::Short { len: 255 }));
    }
    let mut newer = Header { stream: stream(), state }.encode();
    newer[8] = 2;
    assert_eq!(Header::decode(&newer), Err(HeaderError::Version { found: 2 }));
}

#[test]
fn frames_are_the_bytes_of_the_format_document() {
    // The example of node/SPOOL.md, checked byte for byte.
    let document = include_str!("../../../SPOOL.md");
    let example: String = document
        .lines()
        .skip_while(|line| !line.starts_with("```hex"))
        .skip(1)
        .take_while(|line| !line.starts_with("```"))
        .flat_map(|line| line.split('#').next().unwrap_or("").chars())
        .filter(|c| c.is_ascii_hexdigit())
        .collect();
    let mut frame = Vec::new();
    encode_frame(b"{}", 256, &mut frame);
    assert_eq!(example, hex::encode(frame));
}

#[test]
fn a_file_cut_anywhere_keeps_the_records_before_the_cut() {
    let records = records(4);
    let whole = file(&[&records[..2], &records[2..]]);
    let mut ends = vec![HEADER_LEN];
    for record in &records {
        ends.push(ends[ends.len() - 1] + FRAME_HEADER_LEN + record.len());
    }
    for cut in HEADER_LEN..=whole.len() {
        let scan = scan(&whole[..cut]).unwrap();
        let kept = ends.iter().filter(|&&end| end <= cut).count() - 1;
        assert_eq!(scan.places.len(), kept, "cut at {cut}");
        assert_eq!(scan.good_len as usize, ends[kept]);
        assert_eq!(scan.tail == Tail::Clean, ends.contains(&cut));
        assert!(!matches!(scan.tail, Tail::Damaged { .. }), "cut at {cut}");
    }
}

#[test]
fn a_flipped_bit_is_damage_where_something_durable_follows_and_a_torn_tail_where_not() {
    let records = records(4);
    let whole = file(&[&records[..2], &records[2..]]);
    let second_batch = HEADER_LEN + records[..2].iter().map(|record| record.len() + FRAME_HEADER_LEN).sum::<usize>();
    for at in HEADER_LEN..whole.len() {
        let mut bad = whole.clone();
        bad[at] ^= 0x10;
        let scan = scan(&bad).unwrap();
        assert!(scan.good_len as usize <= at, "byte {at}: a bad byte counts as good");
        if at < second_batch {
            assert!(matches!(scan.tail, Tail::Damaged { .. }), "byte {at}");
        } else {
            assert_eq!(scan.tail, Tail::Torn, "byte {at}: nothing says that the last batch was durable");
        }
    }
}

#[test]
fn zeros_and_rubbish_after_the_last_frame_are_a_torn_tail() {
    let records = records(2);
    let whole = file(&[&records]);
    for rubbish in [vec![0u8; 4096], b"\xc5Rec\xff\xff\xff\xff".to_vec(), vec![0xc5; 100]] {
        let scan = scan(&[whole.clone(), rubbish].concat()).unwrap();
        assert_eq!((scan.places.len(), scan.tail), (2, Tail::Torn));
    }
}

#[test]
fn a_good_frame_that_does_not_follow_is_damage() {
    let records = records(3);
    let skipped = file(&[&records[..1], &records[2..]]);
    let scan = scan(&skipped).unwrap();
    assert_eq!(scan.tail, Tail::Damaged { reason: "a record does not follow the one before" });
    assert_eq!(scan.places.len(), 1);
}

#[test]
fn the_state_counts_records_since_the_newest_head() {
    let mut chain = Chain::new(stream());
    let key = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
    let draft = || Draft::new(&NodeCapabilities { live: true, version: "0".into(), can: vec![], cannot: vec![] });
    let now = Timestamp::from_nanos(1);
    let mut records = vec![chain.seal(draft(), now).unwrap().bytes];
    records.push(chain.seal_head(&key, None, now).unwrap().bytes);
    records.push(chain.seal(draft(), now).unwrap().bytes);
    let scan = scan(&file(&[&records])).unwrap();
    assert_eq!(scan.state, ChainState { next: chain.next(), prev: chain.prev(), unsigned: 1 });
}

#[test]
fn any_bytes_are_read_without_a_panic_and_never_as_more_than_they_hold() {
    let records = records(5);
    let whole = file(&[&records[..3], &records[3..]]);
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % below as u64).unwrap()
    };
    for _ in 0..3_000 {
        let mut bytes = whole.clone();
        for _ in 0..1 + next(4) {
            let at = next(bytes.len());
            match next(3) {
                0 => bytes[at] = u8::try_from(next(256)).unwrap(),
                1 => bytes.truncate(at.max(1)),
                _ => bytes.splice(at..at, std::iter::repeat_n(0xc5, 7)).for_each(drop),
            }
        }
        if let Ok(scan) = scan(&bytes) {
            assert!(scan.good_len as usize <= bytes.len());
            let same = scan.places.iter().zip(&records).all(|(place, record)| {
                let at = usize::try_from(place.at).unwrap();
                bytes[at..at + place.len as usize] == record[..]
            });
            assert!(same && scan.places.len() <= records.len(), "what is read is what was written");
        }
    }
}
