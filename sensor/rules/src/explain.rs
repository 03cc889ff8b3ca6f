//! What a condition means: its normal form, fields and event types. What `cairn rules explain` shows.

mod trace;

use std::fmt;

use serde::Serialize;

use crate::condition;
use crate::event::{EventType, SYSCALL};
use crate::load::{self, RulesFile};
use crate::supply::Supply;

pub use trace::{AfterTrace, EventTrace, Reason, Seen, Trace, Verdict};

/// An explained condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The condition in canonical form: all parentheses, `=` for `==`, quotes only where they must be.
    pub normal_form: String,
    /// The source it is for: the first that knows all its fields.
    pub source: String,
    /// The fields it reads, sorted.
    pub fields: Vec<String>,
    /// Those that are not supplied: checks on them are false.
    pub blind_fields: Vec<String>,
    /// The event types it may hold for; empty with `all_event_types` when it does not say.
    pub event_types: Vec<String>,
    /// It does not say which event types it is for.
    pub all_event_types: bool,
    /// Those of its event types that the sensor supplies.
    pub supplied_event_types: Vec<String>,
    /// Macros it uses by name. Without rules files they are not looked into.
    pub macros: Vec<String>,
}

/// Why a condition cannot be explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct ExplainError {
    /// Where in the condition, in characters from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// How to put it right, where we can say.
    pub hint: Option<String>,
    /// The condition's line the problem is on.
    pub snippet: String,
    /// Which line of the condition that is, from 1.
    pub line: usize,
}

impl ExplainError {
    fn new(text: &str, offset: usize, message: String, hint: Option<String>) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let snippet = text[line_start..].lines().next().unwrap_or_default().to_owned();
        let column = before[line_start..].chars().count() + 1;
        Self { column, message, hint, snippet, line: before.matches('\n').count() + 1 }
    }

    /// The error on several lines, with a mark under the column.
    pub fn render(&self) -> String {
        let mark = " ".repeat(self.column - 1);
        let hint = self.hint.as_ref().map_or_else(String::new, |hint| format!("\nhint: {hint}"));
        format!(
            "error: {} (line {}, column {})\n  {}\n  {mark}^{hint}",
            self.message, self.line, self.column, self.snippet
        )
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        writeln!(formatter, "normal form: {}", self.normal_form)?;
        if self.source != SYSCALL {
            writeln!(formatter, "source:      {}", self.source)?;
        }
        writeln!(formatter, "fields:      {}", list(&self.fields))?;
        if !self.blind_fields.is_empty() {
            writeln!(formatter, "not supplied: {} (checks on them are false)", list(&self.blind_fields))?;
        }
        if !self.macros.is_empty() {
            writeln!(formatter, "macros:      {}", list(&self.macros))?;
        }
        let types = if self.all_event_types { "any".to_owned() } else { list(&self.event_types) };
        write!(formatter, "event types: {types}")
    }
}

/// Explains a condition that stands alone: macros in it are named, not looked into, and lists are taken as values.
///
/// # Errors
/// The condition does not parse, or does not fit its fields.
pub fn explain(text: &str) -> Result<Explanation, ExplainError> {
    explain_with(text, &[])
}

/// Explains a condition with the macros and lists of rules files at hand. Their own problems are not reported here.
///
/// # Errors
/// The condition does not parse, or does not fit its fields, or uses a macro the files do not define.
pub fn explain_with(text: &str, files: &[RulesFile<'_>]) -> Result<Explanation, ExplainError> {
    let expr =
        condition::parse(text).map_err(|error| ExplainError::new(text, error.offset, error.message, error.hint))?;
    let mut macros = Vec::new();
    collect_macros(&expr, &mut macros);
    macros.sort();
    macros.dedup();
    let (compiled, source) = load::compile_alone(&expr, &macros, files).map_err(|errors| {
        let first = errors.into_iter().next().expect("invariant: a failed compile has an error");
        ExplainError::new(text, first.span.start, first.message, first.hint)
    })?;
    let supply = Supply::sensor();
    let has_field = |name: &str| if source.is_kernel() { supply.has_field(name) } else { source.supplies(name) };
    let has_event = |it: EventType| !source.is_kernel() || supply.has_event(it);
    let names = |types: Vec<EventType>| types.into_iter().map(|it| it.name().to_owned()).collect();
    let event_types: Vec<String> = names(compiled.types.types().collect());
    let supplied_event_types = names(compiled.types.types().filter(|it| has_event(*it)).collect());
    let fields: Vec<String> = compiled.facts.fields.into_iter().collect();
    let all_event_types = compiled.types.is_full();
    Ok(Explanation {
        source: source.name().to_owned(),
        normal_form: expr.to_string(),
        blind_fields: fields.iter().filter(|name| !has_field(name)).cloned().collect(),
        fields,
        event_types: if all_event_types { Vec::new() } else { event_types },
        all_event_types,
        supplied_event_types,
        macros,
    })
}

fn collect_macros(expr: &condition::Expr, into: &mut Vec<String>) {
    match expr {
        condition::Expr::And(parts) | condition::Expr::Or(parts) => {
            parts.iter().for_each(|part| collect_macros(part, into))
        }
        condition::Expr::Not(inner) => collect_macros(inner, into),
        condition::Expr::Macro(name) => into.push(name.value.clone()),
        condition::Expr::Check(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_alone() {
        let explanation = explain("evt.type in (openat,open) and fd.name startswith /etc and not trusted").unwrap();
        assert_eq!(
            explanation.to_string(),
            "normal form: (evt.type in (openat, open) and fd.name startswith /etc and not trusted)\n\
             fields:      evt.type, fd.name\n\
             macros:      trusted\n\
             event types: open, openat"
        );
    }

    #[test]
    fn a_condition_is_for_the_source_that_knows_its_fields() {
        let explanation = explain("ka.verb = get and okay and not ka.user.groups intersects (dev)").unwrap();
        assert_eq!(
            explanation.to_string(),
            "normal form: (ka.verb = get and okay and not ka.user.groups intersects (dev))\n\
             source:      k8s_audit\n\
             fields:      ka.user.groups, ka.verb\n\
             macros:      okay\n\
             event types: pluginevent"
        );
        let text = "- cairn_source: door\n  fields: [{name: door.who, path: /who}]\n- macro: eve\n  condition: door.who = eve\n";
        let files = [RulesFile { path: "m.yaml", text }];
        assert_eq!(explain_with("eve and evt.num > 0", &files).unwrap().source, "door");
        // Of the sources that do not know all, the one that knows most tells what is wrong.
        let error = explain("ka.verb = get and ka.usr.name = eve").unwrap_err();
        assert_eq!((error.column, error.hint.as_deref()), (19, Some("did you mean `ka.user.name`?")));
    }

    #[test]
    fn with_rules_files_macros_are_looked_into() {
        let text = "- macro: spawned_process\n  condition: (evt.type in (execve, execveat))\n";
        let files = [RulesFile { path: "m.yaml", text }];
        let explanation = explain_with("spawned_process and proc.name = nc", &files).unwrap();
        assert_eq!(explanation.event_types, ["execve", "execveat"]);
        let error = explain_with("spawned_proces", &files).unwrap_err();
        assert_eq!(error.hint.as_deref(), Some("did you mean `spawned_process`?"));
    }

    #[test]
    fn event_types_are_worked_out() {
        let types = |text: &str| explain(text).unwrap().event_types;
        assert_eq!(types("not evt.type != open"), ["open"]);
        assert_eq!(types("not (evt.type = open and proc.name = a) and evt.type in (open, creat)"), ["creat", "open"]);
        assert_eq!(types("evt.type = open or (evt.type = creat and fd.num >= 0)"), ["creat", "open"]);
        assert!(types("evt.num = 0 and proc.name = a").is_empty());
        assert!(!explain("evt.num = 0").unwrap().all_event_types);
        assert!(explain("not evt.num = 0").unwrap().all_event_types);
        assert!(explain("proc.name = a").unwrap().all_event_types);
    }

    #[test]
    fn errors_have_a_place() {
        let error = explain("evt.type = open\nand proc.nmae = bash").unwrap_err();
        insta::assert_snapshot!(error.render(), @r"
        error: unknown field `proc.nmae` (line 2, column 5)
          and proc.nmae = bash
              ^
        hint: did you mean `proc.name`?
        ");
    }
}
