//! Typed values out of canonical bytes, in the same pass that finds them canonical.
//!
//! A [`Reader`] is a serde deserialiser that takes a subset of what [`super::parse`] and serde together take, and never more: whatever
//! is not canonical, and a few spellings that no writer of ours makes (a struct as an array, an enum variant with a payload), is refused
//! without a reason. Whoever uses it asks the slow way then, which knows the reason, or that there is none.

use std::fmt;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

use super::DEPTH_MAX;
use super::scan::{Raw, Scan};

/// It was refused; the slow way knows why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refused")
    }
}

impl std::error::Error for Refused {}

impl de::Error for Refused {
    fn custom<T: fmt::Display>(_: T) -> Refused {
        Refused
    }
}

/// Reads one value from where a scan stands.
pub(crate) struct Reader<'a, 'de> {
    scan: &'a mut Scan<'de>,
    /// How deep the value is nested; the outermost one: 0.
    depth: usize,
}

impl<'a, 'de> Reader<'a, 'de> {
    /// Reads the value at `scan`, which is nested so deep.
    pub(crate) fn new(scan: &'a mut Scan<'de>, depth: usize) -> Reader<'a, 'de> {
        Reader { scan, depth }
    }

    fn take(&mut self, byte: u8) -> Result<(), Refused> {
        self.scan.take(byte).ok_or(Refused)
    }

    fn text<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Refused> {
        visit_text(self.scan.string().ok_or(Refused)?, visitor)
    }

    fn number<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Refused> {
        let integer = self.scan.integer().ok_or(Refused)?;
        if integer.negative {
            visitor.visit_i64(-integer.magnitude.cast_signed())
        } else {
            visitor.visit_u64(integer.magnitude)
        }
    }

    fn object<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Refused> {
        self.take(b'{')?;
        let mut members = Members { scan: self.scan, depth: self.depth + 1, before: None, is_over: false };
        let value = visitor.visit_map(&mut members)?;
        if members.is_over { Ok(value) } else { Err(Refused) }
    }

    fn array<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Refused> {
        self.take(b'[')?;
        let mut items = Items { scan: self.scan, depth: self.depth + 1, is_first: true, is_over: false };
        let value = visitor.visit_seq(&mut items)?;
        // A visitor may stop once it has what it wants, if that was all.
        if items.is_over || items.scan.take(b']').is_some() { Ok(value) } else { Err(Refused) }
    }
}

fn visit_text<'de, V: Visitor<'de>>(raw: Raw<'de>, visitor: V) -> Result<V::Value, Refused> {
    if raw.escaped {
        visitor.visit_string(raw.unescape().ok_or(Refused)?)
    } else {
        visitor.visit_borrowed_str(raw.inside)
    }
}

/// Every number is an integer, whatever type asks for it.
macro_rules! numbers {
    ($($name:ident)*) => {
        $(
            fn $name<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Refused> {
                self.number(visitor)
            }
        )*
    };
}

/// What no record type asks for is left to the slow way.
macro_rules! unused {
    ($(fn $name:ident($($argument:ty),*);)*) => {
        $(
            fn $name<V: Visitor<'de>>(self, $(_: $argument,)* _: V) -> Result<V::Value, Refused> {
                Err(Refused)
            }
        )*
    };
}

impl<'de> de::Deserializer<'de> for Reader<'_, 'de> {
    type Error = Refused;

    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Refused> {
        match self.scan.peek().ok_or(Refused)? {
            b'{' => self.object(visitor),
            b'[' => self.array(visitor),
            b'"' => self.text(visitor),
            b't' | b'f' => self.deserialize_bool(visitor),
            b'n' => self.deserialize_unit(visitor),
            _ => self.number(visitor),
        }
    }

    numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64
    }

    /// A text, never a number: an enum would take that for a variant's place.
    fn deserialize_identifier<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Refused> {
        self.text(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        if self.scan.word("true").is_some() {
            visitor.visit_bool(true)
        } else {
            self.scan.word("false").ok_or(Refused)?;
            visitor.visit_bool(false)
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.scan.word("null").ok_or(Refused)?;
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        if self.scan.word("null").is_some() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_str<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Refused> {
        self.text(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Refused> {
        self.text(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Refused> {
        self.array(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Refused> {
        self.object(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.object(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let raw = self.scan.string().ok_or(Refused)?;
        if raw.escaped {
            return Err(Refused);
        }
        visitor.visit_enum(BorrowedStrDeserializer::new(raw.inside))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.scan.skip(self.depth).ok_or(Refused)?;
        visitor.visit_unit()
    }

    unused! {
        fn deserialize_char();
        fn deserialize_bytes();
        fn deserialize_byte_buf();
        fn deserialize_unit_struct(&'static str);
        fn deserialize_tuple(usize);
        fn deserialize_tuple_struct(&'static str, usize);
    }
}

/// The members of an object whose brace was taken.
struct Members<'a, 'de> {
    scan: &'a mut Scan<'de>,
    depth: usize,
    before: Option<Raw<'de>>,
    is_over: bool,
}

impl<'de> MapAccess<'de> for Members<'_, 'de> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Refused> {
        if self.is_over {
            return Ok(None);
        }
        if self.scan.take(b'}').is_some() {
            self.is_over = true;
            return Ok(None);
        }
        if self.before.is_some() {
            self.scan.take(b',').ok_or(Refused)?;
        }
        if self.depth > DEPTH_MAX {
            return Err(Refused);
        }
        let key = self.scan.key(self.before.as_ref()).ok_or(Refused)?;
        self.before = Some(key);
        if key.escaped {
            let text = key.unescape().ok_or(Refused)?;
            return seed.deserialize(de::value::StringDeserializer::new(text)).map(Some);
        }
        seed.deserialize(BorrowedStrDeserializer::new(key.inside)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Refused> {
        seed.deserialize(Reader::new(self.scan, self.depth))
    }
}

/// The items of an array whose bracket was taken.
struct Items<'a, 'de> {
    scan: &'a mut Scan<'de>,
    depth: usize,
    is_first: bool,
    is_over: bool,
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = Refused;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Refused> {
        if self.is_over {
            return Ok(None);
        }
        if self.scan.take(b']').is_some() {
            self.is_over = true;
            return Ok(None);
        }
        if !self.is_first {
            self.scan.take(b',').ok_or(Refused)?;
        }
        self.is_first = false;
        if self.depth > DEPTH_MAX {
            return Err(Refused);
        }
        seed.deserialize(Reader::new(self.scan, self.depth)).map(Some)
    }
}
