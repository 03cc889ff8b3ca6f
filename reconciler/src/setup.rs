//! The data folder: made at the first start, taken up at every later one.
//!
//! Steps in this order, each skipped where its result exists, each durable before the next, so that a crash anywhere is repaired by
//! starting again: keys → `fleet.yaml` → `ledger.opened` and the first checkpoint → policy repo and its first commit → the
//! control plane's `stream.opened` → join tokens. Whatever makes the folder unusable is found before anything is changed.

mod error;
mod fleet;
mod keys;
mod witnesses;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cairn_ledger::keys::KeyFolder;
use cairn_ledger::note::{NoteSigner, VerifierKey};
use cairn_ledger::witness::tls::Authorities;
use cairn_ledger::writer::{Address, Ledger, OpenError};
use cairn_release::content::FileEntry;
use cairn_schemas::data::{LedgerCarried, LedgerOpened};
use cairn_schemas::fleet::{Fleet, SignersConfig};
use cairn_schemas::ids::{NodeId, RecordIndex, StreamId};
use cairn_schemas::record::Record;
use cairn_schemas::time::Clock;
use cairn_schemas::types::{NodeKind, RecordType};
use cairn_schemas::wire::{JoinToken, Pins};

pub use error::SetupError;
pub use fleet::{ledger_address, replace_ledger_key};
pub use keys::Keys;

use crate::control::Control;
use crate::durable::{self, DiskError, Readers};
use crate::joins::Joins;
use crate::random::{Random, draw};
use crate::repo::{self, Author, Owner, RepoError, Source};
use crate::step::Step;

/// The kinds of node that `cairn up` runs, each with a token of its own.
pub const KINDS: [NodeKind; 2] = [NodeKind::Sensor, NodeKind::Admission];
/// Records read at once while looking for the control plane's stream.
const READ_STEP: usize = 1_024;
/// The branch whose commits become releases.
const MAIN_BRANCH: &str = "main";
/// What the first commit of a policy repo says.
const FIRST_MESSAGE: &str = "Start from the template\n";

/// What a first run needs to know.
pub struct Options {
    /// Who owns the policy repo; `None`: whoever runs this.
    pub owner: Option<Owner>,
    /// The policy repo's first files, by path.
    pub template: BTreeMap<String, Vec<u8>>,
    /// Who may sign commits. Written into a new `fleet.yaml`; later the file alone counts.
    pub signers: SignersConfig,
    /// The bucket that the ledger lies in, `s3://bucket/prefix`; `None`: the data folder. Written into a new `fleet.yaml`; later it must
    /// be what the file says.
    pub ledger: Option<String>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where keys and tokens come from.
    pub random: Arc<dyn Random>,
}

/// A data folder that can be used, with its ledger open.
#[derive(Debug)]
pub struct Prepared {
    pub(crate) dir: PathBuf,
    pub(crate) address: Address,
    pub(crate) fleet: Fleet,
    pub(crate) keys: Keys,
    pub(crate) authorities: Authorities,
    pub(crate) ledger: Ledger,
    pub(crate) control: Control,
    pub(crate) joins: Joins,
}

impl Prepared {
    /// What `fleet.yaml` says.
    #[must_use]
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// By whom the certificates of witnesses may be, beside the machine's authorities: for the control plane, and for its nodes.
    #[must_use]
    pub fn authorities(&self) -> &Authorities {
        &self.authorities
    }

    /// The policy repo's work tree.
    #[must_use]
    pub fn policies(&self) -> PathBuf {
        self.dir.join("policies")
    }

    /// Where the ledger lies.
    #[must_use]
    pub fn ledger(&self) -> &Address {
        &self.address
    }

    /// Where a node of this kind keeps its files.
    #[must_use]
    pub fn node_folder(&self, kind: NodeKind) -> PathBuf {
        self.dir.join("nodes").join(kind.as_str())
    }

    /// The join token for the node of this kind that runs beside the control plane.
    ///
    /// # Errors
    /// The file is gone or holds no token.
    pub fn join_token(&self, kind: NodeKind) -> Result<JoinToken, SetupError> {
        read_token(&token_path(&self.dir, kind))?
            .ok_or_else(|| SetupError::NotAToken { path: token_path(&self.dir, kind) })
    }
}

/// Makes the data folder, or takes it up, and opens its ledger. Each step that did something is told to `step`.
///
/// # Errors
/// Any [`SetupError`]. What was there before is untouched; what was made stays, and the next call goes on from it.
pub fn prepare(dir: &Path, options: &Options, step: &mut dyn FnMut(Step)) -> Result<Prepared, SetupError> {
    let fleet_path = dir.join(fleet::FLEET_FILE);
    let policies = dir.join("policies");
    // Everything that can be found out without changing anything, first.
    let known_fleet = fleet::read(&fleet_path)?;
    check_ours(dir)?;
    check_git()?;
    check_policies(dir, &policies)?;
    let bucket = bucket(&fleet_path, known_fleet.as_ref(), options)?;
    let address = bucket.unwrap_or_else(|| Address::Dir(dir.join("ledger")));
    check_ledger_present(dir, &address, known_fleet.is_some())?;

    let new_folder = durable::create_folder(dir, Readers::Everybody)?;
    check_writable(dir)?;
    if new_folder {
        step(Step::FolderMade { path: dir.to_owned() });
    }
    let mut fresh = new_folder;
    let keys_folder = dir.join("keys");
    let mut fleet = match known_fleet {
        Some(fleet) => fleet,
        None => {
            let (made, mut fleet) = keys::make(&keys_folder, options.signers.clone(), options.random.as_ref())?;
            fleet.ledger.address.clone_from(&options.ledger);
            if made {
                step(Step::KeysMade { folder: keys_folder.clone(), root: keys_folder.join(keys::ROOT_FILE) });
            }
            fleet::write(&fleet_path, &fleet)?;
            step(Step::FleetWritten { path: fleet_path.clone() });
            fresh = true;
            fleet
        }
    };
    let keys = keys::load(&keys_folder, &fleet)?;
    witnesses::check(dir, &fleet)?;
    fleet
        .check_intake()
        .map_err(|fault| SetupError::BrokenFleet { path: fleet_path.clone(), reason: fault.to_string() })?;
    let authorities = witnesses::authorities(dir, &fleet)?;
    let shown = shown(&address);
    if !matches!(address, Address::Dir(_)) {
        step(Step::LedgerLookedAt { path: shown.clone() });
    }
    let (ledger, opened) = open_ledger(dir, &address, &fleet, &keys, options)?;
    if opened {
        step(Step::LedgerOpened { name: fleet.name.clone(), path: shown.clone() });
    }
    finish_key_change(dir, &mut fleet, &ledger)?;
    check_belongs(dir, &shown, &fleet, &ledger)?;
    check_policies_present(&policies, &shown, &ledger)?;
    witnesses::settle(dir, &fleet, &ledger)?;
    if let Some(commit) = make_policies(&policies, options)? {
        step(Step::PoliciesMade { path: policies, commit });
    }
    let control = open_control(&shown, &fleet, &keys, &ledger, options, step)?;
    let joins = Joins::open(&keys_folder, keys.credentials, pins(&fleet, &keys))?;
    for kind in KINDS {
        make_token(dir, &joins, kind, options.random.as_ref(), step)?;
    }
    if !fresh {
        step(Step::Resumed { path: dir.to_owned(), name: fleet.name.clone(), records: ledger.size() });
    }
    Ok(Prepared { dir: dir.to_owned(), address, fleet, keys, authorities, ledger, control, joins })
}

/// What nodes pin when they join.
fn pins(fleet: &Fleet, keys: &Keys) -> Pins {
    Pins {
        ledger_name: fleet.name.clone(),
        root_key: fleet.keys.root.clone(),
        ledger_key: fleet.keys.ledger.clone(),
        release_key: fleet.keys.release.clone(),
        control_node: fleet.control_node.clone(),
        signers: fleet.signers.clone(),
        token_epoch: fleet.token_epoch.clone(),
        token_key: STANDARD.encode(keys.token.key),
        witnesses: fleet.witnesses.clone(),
    }
}

/// A folder with other things in it is not taken over.
fn check_ours(dir: &Path) -> Result<(), SetupError> {
    // A file in the folder's place is found when the folder is made, with the system's own word.
    let names = if dir.is_dir() { durable::names(dir)? } else { Vec::new() };
    let ours = ["cache", "fleet.yaml", "intake", "keys", "ledger", "nodes", "policies"];
    if names.is_empty() || names.iter().any(|name| ours.contains(&name.as_str())) {
        return Ok(());
    }
    Err(SetupError::NotOurs { path: dir.to_owned() })
}

fn check_git() -> Result<(), SetupError> {
    let run =
        Command::new("git").arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match run {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(SetupError::NoGit { reason: status.to_string() }),
        Err(error) => Err(SetupError::NoGit { reason: error.to_string() }),
    }
}

fn check_policies(dir: &Path, path: &Path) -> Result<(), SetupError> {
    if !path.exists() {
        // A new repo would be new history, which the control plane could never follow from the old.
        let built = !durable::names(&dir.join("ledger/releases"))?.is_empty();
        return if built { Err(SetupError::PoliciesMissing { path: path.to_owned() }) } else { Ok(()) };
    }
    let source = policy_source(path);
    match source.tip() {
        Ok(_) => Ok(()),
        Err(RepoError::NoCommit { .. }) => {
            Err(SetupError::NoCommit { path: path.to_owned(), branch: source.branch().to_owned() })
        }
        Err(source) => Err(SetupError::Policies { path: path.to_owned(), source: Box::new(source) }),
    }
}

/// The branch `main` of the policy repo; where there is none, the branch that its HEAD names.
pub(crate) fn policy_source(path: &Path) -> Source {
    let main = Source::local(path, MAIN_BRANCH);
    if !matches!(main.tip(), Err(RepoError::NoCommit { .. })) {
        return main;
    }
    let head = std::fs::read_to_string(path.join(".git/HEAD")).or_else(|_| std::fs::read_to_string(path.join("HEAD")));
    let branch = head.ok().and_then(|text| text.trim().strip_prefix("ref: refs/heads/").map(str::to_owned));
    branch.map_or(main, |branch| Source::local(path, &branch))
}

/// A ledger that nodes joined and that is gone is not made anew under the same name and key: that would be a fork.
fn check_ledger_present(dir: &Path, address: &Address, has_fleet: bool) -> Result<(), SetupError> {
    // Whether a bucket has one shows when it is opened.
    let Address::Dir(ledger) = address else { return Ok(()) };
    let missing = has_fleet && joined(dir)? && !ledger.is_dir();
    if missing { Err(SetupError::LedgerMissing { path: ledger.clone() }) } else { Ok(()) }
}

/// Whether a node has joined.
fn joined(dir: &Path) -> Result<bool, SetupError> {
    Ok(!durable::names(&dir.join("keys/nodes"))?.is_empty())
}

/// The bucket that the ledger lies in.
fn bucket(path: &Path, known: Option<&Fleet>, options: &Options) -> Result<Option<Address>, SetupError> {
    let Some(fleet) = known else {
        let Some(text) = &options.ledger else { return Ok(None) };
        let refused = |reason: String| SetupError::NoAddress { address: text.clone(), reason };
        return match text.parse::<Address>() {
            Ok(Address::Dir(_)) => Err(refused("it is no bucket".to_owned())),
            Ok(address) => Ok(Some(address)),
            Err(error) => Err(refused(error.to_string())),
        };
    };
    if let Some(asked) = options.ledger.as_ref().filter(|asked| fleet.ledger.address.as_ref() != Some(*asked)) {
        let there = fleet.ledger.address.clone().unwrap_or_else(|| "`ledger/` beside it".to_owned());
        return Err(SetupError::LedgerElsewhere { path: path.to_owned(), there, asked: asked.clone() });
    }
    fleet::address(path, fleet)
}

/// What people are told that the ledger is.
fn shown(address: &Address) -> PathBuf {
    address.to_string().into()
}

/// The same as [`check_policies`] asks of a ledger in a directory, before anything was changed: there it shows only now.
fn check_policies_present(policies: &Path, shown: &Path, ledger: &Ledger) -> Result<(), SetupError> {
    if policies.exists() || !ledger.keeps_release_files() {
        return Ok(());
    }
    let built = ledger.release_files().map_err(|error| DiskError::of("list the releases of", shown)(error))?;
    if built.is_empty() { Ok(()) } else { Err(SetupError::PoliciesMissing { path: policies.to_owned() }) }
}

fn check_writable(dir: &Path) -> Result<(), SetupError> {
    rustix::fs::access(dir, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
        .map_err(|error| DiskError::of("write in", dir)(error.into()).into())
}

fn open_ledger(
    dir: &Path,
    address: &Address,
    fleet: &Fleet,
    keys: &Keys,
    options: &Options,
) -> Result<(Ledger, bool), SetupError> {
    let path = shown(address);
    let failed = |source| match source {
        OpenError::Locked => SetupError::LedgerInUse { path: path.clone() },
        source => SetupError::Ledger { path: path.clone(), source: Box::new(source) },
    };
    let next = KeyFolder::at(dir.join("keys")).next_ledger()?;
    let signers: Vec<NoteSigner> = std::iter::once(keys.ledger.clone()).chain(next).collect();
    match Ledger::open_at(address, signers, Arc::clone(&options.clock)) {
        Ok(ledger) => return Ok((ledger, false)),
        // Another one under the same name and key would be a fork.
        Err(OpenError::NoLedger) if joined(dir)? => return Err(SetupError::LedgerMissing { path }),
        Err(OpenError::NoLedger) => {}
        Err(error) => return Err(failed(error)),
    }
    let opened = LedgerOpened {
        name: fleet.name.clone(),
        volume: 1,
        ledger_key: fleet.keys.ledger.clone(),
        root_key: fleet.keys.root.clone(),
        release_key: fleet.keys.release.clone(),
        control_node: fleet.control_node.clone(),
        control_key: fleet.keys.control.clone(),
        unsigned_commits: fleet.signers == SignersConfig::UnsignedAllowed,
        mldsa_key: None,
        witnesses: fleet.witnesses.clone(),
        previous: None,
    };
    let ledger =
        Ledger::create_at(address, &opened, keys.ledger.clone(), Arc::clone(&options.clock)).map_err(failed)?;
    Ok((ledger, true))
}

/// Finishes a change of the ledger's key that was cut short behind its record: the new key is in force, and takes its place in the key
/// folder and in `fleet.yaml`.
fn finish_key_change(dir: &Path, fleet: &mut Fleet, ledger: &Ledger) -> Result<(), SetupError> {
    let (folder, current) = (KeyFolder::at(dir.join("keys")), ledger.key());
    if folder.next_ledger()?.is_some_and(|next| same_key(&next.verifier().to_string(), &current)) {
        folder.adopt_next_ledger()?;
    }
    if !same_key(&current, &fleet.keys.ledger) && keys::was_replaced(folder.path(), &fleet.keys.ledger) {
        fleet::replace_ledger_key(&dir.join(fleet::FLEET_FILE), &current)?;
        fleet.keys.ledger = current;
    }
    Ok(())
}

/// Whether two vkeys are the same key, whatever volume their names say.
fn same_key(one: &str, other: &str) -> bool {
    let parse = |text: &str| text.trim().parse::<VerifierKey>().ok();
    matches!((parse(one), parse(other)), (Some(one), Some(other)) if one.key() == other.key())
}

/// Whether the ledger's record 0 names the fleet that `fleet.yaml` describes.
fn check_belongs(dir: &Path, path: &Path, fleet: &Fleet, ledger: &Ledger) -> Result<(), SetupError> {
    let first = ledger
        .read(RecordIndex(0), 1)
        .map_err(|source| SetupError::Read { path: path.to_owned(), source: Box::new(source) })?;
    let other = |what| SetupError::OtherLedger { ledger: path.to_owned(), fleet: dir.join(fleet::FLEET_FILE), what };
    let record = first.first().and_then(|bytes| Record::parse(bytes).ok()).ok_or_else(|| other("record 0"))?;
    let opened: LedgerOpened = record.data_as().map_err(|_| other("record 0"))?;
    for (what, same) in [
        ("the name", opened.name == fleet.name),
        ("the ledger key", same_key(&ledger.key(), &fleet.keys.ledger)),
        ("the root key", opened.root_key == fleet.keys.root),
        ("the release key", opened.release_key.trim() == fleet.keys.release.trim()),
        ("the control plane's id", opened.control_node == fleet.control_node),
        ("the control plane's key", opened.control_key == fleet.keys.control),
    ] {
        if !same {
            return Err(other(what));
        }
    }
    Ok(())
}

/// The policy repo and its first commit, where there is none yet; the commit.
fn make_policies(path: &Path, options: &Options) -> Result<Option<cairn_schemas::ids::CommitId>, SetupError> {
    if path.exists() {
        return Ok(None);
    }
    let files = options.template.iter().map(|(path, bytes)| (path.clone(), FileEntry::plain(bytes.clone()))).collect();
    let commit = repo::create(path, &files, options.owner, &author(), FIRST_MESSAGE, options.clock.now());
    commit.map(Some).map_err(|source| SetupError::Policies { path: path.to_owned(), source: Box::new(source) })
}

/// In whose name the control plane commits and tags.
pub(crate) fn author() -> Author {
    Author { name: "Cairn".to_owned(), email: "cairn@localhost".to_owned() }
}

fn open_control(
    shown: &Path,
    fleet: &Fleet,
    keys: &Keys,
    ledger: &Ledger,
    options: &Options,
    step: &mut dyn FnMut(Step),
) -> Result<Control, SetupError> {
    let (ledger, clock) = (ledger.clone(), Arc::clone(&options.clock));
    if let Some(stream) = find_stream(shown, &ledger, &fleet.control_node)? {
        return Ok(Control::resume(ledger, stream, keys.control.clone(), clock));
    }
    let random = draw(options.random.as_ref()).map_err(SetupError::Random)?;
    let control = Control::create(ledger, &fleet.control_node, keys.control.clone(), clock, random)?;
    step(Step::StreamOpened { stream: control.stream() });
    Ok(control)
}

/// The control plane's stream: it is opened right after the ledger, or stands among what the oldest volume took over, so that this
/// reads a few records.
fn find_stream(shown: &Path, ledger: &Ledger, node: &NodeId) -> Result<Option<StreamId>, SetupError> {
    let mut next = ledger.start();
    loop {
        let entries = ledger
            .read_from(next, READ_STEP)
            .map_err(|source| SetupError::Read { path: shown.to_owned(), source: Box::new(source) })?;
        let Some((last, _)) = entries.last() else { return Ok(None) };
        next = last.plus(1);
        let ours = |id: &StreamId| id.node().as_ref() == Some(node);
        let found = entries.iter().filter_map(|(_, bytes)| Record::parse(bytes).ok()).find_map(|record| {
            let carried = match record.kind {
                RecordType::StreamOpened => return Some(record.stream).filter(ours),
                RecordType::LedgerOpened => record.data_as::<LedgerOpened>().ok()?.previous?.streams,
                RecordType::LedgerCarried => record.data_as::<LedgerCarried>().ok()?.streams,
                _ => return None,
            };
            carried.into_iter().map(|carried| carried.stream).find(ours)
        });
        if found.is_some() {
            return Ok(found);
        }
    }
}

fn token_path(dir: &Path, kind: NodeKind) -> PathBuf {
    dir.join("keys").join(format!("join-{}.token", kind.as_str()))
}

/// A token that was used, or that can be used, stays. One whose pins are no longer the fleet's could admit nobody.
fn make_token(
    dir: &Path,
    joins: &Joins,
    kind: NodeKind,
    random: &dyn Random,
    step: &mut dyn FnMut(Step),
) -> Result<(), SetupError> {
    let path = token_path(dir, kind);
    if let Some(token) = read_token(&path)?
        && (joins.was_used(&token) || (joins.is_known(&token) && token.pins == joins.pins().digest()))
    {
        return Ok(());
    }
    let token = joins.make_token(kind, draw(random).map_err(SetupError::Random)?)?;
    durable::write(&path, format!("{token}\n").as_bytes(), Readers::Owner)?;
    step(Step::TokenMade { kind, path });
    Ok(())
}

fn read_token(path: &Path) -> Result<Option<JoinToken>, SetupError> {
    let Some(bytes) = durable::read_optional(path)? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&bytes);
    text.trim().parse().map(Some).map_err(|_| SetupError::NotAToken { path: path.to_owned() })
}

#[cfg(test)]
mod tests;
