//! Tasks of this workspace that are not `cargo` itself: `cargo xtask <task>`.
//!
//! One module per task. A task prints what it does on standard error and exits 0, or 1 with "error: ..." and, where there
//! is one, "hint: ...".

mod auditor;
mod bench;
mod ebpf;
mod fuzz;
mod schemas;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of this workspace")]
struct Xtask {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the verifier as an auditor does: static, and the same bytes wherever it is built
    Auditor(auditor::Arguments),
    /// Measure this machine: figures beside their limits, nothing asserted
    Bench(bench::Arguments),
    /// Build the kernel programs and the object that is committed
    Ebpf(ebpf::Arguments),
    /// Feed made-up input to all that reads what others wrote
    Fuzz(fuzz::Arguments),
    /// Write schemas/v1 from the types
    Schemas,
}

/// A task's error with what to do about it.
struct Failure {
    error: Box<dyn std::error::Error>,
    hint: Option<String>,
}

fn main() -> ExitCode {
    let result = match Xtask::parse().task {
        Task::Auditor(arguments) => {
            auditor::run(&root(), &arguments).map_err(|error| Failure { hint: None, error: error.into() })
        }
        Task::Bench(arguments) => {
            bench::run(&root(), &arguments).map_err(|error| Failure { hint: None, error: error.into() })
        }
        Task::Ebpf(arguments) => {
            ebpf::run(&root(), arguments).map_err(|error| Failure { hint: error.hint(), error: error.into() })
        }
        Task::Fuzz(arguments) => {
            fuzz::run(&root(), &arguments).map_err(|error| Failure { hint: error.hint(), error: error.into() })
        }
        Task::Schemas => schemas::run(&root()).map_err(|error| Failure { hint: None, error: error.into() }),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprint!("error: {}", failure.error);
            let mut cause = failure.error.source();
            while let Some(error) = cause {
                eprint!(": {error}");
                cause = error.source();
            }
            eprintln!();
            if let Some(hint) = failure.hint {
                eprintln!("hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

/// The workspace's root: this crate's parent folder.
fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_path_buf()
}
