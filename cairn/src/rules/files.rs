//! Rules files on the command line: files, and folders of them as Falco reads its own.

use std::path::{Path, PathBuf};

use cairn_rules::RulesFile;

use crate::failure::Failure;

/// Rules files that were read.
pub(crate) struct Files {
    texts: Vec<(String, String)>,
}

/// A file or folder that is not there, or not what it should be.
pub(crate) struct Unreadable {
    pub(crate) path: String,
    pub(crate) reason: String,
    hint: Option<&'static str>,
}

impl Unreadable {
    fn new(path: &Path, reason: impl ToString) -> Self {
        Self { path: path.display().to_string(), reason: reason.to_string(), hint: None }
    }
}

impl From<Unreadable> for Failure {
    fn from(unreadable: Unreadable) -> Self {
        let failure = Failure::unknown(format!("{}: {}", unreadable.path, unreadable.reason));
        match unreadable.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl Files {
    /// Reads them in order. Of a folder: its files that end in `.yaml` or `.yml`, by name, and no folder inside it.
    pub(crate) fn read(paths: &[PathBuf]) -> Result<Files, Unreadable> {
        let mut texts = Vec::new();
        for path in paths {
            if path.is_dir() {
                let inner = in_folder(path)?;
                if inner.is_empty() {
                    let hint = Some("files of a folder are read if they end in .yaml or .yml");
                    return Err(Unreadable { hint, ..Unreadable::new(path, "no rules file in the folder") });
                }
                for path in inner {
                    texts.push(read(&path)?);
                }
            } else {
                texts.push(read(path)?);
            }
        }
        Ok(Files { texts })
    }

    pub(crate) fn all(&self) -> Vec<RulesFile<'_>> {
        self.texts.iter().map(|(path, text)| RulesFile { path, text }).collect()
    }
}

fn in_folder(folder: &Path) -> Result<Vec<PathBuf>, Unreadable> {
    let failure = |error: std::io::Error| Unreadable::new(folder, error);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failure)? {
        let path = entry.map_err(failure)?.path();
        let is_rules_file = path.extension().is_some_and(|end| end == "yaml" || end == "yml");
        if is_rules_file && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<(String, String), Unreadable> {
    let bytes = std::fs::read(path).map_err(|error| Unreadable::new(path, error))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let reason = format!("byte {} is not UTF-8", error.utf8_error().valid_up_to());
        Unreadable { hint: Some("rules files are text"), ..Unreadable::new(path, reason) }
    })?;
    Ok((path.display().to_string(), text))
}
