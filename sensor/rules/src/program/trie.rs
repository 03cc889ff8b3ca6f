//! Which of many prefixes a text begins with, or suffixes it ends with, in one walk along it.

/// Prefixes, or suffixes, each with a value.
#[derive(Debug, Default)]
pub(super) struct Trie {
    is_backward: bool,
    nodes: Vec<Branch>,
    labels: Vec<u8>,
    /// First byte of the way (for suffixes the last) and node, by parent.
    edges: Vec<(u8, u32)>,
}

#[derive(Debug)]
struct Branch {
    /// What leads here from the parent, its first byte included: a range of labels.
    label: (u32, u32),
    /// The value of the prefix that ends here.
    value: Option<u32>,
    /// A range of edges.
    edges: (u32, u32),
}

impl Trie {
    /// Of suffixes that differ from each other.
    pub(super) fn backward<'a>(suffixes: impl IntoIterator<Item = (&'a [u8], u32)>) -> Trie {
        let reversed: Vec<(Vec<u8>, u32)> =
            suffixes.into_iter().map(|(suffix, value)| (suffix.iter().rev().copied().collect(), value)).collect();
        let mut trie = Trie::new(reversed.iter().map(|(suffix, value)| (suffix.as_slice(), *value)));
        trie.is_backward = true;
        for node in &trie.nodes {
            trie.labels[node.label.0 as usize..(node.label.0 + node.label.1) as usize].reverse();
        }
        trie
    }

    /// Of prefixes that differ from each other.
    pub(super) fn new<'a>(prefixes: impl IntoIterator<Item = (&'a [u8], u32)>) -> Trie {
        let mut prefixes: Vec<(&[u8], u32)> = prefixes.into_iter().collect();
        prefixes.sort_unstable();
        let mut trie = Trie::default();
        if !prefixes.is_empty() {
            trie.branch(&prefixes, 0, 0);
        }
        trie
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds the node at which these begin to differ, all alike up to `from`; its place.
    fn branch(&mut self, prefixes: &[(&[u8], u32)], from: usize, above: usize) -> u32 {
        let (first, last) = (prefixes[0].0, prefixes[prefixes.len() - 1].0);
        // Sorted: what the first and the last share all share.
        let to = above.max(from + first[from..].iter().zip(&last[from..]).take_while(|(one, two)| one == two).count());
        let label = (self.labels.len() as u32, (to - from) as u32);
        self.labels.extend_from_slice(&first[from..to]);
        let place = self.nodes.len();
        let ends_here = first.len() == to;
        self.nodes.push(Branch { label, value: ends_here.then_some(prefixes[0].1), edges: (0, 0) });
        let rest = &prefixes[usize::from(ends_here)..];
        let groups: Vec<&[(&[u8], u32)]> = rest.chunk_by(|one, two| one.0[to] == two.0[to]).collect();
        let children: Vec<(u8, u32)> =
            groups.into_iter().map(|group| (group[0].0[to], self.branch(group, to, to))).collect();
        let start = self.edges.len() as u32;
        self.edges.extend(children);
        self.nodes[place].edges = (start, self.edges.len() as u32);
        place as u32
    }

    /// Hands on the value of each prefix that the text begins with, or suffix that it ends with.
    #[inline]
    pub(super) fn walk(&self, text: &[u8], mut found: impl FnMut(u32)) {
        let Some(mut node) = self.nodes.first() else { return };
        let mut rest = text;
        loop {
            let (start, len) = (node.label.0 as usize, node.label.1 as usize);
            let label = &self.labels[start..start + len];
            let after = if self.is_backward { rest.strip_suffix(label) } else { rest.strip_prefix(label) };
            let Some(after) = after else { return };
            rest = after;
            if let Some(value) = node.value {
                found(value);
            }
            let Some(first) = (if self.is_backward { rest.last() } else { rest.first() }) else { return };
            let edges = &self.edges[node.edges.0 as usize..node.edges.1 as usize];
            let Some((_, next)) = edges.iter().find(|(byte, _)| byte == first) else { return };
            node = &self.nodes[*next as usize];
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_what_starts_with_finds(prefixes in prop::collection::btree_set("[ab/]{0,5}", 0..12), text in "[ab/]{0,8}") {
            let trie = Trie::new(prefixes.iter().enumerate().map(|(place, prefix)| (prefix.as_bytes(), place as u32)));
            let mut found = Vec::new();
            trie.walk(text.as_bytes(), |value| found.push(value as usize));
            found.sort_unstable();
            let expected: Vec<usize> =
                prefixes.iter().enumerate().filter(|(_, prefix)| text.starts_with(prefix.as_str())).map(|(place, _)| place).collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(trie.is_empty(), prefixes.is_empty());
            let trie = Trie::backward(prefixes.iter().enumerate().map(|(place, suffix)| (suffix.as_bytes(), place as u32)));
            let mut found = Vec::new();
            trie.walk(text.as_bytes(), |value| found.push(value as usize));
            found.sort_unstable();
            let ends: Vec<usize> =
                prefixes.iter().enumerate().filter(|(_, suffix)| text.ends_with(suffix.as_str())).map(|(place, _)| place).collect();
            prop_assert_eq!(found, ends);
        }
    }
}
