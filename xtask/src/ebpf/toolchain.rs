//! Finding, describing and installing the tools that build the kernel programs.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{EbpfError, TARGET, execute};

/// Where the compiler comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Source {
    /// A rustup nightly with rust-src, which builds the core library along
    Nightly,
    /// Debian's rustc-web with the core library built for the kernel's machine
    Debian,
}

/// Debian's packages: the compiler, cargo, core for the kernel's machine, and what bpf-linker is built against.
const PACKAGES: [&str; 7] = [
    "rustc-web",
    "cargo-web",
    "libstd-rust-web-dev-bpf",
    "llvm-22-dev",
    "libpolly-22-dev",
    "libzstd-dev",
    "zlib1g-dev",
];

/// Where Debian's LLVM lies, and the feature of bpf-linker for it.
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
const LLVM_FEATURE: &str = "llvm-22";

/// Debian's compiler, whatever rustup put before it in the path.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";

/// Tools that can build the programs.
pub(super) struct Toolchain {
    source: Source,
    pub(super) rustc_version: String,
    llvm_version: String,
    linker_version: String,
    /// The path to search, with the folder of bpf-linker in it.
    path: std::ffi::OsString,
}

/// Finds tools: the ones `wanted`, else the `preferred` ones if they are there, else a nightly, else Debian's.
pub(super) fn find(wanted: Option<Source>, preferred: Option<Source>) -> Result<Toolchain, EbpfError> {
    let candidates = match (wanted, preferred) {
        (Some(wanted), _) => vec![wanted],
        (None, Some(preferred)) => vec![preferred, Source::Nightly, Source::Debian],
        (None, None) => vec![Source::Nightly, Source::Debian],
    };
    let source = candidates.into_iter().find(|source| is_there(*source)).ok_or(EbpfError::NoCompiler)?;
    let path = path_with_cargo_home();
    let linker_version =
        output(Command::new("bpf-linker").arg("--version").env("PATH", &path)).ok_or(EbpfError::NoLinker)?;
    let verbose = output(rustc(source).arg("-vV")).ok_or(EbpfError::NoCompiler)?;
    let llvm_version = verbose.lines().find_map(|line| line.strip_prefix("LLVM version: ")).unwrap_or("unknown");
    Ok(Toolchain {
        source,
        rustc_version: verbose.lines().next().unwrap_or_default().to_owned(),
        llvm_version: llvm_version.to_owned(),
        linker_version: linker_version.trim().to_owned(),
        path,
    })
}

impl Toolchain {
    /// The cargo that goes with the compiler, told to use it.
    pub(super) fn cargo(&self) -> Command {
        let mut command = match self.source {
            Source::Nightly => {
                let mut command = Command::new("rustup");
                command.args(["run", "nightly", "cargo", "-Zbuild-std=core"]);
                command
            }
            Source::Debian => {
                let mut command = Command::new(DEBIAN_CARGO);
                // aya-ebpf uses features of the compiler that are not stable for this target.
                command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
                command
            }
        };
        // This very program runs under a cargo that left its own mark here.
        command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").env("PATH", &self.path);
        command
    }

    /// What is committed beside the object.
    pub(super) fn describe(&self) -> String {
        let source = match self.source {
            Source::Nightly => "nightly, core built along",
            Source::Debian => "debian, libstd-rust-web-dev-bpf",
        };
        format!(
            "source: {source}\nrustc: {}\nllvm: {}\nlinker: {}\n",
            self.rustc_version, self.llvm_version, self.linker_version
        )
    }
}

/// The source named in a description.
pub(super) fn source_in(description: &str) -> Option<Source> {
    let source = description.lines().find_map(|line| line.strip_prefix("source: "))?;
    if source.starts_with("debian") {
        Some(Source::Debian)
    } else if source.starts_with("nightly") {
        Some(Source::Nightly)
    } else {
        None
    }
}

/// Installs what is missing. Debian's packages need root and Debian; elsewhere rustup's nightly is the way.
pub(super) fn install(wanted: Option<Source>) -> Result<(), EbpfError> {
    let debian = wanted.map_or(!is_there(Source::Nightly), |wanted| wanted == Source::Debian);
    if debian {
        let mut apt = Command::new("apt-get");
        execute(apt.args(["install", "-y", "--no-install-recommends"]).args(PACKAGES))?;
    } else if !is_there(Source::Nightly) {
        let mut rustup = Command::new("rustup");
        // A nightly that is there stays the one it is.
        if output(rustc(Source::Nightly).arg("--version")).is_some() {
            rustup.args(["component", "add", "rust-src", "--toolchain", "nightly"]);
        } else {
            rustup.args(["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"]);
        }
        execute(&mut rustup)?;
    }
    if output(Command::new("bpf-linker").arg("--version").env("PATH", path_with_cargo_home())).is_some() {
        eprintln!("bpf-linker is there");
        return Ok(());
    }
    let mut cargo = Command::new("cargo");
    cargo.args(["install", "--locked", "bpf-linker"]);
    if Path::new(LLVM_PREFIX).exists() {
        cargo.args(["--no-default-features", "--features", LLVM_FEATURE]).env("LLVM_PREFIX", LLVM_PREFIX);
    }
    execute(&mut cargo)
}

fn is_there(source: Source) -> bool {
    let Some(sysroot) = output(rustc(source).args(["--print", "sysroot"])) else {
        return false;
    };
    let libraries = PathBuf::from(sysroot.trim()).join("lib/rustlib");
    match source {
        Source::Nightly => libraries.join("src/rust/library/core").exists(),
        Source::Debian => libraries.join(TARGET).exists(),
    }
}

fn rustc(source: Source) -> Command {
    match source {
        Source::Nightly => {
            let mut command = Command::new("rustup");
            command.args(["run", "nightly", "rustc"]);
            command
        }
        Source::Debian => Command::new(DEBIAN_RUSTC),
    }
}

/// A command's standard output, if it can be run and succeeds.
fn output(command: &mut Command) -> Option<String> {
    let output = command.env_remove("RUSTUP_TOOLCHAIN").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The path with the folder `cargo install` installs to, which not every shell has in it.
fn path_with_cargo_home() -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let folders = std::env::split_paths(&path).chain(home.map(|home| home.join("bin")));
    std::env::join_paths(folders).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_names_its_source() {
        for source in [Source::Nightly, Source::Debian] {
            let toolchain = Toolchain {
                source,
                rustc_version: "rustc 1.96.0".into(),
                llvm_version: "22.1.8".into(),
                linker_version: "bpf-linker 0.13.0".into(),
                path: std::ffi::OsString::new(),
            };
            assert_eq!(source_in(&toolchain.describe()), Some(source));
        }
        assert_eq!(source_in("rustc: x\n"), None);
    }
}
