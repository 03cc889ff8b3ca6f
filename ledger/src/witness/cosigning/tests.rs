use std::sync::mpsc::{Receiver, Sender, channel};

use cairn_schemas::time::{Clock, Timestamp};

use super::*;
use crate::note::Note;
use crate::policy::Policy;
use crate::witness::client::{Reply, TransportError};
use crate::witness::fixture::{Direct, Log, Memory, cosigner, witness};

const ORIGIN: &str = "acme/cairn/1";
const NOW: CosignTime = CosignTime(1_700_000_000);
/// Only how long a test that fails takes.
const PATIENCE: Duration = Duration::from_secs(30);

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(NOW.0 * 1_000_000_000)
    }
}

struct Shown {
    log: Arc<Mutex<Log>>,
    taken: Mutex<Sender<Vec<u8>>>,
}

impl CosignedLog for Shown {
    fn newest(&self) -> (TreeSize, Vec<u8>) {
        let log = self.log.lock().unwrap();
        (log.size(), log.head(log.size()))
    }

    fn wait(&self, size: TreeSize, pause: Duration) -> bool {
        std::thread::sleep(pause.min(Duration::from_millis(5)));
        self.log.lock().unwrap().size() > size
    }

    fn prove(&self, old: TreeSize, new: TreeSize) -> Result<Vec<Digest>, String> {
        Ok(self.log.lock().unwrap().prove(old, new))
    }

    fn take(&self, cosigned: Vec<u8>) -> Result<(), String> {
        self.taken.lock().unwrap().send(cosigned).map_err(|error| error.to_string())
    }
}

/// Two witnesses that answer, one that is not there, one that never answers while the gate is shut.
struct Net {
    direct: Direct,
    gate: Mutex<bool>,
    opened: Condvar,
}

impl Transport for Net {
    fn post(&self, url: &str, body: &[u8]) -> Result<Reply, TransportError> {
        if url.contains("w4") {
            let mut open = self.gate.lock().unwrap();
            while !*open {
                open = self.opened.wait(open).unwrap();
            }
        }
        self.direct.post(url, body)
    }
}

struct Setting {
    log: Arc<Mutex<Log>>,
    net: Arc<Net>,
    cosigning: Cosigning,
    taken: Receiver<Vec<u8>>,
    policy: Policy,
}

fn setting(threshold: usize) -> Setting {
    let log = Log::new(ORIGIN);
    let store = |_: u8| Memory::default();
    let url = |n: u8| format!("http://w{n}.example/add-checkpoint");
    let witnesses = [1, 2, 4].map(|n| (url(n), witness(&format!("w{n}.example"), n, &log, &store(n))));
    let direct = Direct { witnesses: witnesses.into(), now: NOW, ..Direct::default() };
    let net = Arc::new(Net { direct, gate: Mutex::new(false), opened: Condvar::new() });
    let mut policy = format!("log {}\n", log.vkey());
    for n in 1..=4 {
        policy += &format!("witness w{n} {} http://w{n}.example\n", cosigner(&format!("w{n}.example"), n).verifier());
    }
    let policy = policy + &format!("group g {threshold} w1 w2 w3 w4\nquorum g\n");
    let policy = Policy::parse(policy.as_bytes()).unwrap();
    let log = Arc::new(Mutex::new(log));
    let (sender, taken) = channel();
    let shown = Box::new(Shown { log: Arc::clone(&log), taken: Mutex::new(sender) });
    let cosigner = Cosigner::new(policy.clone());
    let interval = Duration::from_millis(10);
    let cosigning = Cosigning::start(shown, cosigner, net.clone(), Arc::new(Fixed), interval).unwrap();
    Setting { log, net, cosigning, taken, policy }
}

impl Setting {
    fn open(&self) {
        *self.net.gate.lock().unwrap() = true;
        self.net.opened.notify_all();
    }

    /// Waits for a cosigned checkpoint of this size.
    fn wait(&self, size: u64) -> Vec<u8> {
        loop {
            let bytes = self.taken.recv_timeout(PATIENCE).unwrap();
            let (checkpoint, evaluation) = self.policy.check(&bytes, ORIGIN, &[]).unwrap();
            assert!(evaluation.met);
            if checkpoint.size == TreeSize(size) {
                return bytes;
            }
        }
    }
}

#[test]
fn a_witness_that_is_gone_and_one_that_hangs_hold_nobody_up() {
    let setting = setting(2);
    for round in 1..=5 {
        setting.log.lock().unwrap().grow(3, "a");
        setting.wait(3 * round);
    }
    let status = setting.cosigning.status();
    assert_eq!(status.iter().map(|w| w.cosigned.is_some()).collect::<Vec<_>>(), [true, true, false, false]);
    assert!(matches!(status[2].error, Some(AskError::Unreachable { .. })));
    setting.open();
    setting.cosigning.stop();
}

#[test]
fn a_slow_witness_that_is_needed_is_waited_for() {
    let setting = setting(3);
    setting.log.lock().unwrap().grow(3, "a");
    assert!(setting.taken.recv_timeout(Duration::from_millis(50)).is_err(), "two of three");
    setting.open();
    let note = Note::parse(&setting.wait(3)).unwrap();
    assert!(note.cosigned_at(cosigner("w4.example", 4).verifier()).unwrap().is_some());
    setting.cosigning.stop();
}

#[test]
fn another_history_is_told_and_not_cosigned() {
    let setting = setting(1);
    setting.open();
    setting.log.lock().unwrap().grow(3, "a");
    setting.wait(3);
    let mut other = Log::new(ORIGIN);
    other.grow(4, "b");
    *setting.log.lock().unwrap() = other;
    let deadline = Instant::now() + PATIENCE;
    while setting.cosigning.status().iter().filter(|w| w.error.as_ref().is_some_and(AskError::is_alarm)).count() < 1 {
        assert!(Instant::now() < deadline, "{:?}", setting.cosigning.status());
        std::thread::sleep(Duration::from_millis(5));
    }
    setting.cosigning.stop();
    for bytes in setting.taken.try_iter() {
        assert_eq!(setting.policy.check(&bytes, ORIGIN, &[]).unwrap().0.size, TreeSize(3));
    }
}
