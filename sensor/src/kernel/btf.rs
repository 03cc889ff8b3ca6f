//! The kernel's type information (BTF), as far as the sensor needs it: where members of structures lie, how large a type
//! is, values of enumerations, and whether a tracepoint exists.
//!
//! `aya` reads the same file to attach programs, but does not say where a member lies. This reader is pure: bytes in,
//! numbers out. The bytes are the running kernel's own, yet nothing here trusts them: every index is checked, chains of
//! types are followed a bounded number of steps, and malformed input is an error.

use std::collections::HashMap;

/// Steps through typedefs, qualifiers and nested anonymous structures before a lookup gives up.
const DEPTH_MAX: u32 = 16;

/// Bytes of type information accepted; a distribution kernel has 4 to 10 MB.
const BTF_LEN_MAX: usize = 64 << 20;

const MAGIC: u16 = 0xeb9f;
const HEADER_LEN: usize = 24;

/// Kinds, by their numbers in the format (`include/uapi/linux/btf.h`).
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
    pub(super) const LAST: u32 = 19;
}

/// Why type information, or a question to it, is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BtfError {
    /// The bytes do not have the format.
    #[error("type information is malformed at byte {at}: {what}")]
    Malformed {
        /// Where, from the start.
        at: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// No type of that kind has that name.
    #[error("the kernel has no type {name}")]
    NoType {
        /// The type's name.
        name: String,
    },
    /// The type is there, its member is not.
    #[error("the kernel's {name} has no member {member}")]
    NoMember {
        /// The structure or enumeration.
        name: String,
        /// The member, with dots where it lies in another structure.
        member: String,
    },
}

/// Type information, indexed.
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type begins in `types`, by its number less one (number 0 is `void`).
    starts: Vec<u32>,
    /// Structures, unions, enumerations and typedefs by name. Names are not unique: modules of the kernel may each have a
    /// private structure of the same name.
    named: HashMap<&'a [u8], Vec<u32>>,
}

/// One type's fixed part.
#[derive(Clone, Copy)]
struct Type {
    name: u32,
    kind: u32,
    len: u32,
    has_bitfields: bool,
    /// Size in bytes, or the number of the type this one refers to.
    size_or_type: u32,
    /// Where its variable part begins.
    body: usize,
}

/// One member of a structure or union.
struct Member {
    name: u32,
    type_number: u32,
    bits: u32,
    bitfield_len: u32,
}

impl<'a> Btf<'a> {
    /// Reads the file's structure.
    ///
    /// # Errors
    /// [`BtfError::Malformed`] when a length or kind is not what the format allows.
    pub fn parse(bytes: &'a [u8]) -> Result<Btf<'a>, BtfError> {
        let malformed = |at, what| BtfError::Malformed { at, what };
        if bytes.len() > BTF_LEN_MAX {
            return Err(malformed(BTF_LEN_MAX, "larger than 64 MiB"));
        }
        if bytes.len() < HEADER_LEN {
            return Err(malformed(0, "shorter than its header"));
        }
        if u16::from_ne_bytes([bytes[0], bytes[1]]) != MAGIC {
            return Err(malformed(0, "not the magic number, or the other byte order"));
        }
        if bytes[2] != 1 {
            return Err(malformed(2, "a version other than 1"));
        }
        let word = |at| read_u32(bytes, at).map(|value| value as usize);
        let header_len = word(4)?;
        let section = |offset: usize, len: usize| {
            let start = header_len.checked_add(offset)?;
            bytes.get(start..start.checked_add(len)?)
        };
        let types = section(word(8)?, word(12)?).ok_or(malformed(8, "types outside the file"))?;
        let strings = section(word(16)?, word(20)?).ok_or(malformed(16, "strings outside the file"))?;
        let mut btf = Btf { types, strings, starts: Vec::new(), named: HashMap::new() };
        btf.index()?;
        Ok(btf)
    }

    /// The offset in bytes of a member. `path` names members of members with dots (`f_path.dentry`); anonymous structures
    /// and unions on the way need no name.
    ///
    /// # Errors
    /// [`BtfError::NoType`] and [`BtfError::NoMember`]; a bit field counts as no member.
    pub fn offset(&self, structure: &str, path: &str) -> Result<u32, BtfError> {
        let candidates = self.candidates(structure, &[kind::STRUCT, kind::UNION])?;
        candidates.iter().find_map(|number| self.offset_in(*number, path)).ok_or_else(|| no_member(structure, path))
    }

    /// The size of a structure in bytes.
    ///
    /// # Errors
    /// [`BtfError::NoType`].
    pub fn size(&self, structure: &str) -> Result<u32, BtfError> {
        let candidates = self.candidates(structure, &[kind::STRUCT, kind::UNION])?;
        let first = candidates.first().and_then(|number| self.type_at(*number));
        first.map(|found| found.size_or_type).ok_or_else(|| no_type(structure))
    }

    /// The value of an enumeration's member.
    ///
    /// # Errors
    /// [`BtfError::NoType`] and [`BtfError::NoMember`].
    pub fn enum_value(&self, enumeration: &str, member: &str) -> Result<u32, BtfError> {
        let candidates = self.candidates(enumeration, &[kind::ENUM, kind::ENUM64])?;
        candidates
            .iter()
            .find_map(|number| self.enum_value_in(*number, member))
            .ok_or_else(|| no_member(enumeration, member))
    }

    /// Is there a typedef of that name? Each BTF tracepoint has one: `btf_trace_<name>`.
    pub fn has_typedef(&self, name: &str) -> bool {
        self.candidates(name, &[kind::TYPEDEF]).is_ok()
    }

    fn index(&mut self) -> Result<(), BtfError> {
        let mut at = 0;
        while at < self.types.len() {
            let malformed = |what| BtfError::Malformed { at, what };
            let found = self.type_from(at).ok_or(malformed("a type cut short"))?;
            let body_len = body_len(found.kind, found.len as usize).ok_or(malformed("an unknown kind of type"))?;
            let end = found.body + body_len;
            if end > self.types.len() {
                return Err(malformed("a type longer than the section"));
            }
            self.starts.push(at as u32);
            let number = self.starts.len() as u32;
            let is_named = matches!(found.kind, kind::STRUCT | kind::UNION | kind::ENUM | kind::ENUM64 | kind::TYPEDEF);
            if is_named && found.name != 0 {
                let name = self.string(found.name).ok_or(malformed("a name outside the strings"))?;
                self.named.entry(name).or_default().push(number);
            }
            at = end;
        }
        Ok(())
    }

    fn candidates(&self, name: &str, kinds: &[u32]) -> Result<Vec<u32>, BtfError> {
        let numbers: Vec<u32> = self
            .named
            .get(name.as_bytes())
            .into_iter()
            .flatten()
            .copied()
            .filter(|number| self.type_at(*number).is_some_and(|found| kinds.contains(&found.kind)))
            .collect();
        if numbers.is_empty() { Err(no_type(name)) } else { Ok(numbers) }
    }

    /// The offset of a dotted path in a structure.
    fn offset_in(&self, number: u32, path: &str) -> Option<u32> {
        let mut number = number;
        let mut offset = 0u32;
        for name in path.split('.') {
            let (found, inside) = self.member(number, name.as_bytes(), DEPTH_MAX)?;
            offset = offset.checked_add(found)?;
            number = inside;
        }
        Some(offset)
    }

    /// A member's offset and the number of its type.
    fn member(&self, number: u32, name: &[u8], depth: u32) -> Option<(u32, u32)> {
        let depth = depth.checked_sub(1)?;
        let structure = self.resolve(number)?;
        if !matches!(structure.kind, kind::STRUCT | kind::UNION) {
            return None;
        }
        for index in 0..structure.len as usize {
            let member = self.member_at(&structure, index)?;
            if member.name == 0 {
                if let Some((inside, type_number)) = self.member(member.type_number, name, depth) {
                    return Some((inside.checked_add(member.bits / 8)?, type_number));
                }
            } else if self.string(member.name) == Some(name) {
                let is_whole = member.bitfield_len == 0 && member.bits.is_multiple_of(8);
                return is_whole.then_some((member.bits / 8, member.type_number));
            }
        }
        None
    }

    fn member_at(&self, structure: &Type, index: usize) -> Option<Member> {
        let at = structure.body + index * 12;
        let word = |at| read_u32(self.types, at).ok();
        let place = word(at + 8)?;
        let (bits, bitfield_len) =
            if structure.has_bitfields { (place & 0x00ff_ffff, place >> 24) } else { (place, 0) };
        Some(Member { name: word(at)?, type_number: word(at + 4)?, bits, bitfield_len })
    }

    fn enum_value_in(&self, number: u32, member: &str) -> Option<u32> {
        let found = self.type_at(number)?;
        let entry_len = if found.kind == kind::ENUM64 { 12 } else { 8 };
        (0..found.len as usize).find_map(|index| {
            let at = found.body + index * entry_len;
            let name = self.string(read_u32(self.types, at).ok()?)?;
            (name == member.as_bytes()).then(|| read_u32(self.types, at + 4).ok()).flatten()
        })
    }

    /// Follows typedefs and qualifiers.
    fn resolve(&self, number: u32) -> Option<Type> {
        let mut number = number;
        for _ in 0..DEPTH_MAX {
            let found = self.type_at(number)?;
            match found.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    number = found.size_or_type;
                }
                _ => return Some(found),
            }
        }
        None
    }

    fn type_at(&self, number: u32) -> Option<Type> {
        let start = *self.starts.get((number as usize).checked_sub(1)?)?;
        self.type_from(start as usize)
    }

    fn type_from(&self, at: usize) -> Option<Type> {
        let info = read_u32(self.types, at + 4).ok()?;
        Some(Type {
            name: read_u32(self.types, at).ok()?,
            kind: (info >> 24) & 0x1f,
            len: info & 0xffff,
            has_bitfields: info >> 31 != 0,
            size_or_type: read_u32(self.types, at + 8).ok()?,
            body: at + 12,
        })
    }

    fn string(&self, offset: u32) -> Option<&'a [u8]> {
        let rest = self.strings.get(offset as usize..)?;
        let len = rest.iter().position(|byte| *byte == 0)?;
        Some(&rest[..len])
    }
}

/// Bytes after a type's fixed part; `None` for a kind this reader does not know and so cannot step over.
fn body_len(kind: u32, len: usize) -> Option<usize> {
    Some(match kind {
        kind::INT | kind::VAR | kind::DECL_TAG => 4,
        kind::ARRAY => 12,
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => len * 12,
        kind::ENUM | kind::FUNC_PROTO => len * 8,
        1..=kind::LAST => 0,
        _ => return None,
    })
}

fn read_u32(bytes: &[u8], at: usize) -> Result<u32, BtfError> {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
    word.map(|word| u32::from_ne_bytes(*word)).ok_or(BtfError::Malformed { at, what: "cut short" })
}

fn no_type(name: &str) -> BtfError {
    BtfError::NoType { name: name.into() }
}

fn no_member(name: &str, member: &str) -> BtfError {
    BtfError::NoMember { name: name.into(), member: member.into() }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Writes type information: the other direction of this module, for tests.
    #[derive(Default)]
    pub(crate) struct Writer {
        types: Vec<u8>,
        strings: Vec<u8>,
        count: u32,
    }

    impl Writer {
        pub(crate) fn name(&mut self, name: &str) -> u32 {
            if self.strings.is_empty() {
                self.strings.push(0);
            }
            if name.is_empty() {
                return 0;
            }
            let offset = self.strings.len() as u32;
            self.strings.extend_from_slice(name.as_bytes());
            self.strings.push(0);
            offset
        }

        pub(crate) fn add(
            &mut self,
            name: &str,
            kind: u32,
            len: u32,
            kflag: bool,
            size_or_type: u32,
            body: &[u32],
        ) -> u32 {
            let name = self.name(name);
            let info = kind << 24 | len | u32::from(kflag) << 31;
            for word in [name, info, size_or_type].iter().chain(body) {
                self.types.extend_from_slice(&word.to_ne_bytes());
            }
            self.count += 1;
            self.count
        }

        pub(crate) fn structure(&mut self, name: &str, members: &[(&str, u32, u32)]) -> u32 {
            let body: Vec<u32> =
                members.iter().flat_map(|(name, type_number, bits)| [self.name(name), *type_number, *bits]).collect();
            self.add(name, kind::STRUCT, members.len() as u32, false, 64, &body)
        }

        pub(crate) fn bytes(mut self) -> Vec<u8> {
            self.name("");
            let mut out = Vec::new();
            out.extend_from_slice(&MAGIC.to_ne_bytes());
            out.extend_from_slice(&[1, 0]);
            let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
            for word in [HEADER_LEN as u32, 0, types, types, strings] {
                out.extend_from_slice(&word.to_ne_bytes());
            }
            out.extend(self.types);
            out.extend(self.strings);
            out
        }
    }

    fn sample() -> Vec<u8> {
        let mut writer = Writer::default();
        let int = writer.add("int", kind::INT, 0, false, 4, &[32]);
        let path = writer.structure("path", &[("mnt", int, 0), ("dentry", int, 64)]);
        let constant = writer.add("", kind::CONST, 0, false, path, &[]);
        let alias = writer.add("path_t", kind::TYPEDEF, 0, false, constant, &[]);
        let hidden = writer.structure("", &[("f_path", alias, 32)]);
        writer.structure("file", &[("f_mode", int, 0), ("", hidden, 128)]);
        writer.add("btf_trace_sys_exit", kind::TYPEDEF, 0, false, int, &[]);
        let (first, second) = (writer.name("A"), writer.name("B"));
        writer.add("letters", kind::ENUM, 2, false, 4, &[first, 7, second, 9]);
        let (whole, bits) = (writer.name("whole"), writer.name("bits"));
        writer.add("packed", kind::STRUCT, 2, true, 8, &[whole, int, 8, bits, int, 3 << 24 | 16]);
        writer.bytes()
    }

    #[test]
    fn finds_members_through_anonymous_structures_and_typedefs() {
        let bytes = sample();
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!(btf.offset("path", "dentry"), Ok(8));
        assert_eq!(btf.offset("file", "f_mode"), Ok(0));
        assert_eq!(btf.offset("file", "f_path.dentry"), Ok(16 + 4 + 8));
        assert_eq!(btf.size("path"), Ok(64));
        assert_eq!(btf.enum_value("letters", "B"), Ok(9));
        assert_eq!(btf.offset("packed", "whole"), Ok(1));
        assert!(btf.has_typedef("btf_trace_sys_exit"));
        assert!(!btf.has_typedef("btf_trace_sys_enter"));
    }

    #[test]
    fn says_what_is_not_there() {
        let bytes = sample();
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!(btf.offset("task", "pid").unwrap_err().to_string(), "the kernel has no type task");
        let error = btf.offset("file", "f_path.inode").unwrap_err();
        assert_eq!(error.to_string(), "the kernel's file has no member f_path.inode");
        assert!(btf.offset("packed", "bits").is_err(), "a bit field has no byte offset");
        assert!(btf.enum_value("letters", "C").is_err());
        assert!(btf.offset("path_t", "mnt").is_err(), "only structures are asked for");
    }

    #[test]
    fn a_type_that_contains_itself_ends() {
        let mut writer = Writer::default();
        writer.structure("loop", &[("", 1, 0)]);
        writer.add("spin", kind::TYPEDEF, 0, false, 2, &[]);
        writer.structure("user", &[("member", 2, 0)]);
        let bytes = writer.bytes();
        let btf = Btf::parse(&bytes).unwrap();
        assert!(btf.offset("loop", "x").is_err());
        assert!(btf.offset("user", "member.x").is_err());
    }

    /// Every byte of a sound file is changed, and every shorter file tried: an answer or an error, never a panic.
    #[test]
    fn hostile_bytes_are_an_error_at_worst() {
        let sound = sample();
        let ask = |bytes: &[u8]| {
            if let Ok(btf) = Btf::parse(bytes) {
                let _ = btf.offset("file", "f_path.dentry");
                let _ = btf.enum_value("letters", "B");
                let _ = btf.size("path");
            }
        };
        for len in 0..sound.len() {
            ask(&sound[..len]);
        }
        for at in 0..sound.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = sound.clone();
                bytes[at] = value;
                ask(&bytes);
            }
        }
    }

    #[test]
    fn too_large_is_refused() {
        let too_large = vec![0; BTF_LEN_MAX + 1];
        assert!(matches!(Btf::parse(&too_large), Err(BtfError::Malformed { what: "larger than 64 MiB", .. })));
        let at_the_limit = &too_large[..BTF_LEN_MAX];
        assert!(matches!(Btf::parse(at_the_limit), Err(BtfError::Malformed { at: 0, .. })));
    }
}
