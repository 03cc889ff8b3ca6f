//! What is wrong with a rules file or a replay file, where, and how to put it right.

use std::fmt;

use serde::Serialize;

use crate::limits::PROBLEMS_MAX;

/// Does it stop the load?
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The item cannot be used; the set is not loaded.
    Error,
    /// The set loads, and something in it does not do what it may seem to.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// The kind of problem. Those Falco has too carry its name for it; the `CAIRN_` ones are ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum Code {
    /// The file is too large, or not text.
    LoadErrFileRead,
    /// Not YAML.
    LoadErrYamlParse,
    /// YAML of the wrong shape.
    LoadErrYamlValidate,
    /// A condition that does not parse, or does not fit its fields.
    LoadErrCompileCondition,
    /// An output template with an unknown field, or malformed.
    LoadErrCompileOutput,
    /// Items that do not fit each other: unknown names, loops, versions.
    LoadErrValidate,
    /// Something is wrong with an item that is ours and not Falco's: a declared source, a stateful condition.
    LoadErrExtension,
    /// The rule's `source` is none we have: the rule is skipped.
    LoadUnknownSource,
    /// A field is compared with `<NA>`, which no field of a document has: an absent one has no value.
    LoadUnsafeNaCheck,
    /// The rule does not name event types, so it is tried on each event.
    LoadNoEvttype,
    /// An unknown field or event type in a rule with `skip-if-unknown-filter`: the rule is skipped.
    LoadUnknownFilter,
    /// A macro no rule uses.
    LoadUnusedMacro,
    /// A list nothing uses.
    LoadUnusedList,
    /// An item that is none of those a rules file has.
    LoadUnknownItem,
    /// A form that Falco has replaced by another.
    LoadDeprecatedItem,
    /// Falco passes over an item or key that is ours. Said only where asked for ([`crate::load_beside_falco`]).
    LoadWarningExtension,
    /// An appended exception without values, or an appended rule without anything to append.
    LoadAppendNoValues,
    /// Two exceptions of one rule with one name.
    LoadExceptionNameNotUnique,
    /// A macro whose name no condition can refer to.
    LoadInvalidMacroName,
    /// A list whose name no condition can refer to.
    LoadInvalidListName,
    /// A condition that does less than it seems to.
    LoadCompileCondition,
    /// A key that means nothing here.
    LoadUnknownKey,
    /// The rule needs fields or event types the sensor does not supply yet: it sees less than it says, or nothing.
    CairnBlindSpot,
    /// A replay case that is malformed.
    CairnReplayCase,
    /// A limit was passed.
    CairnLimit,
}

impl Code {
    /// All of them, in the order of their definition.
    pub const ALL: [Self; 25] = [
        Self::LoadErrFileRead,
        Self::LoadErrYamlParse,
        Self::LoadErrYamlValidate,
        Self::LoadErrCompileCondition,
        Self::LoadErrCompileOutput,
        Self::LoadErrValidate,
        Self::LoadErrExtension,
        Self::LoadUnknownSource,
        Self::LoadUnsafeNaCheck,
        Self::LoadNoEvttype,
        Self::LoadUnknownFilter,
        Self::LoadUnusedMacro,
        Self::LoadUnusedList,
        Self::LoadUnknownItem,
        Self::LoadDeprecatedItem,
        Self::LoadWarningExtension,
        Self::LoadAppendNoValues,
        Self::LoadExceptionNameNotUnique,
        Self::LoadInvalidMacroName,
        Self::LoadInvalidListName,
        Self::LoadCompileCondition,
        Self::LoadUnknownKey,
        Self::CairnBlindSpot,
        Self::CairnReplayCase,
        Self::CairnLimit,
    ];

    /// The name as it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LoadErrFileRead => "LOAD_ERR_FILE_READ",
            Self::LoadErrYamlParse => "LOAD_ERR_YAML_PARSE",
            Self::LoadErrYamlValidate => "LOAD_ERR_YAML_VALIDATE",
            Self::LoadErrCompileCondition => "LOAD_ERR_COMPILE_CONDITION",
            Self::LoadErrCompileOutput => "LOAD_ERR_COMPILE_OUTPUT",
            Self::LoadErrValidate => "LOAD_ERR_VALIDATE",
            Self::LoadErrExtension => "LOAD_ERR_EXTENSION",
            Self::LoadUnknownSource => "LOAD_UNKNOWN_SOURCE",
            Self::LoadUnsafeNaCheck => "LOAD_UNSAFE_NA_CHECK",
            Self::LoadNoEvttype => "LOAD_NO_EVTTYPE",
            Self::LoadUnknownFilter => "LOAD_UNKNOWN_FILTER",
            Self::LoadUnusedMacro => "LOAD_UNUSED_MACRO",
            Self::LoadUnusedList => "LOAD_UNUSED_LIST",
            Self::LoadUnknownItem => "LOAD_UNKNOWN_ITEM",
            Self::LoadDeprecatedItem => "LOAD_DEPRECATED_ITEM",
            Self::LoadWarningExtension => "LOAD_WARNING_EXTENSION",
            Self::LoadAppendNoValues => "LOAD_APPEND_NO_VALUES",
            Self::LoadExceptionNameNotUnique => "LOAD_EXCEPTION_NAME_NOT_UNIQUE",
            Self::LoadInvalidMacroName => "LOAD_INVALID_MACRO_NAME",
            Self::LoadInvalidListName => "LOAD_INVALID_LIST_NAME",
            Self::LoadCompileCondition => "LOAD_COMPILE_CONDITION",
            Self::LoadUnknownKey => "LOAD_UNKNOWN_KEY",
            Self::CairnBlindSpot => "CAIRN_BLIND_SPOT",
            Self::CairnReplayCase => "CAIRN_REPLAY_CASE",
            Self::CairnLimit => "CAIRN_LIMIT",
        }
    }

    /// The kind in words, as Falco says it where it has the kind.
    pub fn title(self) -> &'static str {
        match self {
            Self::LoadErrFileRead => "File read error",
            Self::LoadErrYamlParse => "YAML parse error",
            Self::LoadErrYamlValidate => "Error validating internal structure of YAML file",
            Self::LoadErrCompileCondition => "Error compiling condition",
            Self::LoadErrCompileOutput => "Error compiling output",
            Self::LoadErrValidate => "Error validating rule/macro/list/exception objects",
            Self::LoadErrExtension => "Error in extension item",
            Self::LoadUnknownSource => "Unknown event source",
            Self::LoadUnsafeNaCheck => "Unsafe <NA> comparison in condition",
            Self::LoadNoEvttype => "Condition has no event-type restriction",
            Self::LoadUnknownFilter => "Unknown field or event-type in condition or output",
            Self::LoadUnusedMacro => "Unused macro",
            Self::LoadUnusedList => "Unused list",
            Self::LoadUnknownItem => "Unknown rules file item",
            Self::LoadDeprecatedItem => "Used deprecated item",
            Self::LoadWarningExtension => "Warning in extension item",
            Self::LoadAppendNoValues => "Overriding/appending with no values",
            Self::LoadExceptionNameNotUnique => "Multiple exceptions defined with the same name",
            Self::LoadInvalidMacroName => "Invalid macro name",
            Self::LoadInvalidListName => "Invalid list name",
            Self::LoadCompileCondition => "Warning in rule condition",
            Self::LoadUnknownKey => "Unknown key in item definition",
            Self::CairnBlindSpot => "Fields or event types that are not supplied",
            Self::CairnReplayCase => "Malformed replay case",
            Self::CairnLimit => "Limit passed",
        }
    }
}

/// One problem. `Display` gives it on several lines, with the source line and a mark under the column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Does it stop the load?
    pub severity: Severity,
    /// What kind it is.
    pub code: Code,
    /// The file's path as the caller gave it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The same place in bytes from the beginning of the file.
    pub offset: usize,
    /// The item it is in, such as `rule "Shell in container"`; empty when in none.
    pub item: String,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// How to put it right, where we can say.
    pub hint: Option<String>,
    /// The source line, cut to a screen's width around the column; empty when there is none.
    pub snippet: String,
    /// Where in `snippet` the problem is, in characters from 0.
    pub snippet_column: usize,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}[{}]: {}\n  --> {}:{}:{}",
            self.severity,
            self.code.as_str(),
            self.message,
            self.file,
            self.line,
            self.column
        )?;
        if !self.item.is_empty() {
            write!(formatter, " in {}", self.item)?;
        }
        if !self.snippet.is_empty() {
            let number = self.line.to_string();
            let margin = " ".repeat(number.len());
            let indent = " ".repeat(self.snippet_column);
            write!(formatter, "\n {number} | {}\n {margin} | {indent}^", self.snippet)?;
        }
        match &self.hint {
            Some(hint) => write!(formatter, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// All problems as `cairn rules check` prints them, errors first, each followed by an empty line, then a count.
pub fn render(problems: &[Problem]) -> String {
    let mut ordered: Vec<&Problem> = problems.iter().collect();
    ordered.sort_by_key(|problem| problem.severity);
    let mut out = String::new();
    for problem in &ordered {
        out.push_str(&format!("{problem}\n\n"));
    }
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    let warnings = problems.len() - errors;
    out.push_str(&format!("{errors} error(s), {warnings} warning(s)\n"));
    out
}

/// A place in one of the files of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Place {
    /// Which file, in the order given.
    pub(crate) file: usize,
    /// Byte offset in its text.
    pub(crate) offset: usize,
}

/// A file being loaded, as far as reporting needs it.
pub(crate) struct Source<'a> {
    pub(crate) path: &'a str,
    pub(crate) text: &'a str,
}

/// Collects the problems of one load, turning places into lines and columns.
pub(crate) struct Reporter<'a> {
    sources: Vec<Source<'a>>,
    /// Per source: where its lines begin. Thousands of rules ask for their line.
    line_starts: Vec<Vec<usize>>,
    problems: Vec<Problem>,
    dropped: usize,
    /// Is it said what Falco makes of our own items and keys?
    is_beside_falco: bool,
}

/// Characters of a source line kept in a problem.
const SNIPPET_LEN_MAX: usize = 100;

impl<'a> Reporter<'a> {
    pub(crate) fn new(sources: Vec<Source<'a>>) -> Self {
        let starts = |source: &Source<'_>| {
            std::iter::once(0).chain(source.text.match_indices('\n').map(|(newline, _)| newline + 1)).collect()
        };
        let line_starts = sources.iter().map(starts).collect();
        Self { sources, line_starts, problems: Vec::new(), dropped: 0, is_beside_falco: false }
    }

    /// From now on it is said what Falco makes of our own items and keys.
    pub(crate) fn beside_falco(self) -> Self {
        Self { is_beside_falco: true, ..self }
    }

    pub(crate) fn source(&self, file: usize) -> &'a str {
        self.sources.get(file).map_or("", |source| source.text)
    }

    pub(crate) fn error(
        &mut self,
        code: Code,
        place: Place,
        item: &str,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        self.add(Severity::Error, code, place, item, message.into(), hint);
    }

    pub(crate) fn warning(
        &mut self,
        code: Code,
        place: Place,
        item: &str,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        self.add(Severity::Warning, code, place, item, message.into(), hint);
    }

    /// Falco passes over something of ours.
    pub(crate) fn passed_over(&mut self, place: Place, item: &str, message: impl Into<String>) {
        if self.is_beside_falco {
            self.warning(Code::LoadWarningExtension, place, item, message, None);
        }
    }

    /// Falco does not load a file with something of ours.
    pub(crate) fn not_loaded(&mut self, place: Place, item: &str, message: impl Into<String>, hint: &str) {
        if self.is_beside_falco {
            self.error(Code::LoadErrExtension, place, item, message, Some(hint.to_owned()));
        }
    }

    pub(crate) fn error_count(&self) -> usize {
        self.problems.iter().filter(|problem| problem.severity == Severity::Error).count()
    }

    fn add(&mut self, severity: Severity, code: Code, place: Place, item: &str, message: String, hint: Option<String>) {
        // Errors are kept over warnings: a set with an error must never look clean because the list was full.
        if self.problems.len() >= PROBLEMS_MAX {
            self.dropped += 1;
            let Some(victim) = self.problems.iter().rposition(|problem| problem.severity == Severity::Warning) else {
                return;
            };
            if severity == Severity::Warning {
                return;
            }
            self.problems.remove(victim);
        }
        let (line, column, snippet, snippet_column) = self.locate(place);
        let file = self.sources.get(place.file).map_or("", |source| source.path).to_owned();
        self.problems.push(Problem {
            severity,
            code,
            file,
            line,
            column,
            offset: place.offset,
            item: item.to_owned(),
            message,
            hint,
            snippet,
            snippet_column,
        });
    }

    pub(crate) fn file_and_line(&self, place: Place) -> (String, usize) {
        let path = self.sources.get(place.file).map_or("", |source| source.path);
        (path.to_owned(), self.line_at(place.file, place.offset).0 + 1)
    }

    /// File, line and column of a place, the latter two from 1.
    pub(crate) fn position(&self, place: Place) -> (&str, usize, usize) {
        let path = self.sources.get(place.file).map_or("", |source| source.path);
        let (line, column, ..) = self.locate(place);
        (path, line, column)
    }

    fn locate(&self, place: Place) -> (usize, usize, String, usize) {
        let text = self.source(place.file);
        let mut offset = place.offset.min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let (line, line_start) = self.line_at(place.file, offset);
        let column = text[line_start..offset].chars().count();
        let whole: Vec<char> = text[line_start..].lines().next().unwrap_or("").chars().collect();
        let from = column.saturating_sub(SNIPPET_LEN_MAX * 3 / 4).min(whole.len());
        let to = (from + SNIPPET_LEN_MAX).min(whole.len());
        // A tab would move the mark; other control characters could move the cursor.
        let snippet: String = whole[from..to].iter().map(|c| if c.is_control() { ' ' } else { *c }).collect();
        (line + 1, column + 1, snippet, column - from)
    }

    /// The line an offset is on, from 0, and where that line begins.
    fn line_at(&self, file: usize, offset: usize) -> (usize, usize) {
        let Some(starts) = self.line_starts.get(file) else { return (0, 0) };
        let line = starts.partition_point(|start| *start <= offset).saturating_sub(1);
        (line, starts.get(line).copied().unwrap_or(0))
    }

    /// The problems in order of file and place, and how many more there were than fit.
    pub(crate) fn finish(mut self) -> (Vec<Problem>, usize) {
        let order: Vec<String> = self.sources.iter().map(|source| source.path.to_owned()).collect();
        self.problems.sort_by_key(|problem| {
            let file = order.iter().position(|path| *path == problem.file);
            (file, problem.line, problem.column, problem.severity)
        });
        (self.problems, self.dropped)
    }
}
