//! Which parts of two kernel objects differ. Reads just enough of ELF (64 bits, little-endian) for that.

use std::collections::BTreeMap;

/// What the kernel gets to see: code, constants, map definitions and the relocations between them. Symbol and string
/// tables may be ordered otherwise by another linker without changing any of it.
fn is_loaded(name: &str) -> bool {
    !matches!(name, ".symtab" | ".strtab" | ".shstrtab" | ".comment" | ".llvm_addrsig" | "")
}

/// Sections by name with their bytes; `None` if this is no such object.
pub(super) fn sections(bytes: &[u8]) -> Option<BTreeMap<String, &[u8]>> {
    if bytes.get(..6)? != [0x7f, b'E', b'L', b'F', 2, 1] {
        return None;
    }
    let table = read(bytes, 0x28, 8)?;
    let entry_len = read(bytes, 0x3a, 2)?;
    let count = read(bytes, 0x3c, 2)?;
    let names_index = read(bytes, 0x3e, 2)?;
    let entry = |index: usize| bytes.get(table.checked_add(index.checked_mul(entry_len)?)?..);
    let content = |header: &[u8]| {
        const NOBITS: usize = 8;
        if read(header, 4, 4)? == NOBITS {
            return Some(&[][..]);
        }
        let start = read(header, 0x18, 8)?;
        bytes.get(start..start.checked_add(read(header, 0x20, 8)?)?)
    };
    let names = content(entry(names_index)?)?;
    (0..count)
        .map(|index| {
            let header = entry(index)?;
            let name = names.get(read(header, 0, 4)?..)?;
            let name = name.split(|byte| *byte == 0).next()?;
            Some((String::from_utf8_lossy(name).into_owned(), content(header)?))
        })
        .collect()
}

/// One line for each loaded section that is not the same in both.
pub(super) fn differences(committed: &BTreeMap<String, &[u8]>, built: &BTreeMap<String, &[u8]>) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = committed.keys().chain(built.keys()).collect();
    names
        .into_iter()
        .filter(|name| is_loaded(name))
        .filter_map(|name| match (committed.get(name), built.get(name)) {
            (Some(_), None) => Some(format!("{name}: only in the committed object")),
            (None, Some(_)) => Some(format!("{name}: only in the one just built")),
            (Some(old), Some(new)) if old != new => {
                let at = old.iter().zip(new.iter()).take_while(|(old, new)| old == new).count();
                Some(format!("{name}: {} bytes committed, {} built, different from byte {at}", old.len(), new.len()))
            }
            _ => None,
        })
        .collect()
}

fn read(bytes: &[u8], at: usize, len: usize) -> Option<usize> {
    let field = bytes.get(at..at.checked_add(len)?)?;
    let value =
        field.iter().rev().try_fold(0u64, |value, byte| value.checked_mul(256)?.checked_add(u64::from(*byte)))?;
    usize::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMITTED: &[u8] = include_bytes!("../../../sensor/ebpf/object/cairn.bpf.o");

    #[test]
    fn the_committed_object_has_its_parts() {
        let sections = sections(COMMITTED).unwrap();
        for name in ["tp_btf/sys_exit", "tp_btf/sched_process_exec", "maps", "license", ".rodata"] {
            assert!(sections.contains_key(name), "{name}");
        }
        assert!(differences(&sections, &sections).is_empty());
    }

    /// Paths in it would differ from machine to machine, and tell on the one that built it.
    #[test]
    fn the_committed_object_holds_no_paths() {
        let text = String::from_utf8_lossy(COMMITTED);
        for path in ["/home/", "/root/", "/rustc/", "registry", ".rs"] {
            assert!(!text.contains(path), "{path}");
        }
    }

    #[test]
    fn a_changed_instruction_is_named() {
        let old = sections(COMMITTED).unwrap();
        let mut code = old["tp_btf/sys_exit"].to_vec();
        code[8] ^= 1;
        let mut new = old.clone();
        new.insert("tp_btf/sys_exit".into(), &code);
        new.insert(".strtab".into(), b"another");
        let found = differences(&old, &new);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("tp_btf/sys_exit: ") && found[0].ends_with("different from byte 8"), "{found:?}");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for len in 0..COMMITTED.len().min(4096) {
            // Cut short it may still have readable parts; it must not panic.
            let _ = sections(&COMMITTED[..len]);
        }
        assert!(sections(b"").is_none());
        assert!(sections(b"\x7fELF\x01\x01").is_none());
    }
}
