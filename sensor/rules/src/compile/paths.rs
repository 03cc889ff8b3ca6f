//! Paths of which one must be a text or a directory above it: `pmatch`.

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::ops::ControlFlow;

use foldhash::fast::FixedState;

use super::pattern::Glob;

/// Many paths as one tree of their components, walked once along a text. A component may be a glob, which does not cross `/`. Repeated and
/// last slashes do not matter.
///
/// Nodes lie in one list, since a path may have as many components as its text has bytes: nothing here recurs over them.
#[derive(Debug, Clone)]
pub(crate) struct PathTree {
    /// Sorted, each once, without slashes that do not matter.
    paths: Box<[Box<[u8]>]>,
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, Default)]
struct Node {
    children: HashMap<Box<[u8]>, u32, FixedState>,
    globs: Vec<(Glob, u32)>,
    /// The place of the path that ends here.
    path: Option<u32>,
}

impl PathTree {
    pub(crate) fn new<'p>(paths: impl IntoIterator<Item = &'p [u8]>) -> Self {
        let plain: HashSet<Box<[u8]>> = paths.into_iter().map(plain).collect();
        let mut paths: Box<[Box<[u8]>]> = plain.into_iter().collect();
        paths.sort_unstable();
        let mut tree = Self { paths, nodes: vec![Node::default()] };
        for place in 0..tree.paths.len() {
            tree.insert(place);
        }
        tree
    }

    fn insert(&mut self, place: usize) {
        let mut at = 0;
        for component in components(&self.paths[place]) {
            let next = self.nodes.len();
            let new = u32::try_from(next).expect("invariant: a tree has fewer nodes than its paths have bytes");
            let node = &mut self.nodes[at];
            if component.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[')) {
                node.globs.push((Glob::new(component, false), new));
            } else if let Some(child) = node.children.get(component) {
                at = *child as usize;
                continue;
            } else {
                node.children.insert(component.into(), new);
            }
            self.nodes.push(Node::default());
            at = next;
        }
        self.nodes[at].path = u32::try_from(place).ok();
    }

    /// How large it is.
    pub(crate) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Its paths; [`PathTree::walk`] names them by their place here.
    pub(crate) fn paths(&self) -> &[Box<[u8]>] {
        &self.paths
    }

    /// Hands on each path that is the text or a directory above it, until told to stop. Each node is looked at once at most.
    pub(crate) fn walk(&self, text: &[u8], mut found: impl FnMut(u32) -> ControlFlow<()>) {
        // Where else to go on, a glob having matched: a node, and where in the text.
        let mut others: Vec<(u32, usize)> = Vec::new();
        let (mut node, mut at) = (&self.nodes[0], 0);
        loop {
            if let Some(path) = node.path
                && found(path).is_break()
            {
                return;
            }
            let mut next = None;
            if let Some(component) = components(&text[at..]).next() {
                let skipped = text[at..].iter().take_while(|byte| **byte == b'/').count();
                at += skipped + component.len();
                let globs = node.globs.iter().filter(|(glob, _)| glob.matches(component));
                others.extend(globs.map(|(_, child)| (*child, at)));
                next = node.children.get(component).map(|child| (*child, at));
            }
            let Some((place, from)) = next.or_else(|| others.pop()) else { return };
            (node, at) = (&self.nodes[place as usize], from);
        }
    }

    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        let mut is_found = false;
        self.walk(text, |_| {
            is_found = true;
            ControlFlow::Break(())
        });
        is_found
    }
}

impl PartialEq for PathTree {
    fn eq(&self, other: &Self) -> bool {
        self.paths == other.paths
    }
}

impl Eq for PathTree {}

impl Hash for PathTree {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.paths.hash(state);
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|component| !component.is_empty())
}

/// A path as all others that are the same to a tree.
fn plain(path: &[u8]) -> Box<[u8]> {
    components(path).collect::<Vec<_>>().join(&b'/').into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tree(paths: &[&str]) -> PathTree {
        PathTree::new(paths.iter().map(|path| path.as_bytes()))
    }

    #[test]
    fn paths_by_component() {
        let several = tree(&["/opt/dir", "/home/*/.ssh", "/var/log/"]);
        for path in ["/opt/dir", "/opt/dir/x", "/opt//dir/x", "/home/a/.ssh/id", "/var/log", "/var/log/x"] {
            assert!(several.matches(path.as_bytes()), "{path}");
        }
        for path in ["/opt/dir2", "/opt", "/home/a/b/.ssh", "/", ""] {
            assert!(!several.matches(path.as_bytes()), "{path}");
        }
        assert!(tree(&["/"]).matches(b"/anything"));
        assert!(!tree(&[]).matches(b"/"));
        assert_eq!(tree(&["/a/b", "/c"]), tree(&["c/", "//a//b/", "/c"]));
    }

    #[test]
    fn all_that_match_are_found() {
        let tree = tree(&["/a/b/c", "/a/*/c", "/*/b", "/a", "/a/x"]);
        let mut found = Vec::new();
        tree.walk(b"/a/b/c/d", |path| {
            found.push(String::from_utf8_lossy(&tree.paths()[path as usize]).into_owned());
            ControlFlow::Continue(())
        });
        found.sort_unstable();
        assert_eq!(found, ["*/b", "a", "a/*/c", "a/b/c"]);
    }

    /// No stack is as deep as a path may be.
    #[test]
    fn as_many_components_as_a_file_holds() {
        for component in ["/a", "/*"] {
            let deep = component.repeat(100_000);
            let tree = tree(&[&deep]);
            assert!(tree.matches("/a".repeat(100_001).as_bytes()));
            assert!(!tree.matches("/a".repeat(99_999).as_bytes()));
            drop(tree.clone());
        }
    }

    /// Each path by itself, component by component.
    fn naive(path: &str, text: &str) -> bool {
        let parts = |text: &str| -> Vec<String> {
            text.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        let (path, text) = (parts(path), parts(text));
        path.len() <= text.len()
            && path.iter().zip(&text).all(|(one, two)| Glob::new(one.as_bytes(), false).matches(two.as_bytes()))
    }

    proptest! {
        #[test]
        fn as_each_path_by_itself(paths in prop::collection::vec("(/{0,2}(a|b|ab|\\*|a\\*|\\?)){0,4}/{0,1}", 0..6), text in "(/{0,2}(a|b|ab|ba)){0,5}/{0,1}") {
            let tree = PathTree::new(paths.iter().map(|path| path.as_bytes()));
            prop_assert_eq!(tree.matches(text.as_bytes()), paths.iter().any(|path| naive(path, &text)));
            let mut found = std::collections::BTreeSet::new();
            tree.walk(text.as_bytes(), |path| {
                found.insert(tree.paths()[path as usize].clone());
                ControlFlow::Continue(())
            });
            let expected = paths.iter().filter(|path| naive(path, &text)).map(|path| plain(path.as_bytes())).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn any_bytes_are_a_path(path in prop::collection::vec(any::<u8>(), 0..20), text in prop::collection::vec(any::<u8>(), 0..20)) {
            PathTree::new([path.as_slice()]).matches(&text);
        }
    }
}
