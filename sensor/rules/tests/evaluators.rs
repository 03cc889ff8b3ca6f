//! Two evaluators: the program that all rules are compiled into, and the walk of each rule's tree. Whatever the rules and the events, they
//! say the same.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use cairn_rules::capture;
use cairn_rules::event::{
    Address, Call, Descriptor, DescriptorKind, Event, EventKind, EventType, Exec, Exit, Fork, Open, Param, Process,
    Socket, Text,
};
use cairn_rules::replay::Attachment;
use cairn_rules::{
    Alert, Engine, Evaluator, Limits, Matching, RuleSet, RulesFile, Stopwatch, Supply, load_for, replay,
};
use proptest::prelude::*;
use proptest::sample::select;

const UPSTREAM: [&str; 3] = [
    include_str!("falco-rules/falco_rules.yaml"),
    include_str!("falco-rules/falco-incubating_rules.yaml"),
    include_str!("falco-rules/falco-sandbox_rules.yaml"),
];

fn rules(texts: &[&str]) -> Arc<RuleSet> {
    let files: Vec<RulesFile<'_>> = texts.iter().map(|text| RulesFile { path: "rules.yaml", text }).collect();
    let loaded = load_for(&files, &Supply::everything());
    assert!(loaded.is_ok(), "{}", cairn_rules::problem::render(&loaded.problems));
    Arc::new(loaded.rules)
}

/// All 93, those that are disabled included.
fn upstream() -> Arc<RuleSet> {
    let disabled = rules(&UPSTREAM).disabled().to_vec();
    let enable: String = disabled
        .iter()
        .map(|name| format!("- rule: {name:?}\n  enabled: true\n  override: {{enabled: replace}}\n"))
        .collect();
    let all = rules(&[UPSTREAM[0], UPSTREAM[1], UPSTREAM[2], &enable]);
    assert_eq!(all.rules().len(), 93);
    all
}

fn engine(rules: &Arc<RuleSet>, evaluator: Evaluator, seeds: &[(u32, Process)]) -> Engine {
    let mut engine = Engine::new(Arc::clone(rules), Limits::default());
    engine.set_evaluator(evaluator);
    engine.seed(seeds.iter().cloned());
    engine
}

/// What both say of these events, in turn; with no more than one alert an event, the first of those.
fn agreed(rules: &Arc<RuleSet>, seeds: &[(u32, Process)], events: &[Event]) -> Result<usize, TestCaseError> {
    let mut compiled = engine(rules, Evaluator::Compiled, seeds);
    let mut plain = engine(rules, Evaluator::Plain, seeds);
    let mut first = engine(rules, Evaluator::Compiled, seeds);
    first.set_matching(Matching::First);
    let mut alerts = 0;
    for event in events {
        let said: Vec<Alert> = plain.handle(event);
        prop_assert_eq!(&compiled.handle(event), &said, "{:?}", event);
        prop_assert_eq!(first.handle(event), said.iter().take(1).cloned().collect::<Vec<_>>(), "{:?}", event);
        alerts += said.len();
    }
    // They count alike what does not depend on how it is done.
    let counts = |engine: &Engine| engine.costs().rules.into_iter().map(|(name, cost)| (name, cost.tried, cost.held));
    prop_assert_eq!(counts(&compiled).collect::<Vec<_>>(), counts(&plain).collect::<Vec<_>>());
    Ok(alerts)
}

/// Words that rules hold: paths, names, flags. Events are made of them, so that rules hold now and then.
fn words(texts: &[&str]) -> Vec<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "/._-:+*|=".contains(c);
    let words: BTreeSet<String> = texts
        .iter()
        .flat_map(|text| text.split(|c: char| !is_word(c)))
        .map(|word| word.trim_matches([':', '.', '*', '=']).to_owned())
        .filter(|word| (1..40).contains(&word.len()))
        .collect();
    words.into_iter().collect()
}

fn path(words: Vec<String>) -> impl Strategy<Value = Text> {
    let places = ["/etc/", "/bin/", "/root/", "/proc/self/", "/tmp/", "/var/lib/", "/", ""];
    let paths: Vec<String> = words.iter().filter(|word| word.starts_with('/')).cloned().collect();
    prop_oneof![
        select(paths.clone()),
        (select(paths), select(words.clone())).prop_map(|(path, word)| format!("{path}/{word}")),
        (select(places.to_vec()), select(words)).prop_map(|(place, word)| format!("{place}{word}")),
        Just(String::new()),
    ]
    .prop_map(|path| path.replace("//", "/").as_str().into())
}

fn process(words: Vec<String>) -> impl Strategy<Value = Process> {
    let word = || select(words.clone()).prop_map(|word| Text::from(word.as_str()));
    let arguments = prop::collection::vec(word(), 0..4);
    let containers = prop::option::of(Just(Text::from("3f4a9c0b7d21")));
    let numbers = (0..4_u32, 0..3_u32, 0..2_u32, prop::option::of(1..4_u32));
    (word(), path(words.clone()), path(words.clone()), arguments, containers, numbers).prop_map(
        |(comm, exepath, cwd, args, container, (ppid, uid, tty, sid))| Process {
            ppid,
            start_ns: 0,
            uid,
            gid: uid,
            comm,
            exepath,
            args,
            cwd,
            tty,
            container,
            sid,
            ..Process::default()
        },
    )
}

fn call(words: Vec<String>, types: Vec<EventType>) -> impl Strategy<Value = EventKind> {
    let param = prop_oneof![
        (-3..5_i64).prop_map(Param::Signed),
        any::<u64>().prop_map(Param::Unsigned),
        path(words.clone()).prop_map(Param::Text),
    ];
    let socket = (any::<bool>(), 0..3_u8, select(vec![22_u16, 53, 80, 443, 4444])).prop_map(|(is_server, ip, port)| {
        let address =
            |last: u8| Address { ip: IpAddr::V4(Ipv4Addr::new([10, 127, 169][usize::from(ip)], 0, 0, last)), port };
        Socket {
            client: Some(address(1)),
            server: Some(address(2)),
            is_server: Some(is_server),
            protocol: Some(6),
            ..Socket::default()
        }
    });
    let kinds =
        select(vec![DescriptorKind::File, DescriptorKind::Directory, DescriptorKind::Ipv4, DescriptorKind::Unknown]);
    let descriptor = (kinds, path(words), prop::option::of(socket), -1..4_i64).prop_map(|(kind, name, socket, num)| {
        Descriptor { num: Some(num), kind, name, socket, ..Descriptor::default() }
    });
    (select(types), prop::option::of(-2..3_i64), prop::collection::vec(param, 0..6), prop::option::of(descriptor))
        .prop_map(|(event_type, result, params, descriptor)| {
            let names = event_type.params().iter().map(|param| param.name.to_owned());
            EventKind::Call(Box::new(Call {
                result,
                params: names.zip(params).collect(),
                descriptor: descriptor.map(Box::new),
                ..Call::new(event_type)
            }))
        })
}

fn event(words: Vec<String>, types: Vec<EventType>) -> impl Strategy<Value = Event> {
    let open = (
        path(words.clone()),
        path(words.clone()),
        any::<u16>(),
        -2..4_i64,
        select(vec![0_u32, 0o1, 0o102, 0o1101, 0o200_000]),
    )
        .prop_map(|(name, nameraw, mode, result, flags)| {
            let mode = u32::from(mode);
            EventKind::Open(Box::new(Open { name, nameraw, flags, mode, result, ..Open::default() }))
        });
    let exec =
        process(words.clone()).prop_map(|process| EventKind::Exec(Box::new(Exec { process, ..Exec::default() })));
    let fork = (1..5_u32).prop_map(|child_pid| EventKind::Fork(Fork { child_pid, ..Fork::default() }));
    let exit = Just(EventKind::Exit(Exit::default()));
    let kind = prop_oneof![5 => open, 4 => exec, 1 => fork, 1 => exit, 5 => call(words, types)];
    (1..5_u32, kind).prop_map(|(pid, kind)| Event { time_ns: 1_700_000_000_000_000_000, cpu: 0, tid: pid, pid, kind })
}

fn scene(words: Vec<String>, types: Vec<EventType>) -> impl Strategy<Value = (Vec<(u32, Process)>, Vec<Event>)> {
    let seeds = prop::collection::vec(process(words.clone()), 4)
        .prop_map(|processes| processes.into_iter().enumerate().map(|(place, it)| (place as u32 + 1, it)).collect());
    (seeds, prop::collection::vec(event(words, types), 1..12))
}

#[test]
fn on_every_upstream_rule() {
    let rules = upstream();
    let wanted: Vec<EventType> = rules.wanted_events().collect();
    let mut alerts = 0;
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(1_500));
    let mut held = BTreeSet::new();
    let scenes = scene(words(&UPSTREAM), wanted);
    for _ in 0..400 {
        use proptest::strategy::ValueTree;
        let (seeds, events) = scenes.new_tree(&mut runner).unwrap().current();
        alerts += agreed(&rules, &seeds, &events).unwrap();
        let mut engine = engine(&rules, Evaluator::Compiled, &seeds);
        held.extend(events.iter().flat_map(|event| engine.handle(event)).map(|alert| alert.rule));
    }
    // Events that no rule holds for would show little.
    assert!(alerts > 100 && held.len() > 10, "{alerts} alerts of {held:?}");
}

const FIELDS: [&str; 12] = [
    "proc.name",
    "proc.pname",
    "proc.aname",
    "proc.aname[2]",
    "fd.name",
    "fd.directory",
    "container.id",
    "proc.cmdline",
    "proc.exepath",
    "evt.arg.flags",
    "tolower(proc.name)",
    "concat(proc.name, \"-\", proc.pname)",
];
const NUMBERS: [&str; 6] = ["proc.pid", "user.uid", "fd.num", "evt.rawres", "evt.num", "fd.sport"];
const WORDS: [&str; 16] = [
    "bash",
    "sh",
    "nginx",
    "cat",
    "/etc/passwd",
    "/etc",
    "/etc/shadow",
    "/tmp/x",
    "/",
    "host",
    "a",
    "BASH",
    "ba",
    "/e*",
    "*s*",
    "bash-nginx",
];

fn check() -> impl Strategy<Value = String> {
    let list = || prop::collection::vec(select(&WORDS[..]), 0..4).prop_map(|words| words.join(", "));
    let one = select(vec![
        "=",
        "!=",
        "contains",
        "icontains",
        "startswith",
        "endswith",
        "glob",
        "iglob",
        "< 3 and proc.name !=",
        "> 1 or proc.name =",
    ]);
    let text = prop_oneof![
        (one, select(&WORDS[..])).prop_map(|(operator, word)| format!("{operator} {word}")),
        (select(vec!["in", "intersects", "pmatch"]), list())
            .prop_map(|(operator, list)| format!("{operator} ({list})")),
        (select(vec!["= oneof", "contains anyof", "startswith anyof", "= anyof", "!= allof"]), list())
            .prop_map(|(operator, list)| format!("{operator} ({list})")),
        select(vec!["exists", "= val(proc.pname)", "startswith val(proc.name)", "pmatch val(fd.name)"])
            .prop_map(str::to_owned),
        select(vec!["[bs].*", "/etc/.*", ".*", "", "ba?(sh)?", "/[a-z]+/(passwd|shadow|x)", "(/e|b).*", "[^/]+"])
            .prop_map(|regex| format!("regex '{regex}'")),
    ];
    let number = prop_oneof![
        (select(vec!["=", "!=", "<", "<=", ">", ">="]), -1..4_i32)
            .prop_map(|(operator, word)| format!("{operator} {word}")),
        prop::collection::vec(-1..4_i32, 0..3)
            .prop_map(|all| format!("in ({})", all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))),
    ];
    let fixed = select(vec![
        "evt.type = openat",
        "evt.type in (execve, execveat)",
        "evt.type != execve",
        "syscall.type = connect",
        "not syscall.type = openat",
        "evt.category = file",
        "evt.num = 0",
        "evt.num >= 0",
        "evt.is_open_write = true",
        "evt.is_open_read != true",
        "proc.is_sid_leader = true",
        "fd.typechar = f",
        "fd.net = 10.0.0.0/8",
        "fd.sip != 127.0.0.1",
        "one",
        "two",
        "not three",
        "evt.dir = <",
        "len(proc.cmdline) > 5",
        "proc.cmdline contains bash",
        "proc.cmdline contains cat",
        "proc.cmdline contains etc",
        "proc.cmdline contains sh",
        "fd.name startswith /etc/",
        "fd.name in (/etc/passwd, /etc/shadow)",
    ]);
    prop_oneof![
        4 => (select(&FIELDS[..]), text).prop_map(|(field, rest)| format!("({field} {rest})")),
        1 => (select(&NUMBERS[..]), number).prop_map(|(field, rest)| format!("{field} {rest}")),
        4 => fixed.prop_map(str::to_owned),
    ]
}

fn condition() -> impl Strategy<Value = String> {
    check().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            3 => prop::collection::vec(inner.clone(), 2..5).prop_map(|parts| format!("({})", parts.join(" and "))),
            2 => prop::collection::vec(inner.clone(), 2..4).prop_map(|parts| format!("({})", parts.join(" or "))),
            1 => inner.prop_map(|part| format!("not ({part})")),
        ]
    })
}

const MACROS: &str = "\
- macro: one
  condition: evt.type in (open, openat) and evt.is_open_write = true and fd.num >= 0
- macro: two
  condition: (fd.name startswith /etc/ or fd.name in (/tmp/x, /root)) and one
- macro: three
  condition: proc.name in (bash, sh) or proc.pname in (bash, nginx)
";

fn rule_set(conditions: &[String]) -> Arc<RuleSet> {
    let rule = |(place, condition): (usize, &String)| {
        format!(
            "- rule: R{place}\n  desc: d\n  condition: >\n    {condition}\n  output: '%proc.name %fd.name'\n  priority: INFO\n"
        )
    };
    rules(&[MACROS, &conditions.iter().enumerate().map(rule).collect::<String>()])
}

fn own_scene() -> impl Strategy<Value = (Vec<(u32, Process)>, Vec<Event>)> {
    let types = ["openat", "connect", "clone", "execve", "unlinkat", "read", "sendto", "procexit"]
        .map(|name| EventType::by_name(name).expect("an event type"));
    scene(WORDS.map(str::to_owned).to_vec(), types.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn on_generated_rules(conditions in prop::collection::vec(condition(), 1..14), (seeds, events) in own_scene()) {
        agreed(&rule_set(&conditions), &seeds, &events)?;
    }
}

/// More rules than a word has bits.
#[test]
fn on_many_rules() {
    let conditions: Vec<String> =
        (0..200).map(|place| format!("evt.type = openat and fd.name = /etc/{place}")).collect();
    let rules = rule_set(&conditions);
    for place in [0, 63, 64, 127, 128, 199] {
        let open = Open { name: format!("/etc/{place}").into(), ..Open::default() };
        let event = Event { time_ns: 0, cpu: 0, tid: 1, pid: 1, kind: EventKind::Open(Box::new(open)) };
        assert_eq!(agreed(&rules, &[], std::slice::from_ref(&event)).unwrap(), 1);
        let alerts = engine(&rules, Evaluator::Compiled, &[]).handle(&event);
        assert_eq!(alerts[0].rule, format!("R{place}"));
    }
}

/// What lookups are made of, many of each: whole values, prefixes, suffixes, paths, parts, regular expressions.
fn lookups() -> impl Strategy<Value = String> {
    let list = || prop::collection::vec(path(WORDS.map(str::to_owned).to_vec()), 1..4);
    let list =
        move || list().prop_map(|paths| paths.iter().map(|path| format!("'{path}'")).collect::<Vec<_>>().join(", "));
    let regexes =
        || select(&["/etc/.*", "/tmp/?x?", ".*sh", "/[a-z]+", "/.*/.*", "[^a]*", "(/etc|/tmp)/(passwd|x)", "/+"][..]);
    let check = prop_oneof![
        list().prop_map(|paths| format!("fd.name in ({paths})")),
        list().prop_map(|paths| format!("fd.name pmatch ({paths}, /etc/*s*)")),
        list().prop_map(|paths| format!("fd.name startswith anyof ({paths})")),
        list().prop_map(|paths| format!("fd.name endswith anyof ({paths})")),
        list().prop_map(|paths| format!("fd.name contains anyof ({paths})")),
        regexes().prop_map(|regex| format!("fd.name regex '{regex}'")),
        regexes().prop_map(|regex| format!("fd.directory regex '{regex}'")),
    ];
    let more = select(vec!["", " and proc.name != sh", " and evt.is_open_read = true", " or fd.directory = /etc"]);
    (check, more).prop_map(|(check, more)| format!("evt.type in (open, openat) and ({check}{more})"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn on_many_lookups(conditions in prop::collection::vec(lookups(), 8..24), (seeds, events) in own_scene()) {
        agreed(&rule_set(&conditions), &seeds, &events)?;
    }
}

/// The example of the documentation, and every test of the policy that `cairn init` makes.
#[test]
fn on_every_replay_case() {
    let document = include_str!("../REPLAY.md");
    let block = |label: &str| {
        let start = document.find(&format!("```yaml {label}\n")).unwrap() + label.len() + 9;
        &document[start..start + document[start..].find("```").unwrap()]
    };
    let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies-repo-template");
    let texts = |folder: &str| -> Vec<String> {
        let mut paths: Vec<_> =
            std::fs::read_dir(template.join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.iter().filter(|path| path.is_file()).map(|path| std::fs::read_to_string(path).unwrap()).collect()
    };
    let folder = template.join("detections/tests/recorded");
    let recorded: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (format!("recorded/{}", path.file_name().unwrap().to_str().unwrap()), std::fs::read(&path).unwrap())
        })
        .collect();
    let sets = [
        (vec![block("rules").to_owned()], vec![block("cases").to_owned()]),
        (texts("detections"), texts("detections/tests")),
    ];
    for (rule_texts, case_texts) in sets {
        let rules = rules(&rule_texts.iter().map(String::as_str).collect::<Vec<_>>());
        let files: Vec<RulesFile<'_>> = case_texts.iter().map(|text| RulesFile { path: "cases.yaml", text }).collect();
        let attachments: Vec<Attachment<'_>> =
            recorded.iter().map(|(path, bytes)| Attachment { path, bytes }).collect();
        let parsed = replay::parse_with(&files, &attachments);
        assert!(parsed.problems.is_empty() && !parsed.cases.is_empty(), "{:?}", parsed.problems);
        let mut alerts = 0;
        for case in &parsed.cases {
            alerts += agreed(&rules, &case.processes, &case.events).unwrap();
            if let Some(captured) = &case.capture {
                let capture = capture::open(&captured.bytes).unwrap();
                let seeds = capture.seeds().to_vec();
                let events: Vec<Event> = capture.map(|event| event.unwrap()).collect();
                alerts += agreed(&rules, &seeds, &events).unwrap();
            }
        }
        assert!(alerts > 0);
    }
}

#[test]
fn what_rules_cost() {
    let conditions = [
        "evt.type = openat and fd.name = /etc/a",
        "evt.type = openat and fd.name startswith /etc",
        "evt.type = execve",
    ];
    let rules = rule_set(&conditions.map(str::to_owned));
    let mut engine = engine(&rules, Evaluator::Compiled, &[]);
    let clock = std::sync::atomic::AtomicU64::new(0);
    let now_ns = Box::new(move || clock.fetch_add(10, std::sync::atomic::Ordering::Relaxed));
    engine.set_stopwatch(Some(Stopwatch { every: 2, now_ns }));
    for name in ["/etc/a", "/etc/b", "/usr", "/etc/a"] {
        let open = Open { name: name.into(), ..Open::default() };
        engine.handle(&Event { time_ns: 0, cpu: 0, tid: 1, pid: 1, kind: EventKind::Open(Box::new(open)) });
    }
    let costs = engine.costs();
    let counts: Vec<_> = costs.rules.iter().map(|(_, cost)| (cost.tried, cost.held)).collect();
    assert_eq!(counts, [(4, 2), (4, 3), (0, 0)]);
    // Of four events the first and the third were timed; of the first, both rules were reached.
    assert_eq!(costs.timed, 2);
    assert_eq!(costs.shared_ns, 20);
    assert_eq!((costs.rules[0].1.timed, costs.rules[0].1.timed_ns), (1, 10));
    assert!(costs.rules[1].1.work >= costs.rules[1].1.reached);
    // Other rules, other counters.
    engine.replace_rules(rules);
    assert_eq!(engine.costs().rules[0].1.tried, 0);
}
