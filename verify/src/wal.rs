//! How many records wait in the write-ahead log.
//!
//! What only the log holds is not published: no checkpoint speaks of it, and nothing here checks it. It is counted, so that an
//! auditor sees that the ledger has taken more than it shows. The layout is that of `ledger/FORMAT.md`, Write-ahead log; a torn end
//! is no fault.

use cairn_ledger::tile::ENTRY_LEN_MAX;
use cairn_schemas::ids::TreeSize;

use crate::source::Source;

/// The log's folder.
pub(crate) const WAL_FOLDER: &str = "wal";
/// Longest segment that is read, bytes: four times what the writer makes.
const SEGMENT_LEN_MAX: u64 = 64 << 20;
const HEADER_LEN: usize = 64;
const FRAME_HEADER_LEN: usize = 24;

/// How many files the log has, and how many records in it the checkpoint does not cover.
pub(crate) fn waiting(source: &Source, size: TreeSize) -> (u64, u64) {
    let names = source.list(WAL_FOLDER).unwrap_or_default();
    let segments = names.iter().filter(|(name, _)| name.ends_with(".wal"));
    let records = segments
        .filter_map(|(name, _)| source.read(&format!("{WAL_FOLDER}/{name}"), SEGMENT_LEN_MAX).ok())
        .map(|segment| count(&segment, size))
        .sum();
    (names.len() as u64, records)
}

/// The frames of one segment that are whole, follow each other, and lie beyond the checkpoint.
fn count(segment: &[u8], size: TreeSize) -> u64 {
    let mut rest = segment.get(HEADER_LEN..).unwrap_or_default();
    let (mut waiting, mut expected) = (0, None);
    while let Some((index, after)) = frame(rest) {
        // In a segment that was used before, older frames follow the last one.
        if expected.is_some_and(|expected| index != expected) {
            break;
        }
        waiting += u64::from(index >= size.0);
        expected = index.checked_add(1);
        rest = after;
    }
    waiting
}

/// The index of the frame at the beginning, and what stands after it.
fn frame(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let header = bytes.first_chunk::<FRAME_HEADER_LEN>()?;
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let len = usize::try_from(number(0)).ok().filter(|len| *len <= ENTRY_LEN_MAX)?;
    let (frame, after) = bytes.split_at_checked(FRAME_HEADER_LEN + len)?;
    let crc = crc32c(frame[..4].iter().chain(&frame[8..]));
    (crc == number(4)).then_some((u64::from(number(8)) << 32 | u64::from(number(12)), after))
}

/// CRC-32C (Castagnoli), as RFC 3720 has it.
fn crc32c<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let (mut crc, mut bit) = (byte as u32, 0);
            while bit < 8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
                bit += 1;
            }
            table[byte] = crc;
            byte += 1;
        }
        table
    };
    !bytes.fold(!0, |crc, byte| crc >> 8 ^ TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame_of(index: u64, record: &[u8]) -> Vec<u8> {
        let mut frame =
            [&(record.len() as u32).to_be_bytes()[..], &[0; 4], &index.to_be_bytes(), &[0; 8], record].concat();
        let crc = crc32c(frame[..4].iter().chain(&frame[8..]));
        frame[4..8].copy_from_slice(&crc.to_be_bytes());
        frame
    }

    #[test]
    fn known_answer() {
        assert_eq!(crc32c(b"123456789".iter()), 0xe306_9283);
    }

    #[test]
    fn frames_beyond_the_checkpoint_are_counted_up_to_the_first_that_is_none() {
        let mut segment = vec![0; HEADER_LEN];
        (5..9).for_each(|index| segment.extend(frame_of(index, b"record")));
        let end = segment.len();
        segment.extend(frame_of(3, b"from an earlier use"));
        segment.extend([0; 500]);
        assert_eq!(count(&segment, TreeSize(0)), 4);
        assert_eq!(count(&segment, TreeSize(7)), 2);
        assert_eq!(count(&segment, TreeSize(9)), 0);
        segment[end - 1] ^= 1;
        assert_eq!(count(&segment, TreeSize(7)), 1);
        for len in [0, HEADER_LEN, HEADER_LEN + 10] {
            assert_eq!(count(&segment[..len], TreeSize(0)), 0);
        }
    }
}
