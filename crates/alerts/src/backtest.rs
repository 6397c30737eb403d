//! When a rule would have fired: the same engine as live, fed from history.
//!
//! One machine after the other and an hour at a time, so that memory is bounded however much is kept. What
//! the engine does follows from the times of the values alone, so it does here what it did live, with few
//! exceptions: values and log events that came late are in history in their place, log events that the server
//! was told not to keep are not, those that were told twice are once, and whether a silent machine said goodbye
//! is not looked up: it counts as offline.

use std::sync::Arc;

use model::{Frame, Layout, MachineId, MachineStatus, TimeRange, UnixMillis, limits, metric};
use storage::history::{SeriesSelector, StoredSeries};
use storage::registry::MachineRecord;
use storage::{History, Registry, StorageError};

use crate::alert::{Change, Identity};
use crate::engine::Engine;
use crate::lifecycle::Phase;
use crate::rule::{Rule, Window};

mod logs;

use logs::Found;

/// Why a rule could not be tested.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TestError {
    #[error(transparent)]
    Store(#[from] StorageError),
    /// It is for the rule to ask for less.
    #[error("finds more than {max} log events: narrow it, or test a shorter time")]
    FindsTooMuch { max: usize },
}

/// One time that it would have fired.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Firing {
    /// The step to firing.
    pub(crate) change: Change,
    /// With the highest level and the worst value.
    pub(crate) last: Change,
    pub(crate) resolved: Option<UnixMillis>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// In the order of machines, then of time.
    pub(crate) firings: Vec<Firing>,
    pub(crate) notifications: u32,
    pub(crate) machines: u32,
    pub(crate) series: u32,
    pub(crate) values: u64,
}

/// A machine that says nothing for this long counts as offline.
const OFFLINE_AFTER_MS: i64 = 15_000;
const CHUNK_MS: i64 = 3_600_000;
/// Values are needed before the start, as long as the window is, but not for longer than this.
const LEAD_MS_MAX: i64 = 24 * 3_600_000;

pub(crate) async fn run(
    history: &dyn History,
    registry: &dyn Registry,
    rule: &Arc<Rule>,
    range: TimeRange,
) -> Result<Report, TestError> {
    let mut report = Report::default();
    let lead = range.start - lead_ms(rule);
    let mut found =
        logs::read(history, rule, TimeRange::new(lead, range.end), logs::FOUND_MAX).await?;
    for record in registry.machines().await? {
        let identity =
            Identity { host_name: record.facts.host_name.clone(), labels: record.labels.clone() };
        if identity.accepted_by(record.id, &rule.spec.machines) {
            let found = found.remove(&record.id).unwrap_or_default();
            machine(history, &record, identity, (rule, found), range, &mut report).await?;
        }
    }
    Ok(report)
}

async fn machine(
    history: &dyn History,
    record: &MachineRecord,
    identity: Identity,
    (rule, found): (&Arc<Rule>, Vec<Found>),
    range: TimeRange,
    report: &mut Report,
) -> Result<(), StorageError> {
    let id = record.id;
    let series = series(history, id, rule).await?;
    let layout = Layout::new(series.iter().map(|s| s.series.clone()).collect()).ok();
    if layout.is_none() && found.is_empty() {
        // The machine has no history.
        return Ok(());
    }
    let lead = lead_ms(rule);
    let mut logged = found.iter().peekable();
    let mut replay = Replay::new(id, identity, rule, layout, range.start - lead);
    let mut from = range.start - lead;
    while from < range.end {
        let to = (from + CHUNK_MS).min(range.end);
        let samples = history.read_raw(&series, TimeRange::new(from, to)).await?;
        for (time, values) in frames(&samples) {
            while let Some(found) = logged.next_if(|found| found.time < time) {
                replay.log(found);
            }
            report.values += values.iter().filter(|value| !value.is_nan()).count() as u64;
            replay.frame(time, values);
        }
        while let Some(found) = logged.next_if(|found| found.time < to) {
            replay.log(found);
        }
        from = to;
        // It may be much work: others come in between.
        tokio::task::yield_now().await;
    }
    report.machines += 1;
    let threshold = rule.spec.threshold();
    let watched =
        series.iter().filter(|s| threshold.is_some_and(|t| *s.series.metric == *t.metric));
    report.series += watched.count() as u32 + logs::services(&found) as u32;
    report.values += found.len() as u64;
    replay.finish(range, report);
    Ok(())
}

/// The series that the rule watches, those it divides by, and the one that tells whether the machine is there.
async fn series(
    history: &dyn History,
    id: MachineId,
    rule: &Rule,
) -> Result<Vec<StoredSeries>, StorageError> {
    let find = async |metric: &str, labels: Vec<model::Matcher>| {
        let machines = Some(vec![id]);
        let selector = SeriesSelector { metric: metric.to_owned(), labels, machines };
        history.find_series(&selector, limits::QUERY_SERIES_MAX).await
    };
    let mut all = find(metric::UPTIME.name, Vec::new()).await?;
    if let Some(threshold) = rule.spec.threshold() {
        let mut more = find(&threshold.metric, threshold.labels.clone()).await?;
        if let Some(divisor) = &threshold.divide_by {
            more.extend(find(divisor, Vec::new()).await?);
        }
        for series in more {
            if all.iter().all(|known| known.series != series.series) {
                all.push(series);
            }
        }
    }
    Ok(all)
}

fn lead_ms(rule: &Rule) -> i64 {
    let window = match rule.spec.threshold().map(|t| t.window) {
        Some(Window::Sliding { ms } | Window::Tumbling { ms }) => ms,
        Some(Window::Values { count }) => count as i64 * 1000,
        Some(Window::Instant) => 0,
        None => rule.spec.log().map_or(0, |log| log.window_ms),
    };
    (window + rule.spec.timing.for_ms).min(LEAD_MS_MAX)
}

/// Columns to rows, by time.
fn frames(samples: &[storage::history::Samples]) -> Vec<(UnixMillis, Vec<f64>)> {
    let mut cells: Vec<(UnixMillis, usize, f64)> = Vec::new();
    for (column, samples) in samples.iter().enumerate() {
        let pairs = samples.times.iter().zip(&samples.values);
        cells.extend(pairs.map(|(time, value)| (*time, column, *value)));
    }
    cells.sort_by_key(|(time, column, _)| (*time, *column));
    let mut frames: Vec<(UnixMillis, Vec<f64>)> = Vec::new();
    for (time, column, value) in cells {
        if frames.last().is_none_or(|(last, _)| *last != time) {
            frames.push((time, vec![f64::NAN; samples.len()]));
        }
        if let Some((_, values)) = frames.last_mut() {
            values[column] = value;
        }
    }
    frames
}

/// The engine with one machine, and time that passes as the values say.
struct Replay {
    engine: Engine,
    machine: MachineId,
    /// Absent where only logs are in history.
    layout: Option<Layout>,
    /// Time of the latest frame.
    latest: Option<UnixMillis>,
    /// The next whole second.
    tick: UnixMillis,
    steps: Vec<Change>,
}

impl Replay {
    fn new(
        machine: MachineId,
        identity: Identity,
        rule: &Arc<Rule>,
        layout: Option<Layout>,
        from: UnixMillis,
    ) -> Self {
        let mut engine = Engine::new(usize::MAX, from);
        let mut steps = Vec::new();
        let mut rule = (**rule).clone();
        // It is tested because it is not in force.
        rule.spec.enabled = true;
        engine.set_rules(&[Arc::new(rule)], from, &mut steps);
        engine.set_machine(machine, identity, from, &mut steps);
        Self { engine, machine, layout, latest: None, tick: from.ceil(1000), steps }
    }

    fn frame(&mut self, time: UnixMillis, values: Vec<f64>) {
        self.pass(time);
        if self.latest.is_none_or(|latest| time.since(latest) > OFFLINE_AFTER_MS) {
            self.status(MachineStatus::Online, time);
        }
        self.latest = Some(time);
        let Self { engine, machine, layout: Some(layout), steps, .. } = self else { return };
        let frame = Frame { time, layout: layout.id(), values };
        engine.observe(*machine, layout, &frame, false, time, steps);
    }

    fn log(&mut self, found: &Found) {
        self.pass(found.time);
        let Self { engine, machine, steps, .. } = self;
        engine.observe_found(*machine, &found.service, found.time, steps);
    }

    /// Lets the seconds before `to` pass.
    fn pass(&mut self, to: UnixMillis) {
        let silent_from = self.latest.map(|latest| latest + OFFLINE_AFTER_MS);
        while self.tick < to {
            // A second at a time while something may happen, then in one go.
            if let Some(offline) = silent_from
                && self.tick > offline
            {
                self.status(MachineStatus::Offline, offline);
                self.engine.tick(to.floor(1000), &mut self.steps);
                self.tick = to.ceil(1000);
                return;
            }
            self.engine.tick(self.tick, &mut self.steps);
            self.tick = self.tick + 1000;
        }
    }

    fn status(&mut self, status: MachineStatus, since: UnixMillis) {
        self.engine.set_status(self.machine, status, since, &mut self.steps);
    }

    fn finish(mut self, range: TimeRange, report: &mut Report) {
        self.pass(range.end);
        let mut open: Vec<Firing> = Vec::new();
        for step in self.steps {
            let of_it = |f: &Firing| f.change.alert.id == step.alert.id;
            match (step.from, step.to) {
                (Phase::Pending, Phase::Firing) => {
                    open.push(Firing { change: step.clone(), last: step, resolved: None });
                }
                (_, Phase::Resolved) => {
                    if let Some(place) = open.iter().position(of_it) {
                        let mut firing = open.remove(place);
                        firing.resolved = Some(step.at);
                        let ended_before = step.at < range.start;
                        firing.last = step;
                        if !ended_before {
                            report.firings.push(firing);
                            report.notifications += 2;
                        }
                    }
                }
                (Phase::Firing, Phase::Firing) => {
                    report.notifications += u32::from(step.at >= range.start);
                    if let Some(firing) = open.iter_mut().find(|f| of_it(f)) {
                        firing.last = step;
                    }
                }
                _ => {}
            }
        }
        report.notifications += open.len() as u32;
        report.firings.append(&mut open);
    }
}

#[cfg(test)]
mod tests;
