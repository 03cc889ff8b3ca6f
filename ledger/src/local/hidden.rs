//! What lines mark as personal, and files that become blobs: taken out of a payload before its record is sealed.

use std::borrow::Cow;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use cairn_schemas::commitment::Commitment;
use cairn_schemas::record::Draft;
use cairn_schemas::references::BlobReference;
use cairn_schemas::time::Timestamp;
use serde_json::Value;

use super::line::{Line, LineFault};
use super::{LocalError, LocalLedger};
use crate::blob;
use crate::files::DiskError;
use crate::vault::{BlobPath, PersonalPath, SealPersonalError, SealedPersonal, Vault, VaultError};

/// How lines of one input hide things. The vault is opened, and made, when the first line needs it.
#[derive(Debug)]
pub struct Hiding<'l> {
    ledger: &'l LocalLedger,
    path: PathBuf,
    /// Files of blobs lie below this folder; without one, no line may have any. Lines may come from anywhere, and a line must not be able
    /// to take any file of this machine into the ledger.
    pub blobs: Option<PathBuf>,
    /// How long values are kept; `None`: until somebody asks for their erasure.
    pub retain: Option<Duration>,
    vault: Option<Vault>,
}

impl<'l> Hiding<'l> {
    /// For lines into the ledger, whose vault is the one beside `path`. Where it has a vault, interrupted erasures are finished first.
    ///
    /// # Errors
    /// [`LocalError::Vault`], or the ledger does not take a record of an erasure.
    pub fn new(ledger: &'l LocalLedger, path: &Path) -> Result<Hiding<'l>, LocalError> {
        let mut hiding = Hiding { ledger, path: path.to_owned(), blobs: None, retain: None, vault: None };
        if ledger.has_vault(path)? {
            hiding.vault()?;
        }
        Ok(hiding)
    }

    pub(super) fn vault(&mut self) -> Result<&Vault, LocalError> {
        if self.vault.is_none() {
            let vault = self.ledger.vault(&self.path)?;
            self.ledger.finish_erasures(&vault)?;
            self.vault = Some(vault);
        }
        Ok(self.vault.as_ref().expect("invariant: it was opened above"))
    }

    /// Takes a line's personal values out of its draft and puts references to its blobs there. Blobs and keys are durable then; the
    /// disclosures are the caller's to keep before it appends the record.
    pub(super) fn hide(
        &mut self,
        draft: &mut Draft,
        personal: &[PersonalPath],
        blobs: &[BlobPath],
        now: Timestamp,
    ) -> Result<Result<SealedPersonal, LineFault>, LocalError> {
        let mut files = Vec::with_capacity(blobs.len());
        for (number, blob) in blobs.iter().enumerate() {
            match self.file(&blob.file) {
                Ok(file) => files.push(BlobPath { file, ..blob.clone() }),
                Err(reason) => return Ok(Err(LineFault::new(format!("/blobs/{number}/file"), reason))),
            }
        }
        let (ledger, retain) = (self.ledger.ledger(), self.retain);
        let put = |reference: &BlobReference, file: Vec<u8>| {
            let path = blob::path(&reference.digest);
            ledger.put_file(&path, file).map_err(DiskError::of("write", Path::new(&path)))
        };
        let hidden = self.vault()?.hide(put, &mut draft.data, personal, &files, retain, now);
        Ok(match hidden {
            Ok(disclosures) => Ok(disclosures),
            Err(SealPersonalError::Key { source, .. } | SealPersonalError::Keep(source))
                if !matches!(source, VaultError::Subject { .. } | VaultError::Blob(_)) =>
            {
                return Err(source.into());
            }
            Err(SealPersonalError::Random(source)) => return Err(LocalError::Random(source)),
            Err(error) => {
                let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
                Err(LineFault::new("", format!("{error}{cause}")))
            }
        })
    }

    fn file(&self, file: &Path) -> Result<PathBuf, String> {
        let Some(folder) = &self.blobs else {
            return Err("no folder was named that files may be taken from: give one with --blobs".to_owned());
        };
        if file.components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(format!("{} is not a path below the folder of --blobs", file.display()));
        }
        Ok(folder.join(file))
    }

    /// Whether a record that is in the ledger already is what this line says: all that is in the clear is the same, and so is every value
    /// that the vault can still open. Of blobs, only that there is one is compared.
    pub(super) fn is_same(&mut self, recorded: &Value, line: &Line) -> Result<bool, LocalError> {
        let Line { draft, personal, blobs } = line;
        if personal.is_empty() && blobs.is_empty() {
            return Ok(*recorded == draft.data);
        }
        let clear = |data: &Value| {
            let paths = personal.iter().map(|value| &value.path).chain(blobs.iter().map(|blob| &blob.path));
            masked(data, paths.map(String::as_str)).into_owned()
        };
        if clear(recorded) != clear(&draft.data) {
            return Ok(false);
        }
        for PersonalPath { path, .. } in personal {
            let commitment = recorded.pointer(path).and_then(Value::as_str).and_then(|text| text.parse().ok());
            let Some(commitment): Option<Commitment> = commitment else { return Ok(false) };
            match self.vault()?.disclosure(&commitment) {
                Ok(disclosure) if Some(disclosure.value()) != draft.data.pointer(path) => return Ok(false),
                // Erased since: nobody can compare any more, and nobody may.
                Ok(_) | Err(VaultError::NoKey { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}

/// A payload without what stands at some paths.
pub(super) fn masked<'d, 'p>(data: &'d Value, paths: impl Iterator<Item = &'p str>) -> Cow<'d, Value> {
    let mut data = Cow::Borrowed(data);
    for path in paths {
        let Some((parent, name)) = path.rsplit_once('/') else { continue };
        let name = name.replace("~1", "/").replace("~0", "~");
        match data.to_mut().pointer_mut(parent) {
            Some(Value::Object(members)) => drop(members.remove(&name)),
            // In a list the place stays, or the ones behind it would move.
            Some(Value::Array(items)) => {
                if let Some(item) = name.parse().ok().and_then(|number: usize| items.get_mut(number)) {
                    *item = Value::Null;
                }
            }
            _ => {}
        }
    }
    data
}
