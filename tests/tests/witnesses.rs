//! A fleet of 1,000 nodes and a control plane that shows two histories: how long until somebody sees it.
//!
//! The code under test is what ships: nodes compare with [`Comparer`], the control plane asks witnesses with [`WitnessClient`], and the
//! witnesses are [`Witness`]es. The network, the clock and the dice are the simulation's, from a seed that is printed. Times are simulated
//! ones.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here, with the place")]

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn_ledger::checkpoint::Checkpoint;
use cairn_ledger::cosignature::{CosignTime, CosignatureSigner};
use cairn_ledger::note::NoteSigner;
use cairn_ledger::policy::Policy;
use cairn_ledger::tile::{TileHashes, TileId, TileKind};
use cairn_ledger::tree::{Frontier, consistency_proof};
use cairn_ledger::witness::client::{AskError, Head, Reply, Transport, TransportError, WitnessClient};
use cairn_ledger::witness::request::SIZE_CONTENT_TYPE;
use cairn_ledger::witness::{Answer, Cosigner, KnownLog, KnownLogs, Witness, WitnessStore};
use cairn_node::agent::{COMPARE_INTERVAL, POLL_WAIT};
use cairn_node::compare::{Comparer, Finding, Peers};
use cairn_node::random::Random;
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::TreeSize;
use ed25519_dalek::SigningKey;

const SEED: u64 = 20_261_121;
const ORIGIN: &str = "acme/cairn/1";
const NODES: usize = 1_000;
/// Nodes that are shown the second history.
const DECEIVED: usize = 100;
/// Records that both histories begin with.
const SHARED: usize = 1_000;
const RECORDS_PER_SECOND: usize = 10;
const HORIZON: Duration = Duration::from_secs(5 * 60);
const WITNESSES: usize = 3;
const START: u64 = 1_700_000_000;

/// xorshift64*: the same dice everywhere.
struct Dice(Mutex<u64>);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(Mutex::new(seed | 1))
    }

    fn roll(&self) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&self, bound: u64) -> u64 {
        self.roll() % bound
    }
}

impl Random for Dice {
    fn fill(&self, bytes: &mut [u8]) -> io::Result<()> {
        bytes.iter_mut().for_each(|byte| *byte = self.roll().to_be_bytes()[0]);
        Ok(())
    }
}

/// The root of a whole number of leaves that is a power of two.
fn fold(hashes: &[Digest]) -> Digest {
    let mut hashes = hashes.to_vec();
    while hashes.len() > 1 {
        hashes = hashes.chunks_exact(2).map(|pair| Digest::node(&pair[0], &pair[1])).collect();
    }
    hashes[0]
}

/// What the ledger's key signs: one of the two.
struct History {
    levels: Vec<Vec<Digest>>,
    /// The root after so many seconds.
    roots: Vec<Digest>,
    signed: RefCell<HashMap<u64, Vec<u8>>>,
}

fn ledger() -> NoteSigner {
    NoteSigner::new(ORIGIN, SigningKey::from_bytes(&[1; 32])).unwrap().greased()
}

impl History {
    fn new(name: &str) -> History {
        let seconds = HORIZON.as_secs() as usize + 1;
        let size = SHARED + seconds * RECORDS_PER_SECOND;
        let leaf = |index: usize| {
            let who = if index < SHARED { "both" } else { name };
            Digest::leaf(format!("{who} {index}").as_bytes())
        };
        let mut levels = vec![(0..size).map(leaf).collect::<Vec<_>>()];
        while levels.last().unwrap().len() >= 256 {
            levels.push(levels.last().unwrap().chunks_exact(256).map(fold).collect());
        }
        let mut frontier = Frontier::new();
        let mut roots = Vec::new();
        for (index, leaf) in levels[0].iter().enumerate() {
            if index >= SHARED && (index - SHARED).is_multiple_of(RECORDS_PER_SECOND) {
                roots.push(frontier.root());
            }
            frontier.push(*leaf);
        }
        History { levels, roots, signed: RefCell::default() }
    }

    /// The checkpoint of that second.
    fn checkpoint(&self, second: u64) -> Vec<u8> {
        let sign = || {
            let size = TreeSize((SHARED + second as usize * RECORDS_PER_SECOND) as u64);
            let root = self.roots[second as usize];
            Checkpoint { origin: ORIGIN.into(), size, root }.sign(&ledger()).unwrap()
        };
        self.signed.borrow_mut().entry(second).or_insert_with(sign).clone()
    }

    fn tile(&self, tile: TileId) -> Result<Vec<Digest>, String> {
        let TileKind::Hashes(level) = tile.kind() else { return Err("no such tile".into()) };
        let first = tile.index() as usize * 256;
        let hashes =
            self.levels.get(usize::from(level)).and_then(|hashes| hashes.get(first..first + usize::from(tile.width())));
        hashes.map(<[Digest]>::to_vec).ok_or_else(|| "404".to_owned())
    }

    fn prove(&self, old: TreeSize, new: TreeSize) -> Result<Vec<Digest>, String> {
        consistency_proof(old, new, &TileHashes::new(new, |tile| self.tile(tile))).map_err(|error| error.to_string())
    }
}

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<BTreeMap<Digest, Vec<u8>>>>);

impl WitnessStore for Memory {
    fn load(&self, origin: &Digest) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().unwrap().get(origin).cloned())
    }

    fn save(&self, origin: &str, checkpoint: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap().insert(Digest::sha256(origin.as_bytes()), checkpoint.to_vec());
        Ok(())
    }

    fn keep_evidence(&self, _: &str, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

fn signer(number: usize) -> CosignatureSigner {
    CosignatureSigner::ed25519(&format!("w{number}.example"), SigningKey::from_bytes(&[10 + number as u8; 32])).unwrap()
}

fn witness(number: usize) -> Witness {
    let mut logs = KnownLogs::new();
    logs.add(KnownLog::ledger(&ledger().verifier().to_string()).unwrap()).unwrap();
    Witness::new(vec![signer(number)], logs, Box::new(Memory::default()))
}

/// A witness as the world sees it. One in the control plane's hands has a memory for each history, and shows each what it wants to see.
struct Seen {
    memories: Vec<Witness>,
}

impl Seen {
    fn of(&self, history: usize) -> &Witness {
        &self.memories[history.min(self.memories.len() - 1)]
    }
}

/// The way from the control plane to one memory of a witness.
struct Wire<'a> {
    witness: &'a Witness,
    now: CosignTime,
}

// The simulation has one thread; a transport may be asked for more.
impl Transport for Wire<'_> {
    fn post(&self, _: &str, body: &[u8]) -> Result<Reply, TransportError> {
        let (status, content_type, body) = match self.witness.add_checkpoint(body, self.now) {
            Answer::Cosigned(lines) => (200, "text/plain", lines),
            Answer::Conflict(size) => (409, SIZE_CONTENT_TYPE, format!("{size}\n")),
            Answer::Refused(refusal) => (refusal.status(), "text/plain", refusal.to_string()),
        };
        Ok(Reply { status, content_type: Some(content_type.to_owned()), body: body.into_bytes() })
    }
}

struct World {
    histories: [History; 2],
    witnesses: Vec<Seen>,
    clients: Vec<[WitnessClient; 2]>,
    /// Cosignatures of the second history's newest checkpoint.
    second: Vec<Option<String>>,
    refused: u64,
}

impl World {
    fn new(honest: usize) -> World {
        let memories = |number: usize| {
            let count = if number < honest { 1 } else { 2 };
            Seen { memories: (0..count).map(|_| witness(number)).collect() }
        };
        let client = |number: usize| {
            let key = signer(number).verifier().clone();
            [0, 1].map(|_| WitnessClient::new(&format!("w{number}"), key.clone(), &format!("http://w{number}.example")))
        };
        World {
            histories: [History::new("first"), History::new("second")],
            witnesses: (0..WITNESSES).map(memories).collect(),
            clients: (0..WITNESSES).map(client).collect(),
            second: vec![None; WITNESSES],
            refused: 0,
        }
    }

    /// What the control plane does each second: has both histories cosigned by whoever does.
    fn tick(&mut self, second: u64) {
        let now = CosignTime(START + second);
        for number in 0..WITNESSES {
            for history in [0, 1] {
                let shown = &self.histories[history];
                let head = Head::new(&shown.checkpoint(second)).unwrap();
                let wire = Wire { witness: self.witnesses[number].of(history), now };
                let prove = |old, new| shown.prove(old, new);
                match self.clients[number][history].ask(&head, &prove, &wire, now) {
                    Ok(line) if history == 1 => self.second[number] = Some(line),
                    Ok(_) => {}
                    Err(AskError::Forked { .. } | AskError::Ahead { .. }) => {
                        assert_eq!(history, 1, "the first history is what an honest witness has seen");
                        self.second[number] = None;
                        self.refused += 1;
                    }
                    Err(other) => panic!("{other}"),
                }
            }
        }
    }
}

/// What one node can reach.
struct Reach<'a> {
    world: &'a World,
    history: usize,
}

impl Peers for Reach<'_> {
    fn witness_checkpoint(&self, url: &str) -> Result<Option<Vec<u8>>, String> {
        let number =
            (0..WITNESSES).find(|number| url.starts_with(&format!("http://w{number}."))).ok_or("unknown host")?;
        let origin = Digest::sha256(ORIGIN.as_bytes());
        self.world.witnesses[number].of(self.history).newest(&origin).map_err(|refusal| refusal.to_string())
    }

    fn tile(&self, tile: TileId) -> Result<Vec<Digest>, String> {
        self.world.histories[self.history].tile(tile)
    }
}

struct Node {
    history: usize,
    comparer: Comparer,
    /// When in each poll's time it asks the control plane.
    phase: u64,
    told: Option<u64>,
}

fn policy() -> Policy {
    let line = |number| format!("witness w{number} {} http://w{number}.example\n", signer(number).verifier());
    let names = (0..WITNESSES).map(|number| format!(" w{number}")).collect::<String>();
    let text = (0..WITNESSES).map(line).collect::<String>() + &format!("group every all{names}\nquorum every\n");
    Policy::parse(text.as_bytes()).unwrap()
}

/// What a run came to; times in milliseconds.
struct Outcome {
    first: Option<u64>,
    last: Option<u64>,
    told: usize,
    rounds: u64,
    refused: u64,
    second_met: bool,
}

fn run(honest: usize) -> Outcome {
    let dice = Dice::new(SEED);
    let mut world = World::new(honest);
    let key = ledger().verifier().clone();
    let mut nodes: Vec<Node> = (0..NODES)
        .map(|number| Node {
            history: usize::from(number < DECEIVED),
            comparer: Comparer::new(ORIGIN, key.clone(), &policy()),
            phase: dice.below(POLL_WAIT.as_millis() as u64),
            told: None,
        })
        .collect();
    let interval = COMPARE_INTERVAL.as_millis() as u64;
    let pause = || interval / 2 + interval / 2 * dice.below(256) / 255;
    let mut due: BinaryHeap<Reverse<(u64, usize)>> = (0..NODES).map(|number| Reverse((pause(), number))).collect();
    let (mut second, mut rounds) = (0, 0);
    world.tick(0);
    while let Some(Reverse((now, number))) = due.pop() {
        if now > HORIZON.as_millis() as u64 {
            break;
        }
        while second < now / 1_000 {
            second += 1;
            world.tick(second);
        }
        rounds += 1;
        let node = &mut nodes[number];
        // What it was shown at its last poll.
        let poll = POLL_WAIT.as_millis() as u64;
        let shown = (now.saturating_sub(node.phase) / poll * poll + node.phase).min(now) / 1_000;
        let seen = world.histories[node.history].checkpoint(shown);
        let reach = Reach { world: &world, history: node.history };
        for finding in node.comparer.round(&seen, &reach, &dice) {
            match finding {
                Finding::Conflict(conflict) => {
                    assert_eq!(node.history, 1, "nobody else has anything to tell: {conflict:?}");
                    node.told.get_or_insert(now);
                }
                Finding::Agrees { .. } => {}
                Finding::Unknown { reason, .. } => assert!(node.told.is_some(), "{reason}"),
            }
        }
        due.push(Reverse((now + pause(), number)));
        // All that there is to be seen is seen.
        if nodes.iter().all(|node| node.history == 0 || node.told.is_some()) {
            break;
        }
    }
    let told: Vec<u64> = nodes.iter().filter_map(|node| node.told).collect();
    let lines: Vec<String> = world.second.iter().flatten().cloned().collect();
    let head = Head::new(&world.histories[1].checkpoint(second)).unwrap();
    let second_met = Cosigner::new(policy()).merge(&head, &lines).unwrap().1.met;
    Outcome {
        first: told.iter().min().copied(),
        last: told.iter().max().copied(),
        told: told.len(),
        rounds,
        refused: world.refused,
        second_met,
    }
}

#[test]
fn a_second_history_is_seen_as_soon_as_one_witness_is_honest() {
    println!(
        "seed {SEED}: {NODES} nodes, {DECEIVED} of them are shown a second history; {WITNESSES} witnesses, each node asks them every 30 to 60 s"
    );
    let none = run(0);
    println!(
        "no honest witness: not seen by any node in {} minutes and {} comparisons; both histories are cosigned by all. What is left is an auditor who holds the signed heads of both parts of the fleet",
        HORIZON.as_secs() / 60,
        none.rounds
    );
    assert_eq!((none.first, none.told), (None, 0), "witnesses that lie to each node in its own way hide it");
    assert!(none.second_met && none.refused == 0);

    let one = run(1);
    let (first, last) = (one.first.unwrap(), one.last.unwrap());
    println!(
        "one honest witness: seen by the first node after {:.1} s, by all {} after {:.1} s; the witness refused the second history {} times, and no checkpoint of it met the policy",
        first as f64 / 1_000.0,
        one.told,
        last as f64 / 1_000.0,
        one.refused
    );
    assert_eq!(one.told, DECEIVED, "every node that was deceived knows");
    assert!((30_000..31_000).contains(&first), "the first comparison that any of them makes: {first} ms");
    assert!(last <= 2 * COMPARE_INTERVAL.as_millis() as u64, "{last} ms");
    assert!(!one.second_met, "a release proven in the second history is refused before anybody compares");
}
