use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;

use super::*;
use crate::fixture::{self, Plane};
use crate::random::SystemRandom;

fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("role".to_owned(), "sensor".to_owned())])
}

fn join_here(folder: &Path, plane: &Plane, token: &JoinToken) -> Result<Identity, IdentityError> {
    join(folder, plane.url(), token, NodeKind::Sensor, &labels(), &SystemRandom)
}

#[test]
fn a_node_joins_once_and_is_the_same_after_a_restart() {
    let (folder, plane) = (tempfile::tempdir().unwrap(), Plane::start());
    let home = folder.path().join("sensor");
    assert!(Identity::load(&home).unwrap().is_none());
    let joined = join_here(&home, &plane, &fixture::join_token()).unwrap();
    assert_eq!(joined.node().as_str(), "sensor-1");
    assert_eq!((joined.kind(), joined.labels()), (NodeKind::Sensor, &labels()));
    assert_eq!(joined.token_key(), &TokenKey { epoch: "e1".into(), key: [4; 32] });
    for file in [KEY_FILE, IDENTITY_FILE] {
        assert_eq!(fs::metadata(home.join(file)).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }
    assert_eq!(fs::metadata(&home).unwrap().permissions().mode() & 0o777, 0o700);

    let loaded = Identity::load(&home).unwrap().unwrap();
    assert_eq!(
        (loaded.node(), loaded.public_key(), loaded.pins()),
        (joined.node(), joined.public_key(), joined.pins())
    );
    // Joined is joined: neither the token nor the control plane is needed again.
    drop(plane);
    let url = "http://127.0.0.1:1";
    let again = join(&home, url, &fixture::join_token(), NodeKind::Sensor, &labels(), &SystemRandom).unwrap();
    assert_eq!(again.public_key(), joined.public_key());
    assert!(!format!("{again:?}").contains("credential"), "no secret is shown");
}

#[test]
fn a_join_whose_answer_was_lost_is_repeated_with_the_same_key() {
    let (folder, plane) = (tempfile::tempdir().unwrap(), Plane::start());
    plane.lose_answers(1);
    let token = fixture::join_token();
    assert!(matches!(join_here(folder.path(), &plane, &token), Err(IdentityError::Refused(_))));
    assert!(Identity::load(folder.path()).unwrap().is_none());
    let key = fs::read(folder.path().join(KEY_FILE)).unwrap();
    join_here(folder.path(), &plane, &token).unwrap();
    assert_eq!(fs::read(folder.path().join(KEY_FILE)).unwrap(), key);
    let other = tempfile::tempdir().unwrap();
    let error = join_here(other.path(), &plane, &token).unwrap_err();
    assert!(error.to_string().contains("was used before"), "{error}");
}

#[test]
fn pins_that_the_token_does_not_name_are_not_believed() {
    let (folder, plane) = (tempfile::tempdir().unwrap(), Plane::start());
    plane.show_other_pins();
    let error = join_here(folder.path(), &plane, &fixture::join_token()).unwrap_err();
    assert!(matches!(error, IdentityError::OtherPins { .. }), "{error}");
    assert!(!folder.path().join(IDENTITY_FILE).exists());
}

#[test]
fn without_randomness_there_is_no_key() {
    struct Broken;
    impl Random for Broken {
        fn fill(&self, _: &mut [u8]) -> io::Result<()> {
            Err(io::Error::other("none"))
        }
    }
    let (folder, plane) = (tempfile::tempdir().unwrap(), Plane::start());
    let joined = join(folder.path(), plane.url(), &fixture::join_token(), NodeKind::Sensor, &labels(), &Broken);
    assert!(matches!(joined, Err(IdentityError::Random(_))));
    assert!(!folder.path().join(KEY_FILE).exists());
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let (folder, plane) = (tempfile::tempdir().unwrap(), Plane::start());
    let home = folder.path();
    join_here(home, &plane, &fixture::join_token()).unwrap();
    let good = fs::read_to_string(home.join(IDENTITY_FILE)).unwrap();
    let said = |file: &str, text: &str| {
        fs::write(home.join(file), text).unwrap();
        Identity::load(home).unwrap_err().to_string()
    };
    assert!(said(IDENTITY_FILE, "{").contains("identity.json is not an identity"));
    assert!(said(IDENTITY_FILE, &good.replace("\"version\": 1", "\"version\": 2")).contains("version 2"));
    assert!(said(IDENTITY_FILE, &good.replace("\"kind\"", "\"kin\"")).contains("unknown field `kin`"));
    fs::write(home.join(IDENTITY_FILE), &good).unwrap();
    assert!(said(KEY_FILE, "zz").contains("node.key is not a node key"));
    fs::remove_file(home.join(KEY_FILE)).unwrap();
    assert!(Identity::load(home).unwrap_err().to_string().contains("node.key beside it is missing"));
}

#[test]
fn a_crash_after_each_step_is_repaired_by_joining_again() {
    // The steps are: key, join, identity. What each leaves behind is what the next call finds.
    struct Counted(Mutex<Cell<u32>>);
    impl Random for Counted {
        fn fill(&self, bytes: &mut [u8]) -> io::Result<()> {
            let calls = self.0.lock().unwrap();
            calls.set(calls.get() + 1);
            SystemRandom.fill(bytes)
        }
    }
    let (folder, plane) = (tempfile::tempdir().unwrap(), Plane::start());
    let random = Counted(Mutex::new(Cell::new(0)));
    make_key(folder.path(), &random).unwrap();
    fs::write(folder.path().join("identity.json.tmp"), "half").unwrap();
    join(folder.path(), plane.url(), &fixture::join_token(), NodeKind::Sensor, &labels(), &random).unwrap();
    assert_eq!(random.0.lock().unwrap().get(), 1, "the key is made once");
}
