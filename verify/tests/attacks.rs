//! Attacks, each with the one fault that must come of it.
//!
//! Most of them are caught by exactly one check. `every_check_matters` holds that: there is no kind of fault without an attack
//! that nothing else notices, so whoever takes a check out of the verifier sees one of these succeed.
#![allow(clippy::unwrap_used, reason = "what a test is built on must be there")]

mod kit;

use std::fs;
use std::path::Path;

use cairn_ledger::head;
use cairn_ledger::note::NoteSigner;
use cairn_ledger::tile::encode_entry;
use cairn_release::content::FileEntry;
use cairn_release::key::ReleaseSigner;
use cairn_schemas::data::{
    CheckpointSeen, NodeLoaded, Predecessor, StreamForked, StreamGap, StreamHead, StreamOpened, StreamRejected,
};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{RecordIndex, ReleaseRef, Sequence, Serial, StreamId};
use cairn_schemas::record::{Draft, Record};
use cairn_schemas::types::{NodeKind, RecordType};
use cairn_verify::{EarlierReport, FaultKind, FindingKind, Options, Verdict};
use kit::*;

/// Where an attack must be seen: a file, a record, or both.
#[derive(Default)]
struct Seen {
    file: Option<String>,
    index: Option<u64>,
}

struct Attack {
    name: &'static str,
    kinds: &'static [FaultKind],
    seen: Seen,
    /// The folder, spoiled.
    folder: tempfile::TempDir,
}

/// A sound ledger of `size` records, spoiled on disk.
fn spoil(
    name: &'static str,
    size: usize,
    kind: &'static [FaultKind],
    file: &str,
    index: Option<u64>,
    spoil: impl FnOnce(&Path),
) -> Attack {
    let folder = tempfile::tempdir().unwrap();
    static LONG: std::sync::LazyLock<Book> = std::sync::LazyLock::new(|| Book::long(700));
    let book = if size == 700 { LONG.clone() } else { Book::small() };
    book.write(folder.path());
    spoil(folder.path());
    Attack { name, kinds: kind, seen: Seen { file: Some(file.to_owned()), index }, folder }
}

/// Records that should not be, all signed and consistent: `play` returns the record at which it must be seen.
fn tell(name: &'static str, kinds: &'static [FaultKind], play: impl FnOnce(&mut Book) -> usize) -> Attack {
    let mut book = Book::small();
    let index = play(&mut book);
    let folder = tempfile::tempdir().unwrap();
    book.write(folder.path());
    Attack { name, kinds, seen: Seen { file: None, index: Some(index as u64) }, folder }
}

fn flip(folder: &Path, file: &str, at: usize) {
    let mut bytes = get(folder, file);
    bytes[at] ^= 0x10;
    put(folder, file, &bytes);
}

fn remove(folder: &Path, file: &str) {
    fs::remove_file(folder.join(file)).unwrap();
}

/// The records of a bundle, changed and packed again.
fn repack(folder: &Path, file: &str, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let bytes = get(folder, file);
    let (mut records, mut rest) = (Vec::new(), &bytes[..]);
    while let Some((len, after)) = rest.split_first_chunk::<2>() {
        let (record, after) = after.split_at(usize::from(u16::from_be_bytes(*len)));
        records.push(record.to_vec());
        rest = after;
    }
    change(&mut records);
    let mut bundle = Vec::new();
    records.iter().for_each(|record| encode_entry(&mut bundle, record));
    put(folder, file, &bundle);
}

fn on_disk() -> Vec<Attack> {
    use FaultKind::*;
    let bundle = "tile/entries/000";
    vec![
        // The checkpoint.
        spoil("no checkpoint", 40, &[CheckpointMissing], "checkpoint", None, |f| remove(f, "checkpoint")),
        spoil("a checkpoint that is none", 40, &[CheckpointMalformed], "checkpoint", None, |f| {
            put(f, "checkpoint", b"x")
        }),
        spoil("a checkpoint that is a folder", 40, &[CheckpointMalformed], "checkpoint", None, |f| {
            remove(f, "checkpoint");
            fs::create_dir(f.join("checkpoint")).unwrap();
        }),
        spoil("the signature's last byte", 40, &[CheckpointSignature], "checkpoint", None, |f| {
            let text = String::from_utf8(get(f, "checkpoint")).unwrap();
            let at = text.len() - 10;
            flip_base64(f, "checkpoint", at);
        }),
        spoil("signed by another key of the same name", 40, &[CheckpointSignature], "checkpoint", None, |f| {
            let other = NoteSigner::new(ORIGIN, key(8)).unwrap();
            put(f, "checkpoint", &Book::small().checkpoint(40, &other));
        }),
        spoil("rolled back, the newer one still kept", 700, &[CheckpointRolledBack], "checkpoints/700", None, |f| {
            let book = Book::long(700);
            put(f, "checkpoints/700", &get(f, "checkpoint"));
            put(f, "checkpoint", &book.checkpoint(651, &ledger_signer()));
            book.cut(651).tiles_to(f);
        }),
        spoil("another history's checkpoint, signed", 40, &[RootWrong], "checkpoint", None, |f| {
            let mut book = Book::small();
            book.records.last_mut().unwrap().push(b' ');
            put(f, "checkpoint", &book.checkpoint(40, &ledger_signer()));
        }),
        spoil("a kept checkpoint of another history, signed", 40, &[RetainedWrong], "checkpoints/6", None, |f| {
            let mut book = Book::small();
            book.records[3].push(b' ');
            put(f, "checkpoints/6", &book.checkpoint(6, &ledger_signer()));
        }),
        spoil("a kept checkpoint under another size", 40, &[CheckpointMalformed], "checkpoints/9", None, |f| {
            put(f, "checkpoints/9", &get(f, "checkpoints/6"));
        }),
        spoil("a kept checkpoint by another key", 40, &[CheckpointSignature], "checkpoints/6", None, |f| {
            put(f, "checkpoints/6", &Book::small().checkpoint(6, &NoteSigner::new(ORIGIN, key(8)).unwrap()));
        }),
        spoil("a kept checkpoint of another log", 40, &[CheckpointOrigin], "checkpoints/6", None, |f| {
            let text = format!(
                "other/1\n{}",
                std::str::from_utf8(&get(f, "checkpoints/6")).unwrap().split_once('\n').unwrap().1
            );
            let text = text.split_once("\n\n").unwrap().0.to_owned() + "\n";
            put(f, "checkpoints/6", &cairn_ledger::note::Note::sign(&text, &[&ledger_signer()]).unwrap());
        }),
        // Tiles.
        spoil("a byte of a partial tile", 40, &[TileWrong], "tile/0/000.p/40", Some(2), |f| {
            flip(f, "tile/0/000.p/40", 70)
        }),
        spoil("a byte of a full tile", 700, &[TileWrong], "tile/0/001", Some(258), |f| flip(f, "tile/0/001", 70)),
        spoil("a byte of a tile of level 1", 700, &[TileWrong], "tile/1/000.p/2", Some(256), |f| {
            flip(f, "tile/1/000.p/2", 40)
        }),
        spoil("a tile one byte short", 700, &[TileMalformed], "tile/0/001", Some(256), |f| {
            let bytes = get(f, "tile/0/001");
            put(f, "tile/0/001", &bytes[1..]);
        }),
        spoil("a tile one byte long", 40, &[TileMalformed], "tile/0/000.p/40", Some(0), |f| {
            let bytes = [&get(f, "tile/0/000.p/40")[..], b"x"].concat();
            put(f, "tile/0/000.p/40", &bytes);
        }),
        spoil("a tile of level 1 emptied", 700, &[TileMalformed], "tile/1/000.p/2", Some(0), |f| {
            put(f, "tile/1/000.p/2", b"")
        }),
        spoil("a tile deleted", 700, &[TileMissing], "tile/0/001", Some(256), |f| remove(f, "tile/0/001")),
        spoil("a partial tile deleted", 40, &[TileMissing], "tile/0/000.p/40", Some(0), |f| {
            remove(f, "tile/0/000.p/40")
        }),
        spoil("a tile of level 1 deleted", 700, &[TileMissing], "tile/1/000.p/2", Some(0), |f| {
            remove(f, "tile/1/000.p/2")
        }),
        spoil("two tiles swapped", 700, &[TileWrong], "tile/0/000", Some(0), |f| {
            let (a, b) = (get(f, "tile/0/000"), get(f, "tile/0/001"));
            put(f, "tile/0/000", &b);
            put(f, "tile/0/001", &a);
        }),
        spoil("an old partial tile that lies", 700, &[TileWrong], "tile/0/000.p/9", Some(3), |f| {
            put(f, "tile/0/000.p/9", &get(f, "tile/0/000")[..9 * 32]);
            flip(f, "tile/0/000.p/9", 100);
        }),
        spoil("an old partial tile cut", 700, &[TileMalformed], "tile/1/000.p/1", Some(0), |f| {
            put(f, "tile/1/000.p/1", &[0; 31])
        }),
        // Bundles.
        spoil("a byte of a record", 700, &[RecordWrong], bundle, Some(1), |f| {
            let first = usize::from(u16::from_be_bytes(get(f, bundle)[..2].try_into().unwrap()));
            flip(f, bundle, first + 2 + 2 + 50);
        }),
        spoil("a byte of the last record", 40, &[RecordWrong], "tile/entries/000.p/40", Some(39), |f| {
            let len = get(f, "tile/entries/000.p/40").len();
            flip(f, "tile/entries/000.p/40", len - 1);
        }),
        spoil("a record deleted", 700, &[BundleMalformed], bundle, Some(30), |f| {
            repack(f, bundle, |records| drop(records.remove(30)))
        }),
        spoil("a record inserted", 700, &[BundleMalformed], bundle, Some(30), |f| {
            repack(f, bundle, |records| records.insert(30, records[31].clone()));
        }),
        spoil(
            "a pair of records deleted, the end filled up",
            700,
            &[RecordWrong],
            "tile/entries/001",
            Some(266),
            |f| {
                repack(f, "tile/entries/001", |records| {
                    records.drain(10..12);
                    let last = records.last().unwrap().clone();
                    records.extend([last.clone(), last]);
                });
            },
        ),
        spoil("two records swapped", 700, &[RecordWrong], bundle, Some(100), |f| {
            repack(f, bundle, |records| records.swap(100, 200))
        }),
        spoil("a record replaced by another of its kind", 700, &[RecordWrong], bundle, Some(100), |f| {
            repack(f, bundle, |records| records[100] = records[101].clone());
        }),
        spoil("a bundle truncated", 700, &[BundleMalformed], "tile/entries/002.p/188", Some(699), |f| {
            let bytes = get(f, "tile/entries/002.p/188");
            put(f, "tile/entries/002.p/188", &bytes[..bytes.len() - 1]);
        }),
        spoil("a bundle emptied", 700, &[BundleMalformed], bundle, Some(0), |f| put(f, bundle, b"")),
        spoil("a bundle with a byte more", 700, &[BundleMalformed], bundle, Some(255), |f| {
            let bytes = [&get(f, bundle)[..], b"x"].concat();
            put(f, bundle, &bytes);
        }),
        spoil("a bundle deleted", 700, &[BundleMissing], "tile/entries/001", Some(256), |f| {
            remove(f, "tile/entries/001")
        }),
        spoil("a bundle and its tile deleted", 700, &[BundleMissing], "tile/entries/001", Some(256), |f| {
            remove(f, "tile/entries/001");
            remove(f, "tile/0/001");
        }),
        spoil(
            "a record and its tile changed together",
            700,
            &[RetainedWrong, RecordWrong, PrevDigest, HeadCheckpoint],
            bundle,
            Some(0),
            |f| {
                let mut tile = get(f, "tile/0/000");
                repack(f, bundle, |records| {
                    let mut record = Record::parse(&records[60]).unwrap();
                    record.data["rule"] = "nothing happened".into();
                    records[60] = record.to_bytes().unwrap();
                    tile[60 * 32..61 * 32].copy_from_slice(Digest::leaf(&records[60]).as_bytes());
                });
                put(f, "tile/0/000", &tile);
            },
        ),
        // Release files.
        spoil("a byte of the content", 40, &[ReleaseFileWrong], "releases/1/content.tar", Some(4), |f| {
            flip(f, "releases/1/content.tar", 600)
        }),
        spoil("a byte of the statement", 40, &[ReleaseFileWrong], "releases/2/statement.sigstore.json", None, |f| {
            flip(f, "releases/2/statement.sigstore.json", 200);
        }),
        spoil("a byte of the record", 40, &[ReleaseFileWrong], "releases/1/record.json", Some(4), |f| {
            flip(f, "releases/1/record.json", 50)
        }),
        spoil("a byte of the proof's index", 40, &[ReleaseProof], "releases/1/release.tlog-proof", Some(4), |f| {
            let text =
                String::from_utf8(get(f, "releases/1/release.tlog-proof")).unwrap().replace("index 4", "index 5");
            put(f, "releases/1/release.tlog-proof", text.as_bytes());
        }),
        spoil("a hash of the proof", 40, &[ReleaseProof], "releases/1/release.tlog-proof", Some(4), |f| {
            flip_base64(f, "releases/1/release.tlog-proof", 40);
        }),
        spoil(
            "a proof on another history's checkpoint, signed",
            40,
            &[ReleaseProof],
            "releases/1/release.tlog-proof",
            Some(4),
            |f| {
                let folder = tempfile::tempdir().unwrap();
                let mut book = Book::small();
                book.records[2].push(b' ');
                book.write(folder.path());
                put(f, "releases/1/release.tlog-proof", &get(folder.path(), "releases/1/release.tlog-proof"));
            },
        ),
        spoil("a proof with something extra", 40, &[ReleaseProof], "releases/1/release.tlog-proof", Some(4), |f| {
            let text = String::from_utf8(get(f, "releases/1/release.tlog-proof")).unwrap();
            put(f, "releases/1/release.tlog-proof", text.replace("index", "extra AAAA\nindex").as_bytes());
        }),
        spoil(
            "a proof from a longer ledger",
            40,
            &[CheckpointRolledBack],
            "releases/2/release.tlog-proof",
            None,
            |f| {
                let folder = tempfile::tempdir().unwrap();
                let mut book = Book::long(60);
                book.releases.get_mut(&2).unwrap().proof_size = 37;
                let mut longer = book.cut(37);
                while longer.records.len() < 50 {
                    longer.detect(2);
                }
                // The first 40 records are not the longer ledger's; only its size is looked at first.
                longer.releases.get_mut(&2).unwrap().proof_size = 50;
                longer.write(folder.path());
                put(f, "releases/2/release.tlog-proof", &get(folder.path(), "releases/2/release.tlog-proof"));
            },
        ),
        spoil("the content deleted", 40, &[ReleaseFileMissing], "releases/1/content.tar", Some(4), |f| {
            remove(f, "releases/1/content.tar")
        }),
        spoil("the statement deleted", 40, &[ReleaseFileMissing], "releases/1/statement.sigstore.json", Some(4), |f| {
            remove(f, "releases/1/statement.sigstore.json");
        }),
        spoil("the record deleted", 40, &[ReleaseFileMissing], "releases/2/record.json", None, |f| {
            remove(f, "releases/2/record.json")
        }),
        spoil("the proof deleted", 40, &[ReleaseFileMissing], "releases/2/release.tlog-proof", None, |f| {
            remove(f, "releases/2/release.tlog-proof");
        }),
        spoil(
            "a release's files in another's place",
            40,
            &[ReleaseFileWrong, ReleaseProof],
            "releases/2/content.tar",
            None,
            |f| {
                for file in ["content.tar", "statement.sigstore.json", "record.json", "release.tlog-proof"] {
                    put(f, &format!("releases/2/{file}"), &get(f, &format!("releases/1/{file}")));
                }
            },
        ),
        spoil("a release replayed under a new serial", 40, &[ReleaseUnrecorded], "releases/3", None, |f| {
            for file in ["content.tar", "statement.sigstore.json", "record.json", "release.tlog-proof"] {
                put(f, &format!("releases/3/{file}"), &get(f, &format!("releases/1/{file}")));
            }
        }),
        spoil("a release far ahead", 40, &[ReleaseUnrecorded], "releases/9", None, |f| {
            put(f, "releases/9/content.tar", b"x")
        }),
    ]
}

/// Changes one character of base64 into another.
fn flip_base64(folder: &Path, file: &str, at: usize) {
    let mut bytes = get(folder, file);
    let at = (at..).find(|at| bytes[*at].is_ascii_alphanumeric()).unwrap();
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    put(folder, file, &bytes);
}

fn in_records() -> Vec<Attack> {
    use FaultKind::*;
    vec![
        tell("a record that is not canonical", &[RecordInvalid], |book| {
            let mut bytes = book.seal(&sensor(), Draft::new(&loaded(book, 2)));
            bytes.push(b' ');
            book.records.push(bytes);
            book.records.len() - 1
        }),
        tell("a record with a name in the clear", &[RecordInvalid], |book| {
            let index = book.decide(2);
            let text = String::from_utf8(book.records[index].clone()).unwrap();
            book.records[index] = text.replace(&a_token("user", "alice").to_string(), "alice").into_bytes();
            index
        }),
        tell("a second ledger.opened", &[LedgerOpened], |book| book.add(&StreamId::ledger(), Draft::new(&opened()))),
        tell("ledger.opened of another ledger", &[LedgerOpened], |book| {
            edit_opened(book, |opened| opened["name"] = "other".into());
            0
        }),
        tell("ledger.opened with a control key that is none", &[LedgerOpened, StreamUnknown], |book| {
            *book = Book::empty();
            book.add(
                &StreamId::ledger(),
                Draft::new(&cairn_schemas::data::LedgerOpened { control_key: "x".into(), ..opened() }),
            );
            book.open(&control());
            0
        }),
        tell("ledger.opened with a release key that is none", &[LedgerOpened], |book| {
            edit_opened(book, |opened| opened["release_key"] = "x".into());
            0
        }),
        tell("ledger.opened names another key than signs", &[KeyMismatch], |book| {
            let other = NoteSigner::new(ORIGIN, key(8)).unwrap().verifier().to_string();
            edit_opened(book, |opened| opened["ledger_key"] = other.into());
            0
        }),
        // Streams.
        tell("a stream of nobody", &[StreamUnknown], |book| book.open(&StreamId::new(&node("ghost"), [9; 16]))),
        tell("a stream opened with another key", &[StreamOpening], |book| {
            let stream = StreamId::new(&node("sensor-2"), [9; 16]);
            book.add(&control(), Draft::new(&joined("sensor-2", NodeKind::Sensor, &key(7))));
            book.head(&control());
            let index = book.open(&stream);
            // Its head would not verify either; it has none yet.
            index
        }),
        tell("a stream opened twice", &[StreamOpening], |book| book.open(&sensor())),
        tell("a stream that begins with something else", &[StreamOpening], |book| {
            let stream = StreamId::new(&node("sensor-1"), [9; 16]);
            let loaded = loaded(book, 2);
            book.add(&stream, Draft::new(&loaded))
        }),
        tell("a stream that begins in the middle", &[StreamOpening], |book| {
            let stream = StreamId::new(&node("sensor-1"), [9; 16]);
            book.set_next(&stream, 5, Digest::sha256(b"x"));
            book.open(&stream)
        }),
        tell("a stream opened in another node's name", &[StreamOpening], |book| {
            let stream = StreamId::new(&node("sensor-1"), [9; 16]);
            let opened = StreamOpened {
                node: node("admission-1"),
                key: head::format_key(&key(3).verifying_key()),
                predecessor: Some(Predecessor { stream: sensor(), sequence: number(0), digest: Digest::ZERO }),
            };
            book.add(&stream, Draft::new(&opened))
        }),
        tell("a gap that the ledger did not note", &[Sequence], |book| {
            let (next, prev) = book.next(&sensor());
            book.set_next(&sensor(), next.0 + 3, prev);
            book.detect(2)
        }),
        tell("two records with one number", &[Sequence], |book| {
            let (next, prev) = book.next(&sensor());
            book.detect(2);
            book.set_next(&sensor(), next.0, prev);
            book.detect(2)
        }),
        tell("a number past the limit", &[Sequence], |book| {
            let (_, prev) = book.next(&sensor());
            book.set_next(&sensor(), u64::MAX - 1, prev);
            book.detect(2)
        }),
        tell("a record that does not follow", &[PrevDigest], |book| {
            let (next, _) = book.next(&sensor());
            book.set_next(&sensor(), next.0, Digest::sha256(b"another"));
            book.detect(2)
        }),
        tell("a foreignid that came before", &[ForeignId], |book| {
            let draft = Draft::new(&joined("sensor-2", NodeKind::Sensor, &key(7)));
            book.add(&control(), draft.clone().foreignid("x"));
            book.add(&control(), draft.foreignid("x"))
        }),
        tell("a node builds a release", &[Role], |book| {
            let built: cairn_schemas::data::ReleaseBuilt = Record::parse(&book.records[4]).unwrap().data_as().unwrap();
            book.add(&sensor(), Draft::new(&built))
        }),
        tell("a node lets another join", &[Role], |book| {
            book.add(&sensor(), Draft::new(&joined("sensor-2", NodeKind::Sensor, &key(7))))
        }),
        tell("a sensor decides admissions", &[Role], |book| {
            let record = Record::parse(&book.records[book.find(RecordType::AdmissionDecided)]).unwrap();
            let release = book.reference(2);
            book.add(&sensor(), decision(RecordType::AdmissionDecided, record.data, release))
        }),
        tell("the control plane notes a gap", &[Role], |book| {
            let gap = StreamGap {
                stream: sensor(),
                from: number(0),
                to: number(0),
                expected: Digest::ZERO,
                found: Digest::ZERO,
            };
            book.add(&control(), Draft::new(&gap))
        }),
        tell("the ledger raises a detection", &[Role], |book| {
            let record = Record::parse(&book.records[book.find(RecordType::DetectionRaised)]).unwrap();
            let release = book.reference(2);
            book.add(&StreamId::ledger(), decision(RecordType::DetectionRaised, record.data, release))
        }),
        // Heads.
        tell("a head of another place", &[HeadPlace], |book| {
            let head = book.head_data(&sensor(), None);
            book.detect(2);
            book.add(&sensor(), Draft::new(&head))
        }),
        tell("a head by another key", &[HeadSignature], |book| {
            let (next, prev) = book.next(&sensor());
            let head = head::sign(&key(8), &sensor(), number(next.0 - 1), prev, None).unwrap();
            book.add(&sensor(), Draft::new(&head))
        }),
        tell("another stream's head", &[HeadSignature], |book| {
            let (next, prev) = book.next(&sensor());
            let head = head::sign(&key(3), &admission(), number(next.0 - 1), prev, None).unwrap();
            book.add(&sensor(), Draft::new(&head))
        }),
        tell("a head whose signature is no text of one", &[HeadSignature], |book| {
            let head = StreamHead { signature: "x".into(), ..book.head_data(&sensor(), None) };
            book.add(&sensor(), Draft::new(&head))
        }),
        tell("a node was shown another history", &[HeadCheckpoint], |book| {
            let seen = CheckpointSeen { origin: ORIGIN.into(), size: 20, root: Digest::sha256(b"another history") };
            let head = book.head_data(&sensor(), Some(seen));
            book.add(&sensor(), Draft::new(&head))
        }),
        tell("a node saw more than there was", &[HeadCheckpoint], |book| {
            let seen = CheckpointSeen { origin: ORIGIN.into(), size: 4_000, root: Digest::ZERO };
            let head = book.head_data(&sensor(), Some(seen));
            book.add(&sensor(), Draft::new(&head))
        }),
        tell("a node saw another ledger", &[HeadCheckpoint], |book| {
            let seen = CheckpointSeen { origin: "other/1".into(), size: 1, root: book.root(1) };
            let head = book.head_data(&sensor(), Some(seen));
            book.add(&sensor(), Draft::new(&head))
        }),
        tell("a record left out, and everything signed again", &[HeadSignature], |book| {
            let mut told = Book::begun();
            told.decide(1);
            told.decide(1);
            let head = told.head(&admission());
            let mut book_ = told.closed();
            let left_out = book_.records.iter().position(|record| is(record, RecordType::AdmissionDecided)).unwrap();
            book_.remove(left_out);
            book_.rechain();
            *book = book_;
            head - 1
        }),
        tell("a record changed, and everything signed again", &[HeadSignature], |book| {
            let mut told = Book::begun();
            let decided = told.decide(1);
            let head = told.head(&admission());
            told.edit(decided, |record| record.data["allowed"] = false.into());
            told.rechain();
            *book = told;
            head
        }),
        tell("two records of a node swapped, and everything signed again", &[HeadSignature], |book| {
            let mut told = Book::begun();
            let decided = told.decide(1);
            told.decide(1);
            let head = told.head(&admission());
            told.records.swap(decided, decided + 1);
            told.rechain();
            *book = told;
            head
        }),
        tell("a node joins twice, with another key", &[NodeJoined], |book| {
            book.add(&control(), Draft::new(&joined("sensor-1", NodeKind::Sensor, &key(8))))
        }),
        tell("a node joins as another kind", &[NodeJoined], |book| {
            book.add(&control(), Draft::new(&joined("sensor-1", NodeKind::Admission, &key(3))))
        }),
        tell("a node joins as the control plane", &[NodeJoined], |book| {
            book.add(&control(), Draft::new(&joined("control", NodeKind::Sensor, &key(8))))
        }),
        tell("a node joins without a key", &[NodeJoined], |book| {
            let joined =
                cairn_schemas::data::NodeJoined { key: "x".into(), ..joined("sensor-2", NodeKind::Sensor, &key(8)) };
            book.add(&control(), Draft::new(&joined))
        }),
        // What the ledger and the control plane say of streams.
        tell("a gap noted that is none", &[LedgerNote], |book| {
            let (next, prev) = book.next(&sensor());
            let gap = StreamGap { stream: sensor(), from: next, to: number(next.0 + 2), expected: prev, found: prev };
            book.add(&StreamId::ledger(), Draft::new(&gap));
            book.detect(2)
        }),
        tell("a gap noted shorter than it is", &[LedgerNote], |book| {
            let (next, prev) = book.next(&sensor());
            let gap = StreamGap { stream: sensor(), from: next, to: number(next.0 + 2), expected: prev, found: prev };
            book.add(&StreamId::ledger(), Draft::new(&gap));
            book.set_next(&sensor(), next.0 + 5, prev);
            book.detect(2)
        }),
        tell("a gap noted elsewhere", &[LedgerNote], |book| {
            let gap = StreamGap {
                stream: sensor(),
                from: number(1),
                to: number(1),
                expected: Digest::ZERO,
                found: Digest::ZERO,
            };
            book.add(&StreamId::ledger(), Draft::new(&gap))
        }),
        tell("a rejected record noted elsewhere", &[LedgerNote], |book| {
            let rejected =
                StreamRejected { stream: sensor(), sequence: number(1), digest: Digest::ZERO, reason: "x".into() };
            book.add(&StreamId::ledger(), Draft::new(&rejected))
        }),
        tell("a fork noted of a record that does not stand", &[LedgerNote], |book| {
            let (next, _) = book.next(&sensor());
            let forked =
                StreamForked { stream: sensor(), sequence: next, accepted: Digest::ZERO, refused: Digest::ZERO };
            book.add(&StreamId::ledger(), Draft::new(&forked))
        }),
        tell("a withheld tail that the control plane had seen", &[ObservedMissing], |book| {
            let mut ahead = book.clone();
            ahead.detect(2);
            let (next, digest) = ahead.next(&sensor());
            book.set_next(&sensor(), next.0, digest);
            book.observe(&[sensor()])
        }),
        tell("a last record other than the control plane had seen", &[ObservedMissing], |book| {
            let mut other = book.clone();
            let (next, _) = other.next(&sensor());
            other.set_next(&sensor(), next.0, Digest::sha256(b"another"));
            let index = other.observe(&[sensor()]);
            book.records.push(other.records[index].clone());
            index
        }),
        // Releases.
        tell("a serial left out", &[ReleaseBuilt], |book| book.release(4, "version: 1\n# four\n")),
        tell("a release whose tests fail", &[ReleaseBuilt], |book| {
            let index = book
                .release_with(3, "version: 1\n# three\n", &release_signer(), |parts| parts.predicate.tests.failed = 1);
            book.edit(index, |record| record.data["tests"]["failed"] = 1.into());
            index
        }),
        tell("a release of the content of another, which it is not", &[ReleaseBuilt], |book| {
            let same = book.reference(1);
            let index = book.release_with(3, "version: 1\n# three\n", &release_signer(), |parts| {
                parts.predicate.same_content_as = Some(same)
            });
            book.edit(index, |record| record.data["same_content_as"] = same.to_string().into());
            index
        }),
        tell("a decision by a release that was never built", &[ReleaseUnknown], |book| {
            let data = Record::parse(&book.records[book.find(RecordType::AdmissionDecided)]).unwrap().data;
            let release = ReleaseRef { serial: Serial(3), digest: Digest::sha256(b"x") };
            book.add(&admission(), decision(RecordType::AdmissionDecided, data, release))
        }),
        tell("a decision by another content of a serial", &[ReleaseUnknown], |book| {
            let data = Record::parse(&book.records[book.find(RecordType::AdmissionDecided)]).unwrap().data;
            let release = ReleaseRef { serial: Serial(2), digest: Digest::sha256(b"x") };
            book.add(&admission(), decision(RecordType::AdmissionDecided, data, release))
        }),
        tell("a decision by a release that the node had not loaded", &[ReleaseNotLoaded], |book| {
            book.release(3, "version: 1\n# three\n");
            book.enter(3);
            book.decide(3)
        }),
        tell("a detection in a document by a release that was not promoted", &[ReleaseNotLoaded], |book| {
            book.enter(2);
            book.detect_document(2)
        }),
        tell("a node falls back to what was never built", &[ReleaseUnknown], |book| {
            let to = ReleaseRef { serial: Serial(3), digest: Digest::sha256(b"x") };
            let data = cairn_schemas::data::NodeFellback { from: book.reference(2), to: Some(to), reason: "x".into() };
            book.add(&sensor(), Draft::new(&data))
        }),
        tell("a release loaded before a checkpoint could prove it", &[ReleaseNotProven], |book| {
            let at = book.releases[&2].index as u64;
            let loaded = NodeLoaded { checkpoint_size: at, ..loaded(book, 2) };
            book.add(&sensor(), Draft::new(&loaded))
        }),
        tell("a release loaded on a checkpoint that was not there yet", &[ReleaseNotProven], |book| {
            let loaded = NodeLoaded { checkpoint_size: 1_000, ..loaded(book, 2) };
            book.add(&sensor(), Draft::new(&loaded))
        }),
        tell("a containment without a detection", &[ContainmentUnpaired], |book| {
            let index = book.request(2, number(0));
            let (next, _) = book.next(&sensor());
            book.finish(2, number(next.0 - 1));
            index
        }),
        tell("an outcome without a request", &[ContainmentUnpaired], |book| book.finish(2, number(1))),
        tell("two outcomes of one request", &[ContainmentUnpaired], |book| {
            let (detection, _) = book.next(&sensor());
            book.detect(2);
            let (request, _) = book.next(&sensor());
            book.request(2, detection);
            book.finish(2, request);
            book.finish(2, request)
        }),
        tell("a statement by another key", &[ReleaseStatement], |book| {
            book.release_with(3, "version: 1\n# three\n", &ReleaseSigner::generate().unwrap(), |_| {})
        }),
        tell("a statement of another serial", &[ReleaseStatement], |book| {
            book.release_with(3, "version: 1\n# three\n", &release_signer(), |parts| parts.predicate.serial = Serial(8))
        }),
        tell("a content that is not the commit's", &[ReleaseContent], |book| {
            book.release_with(3, "version: 1\n# three\n", &release_signer(), |parts| {
                parts.content.insert("cairn.yaml".into(), FileEntry::plain("version: 1\n# not what was committed\n"));
            })
        }),
        tell("a content with a file more", &[ReleaseContent], |book| {
            book.release_with(3, "version: 1\n# three\n", &release_signer(), |parts| {
                parts.content.insert("guardrails/x.rego".into(), FileEntry::plain("package x\n"));
            })
        }),
    ]
}

/// `Sequence`, where a kind of fault has that name too.
fn number(number: u64) -> Sequence {
    Sequence(number)
}

fn is(record: &[u8], kind: RecordType) -> bool {
    Record::parse(record).is_ok_and(|record| record.kind == kind)
}

fn loaded(book: &Book, serial: u64) -> NodeLoaded {
    NodeLoaded {
        release: book.reference(serial),
        previous: None,
        cause: cairn_schemas::data::LoadCause::Start,
        checkpoint_size: book.size(),
    }
}

/// Changes `ledger.opened`, and tells everything again from there: there is no record before it to contradict.
fn edit_opened(book: &mut Book, edit: impl FnOnce(&mut serde_json::Value)) {
    *book = Book::begun();
    book.edit(0, |record| edit(&mut record.data));
    // No stream but the ledger's follows from record 0; heads name checkpoints, and those are of another history now.
    for bytes in &mut book.records {
        let mut record = Record::parse(bytes).unwrap();
        if record.kind == RecordType::StreamHead {
            let key = key_of(&record.stream);
            let signed =
                head::sign(&key, &record.stream, Sequence(record.sequence.0 - 1), record.prevdigest, None).unwrap();
            record.data = serde_json::to_value(signed).unwrap();
            *bytes = record.to_bytes().unwrap();
        }
    }
}

/// What is wrong with how an attack was seen, if anything.
fn check(attack: &Attack) -> Option<String> {
    let report = verify(attack.folder.path());
    let Seen { file, index } = &attack.seen;
    let seen = report.faults.iter().any(|fault| {
        file.as_ref().is_none_or(|file| fault.file.as_ref() == Some(file))
            && index.is_none_or(|index| fault.index == Some(RecordIndex(index)))
    });
    let told = cairn_verify::render(&report).starts_with("FAILED: ");
    let refused = report.verdict == Verdict::Failed && report.exit_code(false) == 1;
    let good = seen && told && refused && kinds(&report) == attack.kinds;
    (!good).then(|| {
        format!("{}: expected {:?} in {file:?} at {index:?}; found {:#?}", attack.name, attack.kinds, report.faults)
    })
}

fn check_all(attacks: &[Attack]) {
    let wrong: Vec<String> = attacks.iter().filter_map(check).collect();
    assert!(wrong.is_empty(), "{} of {} attacks:\n{}", wrong.len(), attacks.len(), wrong.join("\n"));
}

#[test]
fn attacks_on_disk_are_seen_where_they_are() {
    check_all(&on_disk());
}

#[test]
fn attacks_in_records_are_seen_where_they_are() {
    check_all(&in_records());
}

#[test]
fn every_check_matters() {
    let alone: Vec<FaultKind> = on_disk()
        .iter()
        .chain(&in_records())
        .filter(|attack| attack.kinds.len() == 1)
        .map(|attack| attack.kinds[0])
        .collect();
    for kind in FaultKind::ALL {
        // These have tests of their own: two below, the others in `privacy.rs`, `volumes.rs`, `versions.rs`.
        let elsewhere = matches!(
            kind,
            FaultKind::SinceWrong
                | FaultKind::Unreadable
                | FaultKind::BlobReference
                | FaultKind::BlobMissing
                | FaultKind::BlobWrong
                | FaultKind::DisclosureMissing
                | FaultKind::DisclosureWrong
                | FaultKind::KeyNotErased
                | FaultKind::VersionsMalformed
                | FaultKind::ObjectHidden
                | FaultKind::ObjectRewritten
                | FaultKind::MirrorWrong
                | FaultKind::KeyEndorsement
                | FaultKind::WitnessesEndorsement
                | FaultKind::PolicyNotMet
                | FaultKind::CosignatureWrong
                | FaultKind::VolumeMissing
                | FaultKind::VolumeChain
                | FaultKind::VolumeCarried
                | FaultKind::VolumeEnded
        );
        assert!(elsewhere || alone.contains(kind), "no attack is caught by {kind} alone");
    }
}

#[test]
fn an_earlier_report_catches_a_rewritten_and_a_shortened_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let book = Book::long(300);
    book.write(folder.path());
    let since = EarlierReport::from(&verify(folder.path()));
    let again = |since: &EarlierReport| {
        cairn_verify::verify(
            folder.path(),
            &Options { key: Some(the_key()), since: Some(since.clone()), ..Options::default() },
        )
    };
    assert_eq!(again(&since).faults, []);

    fs::remove_dir_all(folder.path().join("checkpoints")).unwrap();
    book.cut(260).write(folder.path());
    assert_eq!(kinds(&again(&since)), [FaultKind::CheckpointRolledBack]);

    // The last record is nobody's but the attacker's, who holds every key.
    let mut other = book.cut(299);
    other.detect(2);
    let folder = tempfile::tempdir().unwrap();
    other.write(folder.path());
    let options = Options { key: Some(the_key()), since: Some(since), ..Options::default() };
    let report = cairn_verify::verify(folder.path(), &options);
    assert!(kinds(&report).contains(&FaultKind::SinceWrong), "{:?}", report.faults);
}

#[test]
fn what_cannot_be_read_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    Book::small().write(folder.path());
    // A link to itself: the system refuses to follow it, whoever asks.
    remove(folder.path(), "releases/1/content.tar");
    std::os::unix::fs::symlink("content.tar", folder.path().join("releases/1/content.tar")).unwrap();
    let report = verify(folder.path());
    assert_eq!(kinds(&report), [FaultKind::Unreadable]);
    assert_eq!((report.verdict, report.exit_code(false)), (Verdict::CouldNotTell, 2));
    // Something wrong beside it decides.
    flip(folder.path(), "releases/2/content.tar", 600);
    assert_eq!(verify(folder.path()).exit_code(false), 1);
}

#[test]
fn another_key_is_not_this_ledgers() {
    let folder = tempfile::tempdir().unwrap();
    Book::small().write(folder.path());
    let other = NoteSigner::new(ORIGIN, key(8)).unwrap().verifier().to_string();
    let report = cairn_verify::verify(folder.path(), &Options { key: Some(other.clone()), ..Options::default() });
    assert_eq!(report.verdict, Verdict::Failed);
    assert!(
        kinds(&report).contains(&FaultKind::KeyMismatch) && kinds(&report).contains(&FaultKind::CheckpointSignature)
    );

    // The whole ledger told again with another key is consistent in itself; only the key that one was given shows it.
    let mut book = Book::small();
    edit_opened(&mut book, |opened| opened["ledger_key"] = other.into());
    let folder = tempfile::tempdir().unwrap();
    book.write_signed(folder.path(), &NoteSigner::new(ORIGIN, key(8)).unwrap());
    assert_eq!(cairn_verify::verify(folder.path(), &Options::default()).verdict, Verdict::Ok);
    assert_eq!(verify(folder.path()).verdict, Verdict::Failed);
}

#[test]
fn a_checkpoint_of_an_absurd_size_ends_soon() {
    for size in [u64::MAX, 1 << 63, 1 << 40, 10_000_000] {
        let folder = tempfile::tempdir().unwrap();
        Book::small().write(folder.path());
        let checkpoint = cairn_ledger::checkpoint::Checkpoint {
            origin: ORIGIN.into(),
            size: cairn_schemas::ids::TreeSize(size),
            root: Digest::ZERO,
        };
        put(folder.path(), "checkpoint", &checkpoint.sign(&ledger_signer()).unwrap());
        put(folder.path(), "tile/entries/x003/x000/000", b"far out");
        // The last bundle that a tree of 2^64 records would have.
        put(folder.path(), "tile/entries/x072/x057/x594/x037/x927/935.p/255", b"far out");
        put(folder.path(), "tile/0/x072/x057/x594/x037/x927/935.p/255", b"far out");
        let report = verify(folder.path());
        assert_eq!(report.verdict, Verdict::Failed);
        assert!(kinds(&report).contains(&FaultKind::BundleMissing));
        assert!(kinds(&report).contains(&FaultKind::RootWrong));
    }
}

/// What befalls a ledger, without a lie.
type Story = Box<dyn Fn(&mut Book)>;

#[test]
fn what_has_a_reason_is_a_finding() {
    let cases: Vec<(&str, FindingKind, Story)> = vec![
        (
            "a gap, noted",
            FindingKind::Gap,
            Box::new(|book| {
                let (next, expected) = book.next(&sensor());
                let found = Digest::sha256(b"a record that never came");
                let gap = StreamGap { stream: sensor(), from: next, to: Sequence(next.0 + 2), expected, found };
                book.add(&StreamId::ledger(), Draft::new(&gap));
                book.set_next(&sensor(), next.0 + 3, found);
                book.detect(2);
                book.head(&sensor());
            }),
        ),
        (
            "a decision by a release whose loading is missing",
            FindingKind::ReleaseNotShown,
            Box::new(|book| {
                let (next, expected) = book.next(&sensor());
                book.release(3, "version: 1\n# three\n");
                book.enter(3);
                book.head(&control());
                let found = Digest::sha256(b"node.loaded");
                let gap = StreamGap { stream: sensor(), from: next, to: next, expected, found };
                book.add(&StreamId::ledger(), Draft::new(&gap));
                book.set_next(&sensor(), next.0 + 1, found);
                book.detect(3);
                book.detect(3);
                book.head(&sensor());
            }),
        ),
        (
            "a rejected record",
            FindingKind::Rejected,
            Box::new(|book| {
                let (next, _) = book.next(&sensor());
                let digest = Digest::sha256(b"nonsense");
                let rejected = StreamRejected { stream: sensor(), sequence: next, digest, reason: "x".into() };
                book.add(&StreamId::ledger(), Draft::new(&rejected));
                book.set_next(&sensor(), next.0 + 1, digest);
                book.head(&sensor());
            }),
        ),
        (
            "a fork, refused",
            FindingKind::Fork,
            Box::new(|book| {
                let (next, accepted) = book.next(&sensor());
                let forked =
                    StreamForked { stream: sensor(), sequence: Sequence(next.0 - 1), accepted, refused: Digest::ZERO };
                book.add(&StreamId::ledger(), Draft::new(&forked));
            }),
        ),
        ("a tail without a head", FindingKind::Unattested, Box::new(|book| _ = book.detect(2))),
        (
            "a new stream that does not go on from the last",
            FindingKind::Abandoned,
            Box::new(|book| {
                book.add(&control(), Draft::new(&joined("spare", NodeKind::Sensor, &key(9))));
                book.head(&control());
                for random in [[8; 16], [9; 16]] {
                    let stream = StreamId::new(&node("spare"), random);
                    book.open(&stream);
                    book.head(&stream);
                }
            }),
        ),
        (
            "a request without an outcome",
            FindingKind::ContainmentUnfinished,
            Box::new(|book| {
                let (detection, _) = book.next(&sensor());
                book.detect(2);
                book.request(2, detection);
                book.head(&sensor());
            }),
        ),
        (
            "a clock that runs backwards",
            FindingKind::TimeBackwards,
            Box::new(|book| {
                let index = book.detect(2);
                book.edit(index, |record| record.time = cairn_schemas::time::Timestamp::from_nanos(1));
                let leaf = Digest::leaf(&book.records[index]);
                let (next, _) = book.next(&sensor());
                book.set_next(&sensor(), next.0, leaf);
                book.head(&sensor());
            }),
        ),
    ];
    for (name, kind, play) in cases {
        let mut book = Book::small();
        play(&mut book);
        let folder = tempfile::tempdir().unwrap();
        book.write(folder.path());
        let report = verify(folder.path());
        assert_eq!(report.faults, [], "{name}");
        let mut found: Vec<FindingKind> = report.findings.iter().map(|finding| finding.kind).collect();
        // A gap hides something; what that may be is a finding of its own.
        found.retain(|found| *found == kind || *found != FindingKind::Gap);
        assert_eq!(found, [kind], "{name}");
        assert_eq!((report.exit_code(false), report.exit_code(true)), (0, 1), "{name}");
    }
}

#[test]
fn a_stream_that_grows_after_the_next_was_opened_is_a_copy() {
    let mut book = Book::small();
    let (next, digest) = book.next(&sensor());
    let stream = StreamId::new(&node("sensor-1"), [9; 16]);
    let predecessor = Predecessor { stream: sensor(), sequence: Sequence(next.0 - 1), digest };
    let opened = StreamOpened {
        node: node("sensor-1"),
        key: head::format_key(&key(3).verifying_key()),
        predecessor: Some(predecessor),
    };
    book.add(&stream, Draft::new(&opened));
    let (sequence, prev) = book.next(&stream);
    let head = head::sign(&key(3), &stream, Sequence(sequence.0 - 1), prev, None).unwrap();
    book.add(&stream, Draft::new(&head));
    let folder = tempfile::tempdir().unwrap();
    book.write(folder.path());
    let report = verify(folder.path());
    assert_eq!((report.faults, report.findings), (vec![], vec![]), "a stream may go on in another");

    book.detect(2);
    book.head(&sensor());
    let folder = tempfile::tempdir().unwrap();
    book.write(folder.path());
    let report = verify(folder.path());
    assert_eq!(report.faults, []);
    assert_eq!(report.findings.iter().map(|finding| finding.kind).collect::<Vec<_>>(), [FindingKind::Cloned]);
}

#[test]
fn a_release_that_nobody_was_offered_may_be_unfinished() {
    let mut book = Book::small();
    book.release(3, "version: 1\n# three\n");
    book.head(&control());
    let folder = tempfile::tempdir().unwrap();
    book.write(folder.path());
    remove(folder.path(), "releases/3/release.tlog-proof");
    remove(folder.path(), "releases/3/record.json");
    // And the next one's first files, before its record.
    put(folder.path(), "releases/4/content.tar", b"x");
    let report = verify(folder.path());
    assert_eq!(report.faults, []);
    assert_eq!(report.findings[0].kind, FindingKind::ReleaseUnfinished);
    assert_eq!(report.files.other, ["releases/4/content.tar"]);
    remove(folder.path(), "releases/3/content.tar");
    assert_eq!(kinds(&verify(folder.path())), [FaultKind::ReleaseFileMissing]);

    // Once it was offered, all of it was there.
    book.enter(3);
    book.head(&control());
    let folder = tempfile::tempdir().unwrap();
    book.write(folder.path());
    remove(folder.path(), "releases/3/release.tlog-proof");
    assert_eq!(kinds(&verify(folder.path())), [FaultKind::ReleaseFileMissing]);
}
