//! The page `/`: plain lists of what runs where, what moves, what was recorded last. Pure: a [`View`] in, HTML out.
//!
//! No script and nothing loaded from elsewhere. It is read-only and derived; whoever doubts it runs `cairn verify`.

use std::collections::BTreeMap;

use cairn_ledger::volume::Place;
use cairn_schemas::ids::{NodeId, ReleaseRef, RingName, StreamId, TreeSize};
use cairn_schemas::time::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::intake::IntakeCounts;
use crate::offer::Configs;
use crate::rollout::{Phase, ring_of};
use crate::state::{Node, Recent, State, short};

/// Seconds after which a browser asks again.
const REFRESH_SECONDS: u32 = 5;

/// What `cairn verify` said last of this ledger, as whoever ran it reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastVerification {
    /// When it ran.
    pub time: Timestamp,
    /// Whether it found the ledger valid; `None` when it could not tell.
    pub valid: Option<bool>,
    /// One line of what it said.
    pub summary: String,
}

/// Everything that the page shows.
#[derive(Debug, Clone)]
pub struct View {
    ledger_name: String,
    now: Timestamp,
    size: TreeSize,
    checkpoint: String,
    verification: Option<LastVerification>,
    promoted: Option<(ReleaseRef, String)>,
    rollout: Option<Rollout>,
    nodes: Vec<NodeLine>,
    intake: Vec<IntakeCounts>,
    /// Requests of nobody who may send.
    unknown: u64,
    recent: Vec<Recent>,
}

#[derive(Debug, Clone)]
struct Rollout {
    release: ReleaseRef,
    commit: String,
    at: String,
    rings: Vec<(RingName, &'static str)>,
}

#[derive(Debug, Clone)]
struct NodeLine {
    node: NodeId,
    kind: &'static str,
    ring: String,
    running: String,
    live: &'static str,
    cannot: String,
}

impl View {
    /// What the state says at `now`. `checkpoint` is the published one, as text.
    #[must_use]
    pub fn new(
        ledger_name: &str,
        state: &State,
        configs: &dyn Configs,
        checkpoint: String,
        verification: Option<LastVerification>,
        now: Timestamp,
    ) -> View {
        let promoted = state.last_promoted();
        let moving = state.in_rollout().or_else(|| state.last_built().filter(|release| !release.phase.ended()));
        // Rings are the newest release's: the one that moves, else the one in force.
        let config = moving.map(|release| release.reference()).or(promoted).and_then(|release| configs.config(release));
        let rollout = moving.map(|release| {
            let all = config.iter().flat_map(|config| &config.rings);
            let mark = |ring: &RingName| match &release.phase {
                Phase::InRing(at) if at.ring == *ring => "here",
                _ if release.entered(ring) => "passed",
                _ => "next",
            };
            Rollout {
                release: release.reference(),
                commit: short(&release.built.commit).to_owned(),
                at: phase_text(&release.phase, now),
                rings: all.map(|ring| (ring.name.clone(), mark(&ring.name))).collect(),
            }
        });
        let ring = |labels: &BTreeMap<String, String>| {
            let ring = config.as_deref().and_then(|config| ring_of(config, labels));
            ring.map_or_else(|| "–".to_owned(), ToString::to_string)
        };
        let nodes = state.nodes().iter().map(|(id, node)| node_line(id, node, ring(&node.labels))).collect();
        let promoted = promoted.map(|release| {
            let commit = state.releases().get(&release.serial).map(|release| short(&release.built.commit).to_owned());
            (release, commit.unwrap_or_default())
        });
        View {
            ledger_name: ledger_name.to_owned(),
            now,
            size: state.size(),
            checkpoint,
            verification,
            promoted,
            rollout,
            nodes,
            intake: Vec::new(),
            unknown: 0,
            recent: state.recent().iter().rev().cloned().collect(),
        }
    }

    /// With what came from each sender of events, and how many requests from nobody who may send.
    #[must_use]
    pub fn with_intake(self, (intake, unknown): (Vec<IntakeCounts>, u64)) -> View {
        View { intake, unknown, ..self }
    }
}

fn node_line(id: &NodeId, node: &Node, ring: String) -> NodeLine {
    let cannot = node.capabilities.iter().flat_map(|known| &known.cannot);
    NodeLine {
        node: id.clone(),
        kind: node.kind.as_str(),
        ring,
        running: node.running.map_or_else(|| "none".to_owned(), |running| running.release.serial.to_string()),
        live: match node.capabilities.as_ref().map(|known| known.live) {
            Some(true) => "live",
            Some(false) => "not live",
            None => "not heard of yet",
        },
        cannot: cannot.map(|lack| format!("{}: {}", lack.what, lack.why)).collect::<Vec<_>>().join("; "),
    }
}

fn phase_text(phase: &Phase, now: Timestamp) -> String {
    match phase {
        Phase::Built => "built; in no ring yet".to_owned(),
        Phase::InRing(at) => {
            let seconds = now.since(at.entered).as_secs();
            let waits = if at.held { ", waiting too long" } else { "" };
            format!("in {} for {seconds} s{waits}", at.ring)
        }
        Phase::Passed { ring } => format!("passed {ring}"),
        Phase::Promoted => "promoted".to_owned(),
        Phase::Aborted { reason } => format!("aborted: {reason}"),
        Phase::Superseded { by } => format!("superseded by {}", by.serial),
    }
}

/// The page.
#[must_use]
pub fn render(view: &View) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="refresh" content=(REFRESH_SECONDS);
                title { "Cairn · " (view.ledger_name) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "Cairn" }
                    p { "Ledger " strong { (view.ledger_name) } " at " (time(view.now)) }
                }
                main {
                    (releases(view))
                    (nodes(view))
                    (intake(view))
                    (ledger(view))
                    (recent(view))
                }
            }
        }
    }
}

fn releases(view: &View) -> Markup {
    html! {
        section aria-labelledby="release" {
            h2 id="release" { "Release" }
            @match &view.promoted {
                Some((release, commit)) => p { "In force: " strong { "release " (release.serial) } " from commit " code { (commit) } },
                None => p { "In force: none yet." },
            }
            @if let Some(rollout) = &view.rollout {
                p { "Rolling out: " strong { "release " (rollout.release.serial) } " from commit " code { (rollout.commit) } ", " (rollout.at) "." }
                ol.rings { @for (ring, mark) in &rollout.rings { li { (ring) " " span.mark { (mark) } } } }
            } @else {
                p { "No rollout in progress." }
            }
        }
    }
}

fn nodes(view: &View) -> Markup {
    html! {
        section aria-labelledby="nodes" {
            h2 id="nodes" { "Nodes" }
            @if view.nodes.is_empty() {
                p { "No node has joined." }
            } @else {
                div.wide tabindex="0" role="region" aria-labelledby="nodes" { table {
                    thead { tr { th scope="col" { "Node" } th scope="col" { "Kind" } th scope="col" { "Ring" } th scope="col" { "Release in force" } th scope="col" { "State" } } }
                    tbody { @for node in &view.nodes { tr {
                        th scope="row" { (node.node) }
                        td { (node.kind) }
                        td { (node.ring) }
                        td { (node.running) }
                        td { (node.live) @if !node.cannot.is_empty() { " (" (node.cannot) ")" } }
                    } } }
                } }
            }
        }
    }
}

fn intake(view: &View) -> Markup {
    html! {
        @if !view.intake.is_empty() {
            section aria-labelledby="intake" {
                h2 id="intake" { "Intake" }
                p { "Since the start; " (view.unknown) " requests without a known token." }
                div.wide tabindex="0" role="region" aria-labelledby="intake" { table {
                    thead { tr {
                        th scope="col" { "Sender" }
                        th scope="col" { "Source" }
                        th scope="col" { "Bodies" }
                        th scope="col" { "Events" }
                        th scope="col" { "Repeated" }
                        th scope="col" { "Alerts" }
                        th scope="col" { "Malformed" }
                        th scope="col" { "Throttled" }
                        th scope="col" { "Failed" }
                    } }
                    tbody { @for sender in &view.intake { tr {
                        th scope="row" { (sender.intake) }
                        td { (sender.source) }
                        @for count in [
                            sender.bodies, sender.events, sender.repeated, sender.alerts, sender.malformed, sender.throttled, sender.failed,
                        ] { td.number { (count) } }
                    } } }
                } }
            }
        }
    }
}

fn ledger(view: &View) -> Markup {
    html! {
        section aria-labelledby="ledger" {
            h2 id="ledger" { "Ledger" }
            p { (view.size) " durable records. The published " a href="/ledger/checkpoint" { "checkpoint" } ":" }
            pre tabindex="0" { (view.checkpoint) }
            @match &view.verification {
                None => p { "Last verification: not verified yet." },
                Some(last) => p {
                    "Last verification: "
                    strong { @match last.valid { Some(true) => "valid", Some(false) => "NOT VALID", None => "could not tell" } }
                    " at " (time(last.time)) ". " (last.summary)
                },
            }
        }
    }
}

fn recent(view: &View) -> Markup {
    html! {
        section aria-labelledby="records" {
            h2 id="records" { "Last records" }
            div.wide tabindex="0" role="region" aria-labelledby="records" { table {
                thead { tr {
                    th scope="col" { "Index" }
                    th scope="col" { "Time" }
                    th scope="col" { "Type" }
                    th scope="col" { "By" }
                    th scope="col" { "Subject" }
                    th scope="col" { "Summary" }
                } }
                tbody { @for record in &view.recent { tr {
                    td.number { (place(record.place)) }
                    td { (time(record.time)) }
                    td { (record.kind) }
                    td title=(record.stream) { (producer(&record.stream)) }
                    td title=(record.subject) { (shortened(&record.subject)) }
                    td { (record.summary) }
                } } }
            } }
        }
    }
}

/// A record's index; with its volume in front where that is not the first.
fn place(place: Place) -> String {
    if place.volume == 1 { place.index.to_string() } else { place.to_string() }
}

/// Who wrote it: a node, the control plane, or the ledger.
fn producer(stream: &StreamId) -> String {
    stream.node().map_or_else(|| stream.to_string(), |node| node.to_string())
}

/// Digests by their first digits; the whole stands in the title.
fn shortened(subject: &str) -> String {
    match subject.parse::<ReleaseRef>() {
        Ok(release) => format!("{}@sha256:{:.12}", release.serial, release.digest.to_string()),
        Err(_) => subject.to_owned(),
    }
}

/// Seconds are enough for a reader; the whole time is in the attribute.
fn time(time: Timestamp) -> Markup {
    let text = time.to_string();
    let short = text.get(..19).unwrap_or(&text).replace('T', " ");
    html! { time datetime=(text) { (short) " UTC" } }
}

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b1f23; --paper: #ffffff; --line: #c9d1d9; --quiet: #57606a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #0d1117; --line: #30363d; --quiet: #9aa4ae; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 72rem; margin: 0 auto; padding: 1rem; }
h1 { margin: 0; } h2 { margin: 2rem 0 .5rem; border-bottom: 1px solid var(--line); }
header p, .mark { color: var(--quiet); }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
.number { text-align: right; } th[scope=col], td:nth-child(-n+4) { white-space: nowrap; }
.wide { overflow-x: auto; } pre { overflow-x: auto; font-size: .85rem; }
a { color: inherit; } :focus-visible { outline: 2px solid currentColor; outline-offset: 2px; }
";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cairn_schemas::config::PolicyConfig;

    use super::*;
    use crate::rollout::tests::two_rings;
    use crate::state::tests::Story;

    struct TwoRings;

    impl Configs for TwoRings {
        fn config(&self, _: ReleaseRef) -> Option<Arc<PolicyConfig>> {
            Some(two_rings())
        }
    }

    fn page(story: &Story, verification: Option<LastVerification>) -> String {
        let view = View::new("test", &story.state, &TwoRings, "origin\n1\nroot\n".into(), verification, story.now);
        render(&view).into_string()
    }

    #[test]
    fn an_empty_ledger_has_a_page() {
        let page = page(&Story::new(), None);
        for expected in ["In force: none yet", "No rollout in progress", "No node has joined", "not verified yet"] {
            assert!(page.contains(expected), "{expected}: {page}");
        }
    }

    #[test]
    fn what_runs_where_and_what_moves() {
        let mut story = Story::new();
        let sensor = story.join("sensor-1", &[("role", "sensor")]);
        story.join("admission-1", &[]);
        let release = story.build(1, "a");
        story.settle(release, &two_rings());
        story.load(&sensor, release);
        let valid = LastVerification { time: story.now, valid: Some(false), summary: "tile/0/000 is wrong".into() };
        let page = page(&story, Some(valid));
        for expected in ["canary", "broad", "cairn.rollout.entered.v1", "sensor-1", "NOT VALID", "in canary for 0 s"] {
            assert!(page.contains(expected), "{expected}: {page}");
        }
    }

    #[test]
    fn what_a_node_writes_is_escaped() {
        let mut story = Story::new();
        let node = story.join("sensor-1", &[]);
        let release = story.build(1, "a");
        story.fall_back(release, None, &node);
        let data = cairn_schemas::data::NodeRefused {
            serial: release.serial,
            release: None,
            check: "<script>alert(1)</script>".into(),
            reason: "r".into(),
        };
        story.write(&node, cairn_schemas::record::Draft::new(&data));
        assert!(!page(&story, None).contains("<script>"));
    }
}
