//! Decides, value by value, what every alert is. Pure: it is given frames, statuses and the time, and
//! returns steps. The live service and the backtest run this very code.
//!
//! Which column of a frame matters to which rule is worked out once for each layout and set of rules; from
//! then on a frame costs one look at each column that some rule watches.

use std::collections::HashMap;
use std::sync::Arc;

use model::{Frame, Layout, LayoutId, LogEvent, MachineId, MachineStatus, Series, UnixMillis};

use crate::alert::{Alert, AlertId, Cause, Change, Identity};
use crate::lifecycle::{Lifecycle, Phase};
use crate::rule::{Rule, RuleId};

mod instance;
mod machine;
mod occurrences;
mod points;
mod projection;
mod watched;

use machine::{Machine, OTHER_SERVICES};
use projection::Projections;
pub use watched::Tally;
use watched::Watched;

/// Values older than the newest of their machine by more than this are late, and windows close this long
/// after their end.
pub const WATERMARK_MS: i64 = 5000;

/// Log events that are older than this when they come are late, as are those that the window of their rule has
/// left behind: they neither raise nor resolve anything.
pub const LOG_LATE_MS: i64 = 60_000;

/// What the engine saw and left out, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub frames: u64,
    pub evaluations: u64,
    /// Frames that came too late to raise or resolve anything.
    pub late_frames: u64,
    /// Log events that rules asked for and that came too late.
    pub late_logs: u64,
    /// Series that a rule leaves out because it watches as many as it may.
    pub series_over_limit: u64,
}

/// Knows every machine, rule and alert. Owned by one task.
#[derive(Debug)]
pub struct Engine {
    projections: Projections,
    machines: HashMap<MachineId, Machine>,
    /// Series that each rule watches.
    watched: Watched,
    /// Nothing before this moment was seen: a machine cannot have been offline for longer, as far as we know.
    since: UnixMillis,
    counters: Counters,
}

/// An alert as it was kept, to go on with.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    pub rule: RuleId,
    pub machine: MachineId,
    pub series: Option<Series>,
    pub life: Lifecycle,
    pub value: f64,
    pub peak: f64,
}

impl Engine {
    pub fn new(series_per_rule_max: usize, since: UnixMillis) -> Self {
        Self::beside(Tally::default(), series_per_rule_max, since)
    }

    /// One of several in a process: a rule watches at most so many series in all of them together.
    pub fn beside(others: Tally, series_per_rule_max: usize, since: UnixMillis) -> Self {
        Self {
            projections: Projections::default(),
            machines: HashMap::new(),
            watched: Watched::new(series_per_rule_max, others),
            since,
            counters: Counters::default(),
        }
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    pub fn rules(&self) -> &[Arc<Rule>] {
        self.projections.rules()
    }

    pub fn knows(&self, machine: MachineId) -> bool {
        self.machines.contains_key(&machine)
    }

    /// Every machine, with what it is called.
    pub fn identities(&self) -> impl Iterator<Item = (MachineId, &Identity)> {
        self.machines.iter().map(|(id, machine)| (*id, machine.identity()))
    }

    pub fn identity(&self, machine: MachineId) -> Option<&Identity> {
        self.machines.get(&machine).map(Machine::identity)
    }

    /// Puts these rules in force; disabled ones are left out. Alerts of rules that changed go on where they
    /// still apply; the others are withdrawn.
    pub fn set_rules(&mut self, rules: &[Arc<Rule>], at: UnixMillis, out: &mut Vec<Change>) {
        let enabled = rules.iter().filter(|rule| rule.spec.enabled).cloned().collect();
        self.projections.set_rules(enabled);
        for (id, machine) in &mut self.machines {
            machine.adopt(*id, self.projections.rules(), at, out);
        }
        self.recount();
    }

    /// Makes a machine known, or tells that its name or labels changed.
    pub fn set_machine(
        &mut self,
        id: MachineId,
        identity: Identity,
        at: UnixMillis,
        out: &mut Vec<Change>,
    ) {
        let machine = self.machines.entry(id).or_default();
        if *machine.identity() == identity && machine.is_adopted() {
            return;
        }
        machine.set_identity(identity);
        machine.adopt(id, self.projections.rules(), at, out);
        self.recount();
    }

    pub fn set_status(
        &mut self,
        id: MachineId,
        status: MachineStatus,
        since: UnixMillis,
        out: &mut Vec<Change>,
    ) {
        let since = since.max(self.since);
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.set_status(id, status, since, out);
        }
    }

    pub fn remove_machine(&mut self, id: MachineId, at: UnixMillis, out: &mut Vec<Change>) {
        if let Some(mut machine) = self.machines.remove(&id) {
            machine.withdraw_all(id, at, Cause::MachineRemoved, out);
            self.recount();
        }
    }

    /// Goes on with an alert from before a restart. Its rule and machine must be known; false when they are
    /// not, and then the alert is over.
    pub fn restore(&mut self, kept: Kept) -> bool {
        let rule = self.projections.rules().iter().find(|rule| rule.id == kept.rule).cloned();
        match (rule, self.machines.get_mut(&kept.machine)) {
            (Some(rule), Some(machine)) => machine.restore(rule, kept, self.since),
            _ => false,
        }
    }

    /// Takes a frame in. `late`: whoever published it says that it must not raise or resolve anything.
    pub fn observe(
        &mut self,
        id: MachineId,
        layout: &Layout,
        frame: &Frame,
        late: bool,
        received: UnixMillis,
        out: &mut Vec<Change>,
    ) {
        let Some(machine) = self.machines.get_mut(&id) else { return };
        if layout.len() != frame.values.len() {
            return;
        }
        self.counters.frames += 1;
        if machine.needs_binding(layout.id(), self.projections.generation()) {
            // A late frame says nothing about when its series should have been heard of.
            let from = if late { received.max(frame.time) } else { frame.time };
            self.counters.series_over_limit +=
                machine.bind(id, layout, from, &mut self.projections, &mut self.watched);
        }
        machine.observe(id, frame, late, received, &mut self.counters, out);
    }

    /// Takes log events in.
    pub fn observe_logs(
        &mut self,
        id: MachineId,
        events: &[LogEvent],
        received: UnixMillis,
        out: &mut Vec<Change>,
    ) {
        let rules = self.projections.log_rules();
        let Some(machine) = self.machines.get_mut(&id).filter(|_| !rules.is_empty()) else {
            return;
        };
        for rule in rules {
            let mut found = machine.find(id, rule, events, received, &mut self.counters);
            // In the order of their times within each service, whatever order they came in.
            found.sort_unstable();
            let mut others = Vec::new();
            let mut count = |machine: &mut Machine, service, times: &[UnixMillis]| {
                let times = times.iter().copied();
                match machine.count_logs(id, rule, service, times, &mut self.watched, out) {
                    Some(late) => self.counters.late_logs += late,
                    None => self.counters.series_over_limit += 1,
                }
            };
            for group in found.chunk_by(|a, b| a.0 == b.0) {
                let service = group[0].0;
                let times: Vec<_> = group.iter().map(|(_, time)| *time).collect();
                match machine.tells_apart(id, rule, service) {
                    true => count(machine, service, &times),
                    false => others.extend(times),
                }
            }
            if !others.is_empty() {
                others.sort_unstable();
                count(machine, OTHER_SERVICES, &others);
            }
        }
    }

    /// One log event that this rule's query finds, in its order of time.
    pub(crate) fn observe_found(
        &mut self,
        id: MachineId,
        service: &str,
        time: UnixMillis,
        out: &mut Vec<Change>,
    ) {
        let Some(machine) = self.machines.get_mut(&id) else { return };
        for rule in self.projections.log_rules() {
            let apart = machine.tells_apart(id, rule, service);
            let service = if apart { service } else { OTHER_SERVICES };
            machine.count_logs(id, rule, service, [time].into_iter(), &mut self.watched, out);
        }
    }

    /// Lets time pass. Call it once a second, at whole seconds.
    pub fn tick(&mut self, now: UnixMillis, out: &mut Vec<Change>) {
        // Forgetting what is long gone is rare work; it need not be done every second.
        let forget = now.0.rem_euclid(600_000) < 1000;
        for (id, machine) in &mut self.machines {
            machine.tick(*id, now, &mut self.counters, out);
            if forget {
                machine.forget(now);
            }
        }
        if forget {
            self.recount();
            self.projections.forget();
        }
    }

    /// Alerts that are neither inactive nor resolved, in any order.
    pub fn active(&self) -> Vec<Alert> {
        let mut alerts = Vec::new();
        for (id, machine) in &self.machines {
            machine.active(*id, &mut alerts);
        }
        alerts
    }

    pub fn alert(&self, id: AlertId) -> Option<Alert> {
        self.machines.iter().find_map(|(machine, m)| m.alert(*machine, id))
    }

    /// Series that a rule like this would watch now, at most `max` counted.
    pub fn count_matches(&self, rule: &Rule, max: usize) -> usize {
        let mut count = 0;
        for (id, machine) in &self.machines {
            count += machine.count_matches(*id, rule);
            if count >= max {
                break;
            }
        }
        count
    }

    /// Whether some machine sends this metric now.
    pub fn has_metric(&self, name: &str) -> bool {
        self.machines.values().any(|machine| machine.has_metric(name))
    }

    fn recount(&mut self) {
        let mut watched = HashMap::new();
        for machine in self.machines.values() {
            machine.count_watched(&mut watched);
        }
        self.watched.replace(watched);
    }
}

#[cfg(test)]
mod tests;
