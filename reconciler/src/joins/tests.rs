use cairn_schemas::fleet::SignersConfig;

use super::*;

pub(crate) fn pins() -> Pins {
    Pins {
        ledger_name: "test".into(),
        root_key: "root".into(),
        ledger_key: "ledger".into(),
        release_key: "release".into(),
        control_node: "control".parse().unwrap(),
        signers: SignersConfig::UnsignedAllowed,
        token_epoch: "e1".into(),
        token_key: STANDARD.encode([9; 32]),
        witnesses: None,
    }
}

fn key(seed: u8) -> String {
    STANDARD.encode(ed25519_dalek::SigningKey::from_bytes(&[seed; 32]).verifying_key().as_bytes())
}

fn request(token: &JoinToken, seed: u8) -> JoinRequest {
    JoinRequest {
        token: token.to_string(),
        kind: NodeKind::Sensor,
        key: key(seed),
        labels: BTreeMap::from([("role".to_owned(), "sensor".to_owned())]),
        protocol: PROTOCOL.to_owned(),
    }
}

fn open(folder: &Path) -> Joins {
    Joins::open(folder, [3; 32], pins()).unwrap()
}

#[test]
fn a_token_admits_one_key_and_answers_it_the_same_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let joins = open(folder.path());
    let token = joins.make_token(NodeKind::Sensor, [5; 32]).unwrap();
    assert_eq!(token.pins, pins().digest());
    let admitted = joins.admit(&request(&token, 1)).unwrap();
    assert!(admitted.node.as_str().starts_with("sensor-"));
    assert_eq!(joins.admit(&request(&token, 1)).unwrap(), admitted);
    let reopened = open(folder.path());
    assert_eq!(reopened.admit(&request(&token, 1)).unwrap(), admitted, "after a restart too");
    assert_eq!(reopened.authenticate(&admitted.credential), Some(admitted.node.clone()));
    assert!(matches!(reopened.admit(&request(&token, 2)), Err(JoinError::Used { node }) if node == admitted.node));
}

#[test]
fn the_registry_holds_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let joins = open(folder.path());
    let token = joins.make_token(NodeKind::Sensor, [5; 32]).unwrap();
    let admitted = joins.admit(&request(&token, 1)).unwrap();
    let random = admitted.credential.rsplit('.').next().unwrap();
    for sub in ["joins", "nodes"] {
        for (name, path) in files(&folder.path().join(sub)).unwrap() {
            let text = name + &std::fs::read_to_string(path).unwrap();
            assert!(!text.contains(&token.secret) && !text.contains(random), "{text}");
        }
    }
}

#[test]
fn strangers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let joins = open(folder.path());
    let token = joins.make_token(NodeKind::Sensor, [5; 32]).unwrap();
    let good = request(&token, 1);
    let with = |edit: &dyn Fn(&mut JoinRequest)| {
        let mut request = good.clone();
        edit(&mut request);
        joins.admit(&request).unwrap_err()
    };
    let other = JoinToken { secret: hex::encode([6; 32]), pins: token.pins };
    assert!(matches!(with(&|r| r.token = other.to_string()), JoinError::Unknown));
    assert!(matches!(with(&|r| r.token = "x".into()), JoinError::NotAToken(_)));
    assert!(matches!(with(&|r| r.kind = NodeKind::Admission), JoinError::WrongKind { .. }));
    assert!(matches!(with(&|r| r.key = "AAAA".into()), JoinError::NotAKey));
    for protocol in ["2.0", "1.1", "0.9", "1", "x.y", ""] {
        assert!(matches!(with(&|r| r.protocol = protocol.into()), JoinError::Protocol { .. }), "{protocol}");
    }
    assert!(joins.admit(&good).is_ok(), "nothing of that used the token up");
    for bad in ["", "cairn-node", "cairn-node.sensor-1.00", "cairn-node.x..", "Bearer"] {
        assert_eq!(joins.authenticate(bad), None);
    }
}

#[test]
fn labels_at_their_limits_and_one_past_them() {
    let many = |count: usize| (0..count).map(|at| (format!("l{at}"), "v".to_owned())).collect::<BTreeMap<_, _>>();
    let long = |len: usize| BTreeMap::from([("l".to_owned(), "v".repeat(len))]);
    assert!(check_labels(&many(LABELS_MAX)).is_ok());
    assert!(check_labels(&many(LABELS_MAX + 1)).is_err());
    assert!(check_labels(&long(LABEL_LEN_MAX)).is_ok());
    assert!(check_labels(&long(LABEL_LEN_MAX + 1)).is_err());
}

#[test]
fn ids_that_collide_grow() {
    let mut known = Known::default();
    let first = known.new_id(NodeKind::Sensor, &[1; 32]);
    known.credentials.insert(first.clone(), Digest::ZERO);
    let second = known.new_id(NodeKind::Sensor, &[1; 32]);
    assert_ne!(first, second);
    assert!(second.as_str().starts_with(first.as_str()));
}

#[test]
fn a_broken_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let joins = open(folder.path());
    joins.make_token(NodeKind::Sensor, [5; 32]).unwrap();
    let (_, path) = files(&folder.path().join("joins")).unwrap().remove(0);
    std::fs::write(&path, "{").unwrap();
    let error = Joins::open(folder.path(), [3; 32], pins()).unwrap_err().to_string();
    assert!(error.contains(path.to_str().unwrap()), "{error}");
}
