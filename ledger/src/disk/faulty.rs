//! A disk in memory that fails when told to, and forgets in a crash whatever was not synced: any sector of a file, any name of a
//! folder, in any combination that its seed picks. It is worse than any disk: of a sector that was written several times any state may
//! survive, with bits flipped among those that the writes changed; a rename may come true on one side only; a write that fails may have been
//! done in part; and after a sync that failed the bytes are as likely gone as not, whatever later syncs say. It also watches: a file that
//! is published and immutable must never change, and every place in the code that syncs is noted.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Disk, DiskFile, LockGuard, SyncSite};
use crate::durable::parent;

const SECTOR: usize = 512;

/// The bytes of one sector.
type Sector = [u8; SECTOR];

#[derive(Clone, Default)]
struct Inode {
    /// What a reader sees now.
    current: Arc<Vec<u8>>,
    /// What survives for certain.
    synced: Arc<Vec<u8>>,
    /// What was written to each sector since, state by state.
    dirty: BTreeMap<usize, Vec<Sector>>,
    /// The lengths that the file had since.
    lens: Vec<usize>,
}

fn sector(bytes: &[u8], number: usize) -> Sector {
    let mut sector = [0; SECTOR];
    let start = (number * SECTOR).min(bytes.len());
    let end = (start + SECTOR).min(bytes.len());
    sector[..end - start].copy_from_slice(&bytes[start..end]);
    sector
}

impl Inode {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let current = Arc::make_mut(&mut self.current);
        let end = offset + bytes.len();
        if current.len() < end {
            current.resize(end, 0);
            self.lens.push(end);
        }
        current[offset..end].copy_from_slice(bytes);
        for number in offset / SECTOR..=(end - 1) / SECTOR {
            self.dirty.entry(number).or_default().push(sector(current, number));
        }
    }

    fn sync(&mut self) {
        self.synced = self.current.clone();
        self.dirty.clear();
        self.lens.clear();
    }

    /// Settles what becomes of every write since the last sync; gives how many bits were flipped.
    fn settle(&mut self, random: &mut Random) -> u64 {
        let lens = std::mem::take(&mut self.lens);
        let dirty = std::mem::take(&mut self.dirty);
        if lens.is_empty() && dirty.is_empty() {
            return 0;
        }
        let mut flipped = 0;
        let synced = Arc::make_mut(&mut self.synced);
        let len = match random.below(lens.len() as u64 + 1) as usize {
            0 => synced.len(),
            chosen => lens[chosen - 1],
        };
        synced.resize(len, 0);
        for (number, states) in dirty {
            let start = number * SECTOR;
            let chosen = random.below(states.len() as u64 + 1) as usize;
            if chosen > 0 && start < len {
                let end = (start + SECTOR).min(len);
                let before = sector(&synced[start..end], 0);
                synced[start..end].copy_from_slice(&states[chosen - 1][..end - start]);
                let changed: Vec<usize> = (start..end).filter(|at| synced[*at] != before[at - start]).collect();
                if !changed.is_empty() && random.below(4) == 0 {
                    synced[changed[random.below(changed.len() as u64) as usize]] ^= 1 << random.below(8);
                    flipped += 1;
                }
            }
        }
        flipped
    }
}

#[derive(Clone, Default)]
struct Folder {
    current: BTreeMap<String, Entry>,
    synced: BTreeMap<String, Entry>,
}

impl Folder {
    /// Settles what becomes of every name that changed since the last sync.
    fn settle(&mut self, random: &mut Random) {
        let names: BTreeSet<String> = self.current.keys().chain(self.synced.keys()).cloned().collect();
        for name in names {
            let (now, then) = (self.current.get(&name).cloned(), self.synced.get(&name).cloned());
            let kept = if now == then || random.flip() { now } else { then };
            match kept {
                Some(entry) => self.current.insert(name, entry),
                None => self.current.remove(&name),
            };
        }
        self.synced.clone_from(&self.current);
    }
}

#[derive(Clone, PartialEq)]
enum Entry {
    File(usize),
    Folder,
}

#[derive(Clone)]
enum Fault {
    /// After so many changing calls one fails; or that and all that follow.
    Fails { after: u64, done: bool, once: bool, kind: io::ErrorKind, only: Option<Syncs> },
    /// There is room for so many bytes, and for names or not.
    Full { room: usize, names: bool },
}

/// xorshift64*: enough to pick sides, and the same on every machine.
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        // Seeds that are close together must not begin alike.
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d | 1);
        for _ in 0..4 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// Below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn flip(&mut self) -> bool {
        self.below(2) == 1
    }
}

#[derive(Clone)]
struct State {
    inodes: Vec<Inode>,
    folders: BTreeMap<String, Folder>,
    /// Folders that were removed, and what a crash may bring back of them.
    removed: BTreeMap<String, Folder>,
    calls: u64,
    fault: Option<Fault>,
    /// A fault came true since it was set.
    fired: bool,
    /// Bits that were flipped, so far.
    flipped: u64,
    random: Random,
    locked: BTreeSet<String>,
    /// Syncs that are silently left out.
    left_out: Option<SyncPoint>,
    /// Every sync that was asked for.
    points: BTreeSet<SyncPoint>,
    /// Published files whose bytes may never change.
    frozen: BTreeMap<String, Vec<u8>>,
}

/// See the module's words. Clones share the disk.
#[derive(Clone)]
pub(crate) struct FaultyDisk {
    state: Arc<Mutex<State>>,
}

struct FaultyFile {
    disk: FaultyDisk,
    inode: usize,
    kind: Syncs,
}

/// A place in the code that syncs, and what it syncs there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SyncPoint {
    pub(crate) file: &'static str,
    pub(crate) line: u32,
    pub(crate) kind: Syncs,
}

impl SyncPoint {
    fn new(site: SyncSite, kind: Syncs) -> SyncPoint {
        SyncPoint { file: site.file(), line: site.line(), kind }
    }
}

/// The kinds of syncs that the writer makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Syncs {
    /// Of the write-ahead log's segments.
    Log,
    /// Of the names of segments.
    LogNames,
    /// Of tiles and checkpoints before they get their names.
    Files,
    /// Of names below `tile/`.
    TileNames,
    /// Of names in the root: `checkpoint`, and the folders.
    RootNames,
    /// Of retained checkpoints' names.
    KeptNames,
    /// Of volumes' names.
    VolumeNames,
}

/// A path below its volume's folder, if it is in one.
fn in_volume(path: &str) -> &str {
    let below =
        path.strip_prefix("volume/").and_then(|path| path.split_once('/').map_or(Some(""), |(_, path)| Some(path)));
    below.unwrap_or(path)
}

impl Syncs {
    pub(crate) const ALL: [Syncs; 7] = [
        Syncs::Log,
        Syncs::LogNames,
        Syncs::Files,
        Syncs::TileNames,
        Syncs::RootNames,
        Syncs::KeptNames,
        Syncs::VolumeNames,
    ];

    fn of_file(path: &str) -> Syncs {
        if path.ends_with(".wal") || path.ends_with("segment") { Syncs::Log } else { Syncs::Files }
    }

    fn of_folder(folder: &str) -> Syncs {
        match in_volume(folder).split('/').next().unwrap_or_default() {
            "volume" => Syncs::VolumeNames,
            "" => Syncs::RootNames,
            "wal" => Syncs::LogNames,
            "tile" => Syncs::TileNames,
            _ => Syncs::KeptNames,
        }
    }
}

impl FaultyDisk {
    pub(crate) fn new(seed: u64) -> FaultyDisk {
        let folders = BTreeMap::from([(String::new(), Folder::default())]);
        FaultyDisk {
            state: Arc::new(Mutex::new(State {
                inodes: Vec::new(),
                folders,
                removed: BTreeMap::new(),
                calls: 0,
                fault: None,
                fired: false,
                flipped: 0,
                random: Random::new(seed),
                locked: BTreeSet::new(),
                left_out: None,
                points: BTreeSet::new(),
                frozen: BTreeMap::new(),
            })),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Another disk with the same content and no faults, that forgets by another seed.
    pub(crate) fn copy(&self, seed: u64) -> FaultyDisk {
        let mut state = self.state().clone();
        state.fault = None;
        state.calls = 0;
        state.locked.clear();
        state.random = Random::new(seed);
        FaultyDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// How many calls that change something were made.
    pub(crate) fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Lets `calls` more changing calls through; the next one fails, and so does every one after it, as on a dead disk. `done`: the
    /// failing call is done all the same, and only reported as failed.
    pub(crate) fn fail_after(&self, calls: u64, done: bool) {
        self.set(Fault::Fails { after: calls, done, once: false, kind: io::ErrorKind::Other, only: None });
    }

    /// As [`FaultyDisk::fail_after`], and only syncs of this kind count, and fail first.
    pub(crate) fn fail_after_syncs(&self, kind: Syncs, syncs: u64, done: bool) {
        self.set(Fault::Fails { after: syncs, done, once: false, kind: io::ErrorKind::Other, only: Some(kind) });
    }

    /// As [`FaultyDisk::fail_after`], but only that one call fails, with an error of this kind.
    pub(crate) fn fail_once_after(&self, calls: u64, done: bool, kind: io::ErrorKind) {
        self.set(Fault::Fails { after: calls, done, once: true, kind, only: None });
    }

    /// From now on the disk is full: nothing can be made. What exists can be written and synced.
    pub(crate) fn fill(&self) {
        self.set(Fault::Full { room: 0, names: false });
    }

    /// From now on there is room for so many bytes; `names`: and for any number of empty files.
    pub(crate) fn fill_to(&self, room: usize, names: bool) {
        self.set(Fault::Full { room, names });
    }

    fn set(&self, fault: Fault) {
        let mut state = self.state();
        state.fault = Some(fault);
        state.fired = false;
    }

    /// Whether a fault came true since the last one was set.
    pub(crate) fn fired(&self) -> bool {
        self.state().fired
    }

    /// How many bits were flipped, on the disk that this is a copy of too.
    pub(crate) fn flipped(&self) -> u64 {
        self.state().flipped
    }

    /// From now on syncs at this place do nothing, and say that they did.
    pub(crate) fn leave_out(&self, point: Option<SyncPoint>) {
        self.state().left_out = point;
    }

    /// Every sync that was asked for so far, on copies of this disk apart.
    pub(crate) fn sync_points(&self) -> BTreeSet<SyncPoint> {
        self.state().points.clone()
    }

    /// No more faults.
    pub(crate) fn heal(&self) {
        self.state().fault = None;
    }

    /// The process ends and the machine goes on: nothing is lost but locks.
    pub(crate) fn end_process(&self) {
        let mut state = self.state();
        state.fault = None;
        state.locked.clear();
    }

    /// The power goes: what was not synced is lost, in part and in any order; locks are gone.
    pub(crate) fn crash(&self) {
        let mut state = self.state();
        state.fault = None;
        state.locked.clear();
        let mut random = state.random.clone();
        let mut flipped = 0;
        for inode in &mut state.inodes {
            flipped += inode.settle(&mut random);
            inode.current = inode.synced.clone();
        }
        state.flipped += flipped;
        let mut paths: Vec<String> = state.folders.keys().cloned().collect();
        while let Some(path) = paths.pop() {
            let folder = state.folders.get_mut(&path).expect("it was listed");
            folder.settle(&mut random);
            let below = folder.current.iter().filter(|(_, entry)| **entry == Entry::Folder);
            let below: Vec<String> =
                below.map(|(name, _)| if path.is_empty() { name.clone() } else { format!("{path}/{name}") }).collect();
            for path in below {
                // One that was removed has come back, with what was in it.
                if !state.folders.contains_key(&path) {
                    let folder = state.removed.remove(&path).unwrap_or_default();
                    state.folders.insert(path.clone(), folder);
                    paths.push(path);
                }
            }
        }
        state.removed.clear();
        // A folder whose name was lost is gone with all that is in it.
        let lost: Vec<String> = state.folders.keys().filter(|path| !state.reachable(path)).cloned().collect();
        for path in lost {
            state.folders.remove(&path);
        }
        state.random = random;
    }

    /// Every published file by path: what a reader would be given a copy of.
    pub(crate) fn published(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        let mut files = BTreeMap::new();
        for (folder, content) in &state.folders {
            for (name, entry) in &content.current {
                let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
                if let Entry::File(inode) = entry
                    && !in_volume(&path).starts_with("wal/")
                    && path != "lock"
                {
                    files.insert(path, state.inodes[*inode].current.to_vec());
                }
            }
        }
        files
    }

    /// Whether these bytes are anywhere on the disk, in a file with a name or without one.
    pub(crate) fn holds(&self, bytes: &[u8]) -> bool {
        let state = self.state();
        let within = |file: &[u8]| file.windows(bytes.len()).any(|part| part == bytes);
        state.inodes.iter().any(|inode| within(&inode.current) || within(&inode.synced))
    }

    /// Copies every file into a real folder.
    pub(crate) fn copy_to(&self, root: &std::path::Path) {
        for (path, bytes) in self.published() {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }

    /// Changes bytes behind the writer's back.
    pub(crate) fn tamper(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let inode = state.file(path).unwrap();
        change(Arc::make_mut(&mut state.inodes[inode].current));
        state.inodes[inode].sync();
        state.frozen.remove(path);
    }

    /// Counts a changing call and says what becomes of it. `instead` is done where it fails and is not done: what a failure of its kind
    /// may leave.
    fn call(
        &self,
        sync: Option<Syncs>,
        act: impl FnOnce(&mut State) -> io::Result<()>,
        instead: impl FnOnce(&mut State, &mut Random),
    ) -> io::Result<()> {
        let mut state = self.state();
        state.calls += 1;
        let fired = state.fired;
        let Some(Fault::Fails { after, done, once, kind, only }) = &mut state.fault else { return act(&mut state) };
        if only.is_some() && *only != sync && !fired {
            return act(&mut state);
        }
        if *after > 0 {
            *after -= 1;
            return act(&mut state);
        }
        let (was_done, once, kind) = (*done, *once, *kind);
        // Only the first failing call is done behind the caller's back; after that the disk is dead.
        *done = false;
        let first = !state.fired;
        state.fired = true;
        if once {
            state.fault = None;
        }
        if was_done {
            act(&mut state)?;
        } else if first {
            let mut random = state.random.clone();
            instead(&mut state, &mut random);
            state.random = random;
        }
        Err(io::Error::new(kind, "injected"))
    }

    /// Fails where there is no room for another name.
    fn room_for_a_name(&self) -> io::Result<()> {
        let mut state = self.state();
        if matches!(state.fault, Some(Fault::Full { names: false, .. })) {
            state.calls += 1;
            state.fired = true;
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl State {
    fn reachable(&self, folder: &str) -> bool {
        folder.is_empty()
            || self.folders.get(parent(folder)).is_some_and(|above| {
                let name = folder.rsplit('/').next().unwrap();
                above.current.get(name) == Some(&Entry::Folder)
            }) && self.reachable(parent(folder))
    }

    fn entry(&self, path: &str) -> io::Result<&Entry> {
        let (folder, name) = (parent(path), path.rsplit('/').next().unwrap());
        let folder = self.folders.get(folder).ok_or(io::ErrorKind::NotFound)?;
        Ok(folder.current.get(name).ok_or(io::ErrorKind::NotFound)?)
    }

    fn file(&self, path: &str) -> io::Result<usize> {
        match self.entry(path)? {
            Entry::File(inode) => Ok(*inode),
            Entry::Folder => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn set(&mut self, path: &str, entry: Option<Entry>) -> io::Result<()> {
        let (folder, name) = (parent(path), path.rsplit('/').next().unwrap());
        let folder = self.folders.get_mut(folder).ok_or(io::ErrorKind::NotFound)?;
        match entry {
            Some(entry) => {
                folder.current.insert(name.to_owned(), entry);
                Ok(())
            }
            None => folder.current.remove(name).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into()),
        }
    }
}

impl DiskFile for FaultyFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (inode, offset) = (self.inode, offset as usize);
        let mut full = false;
        self.disk.call(
            None,
            |state| {
                let file = &mut state.inodes[inode];
                let grows = (offset + bytes.len()).saturating_sub(file.current.len());
                let mut written = bytes.len();
                if let Some(Fault::Full { room, .. }) = &mut state.fault {
                    full = grows > *room;
                    written -= grows.saturating_sub(*room);
                    *room -= grows.min(*room);
                }
                state.fired |= full;
                file.write(offset, &bytes[..written]);
                Ok(())
            },
            // Short: a part of it was written.
            |state, random| {
                let part = random.below(bytes.len() as u64 + 1) as usize;
                state.inodes[inode].write(offset, &bytes[..part]);
            },
        )?;
        if full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync_at(&mut self, site: SyncSite) -> io::Result<()> {
        let (inode, point) = (self.inode, SyncPoint::new(site, self.kind));
        self.disk.call(
            Some(point.kind),
            |state| {
                state.points.insert(point);
                if state.left_out != Some(point) {
                    state.inodes[inode].sync();
                }
                Ok(())
            },
            // The kernel gave up on any of these sectors, and counts them as clean from now on.
            |state, random| {
                state.inodes[inode].settle(random);
            },
        )
    }
}

impl Disk for FaultyDisk {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let state = self.state();
        Ok(state.inodes[state.file(path)?].current.to_vec())
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let state = self.state();
        Ok(state.folders.get(folder).ok_or(io::ErrorKind::NotFound)?.current.keys().cloned().collect())
    }

    fn create(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        self.room_for_a_name()?;
        let mut made = 0;
        self.call(
            None,
            |state| {
                made = state.inodes.len();
                state.inodes.push(Inode::default());
                state.set(path, Some(Entry::File(made)))
            },
            |_, _| {},
        )?;
        Ok(Box::new(FaultyFile { disk: self.clone(), inode: made, kind: Syncs::of_file(path) }))
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        let inode = self.state().file(path)?;
        Ok(Box::new(FaultyFile { disk: self.clone(), inode, kind: Syncs::of_file(path) }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let rename = |state: &mut State| {
            let entry = state.entry(from)?.clone();
            if let Entry::File(inode) = entry
                && (in_volume(to).starts_with("tile/") || in_volume(to).starts_with("checkpoints/"))
            {
                let bytes = state.inodes[inode].current.to_vec();
                let before = state.frozen.insert(to.to_owned(), bytes.clone());
                assert!(before.is_none_or(|before| before == bytes), "{to} was published with other bytes before");
            }
            state.set(from, None)?;
            state.set(to, Some(entry))
        };
        self.call(None, rename, |_, _| {})
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.call(None, |state| state.set(path, None), |_, _| {})
    }

    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        let remove = |state: &mut State| {
            if state.folders.get(folder).is_some_and(|folder| !folder.current.is_empty()) {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            if let Some(content) = state.folders.remove(folder) {
                state.removed.insert(folder.to_owned(), content);
            }
            state.set(folder, None)
        };
        self.call(None, remove, |_, _| {})
    }

    fn create_folder(&self, folder: &str) -> io::Result<()> {
        if self.state().folders.contains_key(folder) {
            return self.call(None, |_| Ok(()), |_, _| {});
        }
        self.room_for_a_name()?;
        let create = |state: &mut State| {
            state.set(folder, Some(Entry::Folder))?;
            state.folders.insert(folder.to_owned(), Folder::default());
            Ok(())
        };
        self.call(None, create, |_, _| {})
    }

    fn sync_folder_at(&self, folder: &str, site: SyncSite) -> io::Result<()> {
        let point = SyncPoint::new(site, Syncs::of_folder(folder));
        let sync = |state: &mut State| {
            state.points.insert(point);
            let left_out = state.left_out == Some(point);
            let folder = state.folders.get_mut(folder).ok_or(io::ErrorKind::NotFound)?;
            if !left_out {
                folder.synced.clone_from(&folder.current);
            }
            Ok(())
        };
        self.call(Some(point.kind), sync, |_, _| {})
    }

    fn lock(&self, path: &str) -> io::Result<LockGuard> {
        if !self.state().locked.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let (disk, path) = (self.clone(), path.to_owned());
        Ok(Box::new(Unlock { disk, path }))
    }
}

struct Unlock {
    disk: FaultyDisk,
    path: String,
}

impl Drop for Unlock {
    fn drop(&mut self) {
        self.disk.state().locked.remove(&self.path);
    }
}
