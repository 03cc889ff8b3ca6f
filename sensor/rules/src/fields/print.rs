//! How Falco shows a field's value: as text in an output, and in `output_fields` of its JSON. The two differ for a few fields.

use std::net::{IpAddr, Ipv6Addr};

use super::{FieldValue, Kind, TABLES, Value};
use crate::limits::LIST_TEXT_BYTES_MAX;

/// What a field's table says of its print format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Print {
    /// As the value is.
    Plain,
    /// Nanoseconds of a second: nine digits with leading zeros in text, a number in JSON.
    Padded,
    /// Upper case hexadecimal digits, in JSON too.
    Hexadecimal,
    /// Octal digits, in JSON too.
    Octal,
    /// A moment: text in text, nanoseconds since the epoch in JSON.
    Moment,
    /// Bytes that are no text: a dot for each that cannot be printed.
    Bytes,
}

/// The fields that are text in an output and the event's time in JSON.
const MOMENTS: &[&str] = &["evt.time", "evt.time.s", "evt.time.iso8601", "evt.datetime", "evt.datetime.s"];

/// Parameters that are hexadecimal as raw arguments. Upstream has a format for each parameter of each event, and shows `evt.rawarg.NAME` in
/// that of the first event of its table with a parameter of the name, whichever event it is shown of.
const HEXADECIMAL_ARGUMENTS: &[&str] = &[
    "argument",
    "cap_effective",
    "cap_inheritable",
    "cap_permitted",
    "creat_flags",
    "dev",
    "error",
    "features",
    "flags",
    "how",
    "ip",
    "key",
    "mask",
    "nstype",
    "op",
    "operation",
    "peer",
    "prot",
    "request",
    "resolve",
    "sem_flg_0",
    "sem_flg_1",
    "semflg",
    "source",
];

impl Print {
    /// Of a field by its name with or without argument, and its kind.
    pub(crate) fn of(name: &str, kind: Kind) -> Self {
        let name = name.split('[').next().unwrap_or(name);
        if MOMENTS.contains(&name) {
            return Self::Moment;
        }
        if let Some(argument) = name.strip_prefix("evt.rawarg.") {
            return match argument {
                "mode" => Self::Octal,
                _ if HEXADECIMAL_ARGUMENTS.contains(&argument) => Self::Hexadecimal,
                _ => Self::Plain,
            };
        }
        match TABLES.known.get(name).map(|known| known.print) {
            Some(Self::Plain) | None if kind == Kind::Bytes => Self::Bytes,
            print => print.unwrap_or(Self::Plain),
        }
    }

    /// By its word in `falco-fields.tsv`.
    pub(super) fn by_word(word: &str) -> Self {
        match word {
            "padded" => Self::Padded,
            "hex" => Self::Hexadecimal,
            _ => Self::Plain,
        }
    }

    /// As an output shows it.
    pub(crate) fn text(self, value: &FieldValue) -> String {
        match (self, value) {
            (Self::Padded, FieldValue::Number(number)) => format!("{number:09}"),
            (Self::Hexadecimal | Self::Octal, value) => self.digits(value).unwrap_or_else(|| value.to_string()),
            (Self::Bytes, FieldValue::Text(bytes)) => dots(bytes.as_bytes()),
            (_, FieldValue::List(_)) => cut(value.to_string(), LIST_TEXT_BYTES_MAX),
            (_, value) => value.to_string(),
        }
    }

    /// As `output_fields` has it, for an event of this time.
    pub(crate) fn field(self, value: FieldValue, time_ns: u64) -> FieldValue {
        match (self, value) {
            (_, FieldValue::Absent) => FieldValue::Absent,
            (Self::Moment, _) => FieldValue::from(Value::number(time_ns)),
            (Self::Hexadecimal | Self::Octal, value) => match self.digits(&value) {
                Some(digits) => FieldValue::Text(digits.into()),
                None => value,
            },
            (Self::Bytes, FieldValue::Text(bytes)) => FieldValue::Text(dots(bytes.as_bytes()).into()),
            (_, value) => value,
        }
    }

    /// A number in digits of another base; nothing for what is no number. Device numbers are 32 bits upstream, and one below zero is
    /// shown as those.
    fn digits(self, value: &FieldValue) -> Option<String> {
        let number = match value {
            FieldValue::Number(number) => {
                i32::try_from(*number).map_or(*number as u64, |number| (number as u32).into())
            }
            FieldValue::Unsigned(number) => *number,
            _ => return None,
        };
        Some(if self == Self::Octal { format!("{number:o}") } else { format!("{number:X}") })
    }
}

fn dots(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '.' }).collect()
}

/// What fits, whole characters only.
fn cut(mut text: String, len_max: usize) -> String {
    if text.len() > len_max {
        text.truncate((0..=len_max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0));
    }
    text
}

/// An address as `inet_ntop` writes it: the old IPv6 form of an IPv4 address ends in dots as well, which Rust's does not.
pub(super) fn address(address: IpAddr) -> String {
    match address {
        IpAddr::V6(six) if is_compatible(six) => {
            let [.., a, b, c, d] = six.octets();
            format!("::{a}.{b}.{c}.{d}")
        }
        address => address.to_string(),
    }
}

/// `::a.b.c.d`, but not `::1` and its like, where more than the first six words are zero.
fn is_compatible(address: Ipv6Addr) -> bool {
    let [rest @ .., seventh, _] = address.segments();
    rest == [0; 6] && seventh != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Text;

    fn print(name: &str) -> Print {
        Print::of(name, TABLES.known[name.split('[').next().unwrap()].kind)
    }

    #[test]
    fn each_table_entry_prints() {
        assert_eq!(print("proc.pid"), Print::Plain);
        assert_eq!(print("proc.aname[2]"), Print::Plain);
        assert_eq!(print("evt.rawtime"), Print::Plain);
        assert_eq!(print("evt.rawtime.ns"), Print::Padded);
        assert_eq!(print("fd.dev"), Print::Hexadecimal);
        assert_eq!(print("evt.buffer"), Print::Bytes);
        assert_eq!(print("evt.datetime.s"), Print::Moment);
        let raw = |name| Print::of(name, Kind::Dynamic);
        assert_eq!(raw("evt.rawarg.fd"), Print::Plain);
        assert_eq!(raw("evt.rawarg.flags"), Print::Hexadecimal);
        assert_eq!(raw("evt.rawarg.mode"), Print::Octal);
        assert_eq!(Print::of("evt.arg.flags", Kind::Dynamic), Print::Plain);
        assert_eq!(Print::of("ka.verb", Kind::Text), Print::Plain);
    }

    #[test]
    fn text_and_json_differ_where_upstream_does() {
        let number = |number: i64| FieldValue::Number(number);
        assert_eq!(Print::Padded.text(&number(42)), "000000042");
        assert_eq!(Print::Padded.field(number(42), 0), number(42));
        assert_eq!(Print::Hexadecimal.text(&number(64_769)), "FD01");
        assert_eq!(Print::Hexadecimal.text(&number(-1)), "FFFFFFFF");
        assert_eq!(Print::Hexadecimal.field(number(64_769), 0), FieldValue::Text("FD01".into()));
        assert_eq!(Print::Hexadecimal.text(&number(1 << 40)), "10000000000");
        assert_eq!(
            Print::Hexadecimal.field(FieldValue::Unsigned(u64::MAX), 0),
            FieldValue::Text("FFFFFFFFFFFFFFFF".into())
        );
        assert_eq!(Print::Octal.text(&number(0o4755)), "4755");
        assert_eq!(Print::Octal.field(number(0), 0), FieldValue::Text("0".into()));
        let text = FieldValue::Text("/dev/sda1".into());
        assert_eq!(
            (Print::Hexadecimal.text(&text), Print::Hexadecimal.field(text.clone(), 0)),
            ("/dev/sda1".into(), text)
        );
        let time = FieldValue::Text("16:17:57.881781397".into());
        assert_eq!(Print::Moment.text(&time), "16:17:57.881781397");
        assert_eq!(Print::Moment.field(time, 1_470_327_477_881_781_397), number(1_470_327_477_881_781_397));
        let bytes = FieldValue::Text(Text::from(&b"GET /\r\n\xca\xfe"[..]));
        assert_eq!(Print::Bytes.text(&bytes), "GET /....");
        assert_eq!(Print::Bytes.field(bytes, 0), FieldValue::Text("GET /....".into()));
        for print in [Print::Plain, Print::Padded, Print::Hexadecimal, Print::Octal, Print::Moment, Print::Bytes] {
            assert_eq!(print.text(&FieldValue::Absent), "<NA>");
            assert_eq!(print.field(FieldValue::Absent, 7), FieldValue::Absent);
        }
    }

    #[test]
    fn lists_are_cut() {
        let list = |len: usize| FieldValue::List(vec!["x".repeat(len).into()]);
        assert_eq!(Print::Plain.text(&list(LIST_TEXT_BYTES_MAX - 2)).len(), LIST_TEXT_BYTES_MAX);
        assert!(Print::Plain.text(&list(LIST_TEXT_BYTES_MAX - 2)).ends_with(')'));
        assert!(!Print::Plain.text(&list(LIST_TEXT_BYTES_MAX - 1)).ends_with(')'));
        assert_eq!(Print::Plain.text(&list(LIST_TEXT_BYTES_MAX * 2)).len(), LIST_TEXT_BYTES_MAX);
    }

    #[test]
    fn addresses_as_the_c_library_writes_them() {
        // What glibc's inet_ntop(AF_INET6, ...) says of the same 16 bytes.
        for text in
            ["::", "::1", "::ffff", "::1.2.3.4", "::ffff:1.2.3.4", "fe80::1", "1:0:2:3:4:5:6:7", "2001:db8::a:0:0:1"]
        {
            assert_eq!(address(text.parse().unwrap()), text);
        }
        assert_eq!(address("10.0.0.1".parse().unwrap()), "10.0.0.1");
    }
}
