use std::panic;

use cairn_schemas::ids::StreamId;
use cairn_schemas::record::Record;
use cairn_schemas::time::{ManualClock, Timestamp};
use cairn_schemas::types::RecordType;

use super::*;
use crate::fixture::{self, Plane};
use crate::random::SystemRandom;
use crate::spool::SpoolLimits;

struct Bench {
    folder: tempfile::TempDir,
    plane: Plane,
    clock: Arc<ManualClock>,
}

/// A node's releases, and what they write to.
struct Node {
    releases: Releases,
    active: Active,
    spool: Spool,
}

impl Node {
    fn active(&self) -> Option<u64> {
        self.active.load().map(|active| active.reference.serial.0)
    }

    /// Type and the serial it is about, of every record that the releases wrote.
    fn records(&self) -> Vec<Record> {
        let Some(pending) = self.spool.pending(usize::MAX, usize::MAX).unwrap() else { return Vec::new() };
        let records = pending.records.iter().map(|bytes| Record::parse(bytes).unwrap());
        records.filter(|record| record.kind != RecordType::StreamOpened).collect()
    }

    fn story(&self) -> Vec<String> {
        let tell = |record: &Record| match record.kind {
            RecordType::NodeLoaded => {
                let data: NodeLoaded = record.data_as().unwrap();
                format!("loaded {} {:?}", data.release.serial, data.cause)
            }
            RecordType::NodeRefused => {
                let data: NodeRefused = record.data_as().unwrap();
                format!("refused {} {}", data.serial, data.check)
            }
            RecordType::NodeFellback => {
                let data: NodeFellback = record.data_as().unwrap();
                format!("fellback {} {:?}", data.from.serial, data.to.map(|to| to.serial.0))
            }
            other => other.to_string(),
        };
        self.records().iter().map(tell).collect()
    }
}

impl Bench {
    fn new() -> Bench {
        let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(1_700_000_000_000_000_000)));
        Bench { folder: tempfile::tempdir().unwrap(), plane: Plane::start(), clock }
    }

    fn open_limited(&self, limits: SpoolLimits) -> Node {
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let node = "sensor-1".parse().unwrap();
        let key = ed25519_dalek::SigningKey::from_bytes(&[3; 32]);
        let path = self.folder.path().join("spool");
        let spool = Spool::open(&path, &node, &key, limits, Arc::clone(&clock), Arc::new(SystemRandom)).unwrap();
        let active = Active::default();
        let trust = Trust::from_pins(&fixture::pins()).unwrap();
        let releases = Releases::open(self.folder.path(), trust, active.clone(), spool.clone(), clock).unwrap();
        Node { releases, active, spool }
    }

    fn open(&self) -> Node {
        self.open_limited(SpoolLimits::default())
    }

    fn start(&self) -> Node {
        let mut node = self.open();
        node.releases.start().unwrap();
        node
    }

    /// Publishes a good release.
    fn publish(&self, serial: u64) -> ReleaseRef {
        let files = fixture::release(serial, fixture::good_policy(serial));
        self.plane.publish(serial, files)
    }

    fn offer(&self, node: &mut Node, release: ReleaseRef) -> Result<Applied, ReleaseError> {
        let desired = Desired { release: Some(release), fallback: false, reason: None };
        node.releases.apply(&desired, &self.plane.client())
    }

    fn order_back(&self, node: &mut Node, release: ReleaseRef) -> Applied {
        let desired = Desired { release: Some(release), fallback: true, reason: Some("aborted".into()) };
        node.releases.apply(&desired, &self.plane.client()).unwrap()
    }

    fn folders(&self) -> Vec<String> {
        let names = durable::names(&self.folder.path().join("releases")).unwrap();
        names.into_iter().filter(|name| name != "state.json").collect()
    }
}

#[test]
fn an_offered_release_is_checked_kept_recorded_and_active_after_a_restart_without_a_network() {
    let bench = Bench::new();
    let one = bench.publish(1);
    let mut node = bench.start();
    assert_eq!((node.active(), node.active.generation()), (None, 0));
    assert_eq!(bench.offer(&mut node, one).unwrap(), Applied::Activated);
    assert_eq!(bench.offer(&mut node, one).unwrap(), Applied::Nothing);
    assert_eq!(node.story(), ["loaded 1 Offered"]);
    assert_eq!((node.active(), node.active.generation()), (Some(1), 1));
    let loaded: NodeLoaded = node.records()[0].data_as().unwrap();
    assert_eq!((loaded.previous, loaded.checkpoint_size), (None, 2));
    drop(node);

    bench.plane.forget(1);
    // Long after it expired: what was activated once stays good.
    bench.clock.set(fixture::EXPIRES.plus(std::time::Duration::from_secs(1)));
    let node = bench.start();
    assert_eq!(node.active(), Some(1));
    assert_eq!(node.story(), ["loaded 1 Offered", "loaded 1 Start"]);
}

#[test]
fn the_last_three_are_held_and_the_way_back_needs_no_network() {
    let bench = Bench::new();
    let mut node = bench.start();
    let all: Vec<ReleaseRef> = (1..=5).map(|serial| bench.publish(serial)).collect();
    for release in &all {
        assert_eq!(bench.offer(&mut node, *release).unwrap(), Applied::Activated);
    }
    assert_eq!(bench.folders(), ["3", "4", "5"]);
    (1..=5).for_each(|serial| bench.plane.forget(serial));
    assert_eq!(bench.order_back(&mut node, all[3]), Applied::Activated);
    assert_eq!(node.active(), Some(4));
    assert_eq!(node.story()[5..], ["fellback 5 Some(4)", "loaded 4 Fallback"]);
    let fellback: NodeFellback = node.records()[5].data_as().unwrap();
    assert_eq!(fellback.reason, "aborted");
    // What is not held any more cannot be gone back to.
    assert_eq!(bench.order_back(&mut node, all[0]), Applied::Refused);
    assert_eq!(node.active(), Some(4));
    assert_eq!(node.story()[7..], ["refused 1 held"]);
    drop(node);
    assert_eq!(bench.start().active(), Some(4), "the fallback outlives a restart");
}

#[test]
fn each_bad_release_is_refused_once_by_the_name_of_the_check_and_changes_nothing() {
    let spoil = |change: fn(&mut ReleaseFiles)| {
        let mut files = fixture::release(2, fixture::good_policy(2));
        change(&mut files);
        files
    };
    let cases: Vec<(&str, ReleaseFiles)> = vec![
        ("digest", spoil(|files| files.content_tar[600] ^= 1)),
        ("digest", spoil(|files| files.statement.push(b' '))),
        ("proof", spoil(|files| files.record.push(b' '))),
        ("proof", spoil(|files| files.proof = b"nonsense".to_vec())),
        ("checkpoint", fixture::by_another_ledger(2)),
        ("signature", fixture::by_another_release_key(2)),
        ("record", fixture::by_another_control_plane(2)),
        ("content", fixture::with_other_content_than_the_commit(2)),
        ("expiry", fixture::expired(2)),
        ("reference", fixture::release(2, fixture::good_policy(77))),
        ("load", fixture::release(2, fixture::bad_policy())),
        ("size", spoil(|files| files.record = vec![b'x'; 70_000])),
    ];
    for (check, files) in cases {
        let bench = Bench::new();
        let one = bench.publish(1);
        let mut node = bench.start();
        bench.offer(&mut node, one).unwrap();
        let named = match check {
            "reference" => fixture::reference(2, &fixture::release(2, fixture::good_policy(2))),
            _ => fixture::reference(2, &files),
        };
        bench.plane.publish(2, files);
        assert_eq!(bench.offer(&mut node, named).unwrap(), Applied::Refused, "{check}");
        let fetched = bench.plane.fetched();
        assert_eq!(bench.offer(&mut node, named).unwrap(), Applied::Refused, "{check}");
        assert_eq!(bench.plane.fetched(), fetched, "{check}: not fetched again");
        assert_eq!(node.story(), ["loaded 1 Offered".to_owned(), format!("refused 2 {check}")]);
        assert_eq!(node.active(), Some(1));
        drop(node);
        let node = bench.start();
        assert_eq!(node.active(), Some(1), "{check}");
        assert_eq!(bench.folders(), ["1"], "{check}");
    }
}

#[test]
fn an_older_release_from_the_network_is_a_replay_and_one_that_was_activated_may_come_again() {
    let bench = Bench::new();
    let (one, two) = (bench.publish(1), bench.publish(2));
    let mut node = bench.start();
    bench.offer(&mut node, two).unwrap();
    assert_eq!(bench.offer(&mut node, one).unwrap(), Applied::Refused);
    assert_eq!(node.story(), ["loaded 2 Offered", "refused 1 serial"]);
    drop(node);

    // Its files are lost: nothing to run, and the same release may be fetched once more, expired or not.
    fs::remove_dir_all(bench.folder.path().join("releases/2")).unwrap();
    let mut node = bench.start();
    assert_eq!(node.active(), None);
    assert_eq!(node.story()[2..], ["fellback 2 None"]);
    bench.clock.set(fixture::EXPIRES);
    assert_eq!(bench.offer(&mut node, two).unwrap(), Applied::Activated);
    assert_eq!(node.active(), Some(2));
}

#[test]
fn a_release_that_is_broken_on_disk_gives_way_to_the_one_before() {
    let bench = Bench::new();
    let mut node = bench.start();
    for serial in [1, 2] {
        let release = bench.publish(serial);
        bench.offer(&mut node, release).unwrap();
    }
    drop(node);
    let tar = bench.folder.path().join("releases/2/content.tar");
    let mut bytes = fs::read(&tar).unwrap();
    bytes[700] ^= 1;
    fs::write(&tar, bytes).unwrap();
    let node = bench.start();
    assert_eq!(node.active(), Some(1));
    assert_eq!(node.story()[2..], ["fellback 2 Some(1)", "loaded 1 Fallback"]);
    let fellback: NodeFellback = node.records()[2].data_as().unwrap();
    assert!(fellback.reason.contains("content.tar"), "{}", fellback.reason);
}

/// As if the process had died while `release` was being activated.
fn die_while_activating(node: &mut Node, release: ReleaseRef) {
    let died = panic::catch_unwind(AssertUnwindSafe(|| {
        let _ = node.releases.attempt(release, |_| -> Result<(), Refusal> { panic!("killed") });
    }));
    assert!(died.is_err());
}

#[test]
fn a_release_that_kills_the_node_twice_is_quarantined_and_the_one_before_it_runs() {
    let bench = Bench::new();
    let mut node = bench.start();
    let (one, two) = (bench.publish(1), bench.publish(2));
    bench.offer(&mut node, one).unwrap();
    bench.offer(&mut node, two).unwrap();
    drop(node);
    // Dies once, comes up, dies once more: a start that went well in between forgives.
    die_while_activating(&mut bench.open(), two);
    assert_eq!(bench.start().active(), Some(2));
    die_while_activating(&mut bench.open(), two);
    die_while_activating(&mut bench.open(), two);
    let mut node = bench.start();
    assert_eq!(node.active(), Some(1));
    let story = node.story();
    assert_eq!(story[story.len() - 2..], ["fellback 2 Some(1)", "loaded 1 Fallback"]);
    assert_eq!(bench.offer(&mut node, two).unwrap(), Applied::Refused);
    assert_eq!(node.story().last().unwrap(), "refused 2 quarantined");
    // A newer one gets its chance.
    let three = bench.publish(3);
    assert_eq!(bench.offer(&mut node, three).unwrap(), Applied::Activated);
}

#[test]
fn a_node_never_goes_back_to_a_newer_release() {
    let bench = Bench::new();
    let mut node = bench.start();
    let all: Vec<ReleaseRef> = (1..=3).map(|serial| bench.publish(serial)).collect();
    for release in &all {
        bench.offer(&mut node, *release).unwrap();
    }
    // 3 was given up; 2 breaks: 1 it is.
    bench.order_back(&mut node, all[1]);
    drop(node);
    fs::write(bench.folder.path().join("releases/2/content.tar"), b"broken").unwrap();
    assert_eq!(bench.start().active(), Some(1));
    // 1 breaks too: nothing is better than what was given up, until somebody offers it again.
    fs::write(bench.folder.path().join("releases/1/content.tar"), b"broken").unwrap();
    let mut node = bench.start();
    assert_eq!(node.active(), None);
    assert_eq!(bench.offer(&mut node, all[2]).unwrap(), Applied::Activated);
}

#[test]
fn the_only_release_is_tried_again_however_often_the_node_died() {
    let bench = Bench::new();
    let mut node = bench.start();
    let one = bench.publish(1);
    bench.offer(&mut node, one).unwrap();
    drop(node);
    for _ in 0..4 {
        die_while_activating(&mut bench.open(), one);
    }
    assert_eq!(bench.start().active(), Some(1));
}

#[test]
fn an_offer_that_kills_the_node_twice_is_not_tried_a_third_time() {
    let bench = Bench::new();
    let mut node = bench.start();
    let (one, two) = (bench.publish(1), bench.publish(2));
    bench.offer(&mut node, one).unwrap();
    drop(node);
    die_while_activating(&mut bench.open(), two);
    let mut node = bench.open();
    die_while_activating(&mut node, two);
    drop(node);
    let mut node = bench.open();
    assert_eq!(bench.offer(&mut node, two).unwrap(), Applied::Refused);
    assert_eq!(node.story().last().unwrap(), "refused 2 quarantined");
    drop(node);
    assert_eq!(bench.start().active(), Some(1));
}

#[test]
fn a_crash_between_the_record_and_the_switch_leaves_the_old_release_and_the_offer_stands() {
    let bench = Bench::new();
    let mut node = bench.start();
    let (one, two) = (bench.publish(1), bench.publish(2));
    bench.offer(&mut node, one).unwrap();
    let state = bench.folder.path().join("releases/state.json");
    let before = fs::read(&state).unwrap();
    bench.offer(&mut node, two).unwrap();
    drop(node);
    fs::write(&state, before).unwrap();
    let mut node = bench.start();
    assert_eq!(node.active(), Some(1));
    assert_eq!(bench.offer(&mut node, two).unwrap(), Applied::Activated);
    assert_eq!(node.story(), ["loaded 1 Offered", "loaded 2 Offered", "loaded 1 Start", "loaded 2 Offered"]);
}

#[test]
fn a_crash_while_files_are_stored_leaves_nothing_that_counts() {
    let bench = Bench::new();
    let one = bench.publish(1);
    let mut node = bench.start();
    for half in ["1.tmp", "1"] {
        durable::create_folder(&bench.folder.path().join("releases").join(half)).unwrap();
    }
    assert_eq!(bench.offer(&mut node, one).unwrap(), Applied::Activated);
    assert_eq!(bench.folders(), ["1"]);
    drop(node);
    assert_eq!(bench.start().active(), Some(1));
}

#[test]
fn what_cannot_be_fetched_is_tried_again() {
    let bench = Bench::new();
    let mut node = bench.start();
    let one = fixture::reference(1, &fixture::release(1, fixture::good_policy(1)));
    assert!(matches!(bench.offer(&mut node, one), Err(ReleaseError::Fetch(_))));
    assert_eq!(node.story(), [""; 0]);
    bench.publish(1);
    assert_eq!(bench.offer(&mut node, one).unwrap(), Applied::Activated);
}

#[test]
fn an_offer_whose_activation_cannot_be_recorded_is_not_activated() {
    let bench = Bench::new();
    let limits = SpoolLimits { len_max: 3_000, reserve_len: 2_000, segment_len_max: 500 };
    let mut node = bench.open_limited(limits);
    let one = bench.publish(1);
    assert!(matches!(bench.offer(&mut node, one), Err(ReleaseError::Unrecordable(SpoolError::Full { .. }))));
    assert_eq!(node.active(), None);
    let stream: StreamId = node.spool.stream();
    drop(node);
    let mut node = bench.open();
    assert_eq!(node.spool.stream(), stream);
    assert_eq!(bench.offer(&mut node, one).unwrap(), Applied::Activated);
}

#[test]
fn state_of_a_newer_version_stops_the_start() {
    let bench = Bench::new();
    let folder = bench.folder.path().join("releases");
    durable::create_folder(&folder).unwrap();
    fs::write(folder.join("state.json"), r#"{"version":2,"later":true}"#).unwrap();
    let error = StateFile::read(&folder).unwrap_err();
    assert!(error.to_string().ends_with("it has version 2; this program reads up to 1"), "{error}");
    fs::write(folder.join("state.json"), r#"{"version":1}"#).unwrap();
    assert!(StateFile::read(&folder).unwrap_err().to_string().contains("missing field"));
}

#[test]
fn reasons_are_cut_at_their_limit() {
    assert_eq!(cut("é".repeat(500)), "é".repeat(500));
    let long = cut("é".repeat(501));
    assert!(long.len() <= REASON_LEN_MAX && long.ends_with('…'));
}
