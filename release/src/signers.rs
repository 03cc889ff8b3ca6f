//! Who signed a commit, and whether they may: OpenSSH's `allowed_signers` lines against the SSH signature on a raw commit.
//!
//! The list comes from the reader's own pins, never from the repo. PGP and X.509 signatures cannot be checked here and are
//! refused by name rather than taken for none.

use cairn_schemas::fleet::SignersConfig;
use thiserror::Error;

use crate::gitobj::Commit;
use crate::sshsig::{GIT_NAMESPACE, SshError, SshKey, SshSignature};

/// Most lines of a signers' list.
pub const SIGNERS_MAX: usize = 10_000;

/// Why a signers' list is not one. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SignersError {
    /// More than [`SIGNERS_MAX`].
    #[error("{count} allowed signers, more than {SIGNERS_MAX}")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// No line names a key: nobody could sign, which is never what was meant.
    #[error("the list of allowed signers is empty: name at least one, or allow unsigned commits")]
    Empty,
    /// Not `principals [options] key-type key [comment]`.
    #[error("allowed signers, line {line}: {reason}")]
    Line {
        /// Which.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The key of a line.
    #[error("allowed signers, line {line}: {source}")]
    Key {
        /// Which.
        line: usize,
        /// What is wrong with it.
        source: SshError,
    },
}

/// One line: a key, and whom it stands for when.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Signer {
    principals: String,
    key: SshKey,
    /// Seconds since the epoch, inclusive.
    valid_after: Option<u64>,
    /// Seconds since the epoch, inclusive.
    valid_before: Option<u64>,
    /// Patterns; `None` is any.
    namespaces: Option<String>,
}

/// The keys whose signature on a commit counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedSigners(Vec<Signer>);

/// What a reader of releases demands of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignerPolicy {
    /// Any commit is taken; what it carries is reported. `cairn up` sets this, and nothing else does unless told.
    UnsignedAllowed,
    /// A valid signature by one of these.
    AllowedSigners(AllowedSigners),
}

/// What is known about the signature of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Signature {
    /// It carries none.
    None,
    /// By a listed key.
    Listed {
        /// The key's fingerprint, as OpenSSH prints it.
        key: String,
        /// The principals of its line, as they stand there.
        principal: String,
    },
    /// It is valid, by a key that no list names. Only under [`SignerPolicy::UnsignedAllowed`].
    Unlisted {
        /// The key's fingerprint.
        key: String,
    },
    /// It is there and cannot be believed. Only under [`SignerPolicy::UnsignedAllowed`].
    Unusable {
        /// Why.
        reason: String,
    },
}

/// Why a commit's signature does not satisfy a [`SignerPolicy`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// No signature where one is demanded.
    #[error("the commit is not signed, and only commits by an allowed signer are taken")]
    Unsigned,
    /// Another kind of signature.
    #[error(
        "the commit carries a {kind} signature, which is not supported: sign with an SSH key (git config gpg.format ssh)"
    )]
    UnsupportedKind {
        /// `PGP`, `X.509` or `unknown`.
        kind: &'static str,
    },
    /// A malformed or wrong SSH signature.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// Valid, by a key that is not listed.
    #[error("the commit is signed by {key}, which is not an allowed signer")]
    NotAllowed {
        /// The key's fingerprint.
        key: String,
    },
    /// Valid, by a listed key outside its time.
    #[error("the commit is signed by {key} ({principal}), which was not an allowed signer at the commit's time")]
    OutsideValidity {
        /// The key's fingerprint.
        key: String,
        /// The principals of its line.
        principal: String,
    },
}

impl SignerPolicy {
    /// From a fleet's or a node's pinned configuration.
    ///
    /// # Errors
    /// [`SignersError`]: the line that cannot be read. A list that cannot be read whole is not used in part.
    pub fn from_config(config: &SignersConfig) -> Result<SignerPolicy, SignersError> {
        match config {
            SignersConfig::UnsignedAllowed => Ok(SignerPolicy::UnsignedAllowed),
            SignersConfig::AllowedSigners(lines) => {
                AllowedSigners::parse(lines.iter().map(String::as_str)).map(SignerPolicy::AllowedSigners)
            }
        }
    }

    /// Checks the signature of a commit.
    ///
    /// # Errors
    /// [`SignatureError`]; never under [`SignerPolicy::UnsignedAllowed`].
    pub fn check(&self, commit: &Commit) -> Result<Signature, SignatureError> {
        match (self, verified_key(commit)) {
            (SignerPolicy::UnsignedAllowed, Ok(Some(key))) => Ok(Signature::Unlisted { key: key.fingerprint() }),
            (SignerPolicy::UnsignedAllowed, Ok(None)) => Ok(Signature::None),
            (SignerPolicy::UnsignedAllowed, Err(error)) => Ok(Signature::Unusable { reason: error.to_string() }),
            (SignerPolicy::AllowedSigners(signers), Ok(Some(key))) => signers.find(&key, commit.committer.seconds),
            (SignerPolicy::AllowedSigners(_), Ok(None)) => Err(SignatureError::Unsigned),
            (SignerPolicy::AllowedSigners(_), Err(error)) => Err(error),
        }
    }
}

/// The key that provably signed the commit; `None` when it carries no signature.
fn verified_key(commit: &Commit) -> Result<Option<SshKey>, SignatureError> {
    let Some(carried) = &commit.signature else { return Ok(None) };
    let kind = [("-----BEGIN PGP ", "PGP"), ("-----BEGIN SIGNED MESSAGE-----", "X.509")];
    if let Some((_, kind)) = kind.iter().find(|(start, _)| carried.armour.starts_with(start.as_bytes())) {
        return Err(SignatureError::UnsupportedKind { kind });
    }
    if !carried.armour.starts_with(b"-----BEGIN SSH SIGNATURE-----") {
        return Err(SignatureError::UnsupportedKind { kind: "unknown" });
    }
    let signature = SshSignature::parse(&carried.armour)?;
    signature.verify(&carried.payload)?;
    Ok(Some(signature.key))
}

impl AllowedSigners {
    /// Reads the lines of an `allowed_signers` file; blank lines and those that begin with `#` are skipped. Times without `Z`
    /// are read as UTC, where OpenSSH takes the local zone: a list must mean the same on every node.
    ///
    /// # Errors
    /// [`SignersError`]: the first line that cannot be read.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<AllowedSigners, SignersError> {
        let mut signers = Vec::new();
        for (position, text) in lines.into_iter().enumerate() {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            signers.push(parse_line(position + 1, text)?);
            if signers.len() > SIGNERS_MAX {
                return Err(SignersError::TooMany { count: signers.len() });
            }
        }
        if signers.is_empty() { Err(SignersError::Empty) } else { Ok(AllowedSigners(signers)) }
    }

    fn find(&self, key: &SshKey, seconds: u64) -> Result<Signature, SignatureError> {
        let listed: Vec<&Signer> =
            self.0.iter().filter(|signer| signer.key == *key && signer.may_sign_commits()).collect();
        let fingerprint = key.fingerprint();
        // Git's rule: the commit's own committer time decides. A stolen key can lie about it, so a key that leaked is removed
        // from the list, not given an end.
        match (listed.iter().find(|signer| signer.is_valid_at(seconds)), listed.first()) {
            (Some(signer), _) => Ok(Signature::Listed { key: fingerprint, principal: signer.principals.clone() }),
            (None, Some(signer)) => {
                Err(SignatureError::OutsideValidity { key: fingerprint, principal: signer.principals.clone() })
            }
            (None, None) => Err(SignatureError::NotAllowed { key: fingerprint }),
        }
    }
}

impl Signer {
    fn is_valid_at(&self, seconds: u64) -> bool {
        self.valid_after.is_none_or(|after| seconds >= after)
            && self.valid_before.is_none_or(|before| seconds <= before)
    }

    /// A list of patterns: one must match and no negated one may.
    fn may_sign_commits(&self) -> bool {
        let Some(patterns) = &self.namespaces else { return true };
        let matches = |pattern: &str| matches_pattern(pattern.as_bytes(), GIT_NAMESPACE.as_bytes());
        let mut allowed = false;
        for pattern in patterns.split(',').map(str::trim) {
            match pattern.strip_prefix('!') {
                Some(negated) if matches(negated) => return false,
                Some(_) => {}
                None => allowed |= matches(pattern),
            }
        }
        allowed
    }
}

/// OpenSSH's patterns: `*` and `?`.
fn matches_pattern(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            matches_pattern(rest, text) || text.split_first().is_some_and(|(_, after)| matches_pattern(pattern, after))
        }
        (Some((b'?', rest)), Some((_, after))) => matches_pattern(rest, after),
        (Some((wanted, rest)), Some((found, after))) => wanted == found && matches_pattern(rest, after),
        _ => false,
    }
}

fn parse_line(line: usize, text: &str) -> Result<Signer, SignersError> {
    let refuse = |reason: String| SignersError::Line { line, reason };
    let words = split_words(text).ok_or_else(|| refuse("a quote is not closed".to_owned()))?;
    let mut words = words.into_iter();
    let principals = words.next().ok_or_else(|| refuse("it is empty".to_owned()))?.replace('"', "");
    let mut word = words.next().ok_or_else(|| refuse("it has no key".to_owned()))?;
    let (mut valid_after, mut valid_before, mut namespaces) = (None, None, None);
    if !is_key_type(word) {
        for option in split_options(word) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let value = value.trim_matches('"');
            match name.to_ascii_lowercase().as_str() {
                "namespaces" => namespaces = Some(value.to_owned()),
                "valid-after" => valid_after = Some(parse_time(value).ok_or_else(|| bad_time(line, value))?),
                "valid-before" => valid_before = Some(parse_time(value).ok_or_else(|| bad_time(line, value))?),
                "cert-authority" => return Err(refuse("certificates are not supported: list the keys".to_owned())),
                _ => return Err(refuse(format!("`{}` is neither an option nor a key type", name.escape_debug()))),
            }
        }
        word = words.next().ok_or_else(|| refuse("it has no key".to_owned()))?;
    }
    let base64 = words.next().ok_or_else(|| refuse("it has no key after the key type".to_owned()))?;
    let key = SshKey::from_words(word, base64).map_err(|source| SignersError::Key { line, source })?;
    Ok(Signer { principals, key, valid_after, valid_before, namespaces })
}

fn bad_time(line: usize, value: &str) -> SignersError {
    let reason = format!("`{}` is not a time: YYYYMMDD or YYYYMMDDHHMM[SS], with or without Z", value.escape_debug());
    SignersError::Line { line, reason }
}

fn is_key_type(word: &str) -> bool {
    ["ssh-", "ecdsa-", "sk-"].iter().any(|start| word.starts_with(start))
}

/// Splits at spaces and tabs outside quotes; `None` when a quote stays open.
fn split_words(text: &str) -> Option<Vec<&str>> {
    split_outside_quotes(text, |character| character == ' ' || character == '\t')
}

fn split_options(text: &str) -> Vec<&str> {
    split_outside_quotes(text, |character| character == ',').unwrap_or_default()
}

fn split_outside_quotes(text: &str, is_separator: fn(char) -> bool) -> Option<Vec<&str>> {
    let (mut words, mut start, mut quoted) = (Vec::new(), 0, false);
    for (at, character) in text.char_indices() {
        if character == '"' {
            quoted = !quoted;
        } else if is_separator(character) && !quoted {
            words.push(&text[start..at]);
            start = at + 1;
        }
    }
    words.push(&text[start..]);
    (!quoted).then(|| words.into_iter().filter(|word| !word.is_empty()).collect())
}

/// `YYYYMMDD`, `YYYYMMDDHHMM` or `YYYYMMDDHHMMSS`, as seconds since the epoch.
fn parse_time(text: &str) -> Option<u64> {
    let digits = text.strip_suffix('Z').unwrap_or(text);
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || !matches!(digits.len(), 8 | 12 | 14) {
        return None;
    }
    let part = |from: usize, len: usize| digits.get(from..from + len).map_or(Some(0), |text| text.parse::<u64>().ok());
    let (year, month, day) = (part(0, 4)?, part(4, 2)?, part(6, 2)?);
    let (hour, minute, second) = (part(8, 2)?, part(10, 2)?, part(12, 2)?);
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let february = if is_leap(year) { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let month_index = usize::try_from(month.checked_sub(1)?).ok()?;
    if year < 1970 || day == 0 || day > *months.get(month_index)? || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let before_year = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum::<u64>();
    let days = before_year + months[..month_index].iter().sum::<u64>() + day - 1;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests;
