//! An alert as a `detection.raised` record. Pure.

use cairn_rules::event::{Event, EventKind, Text};
use cairn_rules::{Alert, Ancestor as AlertAncestor, FieldValue, ProcessView};
use cairn_schemas::canonical;
use cairn_schemas::data::{Ancestor, DetectionRaised, FileSeen, Process, ResponseSeen, Target};
use cairn_schemas::ids::ReleaseRef;
use cairn_schemas::record::{Draft, RECORD_LEN_MAX};
use cairn_schemas::text::cut;
use cairn_schemas::time::Timestamp;

use crate::redact::Redaction;

/// Most parents in a record.
pub const ANCESTORS_MAX: usize = 16;
/// Most arguments in a record.
pub const ARGUMENTS_MAX: usize = 1_024;
/// What a record needs beside its data, bytes: attributes, with room to spare.
const ATTRIBUTES_LEN: usize = 2_048;
/// The longest text at first; halved until the record fits.
const TEXT_LEN_MAX: usize = 16_384;
/// At this length anything fits.
const TEXT_LEN_MIN: usize = 16;

/// The record of an alert.
///
/// What is too long for a record is cut, longest texts first, and `cut` says so.
#[must_use]
pub fn draft(
    alert: &Alert,
    event: &Event,
    user: Option<&str>,
    responses: Vec<ResponseSeen>,
    redaction: &Redaction,
    release: ReleaseRef,
) -> Draft {
    let mut len_max = TEXT_LEN_MAX;
    loop {
        let data = data(alert, event, user, &responses, redaction, len_max);
        let draft = Draft::new(&data).subject(cut(&alert.rule, 256)).release(release);
        let len = canonical::to_bytes(&draft.data).map_or(usize::MAX, |bytes| bytes.len());
        if len + ATTRIBUTES_LEN <= RECORD_LEN_MAX || len_max <= TEXT_LEN_MIN {
            return draft;
        }
        len_max /= 2;
    }
}

/// The process an alert is about, as a containment names it.
#[must_use]
pub fn target(alert: &Alert) -> Target {
    let process = &alert.process;
    Target {
        pid: u64::from(process.pid),
        start_ns: process.start_ns.to_string(),
        executable: cut(&process.exe.to_string(), 4_096),
    }
}

fn data(
    alert: &Alert,
    event: &Event,
    user: Option<&str>,
    responses: &[ResponseSeen],
    redaction: &Redaction,
    len_max: usize,
) -> DetectionRaised {
    let mut shorten = Shorten { len_max, cut: false };
    let fields = alert.fields.iter().filter_map(|(name, value)| {
        let text = match value {
            FieldValue::Absent => return None,
            value => value.to_string(),
        };
        // The token of the whole value, not of what is left of it: equal values must link.
        Some((name.clone(), shorten.text(&redaction.field(name, &text))))
    });
    let fields = fields.collect();
    let process = process(&alert.process, user, redaction, &mut shorten);
    let ancestry = &alert.process.ancestry;
    let ancestors = ancestry.iter().take(ANCESTORS_MAX).map(|parent| ancestor(parent, &mut shorten)).collect();
    shorten.cut |= ancestry.len() > ANCESTORS_MAX;
    DetectionRaised {
        rule: shorten.text(&alert.rule),
        priority: alert.priority.as_str().to_owned(),
        tags: alert.tags.iter().take(64).map(|tag| shorten.text(tag)).collect(),
        source: alert.source.clone(),
        event: alert.event_type.clone(),
        observed: Timestamp::from_nanos(alert.time_ns),
        output: shorten.text(&alert.template),
        fields,
        process,
        ancestors,
        container: alert.process.container.as_ref().map(ToString::to_string),
        file: file(event, &mut shorten),
        responses: responses.iter().take(16).cloned().collect(),
        cut: shorten.cut,
    }
}

fn process(view: &ProcessView, user: Option<&str>, redaction: &Redaction, shorten: &mut Shorten) -> Process {
    Process {
        pid: u64::from(view.pid),
        start_ns: view.start_ns.to_string(),
        name: shorten.text(&view.name.to_string()),
        executable: shorten.text(&view.exe.to_string()),
        arguments: shorten.arguments(&view.args, view.args_truncated),
        directory: (!view.cwd.is_empty()).then(|| shorten.text(&view.cwd.to_string())),
        user: redaction.user(view.uid, user, view.loginuid),
        terminal: view.tty != 0,
    }
}

fn ancestor(parent: &AlertAncestor, shorten: &mut Shorten) -> Ancestor {
    Ancestor {
        pid: u64::from(parent.pid),
        start_ns: parent.start_ns.to_string(),
        name: shorten.text(&parent.name.to_string()),
        executable: shorten.text(&parent.exe.to_string()),
        command: shorten.text(&parent.cmdline.to_string()),
    }
}

fn file(event: &Event, shorten: &mut Shorten) -> Option<FileSeen> {
    let EventKind::Open(open) = &event.kind else { return None };
    let argument = shorten.text(&open.nameraw.to_string());
    let path = shorten.text(&open.name.to_string());
    let argument = (argument != path && !argument.is_empty()).then_some(argument);
    Some(FileSeen { path, argument })
}

/// Cuts texts, and remembers whether it did.
struct Shorten {
    len_max: usize,
    cut: bool,
}

impl Shorten {
    fn text(&mut self, text: &str) -> String {
        self.cut |= text.len() > self.len_max;
        cut(text, self.len_max)
    }

    /// Arguments, together no longer than the limit.
    fn arguments(&mut self, arguments: &[Text], already_cut: bool) -> Vec<String> {
        self.cut |= already_cut || arguments.len() > ARGUMENTS_MAX;
        let mut left = self.len_max;
        let mut kept = Vec::new();
        for argument in arguments.iter().take(ARGUMENTS_MAX) {
            let text = argument.to_string();
            if left == 0 {
                self.cut = true;
                break;
            }
            self.cut |= text.len() > left;
            let text = cut(&text, left);
            // An empty argument takes room in the record, too.
            left = left.saturating_sub(text.len().max(3));
            kept.push(text);
        }
        kept
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use cairn_rules::Priority;
    use cairn_rules::event::{Exit, Open};
    use cairn_schemas::digest::Digest;
    use cairn_schemas::ids::{NodeId, Sequence, Serial, StreamId};
    use cairn_schemas::record::Record;
    use cairn_schemas::token::TokenKey;

    use super::*;

    pub(crate) fn alert(rule: &str, priority: Priority) -> Alert {
        Alert {
            rule: rule.into(),
            priority,
            tags: vec!["shell".to_owned()].into(),
            source: "syscall".to_owned(),
            time_ns: 1_700_000_000_000_000_000,
            event_type: "execve".to_owned(),
            output: "a shell".to_owned(),
            template: "a shell".into(),
            fields: BTreeMap::new(),
            process: ProcessView { pid: 42, start_ns: 7, exe: Text::from(&b"/bin/sh"[..]), ..ProcessView::default() },
        }
    }

    fn event() -> Event {
        Event { time_ns: 1, cpu: 0, tid: 42, pid: 42, kind: EventKind::Exit(Exit::default()) }
    }

    fn redaction() -> Redaction {
        Redaction::new(TokenKey { epoch: "e1".to_owned(), key: [7; 32] }, &[])
    }

    fn release() -> ReleaseRef {
        ReleaseRef { serial: Serial(1), digest: Digest::ZERO }
    }

    fn record(draft: Draft) -> Record {
        let node: NodeId = "sensor-1".parse().unwrap();
        let record = Record {
            stream: StreamId::new(&node, [1; 16]),
            sequence: Sequence(1),
            prevdigest: Digest::ZERO,
            kind: draft.kind,
            subject: draft.subject,
            time: Timestamp::from_nanos(5),
            release: draft.release,
            foreignid: draft.foreignid,
            data: draft.data,
        };
        Record::parse(&record.to_bytes().unwrap()).unwrap()
    }

    #[test]
    fn a_user_enters_as_a_token() {
        let draft =
            draft(&alert("Shell", Priority::Notice), &event(), Some("alice"), Vec::new(), &redaction(), release());
        let record = record(draft);
        let data: DetectionRaised = record.data_as().unwrap();
        assert!(data.process.user.name.unwrap().as_str().starts_with("tok:e1:"));
        assert!(!record.data.to_string().contains("alice"));
        assert!(!data.cut);
    }

    #[test]
    fn the_largest_process_still_makes_a_record() {
        let mut alert = alert("Shell", Priority::Notice);
        // Control characters: six bytes each in JSON.
        let hostile: Text = Text::from(&[1u8; 40_000][..]);
        alert.process.args = vec![hostile.clone(); 3_000];
        alert.process.exe = hostile.clone();
        alert.process.cwd = hostile.clone();
        alert.process.ancestry = (0..40)
            .map(|pid| AlertAncestor {
                pid,
                exe: hostile.clone(),
                cmdline: hostile.clone(),
                ..AlertAncestor::default()
            })
            .collect();
        let open = Open { name: hostile.clone(), nameraw: hostile, ..Open::default() };
        let event = Event { kind: EventKind::Open(Box::new(open)), ..event() };
        let record = record(draft(&alert, &event, None, Vec::new(), &redaction(), release()));
        let data: DetectionRaised = record.data_as().unwrap();
        assert!(data.cut);
        assert_eq!(data.ancestors.len(), ANCESTORS_MAX);
        assert!(!data.process.arguments.is_empty());
    }

    #[test]
    fn a_file_shows_what_the_program_asked_for() {
        let open = Open {
            name: Text::from(&b"/etc/shadow"[..]),
            nameraw: Text::from(&b"../shadow-link"[..]),
            ..Open::default()
        };
        let event = Event { kind: EventKind::Open(Box::new(open)), ..event() };
        let record = record(draft(&alert("Read", Priority::Notice), &event, None, Vec::new(), &redaction(), release()));
        let file = record.data_as::<DetectionRaised>().unwrap().file.unwrap();
        assert_eq!(file.path, "/etc/shadow");
        assert_eq!(file.argument.as_deref(), Some("../shadow-link"));
    }
}
