//! A report as text, for a terminal without colour.

use std::fmt::Write as _;

use cairn_schemas::ids::RecordIndex;

use cairn_schemas::data::ErasureReason;

use crate::report::{
    BlobsReport, Fault, KeySource, PolicySource, PrivacyReport, Report, Verdict, VolumeReport, VolumeState,
};

/// How many faults and findings of each list the text shows; the JSON form has the rest.
const SHOWN_MAX: usize = 50;

/// The report as text. The first line says what came of it.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write_report(report, &mut out);
    out
}

fn write_report(report: &Report, out: &mut String) -> std::fmt::Result {
    let faults = report.faults.len() as u64 + report.faults_omitted;
    match report.verdict {
        Verdict::Ok if report.structure_only => writeln!(out, "OK, as far as hashes go: {}", report.path)?,
        Verdict::Ok => writeln!(out, "OK: {}", report.path)?,
        Verdict::Failed => writeln!(out, "FAILED: {}: {}", report.path, count(faults, "fault"))?,
        Verdict::CouldNotTell => {
            writeln!(out, "COULD NOT TELL: {}", report.reason.as_deref().unwrap_or(&report.path))?;
        }
    }
    if !report.faults.is_empty() {
        writeln!(out, "\nfaults")?;
        for fault in report.faults.iter().take(SHOWN_MAX) {
            write_fault(fault, out)?;
        }
        write_omitted(faults, report.faults.len().min(SHOWN_MAX), out)?;
    }
    let Some(checkpoint) = &report.checkpoint else { return Ok(()) };
    writeln!(out, "\ncheckpoint  {}  size {}  root {}", checkpoint.origin, checkpoint.size, checkpoint.root)?;
    if let Some(key) = &report.key {
        let source = match key.source {
            KeySource::Given => "given by you",
            KeySource::LedgerOpened => "named by the ledger itself",
        };
        writeln!(out, "key         {}, {source}", key.vkey)?;
    }
    if report.volumes.len() > 1 {
        for volume in &report.volumes {
            let VolumeReport { volume, state, checkpoint, .. } = volume;
            let state = match state {
                VolumeState::Open => "open",
                VolumeState::Closed => "closed",
                VolumeState::Frozen => "frozen",
                VolumeState::Replaced => "replaced by the next",
                VolumeState::Absent => "not here",
            };
            match checkpoint {
                Some(at) => writeln!(out, "volume {volume:<4} {state}  size {}  root {}", at.size, at.root)?,
                None => writeln!(out, "volume {volume:<4} {state}")?,
            }
        }
    }
    for window in report.volumes.iter().filter(|volume| volume.keys.len() > 1).flat_map(|volume| &volume.keys) {
        writeln!(out, "signed by   {} from size {} on", window.vkey, window.from_size)?;
    }
    if let Some(witnessed) = &report.witnessed {
        let source = match witnessed.policy {
            PolicySource::Given => "the policy given by you",
            PolicySource::Ledger => "the ledger's own policy",
        };
        match &witnessed.checkpoint {
            Some(at) => writeln!(
                out,
                "witnessed   size {} by {} ({source}); {} not covered",
                at.size,
                witnessed.witnesses.join(", "),
                count(witnessed.uncovered, "record")
            )?,
            None => writeln!(out, "witnessed   nothing meets {source}")?,
        }
    }
    if report.retained_checkpoints > 0 {
        writeln!(out, "kept        {}", count(report.retained_checkpoints, "earlier checkpoint"))?;
    }

    writeln!(out, "\nrecords     {}", report.records)?;
    let widest = report.counts.keys().map(String::len).max().unwrap_or(0);
    for (kind, count) in &report.counts {
        writeln!(out, "  {kind:widest$}  {count}")?;
    }

    writeln!(out, "\nstreams     {}", report.streams.len())?;
    for stream in report.streams.iter().take(SHOWN_MAX) {
        write!(
            out,
            "  {}  {}  {} to number {}",
            stream.stream,
            stream.role,
            count(stream.records, "record"),
            stream.last_sequence
        )?;
        if stream.missing > 0 {
            write!(out, ", {} missing", stream.missing)?;
        }
        if stream.unattested > 0 {
            write!(out, ", {} unattested", stream.unattested)?;
        }
        writeln!(out)?;
    }
    write_omitted(report.streams.len() as u64, report.streams.len().min(SHOWN_MAX), out)?;

    writeln!(out, "\ngaps        {}", report.gaps.len())?;
    for gap in report.gaps.iter().take(SHOWN_MAX) {
        writeln!(out, "  {}  numbers {} to {}, noted in record {}", gap.stream, gap.from, gap.to, gap.index)?;
    }
    write_omitted(report.gaps.len() as u64, report.gaps.len().min(SHOWN_MAX), out)?;

    if !report.releases.is_empty() {
        writeln!(out, "\nreleases    {}", report.releases.len())?;
        let hidden = report.releases.len().saturating_sub(SHOWN_MAX);
        for release in report.releases.iter().skip(hidden) {
            let holds = if release.files_hold { "files hold" } else { "files do not hold" };
            let digest = release.release.digest.to_string();
            writeln!(
                out,
                "  {}@sha256:{}  commit {}  signature {}  {holds}  on {}",
                release.release.serial,
                &digest[..12],
                release.commit.get(..12).unwrap_or(&release.commit),
                release.signature,
                count(release.nodes, "node"),
            )?;
        }
        write_omitted(report.releases.len() as u64, report.releases.len() - hidden, out)?;
    }

    write_privacy(&report.privacy, out)?;

    if !report.findings.is_empty() {
        writeln!(out, "\nfindings (no faults; --strict makes them so)")?;
        for finding in report.findings.iter().take(SHOWN_MAX) {
            write!(out, "  {}", finding.kind)?;
            if let Some(stream) = &finding.stream {
                write!(out, "  {stream}")?;
            }
            if let Some(index) = finding.index {
                write!(out, "  record {}", place(finding.volume, index))?;
            }
            writeln!(out, ": {}", finding.reason)?;
        }
        let findings = report.findings.len() as u64 + report.findings_omitted;
        write_omitted(findings, report.findings.len().min(SHOWN_MAX), out)?;
    }

    let files = &report.files;
    if files.wal_records > 0 || files.unpublished_tiles > 0 {
        writeln!(
            out,
            "\nnot in the checkpoint yet, not checked: {} in the write-ahead log, {}",
            count(files.wal_records, "record"),
            count(files.unpublished_tiles, "tile"),
        )?;
    }
    if !files.other.is_empty() {
        writeln!(out, "\nother files, no part of a ledger")?;
        for file in files.other.iter().take(SHOWN_MAX) {
            writeln!(out, "  {}", file.escape_debug())?;
        }
        write_omitted(files.other.len() as u64 + files.other_omitted, files.other.len().min(SHOWN_MAX), out)?;
    }

    if !report.not_made.is_empty() {
        writeln!(out, "\nnot checked")?;
        for line in &report.not_made {
            writeln!(out, "  {line}")?;
        }
    }
    if !report.not_proven.is_empty() {
        writeln!(out, "\nnot proven")?;
        for line in &report.not_proven {
            writeln!(out, "  {line}")?;
        }
    }
    Ok(())
}

/// Nothing where no record refers to anything outside the tree.
fn write_privacy(privacy: &PrivacyReport, out: &mut String) -> std::fmt::Result {
    let PrivacyReport { commitments, erased_commitments, erased, erased_omitted, blobs, vault } = privacy;
    if *commitments > 0 || !erased.is_empty() {
        write!(out, "\npersonal    {}", count(*commitments, "commitment"))?;
        match erased_commitments {
            0 => {}
            erased => write!(out, ", {erased} of them erased")?,
        }
        match vault {
            Some(vault) => writeln!(out, ", {} opened with the vault", vault.opened)?,
            None => writeln!(out)?,
        }
    }
    let hidden = erased.len().saturating_sub(SHOWN_MAX);
    for key in erased.iter().skip(hidden) {
        let why = match key.reason {
            ErasureReason::Request => "on request",
            ErasureReason::Expired => "expired",
        };
        let (values, blobs) = (count(key.commitments, "value"), count(key.blobs, "blob"));
        let place = match key.volume {
            1 => key.index.to_string(),
            volume => format!("{volume}/{}", key.index),
        };
        writeln!(out, "  key {}  erased by record {place}, {why}: {values}, {blobs}", key.key)?;
    }
    write_omitted(erased.len() as u64 + erased_omitted, erased.len() - hidden, out)?;
    let BlobsReport { present, erased, expired, missing, wrong, unreferenced } = blobs;
    if present + erased + expired + missing + wrong + unreferenced > 0 {
        let all = present + erased + expired + missing + wrong;
        write!(out, "\nblobs       {all}")?;
        for (number, what) in
            [(erased, "erased"), (expired, "expired"), (missing, "missing"), (wrong, "with other bytes")]
        {
            if *number > 0 {
                write!(out, ", {number} {what}")?;
            }
        }
        match unreferenced {
            0 => writeln!(out)?,
            others => writeln!(out, "; {} that no record names", count(*others, "file"))?,
        }
    }
    Ok(())
}

fn write_fault(fault: &Fault, out: &mut String) -> std::fmt::Result {
    write!(out, "  {}", fault.kind)?;
    if let Some(file) = &fault.file {
        write!(out, "  {}", file.escape_debug())?;
    }
    if let Some(index) = fault.index {
        write!(out, "  record {}", place(fault.volume, index))?;
    }
    if let (Some(stream), Some(sequence)) = (&fault.stream, fault.sequence) {
        write!(out, "  {stream} number {sequence}")?;
    }
    // Reasons repeat what files hold: nothing in them may move a cursor.
    let reason: String = fault.reason.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    writeln!(out, ": {reason}")
}

fn write_omitted(all: u64, shown: usize, out: &mut String) -> std::fmt::Result {
    match all.saturating_sub(shown as u64) {
        0 => Ok(()),
        more => writeln!(out, "  and {more} more"),
    }
}

/// A record's index; in a later volume than the first, behind the volume's number.
fn place(volume: u64, index: RecordIndex) -> String {
    if volume == 1 { index.to_string() } else { format!("{volume}/{index}") }
}

/// `1 record`, `2 records`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}
