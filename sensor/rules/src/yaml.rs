//! YAML as a tree in which each node knows where it stands, so that every later problem can name line and column.
//!
//! The scanner is granit's, by way of serde-saphyr; serde itself would lose the places. Aliases are copied, within
//! [`YAML_NODES_MAX`]. Tags are ignored: rules files have none.

use std::collections::HashMap;
use std::ops::Range;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span};

use crate::limits::{YAML_DEPTH_MAX, YAML_NODES_MAX};

/// One node of a document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) data: Data,
    /// Where it stands in the file, in bytes.
    pub(crate) range: Range<usize>,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Data {
    /// `plain` is false for quoted and block scalars, which are always strings.
    Scalar {
        value: String,
        plain: bool,
    },
    Sequence(Vec<Node>),
    /// In the order written.
    Mapping(Vec<(Node, Node)>),
}

/// Why a text is not a tree.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct YamlError {
    pub(crate) offset: usize,
    pub(crate) message: String,
    /// A limit of ours rather than YAML's grammar.
    pub(crate) is_limit: bool,
}

impl Node {
    /// What it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.data {
            Data::Scalar { .. } if self.is_null() => "nothing",
            Data::Scalar { .. } => "a scalar",
            Data::Sequence(_) => "a sequence",
            Data::Mapping(_) => "a mapping",
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.data, Data::Scalar { value, plain: true } if matches!(value.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The scalar's text; `None` for a collection or null.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Scalar { value, .. } if !self.is_null() => Some(value),
            _ => None,
        }
    }

    /// YAML 1.1's booleans, as Falco's parser reads them; a quoted one counts too.
    pub(crate) fn boolean(&self) -> Option<bool> {
        match self.text()?.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" => Some(true),
            "false" | "no" | "off" | "n" => Some(false),
            _ => None,
        }
    }

    pub(crate) fn sequence(&self) -> Option<&[Node]> {
        match &self.data {
            Data::Sequence(nodes) => Some(nodes),
            _ => None,
        }
    }

    /// The node as JSON: plain scalars by YAML 1.2's core schema, keys as texts.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.data {
            Data::Scalar { .. } if self.is_null() => serde_json::Value::Null,
            Data::Scalar { value, plain: false } => value.as_str().into(),
            Data::Scalar { value, plain: true } => match value.as_str() {
                "true" | "True" | "TRUE" => true.into(),
                "false" | "False" | "FALSE" => false.into(),
                // What JSON takes for a number is one; `007` and `1_000` stay texts.
                text => serde_json::from_str::<serde_json::Number>(text).map_or_else(|_| text.into(), Into::into),
            },
            Data::Sequence(nodes) => nodes.iter().map(Node::to_json).collect(),
            Data::Mapping(pairs) => {
                let pair = |(key, value): &(Node, Node)| (key.text().unwrap_or_default().to_owned(), value.to_json());
                serde_json::Value::Object(pairs.iter().map(pair).collect())
            }
        }
    }

    pub(crate) fn mapping(&self) -> Option<&[(Node, Node)]> {
        match &self.data {
            Data::Mapping(pairs) => Some(pairs),
            _ => None,
        }
    }
}

/// The documents of a stream.
pub(crate) fn parse(text: &str) -> Result<Vec<Node>, YamlError> {
    let mut builder = Builder { anchors: HashMap::new(), stack: Vec::new(), documents: Vec::new(), nodes: 0 };
    let mut parser = Parser::new_from_str(text);
    let mut last_offset = 0;
    while let Some(next) = parser.next_event() {
        let (event, span) = next.map_err(|error| YamlError {
            offset: offset_of(text, error.marker().byte_offset(), error.marker().index(), last_offset),
            message: format!("not valid YAML: {}", error.info()),
            is_limit: false,
        })?;
        let range = range_of(text, &span, last_offset);
        last_offset = range.start;
        builder.take(event, range)?;
    }
    Ok(builder.documents)
}

/// The place in the file of an offset in a scalar's value. Folding and indentation change only white space, so the n-th
/// other character of the value is the n-th of the source; escapes in double quotes may make it point a little early.
pub(crate) fn locate(source: &str, range: &Range<usize>, value: &str, offset: usize) -> usize {
    let raw = source.get(range.clone()).unwrap_or("");
    let header = match raw.bytes().next() {
        Some(b'>' | b'|') => raw.find('\n').map_or(raw.len(), |newline| newline + 1),
        Some(b'"' | b'\'') => 1,
        _ => 0,
    };
    let wanted = value.bytes().take(offset).filter(|byte| !byte.is_ascii_whitespace()).count();
    let body = raw.get(header..).unwrap_or("");
    let mut seen = 0;
    for (index, byte) in body.bytes().enumerate() {
        if byte.is_ascii_whitespace() {
            continue;
        }
        if seen == wanted {
            return range.start + header + index;
        }
        seen += 1;
    }
    // One past the end: the last character that is not blank, so that the mark stays on the line.
    range.start + header + body.trim_end().len()
}

fn range_of(text: &str, span: &Span, fallback: usize) -> Range<usize> {
    let start = offset_of(text, span.start.byte_offset(), span.start.index(), fallback);
    let end = offset_of(text, span.end.byte_offset(), span.end.index(), fallback);
    start..end.max(start)
}

fn offset_of(text: &str, bytes: Option<usize>, chars: usize, fallback: usize) -> usize {
    match bytes {
        Some(offset) => offset.min(text.len()),
        None => text
            .char_indices()
            .nth(chars)
            .map_or_else(|| text.len().min(fallback.max(text.len())), |(offset, _)| offset),
    }
}

/// A collection whose end has not come yet.
struct Open {
    range: Range<usize>,
    anchor: usize,
    is_mapping: bool,
    children: Vec<Node>,
}

struct Builder {
    anchors: HashMap<usize, Node>,
    stack: Vec<Open>,
    documents: Vec<Node>,
    nodes: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, range: Range<usize>) -> Result<(), YamlError> {
        match event {
            Event::Scalar(value, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                self.add(Node { data: Data::Scalar { value: value.into_owned(), plain }, range }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => self.open(range, anchor, false),
            Event::MappingStart(_, anchor, _) => self.open(range, anchor, true),
            Event::SequenceEnd | Event::MappingEnd => self.close(range),
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(limit(range.start, "an alias inside what it stands for".to_owned(), false));
                };
                let mut node = node.clone();
                self.nodes += count(&node);
                // The place of the alias is where a reader looks; its content's places stay those of the anchor.
                if matches!(node.data, Data::Scalar { .. }) {
                    node.range = range;
                }
                self.add(node, 0)
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, range: Range<usize>, anchor: usize, is_mapping: bool) -> Result<(), YamlError> {
        if self.stack.len() >= YAML_DEPTH_MAX {
            return Err(limit(range.start, format!("more than {YAML_DEPTH_MAX} nested collections"), true));
        }
        self.stack.push(Open { range, anchor, is_mapping, children: Vec::new() });
        Ok(())
    }

    fn close(&mut self, end: Range<usize>) -> Result<(), YamlError> {
        let open = self.stack.pop().expect("invariant: the scanner balances collections");
        let range = open.range.start..end.end.max(open.range.start);
        let data = if open.is_mapping {
            let mut pairs = Vec::with_capacity(open.children.len() / 2);
            let mut children = open.children.into_iter();
            while let (Some(key), Some(value)) = (children.next(), children.next()) {
                pairs.push((key, value));
            }
            Data::Mapping(pairs)
        } else {
            Data::Sequence(open.children)
        };
        self.add(Node { data, range }, open.anchor)
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), YamlError> {
        self.nodes += 1;
        if self.nodes > YAML_NODES_MAX {
            return Err(limit(node.range.start, format!("more than {YAML_NODES_MAX} YAML nodes"), true));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.stack.last_mut() {
            Some(parent) => parent.children.push(node),
            None => self.documents.push(node),
        }
        Ok(())
    }
}

fn limit(offset: usize, message: String, is_limit: bool) -> YamlError {
    YamlError { offset, message, is_limit }
}

fn count(node: &Node) -> usize {
    match &node.data {
        Data::Scalar { .. } => 1,
        Data::Sequence(nodes) => 1 + nodes.iter().map(count).sum::<usize>(),
        Data::Mapping(pairs) => 1 + pairs.iter().map(|(key, value)| count(key) + count(value)).sum::<usize>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_value(text: &str) -> Node {
        let documents = parse(text).unwrap();
        documents[0].mapping().unwrap()[0].1.clone()
    }

    fn found(text: &str, needle: &str) -> String {
        let node = first_value(text);
        let value = node.text().unwrap();
        let at = locate(text, &node.range, value, value.find(needle).unwrap());
        text[at..].chars().take(needle.chars().count()).collect()
    }

    #[test]
    fn offsets_in_values_lead_back_to_the_source() {
        for text in [
            "k: alpha beta gamma\n",
            "k: alpha\n  beta\n  gamma\n",
            "k: >\n  alpha\n  beta\n  gamma\n",
            "k: |\n  alpha\n    beta\n  gamma\n",
            "k: >-\n\n  alpha beta\n\n  gamma\nl: 1\n",
            "k: 'alpha beta gamma'\n",
            "é: \"alpha beta\n  gamma\"\n",
            "? k\n: alpha beta gamma",
        ] {
            assert_eq!(found(text, "beta"), "beta", "{text}");
            assert_eq!(found(text, "gamma"), "gamma", "{text}");
        }
    }

    #[test]
    fn past_the_end_stays_on_the_line() {
        let text = "k: alpha beta\nl: 1\n";
        let node = first_value(text);
        assert_eq!(locate(text, &node.range, "alpha beta", 10), 13);
    }

    #[test]
    fn aliases_are_copied_within_bounds() {
        let text = "a: &x [1, 2]\nb: *x\n";
        let documents = parse(text).unwrap();
        let pairs = documents[0].mapping().unwrap();
        assert_eq!(pairs[0].1.sequence().unwrap().len(), pairs[1].1.sequence().unwrap().len());

        let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..8 {
            let one = format!("*a{}", level - 1);
            laughs.push_str(&format!("a{level}: &a{level} [{}]\n", vec![one; 10].join(", ")));
        }
        assert!(parse(&laughs).unwrap_err().is_limit);
    }

    #[test]
    fn depth_is_bounded() {
        let at = format!("{}x{}", "[".repeat(YAML_DEPTH_MAX), "]".repeat(YAML_DEPTH_MAX));
        assert!(parse(&at).is_ok());
        let past = format!("[{at}]");
        assert!(parse(&past).unwrap_err().is_limit);
    }

    #[test]
    fn scalars() {
        assert_eq!(first_value("k: yes").boolean(), Some(true));
        assert_eq!(first_value("k: \"false\"").boolean(), Some(false));
        assert_eq!(first_value("k: 1").boolean(), None);
        assert!(first_value("k: ").is_null());
        assert!(!first_value("k: ''").is_null());
    }
}
