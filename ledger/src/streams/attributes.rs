//! What replaying looks at in every record, found without the record's stream: costly, and done on any thread.

use super::*;
use crate::bytes::Found;

/// A record of the ledger that is to be placed in its stream.
#[derive(Debug)]
pub(crate) struct Unplaced {
    pub(crate) bytes: Found,
    pub(crate) leaf: Digest,
    /// Or what is wrong with the record.
    pub(crate) attributes: Result<Attributes, String>,
}

impl Unplaced {
    /// Reads and hashes records that stand together.
    pub(crate) fn read(found: Vec<Found>) -> Vec<Unplaced> {
        let mut ids = Ids::default();
        let read = |bytes: Found| Unplaced {
            leaf: Digest::leaf(&bytes),
            attributes: Attributes::read(&bytes, &mut ids),
            bytes,
        };
        found.into_iter().map(read).collect()
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(super) id: Arc<StreamId>,
    pub(super) sequence: Sequence,
    /// A type of a later version has no meaning to these rules, and its record takes its place like any other.
    pub(super) kind: Option<RecordType>,
    pub(super) foreignid: Option<ShortId>,
}

/// Stream ids that were seen: records that stand together are of few streams, and most of the same as the one before.
#[derive(Debug, Default)]
pub(super) struct Ids {
    last: Option<Arc<StreamId>>,
    seen: HashMap<Box<[u8]>, Arc<StreamId>>,
}

impl Ids {
    fn of(&mut self, text: &[u8]) -> Option<Arc<StreamId>> {
        if let Some(last) = &self.last
            && last.as_str().as_bytes() == text
        {
            return Some(last.clone());
        }
        let id = match self.seen.get(text) {
            Some(id) => id.clone(),
            None => {
                let id: Arc<StreamId> = Arc::new(std::str::from_utf8(text).ok()?.parse().ok()?);
                self.seen.insert(text.into(), id.clone());
                id
            }
        };
        self.last = Some(id.clone());
        Some(id)
    }
}

impl Attributes {
    /// Or what is wrong with the record.
    pub(super) fn read(bytes: &[u8], ids: &mut Ids) -> Result<Attributes, String> {
        match Attributes::read_end(bytes, ids) {
            Some(attributes) => Ok(attributes),
            None => Attributes::read_all(bytes, ids),
        }
    }

    /// A canonical record's attributes stand behind its data in one order, and no string holds a quote that is not escaped: they
    /// are found from the end, without a look at the data, which is most of the record. `None`: another spelling.
    pub(super) fn read_end(bytes: &[u8], ids: &mut Ids) -> Option<Attributes> {
        const TIME_LEN: usize = "2023-11-14T22:13:20.000000000Z".len();
        const SEQUENCE_LEN: usize = 20;
        const DIGEST_LEN: usize = 64;
        let text = |bytes| std::str::from_utf8(bytes).ok();
        let rest = bytes.strip_suffix(b"\"}")?;
        let (rest, kind) = split_last(rest, br#"","type":""#)?;
        let (rest, _) = split_len(rest, br#"","time":""#, TIME_LEN)?;
        let rest = split_last(rest, br#"","subject":""#).map_or(rest, |(rest, _)| rest);
        let rest = rest.strip_suffix(br#"","specversion":"1.0"#)?;
        let (rest, source) = split_last(rest, br#"","source":"/streams/"#)?;
        let (rest, sequence) = split_len(rest, br#"","sequence":""#, SEQUENCE_LEN)?;
        let (rest, _) = match split_len(rest, br#"","prevdigest":""#, DIGEST_LEN) {
            Some(split) => split,
            None => split_len(split_last(rest, br#"","release":""#)?.0, br#"","prevdigest":""#, DIGEST_LEN)?,
        };
        // The id is made of the two others.
        let rest =
            rest.strip_suffix(sequence)?.strip_suffix(b"/")?.strip_suffix(source)?.strip_suffix(br#","id":""#)?;
        let (rest, foreignid) = match rest.strip_suffix(b"\"") {
            None => (rest, None),
            Some(rest) => {
                let (rest, foreignid) = split_last(rest, br#","foreignid":""#)?;
                (rest, Some(text(foreignid).filter(|text| !text.contains('\\'))?))
            }
        };
        if !(rest.starts_with(br#"{"data":{"#) && rest.ends_with(b"}")) {
            return None;
        }
        Some(Attributes {
            id: ids.of(source)?,
            sequence: text(sequence)?.parse().ok()?,
            kind: text(kind)?.parse().ok(),
            foreignid: foreignid.map(short),
        })
    }

    pub(super) fn read_all(bytes: &[u8], ids: &mut Ids) -> Result<Attributes, String> {
        let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let id = envelope.source.strip_prefix("/streams/").and_then(|id| ids.of(id.as_bytes()));
        Ok(Attributes {
            id: id.ok_or("its source is no stream")?,
            sequence: envelope.sequence,
            kind: envelope.kind.parse().ok(),
            foreignid: envelope.foreignid.as_deref().map(short),
        })
    }
}

/// What stands before `name`, and the string behind it to the end, where that holds no quote: not even an escaped one, at which the
/// search would end. Most are short.
fn split_last<'a>(text: &'a [u8], name: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let is_quote = |byte: &u8| *byte == b'"';
    let behind = name.len() - name.iter().rposition(is_quote)?;
    let (before, value) = text.split_at_checked(text.iter().rposition(is_quote)? + behind)?;
    Some((before.strip_suffix(name)?, value))
}

/// [`split_last`] where it is known how long the string is.
fn split_len<'a>(text: &'a [u8], name: &[u8], len: usize) -> Option<(&'a [u8], &'a [u8])> {
    let (before, value) = text.split_at_checked(text.len().checked_sub(len)?)?;
    Some((before.strip_suffix(name)?, value))
}
