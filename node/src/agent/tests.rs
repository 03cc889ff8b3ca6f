use cairn_ledger::witness::tls::Authorities;
use cairn_schemas::data::{NodeLoaded, StreamHead, StreamOpened};
use cairn_schemas::ids::ReleaseRef;
use cairn_schemas::record::Record;
use cairn_schemas::time::{ManualClock, Timestamp};
use cairn_schemas::types::{NodeKind, RecordType};
use cairn_schemas::wire::JoinToken;

use super::*;
use crate::fixture::{self, Plane};
use crate::identity::join;
use crate::random::SystemRandom;

mod conflict;

struct Bench {
    folder: tempfile::TempDir,
    plane: Plane,
    clock: Arc<ManualClock>,
}

impl Bench {
    fn new() -> Bench {
        let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(1_700_000_000_000_000_000)));
        Bench { folder: tempfile::tempdir().unwrap(), plane: Plane::start(), clock }
    }

    fn start(&self) -> Agent {
        self.start_with(&fixture::join_token())
    }

    fn start_with(&self, token: &JoinToken) -> Agent {
        let labels = std::collections::BTreeMap::new();
        let identity =
            join(self.folder.path(), self.plane.url(), token, NodeKind::Sensor, &labels, &SystemRandom).unwrap();
        let config = AgentConfig {
            folder: self.folder.path().to_owned(),
            url: self.plane.url().to_owned(),
            authorities: Authorities::default(),
            capabilities: NodeCapabilities { live: true, version: "0".into(), can: Vec::new(), cannot: Vec::new() },
            limits: SpoolLimits::default(),
            poll_wait: Duration::from_secs(1),
            compare_interval: Duration::from_millis(20),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            random: Arc::new(SystemRandom),
        };
        Agent::start(identity, config).unwrap()
    }

    fn publish(&self, serial: u64) -> ReleaseRef {
        self.plane.publish(serial, fixture::release(serial, fixture::good_policy(serial)))
    }
}

fn running(agent: &Agent) -> Option<u64> {
    agent.active().map(|active| active.reference.serial.0)
}

fn kinds(records: &[Record]) -> Vec<RecordType> {
    records.iter().map(|record| record.kind).collect()
}

#[test]
fn from_an_offer_to_records_in_the_ledger_and_back_up_without_it() {
    let bench = Bench::new();
    bench.plane.show_checkpoint(40);
    let one = bench.publish(1);
    let agent = bench.start();
    let stream = agent.spool().stream();
    assert_eq!(running(&agent), None);
    bench.plane.want(one, false);
    let seen = agent.watch().wait_newer(0, Duration::from_secs(30));
    assert_eq!((seen, running(&agent)), (1, Some(1)));

    bench.plane.wait_until("the records are in the ledger", |plane| {
        kinds(&plane.records(&stream)).contains(&RecordType::NodeLoaded)
    });
    bench.clock.advance(Duration::from_secs(2));
    bench.plane.wait_until("a head with the checkpoint", |plane| {
        let heads = plane.records(&stream).into_iter().filter_map(|record| record.data_as::<StreamHead>().ok());
        heads.into_iter().any(|head| head.checkpoint.is_some_and(|seen| seen.size == 40))
    });
    agent
        .spool()
        .record(Draft::new(&NodeLoaded {
            release: one,
            previous: None,
            cause: cairn_schemas::data::LoadCause::Start,
            checkpoint_size: 1,
        }))
        .unwrap();
    agent.shutdown().unwrap();
    agent.shutdown().unwrap();
    let records = bench.plane.records(&stream);
    assert_eq!(kinds(&records)[..2], [RecordType::StreamOpened, RecordType::NodeCapabilities]);
    assert_eq!(kinds(&records).last(), Some(&RecordType::StreamHead), "closed with a head, and sent");
    assert!(matches!(agent.spool().tick(), Err(SpoolError::Closed)));
    drop(agent);

    // The control plane is gone; the node runs what it ran.
    bench.plane.set_down(true);
    let agent = bench.start();
    assert_eq!(running(&agent), Some(1));
    let before = bench.plane.records(&stream).len();
    assert!(agent.spool().status().pending > 0);
    bench.plane.set_down(false);
    bench.plane.wait_until("the outage is caught up", |plane| plane.records(&stream).len() >= before + 2);
    agent.shutdown().unwrap();
}

#[test]
fn a_lost_answer_costs_a_repeat_and_nothing_else() {
    let bench = Bench::new();
    let agent = bench.start();
    let stream = agent.spool().stream();
    bench.plane.wait_until("it is in step", |_| agent.spool().status().pending == 0);
    bench.plane.lose_answers(2);
    let draft = || Draft::new(&NodeCapabilities { live: false, version: "1".into(), can: vec![], cannot: vec![] });
    let place = agent.spool().record(draft()).unwrap();
    bench.plane.wait_until("it is sent again and trimmed", |_| agent.spool().status().pending == 0);
    let records = bench.plane.records(&stream);
    assert_eq!(records.iter().filter(|record| record.sequence == place.sequence).count(), 1);
    agent.shutdown().unwrap();
}

#[test]
fn a_ledger_with_another_history_of_the_stream_makes_the_node_begin_a_new_one() {
    let bench = Bench::new();
    let agent = bench.start();
    let old = agent.spool().stream();
    bench.plane.wait_until("it is in step", |_| agent.spool().status().pending == 0);
    // A clone of this node was faster with the next record.
    bench.plane.put(&old, b"the clone's record".to_vec());
    let draft = Draft::new(&NodeCapabilities { live: true, version: "mine".into(), can: vec![], cannot: vec![] });
    let place = agent.spool().record(draft).unwrap();
    assert_eq!(place.stream, old);
    bench.plane.wait_until("a new stream", |plane| plane.streams().len() == 2 && agent.spool().status().pending == 0);
    let new = agent.spool().stream();
    assert_ne!(new, old);
    let records = bench.plane.records(&new);
    assert_eq!(records[0].data_as::<StreamOpened>().unwrap().predecessor.unwrap().stream, old);
    let carried = records.iter().find(|record| record.kind == RecordType::NodeCapabilities).unwrap();
    assert_eq!(carried.foreignid, Some(format!("{old}/{}", place.sequence.padded())));
    agent.shutdown().unwrap();
}
