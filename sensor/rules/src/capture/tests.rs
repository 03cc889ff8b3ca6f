//! Hostile bytes, old versions, bounds. What real captures hold is tested in `tests/capture.rs`.

use proptest::prelude::*;

use super::*;
use crate::event::EventKind;

const TODAY: &[u8] = include_bytes!("../../tests/captures/today.scap");
const LIBS_2022: &[u8] = include_bytes!("../../tests/captures/libs-2022.scap");

/// Reads everything; how many events there were, and how it ended.
fn read_all(bytes: &[u8]) -> (usize, Result<Summary, CaptureError>) {
    let mut capture = match open(bytes) {
        Ok(capture) => capture,
        Err(error) => return (0, Err(error)),
    };
    let mut events = 0;
    while let Some(event) = capture.next() {
        match event {
            Ok(_) => events += 1,
            Err(error) => {
                assert!(capture.next().is_none(), "nothing follows an error");
                return (events, Err(error));
            }
        }
    }
    (events, Ok(capture.summary().clone()))
}

/// A small capture of Cairn's.
fn ours(compression: Compression) -> Vec<u8> {
    let mut from = open(TODAY).unwrap();
    let seeds = from.seeds().to_vec();
    let mut writer = Writer::new(Vec::new(), compression, "a test", &from.names().clone(), seeds).unwrap();
    for (place, event) in from.by_ref().enumerate() {
        writer.event(event.unwrap()).unwrap();
        if place % 5 == 0 {
            writer.flush().unwrap();
        }
    }
    writer.finish(Vec::new()).unwrap()
}

#[test]
fn what_stands_before_a_cut_is_used() {
    let whole = [TODAY.to_vec(), ours(Compression::None), ours(Compression::Gzip), ours(Compression::Zstd)];
    for bytes in whole {
        let (count, summary) = read_all(&bytes);
        assert_eq!(summary.unwrap().truncated_at, None);
        let mut before = 0;
        for end in 0..bytes.len() {
            let (events, ended) = read_all(&bytes[..end]);
            assert!(events >= before && events <= count, "{end}");
            before = events;
            match ended {
                // A capture of Falco's has no end of its own: a cut between two blocks is none. Nor is one behind the last line, within
                // a checksum.
                Ok(summary) => {
                    let is_none = bytes == TODAY || summary.events == count as u64;
                    assert!(summary.truncated_at.is_some() || is_none, "{end}: {summary:?}");
                }
                Err(CaptureError::NoHeader { .. } | CaptureError::Unknown { .. }) => assert_eq!(events, 0),
                Err(error) => panic!("{end}: {error}"),
            }
        }
    }
}

#[test]
fn no_changed_byte_is_too_much() {
    for bytes in [TODAY.to_vec(), ours(Compression::None), ours(Compression::Gzip), ours(Compression::Zstd)] {
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= [0x01, 0x80, 0xff][place % 3];
            let (events, _) = read_all(&changed);
            assert!(events <= 20);
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_are_too_much(bytes in prop::collection::vec(any::<u8>(), 0..400), begins in 0_usize..6) {
        let start: &[u8] = match begins {
            0 => &TODAY[..28],
            1 => b"{\"cairn_capture\":1}\n",
            2 => &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3],
            3 => &[0x28, 0xb5, 0x2f, 0xfd],
            4 => &TODAY[..600],
            _ => b"",
        };
        let _ = read_all(&[start, &bytes].concat());
    }

    /// Events of any number with any parameters, in every kind of block.
    #[test]
    fn no_event_is_too_much(
        events in prop::collection::vec((0_u16..460, 0_u32..4, prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..34), 0_usize..4), 0..20)
    ) {
        let mut bytes = TODAY[..28].to_vec();
        for (number, tid, params, kind) in events {
            let kind = [0x204, 0x208, 0x216, 0x222][kind];
            bytes.extend(event_block(kind, u64::from(tid), number, &params));
        }
        let (_, ended) = read_all(&bytes);
        if let Err(error) = ended {
            prop_assert!(matches!(error, CaptureError::Block { .. }), "{error}");
        }
    }
}

/// One event in a block of its own.
fn event_block(kind: u32, tid: u64, number: u16, params: &[Vec<u8>]) -> Vec<u8> {
    let has_count = !matches!(kind, 0x204 | 0x208 | 0x8010_abcd);
    let has_flags = matches!(kind, 0x208 | 0x217 | 0x222);
    let mut event = Vec::new();
    event.extend(1_700_000_000_000_000_000_u64.to_le_bytes());
    event.extend(tid.to_le_bytes());
    let is_wide = super::scap::tests_has_long_lengths(number);
    let width = if is_wide { 4 } else { 2 };
    let values: usize = params.iter().map(|param| param.len() + width).sum();
    let head = if has_count { 26 } else { 22 };
    event.extend(((head + values) as u32).to_le_bytes());
    event.extend(number.to_le_bytes());
    if has_count {
        event.extend((params.len() as u32).to_le_bytes());
    }
    for param in params {
        event.extend(&(param.len() as u32).to_le_bytes()[..width]);
    }
    event.extend(params.concat());
    let mut body = 3_u16.to_le_bytes().to_vec();
    if has_flags {
        body.extend([0; 4]);
    }
    body.extend(event);
    block(kind, &body)
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    body.resize(body.len().next_multiple_of(4), 0);
    let length = (body.len() as u32 + 12).to_le_bytes();
    [&kind.to_le_bytes(), &length, body.as_slice(), &length].concat()
}

#[test]
fn lengths_that_lie_are_refused_where_they_stand() {
    let start = &TODAY[..28];
    let with = |bytes: &[u8]| read_all(&[start, bytes].concat()).1;
    let head = |kind: u32, length: u32| [kind.to_le_bytes(), length.to_le_bytes()].concat();
    // A block of an unknown kind may be of any length: nothing of it is kept.
    assert_eq!(with(&head(0x999, u32::MAX)).unwrap().truncated_at, Some(28));
    assert!(matches!(with(&head(0x216, u32::MAX)), Err(CaptureError::TooLong { what: "an event", offset: 36, .. })));
    assert!(matches!(with(&head(0x215, u32::MAX)), Err(CaptureError::TooLong { what: "a list", .. })));
    assert!(matches!(with(&head(0x216, 11)), Err(CaptureError::Block { offset: 32, .. })));
    assert_eq!(with(&head(0x215, 100 << 20)).unwrap().truncated_at, Some(28), "what is not there is not allocated");
    let mut other_tail = block(0x999, b"abcd");
    *other_tail.last_mut().unwrap() = 1;
    assert!(matches!(with(&other_tail), Err(CaptureError::Block { block: 0x999, .. })));
    let mut many = event_block(0x216, 1, 3, &[]);
    many[32..36].copy_from_slice(&65_u32.to_le_bytes());
    assert!(matches!(with(&many), Err(CaptureError::Block { .. })));
    // An entry's length within a list.
    for length in [3_u32, 1_000] {
        let list = block(0x215, &length.to_le_bytes());
        assert!(matches!(with(&list), Err(CaptureError::Block { block: 0x215, .. })), "{length}");
    }
    let versions = [b"\x02\0".as_slice(), b"\0\0"];
    for version in versions {
        let mut bytes = start.to_vec();
        bytes[12..14].copy_from_slice(version);
        assert!(matches!(read_all(&bytes).1, Err(CaptureError::Version { known: 1, .. })));
    }
}

#[test]
fn a_line_has_a_bound() {
    let line = |count: usize| {
        let mut bytes = b"{\"cairn_capture\":1,\"recorded_by\":\"".to_vec();
        bytes.resize(count - 2, b'x');
        bytes.extend(b"\"}\n{\"end\":{\"events\":0}}\n");
        bytes
    };
    assert_eq!(read_all(&line(limits::LINE_BYTES_MAX)).1.unwrap().truncated_at, None);
    let ended = read_all(&line(limits::LINE_BYTES_MAX + 1)).1;
    assert!(matches!(ended, Err(CaptureError::TooLong { what: "a line", offset: 0, .. })), "{ended:?}");
}

#[test]
fn a_bomb_costs_time_and_no_memory() {
    // Sixteen mebibytes of blanks in some kilobytes, in each compression, and in one another.
    let blanks = vec![b' '; 16 << 20];
    let header = b"{\"cairn_capture\":1}\n".to_vec();
    for compression in [Compression::Gzip, Compression::Zstd] {
        let bomb = writer::tests_compress(compression, &[header.clone(), blanks.clone()].concat());
        assert!(bomb.len() < 1 << 20, "{}", bomb.len());
        assert!(matches!(read_all(&bomb).1, Err(CaptureError::TooLong { what: "a line", .. })));
    }
    let zeros = writer::tests_compress(Compression::Gzip, &[&TODAY[..28], &[0; 1 << 20]].concat());
    assert!(matches!(read_all(&zeros).1, Err(CaptureError::Block { block: 0, .. })));
}

#[test]
fn lines_stand_in_their_order() {
    let read = |lines: &[&str]| read_all(lines.iter().map(|line| format!("{line}\n")).collect::<String>().as_bytes());
    let (header, end) = ("{\"cairn_capture\":1}", "{\"end\":{\"events\":1}}");
    let event = "{\"event\":{\"time_ns\":1,\"cpu\":0,\"tid\":1,\"pid\":1,\"kind\":{\"exit\":{\"code\":0}}}}";
    let seed = "{\"seed\":{\"pid\":1,\"process\":{\"ppid\":0,\"start_ns\":0,\"uid\":0,\"gid\":0,\"comm\":\"sh\",\"exepath\":\"\"}}}";
    assert_eq!(read(&[header, seed, event, end]).1.unwrap().truncated_at, None);
    let cut = (header.len() + seed.len() + event.len() + 3) as u64;
    assert_eq!(read(&[header, seed, event]).1.unwrap().truncated_at, Some(cut), "without an end it was cut");
    assert!(matches!(read(&[header, event, seed]).1, Err(CaptureError::Order { line: 3, .. })));
    assert!(matches!(read(&[header, event, event, end]).1, Err(CaptureError::Order { line: 4, .. })));
    assert!(matches!(read(&[header, event, end, event]).1, Err(CaptureError::Order { line: 4, .. })));
    assert!(matches!(read(&[header, "{\"what\":1}"]).1, Err(CaptureError::Line { line: 2, offset: 20, .. })));
    assert!(matches!(read(&["{\"cairn_capture\":2}"]).1, Err(CaptureError::Version { found: 2, known: 1 })));
    assert!(matches!(read(&["{\"hello\":2}"]).1, Err(CaptureError::Line { line: 1, .. })));
    assert!(matches!(read_all(b"").1, Err(CaptureError::NoHeader { offset: 0 })));
    assert!(matches!(read_all(b"MZ\x90\0").1, Err(CaptureError::Unknown { begins }) if begins == "MZ\\x90\\x00"));
}

/// The first versions of blocks, in which an event did not say how many parameters it has.
#[test]
fn blocks_of_the_first_versions_are_read() {
    let open = |kind| {
        let path = b"/etc/passwd\0".to_vec();
        let params = [3_i64.to_le_bytes().to_vec(), path, 1_u32.to_le_bytes().to_vec(), 0_u32.to_le_bytes().to_vec()];
        let bytes = [&TODAY[..28], &event_block(kind, 9, 3, &params)].concat();
        super::open(&bytes).unwrap().next().unwrap().unwrap()
    };
    let EventKind::Open(first) = open(0x204).kind else { panic!() };
    assert_eq!((first.name.to_lossy().as_ref(), first.result), ("/etc/passwd", 3));
    for kind in [0x208, 0x216, 0x217, 0x221, 0x222, 0x8010_abcd] {
        let EventKind::Open(other) = open(kind).kind else { panic!() };
        assert_eq!(other, first, "{kind:x}");
    }
    let strange = [&TODAY[..28], &event_block(0x204, 9, 94, &[vec![1], vec![2]])].concat();
    assert!(
        matches!(read_all(&strange).1, Err(CaptureError::Block { block: 0x204, .. })),
        "a call that begins has no parameters"
    );
}

/// Every version of the list of processes holds what it holds.
#[test]
fn lists_of_every_version_are_read() {
    let kinds = [0x202, 0x207, 0x209, 0x210, 0x211, 0x212, 0x213, 0x214, 0x215, 0x8000_abcd];
    for (place, kind) in kinds.into_iter().enumerate() {
        let version = if place == 9 { 1 } else { place + 1 };
        let text = |text: &[u8]| [&(text.len() as u16).to_le_bytes(), text].concat();
        let number = |number: u64| number.to_le_bytes().to_vec();
        let mut entry = [number(7), number(7), number(1)].concat();
        if version >= 6 {
            entry.extend(number(5));
        }
        if version >= 8 {
            entry.extend(number(7));
        }
        entry.extend([text(b"sh"), text(b"-sh")].concat());
        if version >= 7 {
            entry.extend(text(b"/bin/sh"));
        }
        entry.extend([text(b"-c\0id\0"), text(b"/root"), number(1024), vec![0; 4]].concat());
        entry.extend([1000_u32.to_le_bytes(), 50_u32.to_le_bytes()].concat());
        if version >= 2 {
            entry.extend([0; 28]);
        }
        if version >= 3 {
            entry.extend(text(b"A=1\0"));
        }
        if version >= 4 {
            entry.extend([number(3), number(3), text(b"cpu=/x\0")].concat());
        }
        if version >= 5 {
            entry.extend(text(b"/"));
        }
        if version == 9 {
            // As libs wrote before 0.10: no terminal between.
            entry.extend([&1001_u32.to_le_bytes()[..], &[1], &[0; 24]].concat());
            entry = [&(entry.len() as u32 + 4).to_le_bytes(), entry.as_slice()].concat();
        }
        let bytes = [&TODAY[..28], &block(kind, &entry)].concat();
        let capture = open(&bytes).unwrap();
        let [(7, process)] = capture.seeds() else { panic!("{kind:x}: {:?}", capture.seeds()) };
        assert_eq!(process.args, ["-sh".into(), "-c".into(), "id".into()], "{kind:x}");
        assert_eq!((process.ppid, process.uid, process.gid), (1, 1000, 50));
        assert_eq!(process.env.len(), usize::from(version >= 3));
        assert_eq!(process.vpid, (version >= 4).then_some(3));
        assert_eq!(process.sid, (version >= 6).then_some(5));
        assert_eq!(process.exepath.to_lossy(), if version >= 7 { "/bin/sh" } else { "" });
        assert_eq!(process.loginuid, (version == 9).then_some(1001));
    }
}

/// Calls whose arguments stood where they begin, and end with a result alone, become what they are today.
#[test]
fn old_versions_of_events_become_todays() {
    let long = |number: i64| number.to_le_bytes().to_vec();
    let word = |number: u32| number.to_le_bytes().to_vec();
    let path = |path: &str| [path.as_bytes(), b"\0"].concat();
    type Case<'a> = (u16, Vec<Vec<u8>>, Vec<Vec<u8>>, &'a str, &'a [(&'a str, Param)]);
    use crate::event::Param;
    let signed = Param::Signed;
    let text = |text: &str| Param::Text(text.into());
    let cases: [Case<'_>; 9] = [
        (
            104,
            vec![path("/a"), path("/b")],
            vec![long(0)],
            "link",
            &[("res", signed(0)), ("oldpath", text("/a")), ("newpath", text("/b"))],
        ),
        (
            106,
            vec![long(4), path("a"), long(5), path("b")],
            vec![long(-1)],
            "linkat",
            &[
                ("res", signed(-1)),
                ("olddir", signed(4)),
                ("oldpath", text("a")),
                ("newdir", signed(5)),
                ("newpath", text("b")),
            ],
        ),
        (
            110,
            vec![long(4), path("a")],
            vec![long(0)],
            "unlinkat",
            &[("res", signed(0)), ("dirfd", signed(4)), ("name", text("a"))],
        ),
        (
            98,
            vec![path("/d"), word(0o755)],
            vec![long(0)],
            "mkdir",
            &[("res", signed(0)), ("path", text("/d")), ("mode", signed(0o755))],
        ),
        (
            90,
            vec![long(3), vec![1, 0, 0, 0, 0, 0, 0, 0]],
            vec![long(0)],
            "ioctl",
            &[("res", signed(0)), ("fd", signed(3)), ("request", signed(1))],
        ),
        (124, vec![long(3)], vec![long(7)], "dup", &[("res", signed(7)), ("oldfd", signed(3))]),
        (296, vec![long(5)], vec![[&[0_u8][..], &long(9)].concat()], "bpf", &[("fd", signed(9)), ("cmd", signed(5))]),
        (
            56,
            vec![word(1)],
            vec![long(4), vec![], vec![0]],
            "accept4",
            &[("fd", signed(4)), ("queuepct", signed(0)), ("flags", signed(1))],
        ),
        (
            256,
            vec![word(6)],
            vec![long(0), path("none"), path("/m"), path("tmpfs")],
            "mount",
            &[
                ("res", signed(0)),
                ("dev", text("none")),
                ("dir", text("/m")),
                ("type", text("tmpfs")),
                ("flags", signed(6)),
            ],
        ),
    ];
    for (number, begins, ends, name, params) in cases {
        let bytes =
            [&TODAY[..28], &event_block(0x216, 9, number, &begins), &event_block(0x216, 9, number + 1, &ends)].concat();
        let mut capture = open(&bytes).unwrap();
        let event = capture.next().unwrap().unwrap();
        let EventKind::Call(call) = event.kind else { panic!("{event:?}") };
        assert_eq!(call.event_type.name(), name);
        let expected: Vec<_> = params.iter().map(|(name, param)| ((*name).to_owned(), param.clone())).collect();
        assert_eq!(call.params, expected, "{name}");
        assert!(capture.next().is_none());
    }
    // `openat` of before 2020, whose end said no more than the descriptor.
    let begins = [long(-100), path("/etc/passwd"), word(1), word(0)];
    let bytes = [&TODAY[..28], &event_block(0x216, 9, 102, &begins), &event_block(0x216, 9, 103, &[long(3)])].concat();
    let EventKind::Open(opened) = open(&bytes).unwrap().next().unwrap().unwrap().kind else { panic!() };
    assert_eq!((opened.name.to_lossy().as_ref(), opened.result, opened.flags), ("/etc/passwd", 3, 0));
    // The end of another call than the one that began takes nothing from it.
    let bytes =
        [&TODAY[..28], &event_block(0x216, 9, 104, &[path("/a")]), &event_block(0x216, 9, 107, &[long(0)])].concat();
    let EventKind::Call(call) = open(&bytes).unwrap().next().unwrap().unwrap().kind else { panic!() };
    assert_eq!(call.params.len(), 1);
}

/// All versions of `execve` say who runs what, as well as they know.
#[test]
fn every_execve_is_an_exec() {
    for (number, count) in
        [(13_u16, 8), (155, 13), (173, 14), (215, 15), (231, 16), (283, 17), (289, 17), (293, 18), (293, 27), (331, 30)]
    {
        let row = super::scap::tests_params(number);
        let params: Vec<Vec<u8>> = row[..count]
            .iter()
            .map(|name| match *name {
                "exe" => b"/bin/cat\0".to_vec(),
                "args" => b"-n\0file\0".to_vec(),
                "comm" => b"cat\0".to_vec(),
                "cwd" | "trusted_exepath" | "filename" => b"\0".to_vec(),
                "cgroups" | "env" => Vec::new(),
                "res" => 0_i64.to_le_bytes().to_vec(),
                "tid" | "pid" => 77_i64.to_le_bytes().to_vec(),
                _ => 1_u64.to_le_bytes().to_vec(),
            })
            .collect();
        let bytes = [&TODAY[..28], &event_block(0x216, 77, number, &params)].concat();
        let EventKind::Exec(exec) = open(&bytes).unwrap().next().unwrap().unwrap().kind else { panic!("{number}") };
        assert_eq!(exec.process.comm.to_lossy(), "cat", "{number}");
        assert_eq!(exec.process.args.len(), 3);
        assert_eq!(exec.process.exepath.to_lossy(), "/bin/cat");
        assert_eq!(exec.process.ppid, 1);
    }
}

#[test]
fn joined_captures_are_read_one_after_another() {
    let (first, second) = (read_all(LIBS_2022).0, read_all(TODAY).0);
    assert_eq!(read_all(&[LIBS_2022, TODAY].concat()).0, first + second);
}
