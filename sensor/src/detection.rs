//! An alert as a `detection.raised` record. Pure.

use std::collections::BTreeMap;

use cairn_rules::event::{Event, EventKind, Text};
use cairn_rules::{Alert, Ancestor as AlertAncestor, FieldValue, ProcessView};
use cairn_schemas::canonical;
use cairn_schemas::data::{Ancestor, DetectionRaised, FileSeen, Process, ResponseSeen, Target};
use cairn_schemas::ids::ReleaseRef;
use cairn_schemas::record::{Draft, RECORD_LEN_MAX};
use cairn_schemas::text::cut;
use cairn_schemas::time::Timestamp;

use crate::redact::{Part, Redaction};

/// Most parents in a record.
pub const ANCESTORS_MAX: usize = 16;
/// Most arguments in a record.
pub const ARGUMENTS_MAX: usize = 1_024;
/// Most responses in a record.
pub const RESPONSES_MAX: usize = 16;
/// Longest name of a response in a record, bytes.
const NAME_LEN_MAX: usize = 256;
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
pub fn target(alert: &Alert, redaction: &Redaction) -> Target {
    let process = &alert.process;
    let mut shorten = Shorten { redaction, len_max: 4_096, cut: false };
    Target {
        pid: u64::from(process.pid),
        start_ns: process.start_ns.to_string(),
        executable: shorten.part(Part::Executable, &process.exe),
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
    let mut shorten = Shorten { redaction, len_max, cut: false };
    let fields = alert.fields.iter().filter_map(|(name, value)| {
        let text = match value {
            FieldValue::Absent => return None,
            value => value.to_string(),
        };
        // The token of the whole value, not of what is left of it: equal values must link. And a cut token is none.
        Some((
            name.clone(),
            redaction.field(name, &text).map_or_else(|| shorten.text(&text), |token| token.to_string()),
        ))
    });
    let fields = fields.collect();
    let process = process(&alert.process, user, &mut shorten);
    let ancestry = &alert.process.ancestry;
    let ancestors = ancestry.iter().take(ANCESTORS_MAX).map(|parent| ancestor(parent, &mut shorten)).collect();
    shorten.cut |= ancestry.len() > ANCESTORS_MAX || responses.len() > RESPONSES_MAX;
    let responses = responses.iter().take(RESPONSES_MAX).cloned();
    DetectionRaised {
        rule: shorten.text(&alert.rule),
        priority: alert.priority.as_str().to_owned(),
        tags: alert.tags.iter().take(64).map(|tag| shorten.text(tag)).collect(),
        source: shorten.text(&alert.source),
        event: alert.event_type.clone(),
        observed: Timestamp::from_nanos(alert.time_ns),
        output: shorten.text(&alert.template),
        fields,
        personal: BTreeMap::new(),
        process: Some(process),
        ancestors,
        document: None,
        container: alert.process.container.as_ref().map(|id| shorten.part(Part::Container, id)),
        file: file(event, &mut shorten),
        responses: responses.map(|seen| ResponseSeen { name: cut(&seen.name, NAME_LEN_MAX), ..seen }).collect(),
        cut: shorten.cut,
    }
}

fn process(view: &ProcessView, user: Option<&str>, shorten: &mut Shorten<'_>) -> Process {
    // Where command lines are personal, one token stands for all arguments: it links, and is harder to guess than each of them.
    let arguments = match shorten.redaction.part(Part::Command, &view.cmdline.to_string()) {
        Some(token) => vec![token.to_string()],
        None => shorten.arguments(&view.args, view.args_truncated),
    };
    Process {
        pid: u64::from(view.pid),
        start_ns: view.start_ns.to_string(),
        name: shorten.part(Part::Name, &view.name),
        executable: shorten.part(Part::Executable, &view.exe),
        arguments,
        directory: (!view.cwd.is_empty()).then(|| shorten.part(Part::Directory, &view.cwd)),
        user: shorten.redaction.user(view.uid, user, view.loginuid),
        terminal: view.tty != 0,
    }
}

fn ancestor(parent: &AlertAncestor, shorten: &mut Shorten<'_>) -> Ancestor {
    Ancestor {
        pid: u64::from(parent.pid),
        start_ns: parent.start_ns.to_string(),
        name: shorten.part(Part::Name, &parent.name),
        executable: shorten.part(Part::Executable, &parent.exe),
        command: shorten.part(Part::Command, &parent.cmdline),
    }
}

fn file(event: &Event, shorten: &mut Shorten<'_>) -> Option<FileSeen> {
    let EventKind::Open(open) = &event.kind else { return None };
    let differs = open.nameraw != open.name && !open.nameraw.is_empty();
    Some(FileSeen {
        path: shorten.part(Part::File, &open.name),
        argument: differs.then(|| shorten.part(Part::File, &open.nameraw)),
    })
}

/// Cuts texts, and remembers whether it did. Tokens are never cut.
struct Shorten<'a> {
    redaction: &'a Redaction,
    len_max: usize,
    cut: bool,
}

impl Shorten<'_> {
    fn text(&mut self, text: &str) -> String {
        self.cut |= text.len() > self.len_max;
        cut(text, self.len_max)
    }

    /// A part as a policy lets it be shown. An unknown one is empty, not the token of nothing.
    fn part(&mut self, part: Part, value: &Text) -> String {
        let text = value.to_string();
        let token = if text.is_empty() { None } else { self.redaction.part(part, &text) };
        token.map_or_else(|| self.text(&text), |token| token.to_string())
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
            tags: vec!["shell".to_owned()],
            source: "syscall".to_owned(),
            time_ns: 1_700_000_000_000_000_000,
            event_type: "execve".to_owned(),
            output: "a shell".to_owned(),
            template: "a shell".into(),
            fields: BTreeMap::new(),
            extra: BTreeMap::new(),
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
        assert!(data.process.unwrap().user.name.unwrap().to_string().starts_with("tok:e1:"));
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
        assert!(!data.process.unwrap().arguments.is_empty());
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

    #[test]
    fn a_rule_that_prints_everything_about_a_hostile_process_still_makes_a_record() {
        let mut alert = alert("Shell", Priority::Notice);
        let hostile: Text = Text::from(&[1u8; 40_000][..]);
        alert.process.ancestry = vec![
            AlertAncestor {
                exe: hostile.clone(),
                cmdline: hostile.clone(),
                name: hostile.clone(),
                ..AlertAncestor::default()
            };
            ANCESTORS_MAX
        ];
        alert.process.args = vec![hostile.clone(); 9];
        for number in 0..126 {
            alert.fields.insert(format!("proc.acmdline[{number}]"), FieldValue::Text(hostile.clone()));
        }
        for name in ["user.name", "user.uid"] {
            alert.fields.insert(name.to_owned(), FieldValue::Text(Text::from(&b"alice"[..])));
        }
        let seen = ResponseSeen {
            name: "r".repeat(60_000),
            action: "kill".into(),
            mode: cairn_schemas::config::ResponseMode::Observe,
        };
        let record = record(draft(&alert, &event(), Some("alice"), vec![seen; 40], &redaction(), release()));
        let data: DetectionRaised = record.data_as().unwrap();
        assert!(data.cut);
        assert!(data.fields["user.name"].parse::<cairn_schemas::token::Token>().is_ok(), "a token is never cut");
    }

    #[test]
    fn what_a_policy_calls_personal_is_nowhere_in_the_record() {
        let mut alert = alert("Shell", Priority::Notice);
        let secret: Text = Text::from(&b"alice-secret"[..]);
        alert.process.args = vec![secret.clone()];
        alert.process.cmdline = secret.clone();
        alert.process.exe = secret.clone();
        alert.process.name = secret.clone();
        alert.process.cwd = secret.clone();
        alert.process.container = Some(secret.clone());
        alert.process.ancestry = vec![AlertAncestor {
            exe: secret.clone(),
            cmdline: secret.clone(),
            name: secret.clone(),
            ..AlertAncestor::default()
        }];
        alert.fields.insert("proc.args".into(), FieldValue::Text(secret.clone()));
        let open = Open { name: secret.clone(), nameraw: Text::from(&b"./alice-secret"[..]), ..Open::default() };
        let event = Event { kind: EventKind::Open(Box::new(open)), ..event() };
        let all =
            ["proc.cmdline", "proc.exepath", "proc.name", "proc.cwd", "fd.name", "container.id"].map(String::from);
        let redaction = Redaction::new(TokenKey { epoch: "e1".to_owned(), key: [7; 32] }, &all);
        let record = record(draft(&alert, &event, Some("alice"), Vec::new(), &redaction, release()));
        assert!(!record.data.to_string().contains("alice"), "{}", record.data);
        assert!(!serde_json::to_string(&target(&alert, &redaction)).unwrap().contains("alice"));
    }
}
