use std::ffi::OsString;
use std::path::{Path, PathBuf};

use cairn_release::content::Content;
use cairn_schemas::ids::CommitId;
use cairn_schemas::paths;
use cairn_schemas::time::Timestamp;

use super::error::RepoError;
use super::owner::{Owner, run_as, start_libgit2};
use super::source::one_line;
use super::writer::{isolate, signature};

/// Who a commit or tag is said to be by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// Name.
    pub name: String,
    /// Address.
    pub email: String,
}

/// Makes a policy repo at `place` with `files` (any paths, not only policy) in one unsigned commit on the branch `main`.
///
/// With an `owner` everything in it belongs to them. It is made beside its place and renamed: after a crash it is there
/// whole, or not at all and made again. Files are made with modes 0644 and 0755 as far as the umask allows.
///
/// # Errors
/// [`RepoError::Exists`] if anything is at `place`; [`RepoError::Path`]; [`RepoError::Write`]; [`RepoError::Owner`].
pub fn create(
    place: &Path,
    files: &Content,
    owner: Option<Owner>,
    author: &Author,
    message: &str,
    now: Timestamp,
) -> Result<CommitId, RepoError> {
    let failed = |error: &dyn std::fmt::Display| RepoError::Write { path: place.to_owned(), reason: one_line(error) };
    for path in files.keys() {
        paths::validate(path)?;
    }
    if place.symlink_metadata().is_ok() {
        return Err(RepoError::Exists { path: place.to_owned() });
    }
    let new = beside(place);
    if new.symlink_metadata().is_ok() {
        // Left by a crash.
        std::fs::remove_dir_all(&new).map_err(|error| failed(&error))?;
    }
    std::fs::create_dir(&new).map_err(|error| failed(&error))?;
    // The owner may not write to the folder above, so the folder itself is made here and given away.
    let owner = owner.filter(|_| rustix::process::geteuid().is_root());
    if let Some(owner) = owner {
        std::os::unix::fs::lchown(&new, Some(owner.uid), Some(owner.gid)).map_err(|error| failed(&error))?;
    }
    start_libgit2();
    let commit = run_as(owner, || fill(&new, files, author, message, now).map_err(|error| failed(&error)))?;
    // One call makes everything under it durable; then the name may appear.
    let synced = std::fs::File::open(&new).and_then(|folder| Ok(rustix::fs::syncfs(folder)?));
    synced.and_then(|()| std::fs::rename(&new, place)).map_err(|error| failed(&error))?;
    let above = place.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(above).and_then(|folder| folder.sync_all()).map_err(|error| failed(&error))?;
    Ok(commit)
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn fill(folder: &Path, files: &Content, author: &Author, message: &str, now: Timestamp) -> Result<CommitId, Failure> {
    use std::os::unix::fs::OpenOptionsExt as _;

    let mut options = git2::RepositoryInitOptions::new();
    options.no_reinit(true).initial_head("main").external_template(false);
    let repo = git2::Repository::init_opts(folder, &options)?;
    isolate(&repo)?;
    let mut index = repo.index()?;
    for (path, file) in files {
        let place = folder.join(path);
        std::fs::create_dir_all(place.parent().unwrap_or(folder))?;
        let mode = if file.executable { 0o755 } else { 0o644 };
        let mut opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&place)?;
        std::io::Write::write_all(&mut opened, &file.bytes)?;
        // From the work tree, so that the index has the file's times and `git status` finds nothing to look at. No filter
        // applies: attributes of the files themselves are off for a repo without configuration.
        index.add_path(Path::new(path))?;
    }
    index.write()?;
    let tree = repo.find_tree(index.write_tree()?)?;
    let signature = signature(author, now)?;
    let id = repo.commit(Some("HEAD"), &signature, &signature, message, &tree, &[])?;
    Ok(id.to_string().parse()?)
}

fn beside(place: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(place.file_name().unwrap_or_default());
    name.push(".new");
    place.with_file_name(name)
}
