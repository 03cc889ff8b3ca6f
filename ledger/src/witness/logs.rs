//! The logs that a witness cosigns for: an origin, and the keys that speak for it.

use std::str::FromStr;

use thiserror::Error;

use crate::note::{Algorithm, NoteError, VerifierKey};

/// Most logs and ledgers of one witness.
pub const KNOWN_LOGS_MAX: usize = 1_024;
/// The highest volume of a ledger that a witness takes on: whoever holds the ledger's key cannot fill the witness's disk.
pub const VOLUME_MAX: u64 = 9_999;

/// A log's key, or a ledger's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownLog {
    key: VerifierKey,
    /// The ledger's name where every volume of it is known by this key.
    ledger: Option<String>,
}

/// Why a key is not one of a log.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KnownLogError {
    /// Not a vkey.
    #[error("{0}")]
    Key(#[from] NoteError),
    /// A cosigner's Ed25519 key.
    #[error("a log has a key of type 0x01 or 0x06; {name}'s is a witness's")]
    Kind {
        /// The key's name.
        name: String,
    },
    /// Not `<ledger name>/<volume>`.
    #[error("a ledger's key has the name <ledger>/<volume>, and this has {name:?}")]
    NotAVolume {
        /// The key's name.
        name: String,
    },
    /// Not a line of a list of logs.
    #[error("line {line}: expected `log <vkey>` or `ledger <vkey>`")]
    Line {
        /// Which line, from 1.
        line: usize,
    },
    /// A line of the list is one, and its key is none.
    #[error("line {line}: {reason}")]
    InLine {
        /// Which line, from 1.
        line: usize,
        /// What is wrong with its key.
        reason: Box<KnownLogError>,
    },
    /// More than [`KNOWN_LOGS_MAX`].
    #[error("a witness cosigns for at most {KNOWN_LOGS_MAX} logs")]
    TooMany,
}

impl KnownLog {
    /// One log: its origin is the key's name.
    ///
    /// # Errors
    /// [`KnownLogError`].
    pub fn log(vkey: &str) -> Result<KnownLog, KnownLogError> {
        let key = VerifierKey::from_str(vkey)?;
        if key.key().algorithm() == Algorithm::Ed25519Cosignature {
            return Err(KnownLogError::Kind { name: key.name().to_owned() });
        }
        Ok(KnownLog { key, ledger: None })
    }

    /// A ledger with volumes, by the key of any one of them: every volume `<name>/<n>` is known as long as it is signed by the same
    /// public key. A volume with another key is one more [`KnownLog`].
    ///
    /// # Errors
    /// [`KnownLogError`].
    pub fn ledger(vkey: &str) -> Result<KnownLog, KnownLogError> {
        let KnownLog { key, .. } = KnownLog::log(vkey)?;
        let name = split_volume(key.name()).map(|(name, _)| name.to_owned());
        let ledger = name.ok_or_else(|| KnownLogError::NotAVolume { name: key.name().to_owned() })?;
        Ok(KnownLog { key, ledger: Some(ledger) })
    }

    /// What it is for: an origin, or `<name>/<n>` for every volume.
    #[must_use]
    pub fn origin(&self) -> String {
        self.ledger.as_ref().map_or_else(|| self.key.name().to_owned(), |ledger| format!("{ledger}/<n>"))
    }

    /// The key with which it would sign as `origin`.
    fn key_of(&self, origin: &str) -> Option<VerifierKey> {
        if self.key.name() == origin {
            return Some(self.key.clone());
        }
        let (name, volume) = split_volume(origin)?;
        let ledger = self.ledger.as_deref()?;
        if name != ledger || volume > VOLUME_MAX {
            return None;
        }
        VerifierKey::with_key(origin, self.key.key().clone()).ok()
    }
}

/// `<ledger name>/<volume>`, the volume from 1, without leading zeros.
fn split_volume(origin: &str) -> Option<(&str, u64)> {
    let (name, volume) = origin.rsplit_once('/')?;
    let number: u64 = volume.parse().ok()?;
    (!name.is_empty() && number > 0 && number.to_string() == volume).then_some((name, number))
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub struct KnownLogs(Vec<KnownLog>);

impl KnownLogs {
    /// Nobody's.
    #[must_use]
    pub fn new() -> KnownLogs {
        KnownLogs::default()
    }

    /// Adds one. The same one twice is one; another key of a log is one more key that speaks for it.
    ///
    /// # Errors
    /// [`KnownLogError::TooMany`].
    pub fn add(&mut self, log: KnownLog) -> Result<(), KnownLogError> {
        if self.0.contains(&log) {
            return Ok(());
        }
        if self.0.len() == KNOWN_LOGS_MAX {
            return Err(KnownLogError::TooMany);
        }
        self.0.push(log);
        Ok(())
    }

    /// Adds those of a list: lines `log <vkey>` or `ledger <vkey>`, and comments that start with `#`.
    ///
    /// # Errors
    /// [`KnownLogError`], with the line.
    pub fn add_list(&mut self, text: &str) -> Result<(), KnownLogError> {
        for (line, items) in (1..).zip(text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>())) {
            let log = match items[..] {
                [] => continue,
                [word, ..] if word.starts_with('#') => continue,
                ["log", vkey] => KnownLog::log(vkey),
                ["ledger", vkey] => KnownLog::ledger(vkey),
                _ => return Err(KnownLogError::Line { line }),
            };
            self.add(log.map_err(|reason| KnownLogError::InLine { line, reason: Box::new(reason) })?)?;
        }
        Ok(())
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &KnownLog> {
        self.0.iter()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys that speak for a log; none: it is unknown.
    #[must_use]
    pub fn keys_of(&self, origin: &str) -> Vec<VerifierKey> {
        self.0.iter().filter_map(|log| log.key_of(origin)).collect()
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::cosignature::CosignatureSigner;
    use crate::note::NoteSigner;

    fn vkey(name: &str) -> String {
        NoteSigner::new(name, SigningKey::from_bytes(&[1; 32])).unwrap().verifier().to_string()
    }

    #[test]
    fn a_ledger_is_known_by_every_volume_and_a_log_by_its_origin() {
        let mut logs = KnownLogs::new();
        logs.add_list(&format!("# ours\nledger {}\n\nlog {}\n", vkey("acme/cairn/3"), vkey("other.example"))).unwrap();
        let origins: Vec<String> = logs.iter().map(KnownLog::origin).collect();
        assert_eq!(origins, ["acme/cairn/<n>", "other.example"]);
        for known in ["acme/cairn/1", "acme/cairn/3", "acme/cairn/9999", "other.example"] {
            assert_eq!(logs.keys_of(known)[0].to_string(), vkey(known));
        }
        let unknown = [
            "acme/cairn/0",
            "acme/cairn/01",
            "acme/cairn/10000",
            "acme/cairn",
            "acme/cairn/1/1",
            "acme/cairn/x",
            "other.example/1",
            "",
        ];
        for unknown in unknown {
            assert_eq!(logs.keys_of(unknown), [], "{unknown}");
        }
        logs.add(KnownLog::log(&vkey("other.example")).unwrap()).unwrap();
        assert_eq!(logs.iter().count(), 2, "the same one twice is one");
    }

    #[test]
    fn what_is_no_logs_key_is_refused() {
        let witness = CosignatureSigner::ed25519("w", SigningKey::from_bytes(&[2; 32])).unwrap();
        let witness = witness.verifier().to_string();
        let refused = |text: &str| KnownLogs::new().add_list(text).unwrap_err().to_string();
        assert_eq!(
            refused(&format!("\nlog {witness}")),
            "line 2: a log has a key of type 0x01 or 0x06; w's is a witness's"
        );
        let text = format!("ledger {}", vkey("acme"));
        assert_eq!(refused(&text), "line 1: a ledger's key has the name <ledger>/<volume>, and this has \"acme\"");
        assert_eq!(refused("log"), "line 1: expected `log <vkey>` or `ledger <vkey>`");
        assert_eq!(refused("log a b"), "line 1: expected `log <vkey>` or `ledger <vkey>`");
        assert!(refused("log a").starts_with("line 1: this is not the text of a verifier key"));
    }

    #[test]
    fn as_many_as_the_limit_and_one_more() {
        let mut logs = KnownLogs::new();
        for number in 0..KNOWN_LOGS_MAX {
            logs.add(KnownLog::log(&vkey(&format!("log{number}"))).unwrap()).unwrap();
        }
        assert_eq!(logs.add(KnownLog::log(&vkey("more")).unwrap()), Err(KnownLogError::TooMany));
    }
}
