//! One machine: its columns, its instances, and whether it is there.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::instance::{Instance, Owner};
use super::projection::Projections;
use super::watched::Watched;
use super::{
    Alert, AlertId, Cause, Change, Counters, Frame, Identity, Kept, LOG_LATE_MS, Layout, LayoutId,
    Lifecycle, LogEvent, MachineId, MachineStatus, Phase, Rule, RuleId, Series, UnixMillis,
    WATERMARK_MS,
};
use crate::rule::{Condition, LogCount};

/// An instance that is calm and was not heard of for this long is forgotten.
const FORGET_AFTER_MS: i64 = 60 * 60 * 1000;
/// Services of one machine that a rule about logs tells apart: what a machine calls its services must not use up
/// what the rule may watch of all. Those beyond are counted together, as in `muster.log.events`.
const LOG_SERVICES_MAX: usize = 100;
pub(super) const OTHER_SERVICES: &str = "(others)";
/// A clock that is off by less is taken for latency.
const CLOCK_TOLERANCE_MS: i64 = 5000;

#[derive(Debug, Default)]
pub(super) struct Machine {
    identity: Arc<Identity>,
    adopted: bool,
    status: Option<MachineStatus>,
    /// Its clock minus ours, when that is more than latency.
    clock_ahead_ms: i64,
    /// Time of its newest frame, by its own clock.
    newest: Option<UnixMillis>,
    bindings: HashMap<LayoutId, Binding>,
    instances: Vec<Instance>,
    index: HashMap<AlertId, u32>,
    divisors: Vec<Divisor>,
}

/// Where the columns of one layout go.
#[derive(Debug)]
struct Binding {
    generation: u64,
    layout: Layout,
    newest: UnixMillis,
    /// Times of the frames that were taken in and are newer than the watermark: a frame that comes again after a
    /// connection broke must not count twice.
    recent: VecDeque<UnixMillis>,
    /// Column and instance.
    watched: Box<[(u32, u32)]>,
    /// Column and divisor.
    divisors: Box<[(u32, u32)]>,
}

/// The latest value of a series that rules divide by.
#[derive(Debug)]
struct Divisor {
    series: Series,
    value: f64,
}

impl Machine {
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(super) fn set_identity(&mut self, identity: Identity) {
        self.identity = Arc::new(identity);
    }

    pub(super) fn is_adopted(&self) -> bool {
        self.adopted
    }

    /// Brings the instances in line with the rules and with what the machine is called.
    pub(super) fn adopt(
        &mut self,
        id: MachineId,
        rules: &[Arc<Rule>],
        at: UnixMillis,
        out: &mut Vec<Change>,
    ) {
        self.adopted = true;
        let identity = Arc::clone(&self.identity);
        let owner = Owner { machine: id, identity: &identity };
        let at = at + self.clock_ahead_ms;
        self.instances.retain_mut(|instance| {
            let rule = rules.iter().find(|rule| rule.id == instance.rule.id);
            match rule.filter(|rule| applies(rule, id, &identity, instance.series())) {
                Some(rule) => {
                    instance.follow(owner, rule, out);
                    true
                }
                None => {
                    instance.withdraw(owner, at, Cause::Rule, out);
                    false
                }
            }
        });
        self.reindex();
        for rule in rules {
            let about_machine = matches!(rule.spec.condition, Condition::Offline { .. });
            if about_machine && applies(rule, id, &identity, None) {
                let instance = Instance::new(id, Arc::clone(rule), None, at);
                self.add(instance);
            }
        }
        // A rule that is new learns at once how the machine is.
        if let Some(status) = self.status {
            self.tell_offline(owner, status, at, out);
        }
    }

    fn reindex(&mut self) {
        self.index = (0..).zip(&self.instances).map(|(place, i)| (i.id, place)).collect();
        // Their places moved: every binding is made again with its next frame.
        for binding in self.bindings.values_mut() {
            binding.generation = 0;
        }
    }

    fn add(&mut self, instance: Instance) -> u32 {
        if let Some(place) = self.index.get(&instance.id) {
            return *place;
        }
        let place = self.instances.len() as u32;
        self.index.insert(instance.id, place);
        self.instances.push(instance);
        place
    }

    pub(super) fn restore(&mut self, rule: Arc<Rule>, kept: Kept, since: UnixMillis) -> bool {
        if !applies(&rule, kept.machine, &self.identity, kept.series.as_ref()) {
            return false;
        }
        let place = match kept.series.map(|series| Layout::new(vec![series])) {
            None => None,
            Some(Ok(layout)) => Some((layout, 0)),
            Some(Err(_)) => return false,
        };
        let place = self.add(Instance::new(kept.machine, rule, place, since));
        self.instances[place as usize].resume(kept.life, kept.value, kept.peak, since);
        true
    }

    pub(super) fn needs_binding(&self, layout: LayoutId, generation: u64) -> bool {
        self.bindings.get(&layout).is_none_or(|binding| binding.generation != generation)
    }

    /// Ties the layout's columns to instances. Returns how many series rules left out because they watch as
    /// many as they may.
    pub(super) fn bind(
        &mut self,
        id: MachineId,
        layout: &Layout,
        from: UnixMillis,
        projections: &mut Projections,
        watched_by_rule: &mut Watched,
    ) -> u64 {
        let projection = projections.of(layout);
        let mut over_limit = 0;
        let mut watched = Vec::with_capacity(projection.watched.len());
        for (column, place) in &projection.watched {
            let rule = &projections.rules()[*place as usize];
            if !self.identity.accepted_by(id, &rule.spec.machines) {
                continue;
            }
            let series = &layout.series()[*column as usize];
            let known = self.index.get(&AlertId::of(&rule.id, id, Some(series))).copied();
            let instance = match known {
                Some(instance) => instance,
                None => {
                    if !watched_by_rule.admit(&rule.id) {
                        over_limit += 1;
                        continue;
                    }
                    let place = Some((layout.clone(), *column));
                    self.add(Instance::new(id, Arc::clone(rule), place, from))
                }
            };
            watched.push((*column, instance));
        }
        let divisors = projection.divisors.iter();
        let divisors =
            divisors.map(|c| (*c, self.divisor(&layout.series()[*c as usize]))).collect();
        let before = self.bindings.remove(&layout.id());
        let (newest, recent) =
            before.map_or((UnixMillis::MIN, VecDeque::new()), |b| (b.newest, b.recent));
        let binding = Binding {
            generation: projections.generation(),
            layout: layout.clone(),
            newest,
            recent,
            watched: watched.into(),
            divisors,
        };
        self.bindings.insert(layout.id(), binding);
        over_limit
    }

    fn divisor(&mut self, series: &Series) -> u32 {
        let known = self.divisors.iter().position(|d| d.series == *series);
        known.unwrap_or_else(|| {
            self.divisors.push(Divisor { series: series.clone(), value: f64::NAN });
            self.divisors.len() - 1
        }) as u32
    }

    pub(super) fn observe(
        &mut self,
        id: MachineId,
        frame: &Frame,
        late: bool,
        received: UnixMillis,
        counters: &mut Counters,
        out: &mut Vec<Change>,
    ) {
        let Some(binding) = self.bindings.get_mut(&frame.layout) else { return };
        let owner = Owner { machine: id, identity: &self.identity };
        let time = frame.time;
        let newest = self.newest.unwrap_or(UnixMillis::MIN);
        if late || time <= binding.newest || self.newest.is_some() && time < newest - WATERMARK_MS {
            counters.late_frames += 1;
            let in_time = self.newest.is_some() && time >= newest - WATERMARK_MS;
            if in_time && !binding.recent.contains(&time) {
                binding.recent.push_back(time);
                for (column, place) in &binding.watched {
                    let value = frame.values[*column as usize];
                    let instance = &mut self.instances[*place as usize];
                    if let Some(value) = divided(instance, value, &self.divisors)
                        && !value.is_nan()
                    {
                        instance.take_older(time, value);
                    }
                }
            }
            return;
        }
        binding.newest = time;
        self.newest = Some(newest.max(time));
        binding.recent.retain(|recent| *recent >= newest.max(time) - WATERMARK_MS);
        binding.recent.push_back(time);
        let ahead = time.since(received);
        self.clock_ahead_ms = if ahead.abs() > CLOCK_TOLERANCE_MS { ahead } else { 0 };
        let watermark = newest.max(time) - WATERMARK_MS;
        for (column, place) in &binding.divisors {
            let value = frame.values[*column as usize];
            if !value.is_nan() {
                self.divisors[*place as usize].value = value;
            }
        }
        for (column, place) in &binding.watched {
            let value = frame.values[*column as usize];
            if value.is_nan() {
                continue;
            }
            let instance = &mut self.instances[*place as usize];
            if let Some(value) = divided(instance, value, &self.divisors) {
                counters.evaluations += 1;
                instance.take(owner, time, value, watermark, out);
            }
        }
    }

    /// Service and time of the events that the rule asks for, without those that come too late.
    pub(super) fn find<'a>(
        &self,
        id: MachineId,
        rule: &Rule,
        events: &'a [LogEvent],
        received: UnixMillis,
        counters: &mut Counters,
    ) -> Vec<(&'a str, UnixMillis)> {
        let Some(log) = rule.spec.log().filter(|log| self.may_log(id, rule, log)) else {
            return Vec::new();
        };
        let now = received + self.clock_ahead_ms;
        // A service that nothing was heard of has no window that moved on; it is not to be told of what is over.
        let oldest = now - LOG_LATE_MS.min(log.window_ms + WATERMARK_MS);
        let mut found = Vec::new();
        for event in events.iter().filter(|event| log.query.accepts_event(event)) {
            match event.time < oldest {
                true => counters.late_logs += 1,
                false => found.push((event.service.as_str(), event.time.min(now))),
            }
        }
        found
    }

    fn may_log(&self, id: MachineId, rule: &Rule, log: &LogCount) -> bool {
        self.identity.accepted_by(id, &rule.spec.machines)
            && (!log.query.names_machines()
                || log.query.accepts_machine(&self.identity.host_name, &id.to_string()))
    }

    /// Whether the events of this service are counted by themselves.
    pub(super) fn tells_apart(&self, id: MachineId, rule: &Rule, service: &str) -> bool {
        let of_it = |series| self.index.contains_key(&AlertId::of(&rule.id, id, Some(&series)));
        let services = self.instances.iter().filter(|instance| instance.rule.id == rule.id);
        services.count() < LOG_SERVICES_MAX || LogCount::series(service).is_some_and(of_it)
    }

    /// Counts events of one service. Returns how many came too late for the window; `None` when the rule watches
    /// as many as it may already.
    pub(super) fn count_logs(
        &mut self,
        id: MachineId,
        rule: &Arc<Rule>,
        service: &str,
        times: impl Iterator<Item = UnixMillis>,
        watched_by_rule: &mut Watched,
        out: &mut Vec<Change>,
    ) -> Option<u64> {
        // A name that cannot be a label is one that history would not take either.
        let Some(series) = LogCount::series(service) else { return Some(0) };
        let known = self.index.get(&AlertId::of(&rule.id, id, Some(&series))).copied();
        let place = match known {
            Some(place) => place,
            None => {
                let Ok(layout) = Layout::new(vec![series]) else { return Some(0) };
                if !watched_by_rule.admit(&rule.id) {
                    return None;
                }
                let from = self.newest.unwrap_or(UnixMillis::MIN);
                self.add(Instance::new(id, Arc::clone(rule), Some((layout, 0)), from))
            }
        };
        let owner = Owner { machine: id, identity: &self.identity };
        let instance = &mut self.instances[place as usize];
        let late = times.filter(|time| !instance.take_log(owner, *time, out));
        Some(late.count() as u64)
    }

    pub(super) fn set_status(
        &mut self,
        id: MachineId,
        status: MachineStatus,
        since: UnixMillis,
        out: &mut Vec<Change>,
    ) {
        let was_away = self.status.is_some_and(is_away);
        self.status = Some(status);
        let at = since + self.clock_ahead_ms;
        let identity = Arc::clone(&self.identity);
        let owner = Owner { machine: id, identity: &identity };
        for instance in self.instances.iter_mut().filter(|i| i.place.is_some()) {
            match (was_away, is_away(status)) {
                (false, true) => instance.lose_sight(owner, at, out),
                (true, false) => instance.expect(owner, at, out),
                _ => {}
            }
        }
        self.tell_offline(owner, status, at, out);
    }

    fn tell_offline(
        &mut self,
        owner: Owner<'_>,
        status: MachineStatus,
        at: UnixMillis,
        out: &mut Vec<Change>,
    ) {
        for instance in &mut self.instances {
            if let Condition::Offline { level } = instance.rule.spec.condition {
                let offline = (status == MachineStatus::Offline).then_some(level);
                instance.set_offline(owner, offline, at, out);
            }
        }
    }

    pub(super) fn tick(
        &mut self,
        id: MachineId,
        now: UnixMillis,
        counters: &mut Counters,
        out: &mut Vec<Change>,
    ) {
        let away = self.status.is_some_and(is_away);
        let now = now + self.clock_ahead_ms;
        let watermark = now - WATERMARK_MS;
        let owner = Owner { machine: id, identity: &self.identity };
        for instance in &mut self.instances {
            if instance.place.is_none() {
                instance.expire(owner, now, out);
            } else if !away {
                if instance.is_tumbling() {
                    counters.evaluations += 1;
                    instance.close(owner, watermark, out);
                }
                instance.expire(owner, watermark, out);
            }
        }
    }

    pub(super) fn forget(&mut self, now: UnixMillis) {
        let now = now + self.clock_ahead_ms;
        let old = now - FORGET_AFTER_MS;
        let before = self.instances.len();
        self.instances.retain(|i| {
            // What a rule about logs counted is kept for as long as it counts.
            let counts_for = i.rule.spec.log().map_or(0, |log| log.window_ms);
            let until = i.newest() + FORGET_AFTER_MS.max(counts_for);
            i.place.is_none() || !i.life.is_calm() || until > now
        });
        if self.instances.len() < before {
            self.reindex();
        }
        self.bindings.retain(|_, binding| binding.newest > old);
    }

    pub(super) fn withdraw_all(
        &mut self,
        id: MachineId,
        at: UnixMillis,
        cause: Cause,
        out: &mut Vec<Change>,
    ) {
        let owner = Owner { machine: id, identity: &self.identity };
        for instance in &mut self.instances {
            instance.withdraw(owner, at + self.clock_ahead_ms, cause, out);
        }
    }

    pub(super) fn active(&self, id: MachineId, alerts: &mut Vec<Alert>) {
        let owner = Owner { machine: id, identity: &self.identity };
        let active = self.instances.iter().filter(|i| !i.life.is_calm());
        alerts.extend(active.map(|instance| instance.alert(owner)));
    }

    pub(super) fn alert(&self, id: MachineId, alert: AlertId) -> Option<Alert> {
        let instance = &self.instances[*self.index.get(&alert)? as usize];
        let owner = Owner { machine: id, identity: &self.identity };
        (instance.phase() != Phase::Inactive || instance.life != Lifecycle::Inactive)
            .then(|| instance.alert(owner))
    }

    pub(super) fn count_watched(&self, watched: &mut HashMap<RuleId, usize>) {
        for instance in self.instances.iter().filter(|i| i.place.is_some()) {
            *watched.entry(instance.rule.id.clone()).or_default() += 1;
        }
    }

    pub(super) fn count_matches(&self, id: MachineId, rule: &Rule) -> usize {
        let Some(threshold) = rule.spec.threshold() else { return 1 };
        if !self.identity.accepted_by(id, &rule.spec.machines) {
            return 0;
        }
        let series = self.bindings.values().flat_map(|b| b.layout.series());
        series
            .filter(|s| {
                *s.metric == *threshold.metric
                    && model::Matcher::all_accept(&threshold.labels, &s.labels)
            })
            .count()
    }

    pub(super) fn has_metric(&self, name: &str) -> bool {
        self.bindings.values().flat_map(|b| b.layout.series()).any(|s| *s.metric == *name)
    }
}

fn is_away(status: MachineStatus) -> bool {
    use MachineStatus::{Asleep, Offline, Online, Stale, Stopped};
    match status {
        Asleep | Offline | Stopped => true,
        Online | Stale => false,
    }
}

fn applies(rule: &Rule, id: MachineId, identity: &Identity, series: Option<&Series>) -> bool {
    let fits = match (&rule.spec.condition, series) {
        (Condition::Offline { .. }, None) => true,
        (Condition::Threshold(threshold), Some(series)) => {
            *series.metric == *threshold.metric
                && model::Matcher::all_accept(&threshold.labels, &series.labels)
        }
        (Condition::Log(log), Some(series)) => {
            LogCount::is_series(series)
                && log.query.accepts_machine(&identity.host_name, &id.to_string())
        }
        _ => false,
    };
    fits && identity.accepted_by(id, &rule.spec.machines)
}

/// The value as the rule sees it; `None` while there is nothing to divide by.
fn divided(instance: &mut Instance, value: f64, divisors: &[Divisor]) -> Option<f64> {
    let Some(metric) = instance.rule.spec.threshold().and_then(|t| t.divide_by.as_deref()) else {
        return Some(value);
    };
    if instance.divisor.is_none() {
        let labels = instance.series().map(|s| &s.labels);
        let named = || divisors.iter().enumerate().filter(|(_, d)| *d.series.metric == *metric);
        let same = named().find(|(_, d)| Some(&d.series.labels) == labels);
        let found = same.or_else(|| named().find(|(_, d)| d.series.labels.is_empty()));
        instance.divisor = found.map(|(place, _)| place as u32);
    }
    let divisor = divisors.get(instance.divisor? as usize)?.value;
    (divisor != 0.0 && !divisor.is_nan()).then_some(value / divisor)
}
