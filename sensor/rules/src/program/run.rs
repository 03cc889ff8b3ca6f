//! Trying an event's rules.

use std::ops::ControlFlow;

use super::Program;
use super::graph::NodeId;
use super::guard::Check;
use super::lookup::Lookup;
use super::mask::{Words, intersects, matters, members, unite};
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
            Section::Program(steps) => match steps.alive.size() {
                1 => run_steps::<1>(steps, context, scratch, watched),
                2 => run_steps::<2>(steps, context, scratch, watched),
                8 => run_steps::<8>(steps, context, scratch, watched),
                _ => run_steps::<160>(steps, context, scratch, watched),
            },
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
        let nodes = self.sections.iter().map(Section::nodes).max().unwrap_or_default();
        Scratch { outcomes: vec![0; nodes], stamp: 0 }
    }
}

fn run_steps<'a, const N: usize>(
    steps: &'a Steps,
    context: &Context<'a>,
    scratch: &mut Scratch,
    watched: &mut impl Watched,
) {
    scratch.next_event();
    let mut run =
        Run { steps, context, outcomes: &mut scratch.outcomes, stamp: scratch.stamp, values: Vec::new(), work: 0 };
    let mut alive: Words<N> = *steps.alive.words();
    run.pass_guards(&mut alive);
    watched.passed();
    for place in members(&alive) {
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
    /// Takes the rules out that cannot hold.
    fn pass_guards<const N: usize>(&mut self, alive: &mut Words<N>) {
        for guard in &self.steps.guards {
            let rules: &Words<N> = guard.rules.words();
            if !intersects(alive, rules) {
                continue;
            }
            let mut kept = [0; N];
            match &guard.check {
                Check::Node(node) => {
                    if self.holds(*node) {
                        continue;
                    }
                }
                Check::Lookups(lookups) => {
                    for lookup in lookups {
                        // Only where it can save a rule that lives and is not saved yet.
                        if matters(alive, &kept, lookup.rules.words()) {
                            self.look_up(lookup, alive, &mut kept);
                        }
                    }
                }
            }
            (0..N).for_each(|word| alive[word] &= !rules[word] | kept[word]);
            if *alive == [0; N] {
                return;
            }
        }
    }

    fn look_up<const N: usize>(&mut self, lookup: &'a Lookup, alive: &Words<N>, kept: &mut Words<N>) {
        self.work += 1;
        match lookup.reader.read(self.context) {
            Some(Value::Text(text)) => lookup.find(&text, alive, kept),
            Some(Value::AnyText(texts)) => texts.iter().for_each(|text| lookup.find(text, alive, kept)),
            // Nothing a lookup understands: the rules are tried in full.
            Some(_) => unite(kept, lookup.rules.words()),
            None => return,
        }
        for (test, rules) in &lookup.others {
            let rules: &Words<N> = rules.words();
            if matters(alive, kept, rules) && self.holds(*test) {
                unite(kept, rules);
            }
        }
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
