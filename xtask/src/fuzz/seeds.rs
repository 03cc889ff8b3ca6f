//! Where fuzzing begins: the inputs of tests, cut to single rules, cases, lines and records, and the words of tables and documents.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use flate2::read::GzDecoder;

use super::FuzzError;

/// Records of the recorded ring in one seed, and how many seeds of them.
const RECORDS: usize = 24;
const RECORD_SEEDS: usize = 60;
/// The longest word that libFuzzer takes.
const WORD_LEN_MAX: usize = 60;

/// A target's seeds.
///
/// # Errors
/// [`FuzzError::File`].
pub(super) fn of(root: &Path, target: &str) -> Result<Vec<Vec<u8>>, FuzzError> {
    let read = |path: &str| read(&root.join("sensor/rules/tests").join(path));
    let text = |path: &str| read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let upstream = || -> Result<String, FuzzError> {
        let names = ["falco_rules", "falco-incubating_rules", "falco-sandbox_rules"];
        names.iter().map(|name| text(&format!("falco-rules/{name}.yaml"))).collect()
    };
    Ok(match target {
        "condition" => conditions(&upstream()?),
        "evaluators" => {
            let all = conditions(&upstream()?);
            // Several at once share parts.
            let several = all.chunks(6).map(|some| some.join(&b'\n'));
            several.chain(all.iter().cloned()).collect()
        }
        "output" | "text" => values(&upstream()?, "output:"),
        "rules" => {
            let files = [upstream()?, text("sources/k8s_audit.yaml")?, text("sources/aws_cloudtrail.yaml")?];
            let cases = text("loader/cases.txt")?;
            // A case is a file, then what is expected of it.
            let cases = cases.split("\n## ").filter_map(|case| case.split_once('\n'));
            let cases = cases.map(|(_, case)| case.split("\n>>>").next().unwrap_or_default().as_bytes().to_vec());
            let documented = blocks(&String::from_utf8_lossy(&self::read(&root.join("sensor/rules/RULES.md"))?));
            files.iter().flat_map(|file| items(file)).chain(cases).chain(documented).collect()
        }
        "replay" => {
            let files = [
                text("upstream/stable.yaml")?,
                text("upstream/incubating.yaml")?,
                text("upstream/sandbox.yaml")?,
                text("sources/cases.yaml")?,
            ];
            let documented = blocks(&String::from_utf8_lossy(&self::read(&root.join("sensor/rules/REPLAY.md"))?));
            files.iter().flat_map(|file| items(file)).chain(documented).collect()
        }
        "capture" => {
            let scap =
                ["libs-2022.scap", "libs-2022.scap.gz", "libs-2022.scap.zst", "today.scap", "today-big-endian.scap"];
            let own = "policies-repo-template/detections/tests/recorded/web-shell.jsonl";
            let mut seeds: Vec<_> =
                scap.iter().map(|name| read(&format!("captures/{name}"))).collect::<Result<_, _>>()?;
            seeds.push(self::read(&root.join(own))?);
            seeds
        }
        "document" => {
            let lines = text("sources/audit.jsonl")?;
            let written = text("sources/cases.yaml")?;
            let documents =
                lines.lines().chain(written.lines().filter_map(|line| line.trim().strip_prefix("document: ")));
            let documents: Vec<&str> = documents.filter(|line| !line.is_empty()).collect();
            let of = |which: u8| documents.iter().map(move |line| [&[which], line.as_bytes()].concat());
            (0..6).flat_map(of).collect()
        }
        "decode" => records(&self::read(&root.join("sensor/benches/workload.trace.gz"))?),
        "ledger" => {
            let folders: [(u8, &[&str]); 6] = [
                (0, &["note", "checkpoint", "cosignature"]),
                (1, &["proof"]),
                (2, &["policy"]),
                (3, &["endorsement"]),
                (4, &["bundle"]),
                (5, &["commitment"]),
            ];
            let mut seeds = Vec::new();
            for (which, folders) in folders {
                for folder in folders {
                    let bodies = bodies(&root.join("ledger/vectors").join(folder))?;
                    seeds.extend(bodies.into_iter().map(|body| {
                        let body = if *folder == "bundle" { bundle(&body) } else { body };
                        [&[which][..], &body].concat()
                    }));
                }
            }
            seeds
        }
        "record" => bodies(&root.join("schemas/vectors/record"))?
            .into_iter()
            .map(|body| body.strip_suffix(b"\n").map(<[u8]>::to_vec).unwrap_or(body))
            .collect(),
        // Even: a snapshot. Odd: changes to a true one.
        "state" => vec![b"\x00cairn-state\x02".to_vec(), vec![1], vec![1, 20, 0, 1, 40, 0, 2]],
        _ => Vec::new(),
    })
}

/// A target's dictionary: what tables name and what documents show as code.
///
/// # Errors
/// [`FuzzError::File`].
pub(super) fn words(root: &Path, target: &str) -> Result<String, FuzzError> {
    let text = |path: &str| read(&root.join(path)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let rules = root.join("sensor/rules");
    let mut words = BTreeSet::new();
    let mut take = |some: Vec<String>| words.extend(some);
    match target {
        "ledger" => take(spans(&text("ledger/FORMAT.md")?)),
        "record" => take(spans(&text("ledger/FORMAT.md")?)),
        "capture" => take(spans(&text("sensor/rules/CAPTURE.md")?)),
        "decode" | "state" | "text" => {}
        _ => {
            for table in ["src/fields/falco-fields.tsv", "src/event/types.tsv"] {
                take(first_column(&String::from_utf8_lossy(&read(&rules.join(table))?)));
            }
            take(spans(&text("sensor/rules/RULES.md")?));
            if target == "replay" {
                take(spans(&text("sensor/rules/REPLAY.md")?));
            }
        }
    }
    let lines = words.iter().filter(|word| (2..=WORD_LEN_MAX).contains(&word.len())).map(|word| {
        let escaped: String = word.bytes().map(|byte| format!("\\x{byte:02x}")).collect();
        format!("\"{escaped}\"\n")
    });
    Ok(lines.collect())
}

fn read(path: &Path) -> Result<Vec<u8>, FuzzError> {
    fs::read(path).map_err(|source| FuzzError::File { path: path.to_owned(), source })
}

/// The bodies of a folder's vectors: what stands behind the first empty line.
fn bodies(folder: &Path) -> Result<Vec<Vec<u8>>, FuzzError> {
    let file = |source| FuzzError::File { path: folder.to_owned(), source };
    let entries = fs::read_dir(folder).map_err(file)?;
    let mut paths =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().map_err(file)?;
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let bytes = read(path)?;
            let at = bytes.windows(2).position(|window| window == b"\n\n").map_or(0, |at| at + 2);
            Ok(bytes[at..].to_vec())
        })
        .collect()
}

/// A bundle's bytes, behind the path of a tile.
fn bundle(hexadecimal: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> =
        hexadecimal.iter().filter_map(|byte| char::from(*byte).to_digit(16)).map(|digit| digit as u8).collect();
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    [b"tile/entries/000.p/3\n", &bytes[..]].concat()
}

/// Records of a recorded ring (`sensor/examples/bench_sensor/trace.rs`), each behind its length in two bytes.
fn records(packed: &[u8]) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    // What is cut ends the seeds, and nothing worse.
    let _ = GzDecoder::new(packed).read_to_end(&mut bytes);
    let mut rest = &bytes[..];
    let mut parts = Vec::new();
    while let Some((len, after)) = rest.split_first_chunk::<4>() {
        let Some((part, after)) = after.split_at_checked(u32::from_le_bytes(*len) as usize) else { break };
        parts.push(part);
        rest = after;
    }
    // The first is the head. What follows is much alike, so the seeds come from everywhere.
    let chunks: Vec<&[&[u8]]> = parts.get(1..).unwrap_or_default().chunks(RECORDS).collect();
    let step = (chunks.len() / RECORD_SEEDS).max(1);
    let framed = |record: &&[u8]| {
        let len = u16::try_from(record.len()).unwrap_or(u16::MAX);
        [&len.to_le_bytes()[..], &record[..usize::from(len)]].concat()
    };
    chunks.iter().step_by(step).map(|some| some.iter().flat_map(framed).collect()).collect()
}

/// The conditions of rules and macros.
fn conditions(yaml: &str) -> Vec<Vec<u8>> {
    values(yaml, "condition:")
}

/// The values of a key in YAML, each on one line: good enough for seeds.
fn values(yaml: &str, key: &str) -> Vec<Vec<u8>> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let lines: Vec<&str> = yaml.lines().collect();
    let starts = (0..lines.len()).filter(|at| lines[*at].trim_start().starts_with(key));
    let values = starts.map(|at| {
        let first = lines[at].trim_start()[key.len()..].trim().trim_start_matches(['>', '|', '-']);
        let more = lines[at + 1..].iter().take_while(|line| indent(line) > indent(lines[at]));
        let words: Vec<&str> = std::iter::once(first).chain(more.map(|line| line.trim())).collect();
        words.join(" ").trim().as_bytes().to_vec()
    });
    values.filter(|value| !value.is_empty()).collect()
}

/// The items of a YAML sequence, each for itself.
fn items(yaml: &str) -> Vec<Vec<u8>> {
    let mut items: Vec<Vec<u8>> = Vec::new();
    for line in yaml.lines().filter(|line| !line.trim_start().starts_with('#')) {
        if line.starts_with("- ") || items.is_empty() {
            items.push(Vec::new());
        }
        if let Some(item) = items.last_mut() {
            item.extend_from_slice(line.as_bytes());
            item.push(b'\n');
        }
    }
    items
}

/// A document's blocks of YAML.
fn blocks(markdown: &str) -> Vec<Vec<u8>> {
    let blocks = markdown.split("\n```").skip(1).step_by(2);
    blocks
        .filter_map(|block| block.strip_prefix("yaml"))
        .filter_map(|block| block.split_once('\n'))
        .map(|(_, block)| block.as_bytes().to_vec())
        .collect()
}

/// What a document shows as code within a line.
fn spans(markdown: &str) -> Vec<String> {
    let in_line = |line: &str| line.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    markdown.lines().filter(|line| !line.starts_with("```")).flat_map(in_line).collect()
}

/// The names of a table.
fn first_column(table: &str) -> Vec<String> {
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split('\t').next()).map(str::to_owned).collect()
}
