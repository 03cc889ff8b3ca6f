//! Captures that others wrote, read and compared with what others read in them. `tests/captures/README.md` says how they were made.

use std::sync::Arc;

use cairn_rules::capture::{self, Capture, Compression, Format, Loss, Writer};
use cairn_rules::event::{Address, Capabilities, Event, EventKind, Exit, Fork, Made, Param};
use cairn_rules::{Engine, Limits, RulesFile, load};

const LIBS_2022: &[u8] = include_bytes!("captures/libs-2022.scap");
const TODAY: &[u8] = include_bytes!("captures/today.scap");
const TODAY_BIG_ENDIAN: &[u8] = include_bytes!("captures/today-big-endian.scap");

/// An engine with a rule that holds for everything and says this.
fn engine(capture: &Capture<'_>, says: &str) -> Engine {
    let rule = format!("- rule: all\n  desc: d\n  condition: evt.num >= 0\n  output: \"{says}\"\n  priority: DEBUG\n");
    let loaded = load(&[RulesFile { path: "all.yaml", text: &rule }]);
    let mut engine = Engine::new(Arc::new(loaded.rules), Limits::default());
    engine.set_names(Arc::new(capture.names().clone()));
    engine.seed(capture.seeds().iter().cloned());
    engine
}

fn all(bytes: &[u8]) -> (Vec<Event>, capture::Summary) {
    let mut capture = capture::open(bytes).expect("a capture");
    let events = capture.by_ref().collect::<Result<Vec<_>, _>>().expect("whole events");
    (events, capture.summary().clone())
}

/// The fields themselves, of Cairn and of sysdig, on every event.
#[test]
fn sysdig_reads_the_same_in_a_capture_that_libscap_wrote() {
    let mut capture = capture::open(LIBS_2022).unwrap();
    assert_eq!(capture.format(), Format::Scap);
    assert_eq!(capture.names().hostname.as_deref(), Some("recorder"));
    assert_eq!(capture.names().users[&1000], "alice");
    assert_eq!(capture.seeds().len(), 3);
    let mut expected = include_str!("captures/libs-2022.tsv").lines();
    let columns: String = expected.next().unwrap().split('|').map(|column| format!("|%{column}")).collect();
    let mut engine = engine(&capture, &columns[1..]);
    let mut differences = Vec::new();
    for event in capture.by_ref() {
        let ours = engine.handle(&event.unwrap()).remove(0).output;
        let theirs = expected.next().unwrap_or("nothing");
        if ours != theirs && !is_known(&ours, theirs) {
            differences.push((ours, theirs));
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
    assert_eq!((expected.next(), capture.summary().truncated_at), (None, None));
}

/// Where sysdig of 2022 says something else than Cairn does, and why.
fn is_known(ours: &str, theirs: &str) -> bool {
    // With today's libs `unlinkat` is about its directory.
    let theirs = theirs.replace("|unlinkat|600|600|0|<NA>|<NA>|<NA>|", "|unlinkat|600|600|0|4|d|/srv/data/sub|");
    // A name that is empty is absent to Cairn's rules.
    theirs.replace("||", "|<NA>|") == ours
}

#[test]
fn todays_events_have_all_that_they_carry() {
    let capture = capture::open(TODAY).unwrap();
    let [(1, shell)] = capture.seeds() else { panic!("{:?}", capture.seeds()) };
    assert_eq!(shell.exepath.to_lossy(), "/usr/bin/dash");
    assert_eq!(shell.args, ["/bin/sh".into(), "-l".into()]);
    assert_eq!((shell.tty, shell.loginuid, shell.pgid, shell.sid), (34_816, Some(1000), Some(1), Some(1)));
    let executable = shell.executable.unwrap();
    assert_eq!((executable.ino, executable.ctime_ns, executable.mtime_ns), (11, 12, 13));
    assert_eq!((executable.is_writable, executable.is_lower_layer), (Some(true), Some(true)));

    let (events, summary) = all(TODAY);
    assert_eq!(
        summary.skipped.iter().map(|(what, count)| (what.as_str(), *count)).collect::<Vec<_>>(),
        [("number 60000", 1)]
    );
    let names: Vec<&str> = events.iter().map(Event::type_name).collect();
    let expected = [
        "container",
        "clone",
        "clone",
        "execve",
        "openat",
        "read",
        "close",
        "socket",
        "connect",
        "umount2",
        "prctl",
        "delete_module",
        "ptrace",
        "readlinkat",
        "procexit",
    ];
    assert_eq!(names, expected);

    // The parent said it first; the machine had run for a minute and two milliseconds.
    let EventKind::Fork(fork) = &events[1].kind else { panic!("{:?}", events[1]) };
    let made = Fork { child_pid: 500, child_start_ns: 60_002_000_000, flags: Some(0), ..Fork::default() };
    assert_eq!(*fork, made);
    let EventKind::Exec(exec) = &events[3].kind else { panic!("{:?}", events[3]) };
    assert_eq!(exec.process.exepath.to_lossy(), "/usr/bin/curl");
    assert_eq!(exec.process.capabilities, Some(Capabilities { inheritable: 0, permitted: 0x1ff, effective: 0x1ff }));
    assert_eq!(exec.process.container.as_ref().map(|id| id.to_lossy().into_owned()).as_deref(), Some("abababababab"));
    assert_eq!(exec.process.executable.unwrap().is_upper_layer, Some(true));
    assert_eq!(events[3].param("filename"), Some(&Param::Text("/bin/curl".into())));
    assert_eq!(events[4].param("ino"), Some(&Param::Signed(99)));

    let call = |place: usize| match &events[place].kind {
        EventKind::Call(call) => call.as_ref(),
        other => panic!("{other:?}"),
    };
    assert_eq!(call(5).descriptor.as_ref().unwrap().name.to_lossy(), "/etc/passwd");
    let socket = call(8).descriptor.as_ref().unwrap().socket.as_ref().unwrap();
    assert_eq!((call(8).result, socket.is_connected, socket.is_server), (Some(-115), Some(false), Some(false)));
    assert_eq!(socket.server, Some(Address { ip: [10, 0, 0, 9].into(), port: 80 }));
    assert_eq!(call(8).param("addr"), Some(&Param::Text("10.0.0.9:80".into())));
    assert_eq!(call(9).param("flags"), Some(&Param::Signed(1)));
    assert_eq!(call(9).param("name"), Some(&Param::Text("/mnt".into())));
    assert_eq!(call(10).change.as_ref().unwrap().comm, Some("renamed".into()));
    assert_eq!(call(11).param("name"), Some(&Param::Text("nf_tables".into())));
    assert_eq!(call(12).param("request"), Some(&Param::Signed(10)));
    assert_eq!(events[14].kind, EventKind::Exit(Exit { code: 0, signal: None }));

    // What was said of the container before is there when its first program runs.
    let capture = capture::open(TODAY).unwrap();
    let mut engine =
        engine(&capture, "%container.name %container.image.repository:%container.image.tag %container.type");
    let said: Vec<String> = events.iter().map(|event| engine.handle(event)[0].output.clone()).collect();
    assert_eq!(said[3], "web docker.io/nginx:1 docker");
}

#[test]
fn a_big_endian_machine_says_the_same() {
    assert_eq!(all(TODAY_BIG_ENDIAN), all(TODAY));
    let (big, little) = (capture::open(TODAY_BIG_ENDIAN).unwrap(), capture::open(TODAY).unwrap());
    assert_eq!((big.seeds(), big.names()), (little.seeds(), little.names()));
}

#[test]
fn a_child_that_is_seen_first_is_known_with_its_ancestors() {
    let (events, _) = all(LIBS_2022);
    let EventKind::Call(call) = &events[0].kind else { panic!("{:?}", events[0]) };
    let Made { by, fork } = call.change.as_ref().unwrap().made.as_deref().unwrap();
    assert_eq!((events[0].pid, *by, fork.child_pid), (500, 1, 500));
    assert!(
        matches!(&events[1].kind, EventKind::Call(call) if call.result == Some(500)),
        "the parent's return is no second child"
    );
}

#[test]
fn paths_lead_where_they_led() {
    let (events, _) = all(LIBS_2022);
    let path =
        |name: &str, param: &str| events.iter().find(|event| event.type_name() == name).unwrap().param(param).cloned();
    let leads = |raw: &str, resolved: &str| Some(Param::Path { raw: raw.into(), resolved: resolved.into() });
    assert_eq!(path("mkdir", "path"), leads("newdir", "/srv/data/sub/newdir"));
    assert_eq!(path("unlinkat", "name"), leads("old", "/srv/data/sub/old"));
    assert_eq!(path("rename", "oldpath"), leads("a", "/srv/data/sub/a"));
    assert_eq!(path("rename", "newpath"), Some(Param::Text("/tmp/b".into())));
    assert_eq!(path("linkat", "newpath"), leads("y", "/srv/data/sub/y"));
}

/// Written by Cairn and read again, an event is what it was.
#[test]
fn a_capture_of_falcos_becomes_one_of_cairns() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let mut from = capture::open(LIBS_2022).unwrap();
        let (names, seeds) = (from.names().clone(), from.seeds().to_vec());
        let mut writer = Writer::new(Vec::new(), compression, "a test", &names, seeds.clone()).unwrap();
        let events: Vec<Event> = from.by_ref().map(Result::unwrap).collect();
        for event in &events {
            writer.event(event.clone()).unwrap();
        }
        let lost = vec![Loss { cause: "ring-buffer".into(), family: "open".into(), lost: 3 }];
        let bytes = writer.finish(lost.clone()).unwrap();
        let mut again = capture::open(&bytes).unwrap();
        assert_eq!((again.format(), again.names(), again.seeds()), (Format::Cairn, &names, seeds.as_slice()));
        assert_eq!(again.by_ref().map(Result::unwrap).collect::<Vec<_>>(), events);
        assert_eq!((again.summary().lost.as_slice(), again.summary().truncated_at), (lost.as_slice(), None));
    }
}

/// Whatever tool compressed it.
#[test]
fn compressed_captures_are_read() {
    let plain = all(LIBS_2022);
    for file in ["libs-2022.scap.gz", "libs-2022.scap.zst"] {
        let path = format!("{}/tests/captures/{file}", env!("CARGO_MANIFEST_DIR"));
        assert_eq!(all(&std::fs::read(path).unwrap()), plain, "{file}");
    }
}

/// An example of `CAPTURE.md` is one that is read.
#[test]
fn the_example_of_the_document_is_read() {
    let document = include_str!("../CAPTURE.md");
    let example = document.split("```jsonl\n").nth(1).unwrap().split("```").next().unwrap();
    let (events, summary) = all(example.as_bytes());
    assert_eq!(events.iter().map(Event::type_name).collect::<Vec<_>>(), ["execve", "connect"]);
    assert_eq!((summary.truncated_at, summary.lost.len()), (None, 1));
}
