//! `cairn verify`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use cairn_verify::{Disclosures, EarlierReport, Options, Progress, render};
use clap::Args;

use crate::failure::{Failure, chain};
use crate::progress::Bar;
use crate::say;

/// Below this many records a progress bar would only flicker.
const PROGRESS_FROM: u64 = 20_000;

#[derive(Args)]
pub(crate) struct Arguments {
    /// A ledger's directory
    path: PathBuf,
    /// The ledger's public key, as a vkey, or a file that holds one; without it the key pinned in ~/.config/cairn/keys for this
    /// ledger, else the one the ledger names itself: then the origin is not proven
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// The JSON report of an earlier verification, which must be the beginning of this one
    #[arg(long, value_name = "REPORT")]
    since: Option<PathBuf>,
    /// The witness policy that the newest checkpoint must meet, a file in the form of C2SP tlog-policy; without it the ledger's own policy
    /// is used, and not being met is only a finding
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Findings (undeclared gaps, unattested tails, abandoned streams) count as faults
    #[arg(long)]
    strict: bool,
    /// Check hashes, tiles, roots and checkpoints only: whether anything was changed, not what it says
    #[arg(long)]
    structure: bool,
    /// The vault beside the ledger, where you are its owner: open every commitment with it, and hold it to what records say was erased
    #[cfg(feature = "full")]
    #[arg(long, value_name = "DIR")]
    vault: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    refuse_bucket(&arguments.path)?;
    let since = arguments.since.as_deref().map(earlier).transpose()?;
    let key = match &arguments.key {
        Some(key) => Some(given_key(key)?),
        None => pinned_key(&arguments.path),
    };
    let vault = vault(arguments)?;
    let policy = arguments.policy.as_deref().map(policy).transpose()?;
    let options =
        Options { key, policy, since, threads: 0, structure: arguments.structure, vault, progress: progress() };
    let report = cairn_verify::verify(&arguments.path, &options);
    if arguments.json {
        say::line(format_args!("{}", report.to_json()));
    } else {
        say::text(&render(&report));
    }
    Ok(ExitCode::from(report.exit_code(arguments.strict)))
}

/// A verification reads files and asks nobody: not a server either, which could answer differently each time.
fn refuse_bucket(path: &Path) -> Result<(), Failure> {
    let text = path.to_string_lossy();
    if !text.starts_with("s3://") {
        return Ok(());
    }
    Err(Failure::unknown(format!("{text} is a bucket, and `cairn verify` reads a directory, offline"))
        .hint(format!("`cairn ledger mirror {text} DIR`, then `cairn verify DIR`")))
}

#[cfg(feature = "full")]
fn vault(arguments: &Arguments) -> Result<Option<Arc<dyn Disclosures>>, Failure> {
    let Some(path) = &arguments.vault else { return Ok(None) };
    let vault = crate::vault::OwnersVault::at(path)
        .map_err(|error| Failure::unknown(format!("--vault {}: {error}", path.display())))?;
    Ok(Some(Arc::new(vault)))
}

/// The auditor's build knows no cipher: whoever has a vault has the other build too.
#[cfg(not(feature = "full"))]
fn vault(_: &Arguments) -> Result<Option<Arc<dyn Disclosures>>, Failure> {
    Ok(None)
}

fn policy(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        Failure::unknown(format!("--policy {}: {error}", path.display()))
            .hint("give a file in the form of C2SP tlog-policy: lines `witness <name> <vkey>`, and one `quorum <name>`")
    })
}

fn earlier(path: &Path) -> Result<EarlierReport, Failure> {
    let bytes = std::fs::read(path).map_err(|error| {
        Failure::unknown(format!("{}: {error}", path.display())).hint("give the file that `cairn verify --json` wrote")
    })?;
    EarlierReport::parse(&bytes).map_err(|error| {
        Failure::unknown(format!("{}: {}", path.display(), chain(&error)))
            .hint("give the file that `cairn verify --json` wrote")
    })
}

/// A vkey, or a file that holds one.
pub(crate) fn given_key(key: &str) -> Result<String, Failure> {
    if key.contains('+') && !Path::new(key).exists() {
        return Ok(key.to_owned());
    }
    std::fs::read_to_string(key).map(|text| text.trim().to_owned()).map_err(|error| {
        Failure::unknown(format!("--key {key}: neither a vkey nor a file that can be read: {error}"))
            .hint("a vkey has the form <name>+<8 hexadecimal digits>+<base64>")
    })
}

/// The key that this user pinned for the ledger at `path`: a line of `~/.config/cairn/keys` with the ledger's name and any volume as its
/// name; a key that signed one volume vouches for the others. Lines that start with `#` are comments.
pub(crate) fn pinned_key(path: &Path) -> Option<String> {
    pinned_key_of(&cairn_verify::ledger_name(path)?)
}

/// The key that this user pinned for the ledger of this name.
pub(crate) fn pinned_key_of(name: &str) -> Option<String> {
    let pins = std::fs::read_to_string(PathBuf::from(std::env::var_os("HOME")?).join(".config/cairn/keys")).ok()?;
    find_pin(&pins, name)
}

fn find_pin(pins: &str, ledger: &str) -> Option<String> {
    let mut lines = pins.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let of = |line: &&str| {
        line.split('+').next().and_then(|name| name.rsplit_once('/')).is_some_and(|(name, _)| name == ledger)
    };
    lines.find(of).map(ToOwned::to_owned)
}

/// A bar on a terminal; nothing elsewhere: a verification prints its report and nothing before it.
fn progress() -> Option<Box<dyn Fn(Progress) + Send + Sync>> {
    let bar = Bar::new("records");
    Some(Box::new(move |progress: Progress| {
        if progress.total >= PROGRESS_FROM {
            bar.set(progress.done, progress.total);
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_mirrored_first() {
        assert!(refuse_bucket(Path::new("data/ledger")).is_ok());
        let failure = refuse_bucket(Path::new("s3://bucket/prefix")).unwrap_err();
        assert!(format!("{failure:?}").contains("cairn ledger mirror s3://bucket/prefix DIR"));
    }

    #[test]
    fn a_pin_is_found_by_the_ledgers_name() {
        let pins = "# ours\nacme.example/cairn/1+00000000+AQ\n\nother/1+11111111+AQ\n";
        assert_eq!(find_pin(pins, "other").as_deref(), Some("other/1+11111111+AQ"));
        assert!(find_pin(pins, "acme.example/cairn").is_some());
        assert_eq!(find_pin(pins, "acme.example"), None);
        assert_eq!(find_pin(pins, "# ours"), None);
    }
}
