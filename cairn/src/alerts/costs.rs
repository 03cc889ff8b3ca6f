//! What each rule cost on what was replayed or recorded.

use std::cmp::Reverse;

use cairn_rules::{Costs, StateStats};
use serde_json::{Value, json};

use crate::say;

/// Says what rules cost, on standard output.
pub(super) fn print(costs: &Costs, state: StateStats, as_json: bool) {
    if as_json {
        say::line(format_args!("{:#}", to_json(costs, state)));
    } else {
        say::text(&to_text(costs, state));
    }
}

/// Rules in order of definition.
fn to_json(costs: &Costs, state: StateStats) -> Value {
    let rules = costs.rules.iter().map(|(name, cost)| {
        let mut rule = json!(cost);
        rule["rule"] = json!(name);
        rule
    });
    let rules: Vec<Value> = rules.collect();
    json!({ "events": costs.timed, "shared_ns": costs.shared_ns, "state": state, "rules": rules })
}

/// Rules by the time they took, those that took none in order of definition.
fn to_text(costs: &Costs, state: StateStats) -> String {
    let mut rules: Vec<_> = costs.rules.iter().collect();
    rules.sort_by_key(|(_, cost)| Reverse((cost.timed_ns, cost.work, cost.tried)));
    let head = ["ms", "ns each", "tried", "reached", "held", "work"];
    let mut text = row(head.map(str::to_owned), "rule");
    for (name, cost) in rules {
        let counted = [cost.tried, cost.reached, cost.held, cost.work].map(|count| count.to_string());
        let [tried, reached, held, work] = counted;
        let each = cost.timed_ns.checked_div(cost.timed).unwrap_or_default();
        text += &row([milliseconds(cost.timed_ns), each.to_string(), tried, reached, held, work], name);
    }
    let each = costs.shared_ns.checked_div(costs.timed).unwrap_or_default();
    let nothing = String::new;
    let shared = [milliseconds(costs.shared_ns), each.to_string(), costs.timed.to_string()];
    let [ms, each, events] = shared;
    text += &row([ms, each, events, nothing(), nothing(), nothing()], "(what rules share)");
    if state.keys > 0 || state.evicted > 0 {
        let StateStats { keys, bytes, evicted } = state;
        text +=
            &format!("kept for rules over more than one event: {keys} keys, {bytes} bytes; {evicted} keys forgotten\n");
    }
    text
}

fn row([ms, each, tried, reached, held, work]: [String; 6], name: &str) -> String {
    format!("{ms:>10} {each:>8} {tried:>10} {reached:>10} {held:>8} {work:>10}  {name}\n")
}

fn milliseconds(ns: u64) -> String {
    format!("{:.3}", ns as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use cairn_rules::RuleCost;

    use super::*;

    fn costs() -> Costs {
        let cost = |tried, reached, timed_ns| RuleCost {
            tried,
            reached,
            held: 1,
            work: 2 * reached,
            timed: reached,
            timed_ns,
        };
        let rules = vec![
            ("Never".to_owned(), RuleCost::default()),
            ("Cheap".to_owned(), cost(10, 4, 1_000)),
            ("Dear".to_owned(), cost(10, 10, 2_000_000)),
        ];
        Costs { rules, timed: 10, shared_ns: 1_234 }
    }

    #[test]
    fn the_dearest_comes_first() {
        let text = to_text(&costs(), StateStats { keys: 3, bytes: 700, evicted: 0 });
        let lines = [
            "        ms  ns each      tried    reached     held       work  rule",
            "     2.000   200000         10         10        1         20  Dear",
            "     0.001      250         10          4        1          8  Cheap",
            "     0.000        0          0          0        0          0  Never",
            "     0.001      123         10                                 (what rules share)",
            "kept for rules over more than one event: 3 keys, 700 bytes; 0 keys forgotten",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), lines);
    }

    #[test]
    fn in_json_rules_are_in_their_order() {
        let json = to_json(&costs(), StateStats::default());
        assert_eq!((&json["events"], &json["shared_ns"]), (&json!(10), &json!(1_234)));
        assert_eq!(json["state"], json!({ "keys": 0, "bytes": 0, "evicted": 0 }));
        let names: Vec<&Value> = json["rules"].as_array().unwrap().iter().map(|rule| &rule["rule"]).collect();
        assert_eq!(names, ["Never", "Cheap", "Dear"]);
        assert_eq!(json["rules"][1]["reached"], 4);
    }
}
