//! What rules make of one event: which matched, and which part of its condition stopped each of the others.

use std::fmt;

use serde::Serialize;

use crate::alert::Alert;
use crate::compile::{Outline, Shape};
use crate::engine::{Context, Engine};
use crate::event::{Event, EventKind};
use crate::fields::FieldValue;
use crate::limits::{TRACE_REASONS_MAX, TRACE_VALUE_LEN_MAX};
use crate::rule_set::{Rule, RuleSet};
use crate::suggest;

/// What the rules made of an event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EventTrace {
    /// The event's number, from 1.
    pub number: u64,
    /// When it happened, in nanoseconds since the epoch.
    pub time_ns: u64,
    /// Its source: `syscall`, `k8s_audit`, ...
    pub source: String,
    /// Its type; of a document its source.
    pub event_type: String,
    /// The process, as its command line; nothing when it is not known.
    pub process: String,
    /// The rules asked about, or all that are for events of this type, in the order they are defined.
    pub rules: Vec<Trace>,
    /// The alerts that went out.
    pub alerts: Vec<Alert>,
}

/// What one rule made of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// The rule.
    pub rule: String,
    /// The file it is defined in; empty when there is no such rule.
    pub file: String,
    /// The line there, from 1; 0 when there is no such rule.
    pub line: usize,
    /// What came of it.
    pub verdict: Verdict,
    /// One sentence more, where the verdict does not say all.
    pub note: Option<String>,
    /// The parts of the condition that decided it: those that were false when it did not hold.
    pub reasons: Vec<Reason>,
    /// Reasons left out, because there are more than [`TRACE_REASONS_MAX`].
    pub omitted: usize,
    /// Fields it asks for that are not supplied: checks on them are false.
    pub blind_fields: Vec<String>,
    /// What its `after` made of the event, if it is a sequence and such events may be the first of it.
    pub after: Option<AfterTrace>,
}

/// What came of trying a sequence's `after`, which an event may satisfy whatever it is to the rule's own condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AfterTrace {
    /// Did it hold?
    pub holds: bool,
    /// The event is kept as the first of a sequence: it held, and has all fields of `by`.
    pub is_kept: bool,
    /// The parts that decided it.
    pub reasons: Vec<Reason>,
    /// Reasons left out, because there are more than [`TRACE_REASONS_MAX`].
    pub omitted: usize,
}

/// What came of trying a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// The condition held, and an alert went out.
    Alerted,
    /// The condition held, and no alert went out: another rule came first, or the rule waits for more events.
    Held,
    /// The condition did not hold.
    NotHeld,
    /// The rule is for other event types, so it was not tried.
    OtherType,
    /// The rule is for another source, so it was not tried.
    OtherSource,
    /// The rule is not enabled, or was skipped when it was loaded.
    Disabled,
    /// There is no such rule.
    Unknown,
}

/// A part of a condition that decided it, and why it was what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The part in canonical form, macros and lists by their names.
    pub text: String,
    /// The macro it is written in, when it is not written in the rule.
    #[serde(rename = "macro")]
    pub in_macro: Option<String>,
    /// Its file, line and column, from 1; empty and 0 when it has no place of its own.
    pub file: String,
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
    /// Was it true?
    pub holds: bool,
    /// It asks for something that is not supplied, so it is never true.
    pub is_blind: bool,
    /// What it compares, in this event.
    pub values: Vec<Seen>,
    /// The parts of it that decided that.
    pub because: Vec<Reason>,
}

/// A field, or a transformer over some, and its value in an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// As the condition has it.
    pub field: String,
    /// The value, cut after [`TRACE_VALUE_LEN_MAX`] bytes; `null` when the event has none.
    pub value: FieldValue,
}

impl Engine {
    /// Takes one event in, as [`Engine::handle`] does, and says what each rule made of it: the one that is named, or all that are for
    /// events of its type.
    pub fn explain(&mut self, event: &Event, rule: Option<&str>) -> EventTrace {
        let (alerts, mut trace) = self.handle_and_look(event, |rules, context| look(rules, context, rule));
        for rule in &mut trace.rules {
            if rule.verdict != Verdict::Held {
                continue;
            }
            if alerts.iter().any(|alert| alert.rule == rule.rule) {
                rule.verdict = Verdict::Alerted;
                continue;
            }
            let state = self.rules().rule(&rule.rule).and_then(|rule| rule.state().map(str::to_owned));
            rule.note = Some(match (state, alerts.first()) {
                (_, Some(first)) if self.takes_first() => {
                    format!("`{}` alerted first, and no rule after it may", first.rule)
                }
                (Some(state), _) => format!("the condition held; `{state}` does not alert of this event"),
                (None, _) => "the condition held, and no alert went out".to_owned(),
            });
        }
        trace.alerts = alerts;
        trace
    }
}

/// Before the engine has said which alerts go out: what held is [`Verdict::Held`].
fn look(rules: &RuleSet, context: &Context<'_>, wanted: Option<&str>) -> EventTrace {
    let event = context.event;
    let tried = rules.for_event(event);
    let is_asked = |number: &u32| match wanted {
        None => tried.contains(number) || rules.numbered(*number).sequence_begun_by(event).is_some(),
        Some(name) => rules.numbered(*number).name == name,
    };
    let number_max = u32::try_from(rules.rules().len()).unwrap_or(u32::MAX);
    let mut traces: Vec<Trace> = (0..number_max)
        .filter(is_asked)
        .map(|number| {
            let rule = rules.numbered(number);
            let of_rule =
                if tried.contains(&number) { trace(rule, context) } else { untried(rules, event, &rule.name) };
            Trace { after: after(rule, context), ..of_rule }
        })
        .collect();
    if let (Some(name), true) = (wanted, traces.is_empty()) {
        traces.push(untried(rules, event, name));
    }
    let (source, event_type) = match &event.kind {
        EventKind::Document(document) => (document.source.clone(), document.source.clone()),
        _ => (crate::event::SYSCALL.to_owned(), event.event_type().name().to_owned()),
    };
    let process = context.process.map(|process| String::from_utf8_lossy(&process.image.cmdline).into_owned());
    EventTrace {
        number: context.number,
        time_ns: event.time_ns,
        source,
        event_type,
        process: process.unwrap_or_default(),
        rules: traces,
        alerts: Vec::new(),
    }
}

/// Why a rule's condition holds for what the context shows, or does not. Pure: it walks the tree, not the program made of it.
pub(crate) fn trace(rule: &Rule, context: &Context<'_>) -> Trace {
    let holds = rule.outline.holds(context);
    let mut reasons = Reasons { left: TRACE_REASONS_MAX, omitted: 0 };
    let top = reasons.of(&rule.outline, None, context);
    let verdict = if holds { Verdict::Held } else { Verdict::NotHeld };
    Trace {
        rule: rule.name.clone(),
        file: rule.file.clone(),
        line: rule.line,
        verdict,
        note: None,
        reasons: top,
        omitted: reasons.omitted,
        blind_fields: rule.blind_fields.clone(),
        after: None,
    }
}

/// Why a sequence's `after` holds for what the context shows, or does not; nothing where it is not tried.
fn after(rule: &Rule, context: &Context<'_>) -> Option<AfterTrace> {
    let asked = rule.sequence_begun_by(context.event)?;
    let holds = asked.outline.holds(context);
    let mut reasons = Reasons { left: TRACE_REASONS_MAX, omitted: 0 };
    let top = reasons.of(&asked.outline, None, context);
    Some(AfterTrace { holds, is_kept: holds && asked.has_key(context), reasons: top, omitted: reasons.omitted })
}

/// A rule that was asked about and is not for this event.
fn untried(rules: &RuleSet, event: &Event, name: &str) -> Trace {
    let source = match &event.kind {
        EventKind::Document(document) => document.source.as_str(),
        _ => crate::event::SYSCALL,
    };
    let (verdict, note) = match rules.rule(name) {
        Some(rule) if rule.source != source => {
            (Verdict::OtherSource, format!("the rule is for source `{}`, the event is of `{source}`", rule.source))
        }
        Some(rule) => {
            let types = if rule.event_types.is_empty() { "none".to_owned() } else { rule.event_types.join(", ") };
            (Verdict::OtherType, format!("the rule is for {types}, the event is {}", event.event_type().name()))
        }
        None if rules.disabled().iter().any(|disabled| disabled == name) => {
            (Verdict::Disabled, "the rule is not enabled, or was skipped when it was loaded".to_owned())
        }
        None => {
            let hint = suggest::hint(name, rules.rules().iter().map(|rule| rule.name.as_str()));
            (Verdict::Unknown, hint.unwrap_or_else(|| "no rules file defines it".to_owned()))
        }
    };
    let rule = rules.rule(name);
    Trace {
        rule: name.to_owned(),
        file: rule.map_or_else(String::new, |rule| rule.file.clone()),
        line: rule.map_or(0, |rule| rule.line),
        verdict,
        note: Some(note),
        reasons: Vec::new(),
        omitted: 0,
        blind_fields: rule.map_or_else(Vec::new, |rule| rule.blind_fields.clone()),
        after: None,
    }
}

/// Collects reasons within their bound.
struct Reasons {
    left: usize,
    omitted: usize,
}

impl Reasons {
    /// The parts that made this one what it is. An `and` that is false has those that are, one that is true has all; an `or` that is
    /// true has the first that is.
    fn of(&mut self, outline: &Outline, in_macro: Option<&str>, context: &Context<'_>) -> Vec<Reason> {
        let holds = outline.holds(context);
        match &outline.shape {
            Shape::All(parts) => parts
                .iter()
                .filter(|part| part.holds(context) == holds)
                .flat_map(|part| self.of(part, in_macro, context))
                .collect(),
            Shape::Any(parts) if holds => {
                let first = parts.iter().find(|part| part.holds(context));
                first.map(|part| self.of(part, in_macro, context)).unwrap_or_default()
            }
            Shape::Any(parts) => {
                let Some(mut reason) = self.reason(outline, in_macro, context) else { return Vec::new() };
                reason.because = parts.iter().flat_map(|part| self.of(part, in_macro, context)).collect();
                vec![reason]
            }
            Shape::Not(inner) => {
                let Some(mut reason) = self.reason(outline, in_macro, context) else { return Vec::new() };
                reason.because = self.of(inner, in_macro, context);
                vec![reason]
            }
            Shape::Named { name, is_exception, inner } => {
                let Some(mut reason) = self.reason(outline, in_macro, context) else { return Vec::new() };
                reason.because = self.of(inner, if *is_exception { in_macro } else { Some(name) }, context);
                vec![reason]
            }
            Shape::Check { .. } | Shape::Assumed(_) => {
                let Some(mut reason) = self.reason(outline, in_macro, context) else { return Vec::new() };
                let seen = outline.seen(context).into_iter();
                reason.values = seen
                    .map(|seen| Seen {
                        field: seen.operand.to_owned(),
                        value: cut(seen.value.unwrap_or(FieldValue::Absent)),
                    })
                    .collect();
                vec![reason]
            }
        }
    }

    fn reason(&mut self, outline: &Outline, in_macro: Option<&str>, context: &Context<'_>) -> Option<Reason> {
        if self.left == 0 {
            self.omitted += 1;
            return None;
        }
        self.left -= 1;
        let place = outline.place();
        Some(Reason {
            text: outline.to_string(),
            in_macro: in_macro.map(str::to_owned),
            file: place.map_or_else(String::new, |place| place.file.to_string()),
            line: place.map_or(0, |place| place.line),
            column: place.map_or(0, |place| place.column),
            holds: outline.holds(context),
            is_blind: outline.is_blind(),
            values: Vec::new(),
            because: Vec::new(),
        })
    }
}

/// A value of bounded length: a command line may have megabytes.
fn cut(value: FieldValue) -> FieldValue {
    let short = |text: crate::text::Text| -> crate::text::Text {
        match text.as_bytes().get(..TRACE_VALUE_LEN_MAX) {
            Some(first) if text.as_bytes().len() > TRACE_VALUE_LEN_MAX => [first, "...".as_bytes()].concat().into(),
            _ => text,
        }
    };
    match value {
        FieldValue::Text(text) => FieldValue::Text(short(text)),
        FieldValue::List(texts) => FieldValue::List(texts.into_iter().take(TRACE_REASONS_MAX).map(short).collect()),
        other => other,
    }
}

/// As `cairn rules explain` prints it: the event, then each rule; of one that did not hold, what stopped it.
impl fmt::Display for EventTrace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "event {}: {}", self.number, self.event_type)?;
        if !self.process.is_empty() {
            write!(out, " by `{}`", self.process.escape_debug())?;
        }
        if self.rules.is_empty() {
            write!(out, "\n  no rule is for events of this type")?;
        }
        for rule in &self.rules {
            write!(out, "\n{rule}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.verdict {
            Verdict::Alerted => "ALERT",
            Verdict::Held => "held ",
            Verdict::NotHeld => "no   ",
            Verdict::OtherType | Verdict::OtherSource => "not tried",
            Verdict::Disabled => "disabled",
            Verdict::Unknown => "no such rule",
        };
        write!(out, "  {word} {}", self.rule)?;
        if self.line > 0 {
            write!(out, " ({}:{})", self.file, self.line)?;
        }
        if let Some(note) = &self.note {
            write!(out, "\n    {note}")?;
        }
        if !self.blind_fields.is_empty() {
            write!(out, "\n    not supplied: {} (checks on them are false)", self.blind_fields.join(", "))?;
        }
        // Why a rule alerted is in its alert.
        if self.verdict == Verdict::NotHeld {
            print(&self.reasons, self.omitted, out, 2)?;
        }
        match &self.after {
            Some(after) if after.holds || self.verdict != Verdict::Alerted => write!(out, "\n{after}"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for AfterTrace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.holds, self.is_kept) {
            (true, true) => out.write_str("    after: held, and the event is kept as the first of a sequence"),
            (true, false) => out.write_str("    after: held, but the event lacks a field of `by`, so it is not kept"),
            (false, _) => {
                out.write_str("    after: no")?;
                print(&self.reasons, self.omitted, out, 3)
            }
        }
    }
}

fn print(reasons: &[Reason], omitted: usize, out: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
    reasons.iter().try_for_each(|reason| reason.print(out, depth))?;
    if omitted > 0 {
        write!(out, "\n{}and {omitted} more reasons", "  ".repeat(depth))?;
    }
    Ok(())
}

impl Reason {
    fn print(&self, out: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        let blank = "  ".repeat(depth);
        let word = if self.holds { "true: " } else { "false:" };
        write!(out, "\n{blank}{word} {}", shortened(&self.text))?;
        for (index, seen) in self.values.iter().enumerate() {
            write!(out, "{} {} is ", if index == 0 { ";" } else { "," }, seen.field)?;
            match &seen.value {
                FieldValue::Absent if self.is_blind => write!(out, "not supplied")?,
                FieldValue::Absent => write!(out, "absent")?,
                FieldValue::Text(text) => write!(out, "{:?}", text.to_lossy())?,
                value => write!(out, "{value}")?,
            }
        }
        if self.line > 0 {
            write!(out, "  ({}:{}:{})", self.file, self.line, self.column)?;
        }
        self.because.iter().try_for_each(|reason| reason.print(out, depth + 1))
    }
}

/// Characters of a part that fit a line.
const TEXT_LEN_MAX: usize = 120;

fn shortened(text: &str) -> String {
    if text.chars().count() <= TEXT_LEN_MAX {
        return text.to_owned();
    }
    text.chars().take(TEXT_LEN_MAX - 3).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::{Limits, Matching};
    use crate::load::{RulesFile, load};
    use crate::replay;

    const RULES: &str = r#"
- list: shells
  items: [bash, sh]
- macro: spawned
  condition: (evt.type in (execve, execveat))
- macro: shell
  condition: (proc.name in (shells) or tolower(proc.name) = zsh)
- rule: Shell of a server
  desc: d
  condition: >
    spawned and shell
    and not (proc.pname in (make, cc) or user.uid = 7)
    and proc.tty != 0
  output: o
  priority: INFO
  exceptions:
    - {name: site, fields: [proc.exepath], comps: [=], values: [[/opt/sh]]}
- rule: Any shell
  desc: d
  condition: spawned and shell
  output: o
  priority: INFO
- rule: Files
  desc: d
  condition: evt.type = openat and fd.name = /x
  output: o
  priority: INFO
- rule: Asleep
  desc: d
  condition: spawned
  output: o
  priority: INFO
  enabled: false
"#;

    fn explained(event: &str, rule: Option<&str>, matching: Matching) -> String {
        let loaded = load(&[RulesFile { path: "r.yaml", text: RULES }]);
        assert!(loaded.is_ok(), "{:?}", loaded.problems);
        let text = format!("- {{name: c, expect: [], events: [{event}]}}");
        let parsed = replay::parse(&[RulesFile { path: "c.yaml", text: &text }]);
        assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
        let case = &parsed.cases[0];
        let mut engine = Engine::new(Arc::new(loaded.rules), Limits::default());
        engine.set_matching(matching);
        engine.seed(case.processes.clone());
        engine.explain(&case.events[0], rule).to_string()
    }

    #[test]
    fn what_stopped_each_rule() {
        let event = "exec: {exe: /bin/vi, args: [vi, /etc/passwd], parent: /usr/bin/make}";
        insta::assert_snapshot!(explained(event, None, Matching::All), @r#"
        event 1: execve by `vi /etc/passwd`
          no    Shell of a server (r.yaml:8)
            false: shell  (r.yaml:11:17)
              false: (proc.name in (shells) or tolower(proc.name) = zsh)  (r.yaml:7:15)
                false: proc.name in (shells); proc.name is "vi"  (r.yaml:7:15)
                false: tolower(proc.name) = zsh; tolower(proc.name) is "vi"  (r.yaml:7:40)
            false: not (proc.pname in (make, cc) or user.uid = 7)  (r.yaml:12:14)
              true:  proc.pname in (make, cc); proc.pname is "make"  (r.yaml:12:14)
            false: proc.tty != 0; proc.tty is 0  (r.yaml:13:9)
          no    Any shell (r.yaml:18)
            false: shell  (r.yaml:20:26)
              false: (proc.name in (shells) or tolower(proc.name) = zsh)  (r.yaml:7:15)
                false: proc.name in (shells); proc.name is "vi"  (r.yaml:7:15)
                false: tolower(proc.name) = zsh; tolower(proc.name) is "vi"  (r.yaml:7:40)
        "#);
    }

    #[test]
    fn a_negation_shows_what_was_true() {
        let event = "exec: {exe: /opt/sh, tty: true, parent: /usr/bin/make}";
        insta::assert_snapshot!(explained(event, Some("Shell of a server"), Matching::All), @r#"
        event 1: execve by `sh`
          no    Shell of a server (r.yaml:8)
            false: not (proc.pname in (make, cc) or user.uid = 7)  (r.yaml:12:14)
              true:  proc.pname in (make, cc); proc.pname is "make"  (r.yaml:12:14)
            false: not exception `site`
              true:  exception `site`  (r.yaml:17:14)
                true:  proc.exepath = /opt/sh; proc.exepath is "/opt/sh"  (r.yaml:17:14)
        "#);
    }

    #[test]
    fn one_that_alerts_first_hides_another() {
        let event = "exec: {exe: /bin/sh, tty: true, parent: /usr/bin/nginx}";
        insta::assert_snapshot!(explained(event, None, Matching::First), @r#"
        event 1: execve by `sh`
          ALERT Shell of a server (r.yaml:8)
          held  Any shell (r.yaml:18)
            `Shell of a server` alerted first, and no rule after it may
        "#);
    }

    #[test]
    fn rules_that_were_not_tried() {
        let of = |rule| explained("exec: /bin/sh", Some(rule), Matching::All);
        insta::assert_snapshot!([of("Files"), of("Asleep"), of("Any shel")].join("\n"), @r#"
        event 1: execve by `sh`
          not tried Files (r.yaml:23)
            the rule is for openat, the event is execve
        event 1: execve by `sh`
          disabled Asleep
            the rule is not enabled, or was skipped when it was loaded
        event 1: execve by `sh`
          no such rule Any shel
            did you mean `Any shell`?
        "#);
    }

    #[test]
    fn a_rule_that_waits_for_more_says_so() {
        let text = "- {rule: R, desc: d, condition: evt.type = execve, output: o, priority: INFO, cairn: {count: {by: [user.uid], within: 5m, above: 1}}}";
        let loaded = load(&[RulesFile { path: "r.yaml", text }]);
        assert!(loaded.is_ok(), "{:?}", loaded.problems);
        let cases = "- {name: c, expect: [], events: [exec: /bin/b, exec: /bin/b]}";
        let case = &replay::parse(&[RulesFile { path: "c.yaml", text: cases }]).cases[0];
        let mut said = Vec::new();
        replay::explain(&Arc::new(loaded.rules), case, None, None, Matching::All, |trace| said.push(trace.to_string()))
            .unwrap();
        insta::assert_snapshot!(said.join("\n"), @r#"
        event 1: execve by `b`
          held  R (r.yaml:1)
            the condition held; `count by user.uid within 5m above 1` does not alert of this event
        event 2: execve by `b`
          ALERT R (r.yaml:1)
        "#);
    }

    #[test]
    fn what_after_made_of_an_event_is_said() {
        let text = "\
- rule: Written then run
  desc: d
  condition: evt.type = execve and proc.name != sh
  output: o
  priority: INFO
  cairn:
    sequence:
      after: evt.type in (openat, execve) and fd.name startswith /tmp/ and fd.num >= 0
      by: [{after: fd.name, then: proc.exepath}]
      within: 1m
";
        let loaded = load(&[RulesFile { path: "r.yaml", text }]);
        assert!(loaded.is_ok(), "{:?}", loaded.problems);
        let cases = "\
- name: c
  expect: [Written then run]
  events: [open: {path: /etc/x, syscall: openat}, open: {path: /tmp/x, syscall: openat}, exec: /tmp/sh, exec: /tmp/x]
";
        let parsed = replay::parse(&[RulesFile { path: "c.yaml", text: cases }]);
        assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
        let (rules, case) = (Arc::new(loaded.rules), &parsed.cases[0]);
        let mut said = Vec::new();
        replay::explain(&rules, case, None, None, Matching::All, |trace| said.push(trace.to_string())).unwrap();
        insta::assert_snapshot!(said.join("\n"), @r#"
        event 1: openat by `cat`
          not tried Written then run (r.yaml:1)
            the rule is for execve, the event is openat
            after: no
              false: fd.name startswith /tmp/; fd.name is "/etc/x"  (r.yaml:8:47)
        event 2: openat by `cat`
          not tried Written then run (r.yaml:1)
            the rule is for execve, the event is openat
            after: held, and the event is kept as the first of a sequence
        event 3: execve by `sh`
          no    Written then run (r.yaml:1)
            false: proc.name != sh; proc.name is "sh"  (r.yaml:3:36)
            after: no
              false: fd.name startswith /tmp/; fd.name is absent  (r.yaml:8:47)
              false: fd.num >= 0; fd.num is absent  (r.yaml:8:76)
        event 4: execve by `x`
          ALERT Written then run (r.yaml:1)
        "#);
        let mut named = Vec::new();
        let rule = Some("Written then run");
        replay::explain(&rules, case, None, rule, Matching::All, |trace| named.push(trace.to_string())).unwrap();
        assert_eq!(named, said);
    }

    #[test]
    fn reasons_are_bounded() {
        let many: Vec<String> = (0..TRACE_REASONS_MAX + 5).map(|n| format!("proc.name = a{n}")).collect();
        let text = format!(
            "- {{rule: R, desc: d, condition: evt.type = execve and ({}), output: o, priority: INFO}}",
            many.join(" or ")
        );
        let rules = load(&[RulesFile { path: "r.yaml", text: &text }]).rules;
        let parsed =
            replay::parse(&[RulesFile { path: "c.yaml", text: "- {name: c, expect: [], events: [exec: /bin/b]}" }]);
        let mut engine = Engine::new(Arc::new(rules), Limits::default());
        let trace = engine.explain(&parsed.cases[0].events[0], None);
        // The `or` itself is one.
        assert_eq!(trace.rules[0].omitted, 6);
        assert_eq!(trace.rules[0].reasons[0].because.len(), TRACE_REASONS_MAX - 1);
    }
}
