//! Personal values become tokens before anything leaves this process (promise P6).

use std::collections::BTreeSet;

use cairn_schemas::data::{PERSONAL_FIELDS, User};
use cairn_schemas::token::{Token, TokenKey, token};

/// Which values are personal, and the key that hides them.
#[derive(Debug, Clone)]
pub struct Redaction {
    key: TokenKey,
    more_fields: BTreeSet<String>,
}

impl Redaction {
    /// The fields that are always personal, and `more_fields`, which a policy names (`privacy.personal_fields`).
    #[must_use]
    pub fn new(key: TokenKey, more_fields: &[String]) -> Redaction {
        Redaction { key, more_fields: more_fields.iter().cloned().collect() }
    }

    /// A rule field's value as it may stand in a record.
    #[must_use]
    pub fn field(&self, name: &str, value: &str) -> String {
        let base = name.split_once('[').map_or(name, |(base, _)| base);
        if !PERSONAL_FIELDS.contains(&base) && !self.more_fields.contains(base) && !self.more_fields.contains(name) {
            return value.to_owned();
        }
        token(&self.key, class_of(base), value).to_string()
    }

    /// A process's user.
    #[must_use]
    pub fn user(&self, uid: u32, name: Option<&str>, login_uid: Option<u32>) -> User {
        let number = |uid: u32| -> Token { token(&self.key, "uid", &uid.to_string()) };
        User {
            uid: number(uid),
            name: name.map(|name| token(&self.key, "user", name)),
            login_uid: login_uid.map(number),
        }
    }
}

/// Fields of one kind share a class, so that `user.name` here links with the user of an admission decision.
fn class_of(field: &str) -> &str {
    match field {
        "user.name" | "user.loginname" => "user",
        "user.uid" | "user.loginuid" => "uid",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redaction() -> Redaction {
        Redaction::new(TokenKey { epoch: "e1".to_owned(), key: [7; 32] }, &["proc.cmdline".to_owned()])
    }

    #[test]
    fn personal_fields_are_tokens_and_others_are_not() {
        let redaction = redaction();
        assert!(redaction.field("user.name", "alice").starts_with("tok:e1:"));
        assert!(
            redaction.field("proc.cmdline", "curl alice@example.com").starts_with("tok:e1:"),
            "named by the policy"
        );
        assert!(redaction.field("proc.aenv[2]", "SECRET=1").starts_with("tok:e1:"), "with an index");
        assert_eq!(redaction.field("proc.name", "bash"), "bash");
    }

    #[test]
    fn one_user_links_across_fields() {
        let redaction = redaction();
        let user = redaction.user(1000, Some("alice"), Some(1000));
        assert_eq!(user.name.unwrap().to_string(), redaction.field("user.loginname", "alice"));
        assert_eq!(Some(user.uid.clone()), user.login_uid);
        assert_ne!(user.uid, redaction.user(1001, None, None).uid);
    }
}
