//! The engine: events in, alerts out. It keeps the process table; rules can be swapped under it.
//!
//! Pure: it opens nothing, reads no clock, knows no user database. Names of users and groups are handed to it.

mod cost;
mod table;
pub(crate) mod time;

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::alert::{Alert, Ancestor, ProcessView};
use crate::container::{self, Container};
use crate::event::{Call, Event, EventKind, EventType, Param, Process, Text};
use crate::limits::{ANCESTRY_MAX, CONTAINERS_MAX};
use crate::program::{Scratch, Watched};
use crate::rule_set::RuleSet;
use crate::state::{Found, SnapshotError, State, StateStats};

pub use cost::{Costs, RuleCost, Stopwatch};
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
    /// Keys that a rule over more than one event tells apart.
    pub state_keys_max: usize,
    /// Bytes that what is known of all such rules' events may take, about; each rule has its share.
    pub state_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            processes_max: 131_072,
            exited_max: 8_192,
            exited_keep_ns: 60 * time::SECOND_NS,
            ancestry_max: ANCESTRY_MAX,
            state_keys_max: 65_536,
            state_bytes_max: 64 << 20,
        }
    }
}

/// How many rules may alert of one event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Matching {
    /// All whose condition holds.
    #[default]
    All,
    /// The first in order of definition, as Falco does unless told otherwise.
    First,
}

/// How conditions are tried. Both say the same of every event; tests hold them against each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Evaluator {
    /// All rules as one program per event type, what they share tried once.
    #[default]
    Compiled,
    /// One rule after the other, each condition as it is written.
    Plain,
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
    /// What is said of events before, once a rule alerts that looks at them.
    pub(crate) found: Option<&'a Found>,
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
    /// Where it is not left to the rules.
    matching: Option<Matching>,
    evaluator: Evaluator,
    scratch: Scratch,
    firsts_scratch: Scratch,
    state: State,
    costs: cost::Book,
}

impl Engine {
    /// An engine that knows no process yet. [`Engine::seed`] it before the first event.
    pub fn new(rules: Arc<RuleSet>, limits: Limits) -> Self {
        let table = ProcessTable::new(limits.processes_max, limits.exited_max, limits.exited_keep_ns);
        let mut engine = Self {
            rules: Arc::default(),
            table,
            names: Arc::default(),
            limits,
            events: 0,
            matching: None,
            evaluator: Evaluator::default(),
            scratch: Scratch::default(),
            firsts_scratch: Scratch::default(),
            state: State::default(),
            costs: cost::Book::default(),
        };
        engine.replace_rules(rules);
        engine
    }

    /// Rules in force from the next event on. The process table stays, and what rules over more than one event know, where their name,
    /// source and `cairn:` key stay; what rules cost is counted anew.
    pub fn replace_rules(&mut self, rules: Arc<RuleSet>) {
        self.scratch = rules.program().scratch();
        self.firsts_scratch = rules.firsts().scratch();
        self.state.replace(&rules, &self.limits);
        self.costs.reset(rules.rules().len(), rules.program().sections());
        self.rules = rules;
    }

    /// How many rules may alert of an event, from the next one on, whatever the rules in force say ([`RuleSet::matching`]).
    pub fn set_matching(&mut self, matching: Matching) {
        self.matching = Some(matching);
    }

    fn matching(&self) -> Matching {
        self.matching.unwrap_or(self.rules.matching())
    }

    /// May one rule alone alert of an event?
    pub(crate) fn takes_first(&self) -> bool {
        self.matching() == Matching::First
    }

    /// How conditions are tried, from the next event on.
    pub fn set_evaluator(&mut self, evaluator: Evaluator) {
        self.evaluator = evaluator;
    }

    /// A clock to time rules by, from the next event on; none at first.
    pub fn set_stopwatch(&mut self, stopwatch: Option<Stopwatch>) {
        self.costs.set_stopwatch(stopwatch);
    }

    #[cfg(test)]
    pub(crate) fn set_stamp(&mut self, stamp: u32) {
        self.scratch.set_stamp(stamp);
    }

    /// What the rules in force have cost so far.
    pub fn costs(&self) -> Costs {
        let names = self.rules.rules().iter().map(|rule| rule.name.as_str());
        self.costs.costs(names, |section| self.rules.program().rules_of(section))
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

    /// What rules over more than one event hold and what they lost.
    pub fn state_stats(&self) -> StateStats {
        self.state.stats()
    }

    /// Does any rule in force learn, so that a snapshot is worth keeping?
    pub fn learns(&self) -> bool {
        self.state.learns()
    }

    /// What rules over more than one event know so far, for [`Engine::restore`] after a restart. The process table is not in it.
    pub fn snapshot(&self) -> Vec<u8> {
        self.state.snapshot()
    }

    /// Takes over what the rules in force knew, all of it or nothing; those of which the snapshot says nothing begin anew.
    ///
    /// # Errors
    /// The bytes are no snapshot of this version, or damaged.
    pub fn restore(&mut self, snapshot: &[u8]) -> Result<(), SnapshotError> {
        self.state.restore(snapshot)
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
        self.handle_and_look(event, |_, _| ()).0
    }

    /// The same, and lets somebody see what the rules see, before the event changes the process table.
    pub(crate) fn handle_and_look<T>(
        &mut self,
        event: &Event,
        look: impl FnOnce(&RuleSet, &Context<'_>) -> T,
    ) -> (Vec<Alert>, T) {
        self.events += 1;
        // What a call changes about its process is so before rules look at it, as with Falco; of an exec the copy serves when the
        // table is full.
        let executed = match &event.kind {
            EventKind::Exec(exec) => Some(self.table.exec(event.pid, exec.process.clone(), event.time_ns)),
            EventKind::Call(call) => {
                if let Some(change) = &call.change {
                    // A process can be seen before the call that made it has returned to its parent.
                    if let Some(made) = &change.made {
                        self.table.fork(made.by, &made.fork, event.time_ns);
                    }
                    self.table.change(event.pid, change);
                }
                self.learn(call);
                None
            }
            _ => None,
        };
        let said = self.try_rules(event, executed.as_ref(), look);
        match &event.kind {
            EventKind::Fork(fork) => self.table.fork(event.pid, fork, event.time_ns),
            EventKind::Exit(_) => self.table.exit(event.pid, event.time_ns),
            EventKind::Call(_) | EventKind::Exec(_) | EventKind::Open(_) | EventKind::Document(_) => {}
        }
        said
    }

    /// Captures of Falco's say what they know of a container when it begins.
    fn learn(&mut self, call: &Call) {
        let json = match call.event_type {
            EventType::CONTAINER => call.param("json"),
            EventType::ASYNCEVENT if call.param("name") == Some(&Param::Text("container".into())) => call.param("data"),
            _ => return,
        };
        let Some(Param::Text(json)) = json else { return };
        if let Some((id, container)) = container::of_falco(json.as_bytes())
            && (self.names.containers.len() < CONTAINERS_MAX || self.names.containers.contains_key(&id))
        {
            Arc::make_mut(&mut self.names).containers.insert(id, container);
        }
    }

    fn try_rules<T>(
        &mut self,
        event: &Event,
        executed: Option<&Tracked>,
        look: impl FnOnce(&RuleSet, &Context<'_>) -> T,
    ) -> (Vec<Alert>, T) {
        let matching = self.matching();
        let Self { rules, table, names, scratch, firsts_scratch, state, costs, .. } = self;
        state.tick(event);
        let context = Context {
            event,
            number: self.events,
            // A document is nobody's: its source has no processes.
            process: match event.kind {
                EventKind::Document(_) => None,
                _ => executed.or_else(|| table.current(event.pid)),
            },
            table,
            names,
            ancestry_max: self.limits.ancestry_max,
            found: None,
        };
        let seen = look(rules, &context);
        costs.begin();
        let mut trial = Trial { rules, context: &context, matching, costs, state, alerts: Vec::new() };
        match self.evaluator {
            Evaluator::Compiled => rules.program().run(&context, scratch, &mut trial),
            Evaluator::Plain => trial.plainly(event),
        }
        let alerts = trial.alerts;
        // Last: an event is not its own successor.
        if !rules.sequences().is_empty() {
            let mut firsts = Firsts { rules, context: &context, state };
            match self.evaluator {
                Evaluator::Compiled => rules.firsts().run(&context, firsts_scratch, &mut firsts),
                Evaluator::Plain => firsts.plainly(),
            }
        }
        (alerts, seen)
    }
}

/// The rules tried on one event, and what came of it.
struct Trial<'t, 'a> {
    rules: &'t RuleSet,
    context: &'t Context<'a>,
    matching: Matching,
    costs: &'t mut cost::Book,
    state: &'t mut State,
    alerts: Vec<Alert>,
}

impl Trial<'_, '_> {
    fn plainly(&mut self, event: &Event) {
        let rules = self.rules;
        for number in rules.for_event(event) {
            self.costs.rule_tried(*number);
            let holds = rules.numbered(*number).condition.holds(self.context);
            self.reached(*number, 1);
            if holds && self.holds(*number).is_break() {
                return;
            }
        }
    }
}

impl Watched for Trial<'_, '_> {
    fn tried(&mut self, section: usize) {
        self.costs.section_tried(section);
    }

    fn passed(&mut self) {
        self.costs.guards_passed();
    }

    fn reached(&mut self, rule: u32, work: u64) {
        self.costs.reached(rule, work);
    }

    fn holds(&mut self, rule: u32) -> ControlFlow<()> {
        self.costs.held(rule);
        let held = self.rules.numbered(rule);
        match &held.stateful {
            None => self.alerts.push(Alert::new(held, self.context)),
            Some(stateful) => {
                // Silent, it is as if the rule had not held: the next one may alert.
                let Some(found) = self.state.judge(rule, stateful, self.context) else {
                    self.costs.skip();
                    return ControlFlow::Continue(());
                };
                self.alerts.push(Alert::new(held, &Context { found: Some(&found), ..*self.context }));
            }
        }
        self.costs.skip();
        match self.matching {
            Matching::All => ControlFlow::Continue(()),
            Matching::First => ControlFlow::Break(()),
        }
    }
}

/// The first events of sequences, kept for those that follow.
struct Firsts<'t, 'a> {
    rules: &'t RuleSet,
    context: &'t Context<'a>,
    state: &'t mut State,
}

impl Firsts<'_, '_> {
    fn plainly(&mut self) {
        let event = self.context.event;
        let rules = self.rules;
        for number in rules.sequences() {
            let asked = rules.numbered(*number).sequence_begun_by(event);
            if asked.is_some_and(|asked| asked.after.holds(self.context)) {
                let _ = self.holds(*number);
            }
        }
    }
}

impl Watched for Firsts<'_, '_> {
    fn tried(&mut self, _: usize) {}

    fn passed(&mut self) {}

    fn reached(&mut self, _: u32, _: u64) {}

    fn holds(&mut self, rule: u32) -> ControlFlow<()> {
        if let Some(stateful) = &self.rules.numbered(rule).stateful {
            self.state.first(rule, stateful, self.context);
        }
        ControlFlow::Continue(())
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
