//! Reading and writing folders: the edge of this crate.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use cairn_schemas::paths::{POLICY_FILES, POLICY_FOLDERS};

use crate::check::InputFile;
use crate::limits::{CHECKED_FILE_BYTES_MAX, FILE_BYTES_MAX, FILES_MAX};
use crate::template;
use crate::tree::PolicyTree;

/// Why a folder or file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirError {
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A symbolic link, socket or the like where a policy file or folder should be. A release could not carry it.
    #[error("{}: a policy consists of plain files and folders, and this is neither", path.display())]
    NotAFile {
        /// What was found.
        path: PathBuf,
    },
    /// A name that is not UTF-8.
    #[error("{}: the name is not UTF-8", path.display())]
    Name {
        /// What was found.
        path: PathBuf,
    },
    /// More than [`FILES_MAX`] files.
    #[error("{}: more than {FILES_MAX} policy files", path.display())]
    TooManyFiles {
        /// The policy repo.
        path: PathBuf,
    },
    /// A file larger than a limit, which is in bytes.
    #[error("{}: larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// The folder is no policy repo.
    #[error("{}: no policy repo here: there is no cairn.yaml", path.display())]
    NoPolicy {
        /// The folder.
        path: PathBuf,
    },
    /// There is something in the folder already.
    #[error("{}: not empty", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A path that `cairn check` found no document under.
    #[error("{}: no .yaml, .yml or .json file below it", path.display())]
    NothingToCheck {
        /// The path.
        path: PathBuf,
    },
    /// A folder of guardrails without any.
    #[error("{}: no .rego file below it", path.display())]
    NoRego {
        /// The folder.
        path: PathBuf,
    },
    /// Bytes that are not text.
    #[error("{}: not UTF-8 text", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
}

impl DirError {
    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoPolicy { .. } => Some("`cairn init DIR` makes a policy repo to start from"),
            Self::NoRego { .. } => Some("name the policy repo, or the folder with the Rego files"),
            Self::NotEmpty { .. } => Some("name a folder that does not exist yet, or an empty one"),
            Self::NotAFile { .. } => Some("replace it by a copy of what it stands for"),
            _ => None,
        }
    }

    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// Reads the policy files of a policy repo's work tree; what else lies there is not touched.
///
/// # Errors
/// [`DirError`]; links are refused rather than followed, since a commit carries the link and not what it points to.
pub fn read_policy(root: &Path) -> Result<PolicyTree, DirError> {
    let mut tree = PolicyTree::new();
    fs::read_dir(root).map_err(DirError::io(root))?;
    for name in POLICY_FILES {
        let path = root.join(name);
        if fs::symlink_metadata(&path).is_ok() {
            tree.insert(name.to_owned(), read_policy_file(&path)?);
        }
    }
    if !tree.contains_key(crate::CONFIG_PATH) {
        return Err(DirError::NoPolicy { path: root.to_owned() });
    }
    for name in POLICY_FOLDERS {
        let path = root.join(name);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => read_folder(root, &path, name, &mut tree)?,
            Ok(_) => return Err(DirError::NotAFile { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(DirError::io(&path)(error)),
        }
    }
    Ok(tree)
}

fn read_folder(root: &Path, folder: &Path, name: &str, tree: &mut PolicyTree) -> Result<(), DirError> {
    for entry in fs::read_dir(folder).map_err(DirError::io(folder))? {
        let path = entry.map_err(DirError::io(folder))?.path();
        let child =
            path.file_name().and_then(|name| name.to_str()).ok_or_else(|| DirError::Name { path: path.clone() })?;
        let name = format!("{name}/{child}");
        let metadata = fs::symlink_metadata(&path).map_err(DirError::io(&path))?;
        if metadata.is_dir() {
            read_folder(root, &path, &name, tree)?;
            continue;
        }
        tree.insert(name, read_policy_file(&path)?);
        if tree.len() > FILES_MAX {
            return Err(DirError::TooManyFiles { path: root.to_owned() });
        }
    }
    Ok(())
}

fn read_policy_file(path: &Path) -> Result<Vec<u8>, DirError> {
    let metadata = fs::symlink_metadata(path).map_err(DirError::io(path))?;
    if !metadata.is_file() {
        return Err(DirError::NotAFile { path: path.to_owned() });
    }
    read_bounded(path, FILE_BYTES_MAX)
}

fn read_bounded(path: &Path, limit: usize) -> Result<Vec<u8>, DirError> {
    let file = fs::File::open(path).map_err(DirError::io(path))?;
    let mut bytes = Vec::new();
    // One byte more than the limit shows that there was more; the file may grow while it is read.
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(DirError::io(path))?;
    if bytes.len() > limit {
        return Err(DirError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

/// Reads the Rego files that `cairn check` applies: those in `guardrails/` of a policy repo, or all below a folder that is none (as
/// Conftest's `policy/`), as pairs of path and text for [`cairn_guardrails::Guardrails::load`].
///
/// # Errors
/// [`DirError`]; also when there is no Rego file, since a check by no rule would look like a check that passed.
pub fn read_rego(root: &Path) -> Result<Vec<(String, String)>, DirError> {
    let guardrails = root.join("guardrails");
    let folder = if guardrails.is_dir() { guardrails } else { root.to_owned() };
    let mut found = Vec::new();
    walk_rego(&folder, &mut found)?;
    if found.is_empty() {
        return Err(DirError::NoRego { path: folder });
    }
    Ok(found)
}

fn walk_rego(folder: &Path, found: &mut Vec<(String, String)>) -> Result<(), DirError> {
    for path in sorted(folder)? {
        let metadata = fs::symlink_metadata(&path).map_err(DirError::io(&path))?;
        if is_hidden(&path) {
            continue;
        } else if metadata.is_dir() {
            walk_rego(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rego") {
            let bytes = read_bounded(&path, FILE_BYTES_MAX)?;
            let text = String::from_utf8(bytes).map_err(|_| DirError::NotText { path: path.clone() })?;
            found.push((path.display().to_string(), text));
        }
    }
    Ok(())
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>, DirError> {
    let entries = fs::read_dir(folder).map_err(DirError::io(folder))?;
    let paths: Result<Vec<_>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(DirError::io(folder))?;
    paths.sort();
    Ok(paths)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// Reads what `cairn check PATH…` checks: files as named, and the `.yaml`, `.yml` and `.json` files below folders, hidden ones left
/// out, in the order of their names.
///
/// # Errors
/// [`DirError`]; also when a folder holds no such file, since a check of nothing would look like a check that passed.
pub fn read_documents(paths: &[PathBuf]) -> Result<Vec<InputFile>, DirError> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let before = files.len();
            walk(path, &mut files)?;
            if files.len() == before {
                return Err(DirError::NothingToCheck { path: path.clone() });
            }
        } else {
            files.push(read_document(path)?);
        }
    }
    Ok(files)
}

fn walk(folder: &Path, files: &mut Vec<InputFile>) -> Result<(), DirError> {
    for path in sorted(folder)? {
        let extension = path.extension().and_then(|extension| extension.to_str());
        let metadata = fs::symlink_metadata(&path).map_err(DirError::io(&path))?;
        if is_hidden(&path) {
            continue;
        } else if metadata.is_dir() {
            walk(&path, files)?;
        } else if matches!(extension, Some("yaml" | "yml" | "json")) {
            files.push(read_document(&path)?);
        }
    }
    Ok(())
}

fn read_document(path: &Path) -> Result<InputFile, DirError> {
    let bytes = read_bounded(path, CHECKED_FILE_BYTES_MAX)?;
    let text = String::from_utf8(bytes).map_err(|_| DirError::NotText { path: path.to_owned() })?;
    Ok(InputFile { name: path.display().to_string(), text })
}

/// Writes the template into a folder, which is made if it is not there: `cairn init DIR`. Returns the files written.
///
/// # Errors
/// [`DirError::NotEmpty`] if there is anything in the folder; then nothing is written.
pub fn init(root: &Path) -> Result<Vec<PathBuf>, DirError> {
    match fs::read_dir(root) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(DirError::NotEmpty { path: root.to_owned() });
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(DirError::io(root)(error)),
    }
    let mut written = Vec::new();
    for (name, bytes) in template::files() {
        let path = root.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(DirError::io(parent))?;
        }
        fs::write(&path, bytes).map_err(DirError::io(&path))?;
        written.push(path);
    }
    Ok(written)
}
