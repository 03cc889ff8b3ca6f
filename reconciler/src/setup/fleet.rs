//! `fleet.yaml`: read strictly, written by hand so that it explains itself.

use std::fmt::Write as _;
use std::path::Path;

use cairn_ledger::writer::Address;
use cairn_schemas::fleet::{FLEET_VERSION, Fleet, RotateAfter, SignersConfig};
use serde::Deserialize;

use super::SetupError;
use crate::durable::{self, DiskError, Readers};

/// The file beside the ledger.
pub(super) const FLEET_FILE: &str = "fleet.yaml";

/// What every version of the file has.
#[derive(Deserialize)]
struct AnyVersion {
    version: u64,
}

/// Reads the file; `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<Fleet>, SetupError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DiskError::of("read", path)(error).into()),
    };
    // The version alone first: a newer file has fields that this version would call misspelt.
    let broken =
        |error: serde_saphyr::Error| SetupError::BrokenFleet { path: path.to_owned(), reason: first_line(&error) };
    let any: AnyVersion = serde_saphyr::from_str(&text).map_err(broken)?;
    if any.version != u64::from(FLEET_VERSION) {
        return Err(SetupError::NewerVersion { path: path.to_owned(), found: any.version });
    }
    serde_saphyr::from_str(&text).map(Some).map_err(broken)
}

/// Where the ledger lies, if not in `ledger/` beside the file.
pub(super) fn address(path: &Path, fleet: &Fleet) -> Result<Option<Address>, SetupError> {
    let Some(text) = &fleet.ledger.address else { return Ok(None) };
    let reason = match text.parse::<Address>() {
        Ok(Address::Dir(_)) => {
            "expected s3://bucket/prefix; a ledger in a directory is `ledger/` beside this file".to_owned()
        }
        Ok(address) => return Ok(Some(address)),
        Err(error) => error.to_string(),
    };
    let file = std::fs::read_to_string(path).unwrap_or_default();
    let line = file.lines().position(|line| line.trim_start().starts_with("address:") || line.contains(&**text));
    Err(SetupError::LedgerAddress { path: path.to_owned(), line: line.map_or(1, |line| line + 1), reason })
}

/// Where a fleet's ledger lies, and how its objects are locked, if not in `ledger/` beside its `fleet.yaml`.
///
/// # Errors
/// Any [`SetupError`]: the file cannot be read, or the address cannot be used.
pub fn ledger_address(path: &Path) -> Result<Option<Address>, SetupError> {
    match read(path)? {
        Some(fleet) => address(path, &fleet),
        None => Ok(None),
    }
}

/// The error without the quotation of the source below it: one line.
fn first_line(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
}

/// Writes the file, durable on return.
pub(super) fn write(path: &Path, fleet: &Fleet) -> Result<(), SetupError> {
    Ok(durable::write(path, text(fleet).as_bytes(), Readers::Everybody)?)
}

/// Writes another ledger key into the file, durable on return, and leaves everything else of it as its owner wrote it: the line
/// `ledger:` below `keys:` is replaced.
///
/// # Errors
/// Any [`SetupError`]: the file is as it was.
pub fn replace_ledger_key(path: &Path, vkey: &str) -> Result<(), SetupError> {
    let missing = || SetupError::BrokenFleet { path: path.to_owned(), reason: "it is not there".to_owned() };
    let fleet = read(path)?.ok_or_else(missing)?;
    if fleet.keys.ledger == vkey {
        return Ok(());
    }
    let text = std::fs::read_to_string(path).map_err(|error| DiskError::of("read", path)(error))?;
    let replaced = text.replacen(&fleet.keys.ledger, vkey, 1);
    let check: Fleet = serde_saphyr::from_str(&replaced)
        .map_err(|error| SetupError::BrokenFleet { path: path.to_owned(), reason: first_line(&error) })?;
    if check.keys.ledger != vkey {
        let reason = format!("put {vkey} in the place of its ledger key by hand");
        return Err(SetupError::BrokenFleet { path: path.to_owned(), reason });
    }
    Ok(durable::write(path, replaced.as_bytes(), Readers::Everybody)?)
}

fn text(fleet: &Fleet) -> String {
    // A JSON string is a YAML double-quoted string.
    let quoted = |text: &str| serde_json::Value::String(text.to_owned()).to_string();
    let mut out = String::new();
    let mut line = |text: String| writeln!(out, "{text}").expect("invariant: a String takes all");
    line("# Whom this fleet trusts. Public keys only; the secrets lie in keys/. It is outside the policy repo on purpose:".into());
    line("# no pull request can widen it. Nodes pin what stands here when they join.".into());
    line(format!("version: {}", fleet.version));
    line(format!("name: {}", quoted(&fleet.name)));
    line(format!("control_node: {}", quoted(fleet.control_node.as_str())));
    line(format!("token_epoch: {}", quoted(&fleet.token_epoch)));
    line("keys:".into());
    line(format!("  root: {}", quoted(&fleet.keys.root)));
    line(format!("  ledger: {}", quoted(&fleet.keys.ledger)));
    line(format!("  control: {}", quoted(&fleet.keys.control)));
    line("  release: |".into());
    fleet.keys.release.lines().for_each(|pem| line(format!("    {pem}")));
    match &fleet.signers {
        SignersConfig::UnsignedAllowed => {
            line("# Commits need no signature. To demand one: `signers: { allowed_signers: [\"you@example.com ssh-ed25519 AAAA…\"] }`".into());
            line("signers: unsigned_allowed".into());
        }
        SignersConfig::AllowedSigners(signers) => {
            line("signers:".into());
            line("  allowed_signers:".into());
            signers.iter().for_each(|signer| line(format!("    - {}", quoted(signer))));
        }
    }
    match &fleet.witnesses {
        Some(policy) => line(format!("witnesses: {}", quoted(policy))),
        None => line("# Who must cosign checkpoints before a node believes a release, as a C2SP tlog-policy: `witnesses: |` and its lines".into()),
    }
    if let Some(endorsement) = &fleet.witnesses_endorsement {
        line(format!("witnesses_endorsement: {}", quoted(endorsement)));
    }
    if let Some(file) = &fleet.witnesses_ca {
        line(format!("witnesses_ca: {}", quoted(file)));
    }
    line("# When the ledger's current volume is closed and the next one opened: after so many days, or with so many records.".into());
    line("ledger:".into());
    if let Some(address) = &fleet.ledger.address {
        line("  # The bucket that it lies in; keys and all else stay in this folder. Credentials come from the environment.".into());
        line(format!("  address: {}", quoted(address)));
    }
    let RotateAfter { days, records } = fleet.ledger.rotate_after;
    let rotate: Vec<String> = [("days", days), ("records", records)]
        .into_iter()
        .filter_map(|(what, number)| Some(format!("{what}: {}", number?)))
        .collect();
    line(format!("  rotate_after: {{ {} }}", rotate.join(", ")));
    line("# Who may send events from outside, to POST /v1/intake/<source>. The digest is that of a token that you make and keep elsewhere:".into());
    line("# `printf %s \"$TOKEN\" | sha256sum`. As: `intake: [{ name: prod, source: k8s_audit, token_sha256: [DIGEST] }]`".into());
    out
}

#[cfg(test)]
mod tests {
    use cairn_schemas::fleet::{FleetKeys, LedgerConfig};

    use super::*;

    fn fleet(signers: SignersConfig) -> Fleet {
        Fleet {
            version: FLEET_VERSION,
            name: "cairn-1".into(),
            keys: FleetKeys {
                root: "cairn-1/root+0011+AAAA".into(),
                ledger: "cairn-1/1+0011+AAAA".into(),
                release: "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".into(),
                control: "AAAA=".into(),
            },
            control_node: "control".parse().unwrap(),
            token_epoch: "e1".into(),
            signers,
            witnesses: Some("# two \"lines\"\nquorum none\n".into()),
            witnesses_endorsement: None,
            witnesses_ca: Some("witnesses \"ca\".pem".into()),
            ledger: LedgerConfig { address: Some("s3://bucket/\"prefix\"".into()), ..LedgerConfig::default() },
            intake: Vec::new(),
        }
    }

    #[test]
    fn an_address_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FLEET_FILE);
        let mut fleet = fleet(SignersConfig::UnsignedAllowed);
        let mut of = |text: &str| {
            fleet.ledger.address = Some(text.to_owned());
            write(&path, &fleet).unwrap();
            address(&path, &fleet)
        };
        for bad in ["gs://bucket/x", "ledger", "s3://NO/x"] {
            let error = of(bad).unwrap_err().to_string();
            let line = std::fs::read_to_string(&path).unwrap().lines().position(|line| line.contains(bad)).unwrap() + 1;
            assert!(error.contains(&format!("fleet.yaml:{line}: ledger.address: ")), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        match of("s3://bucket/prefix") {
            // In a build of the workspace with feature `s3`.
            Ok(Some(_)) => {}
            Err(error) => assert!(error.to_string().contains("cargo build --features s3"), "{error}"),
            other => panic!("{other:?}"),
        }
        fleet.ledger.address = None;
        assert_eq!(address(&path, &fleet).unwrap(), None);
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FLEET_FILE);
        assert_eq!(read(&path).unwrap(), None);
        for signers in [
            SignersConfig::UnsignedAllowed,
            SignersConfig::AllowedSigners(vec!["a@example.com ssh-ed25519 AAAA \"x\" # y".into(), "b: c".into()]),
        ] {
            let fleet = fleet(signers);
            write(&path, &fleet).unwrap();
            assert_eq!(read(&path).unwrap(), Some(fleet));
        }
    }

    #[test]
    fn newer_and_broken_files_are_named_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FLEET_FILE);
        let good = text(&fleet(SignersConfig::UnsignedAllowed));
        for (bad, words) in [
            (good.replace("version: 1", "version: 2\nnew_field: 5"), ["fleet.yaml", "version 2"]),
            ("version: [\n".to_owned(), ["fleet.yaml", "line"]),
            (good.replace("token_epoch", "token_epohc"), ["fleet.yaml", "token_epohc"]),
            (String::new(), ["fleet.yaml", ""]),
        ] {
            std::fs::write(&path, bad).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert_eq!(error.lines().count(), 1, "{error}");
            words.iter().for_each(|word| assert!(error.contains(word), "{word}: {error}"));
        }
    }
}
