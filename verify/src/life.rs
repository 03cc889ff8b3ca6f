//! What the ledger says of itself as a whole: which keys sign, which witnesses count, where a volume ends and what goes on.
//!
//! These records are few, stand in the stream `ledger`, and are gathered while a volume is walked. What they say holds for the
//! checkpoints that cover them and for none before (`ledger/FORMAT.md`). A key or a policy that the root key did not endorse is a fault,
//! and what the record says is followed all the same: otherwise everything behind it would look wrong, and the one thing that is
//! wrong would be hard to see.

use cairn_ledger::checkpoint::Checkpoint;
use cairn_ledger::endorsement::Endorsement;
use cairn_ledger::note::{Note, VerifierKey};
use cairn_ledger::policy::Policy;
use cairn_schemas::data::{LedgerClosed, LedgerKeyRotated, LedgerOpened, LedgerWitnessesChanged};
use cairn_schemas::ids::{RecordIndex, TreeSize};

use crate::facts::Detail;
use crate::report::{Fault, FaultKind, Found, KeyWindowReport};

/// How a volume ended.
#[derive(Debug, Clone)]
pub(crate) enum Ended {
    /// Another one goes on.
    Closed(LedgerClosed),
    /// Nothing goes on.
    Frozen,
}

/// The ledger's records about a volume.
#[derive(Debug, Default)]
pub(crate) struct Life {
    pub(crate) opened: Option<LedgerOpened>,
    rotated: Vec<(RecordIndex, LedgerKeyRotated)>,
    witnesses: Vec<(RecordIndex, LedgerWitnessesChanged)>,
    ended: Option<(RecordIndex, Ended)>,
}

/// The keys of checkpoints of some sizes.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    /// The smallest size.
    pub(crate) from: u64,
    pub(crate) key: VerifierKey,
    pub(crate) second: Option<VerifierKey>,
}

/// Who signs a volume's checkpoints, and from which size on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Windows(Vec<Window>);

impl Windows {
    /// One key for everything.
    pub(crate) fn of(key: VerifierKey) -> Windows {
        Windows(vec![Window { from: 0, key, second: None }])
    }

    /// The keys of a checkpoint of this size.
    pub(crate) fn at(&self, size: TreeSize) -> Option<&Window> {
        self.0.iter().rev().find(|window| window.from <= size.0)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Window> {
        self.0.iter()
    }

    pub(crate) fn report(&self) -> Vec<KeyWindowReport> {
        let report = |window: &Window| KeyWindowReport {
            from_size: TreeSize(window.from),
            vkey: window.key.to_string(),
            second: window.second.as_ref().map(ToString::to_string),
        };
        self.0.iter().map(report).collect()
    }

    /// What is wrong with the signatures on a checkpoint, if anything is.
    pub(crate) fn check(&self, checkpoint: &Checkpoint, note: &Note) -> Option<String> {
        let window = self.at(checkpoint.size)?;
        if let Err(error) = note.verify(std::slice::from_ref(&window.key)) {
            return Some(error.to_string());
        }
        let second = window.second.as_ref()?;
        match note.cosigned_at(second) {
            Ok(Some(_)) => None,
            Ok(None) => Some(format!("it has no second signature by {second}, which checkpoints of this size have")),
            Err(error) => Some(error.to_string()),
        }
    }
}

impl Life {
    /// Takes up one of the ledger's own records.
    pub(crate) fn take(&mut self, index: RecordIndex, detail: &Detail) {
        match detail {
            Detail::LedgerOpened(opened) if index.0 == 0 => self.opened = Some((**opened).clone()),
            Detail::KeyRotated(rotated) => self.rotated.push((index, (**rotated).clone())),
            Detail::WitnessesChanged(changed) => self.witnesses.push((index, (**changed).clone())),
            Detail::Closed(closed) => drop(self.ended.get_or_insert((index, Ended::Closed(closed.clone())))),
            Detail::Frozen => drop(self.ended.get_or_insert((index, Ended::Frozen))),
            _ => {}
        }
    }

    /// How the volume ended, if it did.
    pub(crate) fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref().map(|(_, ended)| ended)
    }

    /// Nothing stands behind the record that ends a volume.
    pub(crate) fn check_end(&self, size: TreeSize, found: &mut Found) {
        if let Some((index, _)) = &self.ended
            && index.0 + 1 < size.0
        {
            let reason = format!("the volume ended with record {index}, and {} follow it", size.0 - index.0 - 1);
            found.fault(Fault::new(FaultKind::VolumeEnded, reason).index(RecordIndex(index.0 + 1)));
        }
    }

    /// Who signs the volume's checkpoints; each change must have the root key's word. `None`: record 0 names no key.
    pub(crate) fn windows(&self, root: Option<&VerifierKey>, found: &mut Found) -> Option<Windows> {
        let opened = self.opened.as_ref()?;
        let key = opened.ledger_key.parse().ok()?;
        let second = self.second(RecordIndex(0), opened.mldsa_key.as_deref(), found);
        let mut windows = vec![Window { from: 0, key, second }];
        for (index, rotated) in &self.rotated {
            let mut wrong = |reason: String| {
                found.fault(Fault::new(FaultKind::KeyEndorsement, reason).index(*index));
            };
            let before = windows.last().expect("invariant: there is a first window");
            if rotated.old != before.key.to_string() {
                wrong(format!("it says that {} signed until here; it was {}", rotated.old, before.key));
            }
            let key = match rotated.new.parse::<VerifierKey>() {
                Ok(key) if key.name() == before.key.name() => key,
                Ok(key) => {
                    wrong(format!("the new key is named {:?}; expected {:?}", key.name(), before.key.name()));
                    continue;
                }
                Err(error) => {
                    wrong(format!("the new key: {error}"));
                    continue;
                }
            };
            let second = self.second(*index, rotated.mldsa_key.as_deref(), found);
            let expected = Endorsement::LedgerKey { key: key.clone(), second: second.clone() };
            if let Err(reason) = endorsed(&rotated.endorsement, root, &expected) {
                found.fault(Fault::new(FaultKind::KeyEndorsement, reason).index(*index));
            }
            windows.push(Window { from: index.0 + 1, key, second });
        }
        Some(Windows(windows))
    }

    fn second(&self, index: RecordIndex, vkey: Option<&str>, found: &mut Found) -> Option<VerifierKey> {
        let parsed = vkey?.parse::<VerifierKey>();
        if let Err(error) = &parsed {
            let reason = format!("the key of the second signature: {error}");
            found.fault(Fault::new(FaultKind::KeyEndorsement, reason).index(index));
        }
        parsed.ok()
    }

    /// The ledger's witness policies, each from a size on; `None`: no witnesses.
    pub(crate) fn policies(&self, root: Option<&VerifierKey>, found: &mut Found) -> Vec<(u64, Option<Policy>)> {
        let mut policies = Vec::new();
        let mut parse = |index: RecordIndex, text: &str| {
            let parsed = Policy::parse(text.as_bytes());
            if let Err(error) = &parsed {
                let reason = format!("the witness policy: {error}");
                found.fault(Fault::new(FaultKind::WitnessesEndorsement, reason).index(index));
            }
            parsed.ok()
        };
        let opened = self.opened.as_ref();
        policies.push((0, opened.and_then(|opened| parse(RecordIndex(0), opened.witnesses.as_deref()?))));
        for (index, changed) in &self.witnesses {
            let policy = changed.policy.as_deref().and_then(|text| parse(*index, text));
            policies.push((index.0 + 1, policy));
        }
        for (index, changed) in &self.witnesses {
            let name = opened.map_or("", |opened| opened.name.as_str());
            let expected = Endorsement::of_policy(name, changed.policy.as_deref());
            if let Err(reason) = endorsed(&changed.endorsement, root, &expected) {
                found.fault(Fault::new(FaultKind::WitnessesEndorsement, reason).index(*index));
            }
        }
        policies
    }
}

/// Whether the root key said this.
pub(crate) fn endorsed(note: &str, root: Option<&VerifierKey>, expected: &Endorsement) -> Result<(), String> {
    let root = root.ok_or("no readable record names the root key")?;
    match Endorsement::verify(note, root) {
        Ok(said) if said == *expected => Ok(()),
        Ok(said) => Err(format!("the root key endorsed something else:\n{}", said.to_text()).replace('\n', " ")),
        Err(error) => Err(format!("the root key did not endorse it: {error}")),
    }
}
