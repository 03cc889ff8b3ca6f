//! Several writers over one bucket, and everything that may go wrong between them: each call is executed and answered at moments that
//! a seed picks, or not done, or done and not answered, or done long after; writers pause and crash at any call. A writer here is a model of
//! the real one, with records of a few bytes and tiles of four; the protocol under it is the one that ships.
//!
//! Checked at every step: no two acknowledged records at one index; a published tree never shrinks and never differs from what was
//! acknowledged; a tile never changes. At the end a last writer takes over: whatever was acknowledged is there.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cairn_schemas::digest::Digest;

use super::*;
use crate::s3::group::{pack, unpack};
use crate::streams::Written;

const TILE: u64 = 4;
const IN_FLIGHT_MAX: usize = 3;

#[derive(Clone)]
enum Request {
    Get(String),
    Put(String, Vec<u8>, Condition),
    List(String),
    Delete(Vec<String>),
    Pause,
}

#[derive(Clone)]
enum Reply {
    Got(Option<Object>),
    Put(Stored),
    Listed(Vec<String>),
    Done,
}

type Answer = Result<Reply, ObjectError>;

struct Call {
    id: u64,
    /// `None` once the process that made it is dead, or was told that there is no answer.
    process: Option<usize>,
    request: Request,
}

/// What the bucket leaves out, to show that the checks notice.
#[derive(Clone, Copy, PartialEq)]
enum Broken {
    Nothing,
    IfNoneMatch,
    IfMatch,
    /// A writer that acknowledges whichever group is there first.
    Order,
    /// A writer that removes groups which no checkpoint covers.
    Forget,
    /// Seals that are not there.
    Seal,
}

struct World {
    random: u64,
    broken: Broken,
    faults: bool,
    objects: BTreeMap<String, (Vec<u8>, u64)>,
    next: u64,
    /// Sent and not executed.
    sent: Vec<Call>,
    /// Executed and not answered.
    answers: Vec<(u64, usize, Answer)>,
    /// Answered and not noticed.
    delivered: HashMap<u64, Answer>,
    acknowledged: BTreeMap<u64, Vec<u8>>,
    /// Every tile that ever was.
    tiles: BTreeMap<String, Vec<u8>>,
    published: Vec<Vec<u8>>,
    made: u64,
    activity: u64,
}

impl World {
    /// xorshift64*: the same on every machine.
    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % below
    }

    fn execute(&mut self, request: &Request) -> Answer {
        match request {
            Request::Pause => Ok(Reply::Done),
            Request::Get(key) => Ok(Reply::Got(self.objects.get(key).map(|(bytes, tag)| Object {
                bytes: bytes.clone(),
                etag: tag.to_string(),
                version: None,
            }))),
            Request::List(prefix) => {
                Ok(Reply::Listed(self.objects.keys().filter(|key| key.starts_with(prefix)).cloned().collect()))
            }
            Request::Delete(keys) => {
                keys.iter().for_each(|key| drop(self.objects.remove(key)));
                Ok(Reply::Done)
            }
            Request::Put(key, bytes, condition) => {
                let there = self.objects.get(key).map(|(_, tag)| tag.to_string());
                let holds = match condition {
                    Condition::Absent => there.is_none() || self.broken == Broken::IfNoneMatch,
                    Condition::Is(tag) => there.as_ref() == Some(tag) || self.broken == Broken::IfMatch,
                };
                if !holds {
                    return Err(ObjectError::Precondition);
                }
                if self.broken == Broken::Seal && bytes.first() == Some(&b'{') {
                    return Ok(Reply::Put(Stored { etag: "0".to_owned(), version: None }));
                }
                if key == CHECKPOINT_FILE {
                    self.published(bytes);
                } else if key.starts_with("tile/") {
                    let before = self.tiles.entry(key.clone()).or_insert_with(|| bytes.clone());
                    assert_eq!(before, bytes, "{key} was another one before");
                }
                self.next += 1;
                // As S3's: the tag of the same bytes is the same tag.
                let digest = Digest::sha256(bytes);
                let tag = u64::from_be_bytes(*digest.as_bytes().first_chunk().unwrap());
                self.objects.insert(key.clone(), (bytes.clone(), tag));
                Ok(Reply::Put(Stored { etag: tag.to_string(), version: None }))
            }
        }
    }

    /// A checkpoint was published: it must go on from the one before, and from what was acknowledged.
    fn published(&mut self, stored: &[u8]) {
        let (_, _, checkpoint) = Epoch::off(stored).unwrap();
        let records = self.records(checkpoint.size.0);
        assert_eq!(checkpoint.root, root(&records), "the root is not that of the tiles");
        assert!(records.len() >= self.published.len(), "{} records are no longer published", self.published.len());
        assert_eq!(records[..self.published.len()], self.published[..], "published records changed");
        for (index, record) in self.acknowledged.range(..checkpoint.size.0) {
            assert_eq!(&records[*index as usize], record, "record {index} was acknowledged as another one");
        }
        self.published = records;
    }

    /// The records of a published tree, from its tiles.
    fn records(&self, size: u64) -> Vec<Vec<u8>> {
        let tile = |number: u64| {
            let width = (size - number * TILE).min(TILE);
            let (full, partial) = (tile_key(number, TILE), tile_key(number, width));
            let bytes = self.tiles.get(&partial).or(self.tiles.get(&full));
            let bytes = bytes.unwrap_or_else(|| panic!("{partial} is missing under a checkpoint of {size}"));
            let records = bytes.split(|byte| *byte == b'\n').filter(|record| !record.is_empty());
            records.take(width as usize).map(<[u8]>::to_vec).collect::<Vec<_>>()
        };
        (0..size.div_ceil(TILE)).flat_map(tile).collect()
    }

    fn acknowledge(&mut self, first: u64, records: &[Written]) {
        for (index, (record, _)) in (first..).zip(records) {
            let before = self.acknowledged.entry(index).or_insert_with(|| record.to_vec());
            assert_eq!(&before[..], &record[..], "two acknowledged records at index {index}");
            if let Some(published) = self.published.get(index as usize) {
                assert_eq!(&published[..], &record[..], "record {index} is published as another one");
            }
        }
    }
}

fn root(records: &[Vec<u8>]) -> Digest {
    Digest::sha256(&records.concat())
}

fn tile_key(number: u64, width: u64) -> String {
    if width == TILE { format!("tile/entries/{number:03}") } else { format!("tile/entries/{number:03}.p/{width}") }
}

fn note(records: &[Vec<u8>]) -> Vec<u8> {
    let root = STANDARD.encode(root(records).as_bytes());
    format!("test/1\n{}\n{root}\n\n\u{2014} test/1 {}\n", records.len(), STANDARD.encode([7; 68])).into_bytes()
}

/// One process's connection.
#[derive(Clone)]
struct Link {
    world: Arc<Mutex<World>>,
    process: usize,
}

impl Link {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call(&self, request: Request) -> Answer {
        let id = {
            let mut world = self.world();
            world.made += 1;
            world.activity += 1;
            let id = world.made;
            world.sent.push(Call { id, process: Some(self.process), request });
            id
        };
        std::future::poll_fn(|_| match self.world().delivered.remove(&id) {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        })
        .await
    }
}

impl ObjectStore for Link {
    async fn get(&self, key: &str) -> Result<Option<Object>, ObjectError> {
        match self.call(Request::Get(key.to_owned())).await? {
            Reply::Got(object) => Ok(object),
            _ => unreachable!(),
        }
    }

    async fn put(&self, key: &str, bytes: &[u8], condition: &Condition, _: bool) -> Result<Stored, ObjectError> {
        match self.call(Request::Put(key.to_owned(), bytes.to_vec(), condition.clone())).await? {
            Reply::Put(stored) => Ok(stored),
            _ => unreachable!(),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, ObjectError> {
        match self.call(Request::List(prefix.to_owned())).await? {
            Reply::Listed(keys) => Ok(keys),
            _ => unreachable!(),
        }
    }

    async fn delete(&self, objects: &[Removal]) -> Result<(), ObjectError> {
        let keys = objects.iter().map(|object| object.key.clone()).collect();
        self.call(Request::Delete(keys)).await.map(drop)
    }

    async fn pause(&self, _: u32) {
        // Should the pause itself be cut short, so be it.
        let _ = self.call(Request::Pause).await;
    }
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Where a staged group's outcome is left.
type Slot = Arc<Mutex<Option<Option<Removal>>>>;

/// Tasks that a process wants to have run beside it.
type Spawned = Arc<Mutex<Vec<Task>>>;

struct Process {
    number: usize,
    tasks: Vec<Task>,
    spawned: Spawned,
    paused: u64,
}

impl Process {
    fn new(number: usize, world: &Arc<Mutex<World>>, groups: u64) -> Process {
        let link = Link { world: world.clone(), process: number };
        let spawned = Spawned::default();
        let writer = Box::pin(write(link, spawned.clone(), groups));
        Process { number, tasks: vec![writer], spawned, paused: 0 }
    }

    /// Polls everything until nothing moves any more.
    fn run(&mut self, world: &Mutex<World>) {
        let mut context = Context::from_waker(Waker::noop());
        loop {
            let before = world.lock().unwrap_or_else(PoisonError::into_inner).activity;
            self.tasks.append(&mut self.spawned.lock().unwrap_or_else(PoisonError::into_inner));
            let count = self.tasks.len();
            self.tasks.retain_mut(|task| task.as_mut().poll(&mut context).is_pending());
            let after = world.lock().unwrap_or_else(PoisonError::into_inner).activity;
            let waiting = self.spawned.lock().unwrap_or_else(PoisonError::into_inner).len();
            if before == after && count == self.tasks.len() && waiting == 0 {
                return;
            }
        }
    }
}

/// A writer's life: take over, recover, stage `groups` groups, publish now and then, end.
async fn write(link: Link, spawned: Spawned, groups: u64) {
    // An error ends the process; what it leaves is the next one's.
    let _ = try_write(link, spawned, groups).await;
}

async fn try_write(link: Link, spawned: Spawned, groups: u64) -> Result<(), SessionError> {
    let token = [link.process as u8; TOKEN_LEN];
    let session = Arc::new(Session::take_over(link.clone(), token, Some(&note(&[]))).await?);
    let mut records = read_all(&session, &link).await?;
    let mut published = records.len() as u64;

    // Recovery, in parts that do not end where groups do.
    let mut next = published;
    let mut found = session.first_group(next).await?;
    while let Some((first, group)) = found {
        let group = unpack(&group, first).expect("a staged group is whole");
        records.extend(group.into_iter().skip((next - first) as usize));
        next = records.len() as u64;
        while published + 3 <= next {
            published += 3;
            publish(&session, &records[..published as usize], published - 3).await?;
        }
        found = session.group_at(next).await?.map(|group| (next, group));
    }
    if published < next {
        publish(&session, &records, published).await?;
        published = next;
    }
    session.begin_staging().await?;
    session.forget_covered().await?;

    let mut flying: VecDeque<(u64, Vec<Written>, Slot)> = VecDeque::new();
    let (mut staged, mut kept): (u64, VecDeque<(Removal, u64)>) = (0, VecDeque::new());
    loop {
        let broken = link.world().broken;
        while flying.len() < IN_FLIGHT_MAX && staged < groups {
            staged += 1;
            let first = next;
            let count = link.world().draw(3) + 1;
            let group: Vec<Written> = (0..count)
                .map(|number| {
                    let record = format!("w{} e{} {first}+{number}", link.process, session.epoch()).into_bytes();
                    let leaf = Digest::leaf(&record);
                    (record.into(), leaf)
                })
                .collect();
            next += count;
            let slot = Slot::default();
            flying.push_back((first, group.clone(), slot.clone()));
            let (session, link) = (session.clone(), link.clone());
            spawned.lock().unwrap().push(Box::pin(async move {
                let done = session.stage(first, &pack(cairn_schemas::ids::RecordIndex(first), &group)).await;
                if broken == Broken::Order && done.is_ok() {
                    link.world().acknowledge(first, &group);
                }
                *slot.lock().unwrap() = Some(done.ok());
                link.world().activity += 1;
            }));
        }
        let Some((first, group, slot)) = flying.pop_front() else { break };
        let done = std::future::poll_fn(|_| match slot.lock().unwrap().take() {
            Some(done) => Poll::Ready(done),
            None => Poll::Pending,
        });
        let Some(removal) = done.await else { return Ok(()) };
        link.world().acknowledge(first, &group);
        records.extend(group.iter().map(|(record, _)| record.to_vec()));
        kept.push_back((removal, records.len() as u64));
        if link.world().draw(3) == 0 {
            let to = published + link.world().draw(records.len() as u64 - published) + 1;
            publish(&session, &records[..to as usize], published).await?;
            published = to;
        }
        while kept.front().is_some_and(|(_, end)| *end <= published || broken == Broken::Forget) {
            let Some((removal, _)) = kept.pop_front() else { break };
            // What is not removed now is removed by whoever opens the ledger next.
            let _ = link.delete(&[removal]).await;
        }
    }
    Ok(())
}

/// As the integrator: tiles first, then the checkpoint, then partial tiles go whose full one is there.
async fn publish(session: &Session<Link>, records: &[Vec<u8>], from: u64) -> Result<(), SessionError> {
    let size = records.len() as u64;
    for number in from / TILE..size.div_ceil(TILE) {
        let end = ((number + 1) * TILE).min(size);
        let bytes = records[(number * TILE) as usize..end as usize].join(&b'\n');
        session.write(&tile_key(number, end - number * TILE), &bytes, true).await?;
    }
    session.publish(&note(records)).await.map(drop)
}

/// The published records, as the real writer reads them when it opens.
async fn read_all(session: &Session<Link>, link: &Link) -> Result<Vec<Vec<u8>>, SessionError> {
    let (_, size) = session.checkpoint();
    let mut records = Vec::new();
    for number in 0..size.div_ceil(TILE) {
        let width = (size - number * TILE).min(TILE);
        let mut bytes = get(link, &tile_key(number, width)).await?;
        if bytes.is_none() {
            bytes = get(link, &tile_key(number, TILE)).await?;
        }
        let bytes = bytes.expect("a published tile is there").bytes;
        let part = bytes.split(|byte| *byte == b'\n').filter(|record| !record.is_empty());
        records.extend(part.take(width as usize).map(<[u8]>::to_vec));
    }
    Ok(records)
}

/// What happened in a run, so that a run in which nothing happened is noticed.
#[derive(Default, Debug)]
struct Told {
    acknowledged: usize,
    taken_over: u64,
    crashed: usize,
}

fn run(seed: u64, broken: Broken) -> Told {
    let world = Arc::new(Mutex::new(World {
        random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        broken,
        faults: true,
        objects: BTreeMap::new(),
        next: 0,
        sent: Vec::new(),
        answers: Vec::new(),
        delivered: HashMap::new(),
        acknowledged: BTreeMap::new(),
        tiles: BTreeMap::new(),
        published: Vec::new(),
        made: 0,
        activity: 0,
    }));
    let mut told = Told::default();
    let mut processes: Vec<Process> = Vec::new();
    let mut started = 0;
    for _ in 0..400 {
        let draw = lock(&world).draw(100);
        if processes.is_empty() || processes.len() < 3 && draw < 4 {
            started += 1;
            processes.push(Process::new(started, &world, 12));
            processes.last_mut().unwrap().run(&world);
        } else if draw < 6 {
            // A crash: what was sent may still arrive, and nobody waits for an answer.
            let dead = lock(&world).draw(processes.len() as u64) as usize;
            let dead = processes.swap_remove(dead);
            abandon(&world, dead.number);
            told.crashed += 1;
        } else if draw < 10 {
            let paused = lock(&world).draw(processes.len() as u64) as usize;
            processes[paused].paused = lock(&world).draw(60);
        }
        step(&world, &mut processes);
        processes.retain(|process| !process.tasks.is_empty());
    }
    // The end: everybody is gone, what was sent arrives or does not, and one writer comes that nothing disturbs.
    for process in processes.drain(..) {
        abandon(&world, process.number);
    }
    lock(&world).faults = false;
    let mut last = Process::new(started + 1, &world, 0);
    last.run(&world);
    let mut processes = vec![last];
    while processes.iter().any(|process| !process.tasks.is_empty()) {
        step(&world, &mut processes);
    }
    let world = lock(&world);
    for (index, record) in &world.acknowledged {
        assert_eq!(world.published.get(*index as usize), Some(record), "acknowledged record {index} is lost");
    }
    told.acknowledged = world.acknowledged.len();
    told.taken_over = Epoch::off(&world.objects[CHECKPOINT_FILE].0).unwrap().1.epoch;
    told
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

fn abandon(world: &Mutex<World>, process: usize) {
    let mut world = lock(world);
    for call in &mut world.sent {
        if call.process == Some(process) {
            call.process = None;
        }
    }
    world.answers.retain(|(_, of, _)| *of != process);
}

/// One thing happens: a request arrives, or an answer does.
fn step(world: &Arc<Mutex<World>>, processes: &mut [Process]) {
    let mut turn = lock(world);
    let waiting = turn.answers.iter().enumerate();
    let ready: Vec<usize> = waiting
        .filter(|(_, (_, of, _))| processes.iter().any(|process| process.number == *of && process.paused == 0))
        .map(|(at, _)| at)
        .collect();
    for process in processes.iter_mut() {
        process.paused = process.paused.saturating_sub(1);
    }
    let sent = turn.sent.len() as u64;
    if sent + ready.len() as u64 == 0 {
        return;
    }
    let drawn = turn.draw(sent + ready.len() as u64);
    if drawn < sent {
        let mut call = turn.sent.swap_remove(drawn as usize);
        let fate = if turn.faults { turn.draw(40) } else { 39 };
        let lost = || Err(ObjectError::Unknown("lost".to_owned()));
        let answer = match (fate, call.process, &call.request) {
            // Not done.
            (0 | 1, ..) => lost(),
            // Done, and the answer is lost.
            (2 | 3, _, request) => {
                let _ = turn.execute(request);
                lost()
            }
            // No answer yet, and done later.
            (4, Some(process), request) => {
                let request = request.clone();
                turn.sent.push(Call { id: 0, process: None, request });
                turn.answers.push((call.id, process, lost()));
                return;
            }
            (5, _, Request::Put(..)) => Err(ObjectError::Conflict),
            (_, _, request) => turn.execute(request),
        };
        if let Some(process) = call.process.take() {
            turn.answers.push((call.id, process, answer));
        }
    } else {
        let (id, of, answer) = turn.answers.swap_remove(ready[(drawn - sent) as usize]);
        turn.delivered.insert(id, answer);
        drop(turn);
        if let Some(process) = processes.iter_mut().find(|process| process.number == of) {
            process.run(world);
        }
    }
}

#[test]
fn thousands_of_schedules_lose_nothing() {
    let mut all = Told::default();
    for seed in 0..4_000 {
        let told = std::panic::catch_unwind(|| run(seed, Broken::Nothing));
        let told = told.unwrap_or_else(|_| panic!("seed {seed}"));
        all.acknowledged += told.acknowledged;
        all.taken_over += told.taken_over;
        all.crashed += told.crashed;
    }
    assert!(all.acknowledged > 20_000 && all.taken_over > 10_000 && all.crashed > 10_000, "{all:?}");
}

#[test]
fn whatever_the_protocol_rests_on_is_noticed_when_it_is_missing() {
    let noticed = |broken: Broken| (0..2_000).any(|seed| std::panic::catch_unwind(|| run(seed, broken)).is_err());
    // Hundreds of expected panics are not worth a line each.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let all = [Broken::IfNoneMatch, Broken::IfMatch, Broken::Order, Broken::Forget, Broken::Seal].map(noticed);
    std::panic::set_hook(hook);
    assert_eq!(all, [true; 5]);
}
