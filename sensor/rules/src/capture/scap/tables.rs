//! What the reader of a `.scap` remembers: which thread is of which process, and of a process what it runs, where it works, and what
//! its descriptors stand for.
//!
//! Events of a `.scap` name descriptors by number and paths as programs gave them, so that reading one means following every call
//! that changes what those stand for. A process has one table of descriptors here, whatever its threads share.
//!
//! The tables have a budget in bytes, [`TABLE_BYTES_MAX`]. What does not fit is counted and left out: a rule then finds less, never
//! something else.

use std::collections::HashMap;

use super::super::limits::{TABLE_BYTES_MAX, THREADS_MAX};
use super::table::Kind;
use crate::event::{Descriptor, Process, Text};

/// A parameter as an event carried it.
#[derive(Debug, Clone)]
pub(super) struct Raw {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) bytes: Box<[u8]>,
}

/// A call's beginning whose end has not come.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) number: u16,
    pub(super) params: Vec<Raw>,
}

/// A descriptor in a process' table.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) descriptor: Descriptor,
    /// Does it end when the process runs another program?
    pub(super) closes_on_exec: bool,
}

/// A process.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) process: Process,
    /// Its parent said that it made it, and it has not yet done anything itself.
    pub(super) is_awaited: bool,
    /// Nothing said what it runs: it was running, and in no list.
    pub(super) is_strange: bool,
    descriptors: HashMap<i64, Held>,
    threads: usize,
}

#[derive(Debug)]
struct Thread {
    pid: u32,
    begun: Option<Begun>,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Tables {
    threads: HashMap<u32, Thread>,
    processes: HashMap<u32, Known>,
    bytes: usize,
    refused: u64,
}

impl Tables {
    /// What did not fit, so far.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// A process of which it is known what it runs.
    pub(super) fn process(&self, pid: u32) -> Option<&Known> {
        self.processes.get(&pid).filter(|known| !known.is_strange)
    }

    /// Where a process works, if that is known.
    pub(super) fn directory(&self, pid: u32) -> Option<&[u8]> {
        self.processes.get(&pid).map(|known| known.process.cwd.as_bytes())
    }

    /// All processes, in order of their pids.
    pub(super) fn running(&self) -> Vec<(u32, Process)> {
        let known = self.processes.iter().filter(|(_, known)| !known.is_strange);
        let mut running: Vec<_> = known.map(|(pid, known)| (*pid, known.process.clone())).collect();
        running.sort_by_key(|(pid, _)| *pid);
        running
    }

    /// The process of a thread; one never heard of is taken for a process of its own.
    pub(super) fn pid_of(&self, tid: u32) -> u32 {
        self.threads.get(&tid).map_or(tid, |thread| thread.pid)
    }

    /// Remembers a thread.
    pub(super) fn add_thread(&mut self, tid: u32, pid: u32) {
        if self.threads.get(&tid).is_some_and(|thread| thread.pid == pid) {
            return;
        }
        self.remove_thread(tid);
        if self.threads.len() >= THREADS_MAX {
            self.refused += 1;
            return;
        }
        self.threads.insert(tid, Thread { pid, begun: None });
        if let Some(known) = self.processes.get_mut(&pid) {
            known.threads += 1;
        }
    }

    /// Forgets a thread; true when it was the last that is known of its process.
    pub(super) fn remove_thread(&mut self, tid: u32) -> bool {
        let Some(thread) = self.threads.remove(&tid) else { return true };
        if let Some(begun) = &thread.begun {
            self.bytes = self.bytes.saturating_sub(begun.cost());
        }
        match self.processes.get_mut(&thread.pid) {
            Some(known) => {
                known.threads = known.threads.saturating_sub(1);
                known.threads == 0
            }
            None => true,
        }
    }

    /// A call begins.
    pub(super) fn begin(&mut self, tid: u32, begun: Begun) {
        let pid = self.pid_of(tid);
        self.add_thread(tid, pid);
        let _ = self.take_begun(tid);
        let cost = begun.cost();
        if !self.has_room(cost) {
            return;
        }
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.begun = Some(begun);
            self.bytes += cost;
        }
    }

    /// The call that this thread began.
    pub(super) fn take_begun(&mut self, tid: u32) -> Option<Begun> {
        let begun = self.threads.get_mut(&tid)?.begun.take()?;
        self.bytes = self.bytes.saturating_sub(begun.cost());
        Some(begun)
    }

    /// Remembers a process with its first thread, in place of one that had its pid before.
    pub(super) fn add_process(&mut self, pid: u32, process: Process, copy_from: Option<u32>, is_awaited: bool) {
        self.remove_process(pid);
        let copied = copy_from.and_then(|from| self.processes.get(&from)).map(|from| &from.descriptors);
        let copied_cost: usize = copied.map_or(0, |held| held.values().map(|held| cost_of(&held.descriptor)).sum());
        let mut cost = cost_of_process(&process);
        let mut descriptors = HashMap::new();
        if self.bytes + cost + copied_cost <= TABLE_BYTES_MAX {
            cost += copied_cost;
            descriptors = copied.cloned().unwrap_or_default();
        }
        if !self.has_room(cost) {
            return;
        }
        self.bytes += cost;
        self.processes.insert(pid, Known { process, is_awaited, is_strange: false, descriptors, threads: 0 });
        // A thread of that number, of whatever process, is over.
        let _ = self.remove_thread(pid);
        self.add_thread(pid, pid);
    }

    /// Remembers that there is such a process, so that its descriptors can be followed.
    pub(super) fn meet(&mut self, pid: u32) {
        if !self.processes.contains_key(&pid) {
            self.add_process(pid, Process::default(), None, false);
            if let Some(known) = self.processes.get_mut(&pid) {
                known.is_strange = true;
            }
        }
    }

    /// It is known what a process runs.
    pub(super) fn set(&mut self, pid: u32, process: Process) {
        self.change(pid, |known| *known = process);
        if let Some(known) = self.processes.get_mut(&pid) {
            known.is_strange = false;
        }
    }

    /// Changes a process.
    pub(super) fn change(&mut self, pid: u32, change: impl FnOnce(&mut Process)) {
        if let Some(known) = self.processes.get_mut(&pid) {
            let before = cost_of_process(&known.process);
            change(&mut known.process);
            self.bytes = (self.bytes + cost_of_process(&known.process)).saturating_sub(before);
        }
    }

    /// A process that was awaited has come.
    pub(super) fn has_come(&mut self, pid: u32) -> bool {
        self.processes.get_mut(&pid).is_some_and(|known| std::mem::take(&mut known.is_awaited))
    }

    /// A process ended.
    pub(super) fn remove_process(&mut self, pid: u32) {
        if let Some(known) = self.processes.remove(&pid) {
            let held: usize = known.descriptors.values().map(|held| cost_of(&held.descriptor)).sum();
            self.bytes = self.bytes.saturating_sub(cost_of_process(&known.process) + held);
        }
    }

    /// What a process' descriptor stands for.
    pub(super) fn descriptor(&self, pid: u32, number: i64) -> Option<&Held> {
        self.processes.get(&pid)?.descriptors.get(&number)
    }

    /// A process has a descriptor from now on.
    pub(super) fn hold(&mut self, pid: u32, number: i64, mut descriptor: Descriptor, closes_on_exec: bool) {
        descriptor.num = Some(number);
        self.close(pid, number);
        let cost = cost_of(&descriptor);
        if !self.processes.contains_key(&pid) || !self.has_room(cost) {
            return;
        }
        if let Some(known) = self.processes.get_mut(&pid) {
            known.descriptors.insert(number, Held { descriptor, closes_on_exec });
            self.bytes += cost;
        }
    }

    /// A descriptor is closed.
    pub(super) fn close(&mut self, pid: u32, number: i64) {
        if let Some(held) = self.processes.get_mut(&pid).and_then(|known| known.descriptors.remove(&number)) {
            self.bytes = self.bytes.saturating_sub(cost_of(&held.descriptor));
        }
    }

    /// Closes what `is_over` says.
    pub(super) fn close_where(&mut self, pid: u32, is_over: impl Fn(i64, &Held) -> bool) {
        let Some(known) = self.processes.get_mut(&pid) else { return };
        let mut freed = 0;
        known.descriptors.retain(|number, held| {
            let keep = !is_over(*number, held);
            freed += if keep { 0 } else { cost_of(&held.descriptor) };
            keep
        });
        self.bytes = self.bytes.saturating_sub(freed);
    }

    fn has_room(&mut self, cost: usize) -> bool {
        let has_room = self.bytes + cost <= TABLE_BYTES_MAX;
        self.refused += u64::from(!has_room);
        has_room
    }
}

impl Begun {
    fn cost(&self) -> usize {
        self.params.iter().map(|param| param.bytes.len() + size_of::<Raw>()).sum::<usize>() + size_of::<Begun>()
    }
}

/// About how many bytes a descriptor takes.
fn cost_of(descriptor: &Descriptor) -> usize {
    descriptor.name.len() + descriptor.nameraw.len() + 2 * size_of::<Held>()
}

/// About how many bytes a process takes.
fn cost_of_process(process: &Process) -> usize {
    let texts = |texts: &[Text]| texts.iter().map(|text| text.len() + size_of::<Text>()).sum::<usize>();
    let own = process.comm.len() + process.exepath.len() + process.cwd.len() + process.cgroup.len();
    own + texts(&process.args) + texts(&process.env) + 2 * size_of::<Known>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::DescriptorKind;

    fn file(name: &str) -> Descriptor {
        Descriptor { kind: DescriptorKind::File, name: name.into(), ..Descriptor::default() }
    }

    #[test]
    fn a_child_has_its_parents_descriptors_until_it_closes_them() {
        let mut tables = Tables::default();
        tables.add_process(1, Process::default(), None, false);
        tables.hold(1, 3, file("/a"), false);
        tables.hold(1, 4, file("/b"), true);
        tables.add_process(2, Process::default(), Some(1), true);
        assert!(tables.has_come(2) && !tables.has_come(2));
        tables.close_where(2, |_, held| held.closes_on_exec);
        assert!(tables.descriptor(2, 4).is_none() && tables.descriptor(1, 4).is_some());
        tables.close(1, 3);
        assert_eq!(tables.descriptor(2, 3).unwrap().descriptor.name.as_bytes(), b"/a");
    }

    #[test]
    fn what_goes_in_comes_out_of_the_budget_again() {
        let mut tables = Tables::default();
        tables.add_process(1, Process { args: vec!["sh".into()], ..Process::default() }, None, false);
        tables.hold(1, 3, file("/a"), false);
        tables.hold(1, 3, file("/longer"), false);
        tables.add_process(2, Process::default(), Some(1), false);
        tables.add_thread(20, 2);
        tables.begin(20, Begun { number: 2, params: Vec::new() });
        tables.begin(20, Begun { number: 4, params: Vec::new() });
        assert_eq!(tables.take_begun(20).map(|begun| begun.number), Some(4));
        tables.change(1, |process| process.cwd = "/somewhere".into());
        assert!(!tables.remove_thread(20) && tables.remove_thread(2));
        tables.remove_process(2);
        tables.remove_process(1);
        assert_eq!((tables.bytes, tables.refused), (0, 0));
    }

    #[test]
    fn a_strange_process_has_descriptors_and_no_more() {
        let mut tables = Tables::default();
        tables.meet(5);
        tables.hold(5, 3, file("/a"), false);
        assert!(tables.process(5).is_none() && tables.running().is_empty());
        tables.set(5, Process { comm: "sh".into(), ..Process::default() });
        assert!(tables.process(5).is_some() && tables.descriptor(5, 3).is_some());
    }

    #[test]
    fn a_full_table_refuses_and_counts() {
        let mut tables = Tables::default();
        tables.add_process(1, Process::default(), None, false);
        tables.bytes = TABLE_BYTES_MAX;
        tables.hold(1, 3, file("/a"), false);
        tables.add_process(2, Process::default(), Some(1), false);
        tables.begin(1, Begun { number: 2, params: Vec::new() });
        assert!(tables.descriptor(1, 3).is_none() && tables.process(2).is_none() && tables.take_begun(1).is_none());
        assert_eq!(tables.refused(), 3);
    }
}
