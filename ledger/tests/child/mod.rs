//! A process that appends, to be killed or failed from outside, and what it said before that. Tests run themselves as that process.
//!
//! What every producer sends follows from its name and the sequence alone, so that a process that comes after a killed one has the same
//! records in its spool, and sends the last ones again as a producer does that was not told what became of them.
#![allow(dead_code, reason = "each test uses its part")]

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn_ledger::checkpoint::Checkpoint;
use cairn_ledger::dir::LedgerDir;
use cairn_ledger::head;
use cairn_ledger::note::NoteSigner;
use cairn_ledger::producer::{Chain, Sealed};
use cairn_ledger::tree::Frontier;
use cairn_ledger::writer::{AppendError, Ledger, OpenError};
use cairn_schemas::data::{LedgerOpened, NodeCapabilities, NodeJoined, StreamOpened};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{RecordIndex, Sequence, StreamId, TreeSize};
use cairn_schemas::record::Draft;
use cairn_schemas::time::{Clock, ManualClock, Timestamp};
use cairn_schemas::types::NodeKind;
use ed25519_dalek::SigningKey;

/// Where the child finds the ledger; a test that sees it is the child.
pub(crate) const DIRECTORY: &str = "CAIRN_CHILD_TEST_DIRECTORY";
/// Nodes with two streams each.
const NODES: u8 = 3;
/// Streams that are written at the same time.
pub(crate) const WRITERS: u8 = 2 * NODES;
/// Records that a producer sends again when it starts.
const SENT_AGAIN: usize = 3;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn signer() -> NoteSigner {
    NoteSigner::new("child/1", key(1)).unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_nanos(1_700_000_000_000_000_000)
}

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new(now()))
}

fn opening(node: &str, seed: u8) -> Draft {
    let key = head::format_key(&key(seed).verifying_key());
    Draft::new(&StreamOpened { node: node.parse().unwrap(), key, predecessor: None })
}

/// A ledger in which the writers' nodes have joined, of `size` records.
pub(crate) fn create(dir: &Path, size: u64) {
    let opened = LedgerOpened {
        name: "child".into(),
        volume: 1,
        ledger_key: signer().verifier().to_string(),
        root_key: NoteSigner::new("child/root", key(2)).unwrap().verifier().to_string(),
        release_key: RELEASE_KEY.into(),
        control_node: "control".parse().unwrap(),
        control_key: head::format_key(&key(3).verifying_key()),
        unsigned_commits: true,
        mldsa_key: None,
        witnesses: None,
        previous: None,
    };
    let ledger = Ledger::create(dir, &opened, signer(), clock()).unwrap();
    let mut control = Chain::new(StreamId::new(&"control".parse().unwrap(), [0; 16]));
    let mut records = vec![control.seal(opening("control", 3), now()).unwrap().bytes];
    for node in 0..NODES {
        let joined = NodeJoined {
            node: format!("writer-{node}").parse().unwrap(),
            kind: NodeKind::Sensor,
            key: head::format_key(&key(10 + node).verifying_key()),
            labels: BTreeMap::new(),
            protocol: "1.0".into(),
        };
        records.push(control.seal(Draft::new(&joined), now()).unwrap().bytes);
    }
    while (records.len() as u64) + 2 < size {
        let observed = cairn_schemas::data::FleetObserved { streams: vec![], unchanged: records.len() as u64 };
        records.push(control.seal(Draft::new(&observed), now()).unwrap().bytes);
    }
    records.push(control.seal_head(&key(3), None, now()).unwrap().bytes);
    ledger.append(control.stream(), records).unwrap();
}

/// A public key for `ledger.opened`, which must have one; nothing is signed with it.
const RELEASE_KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEbanJuFtzQcyT5UZI2zwke0F1prFm\n\
9lwRWDaLWr52Z2ADMv5hx4Qo47wjZsPj/buvArFtS59Oj9NrQNbXdzC2Fg==\n\
-----END PUBLIC KEY-----\n";

/// A producer's stream, made again from its beginning whenever it is needed.
pub(crate) struct Producer {
    chain: Chain,
    key: SigningKey,
    opening: Option<Draft>,
}

impl Producer {
    pub(crate) fn new(writer: u8) -> Producer {
        let (node, seed) = (format!("writer-{}", writer / 2), 10 + writer / 2);
        let chain = Chain::new(StreamId::new(&node.parse().unwrap(), [10 + writer; 16]));
        Producer { chain, key: key(seed), opening: Some(opening(&node, seed)) }
    }

    pub(crate) fn stream(&self) -> StreamId {
        self.chain.stream().clone()
    }

    /// The next record: mostly of its own, sometimes a signed head.
    pub(crate) fn next(&mut self) -> Sealed {
        let Sequence(number) = self.chain.next();
        if let Some(opening) = self.opening.take() {
            return self.chain.seal(opening, now()).unwrap();
        }
        if number % 16 == 0 {
            return self.chain.seal_head(&self.key, None, now()).unwrap();
        }
        let version = "v".repeat((number * 61 % 700) as usize);
        let capabilities = NodeCapabilities { live: true, version, can: vec![], cannot: vec![] };
        self.chain.seal(Draft::new(&capabilities), now()).unwrap()
    }

    /// Goes to where the ledger is, and gives the last records before that.
    pub(crate) fn resume(&mut self, ledger: &Ledger) -> VecDeque<Sealed> {
        let mut last = VecDeque::new();
        if let Some(position) = ledger.position(&self.stream()) {
            while self.chain.next() <= position.sequence {
                last.push_back(self.next());
                if last.len() > SENT_AGAIN {
                    last.pop_front();
                }
            }
            assert_eq!(last.back().unwrap().leaf, position.leaf, "the ledger has what this producer sealed");
        }
        last
    }
}

/// Opens the ledger, waiting while another process has it.
pub(crate) fn open_when_free(dir: &Path) -> Ledger {
    loop {
        match Ledger::open(dir, signer(), clock()) {
            Ok(ledger) => return ledger,
            Err(OpenError::Locked) => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => panic!("{error}"),
        }
    }
}

/// The process that is killed: appends from several threads until its standard input ends, and prints each record's index and leaf hash
/// once it is durable, and each checkpoint once it is published.
pub(crate) fn append_until_killed(dir: &Path) {
    let ledger = open_when_free(dir);
    let out = Mutex::new(std::io::stdout());
    let say = |line: String| {
        let mut out = out.lock().unwrap();
        // Who listened may be gone.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            ledger.close();
        });
        for writer in 0..WRITERS {
            let (ledger, say) = (&ledger, &say);
            scope.spawn(move || {
                let mut producer = Producer::new(writer);
                let stream = producer.stream();
                let mut spool = producer.resume(ledger);
                for round in 0_u64.. {
                    // What was sent before is sent again now and then, and all of it at the start: the answer must be the same.
                    let again = if round % 7 == 0 { spool.make_contiguous() } else { &mut [] };
                    let next = producer.next();
                    for sealed in again.iter().chain([&next]) {
                        let appended = match ledger.append(&stream, vec![sealed.bytes.clone()]) {
                            Ok(appended) => appended,
                            Err(AppendError::Closed) => return,
                            Err(error) => panic!("{error}"),
                        };
                        say(format!("durable {} {}", appended.index, sealed.leaf));
                    }
                    spool.push_back(next);
                    if spool.len() > SENT_AGAIN {
                        spool.pop_front();
                    }
                    if round % 16 == 0 {
                        let checkpoint = ledger.checkpoint();
                        say(format!("published {} {}", checkpoint.size, checkpoint.root));
                    }
                }
            });
        }
    });
}

/// The process whose calls fail: a few appends, checkpoints and a proof, one after the other, and a close. Says what it achieved, and
/// ends at the first error.
pub(crate) fn append_a_few(dir: &Path) {
    let said = (|| {
        let ledger = Ledger::open(dir, signer(), clock()).map_err(|error| format!("open: {error}"))?;
        let mut producers = [Producer::new(0), Producer::new(1)];
        producers.iter_mut().for_each(|producer| drop(producer.resume(&ledger)));
        for round in 0..8 {
            let producer = &mut producers[round % 2];
            let sealed: Vec<Sealed> = (0..=round % 3).map(|_| producer.next()).collect();
            let records = sealed.iter().map(|sealed| sealed.bytes.clone()).collect();
            let appended = ledger.append(&producer.stream(), records).map_err(|error| format!("append: {error}"))?;
            for (back, sealed) in (0..).zip(sealed.iter().rev()) {
                println!("durable {} {}", appended.index.0 - back, sealed.leaf);
            }
            if round % 2 == 1 {
                if !ledger.wait_published(appended.size, Duration::from_secs(2)) {
                    return Err(ledger.stopped().unwrap_or_else(|| "nothing is published".into()));
                }
                let checkpoint = ledger.checkpoint();
                println!("published {} {}", checkpoint.size, checkpoint.root);
            }
            if round == 5 {
                ledger.inclusion(appended.index, appended.size).map_err(|error| format!("proof: {error}"))?;
            }
        }
        ledger.close();
        Ok::<(), String>(())
    })();
    match said {
        Ok(()) => println!("closed"),
        Err(error) => println!("failed: {error}"),
    }
}

/// The test that runs itself as a process: `test` is its own name.
pub(crate) fn command(test: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(DIRECTORY, dir);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// What was said by the processes that are gone.
#[derive(Default)]
pub(crate) struct Said {
    pub(crate) durable: BTreeMap<u64, Digest>,
    pub(crate) published: BTreeMap<u64, Digest>,
    /// How often a record was said to be durable that was before.
    pub(crate) again: u64,
}

impl Said {
    pub(crate) fn hear(&mut self, line: &str) {
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
        self.again += u64::from(word == "durable" && before.is_some());
        assert!(before.is_none_or(|before| before == digest), "{word} {number} was said twice, differently");
    }

    /// Checks the directory's published files against all that was ever said.
    pub(crate) fn check(&self, dir: &Path) -> TreeSize {
        let dir = LedgerDir::open(dir).unwrap();
        let keys = [signer().verifier().clone()];
        let checkpoint = Checkpoint::verify(&dir.checkpoint_bytes().unwrap(), "child/1", &keys).unwrap();
        let mut frontier = Frontier::new();
        let mut seen = std::collections::BTreeSet::new();
        for record in dir.records(0..u64::MAX, checkpoint.size) {
            let (RecordIndex(index), record) = record.unwrap();
            let leaf = Digest::leaf(&record);
            assert!(self.durable.get(&index).is_none_or(|told| *told == leaf), "record {index} is another one now");
            assert!(seen.insert(leaf), "record {index} is there twice");
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

    /// Opens the ledger, which publishes what is left, and checks that everything is there.
    pub(crate) fn check_reopened(&self, dir: &Path, context: &str) -> TreeSize {
        drop(Ledger::open(dir, signer(), clock()).unwrap_or_else(|error| panic!("{context}: {error}")));
        let size = self.check(dir);
        let options = cairn_verify::Options { key: Some(signer().verifier().to_string()), ..Default::default() };
        let report = cairn_verify::verify(dir, &options);
        assert_eq!(report.verdict, cairn_verify::Verdict::Ok, "{context}: {:#?}", report.faults);
        if let Some((last, _)) = self.durable.last_key_value() {
            assert!(size.0 > *last, "{context}: record {last} was acknowledged, and {size} are there");
        }
        size
    }
}
