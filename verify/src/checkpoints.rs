//! Checkpoints: the newest, those that were kept, and the one that an earlier report saw.

use cairn_ledger::checkpoint::{Checkpoint, CheckpointError};
use cairn_ledger::dir::{CHECKPOINT_FILE, numbered_path};
use cairn_ledger::note::{NOTE_LEN_MAX, Note, VerifierKey};
use cairn_schemas::ids::TreeSize;

use crate::report::{CheckpointReport, Fault, FaultKind, Found};
use crate::source::{Source, Unread};
use crate::tree::history::History;

/// The folder of checkpoints that were kept.
pub(crate) const NUMBERED_FOLDER: &str = "checkpoints";

/// A checkpoint as it lies there; its signature is not checked yet.
pub(crate) struct Published {
    pub(crate) file: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) note: Note,
}

/// Reads `checkpoint`'s bytes.
pub(crate) fn read(source: &Source, file: &str) -> Result<Vec<u8>, Unread> {
    source.read(file, NOTE_LEN_MAX as u64)
}

/// Takes a checkpoint apart.
pub(crate) fn parse(file: &str, bytes: Vec<u8>) -> Result<Published, CheckpointError> {
    let (checkpoint, note) = Checkpoint::parse(&bytes)?;
    Ok(Published { file: file.to_owned(), bytes, checkpoint, note })
}

/// The sizes for which a checkpoint was kept, rising, and other names in that folder.
pub(crate) fn numbered(source: &Source) -> std::io::Result<(Vec<TreeSize>, Vec<String>)> {
    let (mut sizes, mut other) = (Vec::new(), Vec::new());
    for (name, _) in source.list(NUMBERED_FOLDER)? {
        match name.parse::<u64>().ok().filter(|size| size.to_string() == name) {
            Some(size) => sizes.push(TreeSize(size)),
            None => other.push(format!("{NUMBERED_FOLDER}/{name}")),
        }
    }
    sizes.sort_unstable();
    Ok((sizes, other))
}

/// The newest checkpoint that was kept and can be read: what is left to compare with when `checkpoint` itself cannot be.
pub(crate) fn newest_numbered(source: &Source) -> Option<Published> {
    let (sizes, _) = numbered(source).ok()?;
    sizes.iter().rev().find_map(|size| {
        let file = numbered_path(*size);
        parse(&file, read(source, &file).ok()?).ok()
    })
}

/// The signature on a checkpoint, by the key that it must be.
pub(crate) fn check_signature(published: &Published, key: &VerifierKey, found: &mut Found) {
    if let Err(error) = published.note.verify(std::slice::from_ref(key)) {
        found.fault(Fault::new(FaultKind::CheckpointSignature, error.to_string()).file(&published.file));
    }
}

/// Every checkpoint that was kept: signed by the same key, of the same log, and of this history.
pub(crate) struct Retained<'a> {
    pub(crate) source: &'a Source,
    pub(crate) newest: &'a Published,
    pub(crate) key: Option<&'a VerifierKey>,
}

impl Retained<'_> {
    /// Returns how many were checked.
    pub(crate) fn check(&self, sizes: &[TreeSize], history: &mut History, found: &mut Found) -> u64 {
        let mut checked = 0;
        for &size in sizes {
            let file = numbered_path(size);
            let bytes = match read(self.source, &file) {
                Ok(bytes) => bytes,
                // Thinned out since it was listed.
                Err(Unread::Missing) => continue,
                Err(unread) => {
                    let kind = if unread.is_unknown() { FaultKind::Unreadable } else { FaultKind::CheckpointMalformed };
                    found.fault(Fault::new(kind, unread.to_string()).file(&file));
                    continue;
                }
            };
            match parse(&file, bytes) {
                Ok(published) => self.one(&published, size, history, found),
                Err(error) => found.fault(Fault::new(FaultKind::CheckpointMalformed, error.to_string()).file(&file)),
            }
            checked += 1;
        }
        checked
    }

    fn one(&self, published: &Published, size: TreeSize, history: &mut History, found: &mut Found) {
        let (checkpoint, newest) = (&published.checkpoint, &self.newest.checkpoint);
        let mut fault = |kind, reason: String| found.fault(Fault::new(kind, reason).file(&published.file));
        if checkpoint.origin != newest.origin {
            let reason = format!("it is of {:?}; the newest is of {:?}", checkpoint.origin, newest.origin);
            fault(FaultKind::CheckpointOrigin, reason);
        }
        if checkpoint.size != size {
            let reason = format!("it is of {} records; its name says {size}", checkpoint.size);
            fault(FaultKind::CheckpointMalformed, reason);
        }
        if let Some(key) = self.key
            && let Err(error) = published.note.verify(std::slice::from_ref(key))
        {
            return fault(FaultKind::CheckpointSignature, error.to_string());
        }
        if checkpoint.size > newest.size {
            let reason = format!(
                "a checkpoint of {} records was signed; {} has {}: it was rolled back",
                checkpoint.size, self.newest.file, newest.size
            );
            return fault(FaultKind::CheckpointRolledBack, reason);
        }
        if let Some(root) = history.root(checkpoint.size, self.source)
            && root != checkpoint.root
        {
            let reason = format!("its root is {}; the first {} records have {root}", checkpoint.root, checkpoint.size);
            fault(FaultKind::RetainedWrong, reason);
        }
    }
}

/// What an earlier report saw must be the beginning of what is here.
pub(crate) fn check_since(
    earlier: &CheckpointReport,
    newest: &Published,
    source: &Source,
    history: &mut History,
    found: &mut Found,
) {
    let checkpoint = &newest.checkpoint;
    let wrong = if earlier.origin != checkpoint.origin {
        Some((FaultKind::SinceWrong, format!("it was of {:?}; this is {:?}", earlier.origin, checkpoint.origin)))
    } else if earlier.size > checkpoint.size {
        let reason =
            format!("it saw {} records; here are {}: the ledger was rolled back", earlier.size, checkpoint.size);
        Some((FaultKind::CheckpointRolledBack, reason))
    } else {
        history.root(earlier.size, source).filter(|root| *root != earlier.root).map(|root| {
            let reason = format!(
                "it saw root {} over {} records; the first {} here have {root}",
                earlier.root, earlier.size, earlier.size
            );
            (FaultKind::SinceWrong, reason)
        })
    };
    if let Some((kind, reason)) = wrong {
        found
            .fault(Fault::new(kind, format!("the earlier report saw another history: {reason}")).file(CHECKPOINT_FILE));
    }
}
