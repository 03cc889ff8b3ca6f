//! The engine: events in, alerts out. It keeps the process table; rules can be swapped under it.
//!
//! Pure: it opens nothing, reads no clock, knows no user database. Names of users and groups are handed to it.

mod table;
pub(crate) mod time;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::alert::{Alert, Ancestor, ProcessView};
use crate::container::Container;
use crate::event::{Event, EventKind, Process, Text};
use crate::limits::ANCESTRY_MAX;
use crate::rule_set::RuleSet;

pub use table::TableStats;
pub(crate) use table::{ProcessTable, Tracked};

/// Bounds of an engine's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Processes kept, ended ones included.
    pub processes_max: usize,
    /// Ended processes kept for lookups by late events, those with living descendants not counted against it.
    pub exited_max: usize,
    /// How long an ended process without descendants is kept, in nanoseconds of event time.
    pub exited_keep_ns: u64,
    /// Ancestors a rule or an alert can see.
    pub ancestry_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            processes_max: 131_072,
            exited_max: 8_192,
            exited_keep_ns: 60 * time::SECOND_NS,
            ancestry_max: ANCESTRY_MAX,
        }
    }
}

/// Names for the host's numbers; whoever owns the engine reads them from `/etc/passwd` and `/etc/group`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// User names by uid.
    pub users: HashMap<u32, String>,
    /// Group names by gid.
    pub groups: HashMap<u32, String>,
    /// The machine's name: `evt.hostname`.
    pub hostname: Option<String>,
    /// Names that addresses are known by, for `fd.sip.name` and its like.
    pub hosts: HashMap<IpAddr, Vec<String>>,
    /// What is known of containers, by the id that processes carry.
    pub containers: HashMap<Text, Container>,
}

/// What a field is read from.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) event: &'a Event,
    pub(crate) number: u64,
    pub(crate) process: Option<&'a Tracked>,
    pub(crate) table: &'a ProcessTable,
    pub(crate) names: &'a Names,
    pub(crate) ancestry_max: usize,
}

impl<'a> Context<'a> {
    /// The n-th ancestor: 0 is the process itself.
    pub(crate) fn ancestor(&self, index: usize) -> Option<&'a Tracked> {
        match index {
            0 => self.process,
            _ => self.ancestors().nth(index - 1),
        }
    }

    /// The parent, its parent, and so on.
    pub(crate) fn ancestors(&self) -> impl Iterator<Item = &'a Tracked> + use<'a> {
        let table = self.table;
        let first = self.process.and_then(|process| table.parent(process));
        std::iter::successors(first, move |process| table.parent(process)).take(self.ancestry_max)
    }

    pub(crate) fn session_leader(&self) -> Option<&'a Tracked> {
        self.leader(self.process?.image.process.sid?)
    }

    pub(crate) fn group_leader(&self) -> Option<&'a Tracked> {
        self.leader(self.process?.image.process.pgid?)
    }

    fn leader(&self, pid: u32) -> Option<&'a Tracked> {
        let process = self.process?;
        if process.key.pid == pid { Some(process) } else { self.table.current(pid) }
    }
}

/// A set of rules over a process table.
#[derive(Debug)]
pub struct Engine {
    rules: Arc<RuleSet>,
    table: ProcessTable,
    names: Arc<Names>,
    limits: Limits,
    events: u64,
}

impl Engine {
    /// An engine that knows no process yet. [`Engine::seed`] it before the first event.
    pub fn new(rules: Arc<RuleSet>, limits: Limits) -> Self {
        let table = ProcessTable::new(limits.processes_max, limits.exited_max, limits.exited_keep_ns);
        Self { rules, table, names: Arc::default(), limits, events: 0 }
    }

    /// Rules in force from the next event on. The process table stays.
    pub fn replace_rules(&mut self, rules: Arc<RuleSet>) {
        self.rules = rules;
    }

    /// The rules in force.
    pub fn rules(&self) -> &Arc<RuleSet> {
        &self.rules
    }

    /// User, group and host names from now on.
    pub fn set_names(&mut self, names: Arc<Names>) {
        self.names = names;
    }

    /// Processes that run already, with their pids, in any order. What events have said of a process is kept.
    pub fn seed(&mut self, processes: impl IntoIterator<Item = (u32, Process)>) {
        for (pid, process) in processes {
            self.table.seed(pid, process);
        }
        self.table.link_seeds();
    }

    /// What the process table holds and what it lost.
    pub fn stats(&self) -> TableStats {
        self.table.stats()
    }

    /// Events handled so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Is this pid's process known?
    pub fn knows(&self, pid: u32) -> bool {
        self.table.current(pid).is_some()
    }

    /// Takes one event in and tries every rule its type concerns, in the order they are defined.
    pub fn handle(&mut self, event: &Event) -> Vec<Alert> {
        self.events += 1;
        // An exec changes the process before rules look at it; the copy serves when the table is full.
        let executed = match &event.kind {
            EventKind::Exec(exec) => Some(self.table.exec(event.pid, exec.process.clone(), event.time_ns)),
            _ => None,
        };
        let alerts = self.try_rules(event, executed.as_ref());
        match &event.kind {
            EventKind::Fork(fork) => self.table.fork(event.pid, fork, event.time_ns),
            EventKind::Exit(_) => self.table.exit(event.pid, event.time_ns),
            EventKind::Call(call) => {
                if let Some(change) = &call.change {
                    self.table.change(event.pid, change);
                }
            }
            EventKind::Exec(_) | EventKind::Open(_) | EventKind::Document(_) => {}
        }
        alerts
    }

    fn try_rules(&self, event: &Event, executed: Option<&Tracked>) -> Vec<Alert> {
        let context = Context {
            event,
            number: self.events,
            // A document is nobody's: its source has no processes.
            process: match event.kind {
                EventKind::Document(_) => None,
                _ => executed.or_else(|| self.table.current(event.pid)),
            },
            table: &self.table,
            names: &self.names,
            ancestry_max: self.limits.ancestry_max,
        };
        let mut alerts = Vec::new();
        for rule in self.rules.for_event(event) {
            if rule.condition.holds(&context) {
                alerts.push(Alert::new(rule, &context));
            }
        }
        alerts
    }
}

impl ProcessView {
    pub(crate) fn new(context: &Context<'_>) -> Self {
        let Some(tracked) = context.process else {
            return Self { pid: context.event.pid, ..Self::default() };
        };
        let process = &tracked.image.process;
        Self {
            pid: tracked.key.pid,
            start_ns: tracked.key.start_ns,
            ppid: tracked.ppid,
            name: process.comm.clone(),
            exe: process.exepath.clone(),
            args: process.args.clone(),
            args_truncated: process.args_truncated,
            cmdline: tracked.image.cmdline.to_vec().into(),
            uid: process.uid,
            gid: process.gid,
            loginuid: process.loginuid,
            cwd: process.cwd.clone(),
            tty: process.tty,
            container: process.container.clone(),
            ancestry: context.ancestors().map(Ancestor::new).collect(),
        }
    }
}

impl Ancestor {
    fn new(tracked: &Tracked) -> Self {
        let process = &tracked.image.process;
        Self {
            pid: tracked.key.pid,
            start_ns: tracked.key.start_ns,
            exe: process.exepath.clone(),
            name: process.comm.clone(),
            cmdline: tracked.image.cmdline.to_vec().into(),
        }
    }
}
