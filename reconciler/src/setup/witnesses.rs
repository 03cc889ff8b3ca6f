//! The ledger's witness policy is what `fleet.yaml` says.
//!
//! The ledger's records say which policy was in force when, and every change needs the root key's word. Whoever edits `fleet.yaml`
//! says what is wanted; the word comes from `witnesses_endorsement` there, or from `keys/root.key` as long as that has not been moved off
//! the machine.

use std::path::Path;

use cairn_ledger::endorsement::Endorsement;
use cairn_ledger::files;
use cairn_ledger::note::NoteSigner;
use cairn_ledger::policy::Policy;
use cairn_ledger::witness::tls::Authorities;
use cairn_ledger::writer::Ledger;
use cairn_schemas::fleet::Fleet;

use super::SetupError;
use super::fleet::FLEET_FILE;
use super::keys::ROOT_FILE;

/// Checks the policy that `fleet.yaml` names.
pub(super) fn check(dir: &Path, fleet: &Fleet) -> Result<(), SetupError> {
    match fleet.witnesses.as_ref().map(|policy| Policy::parse(policy.as_bytes())) {
        Some(Err(error)) => {
            let reason = format!("witnesses: {error}");
            Err(SetupError::BrokenFleet { path: dir.join(FLEET_FILE), reason })
        }
        _ => Ok(()),
    }
}

/// By whom the certificates of witnesses may be, beside the machine's authorities.
pub(super) fn authorities(dir: &Path, fleet: &Fleet) -> Result<Authorities, SetupError> {
    let Some(file) = &fleet.witnesses_ca else { return Ok(Authorities::default()) };
    Authorities::read(&dir.join(file)).map_err(|error| {
        let reason = format!("witnesses_ca: {error}");
        SetupError::BrokenFleet { path: dir.join(FLEET_FILE), reason }
    })
}

/// Records a change, where there is one.
pub(super) fn settle(dir: &Path, fleet: &Fleet, ledger: &Ledger) -> Result<(), SetupError> {
    if ledger.witness_policy() == fleet.witnesses {
        return Ok(());
    }
    let refused = |reason: String| SetupError::Witnesses { path: dir.join(FLEET_FILE), reason };
    let endorsement = match &fleet.witnesses_endorsement {
        Some(endorsement) => endorsement.clone(),
        None => {
            let path = dir.join("keys").join(ROOT_FILE);
            let text = files::read_optional(&path)?.ok_or_else(|| {
                refused(format!("the root key must endorse the change, and {} is not here", path.display()))
            })?;
            let root = NoteSigner::from_text(String::from_utf8_lossy(&text).trim())
                .map_err(|error| SetupError::NotAKey { path: path.clone(), reason: error.to_string() })?;
            let word = Endorsement::of_policy(&fleet.name, fleet.witnesses.as_deref());
            word.sign(&root).map_err(|error| refused(error.to_string()))?
        }
    };
    ledger
        .change_witnesses(fleet.witnesses.as_deref(), &endorsement)
        .map(drop)
        .map_err(|error| refused(error.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_file_of_authorities_lies_beside_fleet_yaml_and_must_be_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut fleet: Fleet = serde_json::from_value(json!({
            "version": 1, "name": "cairn-1", "control_node": "control", "token_epoch": "e1", "signers": "unsigned_allowed",
            "keys": { "root": "", "ledger": "", "release": "", "control": "" },
        }))
        .unwrap();
        assert!(authorities(folder.path(), &fleet).is_ok(), "the machine's alone");
        fleet.witnesses_ca = Some("ca.pem".into());
        let path = folder.path().join("ca.pem").display().to_string();
        for content in [None, Some("no certificate")] {
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            let error = authorities(folder.path(), &fleet).unwrap_err().to_string();
            assert!(error.contains(FLEET_FILE) && error.contains(&format!("witnesses_ca: {path}: ")), "{error}");
        }
    }
}
