//! Trust policies (C2SP tlog-policy): which logs, which witnesses, and how many of them make a checkpoint good enough.
//!
//! A policy is a text of lines. It is read from bytes, since its names are octets and nothing else, and it cannot be wrong once it
//! is read: every name is defined before its use, every key is one key, every threshold can be met. It checks one checkpoint at a
//! time and remembers nothing; freshness and consistency with what was seen before are the business of whoever asks.

use std::collections::HashMap;

use thiserror::Error;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::cosignature::CosignTime;
use crate::note::{Algorithm, Note, NoteError, VerifierKey};

/// Longest policy, in bytes.
pub const POLICY_LEN_MAX: usize = 1 << 18;
/// Most logs. The specification asks for at least 32; so for the next two.
pub const LOGS_MAX: usize = 128;
/// Most witnesses.
pub const WITNESSES_MAX: usize = 64;
/// Most groups.
pub const GROUPS_MAX: usize = 64;
/// The predefined quorum that needs nobody.
const NONE: &[u8] = b"none";

/// Why a text is no policy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Longer than [`POLICY_LEN_MAX`].
    #[error("the policy is {len} bytes long; at most {POLICY_LEN_MAX} are read")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// A line is wrong.
    #[error("line {line} of the policy: {reason}")]
    Line {
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: LineError,
    },
    /// There is no `quorum` line.
    #[error("the policy has no `quorum` line; `quorum none` asks for no witness")]
    NoQuorum,
}

/// What is wrong with a line of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LineError {
    /// A control character other than a tab.
    #[error("the byte 0x{0:02x} is not allowed; lines end in a line feed, and items are separated by spaces and tabs")]
    Byte(u8),
    /// The last line has no line feed.
    #[error("the line does not end in a line feed")]
    Unterminated,
    /// Not `log`, `witness`, `group` or `quorum`.
    #[error("{0:?} is not a keyword: log, witness, group, quorum")]
    Keyword(String),
    /// Too few or too many items.
    #[error("expected `{0}`")]
    Form(&'static str),
    /// Not a vkey.
    #[error("{0}")]
    Key(NoteError),
    /// A log's key is a witness's kind, or the other way round.
    #[error("a {who} has a key of type {expected}, and this is of type 0x{actual:02x}")]
    Kind {
        /// `log` or `witness`.
        who: &'static str,
        /// The types that it may have.
        expected: &'static str,
        /// The type that it has.
        actual: u8,
    },
    /// The key is that of another line, whatever its name.
    #[error("this is the same public key as {0}'s: one key is one {1}")]
    SameKey(String, &'static str),
    /// The name is taken, or predefined.
    #[error("the name {0:?} is taken")]
    Taken(String),
    /// The name was not defined on a line before.
    #[error("{0:?} is not a witness or group of a line before")]
    Unknown(String),
    /// The name is a member of a group already.
    #[error("{0:?} is a member of a group already")]
    Member(String),
    /// A threshold that cannot be.
    #[error("{threshold:?} is no threshold for {members} members: `any`, `all`, or a number from 1 to {members}")]
    Threshold {
        /// As it is written.
        threshold: String,
        /// How many members the group has.
        members: usize,
    },
    /// A second `quorum` line.
    #[error("there is a `quorum` line already")]
    SecondQuorum,
    /// More of one thing than is read.
    #[error("more than {0} {1}")]
    TooMany(usize, &'static str),
}

/// A log that is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyLog {
    /// Its key; the key's name is the log's origin.
    pub key: VerifierKey,
    /// Where it is, if the policy says so.
    pub url: Option<String>,
}

/// A witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyWitness {
    /// Its name in this policy, made printable; it means nothing elsewhere.
    pub name: String,
    /// Its key.
    pub key: VerifierKey,
    /// Its submission prefix, if the policy says so.
    pub url: Option<String>,
}

/// Who counts: a witness, or a group that is defined before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    Witness(usize),
    Group(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    threshold: usize,
    members: Vec<Member>,
}

/// A policy that can be met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    groups: Vec<Group>,
    quorum: Option<Member>,
}

/// What a checkpoint's cosignatures come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluation {
    /// The witnesses that cosigned, as positions in [`Policy::witnesses`], with their times.
    pub cosigned: Vec<(usize, CosignTime)>,
    /// Whether they are enough.
    pub met: bool,
}

impl Evaluation {
    /// The earliest and the latest time that a witness stated.
    #[must_use]
    pub fn times(&self) -> Option<(CosignTime, CosignTime)> {
        let times = self.cosigned.iter().map(|(_, time)| *time);
        Some((times.clone().min()?, times.max()?))
    }
}

/// Why a policy does not accept a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refused {
    /// Not a checkpoint, of another log, or not signed by a log of the policy.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Too few cosignatures, or the wrong ones.
    #[error("the checkpoint of {size} records does not meet the witness policy: cosigned by {}; missing are {}", list(.cosigned), list(.missing))]
    Quorum {
        /// The checkpoint's size.
        size: cairn_schemas::ids::TreeSize,
        /// The witnesses that cosigned.
        cosigned: Vec<String>,
        /// Those that did not.
        missing: Vec<String>,
    },
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}

impl From<NoteError> for Refused {
    fn from(error: NoteError) -> Refused {
        Refused::Checkpoint(error.into())
    }
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// [`PolicyError`], with the line.
    pub fn parse(text: &[u8]) -> Result<Policy, PolicyError> {
        if text.len() > POLICY_LEN_MAX {
            return Err(PolicyError::TooLong { len: text.len() });
        }
        let mut reader = Reader::default();
        let mut rest = text;
        let mut line = 0;
        while !rest.is_empty() {
            line += 1;
            let fail = |reason| PolicyError::Line { line, reason };
            let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
                return Err(fail(LineError::Unterminated));
            };
            reader.line(&rest[..end]).map_err(fail)?;
            rest = &rest[end + 1..];
        }
        let quorum = reader.quorum.ok_or(PolicyError::NoQuorum)?;
        Ok(Policy { logs: reader.logs, witnesses: reader.witnesses, groups: reader.groups, quorum })
    }

    /// The logs that it accepts; none where these are known from elsewhere.
    #[must_use]
    pub fn logs(&self) -> &[PolicyLog] {
        &self.logs
    }

    /// The witnesses that it knows.
    #[must_use]
    pub fn witnesses(&self) -> &[PolicyWitness] {
        &self.witnesses
    }

    /// Whether no witness is needed.
    #[must_use]
    pub fn needs_nobody(&self) -> bool {
        self.quorum.is_none()
    }

    /// Counts a note's cosignatures. A cosignature with time 0 does not count: no witness makes one.
    ///
    /// # Errors
    /// [`NoteError::WrongSignature`] when a witness of the policy has a wrong line on the note: such a note is refused as a whole.
    pub fn evaluate(&self, note: &Note) -> Result<Evaluation, NoteError> {
        let mut cosigned = Vec::new();
        for (position, witness) in self.witnesses.iter().enumerate() {
            if let Some(time) = note.cosigned_at(&witness.key)?
                && time > CosignTime(0)
            {
                cosigned.push((position, time));
            }
        }
        let met = self.quorum.is_none_or(|member| self.holds(member, &cosigned));
        Ok(Evaluation { cosigned, met })
    }

    /// Whether a member counts. Groups name only what is defined before them, so this ends.
    fn holds(&self, member: Member, cosigned: &[(usize, CosignTime)]) -> bool {
        match member {
            Member::Witness(position) => cosigned.iter().any(|(by, _)| *by == position),
            Member::Group(position) => {
                let Group { threshold, members, .. } = &self.groups[position];
                members.iter().filter(|&&member| self.holds(member, cosigned)).count() >= *threshold
            }
        }
    }

    /// Checks a checkpoint of the log `origin`: signed by one of `keys` or by a log of the policy that has this origin, and cosigned
    /// by enough witnesses.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn check(&self, bytes: &[u8], origin: &str, keys: &[VerifierKey]) -> Result<(Checkpoint, Evaluation), Refused> {
        let of_policy = self.logs.iter().map(|log| &log.key).filter(|key| key.name() == origin);
        let keys: Vec<VerifierKey> = keys.iter().chain(of_policy).cloned().collect();
        let checkpoint = Checkpoint::verify(bytes, origin, &keys)?;
        let evaluation = self.evaluate(&Note::parse(bytes)?)?;
        if !evaluation.met {
            let by = |position: &usize| evaluation.cosigned.iter().any(|(by, _)| by == position);
            let (cosigned, missing): (Vec<usize>, Vec<usize>) = (0..self.witnesses.len()).partition(by);
            let names =
                |positions: Vec<usize>| positions.into_iter().map(|at| self.witnesses[at].name.clone()).collect();
            let (cosigned, missing) = (names(cosigned), names(missing));
            return Err(Refused::Quorum { size: checkpoint.size, cosigned, missing });
        }
        Ok((checkpoint, evaluation))
    }
}

/// What was read so far.
#[derive(Default)]
struct Reader {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    groups: Vec<Group>,
    names: HashMap<Vec<u8>, Member>,
    /// Names that are members of a group.
    members: Vec<Vec<u8>>,
    quorum: Option<Option<Member>>,
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(80)]).into_owned()
}

impl Reader {
    fn line(&mut self, line: &[u8]) -> Result<(), LineError> {
        if let Some(&byte) = line.iter().find(|&&byte| byte < 0x20 && byte != b'\t' || byte == 0x7f) {
            return Err(LineError::Byte(byte));
        }
        let mut items = line.split(|&byte| byte == b' ' || byte == b'\t').filter(|item| !item.is_empty());
        let Some(keyword) = items.next().filter(|keyword| !keyword.starts_with(b"#")) else { return Ok(()) };
        let items: Vec<&[u8]> = items.collect();
        match keyword {
            b"log" => self.log(&items),
            b"witness" => self.witness(&items),
            b"group" => self.group(&items),
            b"quorum" => self.quorum(&items),
            other => Err(LineError::Keyword(shown(other))),
        }
    }

    fn log(&mut self, items: &[&[u8]]) -> Result<(), LineError> {
        let (key, url) = match items {
            [key] => (key, None),
            [key, url] => (key, Some(shown_whole(url))),
            _ => return Err(LineError::Form("log <vkey> [<url>]")),
        };
        let key = parse_key(key, "log", &[Algorithm::Ed25519, Algorithm::MlDsa44Cosignature], "0x01 or 0x06")?;
        if let Some(same) = self.logs.iter().find(|log| log.key.key().as_bytes() == key.key().as_bytes()) {
            return Err(LineError::SameKey(same.key.name().to_owned(), "log"));
        }
        if self.logs.len() == LOGS_MAX {
            return Err(LineError::TooMany(LOGS_MAX, "logs"));
        }
        self.logs.push(PolicyLog { key, url });
        Ok(())
    }

    fn witness(&mut self, items: &[&[u8]]) -> Result<(), LineError> {
        let (name, key, url) = match items {
            [name, key] => (name, key, None),
            [name, key, url] => (name, key, Some(shown_whole(url))),
            _ => return Err(LineError::Form("witness <name> <vkey> [<url>]")),
        };
        let kinds = [Algorithm::Ed25519Cosignature, Algorithm::MlDsa44Cosignature];
        let key = parse_key(key, "witness", &kinds, "0x04 or 0x06")?;
        if let Some(same) = self.witnesses.iter().find(|other| other.key.key().as_bytes() == key.key().as_bytes()) {
            return Err(LineError::SameKey(same.name.clone(), "witness"));
        }
        if self.witnesses.len() == WITNESSES_MAX {
            return Err(LineError::TooMany(WITNESSES_MAX, "witnesses"));
        }
        self.define(name, Member::Witness(self.witnesses.len()))?;
        self.witnesses.push(PolicyWitness { name: shown_whole(name), key, url });
        Ok(())
    }

    fn group(&mut self, items: &[&[u8]]) -> Result<(), LineError> {
        let [name, threshold, members @ ..] = items else {
            return Err(LineError::Form("group <name> all|any|<k> <name>..."));
        };
        if members.is_empty() {
            return Err(LineError::Form("group <name> all|any|<k> <name>..."));
        }
        let bad = || LineError::Threshold { threshold: shown(threshold), members: members.len() };
        let threshold = match *threshold {
            b"any" => 1,
            b"all" => members.len(),
            number => std::str::from_utf8(number)
                .ok()
                .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|text| text.parse().ok())
                .filter(|k| (1..=members.len()).contains(k))
                .ok_or_else(bad)?,
        };
        let mut found = Vec::with_capacity(members.len());
        for member in members {
            found.push(*self.names.get(*member).ok_or_else(|| LineError::Unknown(shown(member)))?);
            // So each witness counts in one way only.
            if self.members.iter().any(|name| name == member) {
                return Err(LineError::Member(shown(member)));
            }
            self.members.push(member.to_vec());
        }
        if self.groups.len() == GROUPS_MAX {
            return Err(LineError::TooMany(GROUPS_MAX, "groups"));
        }
        self.define(name, Member::Group(self.groups.len()))?;
        self.groups.push(Group { threshold, members: found });
        Ok(())
    }

    fn quorum(&mut self, items: &[&[u8]]) -> Result<(), LineError> {
        let [name] = items else { return Err(LineError::Form("quorum <name>|none")) };
        if self.quorum.is_some() {
            return Err(LineError::SecondQuorum);
        }
        let quorum = match *name {
            NONE => None,
            name => Some(*self.names.get(name).ok_or_else(|| LineError::Unknown(shown(name)))?),
        };
        self.quorum = Some(quorum);
        Ok(())
    }

    fn define(&mut self, name: &[u8], member: Member) -> Result<(), LineError> {
        if name == NONE || self.names.contains_key(name) {
            return Err(LineError::Taken(shown(name)));
        }
        self.names.insert(name.to_vec(), member);
        Ok(())
    }
}

/// A name or a URL for people and for connecting; comparisons are made on the octets.
fn shown_whole(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

fn parse_key(
    octets: &[u8],
    who: &'static str,
    kinds: &[Algorithm],
    expected: &'static str,
) -> Result<VerifierKey, LineError> {
    let not_text = NoteError::Key { what: "verifier key", reason: "it is not UTF-8" };
    let text = std::str::from_utf8(octets).map_err(|_| LineError::Key(not_text))?;
    let key: VerifierKey = text.parse().map_err(LineError::Key)?;
    let kind = key.key().algorithm();
    if kinds.contains(&kind) { Ok(key) } else { Err(LineError::Kind { who, expected, actual: kind as u8 }) }
}

#[cfg(test)]
mod tests;
