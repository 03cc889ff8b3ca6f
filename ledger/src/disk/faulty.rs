//! A disk in memory that fails when told to, and forgets in a crash whatever was not synced: any sector of a file, any name of a
//! folder, in any combination that its seed picks. It also watches: a file that is published and immutable must never change.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Disk, DiskFile, LockGuard, SyncSite};
use crate::durable::parent;

const SECTOR: usize = 512;

#[derive(Clone, Default)]
struct Inode {
    /// What a reader sees now.
    current: Vec<u8>,
    /// What survives for certain.
    synced: Vec<u8>,
}

#[derive(Clone, Default)]
struct Folder {
    current: BTreeMap<String, Entry>,
    synced: BTreeMap<String, Entry>,
}

#[derive(Clone, PartialEq)]
enum Entry {
    File(usize),
    Folder,
}

#[derive(Clone)]
struct Fault {
    after: u64,
    done: bool,
    once: bool,
    kind: io::ErrorKind,
}

#[derive(Clone)]
struct State {
    inodes: Vec<Inode>,
    folders: BTreeMap<String, Folder>,
    calls: u64,
    fault: Option<Fault>,
    random: u64,
    locked: BTreeSet<String>,
    /// Syncs that are silently left out.
    left_out: Option<Syncs>,
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

/// The kinds of syncs that the writer makes.
#[derive(Debug, Clone, Copy, PartialEq)]
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
}

impl Syncs {
    fn of_file(path: &str) -> Syncs {
        if path.ends_with(".wal") || path.ends_with("segment") { Syncs::Log } else { Syncs::Files }
    }

    fn of_folder(folder: &str) -> Syncs {
        match folder.split('/').next().unwrap_or_default() {
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
                calls: 0,
                fault: None,
                random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
                locked: BTreeSet::new(),
                left_out: None,
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
        state.random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        FaultyDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// How many calls that change something were made.
    pub(crate) fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Lets `calls` more changing calls through; the next one fails, and so does every one after it, as on a dead disk. `done`: the
    /// failing call is done all the same, and only reported as failed.
    pub(crate) fn fail_after(&self, calls: u64, done: bool) {
        self.state().fault = Some(Fault { after: calls, done, once: false, kind: io::ErrorKind::Other });
    }

    /// As [`FaultyDisk::fail_after`], but only that one call fails.
    pub(crate) fn fail_once_after(&self, calls: u64, done: bool) {
        self.state().fault = Some(Fault { after: calls, done, once: true, kind: io::ErrorKind::Other });
    }

    /// From now on the disk is full: nothing can be made. What exists can be written and synced.
    pub(crate) fn fill(&self) {
        self.state().fault =
            Some(Fault { after: u64::MAX, done: false, once: false, kind: io::ErrorKind::StorageFull });
    }

    /// From now on syncs of this kind do nothing, and say that they did.
    pub(crate) fn leave_out(&self, syncs: Option<Syncs>) {
        self.state().left_out = syncs;
    }

    /// No more faults.
    pub(crate) fn heal(&self) {
        self.state().fault = None;
    }

    /// The power goes: what was not synced is lost, in part and in any order; locks are gone.
    pub(crate) fn crash(&self) {
        let mut state = self.state();
        state.fault = None;
        state.locked.clear();
        let mut random = state.random;
        let mut flip = move || {
            // xorshift64*: enough to pick sides, and the same on every machine.
            random ^= random >> 12;
            random ^= random << 25;
            random ^= random >> 27;
            random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 63 == 1
        };
        for inode in &mut state.inodes {
            let len = if flip() { inode.current.len() } else { inode.synced.len() };
            let mut bytes = vec![0; len];
            for (number, sector) in bytes.chunks_mut(SECTOR).enumerate() {
                let side = if flip() { &inode.current } else { &inode.synced };
                let start = (number * SECTOR).min(side.len());
                let end = (start + sector.len()).min(side.len());
                sector[..end - start].copy_from_slice(&side[start..end]);
            }
            inode.current.clone_from(&bytes);
            inode.synced = bytes;
        }
        for folder in state.folders.values_mut() {
            let names: BTreeSet<String> = folder.current.keys().chain(folder.synced.keys()).cloned().collect();
            for name in names {
                let (now, then) = (folder.current.get(&name).cloned(), folder.synced.get(&name).cloned());
                let kept = if now == then || flip() { now } else { then };
                match kept {
                    Some(entry) => folder.current.insert(name, entry),
                    None => folder.current.remove(&name),
                };
            }
            folder.synced.clone_from(&folder.current);
        }
        // A folder whose name was lost is gone with all that is in it.
        let lost: Vec<String> = state.folders.keys().filter(|path| !state.reachable(path)).cloned().collect();
        for path in lost {
            state.folders.remove(&path);
        }
        state.random = state.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    }

    /// Every published file by path: what a reader would be given a copy of.
    pub(crate) fn published(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        let mut files = BTreeMap::new();
        for (folder, content) in &state.folders {
            for (name, entry) in &content.current {
                let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
                if let Entry::File(inode) = entry
                    && !path.starts_with("wal/")
                    && path != "lock"
                {
                    files.insert(path, state.inodes[*inode].current.clone());
                }
            }
        }
        files
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
        change(&mut state.inodes[inode].current);
        state.inodes[inode].synced = state.inodes[inode].current.clone();
        state.frozen.remove(path);
    }

    /// Counts a changing call and says what becomes of it.
    fn call(&self, making: bool, act: impl FnOnce(&mut State) -> io::Result<()>) -> io::Result<()> {
        let mut state = self.state();
        state.calls += 1;
        let Some(fault) = &mut state.fault else { return act(&mut state) };
        if fault.kind == io::ErrorKind::StorageFull {
            return if making { Err(fault.kind.into()) } else { act(&mut state) };
        }
        if fault.after > 0 {
            fault.after -= 1;
            return act(&mut state);
        }
        let (done, kind) = (fault.done, fault.kind);
        // Only the first failing call is done behind the caller's back; after that the disk is dead.
        fault.done = false;
        if fault.once {
            state.fault = None;
        }
        if done {
            act(&mut state)?;
        }
        Err(io::Error::new(kind, "injected"))
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
        self.disk.call(false, |state| {
            let file = &mut state.inodes[self.inode].current;
            let offset = offset as usize;
            if file.len() < offset + bytes.len() {
                file.resize(offset + bytes.len(), 0);
            }
            file[offset..offset + bytes.len()].copy_from_slice(bytes);
            Ok(())
        })
    }

    fn sync_at(&mut self, _: SyncSite) -> io::Result<()> {
        self.disk.call(false, |state| {
            if state.left_out != Some(self.kind) {
                let inode = &mut state.inodes[self.inode];
                inode.synced.clone_from(&inode.current);
            }
            Ok(())
        })
    }
}

impl Disk for FaultyDisk {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let state = self.state();
        Ok(state.inodes[state.file(path)?].current.clone())
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let state = self.state();
        Ok(state.folders.get(folder).ok_or(io::ErrorKind::NotFound)?.current.keys().cloned().collect())
    }

    fn create(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut made = 0;
        self.call(true, |state| {
            made = state.inodes.len();
            state.inodes.push(Inode::default());
            state.set(path, Some(Entry::File(made)))
        })?;
        Ok(Box::new(FaultyFile { disk: self.clone(), inode: made, kind: Syncs::of_file(path) }))
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        let inode = self.state().file(path)?;
        Ok(Box::new(FaultyFile { disk: self.clone(), inode, kind: Syncs::of_file(path) }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.call(false, |state| {
            let entry = state.entry(from)?.clone();
            if let Entry::File(inode) = entry
                && (to.starts_with("tile/") || to.starts_with("checkpoints/"))
            {
                let bytes = state.inodes[inode].current.clone();
                let before = state.frozen.insert(to.to_owned(), bytes.clone());
                assert!(before.is_none_or(|before| before == bytes), "{to} was published with other bytes before");
            }
            state.set(from, None)?;
            state.set(to, Some(entry))
        })
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.call(false, |state| state.set(path, None))
    }

    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        self.call(false, |state| {
            if state.folders.get(folder).is_some_and(|folder| !folder.current.is_empty()) {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            state.folders.remove(folder);
            state.set(folder, None)
        })
    }

    fn create_folder(&self, folder: &str) -> io::Result<()> {
        self.call(true, |state| {
            if state.folders.contains_key(folder) {
                return Ok(());
            }
            state.set(folder, Some(Entry::Folder))?;
            state.folders.insert(folder.to_owned(), Folder::default());
            Ok(())
        })
    }

    fn sync_folder_at(&self, folder: &str, _: SyncSite) -> io::Result<()> {
        self.call(false, |state| {
            let left_out = state.left_out == Some(Syncs::of_folder(folder));
            let folder = state.folders.get_mut(folder).ok_or(io::ErrorKind::NotFound)?;
            if !left_out {
                folder.synced.clone_from(&folder.current);
            }
            Ok(())
        })
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
