//! What the spool refused while it was full, until a record says so.

use std::collections::BTreeMap;

use cairn_schemas::data::{LossCause, SensorLoss};
use cairn_schemas::record::Draft;
use cairn_schemas::time::Timestamp;
use cairn_schemas::types::RecordType;

/// Refused records by family, not yet recorded as lost.
#[derive(Debug, Default)]
pub(super) struct LossBook {
    families: BTreeMap<RecordType, Loss>,
    /// Counts that stand in sealed records which are not durable yet.
    sealed: Vec<(RecordType, Loss)>,
    total: u64,
}

/// How many records of one family were refused, and when.
#[derive(Debug, Clone)]
pub(super) struct Loss {
    from: Timestamp,
    to: Timestamp,
    lost: u64,
}

impl LossBook {
    /// Counts a refused record. True: it is the first of its family since the spool last had room.
    pub(super) fn note(&mut self, kind: RecordType, now: Timestamp) -> bool {
        self.total += 1;
        let first = !self.families.contains_key(&kind);
        let loss = self.families.entry(kind).or_insert(Loss { from: now, to: now, lost: 0 });
        loss.lost += 1;
        loss.to = now;
        first
    }

    /// The records that say what was lost and not yet said.
    pub(super) fn drafts(&self) -> Vec<Draft> {
        let unsaid = self.families.iter().filter(|(_, loss)| loss.lost > 0);
        unsaid
            .map(|(kind, loss)| {
                Draft::new(&SensorLoss {
                    cause: LossCause::SpoolFull,
                    family: family(*kind).to_owned(),
                    from: loss.from,
                    to: loss.to,
                    lost: loss.lost,
                    // Whatever was taken while the spool was full ended the interval.
                    kept: 0,
                })
            })
            .collect()
    }

    /// What [`LossBook::drafts`] gave is sealed. The families stay until there is room: their next refusal is not a first one.
    pub(super) fn said(&mut self) {
        for (kind, loss) in &mut self.families {
            if loss.lost > 0 {
                self.sealed.push((*kind, loss.clone()));
                loss.lost = 0;
                loss.from = loss.to;
            }
        }
    }

    /// There is room again, and everything that was lost is sealed.
    pub(super) fn room(&mut self) {
        self.said();
        self.families.clear();
    }

    /// What the batch that is written now says.
    pub(super) fn take_sealed(&mut self) -> Vec<(RecordType, Loss)> {
        std::mem::take(&mut self.sealed)
    }

    /// The batch that said this was not written: it is unsaid again, with what waited behind it.
    pub(super) fn put_back(&mut self, mut unsaid: Vec<(RecordType, Loss)>) {
        unsaid.append(&mut self.sealed);
        for (kind, loss) in unsaid {
            let kept = self.families.entry(kind).or_insert_with(|| Loss { lost: 0, ..loss.clone() });
            kept.from = kept.from.min(loss.from);
            kept.to = kept.to.max(loss.to);
            kept.lost += loss.lost;
        }
    }

    /// How many records were ever refused.
    pub(super) fn total(&self) -> u64 {
        self.total
    }
}

/// `admission.decided` of `cairn.admission.decided.v1`.
fn family(kind: RecordType) -> &'static str {
    let text = kind.as_str();
    text.strip_prefix("cairn.").and_then(|text| text.strip_suffix(".v1")).unwrap_or(text)
}
