//! The examples of the language reference, `RULES.md`, load as they stand, and its table of messages has every message.

use cairn_rules::problem::render;
use cairn_rules::{Code, RulesFile, load};

const REFERENCE: &str = include_str!("../RULES.md");

#[test]
fn examples_load() {
    let mut count = 0;
    for block in REFERENCE.split("```yaml rules\n").skip(1) {
        let text = block.split("```").next().expect("a block ends");
        let loaded = load(&[RulesFile { path: "RULES.md", text }]);
        let unexpected = loaded.problems.iter().any(|problem| problem.code != Code::CairnBlindSpot);
        assert!(!unexpected, "{}", render(&loaded.problems));
        count += 1;
    }
    assert!(count >= 4, "{count} examples were read");
}

#[test]
fn every_message_is_in_the_table() {
    for code in Code::ALL.into_iter().filter(|code| *code != Code::CairnReplayCase) {
        assert!(REFERENCE.contains(&format!("`{}`", code.as_str())), "{}", code.as_str());
    }
}
