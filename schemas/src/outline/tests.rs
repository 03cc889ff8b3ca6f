mod sample;

use proptest::prelude::*;

use self::sample::Sample;
use super::*;
use crate::canonical;
use crate::data::{self, AdmissionDecided, Finding, NodeCapabilities};
use crate::record::Draft;
use crate::token::{TokenKey, token};

fn record(draft: Draft) -> Record {
    let Draft { kind, subject, release, foreignid, data } = draft;
    Record {
        stream: StreamId::new(&"node-1".parse().unwrap(), [1; 16]),
        sequence: Sequence(4),
        prevdigest: Digest::sha256(b"before"),
        time: Timestamp::from_nanos(1_700_000_000_000_000_000),
        kind,
        subject,
        release,
        foreignid,
        data,
    }
}

fn decision() -> Record {
    let key = TokenKey { epoch: "e1".into(), key: [7; 32] };
    let data = AdmissionDecided {
        uid: "705ab4f5".into(),
        operation: "CREATE".into(),
        kind: "v1/Pod".into(),
        resource: "v1/pods".into(),
        namespace: Some("shop".into()),
        name: None,
        user: token(&key, "user", "alice").into(),
        allowed: false,
        dry_run: false,
        object: Digest::sha256(b"object"),
        denials: vec![Finding { guardrail: "a".into(), message: "b \"c\"\n\u{1f600}".into() }],
        warnings: Vec::new(),
        omitted: 0,
        error: None,
        evaluated_us: 250,
    };
    let release = ReleaseRef { serial: crate::ids::Serial(3), digest: Digest::sha256(b"content") };
    record(Draft::new(&data).release(release).subject("shop/\"web\"").foreignid("one\n"))
}

macro_rules! types {
    ($($name:ident)*) => {
        /// The types whose payload is compared.
        const COMPARED: &[RecordType] = &[$(RecordType::$name,)*];

        fn same_data(outline: &Outline<'_>, record: &Record) {
            match record.kind {
                $(RecordType::$name => {
                    assert_eq!(outline.data_as::<data::$name>().unwrap(), record.data_as::<data::$name>().unwrap());
                })*
            }
        }
    };
}

types! {
    LedgerOpened LedgerCarried LedgerClosed LedgerFrozen LedgerKeyRotated LedgerWitnessesChanged
    StreamGap StreamForked StreamRejected StreamOpened StreamHead FleetObserved
    ReleaseBuilt ReleaseRejected GitRefused
    RolloutEntered RolloutAdvanced RolloutHeld RolloutAborted RolloutSuperseded RolloutPromoted
    NodeJoined NodeCapabilities NodeLoaded NodeRefused NodeFellback NodeConflict
    AdmissionDecided DetectionRaised ContainmentRequested ContainmentFinished ContainmentRefused
    SensorLoss EvidenceReceived PrivacyErased PrivacyDisclosed
}

/// What both ways make of the same bytes.
fn same(bytes: &[u8]) {
    match (Outline::read(bytes), Record::parse(bytes)) {
        (Ok(outline), Ok(record)) => {
            assert_eq!(outline.stream, record.stream);
            assert_eq!(outline.sequence, record.sequence);
            assert_eq!(outline.prevdigest, record.prevdigest);
            assert_eq!(outline.kind, record.kind);
            assert_eq!(outline.time, record.time);
            assert_eq!(outline.release, record.release);
            assert_eq!(outline.foreignid.as_deref(), record.foreignid.as_deref());
            same_data(&outline, &record);
        }
        (Err(ours), Err(theirs)) => assert_eq!(ours.one_line(), theirs.one_line()),
        (ours, theirs) => panic!("{ours:?} and {theirs:?}: {}", String::from_utf8_lossy(bytes)),
    }
}

#[test]
fn attributes_and_payload_are_read() {
    let bytes = decision().to_bytes().unwrap();
    assert!(Outline::try_read(&bytes).is_some());
    same(&bytes);
    let outline = Outline::read(&bytes).unwrap();
    assert!(matches!(outline.data_as::<NodeCapabilities>(), Err(RecordError::Wrong { .. })));
}

#[test]
fn every_attribute_is_checked_as_in_a_record() {
    let good: serde_json::Value = serde_json::from_slice(&decision().to_bytes().unwrap()).unwrap();
    let values = [
        serde_json::Value::Null,
        serde_json::Value::from(5),
        serde_json::Value::from(""),
        serde_json::Value::from("x".repeat(ATTRIBUTE_LEN_MAX)),
        serde_json::Value::from("x".repeat(ATTRIBUTE_LEN_MAX + 1)),
        serde_json::Value::from("00000000000000000005"),
        serde_json::Value::from("cairn.node.capabilities.v1"),
        serde_json::Value::from("/streams/ledger"),
        serde_json::json!({}),
        serde_json::json!([]),
    ];
    let names = good.as_object().unwrap().keys().cloned().chain(["aa".to_owned(), "zz".to_owned()]);
    for name in names {
        let mut without = good.clone();
        without.as_object_mut().unwrap().remove(&name);
        same(&canonical::to_bytes(&without).unwrap());
        for value in &values {
            let mut other = good.clone();
            other.as_object_mut().unwrap().insert(name.clone(), value.clone());
            same(&canonical::to_bytes(&other).unwrap());
        }
    }
    for name in good["data"].as_object().unwrap().keys() {
        for value in &values {
            let mut other = good.clone();
            other["data"][name] = value.clone();
            same(&canonical::to_bytes(&other).unwrap());
        }
    }
}

proptest! {
    #[test]
    fn changed_bytes_are_read_as_a_record_reads_them(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = decision().to_bytes().unwrap();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        same(&bytes);
    }

    #[test]
    fn changed_records_of_every_type_are_read_as_a_record_reads_them(seed in any::<u64>(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut sample = Sample::new(seed);
        for &kind in RecordType::ALL {
            let mut value = written(&mut sample, kind);
            for _ in 0..sample.below(3) {
                sample.spoil(&mut value["data"]);
            }
            if sample.once_in(8) {
                sample.spoil(&mut value);
            }
            let mut bytes = canonical::to_bytes(&value).unwrap();
            same(&bytes);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            same(&bytes);
            bytes.truncate(at);
            same(&bytes);
        }
    }
}

/// A record of this type, with attributes of every kind.
fn written(sample: &mut Sample, kind: RecordType) -> serde_json::Value {
    let release = ReleaseRef { serial: crate::ids::Serial(3), digest: Digest::sha256(b"content") };
    let subject = sample.once_in(2).then(|| "shop/\"web\"".to_owned());
    let foreignid = sample.once_in(2).then(|| "one\n".to_owned());
    let data = serde_json::Value::Null;
    let draft = Draft { kind, subject, release: kind.is_decision().then_some(release), foreignid, data };
    let data = sample.data(kind);
    let record = Record { data: data.clone(), ..record(draft) };
    let mut attributes = serde_json::Map::new();
    attributes.insert("data".into(), data);
    attributes.insert("id".into(), format!("{}/{}", record.stream, record.sequence.padded()).into());
    attributes.insert("prevdigest".into(), record.prevdigest.to_string().into());
    attributes.insert("sequence".into(), record.sequence.padded().into());
    attributes.insert("source".into(), format!("/streams/{}", record.stream).into());
    attributes.insert("specversion".into(), "1.0".into());
    attributes.insert("time".into(), record.time.to_string().into());
    attributes.insert("type".into(), kind.as_str().into());
    let optional = [
        ("release", record.release.map(|release| release.to_string())),
        ("subject", record.subject),
        ("foreignid", record.foreignid),
    ];
    for (name, value) in optional {
        attributes.extend(value.map(|value| (name.to_owned(), value.into())));
    }
    serde_json::Value::Object(attributes)
}

#[test]
fn records_of_every_type_take_the_fast_way() {
    assert_eq!(COMPARED, RecordType::ALL, "a new type is compared like all others");
    for &kind in RecordType::ALL {
        let mut valid = 0;
        for seed in 0..200 {
            let bytes = canonical::to_bytes(&written(&mut Sample::new(seed), kind)).unwrap();
            same(&bytes);
            let fast = Outline::try_read(&bytes).is_some();
            assert_eq!(fast, Record::parse(&bytes).is_ok(), "{}", String::from_utf8_lossy(&bytes));
            valid += u32::from(fast);
        }
        assert!(valid >= 20, "{kind}: {valid} of 200 samples are valid");
    }
}
