//! Writes the list of the template's files for `template.rs` to include: a policy repo to start from, inside the binary.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../policies-repo-template");
    let root = root.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", root.display()));
    println!("cargo::rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    let mut list = "static FILES: &[(&str, &[u8])] = &[\n".to_owned();
    for file in &files {
        let path = file.strip_prefix(&root).expect("it was found below the root");
        let path = path.to_str().expect("the template's names are UTF-8").replace('\\', "/");
        list += &format!("    ({path:?}, include_bytes!({:?})),\n", file.display().to_string());
    }
    list += "];\n";
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it")).join("template.rs");
    fs::write(&out, list).unwrap_or_else(|error| panic!("{}: {error}", out.display()));
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.unwrap_or_else(|error| panic!("{}: {error}", folder.display())).path();
        if path.is_dir() { collect(&path, files) } else { files.push(path) }
    }
}
