//! What is fuzzed: whatever reads text or bytes that somebody else wrote. One function per target; each must return, whatever it is given.
//! What is written twice, a fast way and a plain one, is held to itself: evaluators, readers of records, writers and readers of a format.
//!
//! `cargo xtask fuzz` cuts seeds out of what tests read anyway: upstream's rules, cases, captures, a recorded ring, the ledger's vectors.
#![forbid(unsafe_code)]

mod ledger;
mod scene;
mod sensor;

pub use ledger::{ledger, record};
pub use sensor::decode;

use std::sync::{Arc, LazyLock};

use cairn_rules::capture::{Compression, Writer};
use cairn_rules::event::{Event, Process, Text};
use cairn_rules::{
    Alert, AppendOutput, Engine, Evaluator, Format, Limits, Matching, RuleSet, RulesFile, Sources, Supply,
};
use cairn_rules::{capture, explain, falco_report, load, load_for, replay};

/// Events of one capture or document that are handed to rules.
const EVENTS_MAX: usize = 2_000;

/// Rules with a bit of everything, for what comes out of captures and documents.
const RULES: &str = r#"
- rule: files
  desc: d
  condition: evt.type in (open, openat, openat2, creat) and (fd.name startswith /etc or fd.name glob "/*/s?") and not proc.aname in (a, b)
  output: "%evt.args %fd.name %20proc.cmdline %toupper(proc.name) %evt.res %container.id"
  priority: INFO
- rule: calls
  desc: d
  condition: evt.num > 0 and (fd.sip != 1.2.3.4 or fd.snet = 10.0.0.0/8 or fd.type = ipv4 or evt.rawres < 0 or proc.args contains x)
  output: "%evt.type %evt.args %fd.type %fd.name %fd.sip %fd.sport %proc.aname[2] %user.name %proc.env %evt.buffer"
  priority: DEBUG
- rule: audit
  desc: d
  source: k8s_audit
  condition: ka.verb in (create, delete) or ka.target.resource = pods or jevt.value[/a/0] exists
  output: "%ka.user.name %ka.verb %ka.req.pod.containers.image %jevt.value[/objectRef]"
  priority: INFO
- rule: trail
  desc: d
  source: aws_cloudtrail
  condition: ct.name exists or ct.error exists
  output: "%ct.name %ct.user %ct.srcip %ct.request"
  priority: INFO
- rule: often
  desc: d
  condition: evt.type in (open, openat, execve)
  cairn: {count: {by: [proc.name], within: 5m, above: 3, distinct: fd.name}}
  output: "%proc.name %fd.name"
  priority: INFO
- rule: more
  desc: d
  condition: evt.type in (open, openat, execve)
  cairn: {spike: {by: [proc.name], every: 1m, baseline: 1h, factor: 2, at_least: 2}}
  output: "%proc.name"
  priority: INFO
- rule: new
  desc: d
  condition: evt.type in (execve, execveat)
  cairn: {first_seen: {by: [proc.name, container.id], learn: 1m, forget: 1h}}
  output: "%proc.name"
  priority: INFO
- rule: then
  desc: d
  condition: evt.type in (open, openat)
  cairn: {sequence: {after: evt.type = execve, by: [proc.pid], within: 60s}}
  output: "%proc.name"
  priority: INFO
"#;

fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}

fn rules(text: &str) -> RuleSet {
    load_for(&[RulesFile { path: "rules.yaml", text }], &Supply::everything()).rules
}

/// [`RULES`], loaded once.
pub(crate) fn built_in() -> Arc<RuleSet> {
    static LOADED: LazyLock<Arc<RuleSet>> = LazyLock::new(|| {
        let loaded = load_for(&[RulesFile { path: "rules.yaml", text: RULES }], &Supply::everything());
        assert!(loaded.is_ok(), "{}", cairn_rules::problem::render(&loaded.problems));
        Arc::new(loaded.rules)
    });
    Arc::clone(&LOADED)
}

/// What an event's alerts print.
pub(crate) fn shown(engine: &mut Engine, event: &Event) -> Vec<Alert> {
    let alerts = engine.handle(event);
    for alert in &alerts {
        let format = Format { iso_8601: true, json_message: true, ..Format::default() };
        let line = format.text(alert);
        assert!(!line.contains(|c: char| c.is_ascii_control()), "a control character in {line:?}");
        let json = format.json(alert, "h").to_string();
        assert!(!json.contains('\n'));
    }
    alerts
}

/// Both evaluators give the same alerts, and the first of them where one alone is wanted.
fn agree(rules: &Arc<RuleSet>, events: &[Event], shown: &str) {
    if rules.rules().is_empty() {
        return;
    }
    let engine = |evaluator, matching| {
        let mut engine = Engine::new(Arc::clone(rules), Limits::default());
        engine.set_evaluator(evaluator);
        engine.set_matching(matching);
        engine
    };
    let mut compiled = engine(Evaluator::Compiled, Matching::All);
    let mut plain = engine(Evaluator::Plain, Matching::All);
    let mut first = engine(Evaluator::Compiled, Matching::First);
    let mut plain_first = engine(Evaluator::Plain, Matching::First);
    let mut said_so_far = Vec::new();
    for event in events {
        let said = plain.handle(event);
        assert_eq!(compiled.handle(event), said, "{shown}\n{event:?}");
        assert_eq!(first.handle(event), plain_first.handle(event), "{shown}\n{event:?}");
        said_so_far.extend(said);
    }
    // What they learnt is the same as well, and can be handed on.
    let learnt = plain.snapshot();
    assert_eq!(compiled.snapshot(), learnt, "{shown}");
    let mut next = engine(Evaluator::Compiled, Matching::All);
    next.restore(&learnt).expect("a snapshot that was just made");
}

/// A condition alone: parsed, compiled, printed; its normal form means the same.
pub fn condition(data: &[u8]) {
    match explain(&text(data)) {
        Ok(explained) => {
            let again =
                explain(&explained.normal_form).unwrap_or_else(|error| panic!("{:?}: {error}", explained.normal_form));
            assert_eq!(again.normal_form, explained.normal_form);
            assert_eq!(again.event_types, explained.event_types);
            let _ = explained.to_string();
        }
        Err(error) => drop(error.render()),
    }
}

/// Whole rules files: one, or several with `%%%` on a line between. What loads is tried on events, by both evaluators.
pub fn rules_files(data: &[u8]) {
    let text = text(data);
    let files: Vec<RulesFile<'_>> = text.split("\n%%%\n").map(|text| RulesFile { path: "rules.yaml", text }).collect();
    let loaded = load(&files);
    let _ = cairn_rules::problem::render(&loaded.problems);
    let _ = serde_json::to_string(&falco_report(&files, &loaded));
    agree(&Arc::new(loaded.rules), &scene::of(data, &scene::words(&text)), &text);
}

/// An output, and the same text as what is added to another.
pub fn output(data: &[u8]) {
    let text = text(data);
    let quoted = serde_json::Value::from(text.as_str());
    // Few types: compiling for all of them would take most of the time.
    let rule = "- rule: r\n  desc: d\n  condition: evt.type in (open, openat, execve, connect, read, clone)\n  priority: INFO\n  output: ";
    let appended = AppendOutput { extra_output: Some(text), suggested_output: true, ..AppendOutput::default() };
    let plain = rules(&format!("{rule}{quoted}\n"));
    let added = rules(&format!("{rule}x\n")).append_output(&[appended]);
    for set in [Some(plain), added.ok()].into_iter().flatten() {
        let mut engine = Engine::new(Arc::new(set), Limits::default());
        for event in scene::of(data, &["/etc/shadow", "caf\u{e9}\n", "connect", "read"].map(str::to_owned)) {
            shown(&mut engine, &event);
        }
    }
}

/// A capture, Cairn's own and Falco's, and rules over what it holds. Written again, it says the same.
pub fn capture(data: &[u8]) {
    let Ok(mut capture) = capture::open(data) else { return };
    let mut engine = Engine::new(built_in(), Limits::default());
    let (names, seeds) = (capture.names().clone(), capture.seeds().to_vec());
    engine.set_names(Arc::new(names.clone()));
    engine.seed(seeds.iter().cloned());
    let mut events = Vec::new();
    for event in capture.by_ref().take(EVENTS_MAX) {
        let Ok(event) = event else { break };
        shown(&mut engine, &event);
        events.push(event);
    }
    let _ = capture.summary();
    written(&names, &seeds, events);
}

/// Events that are written as a capture are read as they were.
pub(crate) fn written(names: &cairn_rules::Names, seeds: &[(u32, Process)], events: Vec<Event>) {
    const HEALTHY: &str = "memory takes all bytes";
    let mut writer = Writer::new(Vec::new(), Compression::None, "fuzz", names, seeds.iter().cloned()).expect(HEALTHY);
    for event in &events {
        writer.event(event.clone()).expect(HEALTHY);
    }
    if writer.events() < events.len() as u64 {
        // A line that is too long is left out, and counted.
        return;
    }
    let bytes = writer.finish(Vec::new()).expect(HEALTHY);
    let mut again = capture::open(&bytes).expect("a capture that was just written");
    assert_eq!(again.seeds(), seeds);
    let read: Vec<Event> = again.by_ref().map(|event| event.expect("an event that was just written")).collect();
    assert_eq!(read, events);
}

/// A document of another source; the first byte says of which.
pub fn document(data: &[u8]) {
    let Some((which, body)) = data.split_first() else { return };
    let sources: Vec<_> = Sources::built_in().iter().filter(|source| !source.is_kernel()).collect();
    let source = sources[usize::from(*which) % sources.len()];
    let Ok(events) = source.read(body, 1_700_000_000_000_000_000) else { return };
    let mut engine = Engine::new(built_in(), Limits::default());
    for event in events.iter().take(EVENTS_MAX) {
        let _ = source.foreign_id(event);
        for alert in shown(&mut engine, event) {
            let _ = source.personal_fields(&alert);
        }
    }
}

/// Replay cases.
pub fn replay(data: &[u8]) {
    let text = text(data);
    let parsed = replay::parse(&[RulesFile { path: "cases.yaml", text: &text }]);
    let _ = cairn_rules::problem::render(&parsed.problems);
    let rules = built_in();
    for case in parsed.cases.iter().take(8) {
        let _ = replay::run(&rules, case);
        agree(&rules, &case.events, &text);
    }
}

/// Escapes of what is no text.
pub fn text_escapes(data: &[u8]) {
    let bytes = Text::from(data);
    assert_eq!(Text::from_escaped(&bytes.to_escaped()), bytes);
    let read = Text::from_escaped(&text(data));
    assert_eq!(Text::from_escaped(&read.to_escaped()), read);
}

/// Two evaluators: conditions, one a line, over events made of their words.
pub fn evaluators(data: &[u8]) {
    let cut = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let conditions = text(&data[..cut]);
    let mut file = String::new();
    for (number, condition) in conditions.lines().take(8).enumerate() {
        let quoted = serde_json::Value::from(condition);
        file.push_str(&format!("- rule: r{number}\n  desc: d\n  condition: {quoted}\n  output: x\n  priority: INFO\n"));
    }
    // What does not load is left out; the rest must agree.
    agree(&Arc::new(rules(&file)), &scene::of(data, &scene::words(&conditions)), &file);
}

/// What rules over more than one event have learnt, as bytes that may have been damaged; events go on from there. An even first byte: the
/// bytes are what follows. An odd one: what follows changes true ones, a place in two bytes and a value in one.
pub fn state(data: &[u8]) {
    static LEARNT: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut engine = Engine::new(built_in(), Limits::default());
        for event in scene::of(b"what has been learnt", &["bash".to_owned(), "/etc/shadow".to_owned()]) {
            engine.handle(&event);
        }
        engine.snapshot()
    });
    let Some((which, body)) = data.split_first() else { return };
    let mut bytes = body.to_vec();
    if which % 2 == 1 {
        bytes.clone_from(&LEARNT);
        for change in body.chunks_exact(3) {
            let place = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
            bytes[place] = change[2];
        }
    }
    let mut engine = Engine::new(built_in(), Limits { state_keys_max: 8, ..Limits::default() });
    if engine.restore(&bytes).is_ok() {
        // Not always the same bytes: what is too old goes bit by bit.
        let learnt = engine.snapshot();
        engine.restore(&learnt).expect("a snapshot that was just made");
    }
    let words = ["/etc/shadow".to_owned(), "bash".to_owned()];
    let mut time_ns = 1_700_000_000_000_000_000;
    for (step, mut event) in data.iter().rev().zip(scene::of(data, &words)) {
        // Minutes forward, and a little or a lot back.
        time_ns = match step {
            0..200 => u64::saturating_add(time_ns, u64::from(*step) * 10_000_000_000),
            200..240 => u64::saturating_sub(time_ns, u64::from(*step) * 100_000_000),
            _ => u64::from(*step) << (step % 60),
        };
        event.time_ns = time_ns;
        shown(&mut engine, &event);
    }
    let learnt = engine.snapshot();
    engine.restore(&learnt).expect("a snapshot that was just made");
}
