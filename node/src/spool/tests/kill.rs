//! `kill -9` at any moment: another process appends and says what was acknowledged; it is killed; everything that it said is there.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use super::*;

const CHILD_FOLDER: &str = "CAIRN_SPOOL_KILL_FOLDER";
const ROUNDS: usize = 12;

/// Not a case of its own: the process that [`everything_said_before_kill_9_is_there_after_it`] kills. Without its variable it
/// has nothing to do.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else { return };
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::from_nanos(1_700_000_000_000_000_000)));
    let limits = SpoolLimits { segment_len_max: 8_000, ..SpoolLimits::default() };
    let spool = Spool::open(Path::new(&folder), &node(), &key(), limits, clock, Arc::new(SystemRandom)).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let recorded = spool.append(vec![draft("x"), draft("y")]).unwrap();
                    let mut line = String::new();
                    for place in recorded {
                        line += &format!("ack {} {} {}\n", place.stream, place.sequence.padded(), place.leaf);
                    }
                    std::io::stdout().write_all(line.as_bytes()).unwrap();
                }
            });
        }
    });
}

#[test]
fn everything_said_before_kill_9_is_there_after_it() {
    let bench = Bench::new();
    let mut acknowledged: Vec<(StreamId, Sequence, Digest)> = Vec::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "spool::tests::kill::child", "--nocapture"])
            .env(CHILD_FOLDER, bench.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        for line in lines.by_ref() {
            seen += usize::from(take(&line.unwrap(), &mut acknowledged));
            if seen > round * 7 {
                break;
            }
        }
        assert!(seen > 0, "the child appended nothing");
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had said and nobody had read yet counts too; a line that the kill cut short does not.
        for line in lines {
            take(&line.unwrap(), &mut acknowledged);
        }
        let spool = bench.open();
        let records = pending(&spool);
        for (stream, sequence, leaf) in &acknowledged {
            assert_eq!(*stream, spool.stream());
            let bytes = records[usize::try_from(sequence.0).unwrap()].to_bytes().unwrap();
            assert_eq!(Digest::leaf(&bytes), *leaf);
        }
    }
}

fn take(line: &str, acknowledged: &mut Vec<(StreamId, Sequence, Digest)>) -> bool {
    // The harness prints before the child's first line, on the same line.
    let Some(at) = line.find("ack ") else { return false };
    let words: Vec<&str> = line[at..].split(' ').collect();
    let [_, stream, sequence, leaf] = words[..] else { return false };
    let (Ok(stream), Ok(sequence), Ok(leaf)) = (stream.parse(), sequence.parse(), leaf.parse()) else { return false };
    acknowledged.push((stream, sequence, leaf));
    true
}
