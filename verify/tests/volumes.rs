//! Ledgers of several volumes, keys that change, witnesses: what the writer writes is sound, and what it would never write is refused.
//!
//! The sound ones are made by `cairn-ledger`'s writer. For an attack they are taken apart into records, changed, and signed again with
//! every key that the attacker holds: the ledger's keys, and never the root's, a witness's or a node's.
#![allow(clippy::unwrap_used, reason = "what a test is built on must be there")]

mod kit;

use std::path::Path;
use std::sync::Arc;

use cairn_ledger::checkpoint::Checkpoint;
use cairn_ledger::cosignature::{CosignTime, CosignatureSigner, with_lines};
use cairn_ledger::dir::LedgerDir;
use cairn_ledger::endorsement::Endorsement;
use cairn_ledger::note::NoteSigner;
use cairn_ledger::tree::Frontier;
use cairn_ledger::writer::{Ledger, Restore, Rotation};
use cairn_schemas::data::{
    CheckpointSeen, LedgerFrozen, LedgerKeyRotated, LedgerOpened, LedgerWitnessesChanged, VolumeReason,
};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{StreamId, TreeSize};
use cairn_schemas::record::{Draft, Record};
use cairn_schemas::time::{Clock, ManualClock, Timestamp};
use cairn_verify::{FaultKind, FindingKind, Options, PolicySource, Report, Verdict, VolumeState};
use kit::*;

/// When the story is told, POSIX seconds.
const NOW: u64 = 1_800_000_000;

fn root_signer() -> NoteSigner {
    NoteSigner::new(&format!("{NAME}/root"), key(5)).unwrap()
}

fn signer(volume: u64, seed: u8) -> NoteSigner {
    NoteSigner::new(&format!("{NAME}/{volume}"), key(seed)).unwrap()
}

fn witness(name: &str, seed: u8) -> CosignatureSigner {
    CosignatureSigner::ed25519(name, key(seed)).unwrap()
}

fn policy(quorum: &str) -> String {
    let north = witness("north", 21).verifier().to_string();
    let south = witness("south", 22).verifier().to_string();
    format!("witness north {north}\nwitness south {south}\ngroup both all north south\nquorum {quorum}\n")
}

fn endorse(signer: &NoteSigner, root: &NoteSigner) -> String {
    Endorsement::LedgerKey { key: signer.verifier().clone(), second: None }.sign(root).unwrap()
}

/// One volume, taken apart.
#[derive(Clone)]
struct Volume {
    number: u64,
    records: Vec<Vec<u8>>,
    retained: Vec<u64>,
    /// Who signs checkpoints, and from which size on.
    signers: Vec<(u64, NoteSigner)>,
    /// The size of the file `cosigned`, when, and by whom.
    cosigned: Option<(u64, u64, Vec<CosignatureSigner>)>,
}

impl Volume {
    fn checkpoint(&self, size: u64) -> Vec<u8> {
        let mut frontier = Frontier::new();
        self.records[..size as usize].iter().for_each(|record| frontier.push(Digest::leaf(record)));
        let checkpoint =
            Checkpoint { origin: format!("{NAME}/{}", self.number), size: TreeSize(size), root: frontier.root() };
        let (_, signer) = self.signers.iter().rev().find(|(from, _)| *from <= size).unwrap();
        checkpoint.sign(signer).unwrap()
    }

    fn cosigned(&self) -> Option<Vec<u8>> {
        let (size, time, witnesses) = self.cosigned.as_ref()?;
        let note = self.checkpoint(*size);
        let (checkpoint, _) = Checkpoint::parse(&note).unwrap();
        let line = |witness: &CosignatureSigner| witness.line(&checkpoint.to_text(), CosignTime(*time)).unwrap();
        Some(with_lines(&note, &witnesses.iter().map(line).collect::<Vec<_>>()).unwrap())
    }

    fn write(&self, root: &Path) {
        let folder = root.join(cairn_ledger::volume::folder(self.number));
        let leaves: Vec<Digest> = self.records.iter().map(|record| Digest::leaf(record)).collect();
        tiles(&self.records, &leaves).iter().for_each(|(name, bytes)| put(&folder, name, bytes));
        for size in &self.retained {
            put(&folder, &format!("checkpoints/{size}"), &self.checkpoint(*size));
        }
        put(&folder, "checkpoint", &self.checkpoint(self.records.len() as u64));
        if let Some(cosigned) = self.cosigned() {
            put(&folder, "cosigned", &cosigned);
        }
    }

    /// Appends a record of the ledger's own stream, and a detection behind it where the volume goes on.
    fn own(&mut self, draft: Draft) -> u64 {
        let own = self.records.iter().rev().find_map(|bytes| {
            let record = Record::parse(bytes).unwrap();
            record.stream.is_ledger().then(|| (record.sequence.next(), Digest::leaf(bytes)))
        });
        let (sequence, prevdigest) = own.unwrap();
        let Draft { kind, subject, release, foreignid, data } = draft;
        let time = Timestamp::from_nanos(NOW * 1_000_000_000);
        let stream = StreamId::ledger();
        let record = Record { stream, sequence, prevdigest, kind, subject, time, release, foreignid, data };
        self.records.push(record.to_bytes().unwrap());
        self.records.len() as u64 - 1
    }

    /// Changes record 0, of whose stream nothing else stands in this volume. Heads of a later volume that name checkpoints of it as it
    /// was go, with what follows them: they would give the attack away.
    fn edit_opened(&mut self, edit: impl FnOnce(&mut LedgerOpened)) {
        if self.number > 1 {
            self.records.truncate(3);
            self.retained.clear();
        }
        let mut record = Record::parse(&self.records[0]).unwrap();
        let mut opened: LedgerOpened = record.data_as().unwrap();
        edit(&mut opened);
        record.data = serde_json::to_value(&opened).unwrap();
        self.records[0] = record.to_bytes().unwrap();
    }
}

/// A ledger of two volumes, without releases: nodes join, heads are signed, the second goes on where the first ended.
struct Story {
    volumes: Vec<Volume>,
    /// A file that is put beside what follows from the records.
    spoilt: Option<(&'static str, Vec<u8>)>,
}

/// Records that a producer may write without a release.
fn capabilities(book: &mut Book) -> Vec<u8> {
    let data = cairn_schemas::data::NodeCapabilities {
        live: true,
        version: "0.1.0".into(),
        can: vec!["exec".into()],
        cannot: Vec::new(),
    };
    let at = book.add(&sensor(), Draft::new(&data));
    book.records[at].clone()
}

fn head(book: &mut Book, stream: &StreamId, seen: Option<&Ledger>) -> Vec<u8> {
    let seen = seen.map(|ledger| {
        let checkpoint = ledger.checkpoint();
        CheckpointSeen { origin: ledger.origin(), size: checkpoint.size.0, root: checkpoint.root }
    });
    let data = book.head_data(stream, seen);
    let at = book.add(stream, Draft::new(&data));
    book.records[at].clone()
}

fn append(ledger: &Ledger, bytes: Vec<u8>) {
    let stream = Record::parse(&bytes).unwrap().stream;
    let size = ledger.append(&stream, vec![bytes]).unwrap().size;
    assert!(ledger.wait_published(size, std::time::Duration::from_secs(60)));
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new(Timestamp::from_nanos(NOW * 1_000_000_000)))
}

/// What the writer makes of the story's beginning; `open` says what record 0 is to hold.
fn begun(folder: &Path, edit: impl FnOnce(&mut LedgerOpened)) -> (Ledger, Book) {
    let mut opened = opened();
    edit(&mut opened);
    let ledger = Ledger::create(folder, &opened, ledger_signer(), clock()).unwrap();
    let mut book = Book::empty();
    let mut at = vec![book.open(&control())];
    at.push(book.add(&control(), Draft::new(&joined("sensor-1", cairn_schemas::types::NodeKind::Sensor, &key(3)))));
    at.push(book.open(&sensor()));
    at.into_iter().for_each(|at| append(&ledger, book.records[at].clone()));
    (0..300).for_each(|_| append_quietly(&ledger, capabilities(&mut book)));
    let heads = [head(&mut book, &control(), None), head(&mut book, &sensor(), None)];
    heads.into_iter().for_each(|head| append(&ledger, head));
    (ledger, book)
}

fn append_quietly(ledger: &Ledger, bytes: Vec<u8>) {
    let stream = Record::parse(&bytes).unwrap().stream;
    ledger.append(&stream, vec![bytes]).unwrap();
}

/// The second volume's records: a head that has seen the first one's last checkpoint, and one that has seen the second's first.
fn goes_on(ledger: &Ledger, book: &mut Book, before: CheckpointSeen) {
    append(ledger, capabilities(book));
    let data = book.head_data(&sensor(), Some(before));
    let at = book.add(&sensor(), Draft::new(&data));
    append(ledger, book.records[at].clone());
    append(ledger, capabilities(book));
    append(ledger, head(book, &sensor(), Some(ledger)));
}

fn seen(ledger: &Ledger) -> CheckpointSeen {
    let checkpoint = ledger.checkpoint();
    CheckpointSeen { origin: ledger.origin(), size: checkpoint.size.0, root: checkpoint.root }
}

impl Story {
    fn told(volumes: u64) -> Story {
        let folder = tempfile::tempdir().unwrap();
        let (ledger, mut book) = begun(folder.path(), |_| {});
        for _ in 1..volumes {
            let before = seen(&ledger);
            ledger.rotate(Rotation::default()).unwrap();
            goes_on(&ledger, &mut book, before);
        }
        ledger.close();
        let report = verify(folder.path());
        assert_eq!((report.verdict, &report.faults, &report.findings), (Verdict::Ok, &vec![], &vec![]));
        Story::read(folder.path(), volumes)
    }

    fn read(folder: &Path, volumes: u64) -> Story {
        let volume = |number| {
            let dir = LedgerDir::open(&folder.join(cairn_ledger::volume::folder(number))).unwrap();
            let (checkpoint, _) = dir.checkpoint().unwrap();
            let records = dir.records(0..checkpoint.size.0, checkpoint.size).map(|record| record.unwrap().1).collect();
            let retained = dir.numbered().unwrap().iter().map(|size| size.0).collect();
            Volume { number, records, retained, signers: vec![(0, signer(number, 1))], cosigned: None }
        };
        Story { volumes: (1..=volumes).map(volume).collect(), spoilt: None }
    }

    fn newest(&mut self) -> &mut Volume {
        self.volumes.last_mut().unwrap()
    }

    /// Signs with another key from here on.
    fn rotate_key(&mut self, new: &NoteSigner, endorsement: String) {
        let volume = self.newest();
        let rotated = LedgerKeyRotated {
            old: signer(volume.number, 1).verifier().to_string(),
            new: new.verifier().to_string(),
            mldsa_key: None,
            endorsement,
            reason: None,
        };
        let index = volume.own(Draft::new(&rotated));
        volume.signers.push((index + 1, new.clone()));
    }

    fn verify_with(&self, options: &Options) -> Report {
        let folder = tempfile::tempdir().unwrap();
        self.volumes.iter().for_each(|volume| volume.write(folder.path()));
        if let Some((file, bytes)) = &self.spoilt {
            put(folder.path(), file, bytes);
        }
        cairn_verify::verify(folder.path(), options)
    }

    /// Verified with the first volume's key, as whoever was there at the beginning would.
    fn verify(&self) -> Report {
        self.verify_with(&Options { key: Some(the_key()), threads: 2, ..Options::default() })
    }
}

fn given(policy: &str) -> Options {
    Options { key: Some(the_key()), policy: Some(policy.to_owned()), threads: 2, ..Options::default() }
}

fn finding_kinds(report: &Report) -> Vec<FindingKind> {
    report.findings.iter().map(|finding| finding.kind).collect()
}

#[test]
fn taken_apart_and_put_together_it_is_the_same_ledger() {
    let report = Story::told(3).verify();
    assert_eq!((report.verdict, &report.faults, &report.findings), (Verdict::Ok, &vec![], &vec![]));
    let states: Vec<_> = report.volumes.iter().map(|volume| (volume.volume, volume.state)).collect();
    assert_eq!(states, [(1, VolumeState::Closed), (2, VolumeState::Closed), (3, VolumeState::Open)]);
    assert_eq!(report.checkpoint.unwrap().origin, format!("{NAME}/3"));
    let sensor = report.streams.iter().find(|stream| stream.role == "sensor").unwrap();
    assert_eq!((sensor.last_volume, sensor.records, sensor.unattested), (3, 310, 0));
}

#[test]
fn any_of_its_keys_will_do_and_no_other() {
    let story = Story::told(2);
    let with = |key: String| story.verify_with(&Options { key: Some(key), threads: 2, ..Options::default() });
    for volume in [1, 2] {
        assert_eq!(with(signer(volume, 1).verifier().to_string()).verdict, Verdict::Ok);
    }
    let report = with(signer(2, 9).verifier().to_string());
    assert!(kinds(&report).contains(&FaultKind::KeyMismatch), "{:#?}", report.faults);
    let report = with(NoteSigner::new("other.example/cairn/2", key(1)).unwrap().verifier().to_string());
    assert_eq!(report.exit_code(false), 1);
}

#[test]
fn volumes_that_were_dropped_are_named_and_the_rest_holds() {
    let mut story = Story::told(3);
    story.volumes.remove(0);
    let report = story.verify();
    assert_eq!((report.verdict, &report.faults, &report.findings), (Verdict::Ok, &vec![], &vec![]));
    assert_eq!(report.volumes[0].state, VolumeState::Absent);
    assert!(report.volumes[0].checkpoint.is_some());
    assert!(report.not_made.iter().any(|line| line.contains("not here: 1")), "{:?}", report.not_made);
    story.volumes.remove(0);
    let report = story.verify();
    assert_eq!((report.verdict, &report.faults), (Verdict::Ok, &vec![]));
    assert_eq!(report.volumes.iter().filter(|volume| volume.state == VolumeState::Absent).count(), 2);
}

#[test]
fn a_restored_ledger_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, mut book) = begun(folder.path(), |_| {});
    let size = ledger.size();
    ledger.close();
    drop(ledger);
    let restore = Restore {
        reason: VolumeReason::Restored,
        note: Some("disk 7".into()),
        signer: ledger_signer(),
        endorsement: None,
    };
    let (ledger, _) = Ledger::restore(folder.path(), restore, clock()).unwrap();
    assert!(size <= ledger.read_from(ledger.start(), usize::MAX).unwrap().len().try_into().map(TreeSize).unwrap());
    append(&ledger, capabilities(&mut book));
    append(&ledger, head(&mut book, &sensor(), Some(&ledger)));
    ledger.close();
    let report = verify(folder.path());
    assert_eq!((report.verdict, &report.faults), (Verdict::Ok, &vec![]));
    assert_eq!(finding_kinds(&report), [FindingKind::VolumeReplaced]);
    assert!(report.findings[0].reason.contains("disk 7"));
    assert_eq!((report.findings[0].volume, report.volumes[0].state), (2, VolumeState::Replaced));
    assert_eq!(report.exit_code(true), 1);
}

#[test]
fn a_key_that_changes_signs_what_covers_its_record() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, mut book) = begun(folder.path(), |_| {});
    let new = signer(1, 7);
    ledger.rotate_key(&new, &endorse(&new, &root_signer()), Some("yearly")).unwrap();
    append(&ledger, capabilities(&mut book));
    append(&ledger, head(&mut book, &sensor(), Some(&ledger)));
    ledger.close();
    let report = verify(folder.path());
    assert_eq!((report.verdict, &report.faults, &report.findings), (Verdict::Ok, &vec![], &vec![]));
    assert_eq!(report.volumes[0].keys.len(), 2);
    let by_new = Options { key: Some(new.verifier().to_string()), ..Options::default() };
    assert_eq!(cairn_verify::verify(folder.path(), &by_new).verdict, Verdict::Ok);
    let structure = Options { key: Some(the_key()), structure: true, ..Options::default() };
    assert_eq!(cairn_verify::verify(folder.path(), &structure).faults, vec![]);
}

#[test]
fn a_frozen_ledger_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, _) = begun(folder.path(), |_| {});
    ledger.freeze("the end").unwrap();
    ledger.close();
    let report = verify(folder.path());
    assert_eq!((report.verdict, &report.faults), (Verdict::Ok, &vec![]));
    assert_eq!(report.volumes[0].state, VolumeState::Frozen);
}

#[test]
fn witnesses_vouch_for_what_they_saw() {
    let mut story = Story::told(2);
    let size = story.newest().records.len() as u64;
    story.newest().cosigned = Some((size, NOW + 60, vec![witness("north", 21), witness("south", 22)]));
    let report = story.verify_with(&given(&policy("both")));
    assert_eq!((report.verdict, &report.faults, &report.findings), (Verdict::Ok, &vec![], &vec![]));
    let witnessed = report.witnessed.unwrap();
    assert_eq!((witnessed.policy, witnessed.uncovered), (PolicySource::Given, 0));
    assert_eq!((witnessed.earliest, witnessed.witnesses.len()), (Some(NOW + 60), 2));

    story.newest().cosigned = Some((size - 1, NOW + 60, vec![witness("north", 21), witness("south", 22)]));
    let report = story.verify_with(&given(&policy("both")));
    assert_eq!((report.verdict, finding_kinds(&report)), (Verdict::Ok, vec![FindingKind::Unwitnessed]));

    story.newest().cosigned = Some((size, NOW + 60, vec![witness("north", 21)]));
    assert_eq!(kinds(&story.verify_with(&given(&policy("both")))), [FaultKind::PolicyNotMet]);
    assert_eq!(story.verify_with(&given(&policy("north"))).verdict, Verdict::Ok);
    story.newest().cosigned = None;
    assert_eq!(kinds(&story.verify_with(&given(&policy("north")))), [FaultKind::PolicyNotMet]);
    assert_eq!(story.verify_with(&given("quorum none\n")).verdict, Verdict::Ok);
    assert_eq!(story.verify_with(&given("quorum nobody\n")).exit_code(false), 2);
}

#[test]
fn a_witness_that_another_key_signed_for_does_not_count() {
    let mut story = Story::told(1);
    let size = story.newest().records.len() as u64;
    story.newest().cosigned = Some((size, NOW + 60, vec![witness("north", 99)]));
    assert_eq!(kinds(&story.verify_with(&given(&policy("north")))), [FaultKind::PolicyNotMet]);
}

#[test]
fn a_forged_cosignature_is_a_fault() {
    // The line says north, by name and key id; the signature is over another tree.
    let story = Story::told(1);
    let folder = tempfile::tempdir().unwrap();
    story.volumes[0].write(folder.path());
    let size = story.volumes[0].records.len() as u64;
    let (other, _) = Checkpoint::parse(&story.volumes[0].checkpoint(size - 1)).unwrap();
    let line = witness("north", 21).line(&other.to_text(), CosignTime(NOW)).unwrap();
    put(folder.path(), "cosigned", &with_lines(&story.volumes[0].checkpoint(size), &[line]).unwrap());
    let report = cairn_verify::verify(folder.path(), &given(&policy("north")));
    assert!(kinds(&report).contains(&FaultKind::CosignatureWrong));
    assert!(report.faults.iter().any(|fault| fault.file.as_deref() == Some("cosigned")));
    // Where the ledger's own policy is all there is, that is the one thing wrong.
    let mut own = Story::told(1);
    own.volumes[0].edit_opened(|opened| opened.witnesses = Some(policy("north")));
    let line = witness("north", 21).line(&other.to_text(), CosignTime(NOW)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    // Heads name no checkpoint here: record 0 may change.
    own.volumes[0].write(folder.path());
    put(folder.path(), "cosigned", &with_lines(&own.volumes[0].checkpoint(size), &[line]).unwrap());
    assert_eq!(kinds(&verify(folder.path())), [FaultKind::CosignatureWrong]);
}

#[test]
fn dates_are_held_to_the_witnesses_clocks() {
    let mut story = Story::told(1);
    let size = story.newest().records.len() as u64;
    // The witness had it a day before its date.
    story.newest().cosigned = Some((size, NOW - 86_400, vec![witness("north", 21)]));
    let report = story.verify_with(&given(&policy("north")));
    assert_eq!(report.verdict, Verdict::Ok);
    assert!(finding_kinds(&report).iter().all(|kind| *kind == FindingKind::TimeContradicted), "{:#?}", report.findings);
    assert_eq!(report.findings.len(), 3, "once for each stream");
    // It was not there a week after its date.
    story.newest().cosigned = Some((size - 1, NOW + 7 * 86_400, vec![witness("north", 21)]));
    let report = story.verify_with(&given(&policy("north")));
    let kinds = finding_kinds(&report);
    assert!(kinds.contains(&FindingKind::TimeContradicted) && kinds.contains(&FindingKind::Unwitnessed));
}

/// One attack: what is done, and the one kind of fault that refuses it. Without that check it would go through.
struct Attack {
    name: &'static str,
    kind: FaultKind,
    volumes: u64,
    make: fn(&mut Story),
}

fn attacks() -> Vec<Attack> {
    use FaultKind::*;
    let attack = |name, kind, volumes, make| Attack { name, kind, volumes, make };
    vec![
        attack("a volume between two others is taken away", VolumeMissing, 3, |story| drop(story.volumes.remove(1))),
        attack("the newest volume is taken away", VolumeMissing, 2, |story| drop(story.volumes.pop())),
        attack("a next volume goes on from an earlier checkpoint", VolumeChain, 2, |story| {
            let size = story.volumes[0].retained[0];
            let earlier = String::from_utf8(story.volumes[0].checkpoint(size)).unwrap();
            story.volumes[1].edit_opened(|opened| opened.previous.as_mut().unwrap().checkpoint = earlier);
        }),
        attack("a next volume names the checkpoint of another ledger", VolumeChain, 2, |story| {
            let other = NoteSigner::new("other/1", key(1)).unwrap();
            let checkpoint = Checkpoint { origin: "other/1".into(), size: TreeSize(306), root: Digest::ZERO };
            let note = String::from_utf8(checkpoint.sign(&other).unwrap()).unwrap();
            story.volumes[1].edit_opened(|opened| opened.previous.as_mut().unwrap().checkpoint = note);
        }),
        attack("a closed volume is cut short, and the next one told to fit", VolumeChain, 2, |story| {
            // `ledger.closed` goes, and with it the next volume's number in the ledger's stream.
            story.volumes[0].records.pop();
            story.volumes[0].retained.retain(|size| *size <= 305);
            let size = story.volumes[0].records.len() as u64;
            let note = String::from_utf8(story.volumes[0].checkpoint(size)).unwrap();
            let mut record = Record::parse(&story.volumes[1].records[0]).unwrap();
            record.sequence.0 -= 1;
            record.prevdigest = Digest::leaf(&story.volumes[0].records[0]);
            story.volumes[1].records[0] = record.to_bytes().unwrap();
            story.volumes[1].edit_opened(|opened| opened.previous.as_mut().unwrap().checkpoint = note);
            // The head that saw the longer one goes too, with what follows it.
            story.volumes[1].records.truncate(2);
            story.volumes[1].retained.clear();
        }),
        attack("another root key in a later volume", VolumeChain, 2, |story| {
            let root = NoteSigner::new(&format!("{NAME}/root"), key(66)).unwrap();
            story.volumes[1].edit_opened(|opened| opened.root_key = root.verifier().to_string());
        }),
        attack("a stream is left behind", VolumeCarried, 2, |story| {
            story.volumes[1].edit_opened(|opened| {
                opened.previous.as_mut().unwrap().streams.retain(|stream| stream.stream != control());
            });
        }),
        attack("a stream is taken over short of its tail", VolumeCarried, 2, |story| {
            story.volumes[1].edit_opened(|opened| {
                let streams = &mut opened.previous.as_mut().unwrap().streams;
                let control = streams.iter_mut().find(|stream| stream.stream == control()).unwrap();
                control.sequence.0 -= 1;
            });
        }),
        attack("a node is taken over with another key", VolumeCarried, 2, |story| {
            story.volumes[1].edit_opened(|opened| {
                let key = cairn_ledger::head::format_key(&key(66).verifying_key());
                opened.previous.as_mut().unwrap().nodes[0].key = key;
            });
        }),
        attack("a node is taken over that never joined", VolumeCarried, 2, |story| {
            story.volumes[1].edit_opened(|opened| {
                let mut made_up = opened.previous.as_ref().unwrap().nodes[0].clone();
                made_up.node = node("sensor-66");
                opened.previous.as_mut().unwrap().nodes.push(made_up);
            });
        }),
        attack("a record goes on behind the end", VolumeEnded, 1, |story| {
            let volume = story.newest();
            let last = volume.records.pop().unwrap();
            volume.own(Draft::new(&LedgerFrozen { reason: "the end".into() }));
            volume.records.push(last);
            volume.retained.clear();
        }),
        attack("another key, endorsed by nobody", KeyEndorsement, 1, |story| {
            let new = signer(1, 66);
            story.rotate_key(&new, "nothing\n".into());
        }),
        attack("another key, endorsed by the ledger's own", KeyEndorsement, 1, |story| {
            let new = signer(1, 66);
            let endorsement = endorse(&new, &NoteSigner::new(&format!("{NAME}/root"), key(1)).unwrap());
            story.rotate_key(&new, endorsement);
        }),
        attack("another key, with the endorsement of a third", KeyEndorsement, 1, |story| {
            story.rotate_key(&signer(1, 66), endorse(&signer(1, 7), &root_signer()));
        }),
        attack("a next volume's key, endorsed by nobody", KeyEndorsement, 2, |story| {
            let new = signer(2, 66);
            story.volumes[1].signers = vec![(0, new.clone())];
            story.volumes[1].edit_opened(|opened| opened.ledger_key = new.verifier().to_string());
        }),
        attack("a next volume's key, with the endorsement for the volume before", KeyEndorsement, 2, |story| {
            let new = signer(2, 7);
            story.volumes[1].signers = vec![(0, new.clone())];
            let endorsement = endorse(&signer(1, 7), &root_signer());
            story.volumes[1].edit_opened(|opened| {
                opened.ledger_key = new.verifier().to_string();
                opened.previous.as_mut().unwrap().endorsement = Some(endorsement);
            });
        }),
        attack("a checkpoint behind a rotation, signed by the old key", CheckpointSignature, 1, |story| {
            let new = signer(1, 7);
            story.rotate_key(&new, endorse(&new, &root_signer()));
            story.newest().signers.truncate(1);
        }),
        attack("other witnesses, endorsed by nobody", WitnessesEndorsement, 1, |story| {
            let none = LedgerWitnessesChanged { policy: None, endorsement: "nothing\n".into() };
            story.newest().own(Draft::new(&none));
        }),
        attack("other witnesses, with the endorsement of others", WitnessesEndorsement, 1, |story| {
            let endorsement = Endorsement::of_policy(NAME, Some(&policy("both"))).sign(&root_signer()).unwrap();
            let changed = LedgerWitnessesChanged { policy: None, endorsement };
            story.newest().own(Draft::new(&changed));
        }),
        attack("a witness policy that is none", WitnessesEndorsement, 1, |story| {
            let text = "quorum nobody\n";
            let endorsement = Endorsement::of_policy(NAME, Some(text)).sign(&root_signer()).unwrap();
            let changed = LedgerWitnessesChanged { policy: Some(text.into()), endorsement };
            story.newest().own(Draft::new(&changed));
        }),
        attack("the file cosigned holds another tree", RetainedWrong, 1, |story| {
            let mut other = story.volumes[0].clone();
            other.records.swap(5, 6);
            let size = other.records.len() as u64;
            other.cosigned = Some((size, NOW, vec![witness("north", 21)]));
            let cosigned = other.cosigned().unwrap();
            story.spoilt = Some(("cosigned", cosigned));
        }),
        attack("the file cosigned is larger than the ledger", CheckpointRolledBack, 1, |story| {
            let volume = story.newest();
            let size = volume.records.len() as u64;
            volume.cosigned = Some((size, NOW, vec![witness("north", 21)]));
            let cosigned = volume.cosigned().unwrap();
            volume.cosigned = None;
            volume.records.pop();
            volume.retained.retain(|kept| *kept < size);
            story.spoilt = Some(("cosigned", cosigned));
        }),
        attack("the file cosigned is no checkpoint", CheckpointMalformed, 1, |story| {
            story.spoilt = Some(("cosigned", b"nothing\n".to_vec()));
        }),
    ]
}

#[test]
fn every_attack_is_refused_by_one_check() {
    let told: Vec<Story> = (1..=3).map(Story::told).collect();
    for Attack { name, kind, volumes, make } in attacks() {
        let Story { volumes, .. } = &told[volumes as usize - 1];
        let mut story = Story { volumes: volumes.clone(), spoilt: None };
        make(&mut story);
        let report = story.verify();
        assert_eq!(kinds(&report), [kind], "{name}: {:#?}", report.faults);
        assert_eq!((report.verdict, report.exit_code(false)), (Verdict::Failed, 1), "{name}");
    }
}

#[test]
fn a_key_that_was_named_and_never_signed_proves_nothing() {
    // The attacker's ledger names the auditor's key in record 0, and signs everything with another one, endorsed by another root.
    let mut story = Story::told(1);
    let root = NoteSigner::new(&format!("{NAME}/root"), key(66)).unwrap();
    story.newest().edit_opened(|opened| opened.root_key = root.verifier().to_string());
    let new = signer(1, 67);
    story.rotate_key(&new, endorse(&new, &root));
    story.newest().retained.clear();
    let report = story.verify();
    assert_eq!(kinds(&report), [FaultKind::CheckpointSignature], "{:#?}", report.faults);
    assert!(report.faults[0].reason.contains("no checkpoint that is here and holds"));
}
