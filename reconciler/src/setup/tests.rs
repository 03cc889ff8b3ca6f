use std::os::unix::fs::PermissionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cairn_schemas::time::{ManualClock, Timestamp};

use super::*;
use crate::random::SystemRandom;

fn options() -> Options {
    let template = BTreeMap::from([
        ("cairn.yaml".to_owned(), b"version: 1\nrings:\n  - name: all\n".to_vec()),
        ("README.md".to_owned(), b"# Policies\n".to_vec()),
    ]);
    Options {
        owner: None,
        template,
        signers: SignersConfig::UnsignedAllowed,
        ledger: None,
        clock: Arc::new(ManualClock::new(Timestamp::from_nanos(1_700_000_000_000_000_000))),
        random: Arc::new(SystemRandom),
    }
}

fn steps(dir: &Path) -> (Result<Prepared, SetupError>, Vec<String>) {
    let mut steps = Vec::new();
    let prepared = prepare(dir, &options(), &mut |step| steps.push(step.to_string()));
    (prepared, steps)
}

/// What stands in the folder, but for what belongs to no step.
fn kinds(ledger: &Ledger) -> Vec<RecordType> {
    let records = ledger.read(RecordIndex(0), 100).unwrap();
    records.iter().map(|bytes| Record::parse(bytes).unwrap().kind).collect()
}

#[test]
fn the_first_run_makes_everything_and_the_second_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("cairn-data");
    let (prepared, told) = steps(&dir);
    let prepared = prepared.unwrap();
    let starts = [
        "made ",
        "made the keys in ",
        "wrote ",
        "opened the ledger cairn-",
        "made the policy repo ",
        "opened the control plane's stream control.",
        "made a join token for sensor: ",
        "made a join token for admission: ",
    ];
    assert_eq!(told.len(), starts.len(), "{told:#?}");
    for (told, start) in told.iter().zip(starts) {
        assert!(told.starts_with(start), "{told}");
    }
    assert!(told[1].contains("move it off this machine"));
    assert_eq!(kinds(&prepared.ledger), [RecordType::LedgerOpened, RecordType::StreamOpened]);
    assert!(prepared.ledger.checkpoint().size.0 >= 1);
    let mode = |path: &str| std::fs::metadata(dir.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("keys"), 0o700);
    for name in durable::names(&dir.join("keys")).unwrap() {
        let path = format!("keys/{name}");
        if dir.join(&path).is_file() {
            assert_eq!(mode(&path), 0o600, "{path}");
        }
    }
    let token = prepared.join_token(NodeKind::Sensor).unwrap();
    assert_eq!(token.pins, prepared.joins.pins().digest());
    let name = prepared.fleet().name.clone();
    prepared.ledger.close();

    let (again, told) = steps(&dir);
    let again = again.unwrap();
    assert_eq!(told, [format!("resumed {} (ledger {name}, 2 records)", dir.display())]);
    assert_eq!(again.join_token(NodeKind::Sensor).unwrap(), token);
    assert_eq!(kinds(&again.ledger), [RecordType::LedgerOpened, RecordType::StreamOpened]);
}

#[test]
fn a_crash_after_any_step_is_taken_up() {
    for crash_after in 1..=8 {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("cairn-data");
        let mut count = 0;
        let crashed = catch_unwind(AssertUnwindSafe(|| {
            prepare(&dir, &options(), &mut |_| {
                count += 1;
                assert!(count < crash_after, "the crash that is wanted");
            })
        }));
        assert!(crashed.is_err());
        let (prepared, told) = steps(&dir);
        let prepared = prepared.unwrap();
        assert_eq!(kinds(&prepared.ledger), [RecordType::LedgerOpened, RecordType::StreamOpened], "{crash_after}");
        for kind in KINDS {
            let token = prepared.join_token(kind).unwrap();
            assert!(prepared.joins.is_known(&token), "{crash_after}: {told:?}");
        }
        assert_eq!(prepared.fleet().name, prepared.ledger.origin().trim_end_matches("/1"));
    }
}

#[test]
fn keys_half_made_are_completed_and_not_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    let (made, first) = keys::make(&keys, SignersConfig::UnsignedAllowed, &SystemRandom).unwrap();
    assert!(made);
    let all = durable::names(&keys).unwrap();
    assert_eq!(all.len(), 6, "{all:?}");
    // The name comes from the root key; each other key may be lost alone.
    for name in all.iter().filter(|name| *name != "root.key") {
        std::fs::remove_file(keys.join(name)).unwrap();
        let (made, again) = keys::make(&keys, SignersConfig::UnsignedAllowed, &SystemRandom).unwrap();
        assert!(made && again.name == first.name, "{name}");
    }
    let (made, _) = keys::make(&keys, SignersConfig::UnsignedAllowed, &SystemRandom).unwrap();
    assert!(!made);
}

#[test]
fn the_root_key_may_be_away_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("cairn-data");
    drop(steps(&dir).0.unwrap());
    std::fs::rename(dir.join("keys/root.key"), folder.path().join("root.key")).unwrap();
    drop(steps(&dir).0.unwrap());
    assert!(!dir.join("keys/root.key").exists());
    let control = dir.join("keys/control.key");
    let good = std::fs::read(&control).unwrap();
    std::fs::write(&control, hex::encode([7; 32])).unwrap();
    let error = steps(&dir).0.unwrap_err();
    assert!(matches!(&error, SetupError::OtherKey { path } if *path == control), "{error}");
    std::fs::write(&control, "x").unwrap();
    assert!(matches!(steps(&dir).0.unwrap_err(), SetupError::NotAKey { .. }));
    std::fs::remove_file(&control).unwrap();
    assert!(matches!(steps(&dir).0.unwrap_err(), SetupError::KeyMissing { .. }));
    std::fs::write(&control, good).unwrap();
    assert!(steps(&dir).0.is_ok());
}

#[test]
fn what_cannot_be_used_is_named_in_one_line_and_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |dir: &Path| {
        let error = steps(dir).0.unwrap_err();
        let text = crate::step::one_line(&error);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(dir.to_str().unwrap()) || text.contains("file"), "{text}");
        assert!(error.hint().is_some(), "{text}");
        error
    };
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(matches!(refused(&file.join("data")), SetupError::Disk(_)));
    assert!(matches!(refused(&file), SetupError::Disk(_)));

    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("thesis.tex"), "").unwrap();
    assert!(matches!(refused(&other), SetupError::NotOurs { .. }));
    assert_eq!(durable::names(&other).unwrap(), ["thesis.tex"]);

    let empty = folder.path().join("empty");
    std::fs::create_dir_all(empty.join("policies")).unwrap();
    let git = Command::new("git").args(["init", "-q", "-b", "main"]).current_dir(empty.join("policies")).status();
    assert!(git.unwrap().success());
    assert!(matches!(refused(&empty), SetupError::NoCommit { .. }));
    assert_eq!(durable::names(&empty).unwrap(), ["policies"]);

    let good = folder.path().join("good");
    let prepared = steps(&good).0.unwrap();
    assert!(matches!(refused(&good), SetupError::LedgerInUse { .. }));
    prepared.ledger.close();
    let fleet = good.join("fleet.yaml");
    let text = std::fs::read_to_string(&fleet).unwrap();
    std::fs::write(&fleet, text.replace("version: 1", "version: 2")).unwrap();
    assert!(matches!(refused(&good), SetupError::NewerVersion { found: 2, .. }));
    std::fs::write(&fleet, "version: [\n").unwrap();
    assert!(matches!(refused(&good), SetupError::BrokenFleet { .. }));
    std::fs::write(&fleet, text.replace("control_node: \"control\"", "control_node: \"other\"")).unwrap();
    assert!(matches!(refused(&good), SetupError::OtherLedger { .. }));
    std::fs::write(&fleet, &text).unwrap();
    assert!(steps(&good).0.is_ok());
}

#[test]
fn a_ledger_that_nodes_joined_is_not_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("cairn-data");
    let prepared = steps(&dir).0.unwrap();
    let token = prepared.join_token(NodeKind::Sensor).unwrap();
    let key = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
    let request = cairn_schemas::wire::JoinRequest {
        token: token.to_string(),
        kind: NodeKind::Sensor,
        key: STANDARD.encode(key.verifying_key().as_bytes()),
        labels: BTreeMap::new(),
        protocol: cairn_schemas::wire::PROTOCOL.into(),
    };
    prepared.joins.admit(&request).unwrap();
    prepared.ledger.close();
    std::fs::rename(dir.join("ledger"), folder.path().join("ledger")).unwrap();
    assert!(matches!(steps(&dir).0.unwrap_err(), SetupError::LedgerMissing { .. }));
    std::fs::rename(folder.path().join("ledger"), dir.join("ledger")).unwrap();
    let (again, told) = steps(&dir);
    assert_eq!(again.unwrap().join_token(NodeKind::Sensor).unwrap(), token, "a used token stays: {told:?}");
}

#[test]
fn a_policy_repo_that_releases_came_from_is_not_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("cairn-data");
    drop(steps(&dir).0.unwrap());
    std::fs::rename(dir.join("policies"), folder.path().join("policies")).unwrap();
    std::fs::create_dir_all(dir.join("ledger/releases/1")).unwrap();
    assert!(matches!(steps(&dir).0.unwrap_err(), SetupError::PoliciesMissing { .. }));
    std::fs::remove_dir_all(dir.join("ledger/releases")).unwrap();
    let (prepared, told) = steps(&dir);
    assert!(prepared.is_ok() && told.iter().any(|line| line.starts_with("made the policy repo")), "{told:?}");
}

#[test]
fn tokens_follow_the_pins_of_the_fleet() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("cairn-data");
    let prepared = steps(&dir).0.unwrap();
    let token = prepared.join_token(NodeKind::Sensor).unwrap();
    prepared.ledger.close();
    let fleet = dir.join("fleet.yaml");
    let text = std::fs::read_to_string(&fleet).unwrap();
    let signers = "signers: { allowed_signers: [\"a@example.com ssh-ed25519 AAAA\"] }";
    std::fs::write(&fleet, text.replace("signers: unsigned_allowed", signers)).unwrap();
    let again = steps(&dir).0.unwrap();
    assert_ne!(again.join_token(NodeKind::Sensor).unwrap(), token);
}

#[test]
fn the_branch_is_main_or_what_head_names() {
    let folder = tempfile::tempdir().unwrap();
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"];
        let status = Command::new("git").args(identity).args(arguments).current_dir(folder.path()).status().unwrap();
        assert!(status.success());
    };
    git(&["init", "-q", "-b", "trunk"]);
    git(&["commit", "-q", "--allow-empty", "-m", "first"]);
    assert_eq!(policy_source(folder.path()).branch(), "trunk");
    git(&["branch", "main"]);
    assert_eq!(policy_source(folder.path()).branch(), "main");
}
