//! Personal values of a finding become commitments: the values go into the vault beside the ledger, where they can be erased.
//!
//! A value's subject, by whose name its erasure is asked for, is the value itself: `cairn ledger erase LEDGER --subject alice@example.com`.
//! One that is too long for a name has its SHA-256 as name.
//!
//! The vault is opened when the first value needs it, and held from then on. An erasure that was interrupted is finished first: values that
//! come under one of its keys would go with it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cairn_ledger::vault::{SUBJECT_LEN_MAX, Vault, VaultError};
use cairn_ledger::writer::Ledger;
use cairn_schemas::commitment::{Disclosure, DisclosureError, KeyId, SALT_LEN};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::TreeSize;
use cairn_schemas::text::cut;
use cairn_schemas::time::Timestamp;
use serde_json::Value;

use super::finding::Finding;
use crate::control::{Control, ControlError};
use crate::random::Random;

/// How long the record of an erasure may take to be published.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest value at first; halved until it has a disclosure.
const VALUE_LEN_MAX: usize = 32_768;

/// Why values could not be hidden. No value is repeated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum HideError {
    /// The vault.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A value has no disclosure however short it is cut: a bug.
    #[error(transparent)]
    Disclosure(#[from] DisclosureError),
    /// An erasure could not be recorded.
    #[error("an interrupted erasure cannot be recorded")]
    Erasure(#[from] ControlError),
    /// Its record is not published yet.
    #[error("the record of an interrupted erasure is not published after {} s", PATIENCE.as_secs())]
    NotPublished,
}

/// The vault, once it is needed.
pub(super) struct Hiding {
    path: PathBuf,
    random: Arc<dyn Random>,
    vault: Option<Vault>,
}

impl Hiding {
    pub(super) fn new(path: PathBuf, random: Arc<dyn Random>) -> Hiding {
        Hiding { path, random, vault: None }
    }

    /// Puts commitments into findings. When this returns, what they stand for is durable, and nothing of it is in the findings.
    pub(super) fn hide(
        &mut self,
        findings: &mut [Finding],
        control: &Control,
        ledger: &Ledger,
        now: Timestamp,
    ) -> Result<(), HideError> {
        if findings.iter().all(|finding| finding.personal.is_empty()) {
            return Ok(());
        }
        let random = Arc::clone(&self.random);
        let vault = self.open(control, ledger)?;
        let mut kept: Vec<(KeyId, Disclosure)> = Vec::new();
        let mut places = Vec::new();
        for (number, finding) in findings.iter().enumerate() {
            for (field, value) in &finding.personal {
                let key = vault.key_for(&subject(value), None, now)?;
                let mut salt = [0; SALT_LEN];
                random.fill(&mut salt).map_err(VaultError::Random)?;
                let disclosure = disclosure(salt, field, value)?;
                places.push((number, field.clone(), disclosure.commitment(key).to_string()));
                kept.push((key, disclosure));
            }
        }
        vault.keep(&kept)?;
        for (number, field, commitment) in places {
            let finding = &mut findings[number];
            if let Some(Value::Object(personal)) = finding.draft.data.get_mut("personal") {
                personal.insert(field, Value::from(commitment));
            }
            finding.personal.clear();
        }
        Ok(())
    }

    fn open(&mut self, control: &Control, ledger: &Ledger) -> Result<&Vault, HideError> {
        if self.vault.is_none() {
            let vault = Vault::open(&self.path, Arc::clone(&self.random))?;
            for erasure in vault.pending()? {
                vault.destroy(&erasure)?;
                if ledger.foreign(&control.stream(), &erasure.foreignid()).is_none() {
                    control.append(vec![erasure.draft()])?;
                }
                control.sign_head(true)?;
                // Until a checkpoint covers the record, whoever reads the vault must see why values are gone.
                let end = ledger.end();
                if !ledger.wait_published_in(end.volume, TreeSize(end.index.0), PATIENCE) {
                    return Err(HideError::NotPublished);
                }
                vault.recorded(&erasure)?;
            }
            self.vault = Some(vault);
        }
        Ok(self.vault.as_ref().expect("invariant: it was opened above"))
    }
}

fn subject(value: &str) -> String {
    match value.len() {
        0 => "-".to_owned(),
        len if len <= SUBJECT_LEN_MAX => value.to_owned(),
        _ => Digest::sha256(value.as_bytes()).to_string(),
    }
}

/// A disclosure's name is the value's place in the record, as it is for whatever else is hidden.
fn disclosure(salt: [u8; SALT_LEN], field: &str, value: &str) -> Result<Disclosure, DisclosureError> {
    let name = format!("/personal/{}", field.replace('~', "~0").replace('/', "~1"));
    let mut len_max = VALUE_LEN_MAX;
    loop {
        match Disclosure::new(salt, &name, &Value::from(cut(value, len_max))) {
            Err(DisclosureError::TooLong { .. }) if len_max > 1 => len_max /= 2,
            made => return made,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_any_length_have_a_subject_and_a_disclosure() {
        assert_eq!(subject("alice"), "alice");
        assert_eq!(subject(&"a".repeat(SUBJECT_LEN_MAX)).len(), SUBJECT_LEN_MAX);
        assert_eq!(subject(&"a".repeat(SUBJECT_LEN_MAX + 1)).len(), 64);
        assert_eq!(subject(""), "-");
        let made = disclosure([0; SALT_LEN], "json.value[/a~b]", "alice").unwrap();
        assert_eq!((made.name(), made.value()), ("/personal/json.value[~1a~0b]", &Value::from("alice")));
        // Six bytes each in JSON, eight in base64url.
        assert!(disclosure([0; SALT_LEN], "f", &"\u{1}".repeat(1 << 20)).is_ok());
    }
}
