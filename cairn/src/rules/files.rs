//! Rules files on the command line: files, and folders of them as Falco reads its own.

use std::path::{Path, PathBuf};

use cairn_rules::RulesFile;

use crate::failure::Failure;

/// Rules files that were read.
pub(crate) struct Files {
    texts: Vec<(String, String)>,
}

impl Files {
    /// Reads them in order. Of a folder: its files that end in `.yaml` or `.yml`, by name, and no folder inside it.
    pub(crate) fn read(paths: &[PathBuf]) -> Result<Files, Failure> {
        let mut texts = Vec::new();
        for path in paths {
            if path.is_dir() {
                let inner = in_folder(path)?;
                if inner.is_empty() {
                    let failure = Failure::unknown(format!("{}: no rules file in the folder", path.display()));
                    return Err(failure.hint("files of a folder are read if they end in .yaml or .yml"));
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

fn in_folder(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failure = |error: std::io::Error| Failure::unknown(format!("{}: {error}", folder.display()));
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

fn read(path: &Path) -> Result<(String, String), Failure> {
    let bytes = std::fs::read(path).map_err(|error| Failure::unknown(format!("{}: {error}", path.display())))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        Failure::unknown(format!("{}: byte {} is not UTF-8", path.display(), error.utf8_error().valid_up_to()))
            .hint("rules files are text")
    })?;
    Ok((path.display().to_string(), text))
}
