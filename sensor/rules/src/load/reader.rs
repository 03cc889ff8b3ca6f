//! Scalars with their places, and mappings of known keys.

use std::ops::Range;

use crate::problem::{Code, Place, Reporter, Severity};
use crate::suggest;
use crate::yaml::{self, Node};

/// A scalar and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Scalar {
    pub(crate) value: String,
    pub(super) file: usize,
    pub(super) range: Range<usize>,
}

/// Text that may come from several scalars: a condition and what was appended to it, with a blank between.
#[derive(Debug, Clone, Default)]
pub(crate) struct Joined {
    pub(crate) parts: Vec<Scalar>,
}

impl Scalar {
    pub(crate) fn new(node: &Node, value: &str, file: usize) -> Self {
        Self { value: value.to_owned(), file, range: node.range.clone() }
    }

    pub(crate) fn place(&self) -> Place {
        Place { file: self.file, offset: self.range.start }
    }

    fn place_at(&self, offset: usize, reporter: &Reporter<'_>) -> Place {
        let source = reporter.source(self.file);
        Place { file: self.file, offset: yaml::locate(source, &self.range, &self.value, offset) }
    }
}

impl Joined {
    pub(crate) fn text(&self) -> String {
        self.parts.iter().map(|part| part.value.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// The place in its file of an offset in [`Joined::text`].
    pub(crate) fn place_at(&self, offset: usize, reporter: &Reporter<'_>) -> Place {
        let mut rest = offset;
        for (index, part) in self.parts.iter().enumerate() {
            if rest <= part.value.len() || index + 1 == self.parts.len() {
                return part.place_at(rest.min(part.value.len()), reporter);
            }
            rest -= part.value.len() + 1;
        }
        Place::default()
    }
}

impl From<Scalar> for Joined {
    fn from(scalar: Scalar) -> Self {
        Self { parts: vec![scalar] }
    }
}

/// A mapping of an item, whose keys are known.
pub(crate) struct Fields<'n> {
    pub(crate) file: usize,
    pub(crate) node: &'n Node,
    /// The item, for messages: `rule "Shell"`.
    pub(crate) item: String,
    /// The code of its problems.
    code: Code,
    pairs: &'n [(Node, Node)],
}

impl<'n> Fields<'n> {
    /// The mapping's fields; keys that stand twice and keys nobody knows are reported.
    pub(crate) fn new(
        node: &'n Node,
        pairs: &'n [(Node, Node)],
        file: usize,
        item: String,
        known: &[&str],
        reporter: &mut Reporter<'_>,
    ) -> Self {
        let fields = Self { file, node, item, code: Code::LoadErrYamlValidate, pairs };
        fields.check_keys(known, Severity::Warning, reporter);
        fields
    }

    /// As [`Fields::new`] for our own formats, where a key nobody knows is an error.
    pub(crate) fn strict(
        node: &'n Node,
        pairs: &'n [(Node, Node)],
        file: usize,
        item: String,
        known: &[&str],
        reporter: &mut Reporter<'_>,
    ) -> Self {
        let fields = Self { file, node, item, code: Code::CairnReplayCase, pairs };
        fields.check_keys(known, Severity::Error, reporter);
        fields
    }

    /// As [`Fields::strict`] for our own items of a rules file.
    pub(crate) fn own(
        node: &'n Node,
        pairs: &'n [(Node, Node)],
        file: usize,
        item: String,
        known: &[&str],
        reporter: &mut Reporter<'_>,
    ) -> Self {
        let fields = Self { file, node, item, code: Code::LoadErrExtension, pairs };
        fields.check_keys(known, Severity::Error, reporter);
        fields
    }

    fn check_keys(&self, known: &[&str], unknown: Severity, reporter: &mut Reporter<'_>) {
        let (pairs, file, item) = (self.pairs, self.file, &self.item);
        for (index, (key, _)) in pairs.iter().enumerate() {
            let place = Place { file, offset: key.range.start };
            let Some(name) = key.text() else {
                reporter.error(self.code, place, item, format!("{} as a key", key.kind()), None);
                continue;
            };
            if pairs[..index].iter().any(|(earlier, _)| earlier.text() == Some(name)) {
                let hint = Some("remove one of them".to_owned());
                reporter.error(self.code, place, item, format!("key `{name}` stands twice"), hint);
            } else if !known.contains(&name) {
                let hint = suggest::hint(name, known.iter().copied());
                let hint = hint.or_else(|| Some(format!("keys here are: {}", known.join(", "))));
                let message = format!("unknown key `{name}`");
                match unknown {
                    Severity::Error => reporter.error(self.code, place, item, message, hint),
                    Severity::Warning => reporter.warning(Code::LoadUnknownKey, place, item, message, hint),
                }
            }
        }
    }

    pub(crate) fn place(&self) -> Place {
        Place { file: self.file, offset: self.node.range.start }
    }

    pub(crate) fn place_of(&self, node: &Node) -> Place {
        Place { file: self.file, offset: node.range.start }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = (&'n str, &'n Node)> {
        self.pairs.iter().filter_map(|(key, _)| key.text().map(|text| (text, key)))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'n Node> {
        self.pairs.iter().find(|(key, _)| key.text() == Some(name)).map(|(_, value)| value)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(crate) fn wrong(&self, node: &Node, message: String, hint: Option<String>, reporter: &mut Reporter<'_>) {
        reporter.error(self.code, self.place_of(node), &self.item, message, hint);
    }

    /// A scalar; reported when it is something else.
    pub(crate) fn scalar(&self, name: &str, reporter: &mut Reporter<'_>) -> Option<Scalar> {
        let node = self.get(name)?;
        match node.text() {
            Some("") if self.code == Code::LoadErrYamlValidate => {
                self.wrong(node, format!("`{name}` is empty"), None, reporter);
                None
            }
            Some(text) => Some(Scalar::new(node, text, self.file)),
            None => {
                self.wrong(node, format!("`{name}` must be text, not {}", node.kind()), None, reporter);
                None
            }
        }
    }

    /// A scalar that must be there and not be empty.
    pub(crate) fn required(&self, name: &str, reporter: &mut Reporter<'_>) -> Option<Scalar> {
        if !self.has(name) {
            let hint = Some(format!("add `{name}:`"));
            reporter.error(self.code, self.place(), &self.item, format!("`{name}` is missing"), hint);
            return None;
        }
        self.scalar(name, reporter)
    }

    /// True or false; `default` when it is not there.
    pub(crate) fn boolean(&self, name: &str, default: bool, reporter: &mut Reporter<'_>) -> bool {
        let Some(node) = self.get(name) else { return default };
        match node.boolean() {
            Some(value) => value,
            None => {
                self.wrong(node, format!("`{name}` must be true or false"), None, reporter);
                default
            }
        }
    }

    /// A sequence of scalars.
    pub(crate) fn scalars(&self, name: &str, reporter: &mut Reporter<'_>) -> Option<Vec<Scalar>> {
        let node = self.get(name)?;
        scalars_of(node, name, self, reporter)
    }
}

/// The scalars of a sequence; anything else is reported.
pub(crate) fn scalars_of(
    node: &Node,
    name: &str,
    fields: &Fields<'_>,
    reporter: &mut Reporter<'_>,
) -> Option<Vec<Scalar>> {
    let Some(nodes) = node.sequence() else {
        let hint = Some("write `[a, b]`".to_owned());
        fields.wrong(node, format!("`{name}` must be a sequence, not {}", node.kind()), hint, reporter);
        return None;
    };
    let mut scalars = Vec::with_capacity(nodes.len());
    for node in nodes {
        match node.text() {
            Some(text) => scalars.push(Scalar::new(node, text, fields.file)),
            None => fields.wrong(node, format!("`{name}` must hold texts, not {}", node.kind()), None, reporter),
        }
    }
    Some(scalars)
}
