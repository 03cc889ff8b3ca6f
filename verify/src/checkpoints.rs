//! Checkpoints: the newest, those that were kept, and the one that an earlier report saw.

use cairn_ledger::checkpoint::{Checkpoint, CheckpointError};
use cairn_ledger::dir::{CHECKPOINT_FILE, numbered_path};
use cairn_ledger::note::{NOTE_LEN_MAX, Note};
use cairn_ledger::volume::parse_origin;
use cairn_schemas::ids::TreeSize;

use crate::checks::Past;
use crate::life::Windows;
use crate::report::{CheckpointReport, Fault, FaultKind, Found};
use crate::source::{Source, Unread};
use crate::tree::history::History;

/// The folder of checkpoints that were kept.
pub(crate) const NUMBERED_FOLDER: &str = "checkpoints";

/// A checkpoint as it lies there; its signature is not checked yet.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    pub(crate) file: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) note: Note,
}

impl Published {
    /// As it stands in a report.
    pub(crate) fn report(&self) -> CheckpointReport {
        let Checkpoint { origin, size, root } = &self.checkpoint;
        CheckpointReport { origin: origin.clone(), size: *size, root: *root }
    }
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

/// The signatures on a checkpoint, by the keys that they must be. Returns whether they hold.
pub(crate) fn check_signature(published: &Published, windows: &Windows, found: &mut Found) -> bool {
    let wrong = windows.check(&published.checkpoint, &published.note);
    let holds = wrong.is_none();
    if let Some(reason) = wrong {
        found.fault(Fault::new(FaultKind::CheckpointSignature, reason).file(&published.file));
    }
    holds
}

/// Every checkpoint that was kept: signed by the same key, of the same log, and of this history.
pub(crate) struct Retained<'a> {
    pub(crate) source: &'a Source,
    pub(crate) newest: &'a Published,
    pub(crate) windows: Option<&'a Windows>,
    /// Another volume went on from a smaller checkpoint than were signed: the larger ones are what is left of the rest.
    pub(crate) replaced: bool,
}

impl Retained<'_> {
    /// Returns those that hold, and how many were checked.
    pub(crate) fn check(&self, sizes: &[TreeSize], history: &mut History, found: &mut Found) -> (Vec<Published>, u64) {
        let (mut checked, mut hold) = (0, Vec::new());
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
                Ok(published) => {
                    if self.one(&published, size, history, found) {
                        hold.push(published);
                    }
                }
                Err(error) => found.fault(Fault::new(FaultKind::CheckpointMalformed, error.to_string()).file(&file)),
            }
            checked += 1;
        }
        (hold, checked)
    }

    /// Whether it is signed, and of this history.
    pub(crate) fn one(&self, published: &Published, size: TreeSize, history: &mut History, found: &mut Found) -> bool {
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
        if let Some(reason) = self.windows.and_then(|windows| windows.check(checkpoint, &published.note)) {
            fault(FaultKind::CheckpointSignature, reason);
            return false;
        }
        if checkpoint.size > newest.size && self.replaced {
            return false;
        }
        if checkpoint.size > newest.size {
            let reason = format!(
                "a checkpoint of {} records was signed; {} has {}: it was rolled back",
                checkpoint.size, self.newest.file, newest.size
            );
            fault(FaultKind::CheckpointRolledBack, reason);
            return false;
        }
        match history.root(checkpoint.size, self.source) {
            Some(root) if root != checkpoint.root => {
                let reason =
                    format!("its root is {}; the first {} records have {root}", checkpoint.root, checkpoint.size);
                fault(FaultKind::RetainedWrong, reason);
                false
            }
            root => root.is_some() && checkpoint.origin == newest.origin,
        }
    }
}

/// What an earlier report saw must be the beginning of what is here. `volumes`: all that are here.
pub(crate) fn check_since(earlier: &CheckpointReport, newest: &Published, volumes: &mut [Past<'_>], found: &mut Found) {
    let here = volumes.iter_mut().find(|volume| volume.origin == earlier.origin);
    let wrong = match here {
        None => {
            let name = |origin: &str| parse_origin(origin).map(|(name, number)| (name.to_owned(), number));
            let dropped = match (name(&earlier.origin), name(&newest.checkpoint.origin)) {
                (Some((name, number)), Some((here, _))) => {
                    name == here && volumes.first().is_some_and(|first| number < first.volume)
                }
                _ => false,
            };
            let reason = format!("it was of {:?}; this is {:?}", earlier.origin, newest.checkpoint.origin);
            (!dropped).then_some((FaultKind::SinceWrong, reason))
        }
        Some(volume) if earlier.size > volume.size => {
            let reason =
                format!("it saw {} records; here are {}: the ledger was rolled back", earlier.size, volume.size);
            Some((FaultKind::CheckpointRolledBack, reason))
        }
        Some(volume) => {
            volume.history.root(earlier.size, volume.source).filter(|root| *root != earlier.root).map(|root| {
                let reason = format!(
                    "it saw root {} over {} records; the first {} here have {root}",
                    earlier.root, earlier.size, earlier.size
                );
                (FaultKind::SinceWrong, reason)
            })
        }
    };
    if let Some((kind, reason)) = wrong {
        found
            .fault(Fault::new(kind, format!("the earlier report saw another history: {reason}")).file(CHECKPOINT_FILE));
    }
}
