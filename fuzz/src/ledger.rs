//! What a verifier reads: notes, checkpoints, proofs, bundles, policies, and records.

use cairn_ledger::checkpoint::Checkpoint;
use cairn_ledger::endorsement::Endorsement;
use cairn_ledger::note::{Note, VerifierKey};
use cairn_ledger::policy::Policy;
use cairn_ledger::proof::Proof;
use cairn_ledger::tile::{TileId, decode_entries, decode_hashes, encode_entry, encode_hashes};
use cairn_schemas::canonical;
use cairn_schemas::commitment::Disclosure;
use cairn_schemas::digest::Digest;
use cairn_schemas::outline::Outline;
use cairn_schemas::record::Record;

/// The origin and the key of the ledger's vectors.
const ORIGIN: &str = "ledger.example/1";
const KEY: &str = "ledger.example/1+0129fd45+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c";
const ROOT: &str = "ledger.example/root+44c81d60+AQ11UHVOCACl0jfu9YJgNXZrmz5aFYaKlAqyiZWHiOOw";

fn key(text: &str) -> VerifierKey {
    text.parse().expect("a key of the vectors")
}

/// The ledger's formats; the first byte says which. What can be read has one spelling.
pub fn ledger(data: &[u8]) {
    let Some((which, body)) = data.split_first() else { return };
    let text = std::str::from_utf8(body);
    match which % 6 {
        0 => checkpoint(body),
        1 => {
            let Ok(proof) = Proof::parse(body) else { return };
            assert_eq!(proof.to_bytes(), body);
            let _ = proof.verify(&Digest::leaf(b"record"), ORIGIN, &[key(KEY)]);
        }
        // A policy, and behind a line of four dashes the checkpoint that it is held against.
        2 => {
            const RULE: &[u8] = b"----\n";
            let at = body.windows(RULE.len()).position(|window| window == RULE);
            let (policy, note) = at.map_or((body, &[][..]), |at| (&body[..at], &body[at + RULE.len()..]));
            let Ok(policy) = Policy::parse(policy) else { return };
            let _ = policy.check(note, ORIGIN, &[key(KEY)]);
        }
        3 => {
            let Ok(text) = text else { return };
            let _ = Endorsement::verify(text, &key(ROOT));
            if let Ok(key) = text.parse::<VerifierKey>() {
                assert_eq!(key.to_string(), text);
            }
        }
        // A tile's path in a line, then its bytes.
        4 => {
            let end = body.iter().position(|byte| *byte == b'\n').unwrap_or(body.len());
            let bytes = body.get(end + 1..).unwrap_or_default();
            let Some(tile) = std::str::from_utf8(&body[..end]).ok().and_then(|path| path.parse::<TileId>().ok()) else {
                return;
            };
            if let Ok(entries) = decode_entries(tile, bytes) {
                let mut bundle = Vec::new();
                entries.iter().for_each(|entry| encode_entry(&mut bundle, entry));
                assert_eq!(bundle, bytes);
            }
            if let Ok(hashes) = decode_hashes(tile, bytes) {
                assert_eq!(encode_hashes(&hashes), bytes);
            }
        }
        _ => {
            let Some(read) = text.ok().and_then(|text| Disclosure::parse(text).ok()) else { return };
            let again = Disclosure::new(*read.salt(), read.name(), read.value()).map(|again| again.text().to_owned());
            if let Ok(again) = again {
                let again = Disclosure::parse(&again).expect("a disclosure that was just written");
                assert_eq!((again.salt(), again.name(), again.value()), (read.salt(), read.name(), read.value()));
            }
        }
    }
}

fn checkpoint(bytes: &[u8]) {
    let Ok(note) = Note::parse(bytes) else { return };
    let _ = note.verify(&[key(KEY)]);
    let Ok((checkpoint, _)) = Checkpoint::parse(bytes) else { return };
    assert_eq!(checkpoint.to_text(), note.text());
    let _ = Checkpoint::verify(bytes, ORIGIN, &[key(KEY)]);
}

/// A record: the quick reader and the whole one take the same bytes and read the same, and what is read is written as it was.
pub fn record(data: &[u8]) {
    if let Ok(value) = canonical::parse(data) {
        assert_eq!(canonical::to_bytes(&value).expect("what is canonical can be written"), data);
    }
    let (outline, record) = (Outline::read(data), Record::parse(data));
    let (outline, record) = match (outline, record) {
        (Ok(outline), Ok(record)) => (outline, record),
        (outline, record) => {
            assert_eq!(outline.is_ok(), record.is_ok(), "{outline:?}\n{record:?}");
            return;
        }
    };
    assert_eq!(record.to_bytes().expect("a record that was just read"), data);
    assert_eq!((&outline.stream, outline.sequence, outline.kind), (&record.stream, record.sequence, record.kind));
    assert_eq!((outline.prevdigest, outline.time), (record.prevdigest, record.time));
    assert_eq!((&outline.release, outline.foreignid.as_deref()), (&record.release, record.foreignid.as_deref()));
}
