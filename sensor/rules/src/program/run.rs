//! Trying an event's rules.

use std::ops::ControlFlow;

use super::Program;
use super::graph::NodeId;
use super::guard::Check;
use super::mask::{intersects, members};
use super::section::{Section, Step, StepOp, Steps};
use crate::compile::Test;
use crate::engine::Context;
use crate::fields::Value;

/// What is needed while an event is tried, kept from one to the next so that nothing is allocated.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// By node, the event it was last found out for, and the outcome in the lowest bit.
    outcomes: Vec<u32>,
    /// The present event's number, doubled.
    stamp: u32,
    alive: Vec<u64>,
    kept: Vec<u64>,
}

/// Who is told how rules fare.
pub(crate) trait Watched {
    /// Rules of this section were tried.
    fn tried(&mut self, section: usize);
    /// What rules share was tried.
    fn passed(&mut self);
    /// Guards let a rule pass, and the rest of it was tried.
    fn reached(&mut self, rule: u32, work: u64);
    /// A rule's condition holds.
    fn holds(&mut self, rule: u32) -> ControlFlow<()>;
}

impl Program {
    /// How many sections there are: what [`Watched::tried`] counts by.
    pub(crate) fn sections(&self) -> usize {
        self.sections.len()
    }

    /// Which rules a section has.
    pub(crate) fn rules_of(&self, section: usize) -> Vec<u32> {
        match &self.sections[section] {
            Section::Program(steps) => steps.rules.iter().map(|rest| rest.rule).collect(),
            Section::Plain(rules) => rules.iter().map(|(rule, _)| *rule).collect(),
        }
    }

    /// Tries the rules of an event's type, in their order, until told to stop.
    pub(crate) fn run<'a>(&'a self, context: &Context<'a>, scratch: &mut Scratch, watched: &mut impl Watched) {
        let Some((place, section)) = self.section(context.event) else { return };
        watched.tried(place);
        match section {
            Section::Program(steps) => run_steps(steps, context, scratch, watched),
            Section::Plain(rules) => {
                for (rule, condition) in rules {
                    watched.reached(*rule, 1);
                    if condition.holds(context) && watched.holds(*rule).is_break() {
                        return;
                    }
                }
            }
        }
    }

    /// Room for any of its sections.
    pub(crate) fn scratch(&self) -> Scratch {
        let lens = || self.sections.iter().map(Section::scratch_len);
        let outcomes = lens().map(|(nodes, _)| nodes).max().unwrap_or_default();
        let words = lens().map(|(_, words)| words).max().unwrap_or_default();
        Scratch { outcomes: vec![0; outcomes], stamp: 0, alive: vec![0; words], kept: vec![0; words] }
    }
}

fn run_steps<'a>(steps: &'a Steps, context: &Context<'a>, scratch: &mut Scratch, watched: &mut impl Watched) {
    scratch.next_event();
    let words = steps.alive.words().len();
    let (alive, kept) = (&mut scratch.alive[..words], &mut scratch.kept[..words]);
    alive.copy_from_slice(steps.alive.words());
    let mut run =
        Run { steps, context, outcomes: &mut scratch.outcomes, stamp: scratch.stamp, values: Vec::new(), work: 0 };
    let lives = run.pass_guards(alive, kept);
    watched.passed();
    if !lives {
        return;
    }
    for place in members(alive) {
        let rest = &steps.rules[place];
        let before = run.work;
        let holds = run.holds(rest.node);
        watched.reached(rest.rule, 1 + run.work - before);
        if holds && watched.holds(rest.rule).is_break() {
            return;
        }
    }
}

impl Scratch {
    #[cfg(test)]
    pub(crate) fn set_stamp(&mut self, stamp: u32) {
        self.stamp = stamp;
    }

    fn next_event(&mut self) {
        self.stamp = self.stamp.wrapping_add(2);
        if self.stamp == 0 {
            // After two billion events the stamps begin anew: nothing may look as if it had been found out for this one.
            self.outcomes.fill(0);
            self.stamp = 2;
        }
    }
}

struct Run<'r, 'a> {
    steps: &'a Steps,
    context: &'r Context<'a>,
    outcomes: &'r mut [u32],
    stamp: u32,
    /// Values that cost something to make, by their number.
    values: Vec<(u32, Option<Value<'a>>)>,
    /// Tests made.
    work: u64,
}

impl<'a> Run<'_, 'a> {
    /// Does any rule live on?
    fn pass_guards(&mut self, alive: &mut [u64], kept: &mut [u64]) -> bool {
        for guard in &self.steps.guards {
            let rules = guard.rules.words();
            if !intersects(alive, rules) {
                continue;
            }
            match &guard.check {
                Check::Node(node) => {
                    if self.holds(*node) {
                        continue;
                    }
                    kept.fill(0);
                }
                Check::Lookup(lookup) => {
                    kept.fill(0);
                    self.work += 1;
                    match lookup.reader.read(self.context) {
                        Some(Value::Text(text)) => lookup.find(&text, kept),
                        Some(Value::AnyText(texts)) => texts.iter().for_each(|text| lookup.find(text, kept)),
                        // Nothing a lookup understands: the rules are tried in full.
                        Some(_) => kept.copy_from_slice(rules),
                        None => {}
                    }
                    for (test, rules) in &lookup.others {
                        // Only where it can save a rule that lives and is not saved yet.
                        let matters = alive.iter().zip(&*kept).zip(rules.words()).any(|((a, k), r)| a & !k & r != 0);
                        if matters && self.holds(*test) {
                            kept.iter_mut().zip(rules.words()).for_each(|(own, word)| *own |= word);
                        }
                    }
                }
            }
            let mut any = 0;
            for ((alive, rules), kept) in alive.iter_mut().zip(rules).zip(&*kept) {
                *alive &= !rules | kept;
                any |= *alive;
            }
            if any == 0 {
                return false;
            }
        }
        alive.iter().any(|word| *word != 0)
    }

    fn holds(&mut self, id: NodeId) -> bool {
        let steps = self.steps;
        let step = &steps.steps[id as usize];
        if !step.is_shared {
            return self.find_out(step);
        }
        let known = self.outcomes[id as usize];
        if known & !1 == self.stamp {
            return known & 1 == 1;
        }
        let outcome = self.find_out(step);
        self.outcomes[id as usize] = self.stamp | u32::from(outcome);
        outcome
    }

    fn find_out(&mut self, step: &'a Step) -> bool {
        let parts = |from: u32, to: u32| &self.steps.parts[from as usize..to as usize];
        match &step.op {
            StepOp::Constant(value) => *value,
            StepOp::Test(test, None) => {
                self.work += 1;
                test.holds(self.context)
            }
            StepOp::Test(test, Some(number)) => {
                self.work += 1;
                self.holds_with(test, *number)
            }
            StepOp::Not(inner) => !self.holds(*inner),
            StepOp::All(from, to) => parts(*from, *to).iter().all(|part| self.holds(*part)),
            StepOp::Any(from, to) => parts(*from, *to).iter().any(|part| self.holds(*part)),
        }
    }

    /// With a value that is read once while the event lasts.
    fn holds_with(&mut self, test: &'a Test, number: u32) -> bool {
        let place = self.values.iter().position(|(own, _)| *own == number).unwrap_or_else(|| {
            self.values.push((number, test.left.read(self.context)));
            self.values.len() - 1
        });
        self.values[place].1.as_ref().is_some_and(|value| test.matcher.matches(value, self.context))
    }
}
