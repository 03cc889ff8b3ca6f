//! Writes the signed half of a sample release and its public key, for the scripts in `release/interop`:
//! `cargo run -p cairn-release --example sample -- FOLDER` makes `content.tar`, `statement.sigstore.json` and `key.pem` there.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cairn_release::content::{Content, FileEntry, pack};
use cairn_release::key::ReleaseSigner;
use cairn_release::statement::{self, Author, Base64, CommitEvidence, Predicate, SignatureSummary, TestSummary};
use cairn_release::{bundle, files};
use cairn_schemas::ids::Serial;
use cairn_schemas::time::Timestamp;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: sample FOLDER")?);
    std::fs::create_dir_all(&folder)?;
    let content = Content::from([("cairn.yaml".to_owned(), FileEntry::plain("version: 1\n"))]);
    let tar = pack(&content)?;
    let predicate = Predicate {
        serial: Serial(1),
        built: Timestamp::from_nanos(1_700_000_000_000_000_000),
        expires: Timestamp::from_nanos(1_800_000_000_000_000_000),
        commit: CommitEvidence {
            id: "0".repeat(40).parse()?,
            raw: Base64(b"a sample has no commit".to_vec()),
            trees: Vec::new(),
        },
        signature: SignatureSummary::None,
        author: Author { name: "Ada".into(), email: "ada@example.com".into() },
        reviewers: Vec::new(),
        tests: TestSummary { passed: 1, failed: 0, covered: 1, coverable: 1 },
        tools: BTreeMap::from([("cairn".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]),
        known_good: false,
        same_content_as: None,
    };
    let signer = ReleaseSigner::generate()?;
    let statement = statement::build(&tar, predicate).to_bytes()?;
    std::fs::write(folder.join(files::CONTENT_FILE), &tar)?;
    std::fs::write(folder.join(files::STATEMENT_FILE), bundle::sign(&statement, &signer))?;
    std::fs::write(folder.join("key.pem"), signer.public().to_pem())?;
    Ok(())
}
