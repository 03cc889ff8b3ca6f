//! A ledger by itself, with the real binary: lines in, killed in the middle and gone on with, records out with proofs that this test checks
//! from the files alone.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here, with the place")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};

use cairn_ledger::note::VerifierKey;
use cairn_ledger::proof::Proof;
use cairn_schemas::digest::Digest;
use cairn_tests::up::{PATIENCE, Up, binary, cairn};
use serde_json::{Value, json};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn good(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn evidence(number: u64) -> Value {
    json!({
        "type": "cairn.evidence.received.v1",
        "subject": format!("host-{}", number % 5),
        "data": { "control": format!("AC-{}", number % 7), "rule": format!("r{}", number % 3), "n": number },
        "id": format!("id-{number}"),
    })
}

fn lines(numbers: std::ops::Range<u64>) -> String {
    numbers.map(|number| format!("{}\n", evidence(number))).collect()
}

/// A ledger in a folder of its own.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ledger(&self) -> String {
        self.path("ledger").to_str().unwrap().to_owned()
    }

    fn spawn(&self, more: &[&str]) -> (Child, ChildStdin) {
        let mut child = Command::new(binary())
            .args(["ledger", "append", &self.ledger(), "--stream", "ci"])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        (child, input)
    }

    fn append(&self, input: &str, more: &[&str]) -> Output {
        let (child, mut pipe) = self.spawn(more);
        let input = input.to_owned();
        let writer = std::thread::spawn(move || {
            // The command may end at a bad line before it has read everything.
            let _ = pipe.write_all(input.as_bytes());
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    fn run(&self, command: &str, more: &[&str]) -> Output {
        cairn(&[&["ledger", command, &self.ledger()], more].concat())
    }

    fn verify(&self) {
        let report: Value =
            serde_json::from_str(&good(&cairn(&["verify", &self.ledger(), "--strict", "--json"]))).unwrap();
        assert_eq!(report["verdict"], "ok", "{report}");
    }
}

/// Index by id, as `append` printed them: `(index, sequence, leaf, repeat)`, without the checkpoint at the end.
fn printed(output: &str) -> Vec<(u64, u64, String, bool)> {
    let records = output.lines().filter(|line| !line.starts_with("checkpoint"));
    records
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words[0].parse().unwrap(), words[1].parse().unwrap(), words[2].to_owned(), words.get(3) == Some(&"repeat"))
        })
        .collect()
}

#[test]
fn lines_become_records_once_and_a_bad_line_ends_it() {
    let place = Place::new();
    let first = place.append(&lines(0..3), &[]);
    let out = good(&first);
    assert!(text(&first.stderr).contains("ledger.keys"), "{}", text(&first.stderr));
    let records = printed(&out);
    assert_eq!(records.len(), 3);
    assert!(records.windows(2).all(|two| two[1].0 == two[0].0 + 1 && two[1].1 == two[0].1 + 1));
    assert!(out.lines().last().unwrap().starts_with("checkpoint  cairn-"), "{out}");

    let again = printed(&good(&place.append(&lines(1..4), &[])));
    assert_eq!(
        again[..2],
        [
            (records[1].0, records[1].1, records[1].2.clone(), true),
            (records[2].0, records[2].1, records[2].2.clone(), true)
        ]
    );
    assert!(!again[2].3);

    for (bad, words) in [
        ("{", "standard input:2: not JSON"),
        (
            r#"{"type":"cairn.evidence.received.v1","data":{"a":{"b":1.5}}}"#,
            "standard input:2: /data/a/b: holds the number 1.5",
        ),
        (
            r#"{"type":"cairn.nothing.v1","data":{}}"#,
            "standard input:2: /type: \"cairn.nothing.v1\" is not a record type",
        ),
        (
            r#"{"type":"cairn.release.built.v1","data":{}}"#,
            "standard input:2: /type: cairn.release.built.v1 is not a type that a local",
        ),
        (r#"{"type":"cairn.sensor.loss.v1","data":{}}"#, "standard input:2: /data: missing field"),
        (
            r#"{"type":"cairn.evidence.received.v1","data":{},"sequence":"00000000000000000000"}"#,
            "standard input:2: /sequence: ",
        ),
        (
            r#"{"type":"cairn.evidence.received.v1","data":{},"id":"id-0"}"#,
            "standard input:2: /id: \"id-0\" is the id of record",
        ),
        (
            &format!(r#"{{"type":"cairn.evidence.received.v1","data":{{"a":"{}"}}}}"#, "x".repeat(65_500)),
            "standard input:2: the record has",
        ),
    ] {
        let before = r#"{"type":"cairn.evidence.received.v1","data":{}}"#;
        let output = place.append(&format!("{before}\n{bad}\n{before}\n"), &[]);
        assert_eq!(output.status.code(), Some(1), "{bad}");
        assert!(text(&output.stderr).contains(words), "{words}: {}", text(&output.stderr));
        let out = text(&output.stdout);
        assert_eq!(printed(&out).len(), 1, "what stood before is durable and told: {out}");
        assert!(out.contains("\ncheckpoint"), "{out}");
    }
    let output =
        place.append("{\n{}\n{\"type\":\"cairn.evidence.received.v1\",\"data\":{}}\n", &["--keep-going", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let objects: Vec<Value> = text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&objects[0]["line"], &objects[1]["line"], &objects[2]["line"]), (&json!(1), &json!(2), &json!(3)));
    assert_eq!((&objects[3]["appended"], &objects[3]["refused"]), (&json!(1), &json!(2)));
    place.verify();

    let missing = place.run("append", &["--stream", "ci", "no-such-file"]);
    assert_eq!(missing.status.code(), Some(2));
    let taken = place.append("", &["--stream", "control"]);
    assert_eq!(taken.status.code(), Some(2), "the flag twice, or a name that is taken");
}

#[test]
fn killed_in_the_middle_and_gone_on_with() {
    const ALL: u64 = 3_000;
    let place = Place::new();
    let mut told: BTreeMap<u64, (u64, String)> = BTreeMap::new();
    for kill_after in [1, 40, 700] {
        let (mut child, mut pipe) = place.spawn(&["--json"]);
        let writer = std::thread::spawn(move || {
            let _ = pipe.write_all(lines(0..ALL).as_bytes());
            // Held open: it is the kill that ends the command.
            pipe
        });
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        for _ in 0..kill_after {
            line.clear();
            out.read_line(&mut line).unwrap();
            note(&mut told, &line);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What was told before the kill came counts as much.
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        rest.split_inclusive('\n').filter(|line| line.ends_with('\n')).for_each(|line| note(&mut told, line));
        drop(writer.join().unwrap());
    }
    assert!(told.len() >= 700);
    let output = good(&place.append(&lines(0..ALL), &["--json"]));
    for line in output.lines() {
        note(&mut told, line);
    }
    assert_eq!(told.len() as u64, ALL);
    place.verify();
    let all = good(&place.run("tail", &["--type", "evidence", "-n", "100000", "--json"]));
    let mut numbers: Vec<u64> = Vec::new();
    for line in all.lines() {
        let shown: Value = serde_json::from_str(line).unwrap();
        let number = shown["record"]["data"]["n"].as_u64().unwrap();
        assert_eq!(
            told[&(number + 1)].0,
            shown["index"].as_u64().unwrap(),
            "no index is given twice, and none is lost"
        );
        numbers.push(number);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..ALL).collect::<Vec<_>>(), "each line is one record");
}

/// A line of input, by its number, has one place and one leaf whenever it is asked.
fn note(told: &mut BTreeMap<u64, (u64, String)>, line: &str) {
    let shown: Value = serde_json::from_str(line).unwrap();
    let Some(number) = shown["line"].as_u64() else { return };
    let place = (shown["index"].as_u64().unwrap(), shown["leaf"].as_str().unwrap().to_owned());
    let before = told.insert(number, place.clone());
    assert!(before.is_none_or(|before| before == place), "line {number}: {line}");
}

#[test]
fn one_process_writes_and_others_read() {
    let place = Place::new();
    good(&place.append(&lines(0..3), &[]));
    let (mut writer, mut pipe) = place.spawn(&[]);
    let mut out = BufReader::new(writer.stdout.take().unwrap());
    let mut line = String::new();
    // It holds the lock from here on: a line was answered.
    pipe.write_all(lines(3..4).as_bytes()).unwrap();
    out.read_line(&mut line).unwrap();
    let refused = place.append(&lines(4..5), &[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("another process is writing this ledger"), "{}", text(&refused.stderr));

    let mut follower = Command::new(binary())
        .args(["ledger", "tail", &place.ledger(), "-f", "--control", "AC-4", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut followed = BufReader::new(follower.stdout.take().unwrap());
    pipe.write_all(lines(4..12).as_bytes()).unwrap();
    for expected in [4, 11] {
        let mut line = String::new();
        followed.read_line(&mut line).unwrap();
        let shown: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(shown["record"]["data"]["n"], expected, "{line}");
        check(&place, &shown);
    }
    follower.kill().unwrap();
    follower.wait().unwrap();
    drop(pipe);
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(printed(&rest).len(), 8);
    assert!(writer.wait().unwrap().success());
    place.verify();
}

/// That a record's proof holds, from what was printed and the ledger's key alone.
fn check(place: &Place, shown: &Value) {
    let opened: Value = serde_json::from_str(&good(&place.run("get", &["0", "--json"]))).unwrap();
    let key: VerifierKey = opened["record"]["data"]["ledger_key"].as_str().unwrap().parse().unwrap();
    let proof = Proof::parse(shown["proof"].as_str().unwrap().as_bytes()).unwrap();
    let raw = place.run("get", &[&shown["index"].to_string(), "--raw"]);
    let leaf = Digest::leaf(&raw.stdout);
    assert_eq!(shown["leaf"], leaf.to_string());
    let origin = key.name().to_owned();
    proof.verify(&leaf, &origin, &[key]).unwrap();
}

#[test]
fn records_are_found_proven_and_found_again_without_the_index() {
    let place = Place::new();
    let records = printed(&good(&place.append(&lines(0..600), &[])));
    let (index, sequence, ..) = &records[500];
    let by_index: Value = serde_json::from_str(&good(&place.run("get", &[&index.to_string(), "--json"]))).unwrap();
    assert_eq!(by_index["record"]["data"]["n"], 500);
    for name in [format!("1/{index}"), format!("ci/{sequence}")] {
        let shown: Value = serde_json::from_str(&good(&place.run("get", &[&name, "--json"]))).unwrap();
        assert_eq!(shown, by_index, "{name}");
    }
    check(&place, &by_index);
    let plain = good(&place.run("get", &[&index.to_string()]));
    assert!(plain.contains("vouched for by checkpoint") && plain.contains("origin is not proven"), "{plain}");

    let ask = |place: &Place| {
        let output = place.run("tail", &["--control", "AC-3", "--rule", "r1", "-n", "20", "--json"]);
        let shown = good(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
        (shown, text(&output.stderr))
    };
    let (with, _) = ask(&place);
    assert_eq!(with.len(), 20);
    for (shown, number) in with.iter().rev().zip((0..600).rev().filter(|n| n % 7 == 3 && n % 3 == 1)) {
        assert_eq!(shown["record"]["data"]["n"], number);
    }
    check(&place, &with[0]);
    let home = place.path("ledger.index/1");
    let files = || std::fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    std::fs::remove_dir_all(place.path("ledger.index")).unwrap();
    assert_eq!(ask(&place).0, with, "deleted");
    let file = files().pop().unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let (again, said) = ask(&place);
    assert_eq!(again, with, "damaged");
    assert!(said.contains("is damaged: it was built again"), "{said}");
    assert_eq!(ask(&place).1, "", "and then it is whole");

    // A copy on media that nobody may write, without keys: the index is made in memory, and that is said.
    let copy = Place::new();
    let copied = Command::new("cp").arg("-a").arg(place.path("ledger")).arg(copy.path("ledger")).status().unwrap();
    assert!(copied.success());
    std::fs::write(copy.path("ledger.index"), "a file in the folder's place").unwrap();
    let (elsewhere, said) = ask(&copy);
    assert_eq!(elsewhere, with);
    assert!(said.contains("the index is not kept"), "{said}");

    for (arguments, code) in
        [(["get", "100000"], 1), (["get", "ci/100000"], 1), (["get", "nobody/0"], 1), (["get", "x y"], 2)]
    {
        assert_eq!(place.run(arguments[0], &arguments[1..]).status.code(), Some(code), "{arguments:?}");
    }
    assert_eq!(cairn(&["ledger", "tail", place.path("nothing").to_str().unwrap()]).status.code(), Some(2));
    let bundle = place.path("ledger/tile/entries/000");
    let mut bytes = std::fs::read(&bundle).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&bundle, bytes).unwrap();
    let refused = place.run("get", &["0"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("is not what the checkpoint"), "{}", text(&refused.stderr));
}

#[test]
fn a_proof_is_two_files_that_anybody_can_check() {
    let place = Place::new();
    let records = printed(&good(&place.append(&lines(0..10), &[])));
    let size: u64 = records[9].0 + 2;
    let out = place.path("my.tlog-proof");
    let said = good(&place.run("prove", &["ci/5", "--out", out.to_str().unwrap()]));
    assert!(said.contains("aics-tlog verify-inclusion") && said.contains("c2sp.org/tlog-proof"), "{said}");
    let opened: Value = serde_json::from_str(&good(&place.run("get", &["0", "--json"]))).unwrap();
    let vkey = opened["record"]["data"]["ledger_key"].as_str().unwrap();
    let key: VerifierKey = vkey.parse().unwrap();
    let proof = Proof::parse(&std::fs::read(&out).unwrap()).unwrap();
    let record = std::fs::read(place.path("my.tlog-proof.record")).unwrap();
    let checkpoint = proof.verify(&Digest::leaf(&record), key.name(), std::slice::from_ref(&key)).unwrap();
    assert_eq!(checkpoint.size.0, size);
    let given = place.run("get", &["ci/5", "--key", vkey]);
    assert!(good(&given).contains("given by you"));
    let other = vkey.replace("cairn-", "other-");
    assert_eq!(place.run("get", &["ci/5", "--key", &other]).status.code(), Some(2), "no vkey: its id is another's");

    good(&place.append(&lines(10..20), &[]));
    let consistency: Value =
        serde_json::from_str(&good(&place.run("prove", &["--consistency", &size.to_string(), "--json"]))).unwrap();
    assert_eq!(consistency["from"]["root"], checkpoint.root.to_string());
    let text = good(&place.run("prove", &["--consistency", &size.to_string()]));
    assert!(text.starts_with(&format!("old {size}\n")) && text.contains("\n\ncairn-"), "{text}");
    assert_eq!(place.run("prove", &["--consistency", "5", "100000"]).status.code(), Some(1));
}

#[test]
fn a_next_volume_goes_on_and_is_read_as_one_ledger() {
    let place = Place::new();
    let first = printed(&good(&place.append(&lines(0..3), &[])));
    good(&place.run("rotate", &[]));
    let second = good(&place.append(&lines(2..5), &["--json"]));
    let told: Vec<Value> = second.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (&told[0]["repeat"], &told[0]["volume"], &told[0]["index"]),
        (&json!(true), &json!(1), &json!(first[2].0))
    );
    assert_eq!((&told[1]["repeat"], &told[1]["volume"]), (&json!(false), &json!(2)));
    let opened: Value = serde_json::from_str(&good(&place.run("get", &["0", "--json"]))).unwrap();
    let key = opened["record"]["data"]["ledger_key"].as_str().unwrap();
    for key in [&[][..], &["--key", key][..]] {
        let all = good(&place.run("tail", &[&["--type", "evidence", "--json"], key].concat()));
        let numbers: Vec<u64> = all
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["record"]["data"]["n"].as_u64().unwrap())
            .collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4]);
    }
    let there = format!("2/{}", told[1]["index"]);
    let by_place: Value = serde_json::from_str(&good(&place.run("get", &[&there, "--json"]))).unwrap();
    assert_eq!((&by_place["record"]["data"]["n"], &by_place["leaf"]), (&json!(3), &told[1]["leaf"]));
    let by_stream = format!("ci/{}", first[0].1);
    let old: Value = serde_json::from_str(&good(&place.run("get", &[&by_stream, "--json"]))).unwrap();
    assert_eq!((&old["volume"], &old["record"]["data"]["n"]), (&json!(1), &json!(0)));
    place.verify();
}

#[test]
fn a_reader_that_goes_away_ends_what_only_prints() {
    let place = Place::new();
    let script = format!(
        "{} ledger append {} --stream ci | head -n 1; echo ${{PIPESTATUS[0]}}",
        binary().display(),
        place.ledger()
    );
    let mut shell = Command::new("bash")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    shell.stdin.take().unwrap().write_all(lines(0..5_000).as_bytes()).unwrap();
    let out = text(&shell.wait_with_output().unwrap().stdout);
    assert!(out.ends_with("\n0\n"), "nobody reads, and every line is appended: {out}");
    let last: Value =
        serde_json::from_str(good(&place.run("tail", &["--type", "evidence", "-n", "1", "--json"])).trim()).unwrap();
    assert_eq!(last["record"]["data"]["n"], 4_999);
    let script = format!(
        "{} ledger tail {} -n 3000 -f | head -n 1; echo ${{PIPESTATUS[0]}}",
        binary().display(),
        place.ledger()
    );
    let out = Command::new("timeout").args(["60", "bash", "-c", &script]).output().unwrap();
    assert!(out.status.success() && text(&out.stdout).ends_with("\n0\n"), "{}", text(&out.stdout));
}

#[test]
fn a_fleets_ledger_takes_lines_while_the_fleet_rests() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    std::fs::create_dir(&dir).unwrap();
    let ledger = dir.join("ledger");
    let append = |input: &str| -> Output {
        let file = folder.path().join("lines");
        std::fs::write(&file, input).unwrap();
        cairn(&["ledger", "append", ledger.to_str().unwrap(), "--stream", "ci", file.to_str().unwrap()])
    };
    std::fs::write(dir.join("fleet.yaml"), "").unwrap();
    let early = append(&lines(0..1));
    assert_eq!(early.status.code(), Some(2));
    assert!(text(&early.stderr).contains("cairn up"), "{}", text(&early.stderr));
    std::fs::remove_file(dir.join("fleet.yaml")).unwrap();

    let up = Up::start(&dir);
    let busy = append(&lines(0..1));
    assert!(text(&busy.stderr).contains("another process is writing"), "{}", text(&busy.stderr));
    assert!(up.stop());
    good(&append(&lines(0..3)));
    assert!(Path::new(&dir.join("keys/local/ci.key")).exists() && !folder.path().join("data/ledger.keys").exists());
    let mut up = Up::start(&dir);
    up.wait_line("still runs release 1", PATIENCE);
    up.signal(rustix::process::Signal::TERM);
    assert!(up.wait_end().success(), "{}", up.printed());
    assert_eq!(printed(&good(&append(&lines(0..3)))).iter().filter(|(.., repeat)| *repeat).count(), 3);
    let report: Value =
        serde_json::from_str(&text(&cairn(&["verify", ledger.to_str().unwrap(), "--json"]).stdout)).unwrap();
    assert_eq!(report["verdict"], "ok", "{report}");
}
