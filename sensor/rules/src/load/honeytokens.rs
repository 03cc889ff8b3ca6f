//! `- cairn_honeytokens: NAME`: things that nobody has a reason to touch, declared once; rules are made of them.
//!
//! The rules are as if they had been written by hand: they are checked alike, later files can override them by name, and replay cases
//! test them.

use std::fmt::Write as _;

use super::collect::{self, RuleDefinition};
use super::reader::{Fields, Joined, Scalar};
use crate::alert::Priority;
use crate::condition::in_quotes;
use crate::event::SYSCALL;
use crate::limits::HONEYTOKENS_MAX;
use crate::problem::{Code, Reporter};
use crate::source::Sources;
use crate::suggest;

pub(super) const KEYS: [&str; 11] = [
    "cairn_honeytokens",
    "desc",
    "paths",
    "credentials",
    "accounts",
    "allow",
    "sources",
    "priority",
    "tags",
    "output",
    "enabled",
];

/// A shorter credential would be found in what has nothing to do with it.
const CREDENTIAL_LEN_MIN: usize = 8;
/// The longest of any of them, in bytes.
const TOKEN_LEN_MAX: usize = 1_024;

/// Where credentials and accounts are looked for unless `sources` says otherwise.
const SOURCES: [&str; 3] = [SYSCALL, "k8s_audit", "aws_cloudtrail"];

/// Programs whose arguments name accounts.
const LOGIN_PROGRAMS: &str = "su, sudo, doas, runuser, login, ssh, sshd, setpriv, newgrp, passwd, chage, usermod";

/// One declaration.
struct Declared {
    name: Scalar,
    paths: Vec<Scalar>,
    credentials: Vec<Scalar>,
    accounts: Vec<Scalar>,
    allow: Vec<Scalar>,
}

/// The rules that a declaration makes; what is malformed is reported, and makes none.
pub(super) fn read(fields: &Fields<'_>, sources: &Sources, reporter: &mut Reporter<'_>) -> Vec<RuleDefinition> {
    let errors_before = reporter.error_count();
    let Some(name) = fields.required("cairn_honeytokens", reporter) else { return Vec::new() };
    let description = fields.scalar("desc", reporter);
    let output = fields.scalar("output", reporter);
    let priority = fields.scalar("priority", reporter);
    let priority = priority.and_then(|text| collect::priority(fields, &text, reporter)).unwrap_or(Priority::Critical);
    let mut tags = collect::tags(fields, reporter);
    tags.push("honeytoken".to_owned());
    tags.sort();
    tags.dedup();
    let enabled = fields.boolean("enabled", true, reporter);
    let declared = Declared {
        paths: tokens(fields, "paths", path, reporter),
        credentials: tokens(fields, "credentials", credential, reporter),
        accounts: tokens(fields, "accounts", account, reporter),
        allow: tokens(fields, "allow", program, reporter),
        name,
    };
    let wanted = wanted(fields, sources, &declared, reporter);
    if declared.paths.is_empty() && declared.credentials.is_empty() && declared.accounts.is_empty() {
        if reporter.error_count() == errors_before {
            let hint = Some("name some under `paths`, `credentials` or `accounts`".to_owned());
            let message = "honeytokens that are none";
            reporter.error(Code::LoadErrYamlValidate, fields.place(), &fields.item, message, hint);
        }
        return Vec::new();
    }
    if reporter.error_count() > errors_before {
        return Vec::new();
    }
    let of = |text: String| Scalar { value: text, ..declared.name.clone() };
    let made = wanted.iter().flat_map(|source| declared.rules(source)).map(|made| RuleDefinition {
        description: description.clone().unwrap_or_else(|| of(made.description.clone())).into(),
        condition: of(made.condition).into(),
        output: output.clone().map_or_else(|| Joined::from(of(made.output)), Joined::from),
        priority,
        tags: tags.clone(),
        enabled,
        source: of(made.source),
        has_source: true,
        exceptions: Vec::new(),
        warn_evttypes: true,
        skip_if_unknown_filter: false,
        extension: None,
        is_broken: false,
        name: of(made.name),
    });
    made.collect()
}

/// Values of one kind, each checked; `check` says what is wrong with one, and what would be right.
fn tokens(
    fields: &Fields<'_>,
    key: &str,
    check: fn(&str) -> Result<(), (String, &'static str)>,
    reporter: &mut Reporter<'_>,
) -> Vec<Scalar> {
    let scalars = fields.scalars(key, reporter).unwrap_or_default();
    if let (true, Some(node)) = (scalars.len() > HONEYTOKENS_MAX, fields.get(key)) {
        let message = format!("{} values in `{key}`, more than {HONEYTOKENS_MAX}", scalars.len());
        reporter.error(Code::CairnLimit, fields.place_of(node), &fields.item, message, None);
        return Vec::new();
    }
    for scalar in &scalars {
        let text = scalar.value.as_str();
        let wrong = if text.len() > TOKEN_LEN_MAX {
            Err((format!("a value of {} bytes, more than {TOKEN_LEN_MAX}", text.len()), "shorten it"))
        } else if text.is_empty() || text.contains(char::is_control) {
            Err(("a value that is empty or has control characters".to_owned(), "write it on one line"))
        } else {
            check(text)
        };
        if let Err((message, hint)) = wrong {
            let hint = Some(hint.to_owned());
            reporter.error(Code::LoadErrYamlValidate, scalar.place(), &fields.item, message, hint);
        }
    }
    scalars
}

fn path(text: &str) -> Result<(), (String, &'static str)> {
    let is_normal = text.starts_with('/') && !text.split('/').any(|part| matches!(part, "." | ".."));
    let says_something = text.bytes().any(|byte| !matches!(byte, b'/' | b'*' | b'?'));
    if is_normal && says_something && !text.contains("//") {
        return Ok(());
    }
    let hint = "write a file's whole path, a folder's with `/` at its end, or a pattern such as `/srv/*.kdbx`";
    Err((format!("`{text}` is no absolute path"), hint))
}

fn credential(text: &str) -> Result<(), (String, &'static str)> {
    if text.chars().count() >= CREDENTIAL_LEN_MIN {
        return Ok(());
    }
    let message = format!("a credential of less than {CREDENTIAL_LEN_MIN} characters would be found everywhere");
    Err((message, "plant a longer one"))
}

fn account(text: &str) -> Result<(), (String, &'static str)> {
    if !text.contains(char::is_whitespace) {
        return Ok(());
    }
    Err((format!("`{text}` is no account's name"), "write one name each: `accounts: [svc-backup-old]`"))
}

fn program(text: &str) -> Result<(), (String, &'static str)> {
    if text.starts_with('/') || !text.contains('/') {
        return Ok(());
    }
    Err((format!("`{text}` is neither a program's name nor its whole path"), "write `restic` or `/usr/bin/restic`"))
}

/// The sources to look in.
fn wanted(fields: &Fields<'_>, sources: &Sources, declared: &Declared, reporter: &mut Reporter<'_>) -> Vec<String> {
    let Some(given) = fields.scalars("sources", reporter) else { return SOURCES.map(str::to_owned).to_vec() };
    for source in &given {
        let known = || sources.iter().map(crate::source::Source::name);
        let is_useful = declared.rules(&source.value).next().is_some();
        let (message, hint) = if sources.get(&source.value).is_none() {
            let hint = suggest::hint(&source.value, known());
            let all = || format!("sources are: {}", known().collect::<Vec<_>>().join(", "));
            (format!("source `{}` is not known", source.value), hint.unwrap_or_else(all))
        } else if !is_useful {
            let hint = "paths are seen by syscall alone, accounts by syscall, k8s_audit and aws_cloudtrail";
            (format!("source `{}` sees none of these", source.value), hint.to_owned())
        } else {
            continue;
        };
        reporter.error(Code::LoadErrYamlValidate, source.place(), &fields.item, message, Some(hint));
    }
    given.into_iter().map(|source| source.value).collect()
}

/// A rule that is made.
struct Made {
    name: String,
    description: String,
    source: String,
    condition: String,
    output: String,
}

impl Declared {
    fn rules(&self, source: &str) -> impl Iterator<Item = Made> {
        let made = match source {
            SYSCALL => [self.touched(), self.used_on_machine(), self.account_on_machine()],
            "k8s_audit" => [None, self.used_in(source), self.account_in(source, &["ka.user.name", "ka.impuser.name"])],
            "aws_cloudtrail" => {
                [None, self.used_in(source), self.account_in(source, &["ct.user", "ct.request.username"])]
            }
            _ => [None, self.used_in(source), None],
        };
        made.into_iter().flatten()
    }

    fn made(&self, what: &str, source: &str, condition: String) -> Made {
        let shown = match source {
            SYSCALL => {
                "file=%fd.name command=%proc.cmdline exe=%proc.exepath parent=%proc.pname user=%user.name container=%container.id"
            }
            "k8s_audit" => "user=%ka.user.name verb=%ka.verb uri=%ka.uri target=%ka.target.name",
            "aws_cloudtrail" => "user=%ct.user event=%ct.name region=%ct.region ip=%ct.srcip",
            _ => "event=%evt.plugininfo",
        };
        let name = &self.name.value;
        Made {
            name: format!("{name}: {what}"),
            description: format!("Nobody has a reason to touch what `{name}` declares: {what}."),
            source: source.to_owned(),
            condition,
            output: format!("Honeytoken {}: {what} ({shown})", name.replace('%', "%%")),
        }
    }

    /// A planted file was opened, or tried to be, or run.
    fn touched(&self) -> Option<Made> {
        let opened = paths("fd.name", &self.paths)?;
        let run = paths("proc.exepath", &self.paths)?;
        let condition = format!(
            "((evt.type in (open, openat, openat2, creat) and {opened}) or (evt.type in (execve, execveat) and {run})){}",
            self.but_allowed()
        );
        Some(self.made("a planted file was opened", SYSCALL, condition))
    }

    fn used_on_machine(&self) -> Option<Made> {
        let parts =
            |field: &str| any(self.credentials.iter().map(|it| format!("{field} contains {}", in_quotes(&it.value))));
        let (arguments, environment) = (parts("proc.cmdline")?, parts("proc.env")?);
        let condition =
            format!("evt.type in (execve, execveat) and ({arguments} or {environment}){}", self.but_allowed());
        Some(self.made("a planted credential was used", SYSCALL, condition))
    }

    fn account_on_machine(&self) -> Option<Made> {
        let names = list(&self.accounts)?;
        let mut pattern = "(?s)(.*[ =@:])?(".to_owned();
        for (index, account) in self.accounts.iter().enumerate() {
            let between = if index == 0 { "" } else { "|" };
            let _ = write!(pattern, "{between}{}", regex::escape(&account.value));
        }
        pattern.push_str(")([ @:].*)?");
        let condition = format!(
            "evt.type in (execve, execveat) and (user.name in {names} or user.loginname in {names} \
             or (proc.name in ({LOGIN_PROGRAMS}) and proc.args regex {})){}",
            in_quotes(&pattern),
            self.but_allowed()
        );
        Some(self.made("a planted account was used", SYSCALL, condition))
    }

    /// Anywhere in a document; in JSON some characters are written otherwise.
    fn used_in(&self, source: &str) -> Option<Made> {
        let written = |text: &str| {
            let json = serde_json::Value::from(text).to_string();
            let inner = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            inner.unwrap_or(&json).to_owned()
        };
        let found = self.credentials.iter().map(|it| format!("json.obj contains {}", in_quotes(&written(&it.value))));
        Some(self.made(&format!("a planted credential in {source}"), source, any(found)?))
    }

    fn account_in(&self, source: &str, fields: &[&str]) -> Option<Made> {
        let names = list(&self.accounts)?;
        let condition = any(fields.iter().map(|field| format!("{field} in {names}")))?;
        Some(self.made(&format!("a planted account in {source}"), source, condition))
    }

    /// Unless it is one of the programs that may.
    fn but_allowed(&self) -> String {
        let (paths, names): (Vec<&Scalar>, Vec<&Scalar>) = self.allow.iter().partition(|it| it.value.starts_with('/'));
        let but = |field: &str, values: &[&Scalar]| {
            list(values.iter().copied()).map_or_else(String::new, |list| format!(" and not {field} in {list}"))
        };
        but("proc.name", &names) + &but("proc.exepath", &paths)
    }
}

fn paths(field: &str, paths: &[Scalar]) -> Option<String> {
    let is_pattern = |path: &&Scalar| path.value.contains(['*', '?']);
    let is_folder = |path: &&Scalar| path.value.ends_with('/') && !is_pattern(path);
    let each = |path: &Scalar, operator: &str| format!("{field} {operator} {}", in_quotes(&path.value));
    let files = list(paths.iter().filter(|path| !is_pattern(path) && !is_folder(path)));
    let folders = paths.iter().filter(is_folder).map(|path| each(path, "startswith"));
    let patterns = paths.iter().filter(is_pattern).map(|path| each(path, "glob"));
    any(files.map(|files| format!("{field} in {files}")).into_iter().chain(folders).chain(patterns))
}

/// `("a", "b")`, if there are any.
fn list<'s>(values: impl IntoIterator<Item = &'s Scalar>) -> Option<String> {
    let values: Vec<String> = values.into_iter().map(|value| in_quotes(&value.value)).collect();
    (!values.is_empty()).then(|| format!("({})", values.join(", ")))
}

/// `(a or b)`, if there are any.
fn any(parts: impl Iterator<Item = String>) -> Option<String> {
    let parts: Vec<String> = parts.collect();
    (!parts.is_empty()).then(|| format!("({})", parts.join(" or ")))
}
