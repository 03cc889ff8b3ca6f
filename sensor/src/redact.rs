//! Personal values become tokens before anything leaves this process (promise P6).

use std::collections::BTreeSet;

use cairn_schemas::commitment::Personal;
use cairn_schemas::data::{User, field_shown, is_personal_field};
use cairn_schemas::token::{Token, TokenKey, token};

/// Fields that show one thing by several names, and the part of a record that shows it whatever a rule prints. A policy that names
/// one of them means the thing.
const COMMAND: &[&str] =
    &["proc.cmdline", "proc.args", "proc.exeline", "proc.pcmdline", "proc.acmdline", "proc.aargs", "evt.arg.args"];
const EXECUTABLE: &[&str] = &[
    "proc.exepath",
    "proc.exe",
    "proc.pexepath",
    "proc.pexe",
    "proc.aexepath",
    "proc.aexe",
    "proc.sid.exe",
    "proc.sid.exepath",
    "proc.pgid.exe",
    "proc.pgid.exepath",
    "evt.arg.exe",
    "evt.arg.exepath",
    "evt.arg.trusted_exepath",
];
const NAME: &[&str] = &["proc.name", "proc.pname", "proc.aname", "proc.sname", "proc.pgid.name", "evt.arg.comm"];
const DIRECTORY: &[&str] = &["proc.cwd", "evt.arg.cwd"];
const FILE: &[&str] = &["fd.name", "fd.nameraw", "fd.directory", "fd.filename", "evt.arg.name", "evt.arg.filename"];
const CONTAINER: &[&str] = &["container.id"];
const THINGS: &[&[&str]] = &[COMMAND, EXECUTABLE, NAME, DIRECTORY, FILE, CONTAINER];

/// A part of a record that stands there beside the rule's own fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A command line, or its arguments.
    Command,
    /// Path of an executable.
    Executable,
    /// A process's name.
    Name,
    /// A working directory.
    Directory,
    /// A file's path.
    File,
    /// A container's id.
    Container,
}

impl Part {
    const fn fields(self) -> &'static [&'static str] {
        match self {
            Part::Command => COMMAND,
            Part::Executable => EXECUTABLE,
            Part::Name => NAME,
            Part::Directory => DIRECTORY,
            Part::File => FILE,
            Part::Container => CONTAINER,
        }
    }
}

/// Which values are personal, and the key that hides them.
#[derive(Debug, Clone)]
pub struct Redaction {
    key: TokenKey,
    more_fields: BTreeSet<String>,
}

impl Redaction {
    /// The fields that are always personal, and `more_fields`, which a policy names (`privacy.personal_fields`).
    #[must_use]
    pub fn new(key: TokenKey, more_fields: &[String]) -> Redaction {
        let mut more_fields: BTreeSet<String> = more_fields.iter().map(|name| spelling(name)).collect();
        for thing in THINGS {
            if thing.iter().any(|field| more_fields.contains(*field)) {
                more_fields.extend(thing.iter().map(|field| (*field).to_owned()));
            }
        }
        Redaction { key, more_fields }
    }

    /// The token of a rule field's value, where it may not stand in a record as it is.
    #[must_use]
    pub fn field(&self, name: &str, value: &str) -> Option<Token> {
        let spelt = spelling(field_shown(name));
        let base = spelt.split('[').next().unwrap_or_default();
        let personal = is_personal_field(name) || self.more_fields.contains(base) || self.more_fields.contains(&spelt);
        personal.then(|| token(&self.key, class_of(base), value))
    }

    /// The same for another part of the record; the token is that of the thing's first field.
    #[must_use]
    pub fn part(&self, part: Part, value: &str) -> Option<Token> {
        let class = part.fields().first()?;
        self.more_fields.contains(*class).then(|| token(&self.key, class, value))
    }

    /// A process's user.
    #[must_use]
    pub fn user(&self, uid: u32, name: Option<&str>, login_uid: Option<u32>) -> User {
        let number = |uid: u32| Personal::from(token(&self.key, "uid", &uid.to_string()));
        User {
            uid: number(uid),
            name: name.map(|name| token(&self.key, "user", name).into()),
            login_uid: login_uid.map(number),
        }
    }
}

/// `evt.arg[cwd]` and `evt.arg.cwd` are one field.
fn spelling(name: &str) -> String {
    match name.strip_prefix("evt.arg[").and_then(|rest| rest.strip_suffix(']')) {
        Some(argument) => format!("evt.arg.{argument}"),
        None => name.to_owned(),
    }
}

/// Fields of one kind share a class, so that `user.name` here links with the user of an admission decision.
fn class_of(field: &str) -> &str {
    match field {
        "user.name" | "user.loginname" => "user",
        "user.uid" | "user.loginuid" | "evt.arg.loginuid" => "uid",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redaction(more: &[&str]) -> Redaction {
        let more: Vec<String> = more.iter().map(|name| (*name).to_owned()).collect();
        Redaction::new(TokenKey { epoch: "e1".to_owned(), key: [7; 32] }, &more)
    }

    #[test]
    fn personal_fields_are_tokens_and_others_are_not() {
        let redaction = redaction(&["proc.cmdline"]);
        for name in
            ["user.name", "proc.aenv[2]", "evt.args", "evt.arg.uid", "evt.arg[loginuid]", "evt.arg[17]", "group.name"]
        {
            assert!(redaction.field(name, "alice").is_some(), "{name}");
        }
        assert!(redaction.field("proc.cmdline", "curl alice@example.com").is_some(), "named by the policy");
        assert!(redaction.field("toupper(cairn.first.proc.args)", "CURL").is_some(), "whatever is done to it");
        assert_eq!(redaction.field("proc.name", "bash"), None);
        assert_eq!(redaction.field("cairn.first.proc.name", "bash"), None);
        assert_eq!(redaction.field("evt.arg.flags", "O_RDONLY"), None);
    }

    #[test]
    fn a_thing_that_a_policy_names_is_hidden_by_whatever_name_it_is_shown() {
        let redaction = redaction(&["evt.arg[cwd]", "proc.cmdline"]);
        for name in ["proc.args", "proc.acmdline[3]", "proc.pcmdline", "evt.arg[args]", "proc.cwd", "evt.arg.cwd"] {
            assert!(redaction.field(name, "x").is_some(), "{name}");
        }
        assert!(redaction.part(Part::Command, "x").is_some());
        assert!(redaction.part(Part::Directory, "x").is_some());
        assert_eq!(redaction.part(Part::Directory, "/x"), redaction.field("proc.cwd", "/x"), "and links");
        for part in [Part::Executable, Part::Name, Part::File, Part::Container] {
            assert_eq!(redaction.part(part, "x"), None);
        }
    }

    #[test]
    fn one_user_links_across_fields() {
        let redaction = redaction(&[]);
        let user = redaction.user(1000, Some("alice"), Some(1000));
        assert_eq!(user.name, redaction.field("user.loginname", "alice").map(Personal::from));
        assert_eq!(Some(user.uid.clone()), user.login_uid);
        assert_ne!(user.uid, redaction.user(1001, None, None).uid);
    }
}
