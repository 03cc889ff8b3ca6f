//! Checks over records, in the order of the ledger.
//!
//! [`streams::Streams`] goes first: it says in whose name a record stands, and only a record that may stand there is shown to the
//! others. A check keeps a state of its own, gets every such record once, and says at the end what is still open; a new record
//! type that has rules of its own gets a check of its own, added to [`Checks`].

pub(crate) mod containment;
pub(crate) mod foreignids;
pub(crate) mod privacy;
pub(crate) mod provenance;
pub(crate) mod streams;

use std::collections::BTreeMap;

use cairn_ledger::note::VerifierKey;
use cairn_schemas::data::LedgerOpened;
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{NodeId, RecordIndex, TreeSize};
use cairn_schemas::types::Role;

use crate::facts::Facts;
use crate::life::Windows;
use crate::report::{Fault, FaultKind, Found};
use crate::source::Source;
use crate::tree::history::History;
use crate::witnessed::Bounds;
use containment::Containment;
use privacy::Privacy;
use provenance::Provenance;
use streams::Streams;

/// A record with its place.
pub(crate) struct Entry<'a> {
    pub(crate) index: RecordIndex,
    pub(crate) leaf: Digest,
    pub(crate) facts: &'a Facts,
}

impl Entry<'_> {
    /// A fault at this record.
    pub(crate) fn fault(&self, kind: FaultKind, reason: impl Into<String>) -> Fault {
        Fault::new(kind, reason).at(self.index, &self.facts.stream, self.facts.sequence)
    }
}

/// Who wrote a record, as the ledger itself tells.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    pub(crate) role: Role,
    /// `None` for the ledger.
    pub(crate) node: Option<NodeId>,
}

/// What a check may ask.
pub(crate) struct Context<'a, 'b> {
    pub(crate) source: &'a Source,
    pub(crate) history: &'a mut History,
    /// The origin of the checkpoint at hand.
    pub(crate) origin: &'a str,
    /// The volume at hand.
    pub(crate) volume: u64,
    /// The volumes before it that are here.
    pub(crate) past: &'a mut [Past<'b>],
    /// What witnesses' clocks say about this volume's records.
    pub(crate) bounds: &'a Bounds,
    pub(crate) found: &'a mut Found,
}

/// A volume that was walked.
pub(crate) struct Past<'b> {
    pub(crate) volume: u64,
    pub(crate) origin: String,
    /// How many of its records belong to the ledger.
    pub(crate) size: TreeSize,
    pub(crate) history: History,
    pub(crate) source: &'b Source,
    /// Who signs its checkpoints; `None`: no readable record says so.
    pub(crate) windows: Option<Windows>,
    /// Another volume went on without it having been closed.
    pub(crate) replaced: bool,
}

impl Context<'_, '_> {
    /// Whether this is the first volume that is here, and not the ledger's first: what stood before is not known.
    pub(crate) fn is_cut(&self) -> bool {
        self.past.first().map_or(self.volume, |past| past.volume) > 1
    }

    /// The root of the first `size` records.
    pub(crate) fn root(&mut self, size: TreeSize) -> Option<Digest> {
        self.history.root(size, self.source)
    }
}

/// Every check, and what they share.
pub(crate) struct Checks {
    pub(crate) streams: Streams,
    pub(crate) provenance: Provenance,
    pub(crate) containment: Containment,
    pub(crate) privacy: Privacy,
    pub(crate) counts: BTreeMap<String, u64>,
    pub(crate) records: u64,
    /// What record 0 says.
    pub(crate) opened: Option<LedgerOpened>,
}

impl Checks {
    pub(crate) fn new() -> Checks {
        Checks {
            streams: Streams::default(),
            provenance: Provenance::default(),
            containment: Containment::default(),
            privacy: Privacy::default(),
            counts: BTreeMap::new(),
            records: 0,
            opened: None,
        }
    }

    /// The next record.
    pub(crate) fn record(&mut self, entry: &Entry<'_>, context: &mut Context<'_, '_>) {
        self.records += 1;
        *self.counts.entry(entry.facts.kind.as_str().to_owned()).or_default() += 1;
        if let Some(writer) = self.streams.record(entry, context) {
            self.provenance.record(entry, &writer, &self.streams, context);
            self.containment.record(entry, &self.streams, context);
            self.privacy.record(entry, context);
            if let crate::facts::Detail::LedgerOpened(opened) = &entry.facts.detail {
                self.opened.get_or_insert_with(|| (**opened).clone());
            }
        }
    }

    /// A record that cannot be read: its leaf hash is all that is known.
    pub(crate) fn unreadable(&mut self, leaf: Option<Digest>) {
        self.streams.unreadable(leaf);
    }

    /// The ledger's end.
    pub(crate) fn end(&mut self, context: &mut Context<'_, '_>) {
        self.streams.end(context);
        self.containment.end(context);
    }
}

/// What record 0 says of itself, checked against nothing but itself.
pub(crate) fn check_opened(opened: &LedgerOpened, origin: &str, volume: u64) -> Result<VerifierKey, String> {
    let expected = format!("{}/{}", opened.name, opened.volume);
    if opened.volume != volume {
        return Err(format!("it opens volume {}; this is volume {volume}", opened.volume));
    }
    if opened.previous.is_some() != (volume > 1) {
        return Err(format!("a volume names the one before it if it is not the first; this is volume {volume}"));
    }
    if expected != origin {
        return Err(format!("it opens {expected:?}; the checkpoint is of {origin:?}"));
    }
    let key: VerifierKey = opened.ledger_key.parse().map_err(|error| format!("its ledger key: {error}"))?;
    let root: VerifierKey = opened.root_key.parse().map_err(|error| format!("its root key: {error}"))?;
    let root_name = format!("{}/root", opened.name);
    if root.name() != root_name {
        return Err(format!("its root key is named {:?}; expected {root_name:?}", root.name()));
    }
    Ok(key)
}
