//! A group of records as an object: the frames of the write-ahead log, packed. A request's cost at the server is mostly by its bytes, and
//! records of one fleet are alike.

use cairn_schemas::ids::RecordIndex;

use crate::streams::Written;
use crate::wal::{GROUP_LEN_MAX, decode_group, encode_group};

/// The fastest of zstd's levels that are made for size too; the next ones cost more time than they save requests.
const LEVEL: i32 = 1;

/// The object that holds a group whose first record is number `first` (FORMAT.md, Staging).
pub(crate) fn pack(first: RecordIndex, records: &[Written]) -> Vec<u8> {
    pack_frames(&encode_group(first, records))
}

fn pack_frames(frames: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(frames, LEVEL)
        .expect("invariant: there is room for whatever this comes to, and the level exists")
}

/// The records of such an object; `None` if it is not exactly one whole group that begins with record `first`. Whatever the bytes are,
/// no more than a group's limit is made of them.
pub(crate) fn unpack(object: &[u8], first: u64) -> Option<Vec<Vec<u8>>> {
    let limit = usize::try_from(GROUP_LEN_MAX).expect("invariant: a group fits in memory");
    let frames = zstd::bulk::decompress(object, limit).ok()?;
    let records = decode_group(&frames, first)?;
    Some(records.into_iter().map(<[u8]>::to_vec).collect())
}

#[cfg(test)]
mod tests {
    use cairn_schemas::digest::Digest;
    use proptest::prelude::*;

    use super::*;

    fn group(records: &[Vec<u8>]) -> Vec<Written> {
        records.iter().map(|record| (record.clone().into(), Digest::leaf(record))).collect()
    }

    #[test]
    fn a_group_that_says_more_than_the_limit_is_refused_and_one_at_the_limit_is_read() {
        let overhead = crate::wal::FRAME_HEADER_LEN;
        let record = vec![b'x'; 65_000];
        let whole = usize::try_from(GROUP_LEN_MAX).unwrap() / (record.len() + overhead);
        let mut records = vec![record; whole];
        let left = usize::try_from(GROUP_LEN_MAX).unwrap() - whole * (65_000 + overhead);
        records.push(vec![b'y'; left - overhead]);
        assert_eq!(unpack(&pack(RecordIndex(7), &group(&records)), 7).unwrap(), records);

        records.last_mut().unwrap().push(b'y');
        assert!(unpack(&pack(RecordIndex(7), &group(&records)), 7).is_none());
        // A small object that says it is enormous.
        assert!(unpack(&pack_frames(&vec![0; 64 << 20]), 7).is_none());
    }

    proptest! {
        #[test]
        fn what_was_packed_is_unpacked_and_nothing_else_is(
            records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 1..20),
            first in 0_u64..1_000_000,
            at in any::<proptest::sample::Index>(),
            bit in 0_u8..8,
        ) {
            let object = pack(RecordIndex(first), &group(&records));
            prop_assert_eq!(unpack(&object, first), Some(records.clone()));
            prop_assert_eq!(unpack(&object, first + 1), None);
            prop_assert_eq!(unpack(&object[..object.len() - 1], first), None);
            // Every frame has its checksum: a flip is either seen or was in what carries no meaning.
            let mut flipped = object.clone();
            *at.get_mut(&mut flipped) ^= 1 << bit;
            if let Some(read) = unpack(&flipped, first) {
                prop_assert_eq!(read, records);
            }
        }

        #[test]
        fn any_bytes_are_refused_in_peace(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            prop_assert_eq!(unpack(&bytes, 0), None);
        }
    }
}
