//! Replay cases: events written by hand, and which rules must alert on them, or that none may.
//!
//! The format, with an example a test reads, is in `REPLAY.md` beside this crate's manifest. A case is run through the engine
//! nodes use; only the events are made up. Nothing is inherited from one case to the next.

mod call;
mod case;
mod document;
mod events;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Arc;

use serde::Serialize;

use crate::alert::Alert;
use crate::capture;
use crate::engine::{Engine, Limits, Matching, Names};
use crate::event::{Event, Process};
use crate::explain::EventTrace;
use crate::limits::{CAPTURE_CASE_EVENTS_MAX, CASE_ALERTS_MAX};
use crate::problem::Problem;
use crate::rule_set::{Rule, RuleSet};
use crate::suggest;

pub use case::{named_files, parse, parse_events, parse_with};

/// One case.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Its name, unique in its file.
    pub name: String,
    /// The file it stands in.
    pub file: String,
    /// The line there.
    pub line: usize,
    /// Processes that run when it begins.
    pub processes: Vec<(u32, Process)>,
    /// What happens then; nothing when it replays a capture.
    pub events: Vec<Event>,
    /// The capture it replays, if it does.
    pub capture: Option<Captured>,
    /// Names of users, groups and the host.
    pub names: Names,
    /// Rules that must alert; no other may.
    pub expect: Vec<String>,
    /// How often, for those of them of which the case says it.
    pub counts: BTreeMap<String, usize>,
    /// Rules whose silence the case is about; when empty and `expect` is too, all that were tried.
    pub silent: Vec<String>,
}

/// A capture that a case replays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// Its path.
    pub path: String,
    /// What the file holds.
    pub bytes: Arc<[u8]>,
}

/// A file that cases may name, beside those with cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attachment<'a> {
    /// Its path, as those of files with cases are given.
    pub path: &'a str,
    /// What it holds.
    pub bytes: &'a [u8],
}

/// The cases of some files, and what is wrong with the files.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The cases without errors.
    pub cases: Vec<Case>,
    /// All problems, in order of file and line; each is an error.
    pub problems: Vec<Problem>,
}

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaseResult {
    /// The case's name.
    pub name: String,
    /// Its file.
    pub file: String,
    /// Its line there.
    pub line: usize,
    /// Did exactly the expected rules alert?
    pub passed: bool,
    /// Rules expected to alert, sorted.
    pub expected: Vec<String>,
    /// Rules that alerted, sorted.
    pub got: Vec<String>,
    /// How often each of them did.
    pub counts: BTreeMap<String, usize>,
    /// The alerts in order, the first [`CASE_ALERTS_MAX`].
    pub alerts: Vec<Alert>,
    /// Why it did not pass, in one sentence; empty when it did.
    pub reason: String,
    /// What may help.
    pub hint: Option<String>,
    /// Rules whose silence was shown.
    pub silent: Vec<String>,
    /// Which clauses decided what a rule made of an event: the rule's number, the clause's, what it was.
    #[serde(skip)]
    decided: BTreeSet<(u32, usize, bool)>,
}

/// How well cases cover a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleCoverage {
    /// The rule.
    pub rule: String,
    /// Passed cases in which it alerted as expected.
    pub alerts: usize,
    /// Passed cases in which its silence was shown.
    pub silences: usize,
    /// Its clauses, in the order in which they are written; then those of its `after`, if it is a sequence.
    pub clauses: Vec<ClauseCoverage>,
}

/// Whether some event of a passed case shows what a clause of a rule is there for. A clause is what `and` and `or` join in the rule's own
/// text, exceptions included; a macro or a negation is one. It decides an event when, had it been otherwise, so had been the rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClauseCoverage {
    /// The clause in canonical form.
    pub text: String,
    /// Its file; empty when it has no place of its own.
    pub file: String,
    /// Its line, from 1, or 0.
    pub line: usize,
    /// Its column, in characters, from 1, or 0.
    pub column: usize,
    /// It was true, and decided: a case would fail if it were never true.
    pub decided_true: bool,
    /// It was false, and decided: a case would fail if it were always true, or not there at all.
    pub decided_false: bool,
    /// It asks for nothing but the event's type, so that the rule is not tried where it is false.
    pub is_about_types: bool,
    /// It stands in the `after` of a sequence, and what it decides is whether an event is the first of one.
    pub is_of_after: bool,
}

impl ClauseCoverage {
    /// Has it decided anything?
    pub fn is_decided(&self) -> bool {
        self.decided_true || self.decided_false
    }
}

/// How well cases cover a set of rules.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// Every enabled rule, in order.
    pub rules: Vec<RuleCoverage>,
}

impl RuleCoverage {
    /// Is there a case for its alert and one for its silence?
    pub fn is_covered(&self) -> bool {
        self.alerts > 0 && self.silences > 0
    }

    /// Clauses that no event of a passed case was decided by.
    pub fn undecided(&self) -> impl Iterator<Item = &ClauseCoverage> {
        self.clauses.iter().filter(|clause| !clause.is_decided())
    }
}

impl Coverage {
    /// Rules with a case for their alert and one for their silence.
    pub fn covered(&self) -> usize {
        self.rules.iter().filter(|rule| rule.is_covered()).count()
    }

    /// Covered rules in per cent, rounded down; 100 when there are no rules.
    pub fn percent(&self) -> u8 {
        let percent = (self.covered() * 100).checked_div(self.rules.len()).unwrap_or(100);
        u8::try_from(percent).unwrap_or(100)
    }

    /// Clauses of all rules, and how many of them are decided by some event.
    pub fn clauses(&self) -> (usize, usize) {
        let all = || self.rules.iter().flat_map(|rule| &rule.clauses);
        (all().count(), all().filter(|clause| clause.is_decided()).count())
    }

    /// Rules that lack a case for their alert or for their silence.
    pub fn uncovered(&self) -> impl Iterator<Item = &RuleCoverage> {
        self.rules.iter().filter(|rule| !rule.is_covered())
    }
}

/// Runs a case.
pub fn run(rules: &Arc<RuleSet>, case: &Case) -> CaseResult {
    let mut run = Run::new(rules);
    let mut engine = Engine::new(Arc::clone(rules), Limits::default());
    let stopped = feed(&mut engine, case, &mut |engine, event| run.event(engine, event)).err();
    let Run { alerts, counts, tried, decided, .. } = run;
    let tried: BTreeSet<&str> = tried.iter().map(|rule| rules.numbered(*rule).name.as_str()).collect();
    let expected: BTreeSet<&str> = case.expect.iter().map(String::as_str).collect();
    let got: BTreeSet<&str> = counts.keys().map(String::as_str).collect();
    let (reason, hint) = match stopped {
        None => verdict(rules, case, &counts, &expected, &got),
        Some(stopped) => stopped,
    };
    let shown: Vec<&str> = if case.silent.is_empty() && case.expect.is_empty() {
        tried.difference(&got).copied().collect()
    } else {
        case.silent.iter().map(String::as_str).filter(|name| tried.contains(name) && !got.contains(name)).collect()
    };
    let owned = |names: &BTreeSet<&str>| names.iter().map(|name| (*name).to_owned()).collect();
    let (expected, got) = (owned(&expected), owned(&got));
    let silent = shown.into_iter().map(str::to_owned).collect();
    let (name, file, line) = (case.name.clone(), case.file.clone(), case.line);
    CaseResult {
        name,
        file,
        line,
        passed: reason.is_empty(),
        expected,
        got,
        counts,
        alerts,
        reason,
        hint,
        silent,
        decided,
    }
}

/// Why a case could not be run to its end, and what may help.
type Stopped = (String, Option<String>);

/// Gives each event of a case to `take`, the engine knowing what ran before and what things are called.
fn feed(engine: &mut Engine, case: &Case, take: &mut dyn FnMut(&mut Engine, &Event)) -> Result<(), Stopped> {
    let Some(captured) = &case.capture else {
        engine.set_names(Arc::new(case.names.clone()));
        engine.seed(case.processes.iter().cloned());
        let rules = Arc::clone(engine.rules());
        let events =
            document::complete(&rules, &case.events).map_err(|incomplete| (incomplete.reason, incomplete.hint))?;
        events.iter().for_each(|event| take(engine, event));
        return Ok(());
    };
    let broken = |error: &dyn Error| (format!("{}: {}", captured.path, with_causes(error)), None);
    let mut capture = capture::open(&captured.bytes).map_err(|error| broken(&error))?;
    engine.set_names(Arc::new(merged(capture.names(), &case.names)));
    engine.seed(capture.seeds().iter().cloned());
    let mut events = 0;
    for event in capture.by_ref() {
        events += 1;
        if events > CAPTURE_CASE_EVENTS_MAX {
            let reason = format!("{} has more than {CAPTURE_CASE_EVENTS_MAX} events", captured.path);
            return Err((reason, Some("record less, or divide it".to_owned())));
        }
        take(engine, &event.map_err(|error| broken(&error))?);
    }
    match capture.summary().truncated_at {
        Some(byte) => Err((format!("{} ends in the middle, at byte {byte}", captured.path), None)),
        None => Ok(()),
    }
}

/// Runs a case and hands on what the rules made of its events, or of the one with this number, from 1: all rules that are for its type, or
/// the one that is named. With [`Matching::First`] one rule alone may alert of an event.
///
/// # Errors
/// The case cannot be run to its end: its capture is broken. What was handed on before stands.
pub fn explain(
    rules: &Arc<RuleSet>,
    case: &Case,
    number: Option<u64>,
    rule: Option<&str>,
    matching: Matching,
    mut take: impl FnMut(EventTrace),
) -> Result<(), String> {
    let mut engine = Engine::new(Arc::clone(rules), Limits::default());
    engine.set_matching(matching);
    let fed = feed(&mut engine, case, &mut |engine, event| {
        if number.is_none_or(|number| number == engine.events() + 1) {
            take(engine.explain(event, rule));
        } else {
            engine.handle(event);
        }
    });
    fed.map_err(|(reason, _)| reason)
}

/// What a case that is being run has shown.
struct Run<'r> {
    rules: &'r RuleSet,
    alerts: Vec<Alert>,
    counts: BTreeMap<String, usize>,
    tried: BTreeSet<u32>,
    decided: BTreeSet<(u32, usize, bool)>,
    deciding: Vec<(usize, bool)>,
}

impl<'r> Run<'r> {
    fn new(rules: &'r RuleSet) -> Self {
        Self {
            rules,
            alerts: Vec::new(),
            counts: BTreeMap::new(),
            tried: BTreeSet::new(),
            decided: BTreeSet::new(),
            deciding: Vec::new(),
        }
    }

    fn event(&mut self, engine: &mut Engine, event: &Event) {
        let Self { rules, alerts, counts, tried, decided, deciding } = self;
        let concerned = rules.for_event(event);
        tried.extend(concerned);
        let (said, ()) = engine.handle_and_look(event, |rules, context| {
            for number in concerned {
                deciding.clear();
                rules.numbered(*number).outline.decide(context, deciding);
                decided.extend(deciding.iter().map(|(clause, was)| (*number, *clause, *was)));
            }
            // The clauses of `after` are numbered behind the rule's own.
            for number in rules.sequences() {
                let rule = rules.numbered(*number);
                let Some(asked) = rule.sequence_begun_by(event) else { continue };
                deciding.clear();
                asked.outline.decide(context, deciding);
                let first = rule.outline.clause_count();
                decided.extend(deciding.iter().map(|(clause, was)| (*number, first + *clause, *was)));
            }
        });
        for alert in said {
            *counts.entry(alert.rule.clone()).or_default() += 1;
            if alerts.len() < CASE_ALERTS_MAX {
                alerts.push(alert);
            }
        }
    }
}

/// What a capture knows of its machine, and what the case says beside it: the case is right.
fn merged(capture: &Names, case: &Names) -> Names {
    let mut names = capture.clone();
    let Names { users, groups, hostname, hosts, containers } = case.clone();
    names.users.extend(users);
    names.groups.extend(groups);
    names.hosts.extend(hosts);
    names.containers.extend(containers);
    names.hostname = hostname.or(names.hostname);
    names
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}

/// Why the case did not pass, and what may help.
fn verdict(
    rules: &RuleSet,
    case: &Case,
    counts: &BTreeMap<String, usize>,
    expected: &BTreeSet<&str>,
    got: &BTreeSet<&str>,
) -> (String, Option<String>) {
    let named = case.expect.iter().chain(&case.silent);
    if let Some(unknown) = named.into_iter().find(|name| rules.rule(name).is_none()) {
        if rules.disabled().contains(unknown) {
            let hint = Some("enable it, or take it out of the case".to_owned());
            return (format!("rule `{unknown}` is not enabled"), hint);
        }
        let hint = suggest::hint(unknown, rules.rules().iter().map(|rule| rule.name.as_str()));
        return (format!("there is no rule `{unknown}`"), hint);
    }
    let list = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let missing: Vec<&str> = expected.difference(got).copied().collect();
    let surplus: Vec<&str> = got.difference(expected).copied().collect();
    match (missing.as_slice(), surplus.as_slice()) {
        ([], []) => (miscounted(case, counts), None),
        (missing, []) => {
            let blind: Vec<String> =
                missing.iter().filter_map(|name| rules.rule(name)).flat_map(|rule| rule.blind_fields.clone()).collect();
            let hint = if !blind.is_empty() {
                Some(format!("the rule uses fields that are not supplied: {}", blind.join(", ")))
            } else if rules.matching() == Matching::First && !got.is_empty() {
                Some("one rule alone may alert of an event, the first that holds (`matching: first`)".to_owned())
            } else {
                None
            };
            (format!("{} did not alert", list(missing)), hint)
        }
        ([], surplus) => (format!("{} alerted and was not expected to", list(surplus)), None),
        (missing, surplus) => (format!("{} did not alert, {} did", list(missing), list(surplus)), None),
    }
}

/// What alerted more or less often than the case says; empty when nothing did.
fn miscounted(case: &Case, counts: &BTreeMap<String, usize>) -> String {
    let wrong = case.counts.iter().filter_map(|(rule, expected)| {
        let got = counts.get(rule).copied().unwrap_or(0);
        (got != *expected).then(|| format!("`{rule}` alerted {got} times, not {expected}"))
    });
    wrong.collect::<Vec<_>>().join(", ")
}

/// Which rules the passed cases show alerting, and which silent, and by which clauses that was decided.
pub fn coverage(rules: &RuleSet, results: &[CaseResult]) -> Coverage {
    let passed = || results.iter().filter(|result| result.passed);
    let decided: BTreeSet<(u32, usize, bool)> = passed().flat_map(|result| &result.decided).copied().collect();
    let rules = (0_u32..).zip(rules.rules()).map(|(number, rule)| RuleCoverage {
        rule: rule.name.clone(),
        alerts: passed().filter(|result| result.expected.contains(&rule.name)).count(),
        silences: passed().filter(|result| result.silent.contains(&rule.name)).count(),
        clauses: clauses(number, rule, &decided),
    });
    Coverage { rules: rules.collect() }
}

fn clauses(number: u32, rule: &Rule, decided: &BTreeSet<(u32, usize, bool)>) -> Vec<ClauseCoverage> {
    let own = rule.outline.clauses().into_iter().map(|outline| (outline, false));
    let after = rule.sequence().map(|asked| asked.outline.clauses()).unwrap_or_default();
    let all = own.chain(after.into_iter().map(|outline| (outline, true))).enumerate();
    all.map(|(clause, (outline, is_of_after))| {
        let place = outline.place();
        ClauseCoverage {
            text: outline.to_string(),
            file: place.map_or_else(String::new, |place| place.file.to_string()),
            line: place.map_or(0, |place| place.line),
            column: place.map_or(0, |place| place.column),
            decided_true: decided.contains(&(number, clause, true)),
            decided_false: decided.contains(&(number, clause, false)),
            is_about_types: outline.is_about_types(),
            is_of_after,
        }
    })
    .collect()
}
