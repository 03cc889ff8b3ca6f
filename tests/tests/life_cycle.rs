//! A ledger's life with the real binary: volumes, keys, a lost key, retention, the end. After each step the auditor's command says that all
//! is well.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here, with the place")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use cairn_tests::up::{binary, cairn};
use serde_json::{Value, json};

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

struct Life {
    folder: tempfile::TempDir,
}

impl Life {
    fn ledger(&self) -> String {
        self.folder.path().join("ledger").to_str().unwrap().to_owned()
    }

    fn key(&self, file: &str) -> PathBuf {
        self.folder.path().join("ledger.keys").join(file)
    }

    fn run(&self, words: &[&str], more: &[&str]) -> Output {
        cairn(&[words, &[self.ledger().as_str()][..], more].concat())
    }

    /// What a command that must succeed says as JSON.
    fn said(&self, words: &[&str], more: &[&str]) -> Value {
        let output = self.run(words, &[more, &["--json"]].concat());
        assert!(output.status.success(), "{words:?}: {}", text(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn refused(&self, words: &[&str], more: &[&str], code: i32, what: &str) {
        let output = self.run(words, more);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}", text(&output));
        assert!(text(&output).contains(what), "{words:?}: {}", text(&output));
        assert!(!text(&output).contains("PRIVATE"), "no secret is printed");
    }

    fn append(&self, number: u64) -> Output {
        let mut child = Command::new(binary())
            .args(["ledger", "append", &self.ledger(), "--stream", "ci"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let line = json!({ "type": "cairn.evidence.received.v1", "subject": "s", "data": { "n": number } });
        writeln!(child.stdin.take().unwrap(), "{line}").unwrap();
        child.wait_with_output().unwrap()
    }

    fn take(&self, number: u64) {
        let output = self.append(number);
        assert!(output.status.success(), "{}", text(&output));
        let report = self.said(&["verify"], &[]);
        assert_eq!(report["verdict"], "ok", "{report}");
    }
}

#[test]
fn volumes_keys_retention_and_the_end() {
    let life = Life { folder: tempfile::tempdir().unwrap() };
    let made = life.said(&["key", "new"], &[]);
    assert_eq!(life.said(&["key", "new"], &[]), made, "keys that are there stay");
    life.take(1);

    let rotated = life.said(&["ledger", "rotate"], &["--note", "a year is over"]);
    assert_eq!((&rotated["volume"], &rotated["left"]), (&json!(2), &json!(1)));
    life.take(2);

    // Another key, by the root's word; the old one is kept and the secrets stay where they are.
    let key = life.said(&["key", "rotate"], &["--reason", "a drill"]);
    assert_eq!(life.said(&["key", "show"], &[])["ledger"], key["key"]);
    assert!(PathBuf::from(key["old_key_file"].as_str().unwrap()).exists());
    life.take(3);

    // The root key lies elsewhere, as it should.
    let root = life.folder.path().join("root-on-a-stick");
    std::fs::rename(life.key("root.key"), &root).unwrap();
    life.refused(&["key", "rotate"], &[], 2, "name its file with --root");
    let root = root.to_str().unwrap();
    life.said(&["key", "rotate"], &["--root", root]);

    // The ledger's key is lost.
    std::fs::remove_file(life.key("ledger.key")).unwrap();
    assert_eq!(life.append(4).status.code(), Some(2));
    let lost = life.said(&["ledger", "rotate"], &["--reason", "keylost", "--root", root]);
    assert_eq!((&lost["volume"], &lost["left"], &lost["damaged"]), (&json!(3), &json!(2), &json!([])));
    life.take(4);

    // A flipped bit in what is current.
    let bundle = life.folder.path().join("ledger/volume/3/tile/entries/000.p");
    let newest = std::fs::read_dir(&bundle)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .max_by_key(|path| path.file_name().unwrap().to_string_lossy().parse::<u64>().unwrap());
    let newest = newest.unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    let last = bytes.len() - 10;
    bytes[last] ^= 1;
    std::fs::write(&newest, bytes).unwrap();
    let refused = life.append(5);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
    let left = life.said(&["ledger", "rotate"], &["--reason", "damaged", "--note", "a bit flipped"]);
    assert_eq!((&left["volume"], left["damaged"].as_array().unwrap().len()), (&json!(4), 1));
    let output = life.append(5);
    assert!(output.status.success(), "{}", text(&output));
    life.refused(&["verify"], &[], 1, "volume/3/");

    // Retention drops it, and what came before it.
    life.refused(&["ledger", "drop"], &["--before", "5"], 1, "volume 4 is the current one");
    assert_eq!(life.said(&["ledger", "drop"], &["--older-than", "365d"])["dropped"], json!([]));
    let dropped = life.said(&["ledger", "drop"], &["--before", "4"]);
    assert_eq!((&dropped["dropped"], &dropped["volumes"]), (&json!([1, 2, 3]), &json!([4])));
    life.take(6);

    life.said(&["ledger", "freeze"], &["--reason", "it is over"]);
    life.refused(&["ledger", "rotate"], &[], 2, "frozen, for good: it is over");
    assert_eq!(life.append(7).status.code(), Some(2));
    assert_eq!(life.said(&["verify"], &[])["verdict"], "ok");
}
