//! An alert about a document as a `detection.raised` record: what of it is personal, what is too long, what names it. Pure.
//!
//! Values that the source or the policy calls personal leave this module apart from the record, for the vault ([`super::hide`]); the record
//! has a commitment in their place.

use std::collections::{BTreeMap, BTreeSet};

use cairn_rules::source::Source;
use cairn_rules::{Alert, FieldValue};
use cairn_schemas::canonical;
use cairn_schemas::commitment::{Commitment, KeyId, Personal};
use cairn_schemas::data::{DetectionRaised, DocumentSeen, field_shown, is_personal_field};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::ReleaseRef;
use cairn_schemas::record::{ATTRIBUTE_LEN_MAX, Draft, RECORD_LEN_MAX};
use cairn_schemas::text::cut;
use cairn_schemas::time::Timestamp;

/// What a record needs beside its data, bytes: attributes, with room to spare.
const ATTRIBUTES_LEN: usize = 2_048;
/// The longest text at first; halved until the record fits.
const TEXT_LEN_MAX: usize = 16_384;
/// At this length it fits, or its fields' names alone are too long.
const TEXT_LEN_MIN: usize = 16;
/// Most tags of a rule in a record.
const TAGS_MAX: usize = 64;

/// Fields that a policy calls personal, besides those that sources do.
#[derive(Debug, Clone, Default)]
pub(super) struct MorePersonal(BTreeSet<String>);

/// Who sent an event, and what names it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) intake: &'a str,
    /// Its id where it comes from.
    pub(super) id: Option<&'a str>,
    /// What tells it from every other event of its sender.
    pub(super) name: &'a str,
}

/// A record to be, with what must be hidden first.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finding {
    /// Without a `foreignid`, and with nothing in `personal` that counts.
    pub(super) draft: Draft,
    pub(super) foreignid: String,
    /// By field, what a commitment stands for.
    pub(super) personal: BTreeMap<String, String>,
}

impl MorePersonal {
    pub(super) fn new(fields: &[String]) -> MorePersonal {
        MorePersonal(fields.iter().cloned().collect())
    }

    /// As a rule writes it.
    fn has(&self, field: &str) -> bool {
        let shown = field_shown(field);
        let base = shown.split('[').next().unwrap_or_default();
        self.0.contains(shown) || self.0.contains(base)
    }
}

/// The record of an alert.
///
/// What is too long for a record is cut, longest texts first, and `cut` says so.
pub(super) fn finding(
    alert: &Alert,
    source: &Source,
    more: &MorePersonal,
    origin: Origin<'_>,
    release: ReleaseRef,
) -> Finding {
    let is_personal = |field: &str| source.is_personal(field) || is_personal_field(field) || more.has(field);
    let text = |(name, value): (&String, &FieldValue)| match value {
        FieldValue::Absent => None,
        value => Some((name.clone(), value.to_string())),
    };
    let (mut personal, fields): (BTreeMap<String, String>, BTreeMap<String, String>) =
        alert.fields.iter().filter_map(text).partition(|(name, _)| is_personal(name));
    let mut len_max = TEXT_LEN_MAX;
    loop {
        let is_last = len_max <= TEXT_LEN_MIN;
        let data = data(alert, &fields, &personal, origin, len_max);
        let draft = Draft::new(&data).subject(cut(&alert.rule, 256)).release(release);
        let len = canonical::to_bytes(&draft.data).map_or(usize::MAX, |bytes| bytes.len());
        if len + ATTRIBUTES_LEN <= RECORD_LEN_MAX {
            return Finding { draft, foreignid: foreignid(origin, &alert.rule), personal };
        }
        if is_last {
            // Names of fields cannot be cut: what they show would be another field's.
            personal.clear();
            let data = DetectionRaised {
                fields: BTreeMap::new(),
                personal: BTreeMap::new(),
                output: cut(&alert.template, TEXT_LEN_MIN),
                cut: true,
                ..data
            };
            let draft = Draft::new(&data).subject(cut(&alert.rule, 256)).release(release);
            return Finding { draft, foreignid: foreignid(origin, &alert.rule), personal };
        }
        len_max /= 2;
    }
}

fn data(
    alert: &Alert,
    fields: &BTreeMap<String, String>,
    personal: &BTreeMap<String, String>,
    origin: Origin<'_>,
    len_max: usize,
) -> DetectionRaised {
    let mut is_cut = false;
    let mut shorten = |text: &str| {
        is_cut |= text.len() > len_max;
        cut(text, len_max)
    };
    let nothing = Personal::from(Commitment { key: KeyId([0; 16]), digest: Digest::ZERO });
    let mut data = DetectionRaised {
        rule: shorten(&alert.rule),
        priority: alert.priority.as_str().to_owned(),
        tags: alert.tags.iter().take(TAGS_MAX).map(|tag| shorten(tag)).collect(),
        source: shorten(&alert.source),
        event: alert.event_type.clone(),
        observed: Timestamp::from_nanos(alert.time_ns),
        output: shorten(&alert.template),
        fields: fields.iter().map(|(name, text)| (name.clone(), shorten(text))).collect(),
        personal: personal.keys().map(|name| (name.clone(), nothing.clone())).collect(),
        process: None,
        ancestors: Vec::new(),
        document: Some(DocumentSeen {
            intake: origin.intake.to_owned(),
            id: origin.id.map(|id| cut(id, len_max.min(ATTRIBUTE_LEN_MAX))),
        }),
        container: None,
        file: None,
        responses: Vec::new(),
        cut: false,
    };
    data.cut = is_cut;
    data
}

/// What names the record in the control plane's stream: of one event a rule says one thing. A digest, because ids come from outside and
/// might be chosen so that two of them, with the names of two rules, read the same.
fn foreignid(origin: Origin<'_>, rule: &str) -> String {
    let Origin { intake, id, name } = origin;
    let text = serde_json::json!([intake, id.is_some(), name, rule]).to_string();
    format!("intake/{intake}/{}", Digest::sha256(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use cairn_rules::{RulesFile, Sources, load};
    use cairn_schemas::ids::{NodeId, Sequence, Serial, StreamId};
    use cairn_schemas::record::Record;

    use super::*;

    const ORIGIN: Origin<'_> = Origin { intake: "prod", id: Some("1/Done"), name: "1/Done" };

    fn release() -> ReleaseRef {
        ReleaseRef { serial: Serial(1), digest: Digest::ZERO }
    }

    fn alert(output: &str, document: &str) -> Alert {
        let text = format!(
            "- rule: R\n  desc: d\n  condition: json.value[/verb] exists\n  output: >-\n    {output}\n  priority: NOTICE\n  source: k8s_audit\n"
        );
        let loaded = load(&[RulesFile { path: "r.yaml", text: &text }]);
        assert_eq!(loaded.errors().count(), 0, "{:?}", loaded.problems);
        let mut intake = cairn_rules::source::Intake::new(std::sync::Arc::new(loaded.rules));
        intake.take("k8s_audit", document.as_bytes(), 7).unwrap().remove(0).alerts.remove(0)
    }

    fn found(alert: &Alert, more: &[&str]) -> Finding {
        let more: Vec<String> = more.iter().map(|field| (*field).to_owned()).collect();
        let source = Sources::built_in().get("k8s_audit").unwrap();
        finding(alert, source, &MorePersonal::new(&more), ORIGIN, release())
    }

    fn record(draft: Draft) -> DetectionRaised {
        let node: NodeId = "control".parse().unwrap();
        let record = Record {
            stream: StreamId::new(&node, [1; 16]),
            sequence: Sequence(1),
            prevdigest: Digest::ZERO,
            kind: draft.kind,
            subject: draft.subject,
            time: Timestamp::from_nanos(5),
            release: draft.release,
            foreignid: Some("f".repeat(ATTRIBUTE_LEN_MAX)),
            data: draft.data,
        };
        Record::parse(&record.to_bytes().unwrap()).unwrap().data_as().unwrap()
    }

    #[test]
    fn what_is_personal_stands_apart() {
        let document =
            r#"{"verb":"get","user":{"username":"alice"},"requestURI":"/api/v1/secrets","objectRef":{"name":"db"}}"#;
        let alert = alert(
            "%ka.user.name %toupper(ka.user.name) %json.value[/user] %json.value[/verb] %ka.target.name",
            document,
        );
        let finding = found(&alert, &["ka.target.name"]);
        let hidden: Vec<&str> = finding.personal.keys().map(String::as_str).collect();
        assert_eq!(hidden, ["json.value[/user]", "ka.target.name", "ka.user.name"]);
        assert_eq!(finding.personal["ka.user.name"], "alice");
        let text = finding.draft.data.to_string();
        assert!(!text.contains("alice") && !text.contains("\"db\""), "{text}");
        let data = record(finding.draft);
        assert_eq!(data.fields["json.value[/verb]"], "get");
        assert_eq!((data.process, data.cut), (None, false));
        assert_eq!(data.document, Some(DocumentSeen { intake: "prod".into(), id: Some("1/Done".into()) }));
    }

    #[test]
    fn one_event_and_one_rule_have_one_name() {
        let of = |intake, id: Option<&'static str>, name, rule: &str| foreignid(Origin { intake, id, name }, rule);
        let one = of("prod", Some("a"), "a", "b");
        assert_eq!(one, of("prod", Some("a"), "a", "b"));
        for other in [
            of("test", Some("a"), "a", "b"),
            of("prod", None, "a", "b"),
            of("prod", Some("a\",\"b"), "a\",\"b", ""),
            of("prod", Some("a"), "a", "c"),
        ] {
            assert_ne!(one, other);
        }
        assert!(of(&"x".repeat(64), Some("a"), "a", &"r".repeat(9_999)).len() <= ATTRIBUTE_LEN_MAX);
    }

    #[test]
    fn a_hostile_document_still_makes_a_record() {
        // Control characters: six bytes each in JSON.
        let hostile = "\u{1}".repeat(40_000);
        let document =
            serde_json::json!({"verb": hostile, "user": {"username": hostile}, "a": vec![hostile.as_str(); 50]});
        let fields: String = (0..50).map(|number| format!("%json.value[/a/{number}] ")).collect();
        let alert = alert(&format!("%ka.user.name %json.value[/verb] {fields}"), &document.to_string());
        let finding = found(&alert, &[]);
        assert_eq!(finding.personal["ka.user.name"].len(), 40_000);
        assert!(record(finding.draft).cut);
        // Names of fields that are too long together.
        let long = "\u{1}".repeat(500);
        let fields: String = (0..30).map(|number| format!("%json.value[/{long}{number}] ")).collect();
        let mut wide = alert.clone();
        wide.template = fields;
        wide.fields = (0..30).map(|n| (format!("json.value[/{long}{n}]"), FieldValue::Number(1))).collect();
        let data = record(found(&wide, &[]).draft);
        assert!(data.cut && data.fields.is_empty());
    }
}
