//! Names that make a rule a guardrail: Conftest's, `^(deny|violation|warn)(_[a-zA-Z0-9]+)*$`.

/// What a guardrail does when it finds something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Effect {
    /// Denies: `deny…` and `violation…`.
    Deny,
    /// Lets pass with a warning: `warn…`.
    Warn,
}

impl Effect {
    /// What a rule of this name does; `None` if it is no guardrail.
    pub fn of_rule(name: &str) -> Option<Self> {
        let mut parts = name.split('_');
        let effect = match parts.next()? {
            "deny" | "violation" => Self::Deny,
            "warn" => Self::Warn,
            _ => return None,
        };
        let word = |part: &str| !part.is_empty() && part.chars().all(|letter| letter.is_ascii_alphanumeric());
        parts.all(word).then_some(effect)
    }
}

/// Whether a word can stand in a path without quotes.
pub(crate) fn is_identifier(word: &str) -> bool {
    let mut letters = word.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conftests_names_are_guardrails() {
        for (name, effect) in [
            ("deny", Some(Effect::Deny)),
            ("deny_privileged_2", Some(Effect::Deny)),
            ("violation", Some(Effect::Deny)),
            ("warn_latest", Some(Effect::Warn)),
            ("denylist", None),
            ("deny_", None),
            ("deny__x", None),
            ("warnings", None),
            ("allow", None),
        ] {
            assert_eq!(Effect::of_rule(name), effect, "{name}");
        }
    }
}
