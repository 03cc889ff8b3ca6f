//! Paths into a document: JSON Pointers (RFC 6901) in which a step may stand for every element of an array.
//!
//! ```text
//! pointer = [ "$" ] , { "/" , step } ;
//! step    = "*" | "*[" , key , "=" , text , "]" | key ;      (* "~1" in a key is "/", "~0" is "~" *)
//! ```
//! `*` is each element, `*[kind=User]` each element whose `kind` is the text `User`. A key that is a number picks an element of an array.
//! With `$` a path begins at the document, else at the element that is looked at (a field's `each`), which is the document itself
//! for most fields.
//!
//! A document is a tree, so a walk visits each of its values once at most: the document's own bound bounds the work.

use std::fmt;

use serde_json::Value;

use crate::limits::{POINTER_BYTES_MAX, POINTER_STEPS_MAX};

/// A path into a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pointer {
    steps: Box<[Step]>,
    from_root: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(Box<str>),
    Each,
    /// The elements that are objects with this text under this key.
    Where(Box<str>, Box<str>),
}

/// Why a text is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PointerError {
    #[error("path `{path}` does not begin with `/`")]
    NoSlash { path: String },
    #[error("path `{path}`: `{step}` is neither a key, nor `*`, nor `*[key=text]`")]
    Step { path: String, step: String },
    #[error("a path of more than {POINTER_BYTES_MAX} bytes or {POINTER_STEPS_MAX} steps")]
    TooLong,
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &*self.steps {
            match step {
                Step::Key(key) => write!(f, "/{}", key.replace('~', "~0").replace('/', "~1"))?,
                Step::Each => f.write_str("/*")?,
                Step::Where(key, text) => write!(f, "/*[{key}={text}]")?,
            }
        }
        Ok(())
    }
}

impl Pointer {
    pub(crate) fn parse(text: &str) -> Result<Self, PointerError> {
        let (from_root, rest) = match text.strip_prefix('$') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if text.len() > POINTER_BYTES_MAX || rest.matches('/').count() > POINTER_STEPS_MAX {
            return Err(PointerError::TooLong);
        }
        if rest.is_empty() {
            return Ok(Self { steps: Box::default(), from_root });
        }
        let Some(rest) = rest.strip_prefix('/') else {
            return Err(PointerError::NoSlash { path: text.to_owned() });
        };
        let steps: Option<Box<[Step]>> = rest.split('/').map(step).collect();
        let Some(steps) = steps else {
            let step = rest.split('/').find(|it| step(it).is_none()).unwrap_or_default().to_owned();
            return Err(PointerError::Step { path: text.to_owned(), step });
        };
        Ok(Self { steps, from_root })
    }

    /// Does it stand for several values?
    pub(crate) fn is_many(&self) -> bool {
        self.steps.iter().any(|step| !matches!(step, Step::Key(_)))
    }

    /// The values it leads to, in order. `index` picks one element at its first `*`.
    pub(crate) fn find<'a>(&self, base: &'a Value, root: &'a Value, index: Option<usize>) -> Vec<&'a Value> {
        let mut found = Vec::new();
        walk(&self.steps, if self.from_root { root } else { base }, index, &mut found);
        found
    }

    /// Takes the array it leads to out of a document. A path with `*` leads to none.
    pub(crate) fn take_array(&self, document: &mut Value) -> Option<Vec<Value>> {
        let mut value = document;
        for step in &*self.steps {
            value = match (step, value) {
                (Step::Key(key), Value::Object(map)) => map.get_mut(&**key)?,
                (Step::Key(key), Value::Array(items)) => items.get_mut(key.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        value.as_array_mut().map(std::mem::take)
    }

    /// Can a path written as an argument lead to a value of this one, into it, or to what holds it?
    pub(crate) fn overlaps(&self, path: &str) -> bool {
        let path = path.strip_prefix('/').unwrap_or(path);
        path.split('/').zip(&*self.steps).all(|(key, step)| match step {
            Step::Key(own) => **own == *unescape(key),
            Step::Each | Step::Where(..) => true,
        })
    }

    /// The first value it leads to.
    pub(crate) fn first<'a>(&self, base: &'a Value, root: &'a Value) -> Option<&'a Value> {
        if self.is_many() {
            return self.find(base, root, None).into_iter().next();
        }
        let mut value = if self.from_root { root } else { base };
        for step in &*self.steps {
            let Step::Key(key) = step else { return None };
            value = child(value, key)?;
        }
        Some(value)
    }
}

fn step(text: &str) -> Option<Step> {
    if text == "*" {
        return Some(Step::Each);
    }
    match text.strip_prefix('*') {
        None => Some(Step::Key(unescape(text).into())),
        Some(filter) => {
            let (key, wanted) = filter.strip_prefix('[')?.strip_suffix(']')?.split_once('=')?;
            (!key.is_empty()).then(|| Step::Where(unescape(key).into(), unescape(wanted).into()))
        }
    }
}

fn unescape(text: &str) -> String {
    text.replace("~1", "/").replace("~0", "~")
}

fn child<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) => map.get(key),
        Value::Array(items) => items.get(key.parse::<usize>().ok()?),
        _ => None,
    }
}

/// As deep as the path is long, which is bounded.
fn walk<'a>(steps: &[Step], value: &'a Value, index: Option<usize>, found: &mut Vec<&'a Value>) {
    let Some((step, rest)) = steps.split_first() else {
        found.push(value);
        return;
    };
    let is_wanted = |item: &Value| match step {
        Step::Where(key, wanted) => item.get(&**key).and_then(Value::as_str) == Some(&**wanted),
        _ => true,
    };
    match (step, value) {
        (Step::Key(key), _) => {
            if let Some(child) = child(value, key) {
                walk(rest, child, index, found);
            }
        }
        (_, Value::Array(items)) => {
            let wanted = items.iter().filter(|item| is_wanted(item));
            match index {
                Some(index) => wanted.skip(index).take(1).for_each(|item| walk(rest, item, None, found)),
                None => wanted.for_each(|item| walk(rest, item, None, found)),
            }
        }
        _ => {}
    }
}

/// What a path written as a field's argument leads to: `json.value[/a/0/b]`. No wildcards; the first `/` may be left out, as
/// Falco's plugin has it.
pub(crate) fn lookup<'a>(document: &'a Value, path: &str) -> Option<&'a Value> {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.split('/').take(POINTER_STEPS_MAX).try_fold(document, |value, key| {
        if key.contains('~') { child(value, &unescape(key)) } else { child(value, key) }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn find(path: &str, index: Option<usize>) -> String {
        let document = json!({
            "a": [{"k": "x", "v": 1}, {"k": "y", "v": [2, 3]}, 4],
            "b/c": {"~": "tilde"},
            "": {"": 5},
        });
        let pointer = Pointer::parse(path).unwrap();
        let found = pointer.find(&document, &document, index);
        assert_eq!(pointer.first(&document, &document), pointer.find(&document, &document, None).first().copied());
        found.iter().map(|value| value.to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn paths_lead_to_values() {
        assert_eq!(find("/a/*/v", None), "1 [2,3]");
        assert_eq!(find("/a/*/v/*", None), "2 3");
        assert_eq!(find("/a/*/v", Some(1)), "[2,3]");
        assert_eq!(find("/a/*/v/*", Some(1)), "2 3");
        assert_eq!(find("/a/*/v", Some(9)), "");
        assert_eq!(find("/a/*[k=y]/v/*", None), "2 3");
        assert_eq!(find("/a/1/v/0", None), "2");
        assert_eq!(find("/b~1c/~0", None), "\"tilde\"");
        assert_eq!(find("//", None), "5");
        assert_eq!(find("$/a/2", None), "4");
        assert_eq!(find("/a/x", None), "");
        assert_eq!(find("/b~1c/*", None), "");
    }

    #[test]
    fn arrays_are_taken_out() {
        let mut document = json!({"a": {"items": [1, 2]}, "b": 3});
        let take = |path: &str, document: &mut Value| Pointer::parse(path).unwrap().take_array(document);
        assert_eq!(take("/b", &mut document), None);
        assert_eq!(take("/a/*", &mut document), None);
        assert_eq!(take("/a/items", &mut document), Some(vec![json!(1), json!(2)]));
        assert_eq!(document, json!({"a": {"items": []}, "b": 3}));
    }

    #[test]
    fn arguments_lead_to_values() {
        let document = json!({"stage": "x", "a": [{"b~1": true}]});
        assert_eq!(lookup(&document, "/stage"), Some(&json!("x")));
        assert_eq!(lookup(&document, "stage"), Some(&json!("x")));
        assert_eq!(lookup(&document, "/a/0/b~01"), Some(&json!(true)));
        assert_eq!(lookup(&document, "/a/-1"), None);
        assert_eq!(lookup(&document, ""), None);
    }

    #[test]
    fn paths_overlap_where_one_leads_into_the_other() {
        let name = Pointer::parse("/user/groups/*/name").unwrap();
        for (path, expected) in [
            ("/user", true),
            ("user/groups/0", true),
            ("/user/groups/7/name/x", true),
            ("/user/name", false),
            ("/users", false),
        ] {
            assert_eq!(name.overlaps(path), expected, "{path}");
        }
    }

    #[test]
    fn what_is_no_path() {
        assert_eq!(Pointer::parse("a/b").unwrap_err().to_string(), "path `a/b` does not begin with `/`");
        for path in ["/a/**", "/a/*[k]", "/a/*[=v]", "/a/*[k=v"] {
            assert!(matches!(Pointer::parse(path), Err(PointerError::Step { .. })), "{path}");
        }
    }

    #[test]
    fn limits() {
        let steps = |count: usize| "/a".repeat(count);
        assert!(Pointer::parse(&steps(POINTER_STEPS_MAX)).is_ok());
        assert_eq!(Pointer::parse(&steps(POINTER_STEPS_MAX + 1)), Err(PointerError::TooLong));
        let bytes = |count: usize| format!("/{}", "a".repeat(count - 1));
        assert!(Pointer::parse(&bytes(POINTER_BYTES_MAX)).is_ok());
        assert_eq!(Pointer::parse(&bytes(POINTER_BYTES_MAX + 1)), Err(PointerError::TooLong));
    }
}
