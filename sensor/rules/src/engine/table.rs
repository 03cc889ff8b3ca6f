//! The process table: which processes there are, what they run, who made them.
//!
//! A process is its pid and its start time, so that a pid used again is another process. A process that has ended stays as long as
//! a descendant may ask for it, and a bounded time and number beyond, because the interesting parent is often gone by the
//! time its child acts. The table is bounded; what it could not keep is counted, never guessed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::FixedState;

use crate::event::{Change, Fork, Process};

/// A process' identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) pid: u32,
    pub(crate) start_ns: u64,
}

/// What a process runs; shared with its children until they execute something themselves.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) process: Process,
    /// All arguments but the first, joined by blanks: `proc.args`.
    pub(crate) args: Box<[u8]>,
    /// Name and arguments: `proc.cmdline`.
    pub(crate) cmdline: Box<[u8]>,
    /// First argument and the others: `proc.exeline`.
    pub(crate) exeline: Box<[u8]>,
    /// The working directory with a `/` at its end, as Falco has it.
    pub(crate) cwd: Box<[u8]>,
}

/// One process.
#[derive(Debug, Clone)]
pub(crate) struct Tracked {
    pub(crate) key: Key,
    pub(crate) ppid: u32,
    pub(crate) vpid: Option<u32>,
    pub(crate) started_at_ns: Option<u64>,
    pub(crate) image: Arc<Image>,
    parent: Option<Key>,
    children: usize,
    exited_at_ns: Option<u64>,
}

/// What the table holds and what it lost, for metrics and loss records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct TableStats {
    /// Processes that run.
    pub running: usize,
    /// Processes that ended and are kept for their descendants' sake.
    pub exited: usize,
    /// Ended processes dropped before their time because the table was full.
    pub evicted: u64,
    /// Processes not taken in because the table was full of running ones: their children's ancestry ends early.
    pub refused: u64,
}

#[derive(Debug)]
pub(crate) struct ProcessTable {
    // A fixed seed: the kernel numbers processes, nobody else does, and looking them up is what every event costs.
    processes: HashMap<Key, Tracked, FixedState>,
    /// The start time of the process that has a pid now.
    current: HashMap<u32, u64, FixedState>,
    /// Ended processes in the order they ended; an entry may be stale.
    exited: VecDeque<(u64, Key)>,
    exited_count: usize,
    processes_max: usize,
    exited_max: usize,
    exited_keep_ns: u64,
    evicted: u64,
    refused: u64,
}

impl Image {
    pub(crate) fn new(process: Process) -> Self {
        let rest = process.args.get(1..).unwrap_or(&[]);
        let args = join(rest.iter().map(AsRef::as_ref));
        let cmdline = join(std::iter::once(process.comm.as_bytes()).chain(rest.iter().map(AsRef::as_ref)));
        let exeline = join(process.args.iter().map(AsRef::as_ref));
        let mut cwd = process.cwd.as_bytes().to_vec();
        if !cwd.is_empty() && !cwd.ends_with(b"/") {
            cwd.push(b'/');
        }
        Self { args, cmdline, exeline, cwd: cwd.into(), process }
    }
}

impl Tracked {
    pub(crate) fn new(pid: u32, process: Process, parent: Option<Key>) -> Self {
        Self {
            key: Key { pid, start_ns: process.start_ns },
            ppid: parent.map_or(process.ppid, |parent| parent.pid),
            vpid: process.vpid,
            started_at_ns: process.started_at_ns,
            image: Arc::new(Image::new(process)),
            parent,
            children: 0,
            exited_at_ns: None,
        }
    }
}

impl ProcessTable {
    pub(crate) fn new(processes_max: usize, exited_max: usize, exited_keep_ns: u64) -> Self {
        Self {
            processes: HashMap::default(),
            current: HashMap::default(),
            exited: VecDeque::new(),
            exited_count: 0,
            processes_max: processes_max.max(1),
            exited_max,
            exited_keep_ns,
            evicted: 0,
            refused: 0,
        }
    }

    /// The process that has this pid now.
    pub(crate) fn current(&self, pid: u32) -> Option<&Tracked> {
        let start_ns = *self.current.get(&pid)?;
        self.processes.get(&Key { pid, start_ns })
    }

    pub(crate) fn parent(&self, of: &Tracked) -> Option<&Tracked> {
        self.processes.get(&of.parent?)
    }

    /// A process seen running, not starting: from a scan of `/proc`. What an event said before counts more.
    pub(crate) fn seed(&mut self, pid: u32, process: Process) {
        let is_known = self.current.get(&pid).is_some_and(|start| *start == process.start_ns);
        if !is_known {
            let parent = self.parent_key(process.ppid, process.start_ns);
            self.insert(Tracked::new(pid, process, parent), 0);
        }
    }

    /// Finds the parents of processes that were seeded before them.
    pub(crate) fn link_seeds(&mut self) {
        let orphans: Vec<Key> = self.processes.values().filter(|it| it.parent.is_none()).map(|it| it.key).collect();
        for key in orphans {
            let Some(ppid) = self.processes.get(&key).map(|tracked| tracked.ppid) else { continue };
            let Some(parent) = self.parent_key(ppid, key.start_ns).filter(|parent| *parent != key) else { continue };
            self.adopt(parent);
            if let Some(tracked) = self.processes.get_mut(&key) {
                tracked.parent = Some(parent);
            }
        }
    }

    /// The process runs another program now; returned as it is from now on, even when the table had no place for it.
    pub(crate) fn exec(&mut self, pid: u32, mut process: Process, now_ns: u64) -> Tracked {
        let before = self.current(pid).filter(|before| same_start(before.key.start_ns, process.start_ns));
        // Who made a process does not change when that parent ends and init takes over, nor when the program does: keep it.
        let (parent, started_at_ns, vpid) = match before {
            Some(before) => {
                if process.start_ns == 0 {
                    process.start_ns = before.key.start_ns;
                }
                (before.parent, before.started_at_ns, before.vpid)
            }
            None => (None, None, None),
        };
        process.started_at_ns = process.started_at_ns.or(started_at_ns);
        process.vpid = process.vpid.or(vpid);
        let parent =
            parent.or_else(|| self.parent_key(process.ppid, process.start_ns)).filter(|parent| parent.pid != pid);
        let tracked = Tracked::new(pid, process, parent);
        self.insert(tracked.clone(), now_ns);
        tracked
    }

    /// A child, a copy of its parent so far. Without a known parent there is nothing to copy: its first exec will tell.
    pub(crate) fn fork(&mut self, caller: u32, fork: &Fork, now_ns: u64) {
        let parent_pid = fork.child_ppid.unwrap_or(caller);
        let Some(copied) = self.current(caller) else { return };
        let image = Arc::clone(&copied.image);
        let parent = self.parent_key(parent_pid, fork.child_start_ns);
        let child = Tracked {
            key: Key { pid: fork.child_pid, start_ns: fork.child_start_ns },
            ppid: parent_pid,
            vpid: fork.child_vpid,
            started_at_ns: Some(now_ns),
            image,
            parent,
            children: 0,
            exited_at_ns: None,
        };
        self.insert(child, now_ns);
    }

    /// A call changed something about the process; its children keep what they copied before.
    pub(crate) fn change(&mut self, pid: u32, change: &Change) {
        let Some(start_ns) = self.current.get(&pid).copied() else { return };
        let Some(tracked) = self.processes.get_mut(&Key { pid, start_ns }) else { return };
        let mut process = tracked.image.process.clone();
        change.apply(&mut process);
        if process != tracked.image.process {
            tracked.image = Arc::new(Image::new(process));
        }
    }

    pub(crate) fn exit(&mut self, pid: u32, now_ns: u64) {
        if let Some(start_ns) = self.current.remove(&pid) {
            self.end(Key { pid, start_ns }, now_ns);
        }
        self.expire(now_ns);
    }

    pub(crate) fn stats(&self) -> TableStats {
        TableStats {
            running: self.processes.len() - self.exited_count,
            exited: self.exited_count,
            evicted: self.evicted,
            refused: self.refused,
        }
    }

    fn insert(&mut self, mut tracked: Tracked, now_ns: u64) {
        let key = tracked.key;
        let previous = self.current.get(&key.pid).copied();
        if let Some(start_ns) = previous.filter(|start| *start != key.start_ns) {
            // Its exit was lost: the pid has another process now.
            self.current.remove(&key.pid);
            self.end(Key { pid: key.pid, start_ns }, now_ns);
        }
        if let Some(before) = self.processes.get_mut(&key) {
            tracked.children = before.children;
            if before.exited_at_ns.take().is_some() {
                self.exited_count -= 1;
            }
            let (old, new) = (before.parent, tracked.parent);
            *before = tracked;
            self.current.insert(key.pid, key.start_ns);
            if old != new {
                new.inspect(|parent| self.adopt(*parent));
                old.inspect(|parent| self.abandon(*parent, now_ns));
            }
            return;
        }
        if self.processes.len() >= self.processes_max && !self.evict_one(now_ns) {
            self.refused += 1;
            return;
        }
        if let Some(parent) = tracked.parent {
            self.adopt(parent);
        }
        self.current.insert(key.pid, key.start_ns);
        self.processes.insert(key, tracked);
    }

    fn parent_key(&self, ppid: u32, child_start_ns: u64) -> Option<Key> {
        let start_ns = *self.current.get(&ppid)?;
        // A parent is older than its child; a younger one is another process under the same pid.
        let is_older = start_ns == 0 || child_start_ns == 0 || start_ns <= child_start_ns;
        is_older.then_some(Key { pid: ppid, start_ns })
    }

    fn end(&mut self, key: Key, now_ns: u64) {
        let Some(tracked) = self.processes.get_mut(&key) else { return };
        if tracked.exited_at_ns.is_none() {
            tracked.exited_at_ns = Some(now_ns);
            self.exited_count += 1;
            self.exited.push_back((now_ns, key));
        }
    }

    fn adopt(&mut self, parent: Key) {
        if let Some(parent) = self.processes.get_mut(&parent) {
            parent.children += 1;
        }
    }

    /// A child is gone. A parent that ended long ago and has no other child may go too, at the next expiry.
    fn abandon(&mut self, parent: Key, now_ns: u64) {
        if let Some(tracked) = self.processes.get_mut(&parent) {
            tracked.children = tracked.children.saturating_sub(1);
            if tracked.children == 0 && tracked.exited_at_ns.is_some() {
                self.exited.push_back((now_ns, parent));
            }
        }
    }

    fn expire(&mut self, now_ns: u64) {
        while let Some((since_ns, key)) = self.exited.front().copied() {
            let is_old = now_ns.saturating_sub(since_ns) > self.exited_keep_ns;
            if !is_old && self.exited_count <= self.exited_max {
                return;
            }
            self.exited.pop_front();
            if self.is_removable(key) {
                self.remove(key, now_ns);
            }
        }
    }

    /// Ended, and nobody's parent. One that is will come back into the queue when its last child goes.
    fn is_removable(&self, key: Key) -> bool {
        self.processes.get(&key).is_some_and(|tracked| tracked.exited_at_ns.is_some() && tracked.children == 0)
    }

    fn remove(&mut self, key: Key, now_ns: u64) {
        if let Some(removed) = self.processes.remove(&key) {
            if removed.exited_at_ns.is_some() {
                self.exited_count -= 1;
            }
            if let Some(parent) = removed.parent {
                self.abandon(parent, now_ns);
            }
        }
    }

    /// Makes room by dropping the process that ended longest ago: first one without children, else any.
    fn evict_one(&mut self, now_ns: u64) -> bool {
        while let Some((_, key)) = self.exited.pop_front() {
            if self.is_removable(key) {
                self.remove(key, now_ns);
                self.evicted += 1;
                return true;
            }
        }
        let oldest = self
            .processes
            .values()
            .filter_map(|it| it.exited_at_ns.map(|at| (at, it.key.pid, it.key)))
            .min_by_key(|it| (it.0, it.1));
        match oldest {
            Some((_, _, key)) => {
                self.remove(key, now_ns);
                self.evicted += 1;
                true
            }
            None => false,
        }
    }
}

fn same_start(left: u64, right: u64) -> bool {
    left == right || left == 0 || right == 0
}

fn join<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Box<[u8]> {
    let mut out = Vec::new();
    for (index, part) in parts.enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(part);
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    fn process(ppid: u32, start_ns: u64, comm: &str) -> Process {
        Process { ppid, start_ns, comm: comm.into(), ..Process::default() }
    }

    fn fork(child_pid: u32, child_start_ns: u64) -> Fork {
        Fork { child_pid, child_start_ns, ..Fork::default() }
    }

    fn lineage(table: &ProcessTable, pid: u32) -> Vec<String> {
        let mut names = Vec::new();
        let mut next = table.current(pid);
        while let Some(tracked) = next {
            names.push(tracked.image.process.comm.to_string());
            next = table.parent(tracked);
        }
        names
    }

    #[test]
    fn ancestry_survives_a_parent_that_ended() {
        let mut table = ProcessTable::new(100, 10, 60 * SECOND);
        table.seed(1, process(0, 1, "init"));
        table.exec(10, process(1, 10, "sshd"), SECOND);
        table.fork(10, &fork(11, 11), SECOND);
        table.exec(11, process(10, 11, "bash"), SECOND);
        table.fork(11, &fork(12, 12), SECOND);
        table.exit(11, 2 * SECOND);
        // The kernel says the parent is init now; who made it is still bash.
        table.exec(12, process(1, 12, "nc"), 3 * SECOND);
        assert_eq!(lineage(&table, 12), ["nc", "bash", "sshd", "init"]);
        // Long after, while the child lives.
        table.exit(999, 1_000 * SECOND);
        assert_eq!(lineage(&table, 12), ["nc", "bash", "sshd", "init"]);
        // And gone after the child and the time.
        table.exit(12, 1_001 * SECOND);
        table.exit(999, 2_000 * SECOND);
        table.exit(999, 3_000 * SECOND);
        assert_eq!(table.stats(), TableStats { running: 2, exited: 0, evicted: 0, refused: 0 });
    }

    #[test]
    fn a_pid_used_again_is_another_process() {
        let mut table = ProcessTable::new(100, 10, 60 * SECOND);
        table.exec(10, process(1, 10, "old"), 0);
        table.exec(11, process(10, 5, "older than its parent"), 0);
        assert_eq!(lineage(&table, 11), ["older than its parent"]);
        table.exec(10, process(1, 20, "new"), 0);
        table.exec(12, process(10, 21, "child"), 0);
        assert_eq!(lineage(&table, 12), ["child", "new"]);
        assert_eq!(table.stats().exited, 1);
    }

    #[test]
    fn a_child_is_its_parents_copy_until_it_executes() {
        let mut table = ProcessTable::new(100, 10, 60 * SECOND);
        table.exec(10, process(1, 10, "bash"), 0);
        table.fork(10, &fork(11, 11), 5);
        assert_eq!(lineage(&table, 11), ["bash", "bash"]);
        assert_eq!(table.current(11).unwrap().started_at_ns, Some(5));
        table.fork(77, &fork(78, 78), 5);
        assert!(table.current(78).is_none());
    }

    #[test]
    fn seeds_in_any_order_find_their_parents() {
        let mut table = ProcessTable::new(100, 10, 60 * SECOND);
        table.seed(30, process(20, 3, "c"));
        table.seed(20, process(10, 2, "b"));
        table.seed(10, process(0, 1, "a"));
        table.link_seeds();
        assert_eq!(lineage(&table, 30), ["c", "b", "a"]);
    }

    #[test]
    fn full_of_ended_processes_it_evicts_and_counts() {
        let mut table = ProcessTable::new(3, 100, 60 * SECOND);
        for pid in 1..=3 {
            table.exec(pid, process(0, u64::from(pid), "x"), 0);
        }
        table.exit(2, 1);
        table.exec(4, process(0, 4, "x"), 2);
        assert_eq!(table.stats(), TableStats { running: 3, exited: 0, evicted: 1, refused: 0 });
        let refused = table.exec(5, process(4, 5, "y"), 2);
        assert_eq!(refused.image.process.comm.to_string(), "y");
        assert!(table.current(5).is_none());
        assert_eq!(table.stats(), TableStats { running: 3, exited: 0, evicted: 1, refused: 1 });
    }

    #[test]
    fn ended_processes_are_bounded_in_number() {
        let mut table = ProcessTable::new(100, 2, 60 * SECOND);
        for pid in 1..=5 {
            table.exec(pid, process(0, u64::from(pid), "x"), 0);
            table.exit(pid, u64::from(pid));
        }
        assert_eq!(table.stats(), TableStats { running: 0, exited: 2, evicted: 0, refused: 0 });
    }

    proptest! {
        /// Whatever order events come in, the table stays within its bound, counts right, and ancestry ends.
        #[test]
        fn any_order_of_events(steps in prop::collection::vec((0_u8..4, 0_u32..6, 0_u32..6, 0_u64..4), 0..200)) {
            let mut table = ProcessTable::new(5, 2, 3);
            for (now, (step, pid, other, start)) in steps.into_iter().enumerate() {
                let now = now as u64;
                match step {
                    0 => { table.exec(pid, process(other, start, "x"), now); }
                    1 => table.fork(pid, &fork(other, start), now),
                    2 => table.exit(pid, now),
                    _ => { table.seed(pid, process(other, start, "x")); table.link_seeds(); }
                }
                prop_assert!(table.processes.len() <= 5);
                let exited = table.processes.values().filter(|it| it.exited_at_ns.is_some()).count();
                prop_assert_eq!(exited, table.exited_count);
                // A parent evicted under its child and seen again starts counting anew; short of that the count is right.
                for tracked in table.processes.values().filter(|_| table.evicted == 0) {
                    let children = table.processes.values().filter(|it| it.parent == Some(tracked.key)).count();
                    prop_assert!(tracked.children >= children, "a parent might be dropped under its child");
                }
            }
        }
    }
}
