//! `cargo xtask schemas`: writes `schemas/v1/` from the types in `cairn-schemas`.
//!
//! A test fails when the files and the types differ. From the first tagged release on, a schema in `v1/` is frozen.

use std::fs;
use std::io;
use std::path::Path;

/// Writes every schema file and removes those that belong to no type any more.
///
/// # Errors
/// The system's.
pub(crate) fn run(root: &Path) -> io::Result<()> {
    let folder = root.join("schemas/v1");
    fs::create_dir_all(&folder)?;
    let files = cairn_schemas::schema::files();
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if !name.to_str().is_some_and(|name| files.contains_key(name)) {
            fs::remove_file(entry.path())?;
            eprintln!("removed schemas/v1/{}", name.display());
        }
    }
    for (name, text) in files {
        let path = folder.join(&name);
        if fs::read_to_string(&path).ok().as_deref() != Some(&text) {
            fs::write(&path, text)?;
            eprintln!("wrote schemas/v1/{name}");
        }
    }
    Ok(())
}
