//! What the rules take from one volume to the next, and the records that the ledger writes about itself.
//!
//! A next volume begins with all nodes and with where every stream stands (`ledger.opened`, and `ledger.carried` where these are too many
//! for one record). Producers notice nothing: their streams go on with the next sequence. Noted forks are counted anew in each volume.

use cairn_schemas::data::{CarriedNode, CarriedStream, LedgerCarried, VolumeReason};
use cairn_schemas::ids::TreeSize;

use super::*;

/// Most bytes of nodes and streams in one record, as JSON: the rest of the 65,535 is for what stands around them.
const CARRIED_BYTES_MAX: usize = 56 << 10;

/// Why a volume takes no more records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Another volume goes on.
    Closed(LedgerClosed),
    /// Nothing goes on.
    Frozen(LedgerFrozen),
}

impl Streams {
    /// The volume that these rules are of.
    pub(crate) fn volume(&self) -> u64 {
        self.opened.volume
    }

    /// The volume's record 0, without what it took over.
    pub(crate) fn opened(&self) -> &LedgerOpened {
        &self.opened
    }

    /// Whether all records are here that the volume must begin with: before that, nobody was told that there is such a volume.
    pub(crate) fn has_begun(&self) -> bool {
        self.carried_left == 0
    }

    /// What the volume ended with.
    pub(crate) fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    /// The vkey that signs a checkpoint of this size.
    pub(crate) fn key_at(&self, size: u64) -> &str {
        let newest = self.rotated.iter().rev().find(|(index, _)| index.0 < size);
        newest.map_or(self.opened.ledger_key.as_str(), |(_, rotated)| rotated.new.as_str())
    }

    /// The vkey of the second signature of a checkpoint of this size.
    pub(crate) fn second_key_at(&self, size: u64) -> Option<&str> {
        let newest = self.rotated.iter().rev().find(|(index, _)| index.0 < size);
        newest.map_or(self.opened.mldsa_key.as_deref(), |(_, rotated)| rotated.mldsa_key.as_deref())
    }

    /// How many records of the volume before belong to the ledger, where there is one before.
    pub(crate) fn previous_size(&self) -> Option<TreeSize> {
        self.previous.map(|(size, _)| size)
    }

    /// Whether the volume before ended in good order, with nothing in it that is not published.
    pub(crate) fn was_rotated(&self) -> bool {
        self.previous.is_some_and(|(_, reason)| reason == VolumeReason::Rotated)
    }

    /// When the volume began, as its record 0 says.
    pub(crate) fn began(&self) -> Timestamp {
        self.began
    }

    /// Rules that know nothing, to stand in for those that are taken away while a volume is changed.
    pub(crate) fn hollow(&self) -> Streams {
        Streams::empty(&self.opened).expect("invariant: these rules were made of it")
    }

    /// The witness policy in force.
    pub(crate) fn witnesses(&self) -> Option<&str> {
        self.witnesses.as_deref()
    }

    /// Seals a record about the ledger itself. The rules are as if it were written.
    pub(crate) fn write_own(
        &mut self,
        draft: Draft,
        now: Timestamp,
        out: &mut Vec<Written>,
    ) -> Result<RecordIndex, String> {
        let sealed = self.own.seal(draft, now).map_err(|error| error.to_string())?;
        let record = Record::parse(&sealed.bytes).map_err(|error| error.one_line())?;
        let index = self.write(sealed.bytes.into(), sealed.leaf, out);
        self.replay_own(record.kind, &record, index)?;
        Ok(index)
    }

    /// Takes up a record of the stream `ledger` that changes what is true of the whole volume.
    pub(super) fn replay_own(&mut self, kind: RecordType, record: &Record, index: RecordIndex) -> Result<(), String> {
        fn data<T: serde::de::DeserializeOwned>(record: &Record) -> Result<T, String> {
            serde_json::from_value(record.data.clone()).map_err(|error| error.to_string())
        }
        match kind {
            RecordType::LedgerCarried => {
                let LedgerCarried { nodes, streams } = data(record)?;
                self.carried_left = self.carried_left.checked_sub(1).ok_or("record 0 announces no such record here")?;
                self.carry(&nodes, &streams)?;
            }
            RecordType::LedgerKeyRotated => self.rotated.push((index, data(record)?)),
            RecordType::LedgerWitnessesChanged => self.witnesses = data::<LedgerWitnessesChanged>(record)?.policy,
            RecordType::LedgerClosed => self.ended = Some(Ended::Closed(data(record)?)),
            RecordType::LedgerFrozen => self.ended = Some(Ended::Frozen(data(record)?)),
            _ => {}
        }
        Ok(())
    }

    /// Takes over nodes and streams from the volume before.
    pub(super) fn carry(&mut self, nodes: &[CarriedNode], streams: &[CarriedStream]) -> Result<(), String> {
        for CarriedNode { node, kind, key } in nodes {
            let key = head::parse_key(key).map_err(|error| error.to_string())?;
            self.nodes.entry(node.clone()).or_insert(Producer { role: Role::Node(*kind), key });
        }
        for CarriedStream { stream, sequence, digest } in streams {
            let producer = stream.node().and_then(|node| self.nodes.get(&node)).cloned();
            let producer = producer.ok_or_else(|| format!("stream {stream} is of a node that was not carried over"))?;
            let carried = Stream {
                producer,
                opened: RecordIndex(0),
                carried: Some((*sequence, *digest)),
                recent: VecDeque::new(),
                foreignids: HashMap::new(),
                foreignids_before: HashMap::new(),
                forks_noted: HashSet::new(),
            };
            if self.streams.insert(stream.clone(), carried).is_some() {
                return Err(format!("stream {stream} was carried over twice"));
            }
        }
        Ok(())
    }

    /// Takes up the next readable record of a volume of which some cannot be read. What does not fit what stands before it is taken up
    /// as far as it goes: a stream whose beginning is lost goes on, if its node is known.
    pub(crate) fn salvage(&mut self, bytes: &[u8], leaf: Digest, index: RecordIndex) {
        self.next = index;
        let Some((id, sequence, digest)) = place(bytes, leaf) else {
            // One of the ledger's own that is about no stream.
            if let Ok(record) = Record::parse(bytes) {
                self.own = Chain::resume(StreamId::ledger(), record.sequence.next(), leaf, 0, Timestamp::default());
                // What cannot be taken up is as good as damaged.
                let _ = self.replay_own(record.kind, &record, index);
            }
            self.next = RecordIndex(index.0 + 1);
            return;
        };
        if let Ok(envelope) = serde_json::from_slice::<Envelope<'_>>(bytes)
            && envelope.source == "/streams/ledger"
        {
            self.own = Chain::resume(StreamId::ledger(), envelope.sequence.next(), leaf, 0, Timestamp::default());
        }
        if self.replay(bytes, leaf).is_err() {
            let recent = Recent { sequence, index, leaf: digest };
            let producer = id.node().and_then(|node| self.nodes.get(&node)).cloned();
            match (self.streams.get(&id).map(|stream| stream.last().0), producer) {
                (Some(last), _) if last < sequence => self.apply(&id, recent, None),
                (None, Some(producer)) => self.begin(&id, producer, recent, None),
                _ => {}
            }
        }
        self.next = RecordIndex(index.0 + 1);
    }

    /// Remembers a `foreignid` of the volume before.
    pub(crate) fn remember_foreign(&mut self, stream: &StreamId, foreignid: &str, index: RecordIndex) {
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.foreignids_before.insert(short(foreignid), index);
        }
    }

    /// Ends the volume and begins the next, whose record 0 is `opened`; its `previous` says all but what is taken over, which is added
    /// here. Gives the next volume's rules and its first records: one `ledger.opened` and as many `ledger.carried` as it takes.
    pub(crate) fn next_volume(
        self,
        mut opened: LedgerOpened,
        now: Timestamp,
    ) -> Result<(Streams, Vec<Written>), String> {
        let previous = opened.previous.as_mut().ok_or("a next volume names the one before")?;
        let (nodes, streams) = self.to_carry();
        (previous.nodes, previous.streams, previous.carried) = (Vec::new(), Vec::new(), 0);
        let around = serde_json::to_vec(&opened).map_or(0, |json| json.len());
        let mut parts = pack(nodes, streams, CARRIED_BYTES_MAX.saturating_sub(around)).into_iter();
        let first = parts.next().expect("invariant: there is always a first part");
        let previous = opened.previous.as_mut().expect("invariant: just looked at");
        (previous.nodes, previous.streams, previous.carried) = (first.nodes, first.streams, parts.len() as u64);

        let mut next = Streams::empty(&opened)?;
        next.carried_left = parts.len() as u64;
        next.began = now;
        next.own = self.own;
        next.nodes.extend(self.nodes);
        next.streams = self.streams;
        next.streams.values_mut().for_each(Stream::carry_on);
        let mut written = Vec::new();
        next.write_own(Draft::new(&opened), now, &mut written)?;
        for part in parts {
            // The rules hold all of it already: only the count goes down.
            let sealed = next.own.seal(Draft::new(&part), now).map_err(|error| error.to_string())?;
            next.write(sealed.bytes.into(), sealed.leaf, &mut written);
            next.carried_left -= 1;
        }
        Ok((next, written))
    }

    /// Every node but the control plane, and where every stream but the ledger's own stands, by id.
    fn to_carry(&self) -> (Vec<CarriedNode>, Vec<CarriedStream>) {
        let mut nodes: Vec<CarriedNode> = self
            .nodes
            .iter()
            .filter_map(|(node, producer)| match producer.role {
                Role::Node(kind) => {
                    Some(CarriedNode { node: node.clone(), kind, key: head::format_key(&producer.key) })
                }
                Role::Ledger | Role::Control => None,
            })
            .collect();
        nodes.sort_unstable_by(|a, b| a.node.cmp(&b.node));
        let mut streams: Vec<CarriedStream> = self
            .streams
            .iter()
            .map(|(id, stream)| {
                let (sequence, digest) = stream.last();
                CarriedStream { stream: id.clone(), sequence, digest }
            })
            .collect();
        streams.sort_unstable_by(|a, b| a.stream.cmp(&b.stream));
        (nodes, streams)
    }
}

impl Stream {
    /// The next volume begins. Records that are remembered from before the volume that ends are forgotten.
    fn carry_on(&mut self) {
        if let Some((before, _)) = self.carried {
            self.recent.retain(|recent| recent.sequence > before);
        }
        self.carried = Some(self.last());
        self.opened = RecordIndex(0);
        self.foreignids_before = std::mem::take(&mut self.foreignids);
        self.forks_noted.clear();
    }
}

/// Nodes first, then streams, in parts of at most [`CARRIED_BYTES_MAX`]; the first of at most `first`. There is always a first one.
fn pack(nodes: Vec<CarriedNode>, streams: Vec<CarriedStream>, first: usize) -> Vec<LedgerCarried> {
    let mut parts = vec![LedgerCarried { nodes: Vec::new(), streams: Vec::new() }];
    let mut room = first;
    let mut take = |parts: &mut Vec<LedgerCarried>, len: usize| {
        // The item and its comma.
        if len + 1 > room {
            parts.push(LedgerCarried { nodes: Vec::new(), streams: Vec::new() });
            room = CARRIED_BYTES_MAX;
        }
        room -= len + 1;
    };
    let len = |json: serde_json::Result<Vec<u8>>| json.expect("invariant: carried items are plain JSON").len();
    for node in nodes {
        take(&mut parts, len(serde_json::to_vec(&node)));
        parts.last_mut().expect("invariant: never empty").nodes.push(node);
    }
    for stream in streams {
        take(&mut parts, len(serde_json::to_vec(&stream)));
        parts.last_mut().expect("invariant: never empty").streams.push(stream);
    }
    parts
}
