//! `kill -9` of a witness: what it said that it cosigned it remembers, and it never cosigns another history of it.
//!
//! The test runs itself as the process that is killed.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use cairn_ledger::checkpoint::Checkpoint;
use cairn_ledger::cosignature::{CosignTime, CosignatureSigner};
use cairn_ledger::note::NoteSigner;
use cairn_ledger::tree::{Frontier, HashReader, consistency_proof};
use cairn_ledger::witness::{AddCheckpoint, Answer, DirStore, KnownLog, KnownLogs, Witness};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::TreeSize;
use ed25519_dalek::SigningKey;

const DIRECTORY: &str = "CAIRN_TEST_WITNESS_DIRECTORY";
const ORIGIN: &str = "kill/1";
const ROUNDS: usize = 20;
const NOW: CosignTime = CosignTime(1_700_000_000);

fn log() -> NoteSigner {
    NoteSigner::new(ORIGIN, SigningKey::from_bytes(&[1; 32])).unwrap()
}

fn open(dir: &Path) -> Witness {
    let mut logs = KnownLogs::new();
    logs.add(KnownLog::ledger(&log().verifier().to_string()).unwrap()).unwrap();
    let signer = CosignatureSigner::ed25519("w.example", SigningKey::from_bytes(&[2; 32])).unwrap();
    Witness::new(vec![signer], logs, Box::new(DirStore::open(dir).unwrap()))
}

/// Leaves of one of two histories.
struct History(&'static str);

impl History {
    fn root(&self, from: u64, to: u64) -> Digest {
        let mut frontier = Frontier::new();
        (from..to).for_each(|index| frontier.push(Digest::leaf(format!("{} {index}", self.0).as_bytes())));
        frontier.root()
    }

    fn request(&self, old: u64, size: u64) -> AddCheckpoint {
        let proof = if old == 0 || old == size {
            Vec::new()
        } else {
            consistency_proof(TreeSize(old), TreeSize(size), self).unwrap()
        };
        let checkpoint = Checkpoint { origin: ORIGIN.into(), size: TreeSize(size), root: self.root(0, size) };
        AddCheckpoint { old: TreeSize(old), proof, checkpoint: checkpoint.sign(&log()).unwrap() }
    }
}

impl HashReader for History {
    type Error = std::convert::Infallible;

    fn hash(&self, level: u8, index: u64) -> Result<Digest, Self::Error> {
        Ok(self.root(index << level, (index + 1) << level))
    }
}

/// Where the witness stands.
fn newest(witness: &Witness) -> u64 {
    let kept = witness.newest(&Digest::sha256(ORIGIN.as_bytes())).unwrap();
    kept.map_or(0, |bytes| Checkpoint::parse(&bytes).unwrap().0.size.0)
}

fn cosign_until_killed(dir: &Path) {
    let witness = open(dir);
    let mut size = newest(&witness);
    let mut out = std::io::stdout();
    loop {
        let answer = witness.add_checkpoint(&History("a").request(size, size + 1).to_bytes(), NOW);
        assert!(matches!(answer, Answer::Cosigned(_)), "{answer:?}");
        size += 1;
        writeln!(out, "cosigned {size}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn a_witness_that_is_killed_remembers_what_it_said() {
    if let Some(dir) = std::env::var_os(DIRECTORY) {
        return cosign_until_killed(Path::new(&dir));
    }
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("witness");
    std::fs::create_dir(&dir).unwrap();
    let mut said = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["a_witness_that_is_killed_remembers_what_it_said", "--exact", "--nocapture"])
            .env(DIRECTORY, &dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut hear = |line: String| {
            if let Some(size) = line.strip_prefix("cosigned ") {
                said = size.parse().unwrap();
            }
        };
        // Killed after a number of answers, and not after a time.
        let mut heard = 0;
        while heard < 1 + 7 * round % 23 {
            let line = lines.next().unwrap().unwrap();
            heard += usize::from(line.starts_with("cosigned "));
            hear(line);
        }
        child.kill().unwrap();
        lines.map_while(Result::ok).for_each(&mut hear);
        child.wait().unwrap();

        // It may have kept one more than it said: that is the order.
        let witness = open(&dir);
        let kept = newest(&witness);
        assert!(kept == said || kept == said + 1, "round {round}: said {said}, kept {kept}");
        // Another history of what was said, or of what was kept: whatever size the request claims.
        for size in [said, kept] {
            for old in [0, said, kept] {
                let forged = History("b").request(old.min(size), size);
                let answer = witness.add_checkpoint(&forged.to_bytes(), NOW);
                assert!(!matches!(answer, Answer::Cosigned(_)), "round {round}: {answer:?}");
            }
        }
        // The log asks again, is told, and goes on.
        let told = witness.add_checkpoint(&History("a").request(0, kept).to_bytes(), NOW);
        assert_eq!(told, Answer::Conflict(TreeSize(kept)));
        let again = witness.add_checkpoint(&History("a").request(kept, kept).to_bytes(), NOW);
        assert!(matches!(again, Answer::Cosigned(_)), "{again:?}");
    }
    assert!(said > ROUNDS as u64);
}
