//! `kill -9` under load: a process that appends is killed at any moment, over and over; what it was told is durable must be there.
//!
//! These tests run themselves as the process that is killed.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout};
use std::sync::mpsc;

mod child;

use child::Said;

const ROUNDS: usize = 12;

fn spawn(test: &str, dir: &Path) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = child::command(test, dir).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    if let Some(dir) = std::env::var_os(child::DIRECTORY) {
        return child::append_until_killed(Path::new(&dir));
    }
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("ledger");
    child::create(&dir, 6);
    let mut said = Said::default();
    for round in 0..ROUNDS {
        let (mut child, mut lines) = spawn("nothing_acknowledged_is_lost_by_kill_9", &dir);
        // Killed after a number of answers and not after a time, so that a slow machine gets as far.
        let answers = 40 + 97 * round;
        for line in lines.by_ref().take(answers) {
            said.hear(&line.unwrap());
        }
        child.kill().unwrap();
        // What was already in the pipe had been said as well.
        lines.map_while(Result::ok).for_each(|line| said.hear(&line));
        child.wait().unwrap();
        // Published files are whole at any moment; opening finds all that was acknowledged. Every other time the next process opens what
        // was left as it is.
        said.check(&dir);
        if round % 2 == 0 {
            said.check_reopened(&dir, &format!("round {round}"));
        }
    }
    said.check_reopened(&dir, "at the end");
    assert!(said.durable.len() > 40 * ROUNDS && !said.published.is_empty());
    assert!(said.again > 0, "records were sent again, and had the same answer");
}

#[test]
fn a_ledger_changes_hands_while_others_want_it() {
    if let Some(dir) = std::env::var_os(child::DIRECTORY) {
        return child::append_until_killed(Path::new(&dir));
    }
    const TEST: &str = "a_ledger_changes_hands_while_others_want_it";
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("ledger");
    child::create(&dir, 6);
    let (tell, heard) = mpsc::channel();
    let mut children = BTreeMap::new();
    let start = |number: usize| {
        let (child, lines) = spawn(TEST, &dir);
        let tell = tell.clone();
        let listener = std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| drop(tell.send((number, line))));
        });
        (child, listener)
    };
    for number in 0..3 {
        children.insert(number, start(number));
    }
    let mut said = Said::default();
    for round in 0..ROUNDS {
        // Whoever speaks has the ledger. It is killed, or told to close, while the others try to open.
        let mut answers = 0;
        let speaker = loop {
            let (number, line) = heard.recv().unwrap();
            said.hear(&line);
            answers += usize::from(line.starts_with("durable") && children.contains_key(&number));
            if answers > 90 {
                break number;
            }
        };
        let (mut child, listener) = children.remove(&speaker).unwrap();
        drop(child.stdin.take());
        if round % 2 == 0 {
            child.kill().unwrap();
        }
        let status = child.wait().unwrap();
        assert!(round % 2 == 0 || status.success(), "round {round}: it closes in good order: {status}");
        listener.join().unwrap();
        children.insert(3 + round, start(3 + round));
    }
    for (mut child, listener) in children.into_values() {
        child.kill().unwrap();
        child.wait().unwrap();
        listener.join().unwrap();
    }
    heard.try_iter().for_each(|(_, line)| said.hear(&line));
    said.check_reopened(&dir, "at the end");
    assert!(said.durable.len() > 30 * ROUNDS && said.again > 0);
}
