//! A node that is shown another history than the witnesses are: the agent, its control plane and a witness, each behind a socket of its
//! own. The control plane has the ledger's key, so every signature is right; what is wrong shows in the comparison alone.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use cairn_ledger::checkpoint::Checkpoint;
use cairn_ledger::cosignature::CosignTime;
use cairn_ledger::policy::Policy;
use cairn_ledger::random::SystemRandom as LedgerRandom;
use cairn_ledger::witness::client::Head;
use cairn_ledger::witness::http::HttpTransport;
use cairn_ledger::witness::keys::{self, New};
use cairn_ledger::witness::{Cosigner, KnownLog, KnownLogs, Witness, server};
use cairn_schemas::data::NodeConflict;
use cairn_schemas::ids::TreeSize;

use super::*;
use crate::fixture::History;

/// Seconds since 1970, as everybody here has it.
const NOW: u64 = 1_700_000_000;
/// Rounds of comparing after which what was not told is not going to be.
const ROUNDS: usize = 3;

/// An honest witness, as `cairn ledger witness` runs it.
struct Served {
    policy: String,
    /// How often somebody asked what it has cosigned.
    asked: Arc<AtomicUsize>,
    _folder: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl Served {
    fn start() -> Served {
        let folder = tempfile::tempdir().unwrap();
        let new = New { name: Some("w.example/w1".into()), mldsa: false };
        let (signers, store) = keys::open(folder.path(), &new, &LedgerRandom).unwrap();
        let mut logs = KnownLogs::new();
        logs.add(KnownLog::log(&fixture::ledger().verifier().to_string()).unwrap()).unwrap();
        let witness = Arc::new(Witness::new(signers, logs, Box::new(store)));
        let key = witness.keys().next().unwrap().to_string();
        let clock = ManualClock::new(Timestamp::from_nanos(NOW * 1_000_000_000));
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let router = server::router(witness, Arc::new(clock)).layer(from_fn(move |request: Request, next: Next| {
            if request.method() == axum::http::Method::GET {
                count.fetch_add(1, Ordering::SeqCst);
            }
            next.run(request)
        }));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let policy = format!("witness w1 {key} http://{}\nquorum none\n", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, router).await });
        Served { policy, asked, _folder: folder, _runtime: runtime }
    }

    /// What the control plane shows to the witness.
    fn sees(&self, history: &History, size: usize) {
        let cosigner = Cosigner::new(Policy::parse(self.policy.as_bytes()).unwrap());
        let head = Head::new(&history.signed(size, &fixture::ledger())).unwrap();
        let prove = |_, _| Err("it is asked once".to_owned());
        let asked = cosigner.ask_all(&head, &prove, &HttpTransport::default(), CosignTime(NOW)).unwrap();
        assert_eq!(asked.errors, []);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn conflicts(plane: &Plane, agent: &Agent) -> Vec<NodeConflict> {
    let records = plane.records(&agent.spool().stream());
    records.into_iter().filter(|record| record.kind == RecordType::NodeConflict).map(|r| r.data_as().unwrap()).collect()
}

/// What the node says when the witness saw so many records of one history and the node is shown so many of another.
fn told(witnessed: usize, shown: usize) -> (Bench, Served, NodeConflict) {
    let (theirs, ours) = (History::new("theirs", 8, 400), History::new("ours", 8, 400));
    let (bench, witness) = (Bench::new(), Served::start());
    witness.sees(&theirs, witnessed);
    bench.plane.show_history(&ours, shown);
    let agent = bench.start_with(&bench.plane.demand_witnesses(&witness.policy));
    bench.plane.wait_until("the conflict is in the ledger", |plane| !conflicts(plane, &agent).is_empty());
    // It is told once, however often it is found.
    let found = witness.asked();
    bench.plane.wait_until("more rounds", |_| witness.asked() >= found + ROUNDS);
    agent.shutdown().unwrap();
    let mut all = conflicts(&bench.plane, &agent);
    assert_eq!(all.len(), 1);
    let conflict = all.remove(0);

    // Whoever has the ledger's key and these two texts needs nobody's word.
    let check = |note: &str, size: usize| {
        let key = fixture::ledger().verifier().clone();
        let checkpoint = Checkpoint::verify(note.as_bytes(), key.name(), std::slice::from_ref(&key)).unwrap();
        assert_eq!(checkpoint.size, TreeSize(size as u64));
        checkpoint.root
    };
    assert_ne!(check(&conflict.seen, shown), check(&conflict.other, witnessed));
    assert_eq!(conflict.from, "w1");
    (bench, witness, conflict)
}

#[test]
fn a_fork_of_the_same_size_is_recorded_and_its_proof_stays_with_the_node() {
    let (bench, _witness, conflict) = told(12, 12);
    assert!(conflict.reason.starts_with("two roots of 12 records: "), "{}", conflict.reason);
    // The record went to the control plane that lies. This did not.
    let kept = std::fs::read_to_string(bench.folder.path().join(CONFLICT_FILE)).unwrap();
    assert_eq!(kept, format!("{}\n{}", conflict.seen, conflict.other));
}

#[test]
fn a_fork_that_has_grown_on_does_not_contain_what_the_witness_saw() {
    let (_bench, _witness, conflict) = told(12, 300);
    assert!(conflict.reason.starts_with("300 records do not contain the 12 before: "), "{}", conflict.reason);
}

#[test]
fn a_fork_that_lags_behind_the_witness_is_seen_too() {
    // The larger tree is the witness's, and the tiles that the node is shown are not of it.
    let (_bench, _witness, conflict) = told(300, 12);
    assert!(conflict.reason.starts_with("300 records do not contain the 12 before: "), "{}", conflict.reason);
}

#[test]
fn one_history_is_no_conflict_wherever_the_witness_stands() {
    for (witnessed, shown) in [(12, 300), (300, 12), (12, 12)] {
        let history = History::new("one", 0, 300);
        let (bench, witness) = (Bench::new(), Served::start());
        witness.sees(&history, witnessed);
        bench.plane.show_history(&history, shown);
        let agent = bench.start_with(&bench.plane.demand_witnesses(&witness.policy));
        bench.plane.wait_until("rounds", |_| witness.asked() >= ROUNDS);
        agent.shutdown().unwrap();
        assert_eq!(conflicts(&bench.plane, &agent), []);
        assert!(!bench.folder.path().join(CONFLICT_FILE).exists());
    }
}

#[test]
fn a_control_plane_that_shows_no_tiles_is_told_after_some_rounds() {
    let history = History::new("one", 0, 300);
    let (bench, witness) = (Bench::new(), Served::start());
    witness.sees(&history, 12);
    bench.plane.show_history(&history, 300);
    bench.plane.hide_tiles();
    let agent = bench.start_with(&bench.plane.demand_witnesses(&witness.policy));
    bench.plane.wait_until("it is told", |plane| !conflicts(plane, &agent).is_empty());
    assert!(witness.asked() >= 5, "a tile that is missing for a moment is no conflict");
    agent.shutdown().unwrap();
    let told = conflicts(&bench.plane, &agent).remove(0);
    assert!(told.reason.starts_with("no proof that they are one history in 5 rounds: "), "{}", told.reason);
}
