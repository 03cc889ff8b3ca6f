//! What rules over more than one event know, as bytes, so that it survives a restart: an engine that takes it over says of the events that
//! follow what this one would have said.
//!
//! Numbers are little-endian; a text is its length in four bytes and its bytes.
//!
//! | part | what |
//! |---|---|
//! | head | [`MAGIC`], which ends in the version |
//! | clocks | how many, 4 bytes; each: source, what it shows, the latest event's time, 8 bytes each |
//! | rules | how many, 4 bytes; each: name, source, `cairn:` key in canonical form, since when it is watched, kind (1 byte), keys |
//! | keys | how many, 4 bytes; each, the one touched longest ago first: key, when it was touched, and what is known of it |
//! | `first_seen` | nothing more |
//! | `spike` | its stretches: how many, 4 bytes; number and count, 8 bytes each. The stretch it alerted in; when the present one's first event happened |
//! | `count` | its events: how many, 4 bytes; what the clock showed, when it happened, its value. When it alerted last; events since |
//! | `sequence` | when the first event happened; what the alert will say of it: how many, 4 bytes; each a kind (1 byte) and its value |
//!
//! What may be there or not is a byte, 0 or 1, and 8 bytes if it is 1.
//!
//! Nothing follows. Whoever keeps the bytes keeps them whole; they are checked all the same.

use super::clock::Clock;
use super::count::Seen;
use super::sequence::First;
use super::spike::{COUNT_MAX, Stretches};
use super::table::{Kept, Table};
use super::{Keys, State, Watched};
use crate::event::SYSCALL;
use crate::fields::FieldValue;
use crate::limits::{
    APPEND_MAX, COUNT_ABOVE_MAX, OUTPUT_FIELDS_MAX, RULES_MAX, SNAPSHOT_BYTES_MAX, SOURCES_MAX, SPIKE_STRETCHES_MAX,
};
use crate::text::Text;

const MAGIC: &[u8; 12] = b"cairn-state\x02";
/// The kernel's clock, and one for each other source of events.
const CLOCKS_MAX: usize = 1 + SOURCES_MAX;
const FIRST_SEEN: u8 = 1;
const SPIKE: u8 = 2;
const COUNT: u8 = 3;
const SEQUENCE: u8 = 4;

const ABSENT: u8 = 0;
const BOOLEAN: u8 = 1;
const NUMBER: u8 = 2;
const UNSIGNED: u8 = 3;
const TEXT: u8 = 4;
const LIST: u8 = 5;

/// Why bytes are no snapshot. What rules knew before is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// More bytes than [`SNAPSHOT_BYTES_MAX`].
    #[error("a snapshot of {bytes} bytes, more than {SNAPSHOT_BYTES_MAX}")]
    TooLarge {
        /// How many it has.
        bytes: usize,
    },
    /// It does not begin as one does, or is of another version.
    #[error("no snapshot of this version")]
    Version,
    /// It ends too early, or says what cannot be.
    #[error("the snapshot is damaged at byte {offset}: {what}")]
    Damaged {
        /// Where.
        offset: usize,
        /// What is wrong there.
        what: &'static str,
    },
}

impl State {
    /// Is there a rule that learns?
    pub(crate) fn learns(&self) -> bool {
        self.rules.iter().flatten().any(|watched| matches!(watched.keys, Keys::FirstSeen(_) | Keys::Spike(_)))
    }

    /// What is known so far.
    pub(crate) fn snapshot(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        let clocks = std::iter::once((SYSCALL, &self.kernel))
            .chain(self.documents.iter().map(|(source, clock)| (source.as_str(), clock)));
        let mut clocks: Vec<(&str, &Clock)> = clocks.filter(|(_, clock)| clock.has_begun()).collect();
        clocks.sort_by_key(|(source, _)| *source);
        put_count(&mut out, clocks.len());
        for (source, clock) in clocks {
            put_bytes(&mut out, source.as_bytes());
            put(&mut out, clock.now());
            put(&mut out, clock.latest_ns());
        }
        let rules: Vec<&Watched> = self.rules.iter().flatten().filter(|watched| watched.since.is_some()).collect();
        put_count(&mut out, rules.len());
        for watched in rules {
            for text in [&watched.name, &watched.source, &watched.text] {
                put_bytes(&mut out, text.as_bytes());
            }
            put(&mut out, watched.since.unwrap_or_default());
            match &watched.keys {
                Keys::FirstSeen(table) => put_keys(&mut out, FIRST_SEEN, table, |_, _| ()),
                Keys::Spike(table) => put_keys(&mut out, SPIKE, table, put_stretches),
                Keys::Count(table) => put_keys(&mut out, COUNT, table, put_seen),
                Keys::Sequence(table) => put_keys(&mut out, SEQUENCE, table, put_first),
            }
        }
        out
    }

    /// Takes over what a snapshot says of the rules in force, all of it or nothing. What they knew before is given up; those of which it says
    /// nothing begin anew.
    pub(crate) fn restore(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let mut reader = Reader::new(bytes)?;
        let clocks = reader.clocks()?;
        let mut rules = Vec::new();
        for _ in 0..reader.count_to(RULES_MAX)? {
            rules.push(reader.rule(&clocks)?);
        }
        reader.end()?;
        for (source, resumed) in &clocks {
            let clock = if source == SYSCALL { Some(&mut self.kernel) } else { self.documents.get_mut(source) };
            let Some(clock) = clock else { continue };
            // Events that came in since the start have moved on from where the snapshot was.
            let (had_begun, latest_ns) = (clock.has_begun(), clock.latest_ns());
            *clock = *resumed;
            if had_begun {
                let gone = latest_ns.saturating_sub(resumed.latest_ns());
                *clock = Clock::resumed(resumed.now().saturating_add(gone), latest_ns);
            }
        }
        for watched in self.rules.iter_mut().flatten() {
            let clock =
                if watched.source == SYSCALL { Some(&self.kernel) } else { self.documents.get(&watched.source) };
            watched.since = clock.filter(|clock| clock.has_begun()).map(Clock::now);
            watched.keys.clear();
            let same = |known: &&Learnt| {
                known.name == watched.name && known.source == watched.source && known.text == watched.text
            };
            let Some(known) = rules.iter().position(|known| same(&known)).map(|place| rules.swap_remove(place)) else {
                continue;
            };
            watched.since = Some(known.since);
            match (&mut watched.keys, known.keys) {
                (Keys::FirstSeen(table), LearntKeys::FirstSeen(keys)) => {
                    for (key, touched) in keys {
                        table.update(key, touched, |known| known.is_known = true);
                    }
                }
                (Keys::Spike(table), LearntKeys::Spike(keys)) => restore_keys(table, keys),
                (Keys::Count(table), LearntKeys::Count(keys)) => restore_keys(table, keys),
                (Keys::Sequence(table), LearntKeys::Sequence(keys)) => restore_keys(table, keys),
                _ => {}
            }
        }
        Ok(())
    }
}

/// What a snapshot says of one rule.
struct Learnt<'b> {
    name: &'b str,
    source: &'b str,
    text: &'b str,
    since: u64,
    keys: LearntKeys<'b>,
}

enum LearntKeys<'b> {
    FirstSeen(Vec<(&'b [u8], u64)>),
    Spike(Vec<Entry<'b, Stretches>>),
    Count(Vec<Entry<'b, Seen>>),
    Sequence(Vec<Entry<'b, First>>),
}

/// A key, when it was touched, what is known of it.
type Entry<'b, V> = (&'b [u8], u64, V);

fn restore_keys<V: Kept>(table: &mut Table<V>, keys: Vec<Entry<'_, V>>) {
    for (key, touched, value) in keys {
        table.update(key, touched, |known| *known = value);
    }
}

fn put(out: &mut Vec<u8>, number: u64) {
    out.extend(number.to_le_bytes());
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend(u32::try_from(count).expect("invariant: bounded far below").to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.extend(bytes);
}

fn put_keys<V: Kept>(out: &mut Vec<u8>, kind: u8, table: &Table<V>, value: impl Fn(&mut Vec<u8>, &V)) {
    out.push(kind);
    put_count(out, table.len());
    for (key, touched, kept) in table.iter() {
        put_bytes(out, key);
        put(out, touched);
        value(out, kept);
    }
}

fn put_perhaps(out: &mut Vec<u8>, number: Option<u64>) {
    out.push(u8::from(number.is_some()));
    number.into_iter().for_each(|number| put(out, number));
}

fn put_stretches(out: &mut Vec<u8>, stretches: &Stretches) {
    put_count(out, stretches.counts.len());
    for (stretch, count) in &stretches.counts {
        put(out, *stretch);
        put(out, *count);
    }
    put_perhaps(out, stretches.alerted);
    put(out, stretches.first_ns);
}

fn put_seen(out: &mut Vec<u8>, seen: &Seen) {
    put_count(out, seen.events.len());
    for moment in &seen.events {
        put(out, moment.now);
        put(out, moment.time_ns);
        put_bytes(out, &moment.value);
    }
    put_perhaps(out, seen.alerted);
    put(out, seen.total);
}

fn put_first(out: &mut Vec<u8>, first: &First) {
    put(out, first.time_ns);
    put_count(out, first.fields.len());
    for field in &first.fields {
        match field {
            FieldValue::Absent => out.push(ABSENT),
            FieldValue::Boolean(is_true) => out.extend([BOOLEAN, u8::from(*is_true)]),
            FieldValue::Number(number) => {
                out.push(NUMBER);
                out.extend(number.to_le_bytes());
            }
            FieldValue::Unsigned(number) => {
                out.push(UNSIGNED);
                put(out, *number);
            }
            FieldValue::Text(text) => {
                out.push(TEXT);
                put_bytes(out, text.as_bytes());
            }
            FieldValue::List(texts) => {
                out.push(LIST);
                put_count(out, texts.len());
                texts.iter().for_each(|text| put_bytes(out, text.as_bytes()));
            }
        }
    }
}

struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    fn new(bytes: &'b [u8]) -> Result<Self, SnapshotError> {
        if bytes.len() > SNAPSHOT_BYTES_MAX {
            return Err(SnapshotError::TooLarge { bytes: bytes.len() });
        }
        if !bytes.starts_with(MAGIC) {
            return Err(SnapshotError::Version);
        }
        Ok(Self { bytes, at: MAGIC.len() })
    }

    fn damaged<T>(&self, what: &'static str) -> Result<T, SnapshotError> {
        Err(SnapshotError::Damaged { offset: self.at, what })
    }

    fn take(&mut self, len: usize) -> Result<&'b [u8], SnapshotError> {
        let taken = self.at.checked_add(len).and_then(|end| self.bytes.get(self.at..end));
        let Some(taken) = taken else { return self.damaged("it ends too early") };
        self.at += len;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64, SnapshotError> {
        let bytes = self.take(8)?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn count(&mut self) -> Result<usize, SnapshotError> {
        let bytes = self.take(4)?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    fn count_to(&mut self, max: usize) -> Result<usize, SnapshotError> {
        let count = self.count()?;
        if count > max { self.damaged("more than there can be") } else { Ok(count) }
    }

    fn text(&mut self) -> Result<&'b str, SnapshotError> {
        let bytes = self.key()?;
        std::str::from_utf8(bytes).or_else(|_| self.damaged("a name that is not UTF-8"))
    }

    fn key(&mut self) -> Result<&'b [u8], SnapshotError> {
        let len = self.count()?;
        self.take(len)
    }

    fn clocks(&mut self) -> Result<Vec<(String, Clock)>, SnapshotError> {
        let mut clocks: Vec<(String, Clock)> = Vec::new();
        for _ in 0..self.count_to(CLOCKS_MAX)? {
            let source = self.text()?.to_owned();
            // Rules are held to their source's clock: it has to be the one that goes on.
            if clocks.iter().any(|(known, _)| *known == source) {
                return self.damaged("a source with two clocks");
            }
            clocks.push((source, Clock::resumed(self.number()?, self.number()?)));
        }
        Ok(clocks)
    }

    fn rule(&mut self, clocks: &[(String, Clock)]) -> Result<Learnt<'b>, SnapshotError> {
        let (name, source, text) = (self.text()?, self.text()?, self.text()?);
        let Some((_, clock)) = clocks.iter().find(|(known, _)| known == source) else {
            return self.damaged("a rule of a source without a clock");
        };
        let since = self.moment(&mut 0, clock)?;
        let mut last = 0;
        let kind = self.take(1)?[0];
        let count = self.count()?;
        // Nothing is reserved for what a count says: only what is there is kept.
        let keys = match kind {
            FIRST_SEEN => {
                let mut keys = Vec::new();
                for _ in 0..count {
                    keys.push((self.key()?, self.moment(&mut last, clock)?));
                }
                LearntKeys::FirstSeen(keys)
            }
            SPIKE => LearntKeys::Spike(self.keys(count, clock, Self::stretches)?),
            COUNT => LearntKeys::Count(self.keys(count, clock, Self::seen)?),
            SEQUENCE => LearntKeys::Sequence(self.keys(count, clock, |reader, _| reader.first())?),
            _ => return self.damaged("a kind of rule that is not known"),
        };
        Ok(Learnt { name, source, text, since, keys })
    }

    fn keys<V>(
        &mut self,
        count: usize,
        clock: &Clock,
        value: impl Fn(&mut Self, u64) -> Result<V, SnapshotError>,
    ) -> Result<Vec<Entry<'b, V>>, SnapshotError> {
        let (mut keys, mut last) = (Vec::new(), 0);
        for _ in 0..count {
            let (key, touched) = (self.key()?, self.moment(&mut last, clock)?);
            keys.push((key, touched, value(self, touched)?));
        }
        Ok(keys)
    }

    /// What may be there or not, and if it is, not above a bound.
    fn perhaps(&mut self, max: u64) -> Result<Option<u64>, SnapshotError> {
        match self.take(1)?[0] {
            0 => Ok(None),
            1 => match self.number()? {
                number if number <= max => Ok(Some(number)),
                _ => self.damaged("a time that cannot be"),
            },
            _ => self.damaged("a byte that is neither 0 nor 1"),
        }
    }

    fn seen(&mut self, touched: u64) -> Result<Seen, SnapshotError> {
        let count = self.count()?;
        if count as u64 > COUNT_ABOVE_MAX + 1 {
            return self.damaged("too many events");
        }
        let (mut seen, mut last) = (Seen::default(), 0);
        for _ in 0..count {
            let (now, time_ns, value) = (self.number()?, self.number()?, self.key()?);
            if now < last || now > touched {
                return self.damaged("a time that cannot be");
            }
            last = now;
            seen.push(now, time_ns, value.into());
        }
        seen.alerted = self.perhaps(touched)?;
        seen.total = self.number()?;
        Ok(seen)
    }

    fn first(&mut self) -> Result<First, SnapshotError> {
        let time_ns = self.number()?;
        let count = self.count()?;
        if count > OUTPUT_FIELDS_MAX + APPEND_MAX {
            return self.damaged("too many fields");
        }
        let mut fields = Vec::new();
        for _ in 0..count {
            fields.push(self.field()?);
        }
        Ok(First { time_ns, fields: fields.into() })
    }

    fn field(&mut self) -> Result<FieldValue, SnapshotError> {
        Ok(match self.take(1)?[0] {
            ABSENT => FieldValue::Absent,
            BOOLEAN => FieldValue::Boolean(self.take(1)?[0] != 0),
            NUMBER => FieldValue::Number(i64::from_le_bytes(self.number()?.to_le_bytes())),
            UNSIGNED => FieldValue::Unsigned(self.number()?),
            TEXT => FieldValue::Text(Text::from(self.key()?)),
            LIST => {
                let mut texts = Vec::new();
                for _ in 0..self.count()? {
                    texts.push(Text::from(self.key()?));
                }
                FieldValue::List(texts)
            }
            _ => return self.damaged("a kind of value that is not known"),
        })
    }

    /// A time that is not before the last one, and not after what the clock shows.
    fn moment(&mut self, last: &mut u64, clock: &Clock) -> Result<u64, SnapshotError> {
        let moment = self.number()?;
        if moment < *last || moment > clock.now() {
            return self.damaged("a time that cannot be");
        }
        *last = moment;
        Ok(moment)
    }

    fn stretches(&mut self, touched: u64) -> Result<Stretches, SnapshotError> {
        let count = self.count()?;
        if count as u64 > SPIKE_STRETCHES_MAX + 1 {
            return self.damaged("too many stretches");
        }
        let mut stretches = Stretches::default();
        for _ in 0..count {
            let one = (self.number()?, self.number()?);
            let is_next = stretches.counts.back().is_none_or(|(before, _)| *before < one.0);
            if !is_next || one.0 > touched || one.1 > COUNT_MAX {
                return self.damaged("a stretch that cannot be");
            }
            stretches.counts.push_back(one);
        }
        stretches.alerted = self.perhaps(touched)?;
        stretches.first_ns = self.number()?;
        Ok(stretches)
    }

    fn end(&self) -> Result<(), SnapshotError> {
        if self.at == self.bytes.len() { Ok(()) } else { self.damaged("something follows its end") }
    }
}

impl Keys {
    fn clear(&mut self) {
        match self {
            Self::Count(table) => table.clear(),
            Self::Spike(table) => table.clear(),
            Self::FirstSeen(table) => table.clear(),
            Self::Sequence(table) => table.clear(),
        }
    }
}
