//! User and group names of this machine, from `/etc/passwd` and `/etc/group`.
//!
//! Only these files: a lookup over the network at each event would make detection depend on it.

use std::collections::HashMap;
use std::path::Path;

use cairn_rules::Names;

/// Reads the names; a file that cannot be read yields none.
#[must_use]
pub fn read(root: &Path) -> Names {
    let text = |name: &str| std::fs::read(root.join(name)).unwrap_or_default();
    let hostname = String::from_utf8_lossy(&text("proc/sys/kernel/hostname")).trim().to_owned();
    Names {
        users: parse(&text("etc/passwd")),
        groups: parse(&text("etc/group")),
        hostname: (!hostname.is_empty()).then_some(hostname),
        ..Names::default()
    }
}

/// `name:password:number:…`, the form of both files. The first line of a number counts, as in the C library.
fn parse(text: &[u8]) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in String::from_utf8_lossy(text).lines() {
        let mut parts = line.split(':');
        if let (Some(name), Some(_), Some(number)) = (parts.next(), parts.next(), parts.next())
            && let Ok(number) = number.parse()
            && !name.is_empty()
        {
            names.entry(number).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_number_counts_and_bad_lines_do_not() {
        let names = parse(
            b"root:x:0:0:root:/root:/bin/bash\ntoor:x:0:0::/:/bin/sh\n\n:x:5:\nbad\nx:y:z\nada:x:1000:1000::\xff\n",
        );
        assert_eq!(names.get(&0).map(String::as_str), Some("root"));
        assert_eq!(names.get(&1000).map(String::as_str), Some("ada"));
        assert_eq!(names.len(), 2);
    }
}
