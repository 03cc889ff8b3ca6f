//! A second evaluator, written to be read rather than to be fast: it walks the tree on strings, knows fields by a plain map, and
//! shares nothing with the compiler but the parser. On random conditions and events both must agree.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::{NoScope, compile};
use crate::condition::{Check, Expr, Operand, Operator, Quantifier, Right, Word, parse};
use crate::engine::{Engine, Limits};
use crate::event::{Event, EventKind, Exec, Open, Process};
use crate::limits::CONDITION_NODES_MAX;
use crate::source::Vocabulary;
use crate::{RulesFile, load};

/// Fields by name; several values for a field of all ancestors. What is not in it is absent.
type Plain = BTreeMap<&'static str, Vec<String>>;

const NUMBERS: [&str; 4] = ["proc.pid", "user.uid", "fd.num", "evt.rawres"];

fn holds(expr: &Expr, fields: &Plain) -> bool {
    match expr {
        Expr::And(parts) => parts.iter().all(|part| holds(part, fields)),
        Expr::Or(parts) => parts.iter().any(|part| holds(part, fields)),
        Expr::Not(inner) => !holds(inner, fields),
        Expr::Macro(_) => unreachable!("none is generated"),
        Expr::Check(check) => check_holds(check, fields),
    }
}

fn check_holds(check: &Check, fields: &Plain) -> bool {
    let Operand::Field(field) = &check.left else { unreachable!("none is generated") };
    let name = field.to_string();
    let Some(values) = fields.get(name.as_str()) else { return false };
    let is_number = NUMBERS.contains(&name.as_str());
    let one = |value: &String, word: &Word| one_holds(value, check.operator.value, &word.text, is_number);
    values.iter().any(|value| match &check.right {
        Right::Nothing => true,
        Right::One(word) => one(value, word),
        Right::Many(words) => words.iter().any(|word| one(value, word)),
        Right::Quantified(quantifier, words) => {
            let count = words.iter().filter(|word| one(value, word)).count();
            match quantifier {
                Quantifier::One => count == 1,
                Quantifier::Any => count > 0,
                Quantifier::All => count == words.len() && count > 0,
            }
        }
        Right::Operand(_) => unreachable!("none is generated"),
    })
}

fn one_holds(value: &str, operator: Operator, word: &str, is_number: bool) -> bool {
    let ordering = if is_number {
        value.parse::<i64>().unwrap().cmp(&word.parse::<i64>().unwrap())
    } else {
        value.as_bytes().cmp(word.as_bytes())
    };
    match operator {
        Operator::Equal | Operator::In | Operator::Intersects => ordering.is_eq(),
        Operator::NotEqual => ordering.is_ne(),
        Operator::Less => ordering.is_lt(),
        Operator::LessEqual => ordering.is_le(),
        Operator::Greater => ordering.is_gt(),
        Operator::GreaterEqual => ordering.is_ge(),
        Operator::Contains => value.contains(word),
        Operator::IContains => value.to_lowercase().contains(&word.to_lowercase()),
        Operator::StartsWith => value.starts_with(word),
        Operator::EndsWith => value.ends_with(word),
        Operator::PMatch => {
            let parts =
                |text: &str| text.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>();
            parts(value).starts_with(&parts(word))
        }
        _ => unreachable!("none is generated"),
    }
}

fn word() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["bash", "sh", "nginx", "cat", "/etc/passwd", "/etc", "/tmp/x", "host", "abc", "a", "BA"])
        .prop_map(str::to_owned)
}

fn text_check() -> impl Strategy<Value = String> {
    let field = prop::sample::select(vec![
        "proc.name",
        "proc.pname",
        "proc.aname",
        "proc.aname[2]",
        "fd.name",
        "container.id",
        "proc.exepath",
    ]);
    let operation = prop_oneof![
        (prop::sample::select(vec!["=", "!=", "contains", "icontains", "startswith", "endswith"]), word())
            .prop_map(|(operator, word)| format!("{operator} {word}")),
        (prop::sample::select(vec!["in", "intersects", "pmatch"]), prop::collection::vec(word(), 0..4))
            .prop_map(|(operator, words)| format!("{operator} ({})", words.join(", "))),
        (prop::sample::select(vec!["= oneof", "contains anyof", "!= allof"]), prop::collection::vec(word(), 0..3))
            .prop_map(|(operator, words)| format!("{operator} ({})", words.join(", "))),
        (prop::sample::select(vec!["<", ">="]), 0..3_i32).prop_map(|(operator, number)| format!("{operator} {number}")),
        Just("exists".to_owned()),
    ];
    (field, operation).prop_map(|(field, operation)| format!("{field} {operation}"))
}

fn number_check() -> impl Strategy<Value = String> {
    let operation = prop_oneof![
        (prop::sample::select(vec!["=", "!=", "<", "<=", ">", ">="]), -1..4_i32)
            .prop_map(|(operator, number)| format!("{operator} {number}")),
        prop::collection::vec(-1..4_i32, 0..3).prop_map(|numbers| format!(
            "in ({})",
            numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        )),
        Just("exists".to_owned()),
    ];
    (prop::sample::select(NUMBERS.to_vec()), operation).prop_map(|(field, operation)| format!("{field} {operation}"))
}

fn type_check() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "evt.type = openat",
        "evt.type in (execve, execveat)",
        "evt.type != execve",
        "evt.type in (open, openat, connect)",
    ])
    .prop_map(str::to_owned)
}

fn condition() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![3 => text_check(), 2 => number_check(), 2 => type_check()];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(|parts| format!("({})", parts.join(" and "))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(|parts| format!("({})", parts.join(" or "))),
            inner.prop_map(|part| format!("not ({part})")),
        ]
    })
}

#[derive(Debug, Clone)]
struct Scene {
    names: Vec<String>,
    uid: u32,
    container: Option<String>,
    open: Option<(String, i64)>,
}

fn scene() -> impl Strategy<Value = Scene> {
    let name = prop::sample::select(vec!["bash", "sh", "nginx", "cat", "Bash"]).prop_map(str::to_owned);
    let open =
        (prop::sample::select(vec!["/etc/passwd", "/etc", "/tmp/x", "/etcetera"]).prop_map(str::to_owned), -2..3_i64);
    (prop::collection::vec(name, 1..4), 0..3_u32, prop::option::of(Just("abc".to_owned())), prop::option::of(open))
        .prop_map(|(names, uid, container, open)| Scene { names, uid, container, open })
}

impl Scene {
    fn process(&self, index: usize) -> Process {
        let name = &self.names[index];
        Process {
            // The subject is pid 1, its parent 2, and so on: ages fall with the pid.
            ppid: u32::try_from(index).unwrap() + 2,
            start_ns: 100 - index as u64,
            uid: self.uid,
            comm: name.as_str().into(),
            exepath: format!("/bin/{name}").into(),
            container: self.container.as_deref().map(Into::into),
            ..Process::default()
        }
    }

    fn event(&self) -> Event {
        let kind = match &self.open {
            Some((name, result)) => {
                EventKind::Open(Box::new(Open { name: name.as_str().into(), result: *result, ..Open::default() }))
            }
            None => EventKind::Exec(Box::new(Exec { process: self.process(0), ..Exec::default() })),
        };
        Event { time_ns: 1, cpu: 0, tid: 1, pid: 1, kind }
    }

    fn plain(&self) -> Plain {
        let mut fields = Plain::new();
        let mut put = |name: &'static str, value: String| fields.insert(name, vec![value]);
        put("proc.name", self.names[0].clone());
        put("proc.exepath", format!("/bin/{}", self.names[0]));
        put("proc.pid", "1".to_owned());
        put("user.uid", self.uid.to_string());
        put("container.id", self.container.clone().unwrap_or_else(|| "host".to_owned()));
        put("evt.type", if self.open.is_some() { "openat" } else { "execve" }.to_owned());
        put("evt.rawres", self.open.as_ref().map_or(0, |(_, result)| *result).to_string());
        if let Some(parent) = self.names.get(1) {
            put("proc.pname", parent.clone());
        }
        if let Some(grandparent) = self.names.get(2) {
            put("proc.aname[2]", grandparent.clone());
        }
        if let Some((name, result)) = &self.open {
            put("fd.name", name.clone());
            put("fd.num", (*result).max(-1).to_string());
        }
        if self.names.len() > 1 {
            fields.insert("proc.aname", self.names[1..].to_vec());
        }
        fields
    }
}

fn alerts(condition: &str, scene: &Scene) -> bool {
    let text = format!("- rule: R\n  desc: d\n  condition: {condition}\n  output: o\n  priority: INFO\n");
    let loaded = load(&[RulesFile { path: "r", text: &text }]);
    assert!(loaded.is_ok(), "{condition}: {:?}", loaded.problems);
    let mut engine = Engine::new(Arc::new(loaded.rules), Limits::default());
    engine.seed((0..scene.names.len()).map(|index| (u32::try_from(index).unwrap() + 1, scene.process(index))));
    !engine.handle(&scene.event()).is_empty()
}

proptest! {
    /// Also shows that the index by event type leaves out no rule that would hold.
    #[test]
    fn the_compiled_condition_and_the_tree_agree(condition in condition(), scene in scene()) {
        let expr = parse(&condition).unwrap();
        prop_assert_eq!(alerts(&condition, &scene), holds(&expr, &scene.plain()), "{}", condition);
    }
}

#[test]
fn as_many_checks_as_the_limit() {
    let repeated = |checks: usize| {
        let check = Expr::Check(match parse("evt.num = 1").unwrap() {
            Expr::Check(check) => check,
            _ => unreachable!("it is a check"),
        });
        // The connective counts too.
        compile(&Expr::And(vec![check; checks - 1]), &mut NoScope::assuming(&[], Vocabulary::kernel()))
    };
    assert!(repeated(CONDITION_NODES_MAX).is_ok());
    assert!(repeated(CONDITION_NODES_MAX + 1).unwrap_err()[0].is_limit);
}
