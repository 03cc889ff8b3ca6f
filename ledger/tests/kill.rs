//! `kill -9` under load: a process that appends is killed at any moment, ten times over; what it was told is durable must be there.
//!
//! This test runs itself as the process that is killed.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use cairn_ledger::checkpoint::Checkpoint;
use cairn_ledger::dir::LedgerDir;
use cairn_ledger::head;
use cairn_ledger::note::NoteSigner;
use cairn_ledger::producer::Chain;
use cairn_ledger::tree::Frontier;
use cairn_ledger::writer::Ledger;
use cairn_schemas::data::{LedgerOpened, NodeCapabilities, NodeJoined, StreamOpened};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{RecordIndex, Sequence, StreamId, TreeSize};
use cairn_schemas::record::Draft;
use cairn_schemas::time::{Clock, ManualClock, Timestamp};
use cairn_schemas::types::NodeKind;
use ed25519_dalek::SigningKey;

const ROUNDS: usize = 10;
const WRITERS: u8 = 4;
const DIRECTORY: &str = "CAIRN_KILL_TEST_DIRECTORY";

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn signer() -> NoteSigner {
    NoteSigner::new("kill/1", key(1)).unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_nanos(1_700_000_000_000_000_000)
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new(now()))
}

fn stream(node: &str, number: u8) -> StreamId {
    StreamId::new(&node.parse().unwrap(), [number; 16])
}

fn opening(node: &str, seed: u8) -> Draft {
    let key = head::format_key(&key(seed).verifying_key());
    Draft::new(&StreamOpened { node: node.parse().unwrap(), key, predecessor: None })
}

/// A ledger in which the writers' nodes have joined.
fn create(dir: &Path) {
    let opened = LedgerOpened {
        name: "kill".into(),
        volume: 1,
        ledger_key: signer().verifier().to_string(),
        root_key: NoteSigner::new("kill/root", key(2)).unwrap().verifier().to_string(),
        release_key: String::new(),
        control_node: "control".parse().unwrap(),
        control_key: head::format_key(&key(3).verifying_key()),
        unsigned_commits: true,
        mldsa_key: None,
        witnesses: None,
        previous: None,
    };
    let ledger = Ledger::create(dir, &opened, signer(), clock()).unwrap();
    let mut control = Chain::new(stream("control", 0));
    let mut records = vec![control.seal(opening("control", 3), now()).unwrap().bytes];
    for writer in 0..WRITERS {
        let joined = NodeJoined {
            node: format!("writer-{writer}").parse().unwrap(),
            kind: NodeKind::Sensor,
            key: head::format_key(&key(10 + writer).verifying_key()),
            labels: BTreeMap::new(),
            protocol: "1.0".into(),
        };
        records.push(control.seal(Draft::new(&joined), now()).unwrap().bytes);
    }
    ledger.append(control.stream(), records).unwrap();
}

/// The process that is killed: appends from several threads, and prints each record's index and leaf hash once it is durable, and
/// each checkpoint once it is published.
fn append_until_killed(dir: &Path) {
    let ledger = Ledger::open(dir, signer(), clock()).unwrap();
    let out = Mutex::new(std::io::stdout());
    let say = |line: String| {
        let mut out = out.lock().unwrap();
        writeln!(out, "{line}").and_then(|()| out.flush()).unwrap();
    };
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (ledger, say) = (&ledger, &say);
            scope.spawn(move || {
                let node = format!("writer-{writer}");
                let id = stream(&node, 10 + writer);
                let mut chain = match ledger.position(&id) {
                    Some(at) => Chain::resume(id.clone(), at.sequence.next(), at.leaf, 0, now()),
                    None => Chain::new(id.clone()),
                };
                if chain.next() == Sequence(0) {
                    let sealed = chain.seal(opening(&node, 10 + writer), now()).unwrap();
                    ledger.append(&id, vec![sealed.bytes]).unwrap();
                }
                for number in 0_u64.. {
                    let capabilities = NodeCapabilities {
                        live: true,
                        version: "v".repeat(number as usize % 700),
                        can: vec![],
                        cannot: vec![],
                    };
                    let sealed = chain.seal(Draft::new(&capabilities), now()).unwrap();
                    let appended = ledger.append(&id, vec![sealed.bytes]).unwrap();
                    say(format!("durable {} {}", appended.index, sealed.leaf));
                    if number % 16 == 0 {
                        let checkpoint = ledger.checkpoint();
                        say(format!("published {} {}", checkpoint.size, checkpoint.root));
                    }
                }
            });
        }
    });
}

/// What was said by the processes that were killed.
#[derive(Default)]
struct Said {
    durable: BTreeMap<u64, Digest>,
    published: BTreeMap<u64, Digest>,
}

impl Said {
    fn hear(&mut self, line: &str) {
        let mut words = line.split(' ');
        let (Some(word), Some(number), Some(digest), None) = (words.next(), words.next(), words.next(), words.next())
        else {
            return; // cut short by the kill, or the test harness's own line
        };
        let (Ok(number), Ok(digest)) = (number.parse(), digest.parse()) else { return };
        let told = match word {
            "durable" => &mut self.durable,
            "published" => &mut self.published,
            _ => return,
        };
        let before = told.insert(number, digest);
        assert!(before.is_none_or(|before| before == digest), "{word} {number} was said twice, differently");
    }

    /// Checks the directory's published files against all that was ever said.
    fn check(&self, dir: &Path) -> TreeSize {
        let dir = LedgerDir::open(dir).unwrap();
        let keys = [signer().verifier().clone()];
        let checkpoint = Checkpoint::verify(&dir.checkpoint_bytes().unwrap(), "kill/1", &keys).unwrap();
        let mut frontier = Frontier::new();
        for record in dir.records(0..u64::MAX, checkpoint.size) {
            let (RecordIndex(index), record) = record.unwrap();
            let leaf = Digest::leaf(&record);
            assert!(self.durable.get(&index).is_none_or(|told| *told == leaf), "record {index} is another one now");
            frontier.push(leaf);
            let root = frontier.root();
            assert!(
                self.published.get(&(index + 1)).is_none_or(|told| *told == root),
                "checkpoint {} differs",
                index + 1
            );
        }
        assert_eq!((frontier.size(), frontier.root()), (checkpoint.size, checkpoint.root));
        checkpoint.size
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    if let Some(dir) = std::env::var_os(DIRECTORY) {
        return append_until_killed(Path::new(&dir));
    }
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("ledger");
    create(&dir);
    let mut said = Said::default();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "nothing_acknowledged_is_lost_by_kill_9", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, &dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Killed after a number of answers and not after a time, so that a slow machine gets as far.
        let answers = 40 + 97 * round;
        for line in lines.by_ref().take(answers) {
            said.hear(&line.unwrap());
        }
        child.kill().unwrap();
        // What was already in the pipe had been said as well.
        lines.map_while(Result::ok).for_each(|line| said.hear(&line));
        child.wait().unwrap();
        // Published files are whole at any moment; opening finds all that was acknowledged.
        said.check(&dir);
        drop(Ledger::open(&dir, signer(), clock()).unwrap_or_else(|error| panic!("round {round}: {error}")));
        let size = said.check(&dir);
        let last = said.durable.last_key_value().unwrap();
        assert!(size.0 > *last.0, "round {round}: record {} was acknowledged, and {size} are there", last.0);
    }
    assert!(said.durable.len() > 40 * ROUNDS && !said.published.is_empty());
}
