//! The whole control plane over real folders, a real ledger and real Git, with nodes that do what nodes do over its own router.

mod fleet;
mod intake;

use std::sync::Arc;

use cairn_ledger::endorsement::Endorsement;
use cairn_ledger::keys::KeyFolder;
use cairn_ledger::random::SystemRandom;
use cairn_ledger::writer::{Ledger, Rotation};
use cairn_schemas::data::{RejectedAt, ReleaseBuilt, ReleaseRejected};
use cairn_schemas::ids::Serial;
use cairn_schemas::time::{Clock, ManualClock, Timestamp};
use cairn_schemas::types::NodeKind;

use fleet::{Fleet, PATIENCE, Pretended};

#[test]
fn the_first_commit_is_built_proven_and_promoted() {
    let fleet = Fleet::start();
    let sensor = fleet.join(NodeKind::Sensor);
    let admission = fleet.join(NodeKind::Admission);
    fleet.plane().begin();
    let release = sensor.activate_next(None);
    assert_eq!(release.serial, Serial(1));
    assert_eq!(admission.activate_next(None), release);
    assert_eq!(fleet.plane().wait_promoted(PATIENCE), Some(release));
    assert_eq!(fleet.git(&["tag", "--list"]), "v1");
    let head = fleet.git(&["rev-parse", "HEAD"]);
    for name in ["refs/cairn/rings/canary", "refs/cairn/rings/broad", "v1^{commit}"] {
        assert_eq!(fleet.git(&["rev-parse", name]), head, "{name}");
    }
    assert!(fleet.git(&["cat-file", "-p", "v1"]).contains(&release.digest.to_string()));
    let told = fleet.told();
    let short = &head[..10];
    let expected = [
        format!("release 1: built from {short} (0 tests passed)"),
        "release 1: entered canary (1 node)".to_owned(),
        format!("node {}: activated release 1", sensor.node),
        "release 1: passed canary (running on 1 node)".to_owned(),
        "release 1: entered broad (1 node)".to_owned(),
        format!("node {}: activated release 1", admission.node),
        "release 1: passed broad (running on 1 node)".to_owned(),
        "release 1: promoted as v1".to_owned(),
    ];
    assert_eq!(told[told.len() - expected.len()..], expected);
    assert!(!fleet.plane().failed());
}

#[test]
fn nothing_moves_before_it_begins() {
    let fleet = Fleet::start();
    fleet.commit("cairn.yaml", &fleet::config("0s", 0));
    assert_eq!(fleet.plane().wait_promoted(std::time::Duration::from_millis(600)), None);
    assert_eq!(fleet.count("release.built"), 0);
    fleet.plane().begin();
    let promoted = fleet.plane().wait_promoted(PATIENCE).unwrap();
    assert_eq!(promoted.serial, Serial(1), "both commits are one release");
    let told = fleet.told();
    assert!(told.iter().any(|line| line == "release 1: entered canary, which has no nodes"), "{told:?}");
}

#[test]
fn a_bad_commit_is_rejected_once_with_file_and_line() {
    let mut fleet = Fleet::start();
    let sensor = fleet.join(NodeKind::Sensor);
    fleet.plane().begin();
    let first = sensor.activate_next(None);
    fleet.wait_for("release 1: promoted as v1");
    fleet.commit("cairn.yaml", "version: 1\nringz: []\n");
    let rejected: ReleaseRejected = fleet.wait_record("release.rejected", 1);
    assert_eq!((rejected.stage, rejected.problems[0].file.as_str()), (RejectedAt::Load, "cairn.yaml"));
    assert!(rejected.problems[0].reason.contains("ringz"), "{:?}", rejected.problems);
    fleet.wait_for("rejected, it does not load: cairn.yaml");
    fleet.restart();
    fleet.plane().begin();
    fleet.commit("cairn.yaml", &fleet::config("0s", 0));
    fleet.commit("guardrails/a_test.rego", "package a_test\n\nimport rego.v1\n\ntest_no if 1 == 2\n");
    let rejected: ReleaseRejected = fleet.wait_record("release.rejected", 2);
    assert_eq!((rejected.stage, rejected.problems[0].file.as_str()), (RejectedAt::Test, "guardrails/a_test.rego"));
    assert_eq!(rejected.problems[0].line, 5);
    assert_eq!(sensor.desired(Some(first)).release, Some(first), "nodes keep what they have");
    assert_eq!(fleet.count("release.rejected"), 2, "the first was not rejected again after the restart");
}

#[test]
fn a_revert_is_known_good_under_a_new_serial() {
    let fleet = Fleet::start();
    fleet.plane().begin();
    fleet.wait_for("release 1: promoted as v1");
    fleet.commit("runbooks/a.md", "# A\n");
    fleet.wait_for("release 2: promoted as v2");
    fleet.git(&["revert", "--no-edit", "HEAD"]);
    fleet.wait_for("release 3: promoted as v3");
    let built: ReleaseBuilt = fleet.wait_record("release.built", 3);
    assert!(built.known_good);
    assert_eq!(built.same_content_as.unwrap().serial, Serial(1));
    fleet.git(&["revert", "--no-edit", "HEAD"]);
    fleet.wait_for("release 4: promoted as v4");
    let again: ReleaseBuilt = fleet.wait_record("release.built", 4);
    assert!(!again.known_good, "what was rolled back must soak again");
}

#[test]
fn rewritten_history_is_refused_once_and_never_followed() {
    let mut fleet = Fleet::start();
    fleet.plane().begin();
    fleet.wait_for("release 1: promoted as v1");
    fleet.commit("runbooks/a.md", "# A\n");
    fleet.wait_for("release 2: promoted as v2");
    fleet.git(&["commit", "-q", "--amend", "-m", "rewritten"]);
    fleet.wait_count("git.refused", 1);
    fleet.git(&["reset", "-q", "--hard", "v1"]);
    fleet.wait_count("git.refused", 2);
    fleet.restart();
    fleet.plane().begin();
    fleet.git(&["reset", "-q", "--hard", "v2"]);
    fleet.commit("runbooks/b.md", "# B\n");
    fleet.wait_for("release 3: promoted as v3");
    assert_eq!(fleet.count("git.refused"), 2);
}

#[test]
fn a_node_that_refuses_stops_the_release_at_its_ring() {
    let fleet = Fleet::start();
    let sensor = fleet.join(NodeKind::Sensor);
    let admission = fleet.join(NodeKind::Admission);
    fleet.plane().begin();
    let first = sensor.activate_next(None);
    admission.activate_next(None);
    fleet.wait_for("release 1: promoted as v1");
    let good = fleet.git(&["rev-parse", "HEAD"]);
    fleet.commit("runbooks/a.md", "# A\n");
    let second = sensor.wait_offer(Some(first)).release.unwrap();
    assert_eq!(fleet.git(&["rev-parse", "refs/cairn/rings/broad"]), good);
    sensor.refuse(second);
    fleet.wait_for("release 2: aborted in canary");
    assert_eq!(sensor.desired(Some(first)).release, Some(first));
    assert_eq!(admission.desired(Some(first)).release, Some(first));
    let fallback = sensor.desired(Some(second));
    assert_eq!((fallback.release, fallback.fallback), (Some(first), true));
    fleet.wait_git(&["rev-parse", "refs/cairn/rings/canary"], &good);
    fleet.commit("runbooks/a.md", "# better\n");
    let third = sensor.activate_next(Some(first));
    assert_eq!(third.serial, Serial(3));
    assert_eq!(admission.activate_next(Some(first)), third);
    fleet.wait_for("release 3: promoted as v3");
}

#[test]
fn a_soak_ends_by_time_alone() {
    let fleet = Fleet::start();
    let sensor = fleet.join(NodeKind::Sensor);
    fleet.commit("cairn.yaml", &fleet::config("1h", 0));
    fleet.plane().begin();
    sensor.activate_next(None);
    fleet.wait_for("activated release 1");
    assert_eq!(fleet.count("rollout.advanced"), 0);
    fleet.clock.pass(std::time::Duration::from_secs(3601));
    // Another record makes the planner look at the clock now rather than within a minute.
    fleet.join(NodeKind::Admission);
    fleet.wait_for("release 1: passed canary");
}

#[test]
fn releases_and_restarts_go_on_through_volumes_and_keys() {
    let mut fleet = Fleet::start();
    fleet.plane().begin();
    fleet.wait_for("release 1: promoted as v1");
    assert_eq!(fleet.plane().shared.ledger.rotate(Rotation::default()).unwrap(), 2);
    fleet.commit("runbooks/a.md", "# A\n");
    fleet.wait_for("release 2: promoted as v2");
    let folder = fleet.dir().join("ledger/releases/2");
    let proof = std::fs::read_to_string(folder.join("release.tlog-proof")).unwrap();
    let name = fleet.pins().ledger_name.clone();
    assert!(proof.contains(&format!("\n{name}/2\n")), "{proof}");
    Pretended::check(&folder, fleet.pins());

    // A change of keys that was cut short behind its record is finished at the next start.
    fleet.restart_after(|dir| {
        let keys = KeyFolder::at(dir.join("keys"));
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::from_nanos(1)));
        let ledger = Ledger::open(&dir.join("ledger"), keys.ledger().unwrap(), clock).unwrap();
        let next = keys.make_next_ledger(&ledger.origin(), &SystemRandom).unwrap();
        let word = Endorsement::LedgerKey { key: next.verifier().clone(), second: None };
        ledger.rotate_key(&next, &word.sign(&keys.root().unwrap()).unwrap(), None).unwrap();
    });
    fleet.plane().begin();
    let keys = KeyFolder::at(fleet.dir().join("keys"));
    assert!(keys.next_ledger().unwrap().is_none());
    let written = std::fs::read_to_string(fleet.dir().join("fleet.yaml")).unwrap();
    assert!(written.contains(&keys.ledger().unwrap().verifier().to_string()), "{written}");
    assert_eq!(fleet.plane().shared.live.read().endorsements().len(), 1);
    fleet.commit("runbooks/b.md", "# B\n");
    fleet.wait_for("release 3: promoted as v3");
}

#[test]
fn a_release_without_its_proof_or_record_goes_on_after_a_restart() {
    let mut fleet = Fleet::start();
    fleet.plane().begin();
    fleet.wait_for("release 1: promoted as v1");
    let folder = fleet.dir().join("ledger/releases/1");
    let good: Vec<Vec<u8>> =
        ["record.json", "release.tlog-proof"].iter().map(|name| std::fs::read(folder.join(name)).unwrap()).collect();
    for lost in [&["release.tlog-proof"][..], &["record.json", "release.tlog-proof"][..]] {
        fleet.restart_after(|_| lost.iter().for_each(|name| std::fs::remove_file(folder.join(name)).unwrap()));
        assert_eq!(std::fs::read(folder.join("record.json")).unwrap(), good[0]);
        Pretended::check(&folder, fleet.pins());
    }
    let damaged = folder.join("content.tar");
    fleet.restart_after(|_| {
        std::fs::remove_file(folder.join("release.tlog-proof")).unwrap();
        std::fs::write(&damaged, "torn").unwrap();
    });
    fleet.plane().begin();
    assert!(!folder.join("release.tlog-proof").exists(), "what is damaged is not offered");
    fleet.commit("runbooks/a.md", "# A\n");
    fleet.wait_for("release 2: promoted as v2");
}

#[test]
fn files_without_a_record_are_reused_for_the_tip_and_deleted_for_another() {
    let mut fleet = Fleet::start();
    fleet.plane().begin();
    fleet.wait_for("release 1: promoted as v1");
    let releases = fleet.dir().join("ledger/releases");
    // A crash after the files of release 2 were staged: their bytes, from a ledger that then lost its record of them.
    let staged = fleet.stage_of_another_life("runbooks/a.md", "# A\n");
    fleet.restart_after(|_| fleet::copy(&staged.folder, &releases.join("2")));
    fleet.plane().begin();
    fleet.wait_for("release 2: promoted as v2");
    let built: ReleaseBuilt = fleet.wait_record("release.built", 2);
    assert_eq!(built.statement, staged.statement, "the staged statement was used as it was");
    fleet.restart_after(|_| fleet::copy(&staged.folder, &releases.join("3")));
    fleet.plane().begin();
    fleet.commit("runbooks/b.md", "# B\n");
    fleet.wait_for("release 3: promoted as v3");
    let built: ReleaseBuilt = fleet.wait_record("release.built", 3);
    assert_ne!(built.statement, staged.statement);
    assert_eq!(built.commit.as_str(), fleet.git(&["rev-parse", "HEAD"]));
}

#[test]
fn what_expires_soon_is_built_again() {
    let fleet = Fleet::start();
    fleet.plane().begin();
    fleet.wait_for("release 1: promoted as v1");
    fleet.clock.pass(crate::build::LIFETIME - crate::build::RENEW_BEFORE);
    fleet.notify();
    fleet.wait_for("release 2: promoted as v2");
    let built: ReleaseBuilt = fleet.wait_record("release.built", 2);
    assert!(built.known_good && built.same_content_as.is_some());
    fleet.commit("runbooks/a.md", "# A\n");
    fleet.wait_for("release 3: promoted as v3");
}

#[test]
fn a_mirror_that_a_crash_left_locked_or_torn_is_made_anew() {
    let mut fleet = Fleet::start();
    fleet.plane().begin();
    fleet.wait_for("release 1: promoted as v1");
    fleet.restart_after(|dir| std::fs::write(dir.join("cache/policies.git/refs/heads/upstream.lock"), "").unwrap());
    fleet.plane().begin();
    fleet.commit("runbooks/a.md", "# A\n");
    fleet.wait_for("release 2: promoted as v2");
    fleet.restart_after(|dir| {
        let objects = dir.join("cache/policies.git/objects");
        std::fs::remove_dir_all(&objects).unwrap();
        std::fs::create_dir(&objects).unwrap();
    });
    fleet.plane().begin();
    fleet.commit("runbooks/b.md", "# B\n");
    fleet.wait_for("release 3: promoted as v3");
    fleet.restart_after(|dir| std::fs::write(dir.join("cache/policies.git/HEAD"), "").unwrap());
    fleet.plane().begin();
    fleet.commit("runbooks/c.md", "# C\n");
    fleet.wait_for("release 4: promoted as v4");
}

#[test]
fn a_repo_that_is_away_stops_nothing_else() {
    let fleet = Fleet::start();
    fleet.plane().begin();
    fleet.wait_for("release 1: promoted as v1");
    let (repo, away) = (fleet.dir().join("policies"), fleet.dir().join("away"));
    std::fs::rename(&repo, &away).unwrap();
    fleet.notify();
    fleet.wait_for("trouble: looking at the policy repo: there is no policy repo at");
    fleet.join(NodeKind::Sensor);
    std::fs::rename(&away, &repo).unwrap();
    fleet.commit("runbooks/a.md", "# A\n");
    let sensor = fleet.nodes().remove(0);
    sensor.activate_next(None);
    fleet.wait_for("node");
    assert!(!fleet.plane().failed());
}

#[test]
fn the_fleet_is_observed_every_five_minutes_and_the_last_head_is_signed() {
    let mut fleet = Fleet::start();
    fleet.plane().begin();
    fleet.wait_for("release 1: promoted as v1");
    fleet.clock.pass(super::stream::OBSERVE_INTERVAL);
    fleet.wait_count("fleet.observed", 1);
    let records = fleet.stop();
    let last = records.iter().rev().find(|record| !record.stream.is_ledger()).unwrap();
    assert_eq!(last.kind.as_str(), "cairn.stream.head.v1", "a clean stop leaves nothing unsigned");
}

#[test]
fn unsigned_commits_are_rejected_where_signers_are_demanded() {
    let mut fleet = Fleet::start();
    fleet.restart_after(fleet::demand_signatures);
    fleet.plane().begin();
    let rejected: ReleaseRejected = fleet.wait_record("release.rejected", 1);
    assert_eq!(rejected.stage, RejectedAt::Signature);
    assert!(rejected.problems[0].reason.contains("not signed"), "{:?}", rejected.problems);
    // Signed from now on. With nothing accepted before, the tip alone is asked to be signed.
    fleet.commit_signed("runbooks/a.md", "# A\n");
    let built: ReleaseBuilt = fleet.wait_record("release.built", 1);
    assert!(matches!(built.signature, cairn_schemas::data::CommitSignature::Ssh { .. }));
    // An unsigned commit under a signed tip is found.
    fleet.git(&["commit", "-q", "--allow-empty", "-m", "unsigned"]);
    fleet.commit_signed("runbooks/b.md", "# B\n");
    fleet.wait_count("release.rejected", 2);
}

#[test]
fn a_policy_narrows_whose_signature_counts_from_the_next_commit_on() {
    let mut fleet = Fleet::start();
    fleet.restart_after(fleet::demand_signatures);
    let narrowed = format!("{}trust:\n  signers: [bob@example.com]\n", fleet::config("0s", 0));
    fleet.commit_signed("runbooks/a.md", "# A\n");
    fleet.plane().begin();
    let _: ReleaseBuilt = fleet.wait_record("release.built", 1);
    fleet.commit_signed("cairn.yaml", &narrowed);
    let _: ReleaseBuilt = fleet.wait_record("release.built", 2);
    fleet.commit_signed("runbooks/b.md", "# B\n");
    let rejected: ReleaseRejected = fleet.wait_record("release.rejected", 1);
    assert_eq!(rejected.stage, RejectedAt::Signature);
    let reason = &rejected.problems[0].reason;
    assert!(reason.contains("trust.signers") && reason.contains("SHA256:"), "{reason}");
    assert!(!reason.contains("alice"), "people are not named in the ledger: {reason}");
}
