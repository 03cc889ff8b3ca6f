//! Promise P6 on a whole run: personal values and secrets are nowhere that others read.
//!
//! What stands in the clear by design is named here: author and reviewers in release statements, and the policy's own files.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here, with the place")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use cairn_schemas::ids::RecordIndex;
use cairn_schemas::types::RecordType;
use cairn_tests::kernel;
use cairn_tests::ledger::Placed;
use cairn_tests::shell::{commit, git};
use cairn_tests::up::{PATIENCE, Up};
use serde_json::{Value, json};

/// Every file under a folder, links not followed.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

fn holds(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
}

/// What must not be read by anybody: every secret of the data folder, as its files have it.
fn secrets(dir: &Path) -> Vec<(String, String)> {
    let mut secrets = Vec::new();
    for path in files(&dir.join("keys")) {
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        // The longest word of each line: of a PEM file the base64 lines, of a JSON file the values.
        for word in text.split(|c: char| c.is_whitespace() || matches!(c, '"' | ',' | '{' | '}')) {
            if word.len() >= 20 && !word.starts_with("-----") {
                secrets.push((path.display().to_string(), word.to_owned()));
            }
        }
    }
    for kind in ["sensor", "admission"] {
        let folder = dir.join("nodes").join(kind);
        let identity: Value = serde_json::from_slice(&fs::read(folder.join("identity.json")).unwrap()).unwrap();
        secrets.push((format!("{kind}: credential"), identity["credential"].as_str().unwrap().to_owned()));
        secrets.push((format!("{kind}: token key"), identity["pins"]["token_key"].as_str().unwrap().to_owned()));
        let key = fs::read_to_string(folder.join("node.key")).unwrap();
        secrets.push((format!("{kind}: node key"), key.trim().to_owned()));
    }
    secrets
}

/// What stands for anyone to see: public halves of keys, ids of nodes.
fn is_public(dir: &Path, records: &[Placed], word: &str) -> bool {
    let joined = records.iter().filter(|placed| placed.record.kind == RecordType::NodeJoined);
    let mut joined = joined.map(|placed| &placed.record.data);
    holds(&fs::read(dir.join("fleet.yaml")).unwrap(), word)
        || joined.any(|data| data["key"] == word || data["node"] == word)
}

#[test]
fn personal_values_and_secrets_stay_where_they_belong() {
    let folder = tempfile::tempdir().unwrap();
    // Another user runs a program from here.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let dir = folder.path().join("cairn-data");
    let up = Up::start(&dir);
    let live = kernel::missing().is_none();

    // A rule that prints every field that could name a person, and a program that it is about.
    let program = folder.path().join("watched-program");
    fs::copy("/bin/true", &program).unwrap();
    let rule = format!(
        "- rule: Everything about people\n  desc: d\n  condition: evt.type in (execve, execveat) and proc.exepath = {}\n  output: >\n    \
         a=%user.name b=%user.uid c=%user.loginuid d=%user.loginname e=%group.name f=%group.gid g=%evt.args h=%evt.arg.uid \
         i=%evt.arg[loginuid] j=%evt.arg.gid k=%evt.arg.cgroups l=%proc.args\n  priority: Warning\n",
        program.display()
    );
    let config = fs::read_to_string(up.policies().join("cairn.yaml")).unwrap();
    let config = config.replace("personal_fields: []", "personal_fields: [proc.cmdline]");
    assert!(config.contains("[proc.cmdline]"), "{config}");
    commit(&up.policies(), "Watch people", &[("detections/people.yaml", &rule), ("cairn.yaml", &config)]);
    up.ledger().wait("release 2 promoted", RecordIndex(0), PATIENCE, |record| {
        record.kind == RecordType::RolloutPromoted
            && record.data["release"].as_str().is_some_and(|release| release.starts_with("2@"))
    });
    if live {
        let status = Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"])
            .arg(&program)
            .arg("--secret=argument-of-a-person")
            .env("PERSON", "environment-of-a-person")
            .status();
        assert!(status.unwrap().success());
        up.ledger().wait("the detection", RecordIndex(0), PATIENCE, |record| {
            record.kind == RecordType::DetectionRaised && record.data["rule"] == "Everything about people"
        });
    }
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "privacy", "operation": "CREATE", "namespace": "shop", "name": "web",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "userInfo": {
                "username": "carol.person@corp.example", "uid": "uid-of-carol", "groups": ["group-of-carol"],
                "extra": {"mail": ["mail-of-carol"]}
            },
            "object": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
                "spec": {"containers": [{"name": "c", "image": "x:1", "env": [{"name": "P", "value": "secret-in-a-pod"}]}]}}
        }
    });
    ureq::post(&format!("{}/v1/admission/validate", up.url)).send_json(&review).unwrap();
    // What goes wrong names people, too: a rejected commit, a force-push.
    commit(&up.policies(), "Break it", &[("cairn.yaml", "version: [\n")]);
    up.ledger().wait("the rejection", RecordIndex(0), PATIENCE, |r| r.kind == RecordType::ReleaseRejected);
    git(&up.policies(), &["reset", "--quiet", "--hard", "HEAD~2"]);
    git(&up.policies(), &["commit", "--quiet", "--allow-empty", "-m", "Another history"]);
    up.ledger().wait("the refusal", RecordIndex(0), PATIENCE, |r| r.kind == RecordType::GitRefused);
    up.ledger().wait("the decision", RecordIndex(0), PATIENCE, |r| r.data["uid"] == "privacy");

    let page = ureq::get(&format!("{}/", up.url)).call().unwrap().body_mut().read_to_string().unwrap();
    let printed = up.printed();
    let secrets = secrets(&dir);
    let records = up.ledger().records();
    assert!(up.stop());

    // Personal values, in what anyone may be handed: the ledger, the page.
    let personal = [
        "carol",
        "uid-of-carol",
        "group-of-carol",
        "mail-of-carol",
        "secret-in-a-pod",
        "ada@example.com",
        "Ada Example",
        "argument-of-a-person",
        "environment-of-a-person",
        "nogroup",
        "cairn@localhost",
    ];
    for path in files(&dir.join("ledger")) {
        let name = path.strip_prefix(dir.join("ledger")).unwrap().display().to_string();
        let bytes = fs::read(&path).unwrap();
        for word in personal {
            // By design: anyone can check the signatures of who changed policy.
            let by_design = name.starts_with("releases/") && name.ends_with("statement.sigstore.json");
            assert!(by_design || !holds(&bytes, word), "{name} holds {word:?}");
        }
    }
    for word in personal {
        assert!(!page.contains(word), "the page shows {word:?}");
    }
    for placed in records.iter().filter(|placed| placed.record.kind == RecordType::DetectionRaised) {
        let data = &placed.record.data;
        for (name, value) in data["fields"].as_object().unwrap() {
            let value = value.as_str().unwrap();
            let person = name.starts_with("user.") || name.starts_with("group.") || name.starts_with("evt.arg");
            assert!(!person || value.starts_with("tok:"), "{name}={value}");
        }
    }
    let detected = records.iter().any(|placed| placed.record.data["rule"] == "Everything about people");
    assert_eq!(detected, live);

    // Secrets, anywhere but where they are kept.
    for (what, word) in &secrets {
        if is_public(&dir, &records, word) {
            continue;
        }
        for path in
            files(&dir.join("ledger")).into_iter().chain(files(&dir.join("policies"))).chain(files(&dir.join("cache")))
        {
            assert!(!holds(&fs::read(&path).unwrap(), word), "{} holds the secret of {what}", path.display());
        }
        assert!(!page.contains(word.as_str()), "the page shows the secret of {what}");
        assert!(!printed.contains(word.as_str()), "the output shows the secret of {what}");
    }
    assert!(secrets.len() >= 8, "they were found: {}", secrets.len());

    // And nobody else can read them there.
    for folder in [dir.join("keys"), dir.join("nodes/sensor"), dir.join("nodes/admission")] {
        let mode = fs::metadata(&folder).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{}", folder.display());
        for path in files(&folder) {
            let metadata = fs::symlink_metadata(&path).unwrap();
            assert_eq!(metadata.mode() & 0o077, 0, "{} is open to others", path.display());
        }
    }
}
