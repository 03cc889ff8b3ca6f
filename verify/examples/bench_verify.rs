//! How fast a ledger is verified on this machine. `cargo xtask bench verify` makes the ledger, runs this and repeats it.
//!
//! ```text
//! bench_verify LEDGER
//! ```
//!
//! Prints `name value`, times in seconds. The limit is measured in the same process, over the same records: SHA-256 of each leaf and of each
//! node above them, on one core, with every byte in memory already. No verifier that checks the tree can be faster on that core.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use cairn_ledger::dir::LedgerDir;
use cairn_schemas::digest::Digest;
use cairn_verify::{Options, Verdict, verify};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: bench_verify LEDGER")?;
    let path = Path::new(&path);
    let ledger = LedgerDir::open(path)?;
    let (checkpoint, _) = ledger.checkpoint()?;
    let size = checkpoint.size;
    let records: Vec<Vec<u8>> =
        ledger.records(0..size.0, size).map(|item| item.map(|(_, bytes)| bytes)).collect::<Result<_, _>>()?;

    // The tree's shape costs nothing here: every pair is hashed once, whatever its level; a node without a sibling moves up.
    let started = Instant::now();
    let mut hashes: Vec<Digest> = records.iter().map(|record| Digest::leaf(record)).collect();
    while hashes.len() > 1 {
        hashes = hashes
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => Digest::node(left, right),
                lone => lone[0],
            })
            .collect();
    }
    let hashing = started.elapsed();
    if hashes.first() != Some(&checkpoint.root) {
        return Err("the records do not hash to the checkpoint's root".into());
    }
    let bytes: usize = records.iter().map(Vec::len).sum();
    drop(records);

    println!("records {}", size.0);
    println!("bytes {bytes}");
    println!("hashing {}", hashing.as_secs_f64());
    for (name, threads) in [("one_core", 1), ("all_cores", 0)] {
        let started = Instant::now();
        let report = verify(path, &Options { threads, ..Options::default() });
        println!("{name} {}", started.elapsed().as_secs_f64());
        if report.verdict != Verdict::Ok {
            return Err(format!("a ledger that should be whole is not:\n{}", cairn_verify::render(&report)).into());
        }
    }
    Ok(())
}
