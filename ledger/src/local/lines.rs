//! JSON Lines into a local producer's stream, fast and in order.
//!
//! One thread reads and parses lines; the caller's seals them into the stream, hands them over in batches, and says which became durable while
//! the next batch is being sealed. A batch is what there is: where input comes slowly it is one line, and nobody waits; where it comes fast,
//! many lines share one `fdatasync`. Memory holds a few batches, however long the input is.
//!
//! A line with an `id` that the stream has already is a repeat, and is answered with its first place; with the same `id` and other content it
//! is a fault. At the first fault the rest of the input is not looked at: what stood before it is durable and was told. A crash leaves a
//! whole prefix of what was handed over; the same lines with ids can be given again.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};

use cairn_schemas::digest::Digest;
use cairn_schemas::ids::RecordIndex;

use super::hidden::Hiding;
use super::line::{self, LINE_LEN_MAX, Line, LineFault};
use super::{LocalError, LocalProducer, Recorded, chain_from, read_back, recorded};
use crate::producer::{HEAD_AGE_MAX, SealError, Sealed};
use crate::tile::TILE_WIDTH;
use crate::vault::SealedPersonal;
use crate::volume::Place;
use crate::writer::{AppendError, Appended, Pending};

/// Most lines in a batch.
pub const BATCH_LINES_MAX: usize = 1_024;
/// No line is added to a batch that has so many bytes.
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// Batches that are parsed and wait to be sealed.
const BATCHES_WAITING: usize = 2;
/// What is read at once.
const READ_LEN: usize = 256 << 10;

/// A line whose record is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DurableLine {
    /// The line, from 1.
    pub line: u64,
    /// Its record: the first one with its id, where it is a repeat.
    pub recorded: Recorded,
    /// Whether it was there before.
    pub repeat: bool,
}

/// What is told while lines are taken.
#[derive(Debug)]
pub enum Told<'a> {
    /// These are durable, in their order.
    Durable(&'a [DurableLine]),
    /// This line was not taken, and the ones after it are looked at all the same.
    Refused {
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        fault: &'a LineFault,
    },
}

/// What came of all lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Records that were appended.
    pub appended: u64,
    /// Lines whose record was there before.
    pub repeats: u64,
    /// Lines that were not taken.
    pub refused: u64,
    /// The line at which taking ended, and why.
    pub stopped: Option<(u64, LineFault)>,
}

/// Takes JSON Lines from `input` into the stream. With `keep_going` a line that is not taken is told, and does not end it. What lines
/// mark as personal goes into the vault of `hiding`, durable before the record that commits to it is appended; without one, such a line is not taken.
///
/// # Errors
/// The ledger takes no more, or `input` cannot be read ([`LocalError::Input`]). What was told before is durable.
pub fn append_lines(
    producer: &mut LocalProducer,
    input: Box<dyn Read + Send>,
    keep_going: bool,
    hiding: Option<&mut Hiding<'_>>,
    told: &mut dyn FnMut(Told<'_>),
) -> Result<Taken, LocalError> {
    let (sender, batches) = sync_channel(BATCHES_WAITING);
    // Not joined: it may wait for input that never comes, when taking ended at a fault.
    std::thread::Builder::new()
        .name("lines".to_owned())
        .spawn(move || read_lines(input, &sender))
        .map_err(LocalError::Input)?;
    let mut appending = Appending {
        producer,
        keep_going,
        hiding,
        told,
        flying: None,
        batch: Batch::default(),
        bundle: None,
        taken: Taken::default(),
    };
    let done = appending.run(&batches);
    if done.is_err() {
        // Perhaps some of what flew is durable. The ledger knows.
        let stream = appending.producer.stream().clone();
        appending.producer.chain = chain_from(&appending.producer.ledger, &stream, &*appending.producer.clock);
    }
    done.map(|()| appending.taken)
}

/// Lines that were read, with what they say.
type Parsed = Vec<(u64, Result<Line, LineFault>)>;

fn read_lines(input: Box<dyn Read + Send>, sender: &SyncSender<std::io::Result<Parsed>>) {
    let mut input = BufReader::with_capacity(READ_LEN, input);
    let (mut number, mut bytes) = (0, 0);
    let mut parsed = Parsed::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        match next_line(&mut input, &mut line) {
            Ok(false) => break,
            Ok(true) => {}
            Err(error) => {
                let _ = sender.send(Ok(std::mem::take(&mut parsed)));
                let _ = sender.send(Err(error));
                return;
            }
        }
        number += 1;
        if !line.trim_ascii().is_empty() {
            bytes += line.len();
            parsed.push((number, line::parse(&line)));
        }
        let more = input.buffer().contains(&b'\n');
        let full = parsed.len() >= BATCH_LINES_MAX || bytes >= BATCH_BYTES_MAX;
        if !parsed.is_empty() && (full || !more) {
            bytes = 0;
            if sender.send(Ok(std::mem::take(&mut parsed))).is_err() {
                return;
            }
        }
    }
    let _ = sender.send(Ok(parsed));
}

/// Reads a line without its line feed; of one that is too long, its beginning, one byte past the limit. `false`: there is none.
fn next_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    let mut any = false;
    loop {
        let held = match input.fill_buf() {
            Ok(held) => held,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if held.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = held.iter().position(|byte| *byte == b'\n');
        let part = &held[..end.unwrap_or(held.len())];
        let room = (LINE_LEN_MAX + 1).saturating_sub(line.len());
        line.extend_from_slice(&part[..part.len().min(room)]);
        let used = end.map_or(held.len(), |end| end + 1);
        input.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

/// What becomes of a line, in the order of lines.
enum Item {
    /// The next of the sealed records is its.
    Sealed(u64),
    /// It was there before.
    Repeat(DurableLine),
    /// The next of the sealed records is a head.
    Head,
}

/// Records that go to the disk together.
#[derive(Default)]
struct Batch {
    items: Vec<Item>,
    sealed: Vec<Sealed>,
    ids: HashSet<String>,
    /// What its records commit to: kept before they are sent.
    disclosures: SealedPersonal,
}

struct Flying {
    batch: Batch,
    pending: Option<Pending>,
}

struct Appending<'a, 'l> {
    producer: &'a mut LocalProducer,
    keep_going: bool,
    hiding: Option<&'a mut Hiding<'l>>,
    told: &'a mut dyn FnMut(Told<'_>),
    /// On its way to the disk while the next one is made.
    flying: Option<Flying>,
    batch: Batch,
    /// The bundle that was read last, for looking at repeats.
    bundle: Option<(Place, Vec<Arc<[u8]>>)>,
    taken: Taken,
}

impl Appending<'_, '_> {
    fn run(&mut self, batches: &Receiver<std::io::Result<Parsed>>) -> Result<(), LocalError> {
        loop {
            let parsed = match batches.try_recv() {
                Ok(parsed) => parsed,
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    // Nothing to do meanwhile: what flies is waited for, and told, before more is waited for.
                    self.land()?;
                    match self.receive(batches) {
                        Ok(parsed) => parsed,
                        Err(RecvTimeoutError::Timeout) => {
                            self.seal_head()?;
                            self.send()?;
                            continue;
                        }
                        Err(RecvTimeoutError::Disconnected) => break,
                    }
                }
            };
            let parsed = match parsed {
                Ok(parsed) => parsed,
                Err(error) => {
                    self.land()?;
                    return Err(LocalError::Input(error));
                }
            };
            for (number, line) in parsed {
                let fault = match line {
                    Ok(line) => self.take(number, line)?.err(),
                    Err(fault) => Some(fault),
                };
                if let Some(fault) = fault {
                    self.taken.refused += 1;
                    self.send()?;
                    self.land()?;
                    if !self.keep_going {
                        self.taken.stopped = Some((number, fault));
                        return Ok(());
                    }
                    (self.told)(Told::Refused { line: number, fault: &fault });
                }
            }
            self.send()?;
        }
        self.land()
    }

    /// Waits for lines, as long as no head is due.
    fn receive(
        &self,
        batches: &Receiver<std::io::Result<Parsed>>,
    ) -> Result<std::io::Result<Parsed>, RecvTimeoutError> {
        if self.producer.chain.unsigned() == 0 {
            return batches.recv().map_err(|_| RecvTimeoutError::Disconnected);
        }
        batches.recv_timeout(HEAD_AGE_MAX)
    }

    /// Seals a line's record, or finds that it is a repeat.
    fn take(&mut self, number: u64, line: Line) -> Result<Result<(), LineFault>, LocalError> {
        if let Some(id) = &line.draft.foreignid {
            if self.is_on_its_way(id) {
                self.send()?;
                self.land()?;
            }
            if let Some(place) = self.producer.ledger.foreign(self.producer.chain.stream(), id) {
                return self.repeat(number, place, &line);
            }
        }
        let Line { mut draft, personal, blobs } = line;
        let kept = self.batch.disclosures.len();
        if !personal.is_empty() || !blobs.is_empty() {
            let Some(hiding) = &mut self.hiding else {
                return Ok(Err(LineFault::new(
                    "",
                    "has personal values or blobs, and there is no vault for them here",
                )));
            };
            match hiding.hide(&mut draft, &personal, &blobs, self.producer.clock.now())? {
                Ok(disclosures) => self.batch.disclosures.extend(disclosures),
                Err(fault) => return Ok(Err(fault)),
            }
        }
        let id = draft.foreignid.clone();
        match self.producer.chain.seal(draft, self.producer.clock.now()) {
            Ok(sealed) => {
                self.batch.items.push(Item::Sealed(number));
                self.batch.sealed.push(sealed);
                self.batch.ids.extend(id);
            }
            Err(SealError::Record(error)) => {
                self.batch.disclosures.truncate(kept);
                return Ok(Err(LineFault::new("", error.one_line())));
            }
            Err(error) => return Err(error.into()),
        }
        if self.producer.chain.head_due(self.producer.clock.now()) {
            self.seal_head()?;
        }
        Ok(Ok(()))
    }

    fn is_on_its_way(&self, id: &str) -> bool {
        let flies = self.flying.as_ref().is_some_and(|flying| flying.batch.ids.contains(id));
        flies || self.batch.ids.contains(id)
    }

    fn repeat(&mut self, number: u64, place: Place, line: &Line) -> Result<Result<(), LineFault>, LocalError> {
        let (bytes, draft) = (self.read(place)?, &line.draft);
        let found = read_back(&bytes).filter(|record| (record.kind, &record.subject) == (draft.kind, &draft.subject));
        let same = match &found {
            Some(record) => match &mut self.hiding {
                Some(hiding) => hiding.is_same(&record.data, line)?,
                None => record.data == draft.data,
            },
            None => false,
        };
        let Some(record) = found.filter(|_| same) else {
            let id = draft.foreignid.as_deref().unwrap_or_default();
            let reason = format!("{id:?} is the id of record {place} already, which holds something else");
            return Ok(Err(LineFault::new("/id", reason)));
        };
        let recorded = Recorded { place, sequence: record.sequence, leaf: Digest::leaf(&bytes) };
        self.batch.items.push(Item::Repeat(DurableLine { line: number, recorded, repeat: true }));
        Ok(Ok(()))
    }

    /// A durable record. Repeats come in the order of the ledger, so that one bundle serves many.
    fn read(&mut self, place: Place) -> Result<Arc<[u8]>, LocalError> {
        let skip = place.index.0 % TILE_WIDTH;
        let start = Place { volume: place.volume, index: RecordIndex(place.index.0 - skip) };
        if let Some((held, records)) = &self.bundle
            && *held == start
            && let Some(record) = records.get(skip as usize)
        {
            return Ok(record.clone());
        }
        let records = self.producer.ledger.read_from(start, TILE_WIDTH as usize)?;
        let records: Vec<Arc<[u8]>> = records.into_iter().map(|(_, record)| record).collect();
        let record = records.get(skip as usize).cloned();
        self.bundle = Some((start, records));
        record.ok_or(LocalError::Unreadable { place })
    }

    fn seal_head(&mut self) -> Result<(), LocalError> {
        if self.producer.chain.unsigned() == 0 {
            return Ok(());
        }
        let seen = self.producer.checkpoint_seen();
        let head = self.producer.chain.seal_head(&self.producer.key, seen, self.producer.clock.now())?;
        self.batch.items.push(Item::Head);
        self.batch.sealed.push(head);
        Ok(())
    }

    /// Sends the batch on its way, after the one before has landed: records go to the disk in their order.
    fn send(&mut self) -> Result<(), LocalError> {
        if self.batch.items.is_empty() {
            return Ok(());
        }
        self.land()?;
        let batch = std::mem::take(&mut self.batch);
        if let (Some(hiding), false) = (&mut self.hiding, batch.disclosures.is_empty()) {
            hiding.vault()?.keep(&batch.disclosures)?;
        }
        let records = batch.sealed.iter().map(|sealed| &*sealed.bytes);
        let pending =
            (!batch.sealed.is_empty()).then(|| self.producer.ledger.submit(self.producer.chain.stream(), records));
        self.flying = Some(Flying { batch, pending });
        Ok(())
    }

    /// Waits for what is on its way, and tells it.
    fn land(&mut self) -> Result<(), LocalError> {
        let Some(Flying { batch, pending }) = self.flying.take() else { return Ok(()) };
        let (records, failure) = match pending.map(Pending::wait) {
            None => (Vec::new(), None),
            Some(Ok(appended)) => (recorded(&batch.sealed, &appended)?, None),
            Some(Err(error)) => (durable_part(&batch.sealed, &error)?, Some(error)),
        };
        let mut records = records.into_iter();
        let mut durable = Vec::with_capacity(batch.items.len());
        for item in batch.items {
            match item {
                Item::Repeat(line) => {
                    self.taken.repeats += 1;
                    durable.push(line);
                }
                Item::Sealed(line) => {
                    let Some(recorded) = records.next() else { break };
                    self.taken.appended += 1;
                    durable.push(DurableLine { line, recorded, repeat: false });
                }
                Item::Head => drop(records.next()),
            }
        }
        if !durable.is_empty() {
            (self.told)(Told::Durable(&durable));
        }
        failure.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// Of records that were not all taken, those that are durable.
fn durable_part(sealed: &[Sealed], error: &AppendError) -> Result<Vec<Recorded>, LocalError> {
    let taken: Option<&Appended> = match error {
        AppendError::Refused { taken, .. } | AppendError::Full { taken, .. } => taken.as_deref(),
        _ => None,
    };
    let Some(taken) = taken else { return Ok(Vec::new()) };
    let count = sealed.iter().take_while(|sealed| sealed.sequence <= taken.sequence).count();
    recorded(&sealed[..count], taken)
}
