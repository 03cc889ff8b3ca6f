//! A node without a control plane: a real spool in a temporary folder, releases that are activated by hand, and a source that
//! plays what a test says.
#![allow(clippy::unwrap_used, reason = "a test ends where its helper fails")]

use std::collections::BTreeMap;
use std::io;
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn_node::{ActiveRelease, Spool, SpoolError, SpoolLimits, SystemRandom};
use cairn_policy::Policy;
use cairn_rules::event::{Event, EventKind, Exec, Process};
use cairn_schemas::data::{NodeCapabilities, RecordData};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{ReleaseRef, Sequence, Serial};
use cairn_schemas::record::{Draft, Record};
use cairn_schemas::time::{Clock, ManualClock, Timestamp};
use cairn_schemas::token::TokenKey;
use cairn_schemas::types::RecordType;
use cairn_sensor::Watch;
use cairn_sensor::open_containment::OpenContainment;
use cairn_sensor::source::{EventSource, Lost};
use cairn_sensor::watch::Node;
use ed25519_dalek::SigningKey;

/// How long a turn of the loop may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);

/// One poll.
pub(crate) enum Step {
    /// Brings these events.
    Events(Vec<Event>),
    /// From now on the counters say this.
    Lost(Vec<Lost>),
    /// Fails for good.
    Fail,
    /// Panics, as a bug in a rule's evaluation would.
    Panic,
}

/// A step, and whom to tell when everything that follows from it is done.
type Asked = (Step, Sender<()>);

struct Script {
    steps: Receiver<Asked>,
    /// Whoever waits for the end of the turn.
    waiting: Option<Sender<()>>,
    lost: Vec<Lost>,
    /// An event at each poll: until stopped, or for ever.
    busy: Option<bool>,
    stopped: bool,
}

impl EventSource for Script {
    fn poll(&mut self, timeout: Duration, take: &mut dyn FnMut(Event)) -> io::Result<usize> {
        if let Some(waiting) = self.waiting.take() {
            let _ = waiting.send(());
        }
        if let Some(heeds_stop) = self.busy
            && !(heeds_stop && self.stopped)
        {
            take(exec(4_000_000, 10_000_000, "/harmless"));
            return Ok(1);
        }
        let step = if timeout.is_zero() { self.steps.try_recv().ok() } else { self.steps.recv_timeout(timeout).ok() };
        let Some((step, waiting)) = step else { return Ok(0) };
        self.waiting = Some(waiting);
        match step {
            Step::Events(events) => {
                let len = events.len();
                events.into_iter().for_each(take);
                Ok(len)
            }
            Step::Lost(lost) => {
                self.lost = lost;
                Ok(0)
            }
            Step::Fail => Err(io::Error::other("the ring is gone")),
            Step::Panic => panic!("this panic is part of a test"),
        }
    }

    fn lost(&self) -> io::Result<Vec<Lost>> {
        Ok(self.lost.clone())
    }

    fn seeds(&self) -> io::Result<Vec<(u32, Process)>> {
        Ok(Vec::new())
    }

    fn stop(&mut self) {
        self.stopped = true;
    }
}

/// See the module's description.
pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) spool: Spool,
    active: Arc<Mutex<Option<Arc<ActiveRelease>>>>,
    steps: Mutex<Option<Sender<Asked>>>,
    /// Everything that was in the spool before it was trimmed.
    taken: Mutex<BTreeMap<Sequence, Record>>,
}

impl Bench {
    pub(crate) fn new(limits: SpoolLimits) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(1_700_000_000_000_000_000)));
        let spool = Spool::open(
            &folder.path().join("spool"),
            &"sensor-1".parse().unwrap(),
            &SigningKey::from_bytes(&[3; 32]),
            limits,
            Arc::clone(&clock) as Arc<dyn Clock>,
            Arc::new(SystemRandom),
        )
        .unwrap();
        Bench { folder, clock, spool, active: Arc::default(), steps: Mutex::default(), taken: Mutex::default() }
    }

    /// Activates a policy of these files.
    pub(crate) fn activate(&self, serial: u64, files: &[(&str, &str)]) {
        let mut tree = BTreeMap::from([("cairn.yaml".to_owned(), b"version: 1\nrings:\n  - name: all\n".to_vec())]);
        tree.extend(files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())));
        let policy = Policy::load(&tree).unwrap_or_else(|problems| panic!("{problems}"));
        *self.active.lock().unwrap() = Some(Arc::new(ActiveRelease { reference: release(serial), policy }));
    }

    pub(crate) fn start(&self) -> Watch {
        self.start_with(None)
    }

    pub(crate) fn start_busy(&self, heeds_stop: bool) -> Watch {
        self.start_with(Some(heeds_stop))
    }

    fn start_with(&self, busy: Option<bool>) -> Watch {
        let (send, steps) = channel();
        *self.steps.lock().unwrap() = Some(send);
        let source = Script { steps, waiting: None, lost: Vec::new(), busy, stopped: false };
        let active = Arc::clone(&self.active);
        let node = Node {
            active: Box::new(move || active.lock().unwrap().clone()),
            spool: self.spool.clone(),
            token_key: TokenKey { epoch: "e1".into(), key: [4; 32] },
        };
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        Watch::start(node, Box::new(source), clock, self.folder.path()).unwrap()
    }

    fn send(&self, step: Step) -> Receiver<()> {
        let (done, wait) = channel();
        self.steps.lock().unwrap().as_ref().unwrap().send((step, done)).unwrap();
        wait
    }

    /// Plays a step and waits until the loop has done everything that follows from it.
    pub(crate) fn play(&self, step: Step) {
        self.send(step).recv_timeout(PATIENCE).expect("the loop turns");
    }

    /// Plays a step that ends the loop.
    pub(crate) fn play_last(&self, step: Step) {
        drop(self.send(step));
    }

    /// Puts steps into the ring, and stops at once.
    pub(crate) fn play_while_stopping(&self, steps: Vec<Step>, watch: Watch) {
        let waits: Vec<_> = steps.into_iter().map(|step| self.send(step)).collect();
        watch.stop();
        drop(waits);
    }

    pub(crate) fn open_file(&self) -> OpenContainment {
        OpenContainment::new(self.folder.path())
    }

    /// A record that says nothing; its number.
    pub(crate) fn filler(&self) -> Sequence {
        self.spool.record(filler()).unwrap().sequence
    }

    /// Fills the spool until no small record fits, without anything being counted as lost.
    pub(crate) fn fill(&self) {
        loop {
            match self.spool.offer(None, vec![filler()]) {
                Ok(_) => {}
                Err(SpoolError::Full { .. }) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The ledger has everything.
    pub(crate) fn trim_all(&self) {
        self.take_pending();
        if let Some(last) = self.spool.status().last {
            self.spool.trim(&self.spool.stream(), last).unwrap();
        }
    }

    fn take_pending(&self) {
        let Some(pending) = self.spool.pending(usize::MAX, usize::MAX).unwrap() else { return };
        let records = pending.records.iter().map(|bytes| Record::parse(bytes).unwrap());
        self.taken.lock().unwrap().extend(records.map(|record| (record.sequence, record)));
    }

    fn records(&self) -> Vec<Record> {
        self.take_pending();
        self.taken.lock().unwrap().values().cloned().collect()
    }

    /// Every record of one type, in order.
    pub(crate) fn all<T: RecordData>(&self) -> Vec<(Record, T)> {
        let is_filler = |record: &Record| record.subject.as_deref() == Some(FILLER);
        let records = self.records().into_iter().filter(|record| record.kind == T::TYPE && !is_filler(record));
        records.map(|record| (record.clone(), record.data_as().unwrap())).collect()
    }

    /// The types of a family, in order.
    pub(crate) fn kinds_of(&self, family: &str) -> Vec<RecordType> {
        let prefix = format!("cairn.{family}.");
        self.records().iter().map(|record| record.kind).filter(|kind| kind.as_str().starts_with(&prefix)).collect()
    }
}

const FILLER: &str = "filler";

fn filler() -> Draft {
    let data = NodeCapabilities { live: true, version: "0".into(), can: Vec::new(), cannot: Vec::new() };
    Draft::new(&data).subject(FILLER)
}

pub(crate) fn release(serial: u64) -> ReleaseRef {
    ReleaseRef { serial: Serial(serial), digest: Digest::sha256(&serial.to_be_bytes()) }
}

/// A rule on `/forbidden` and on the name `forbidden`, and a response to it.
pub(crate) fn rules(response: &str) -> [(&'static str, &'static str); 2] {
    const RULE: &str = "- rule: Forbidden\n  desc: d\n  condition: evt.type = execve and (proc.exepath = /forbidden or proc.name = \
                        forbidden)\n  output: o\n  priority: Warning\n";
    let response = format!("name: stop\non:\n  rules: [Forbidden]\naction: kill\n{response}");
    [("detections/rules.yaml", RULE), ("responses/stop.yaml", response.leak())]
}

/// A process runs this program from now on.
pub(crate) fn exec(pid: u32, start_ns: u64, exe: &str) -> Event {
    let name = exe.rsplit('/').next().unwrap_or_default();
    let process = Process {
        start_ns,
        comm: name.as_bytes().into(),
        exepath: exe.as_bytes().into(),
        args: vec![exe.as_bytes().into()],
        ..Process::default()
    };
    let kind = EventKind::Exec(Box::new(Exec { process, ..Exec::default() }));
    Event { time_ns: 1_700_000_000_000_000_000, cpu: 0, tid: pid, pid, kind }
}

/// A real process that does nothing for a minute.
pub(crate) struct Child(std::process::Child);

impl Child {
    pub(crate) fn start() -> Child {
        Child(Command::new("/bin/sleep").arg("60").spawn().unwrap())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// When it began, as an event would say: nanoseconds since boot, to a clock tick.
    pub(crate) fn start_ns(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let after_name = stat.rsplit_once(')').unwrap().1;
        after_name.split_whitespace().nth(19).unwrap().parse::<u64>().unwrap() * 10_000_000
    }

    pub(crate) fn runs(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.0.wait().unwrap()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
