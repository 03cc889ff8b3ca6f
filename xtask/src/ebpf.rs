//! `cargo xtask ebpf`: builds `sensor/ebpf` into `sensor/ebpf/object/cairn.bpf.o`, which is committed, so that a plain
//! `cargo build` needs neither the compiler for it nor the linker.
//!
//! Two compilers can build it: a nightly toolchain with the library's source, or the one that Debian builds its browsers
//! with, which comes with the core library built for the kernel's machine. Both need `bpf-linker`. The object holds no
//! paths and no debug information: the same tools make the same bytes anywhere, and `--check` says so or says what differs.

mod elf;
mod toolchain;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use toolchain::{Source, Toolchain};

/// The kernel's machine, little-endian: x86-64 and 64-bit ARM alike.
const TARGET: &str = "bpfel-unknown-none";

/// Where the crate is.
const CRATE: &str = "sensor/ebpf";

/// Where the object and its toolchain are committed.
const OBJECT: &str = "sensor/ebpf/object/cairn.bpf.o";
const TOOLCHAIN: &str = "sensor/ebpf/object/toolchain.txt";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Build elsewhere and compare with the committed object; change nothing
    #[arg(long, conflicts_with = "install")]
    check: bool,
    /// Install what is needed: Debian's compiler (as root) unless a nightly is there, and bpf-linker
    #[arg(long)]
    install: bool,
    /// Which compiler to use
    #[arg(long, value_enum)]
    with: Option<Source>,
}

/// Why the object was not built, or is not the committed one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EbpfError {
    #[error("no compiler for {TARGET} was found")]
    NoCompiler,
    #[error("bpf-linker was not found")]
    NoLinker,
    #[error("cannot run {program}")]
    Run {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("{program} failed ({status})")]
    Failed { program: String, status: ExitStatus },
    #[error("{}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not an ELF object", path.display())]
    NotElf { path: PathBuf },
    #[error("the committed object is not what these sources and tools make:\n  {}", differences.join("\n  "))]
    Differs { differences: Vec<String>, built: PathBuf },
}

impl EbpfError {
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            EbpfError::NoCompiler | EbpfError::NoLinker => Some("run `cargo xtask ebpf --install`".into()),
            EbpfError::Differs { built, .. } => Some(format!(
                "if the sources changed, run `cargo xtask ebpf` and commit the object; to try the one just built, run \
                 the kernel tests with CAIRN_EBPF_OBJECT={}",
                built.display()
            )),
            _ => None,
        }
    }
}

pub(crate) fn run(root: &Path, arguments: Arguments) -> Result<(), EbpfError> {
    if arguments.install {
        return toolchain::install(arguments.with);
    }
    let committed_with = fs::read_to_string(root.join(TOOLCHAIN)).ok();
    // The tools that made the committed object, where they are there: another compiler is a choice to be made, not an accident.
    let preferred = committed_with.as_deref().and_then(toolchain::source_in);
    let toolchain = toolchain::find(arguments.with, preferred)?;
    let built = build(root, &toolchain)?;
    if arguments.check {
        return check(root, &built, &toolchain, committed_with.as_deref());
    }
    let object = root.join(OBJECT);
    let folder = object.parent().unwrap_or(root);
    fs::create_dir_all(folder).map_err(at(folder))?;
    fs::copy(&built, &object).map_err(at(&object))?;
    let described = root.join(TOOLCHAIN);
    fs::write(&described, toolchain.describe()).map_err(at(&described))?;
    eprintln!("built {OBJECT} with {}", toolchain.rustc_version);
    Ok(())
}

/// Builds the crate and returns where the object lies.
fn build(root: &Path, toolchain: &Toolchain) -> Result<PathBuf, EbpfError> {
    let target_dir = root.join("target/ebpf");
    let mut command = toolchain.cargo();
    command
        .current_dir(root.join(CRATE))
        .args(["build", "--release", "--locked", "--target", TARGET])
        .env("CARGO_TARGET_DIR", &target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(root))
        .env_remove("RUSTFLAGS");
    execute(&mut command)?;
    Ok(target_dir.join(TARGET).join("release/cairn"))
}

/// Compiler flags, separated as cargo wants them. No panic message or location may carry this machine's paths.
fn flags(root: &Path) -> String {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))
        .unwrap_or_default();
    [format!("--remap-path-prefix={}=/cargo", home.display()), format!("--remap-path-prefix={}=/cairn", root.display())]
        .join("\u{1f}")
}

fn check(root: &Path, built: &Path, toolchain: &Toolchain, committed_with: Option<&str>) -> Result<(), EbpfError> {
    let object = root.join(OBJECT);
    let committed_bytes = fs::read(&object).map_err(at(&object))?;
    let built_bytes = fs::read(built).map_err(at(built))?;
    if committed_bytes == built_bytes {
        eprintln!("{OBJECT} is what its sources make: all {} bytes are the same", built_bytes.len());
        return Ok(());
    }
    let read = |bytes, path: &Path| elf::sections(bytes).ok_or_else(|| EbpfError::NotElf { path: path.into() });
    let mut differences = elf::differences(&read(&committed_bytes, &object)?, &read(&built_bytes, built)?);
    if differences.is_empty() {
        eprintln!("{OBJECT} has the code its sources make; only tables that are not loaded differ");
        return Ok(());
    }
    let here = toolchain.describe();
    if committed_with.is_some_and(|committed| committed != here) {
        differences
            .push(format!("it was built with other tools:\n{}here:\n{here}", committed_with.unwrap_or_default()));
    }
    Err(EbpfError::Differs { differences, built: built.into() })
}

/// Runs a command to its end; its output goes where ours does.
fn execute(command: &mut Command) -> Result<(), EbpfError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|source| EbpfError::Run { program: program.clone(), source })?;
    if status.success() { Ok(()) } else { Err(EbpfError::Failed { program, status }) }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> EbpfError {
    let path = path.to_path_buf();
    |source| EbpfError::File { path, source }
}
