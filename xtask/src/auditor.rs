//! `cargo xtask auditor`: the verifier as an auditor builds it, and the proof that its bytes follow from its sources.
//!
//! One static program without network, async runtime or C: `cairn` with the feature `verify` alone. Its bytes do not depend on where
//! the sources lie: paths are mapped away, symbols stripped, one code generation unit. Who has the same sources, the same Rust
//! toolchain and the same linker gets the same SHA-256. `--check` builds it twice, from copies in folders of different names.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use cairn_schemas::digest::Digest;
use thiserror::Error;

/// The profile in Cargo.toml.
const PROFILE: &str = "auditor";
/// Two names of different lengths: a path that got into the program would show.
const COPIES: [&str; 2] = ["one", "another-folder"];

/// How to build it.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Build it twice from copies in two folders, and compare
    #[arg(long)]
    check: bool,
}

/// Why it was not built, or is not reproducible.
#[derive(Debug, Error)]
pub(crate) enum AuditorError {
    /// A program could not be run.
    #[error("cannot run {program}")]
    Run {
        /// Which.
        program: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A program failed.
    #[error("{program} failed; what it said stands above")]
    Failed {
        /// Which.
        program: &'static str,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Two builds of the same sources differ.
    #[error("two builds of the same sources differ: {one} and {other}; compare {} and {}", .paths[0].display(), .paths[1].display())]
    Differ {
        /// The first one's SHA-256.
        one: Digest,
        /// The second one's.
        other: Digest,
        /// Where both lie.
        paths: [PathBuf; 2],
    },
}

/// Builds it in the work tree, or twice beside it.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<(), AuditorError> {
    let target = target()?;
    if !arguments.check {
        let built = build(root, &root.join("target/auditor"), &target)?;
        println!("{}  {}", digest(&built)?, built.display());
        return Ok(());
    }
    let paths = COPIES.map(|name| root.join("target/auditor-check").join(name));
    let mut built = Vec::new();
    // Both copies first: what somebody edits while the first is built must not look like a difference.
    paths.iter().try_for_each(|path| copy_sources(root, path))?;
    for path in &paths {
        built.push(build(path, &path.join("target"), &target)?);
    }
    let [one, other] = [digest(&built[0])?, digest(&built[1])?];
    if one != other {
        return Err(AuditorError::Differ { one, other, paths: [built[0].clone(), built[1].clone()] });
    }
    println!("{one}  cairn ({target}), twice, from two folders");
    Ok(())
}

/// The target whose standard library is static by itself, where it is installed; else this machine's, linked statically.
fn target() -> Result<String, AuditorError> {
    let host = output("rustc", &["--print", "host-tuple"])?;
    let musl = host.replace("-gnu", "-musl");
    let library = output("rustc", &["--target", &musl, "--print", "target-libdir"]).unwrap_or_default();
    if Path::new(&library).is_dir() {
        return Ok(musl);
    }
    eprintln!("{musl} is not installed (rustup target add {musl}): linking {host} statically instead");
    Ok(host)
}

/// Builds the program whose workspace is at `root`; returns where it lies.
fn build(root: &Path, target_dir: &Path, target: &str) -> Result<PathBuf, AuditorError> {
    let cargo_home =
        std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let mut flags: Vec<OsString> = vec!["-Ctarget-feature=+crt-static".into(), "-Clink-arg=-Wl,--build-id=none".into()];
    for (from, to) in [(Some(root.to_owned()), "/cairn"), (cargo_home, "/cargo")] {
        if let Some(from) = from {
            let mut flag = OsString::from("--remap-path-prefix=");
            flag.push(from);
            flag.push("=");
            flag.push(to);
            flags.push(flag);
        }
    }
    let flags = flags.join(std::ffi::OsStr::new("\x1f"));
    let status = Command::new("cargo")
        .current_dir(root)
        .args(["build", "--locked", "--quiet", "-p", "cairn", "--no-default-features", "--features", "verify"])
        .args(["--profile", PROFILE, "--target", target, "--target-dir"])
        .arg(target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .env("SOURCE_DATE_EPOCH", "0")
        .env("CARGO_INCREMENTAL", "0")
        .status()
        .map_err(|source| AuditorError::Run { program: "cargo", source })?;
    if !status.success() {
        return Err(AuditorError::Failed { program: "cargo" });
    }
    Ok(target_dir.join(target).join(PROFILE).join("cairn"))
}

/// Copies what Git tracks, and what it would, to a folder that is made anew.
fn copy_sources(root: &Path, to: &Path) -> Result<(), AuditorError> {
    let fail = |action, path: &Path| {
        let path = path.to_owned();
        move |source| AuditorError::Io { action, path, source }
    };
    if to.exists() {
        // Its `target` stays: the second check on a machine compiles only what changed.
        for entry in std::fs::read_dir(to).map_err(fail("read", to))? {
            let path = entry.map_err(fail("read", to))?.path();
            if path.file_name().is_some_and(|name| name == "target") {
                continue;
            }
            let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.map_err(fail("remove", &path))?;
        }
    }
    let arguments = ["-C", &root.to_string_lossy(), "ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = output("git", &arguments)?;
    for file in listed.split('\0').filter(|file| !file.is_empty()) {
        let (from, to) = (root.join(file), to.join(file));
        // A file that is deleted and not yet committed is listed too.
        if !from.is_file() {
            continue;
        }
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder).map_err(fail("make", folder))?;
        }
        std::fs::copy(&from, &to).map_err(fail("copy", &from))?;
    }
    Ok(())
}

fn digest(path: &Path) -> Result<Digest, AuditorError> {
    let bytes =
        std::fs::read(path).map_err(|source| AuditorError::Io { action: "read", path: path.to_owned(), source })?;
    Ok(Digest::sha256(&bytes))
}

fn output(program: &'static str, arguments: &[&str]) -> Result<String, AuditorError> {
    let output =
        Command::new(program).args(arguments).output().map_err(|source| AuditorError::Run { program, source })?;
    if !output.status.success() {
        return Err(AuditorError::Failed { program });
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
}
