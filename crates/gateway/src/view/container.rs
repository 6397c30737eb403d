//! The containers of one machine: what runs and what it takes, and what has stopped lately.

use std::collections::{BTreeMap, HashSet};

use model::metric;
use proto::v1;
use proto::v1::machine_event::Type;
use proto::v1::recorded_event::Kind;

use super::{When, level_of, millis};
use crate::format;

const ID: &str = "container.id";
const NAME: &str = "container.name";
const IMAGE: &str = "container.image.name";

/// Stopped ones that are shown, the latest first: a build server stops hundreds a day.
const STOPPED_SHOWN: usize = 8;

/// A container as templates show it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContainerRow {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) image: String,
    /// Only where its start was seen.
    pub(crate) started: Option<When>,
    /// It does not run any more.
    pub(crate) stopped: Option<When>,
    /// `healthy`, `unhealthy`, or `–` without a check.
    pub(crate) health: &'static str,
    pub(crate) restarts: String,
    pub(crate) cpu: String,
    /// Whole percent of one CPU, at most 100, for a meter.
    pub(crate) cpu_percent: u8,
    pub(crate) memory: String,
    pub(crate) memory_level: &'static str,
    pub(crate) processes: String,
}

/// What rows are made of.
pub(crate) const METRICS: [metric::Metric; 6] = [
    metric::CONTAINER_CPU_USAGE,
    metric::CONTAINER_MEMORY_USAGE,
    metric::CONTAINER_MEMORY_LIMIT,
    metric::CONTAINER_RESTARTS,
    metric::CONTAINER_HEALTHY,
    metric::CONTAINER_PROCESSES,
];

/// The latest of one container.
#[derive(Default)]
struct Latest {
    name: String,
    image: String,
    time_ms: i64,
    values: BTreeMap<String, f64>,
}

/// When one container was last seen to start and to stop, and what it was called.
#[derive(Default)]
struct Seen {
    name: String,
    started_ms: Option<i64>,
    stopped_ms: Option<i64>,
}

/// Those that run by name, with what is unhealthy first; then those that have stopped, as far as no other of
/// the same name has taken their place.
pub(crate) fn container_rows(
    samples: Vec<v1::Sample>,
    events: &[v1::RecordedEvent],
    now_ms: i64,
) -> Vec<ContainerRow> {
    let mut seen = seen(events);
    let mut running = Vec::new();
    for (id, latest) in latest(samples) {
        let known = seen.get(&id);
        // Live state keeps for minutes what a container last said.
        if known.and_then(|seen| seen.stopped_ms).is_some_and(|ms| ms >= latest.time_ms) {
            continue;
        }
        let started = known.and_then(|seen| seen.started_ms).map(|ms| When::new(now_ms, ms));
        seen.remove(&id);
        running.push(row(id, latest, started));
    }
    running.sort_by(|a, b| {
        let key = |row: &ContainerRow| (row.health != "unhealthy", row.name.to_lowercase());
        key(a).cmp(&key(b))
    });
    let names: HashSet<String> = running.iter().map(|row| row.name.clone()).collect();
    let mut stopped: Vec<_> = seen
        .into_iter()
        .filter(|(_, seen)| !names.contains(&seen.name))
        .filter_map(|(id, seen)| {
            let stopped = seen.stopped_ms.filter(|&ms| seen.started_ms.is_none_or(|s| s <= ms))?;
            let stopped = Some(When::new(now_ms, stopped));
            let name = if seen.name.is_empty() { short(&id) } else { seen.name };
            Some(ContainerRow { id, name, stopped, ..ContainerRow::default() })
        })
        .collect();
    stopped.sort_by_key(|row| std::cmp::Reverse(row.stopped.as_ref().map(|when| when.ms)));
    stopped.truncate(STOPPED_SHOWN);
    running.extend(stopped);
    running
}

fn latest(samples: Vec<v1::Sample>) -> BTreeMap<String, Latest> {
    let mut latest: BTreeMap<String, Latest> = BTreeMap::new();
    for mut sample in samples {
        let Some(id) = sample.labels.remove(ID) else { continue };
        let one = latest.entry(id).or_default();
        one.name = sample.labels.remove(NAME).unwrap_or_default();
        one.image = sample.labels.remove(IMAGE).unwrap_or_default();
        one.time_ms = one.time_ms.max(millis(sample.time.as_ref()).unwrap_or(0));
        if sample.value.is_finite() {
            one.values.insert(sample.metric, sample.value);
        }
    }
    latest
}

fn seen(events: &[v1::RecordedEvent]) -> BTreeMap<String, Seen> {
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    for event in events {
        let Some(Kind::Event(event)) = &event.kind else { continue };
        let Some(id) = event.attributes.get(ID) else { continue };
        let at = Some(event.time_unix_ms);
        let one = seen.entry(id.clone()).or_default();
        match event.r#type() {
            Type::ContainerStarted => one.started_ms = one.started_ms.max(at),
            Type::ContainerStopped => one.stopped_ms = one.stopped_ms.max(at),
            _ => continue,
        }
        if let Some(name) = event.attributes.get(NAME) {
            one.name.clone_from(name);
        }
    }
    seen
}

fn row(id: String, latest: Latest, started: Option<When>) -> ContainerRow {
    let value = |metric: &metric::Metric| latest.values.get(metric.name).copied();
    let text =
        |value: Option<f64>, write: fn(f64) -> String| value.map_or_else(|| "–".to_owned(), write);
    let cpu = value(&metric::CONTAINER_CPU_USAGE);
    let memory = value(&metric::CONTAINER_MEMORY_USAGE);
    let limit = value(&metric::CONTAINER_MEMORY_LIMIT).filter(|&limit| limit > 0.0);
    ContainerRow {
        started,
        stopped: None,
        health: match value(&metric::CONTAINER_HEALTHY) {
            Some(healthy) if healthy >= 1.0 => "healthy",
            Some(_) => "unhealthy",
            None => "–",
        },
        restarts: text(value(&metric::CONTAINER_RESTARTS), format::number),
        cpu: text(cpu, format::percent),
        cpu_percent: (cpu.unwrap_or(0.0).clamp(0.0, 1.0) * 100.0).round() as u8,
        memory: match limit {
            Some(limit) => format!("{} of {}", text(memory, format::bytes), format::bytes(limit)),
            None => text(memory, format::bytes),
        },
        memory_level: memory.zip(limit).map_or("", |(memory, limit)| level_of(memory / limit)),
        processes: text(value(&metric::CONTAINER_PROCESSES), format::number),
        name: if latest.name.is_empty() { short(&id) } else { latest.name },
        image: latest.image,
        id,
    }
}

fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use proto::convert::timestamp_to_proto;

    use super::*;

    fn sample(id: &str, metric: &metric::Metric, value: f64, ms: i64) -> v1::Sample {
        v1::Sample {
            metric: metric.name.to_owned(),
            labels: [(ID.to_owned(), id.to_owned()), (NAME.to_owned(), format!("n-{id}"))].into(),
            value,
            time: Some(timestamp_to_proto(model::UnixMillis(ms))),
            ..Default::default()
        }
    }

    fn event(id: &str, name: &str, kind: Type, ms: i64) -> v1::RecordedEvent {
        let attributes = [(ID.to_owned(), id.to_owned()), (NAME.to_owned(), name.to_owned())];
        v1::RecordedEvent {
            time: None,
            kind: Some(Kind::Event(v1::MachineEvent {
                time_unix_ms: ms,
                r#type: kind.into(),
                attributes: attributes.into(),
                ..Default::default()
            })),
        }
    }

    fn words(rows: &[ContainerRow]) -> Vec<String> {
        let state = |row: &ContainerRow| if row.stopped.is_some() { "stopped" } else { "running" };
        rows.iter().map(|row| format!("{} {} {}", row.name, state(row), row.health)).collect()
    }

    #[test]
    fn what_is_unhealthy_comes_first_and_what_has_stopped_last() {
        let samples = vec![
            sample("a", &metric::CONTAINER_MEMORY_USAGE, 1.0, 50),
            sample("b", &metric::CONTAINER_HEALTHY, 0.0, 50),
            sample("c", &metric::CONTAINER_HEALTHY, 1.0, 50),
        ];
        let events = [event("d", "old", Type::ContainerStopped, 40)];
        let rows = container_rows(samples, &events, 100);
        let expected = ["n-b running unhealthy", "n-a running –", "n-c running healthy"];
        assert_eq!(words(&rows)[..3], expected);
        assert_eq!(words(&rows)[3], "old stopped ");
    }

    #[test]
    fn a_container_that_stopped_after_its_last_values_does_not_run() {
        let last = || vec![sample("a", &metric::CONTAINER_MEMORY_USAGE, 1.0, 50)];
        let stopped = [event("a", "n-a", Type::ContainerStopped, 60)];
        assert_eq!(words(&container_rows(last(), &stopped, 100)), ["n-a stopped "]);
        // It was started again since.
        let again = [
            event("a", "n-a", Type::ContainerStopped, 30),
            event("a", "n-a", Type::ContainerStarted, 40),
        ];
        let rows = container_rows(last(), &again, 100);
        assert_eq!(words(&rows), ["n-a running –"]);
        assert_eq!(rows[0].started.as_ref().map(|when| when.ms), Some(40));
    }

    #[test]
    fn one_that_was_replaced_under_its_name_is_not_listed() {
        let samples = vec![sample("new", &metric::CONTAINER_MEMORY_USAGE, 1.0, 50)];
        let events = [event("before", "n-new", Type::ContainerStopped, 40)];
        assert_eq!(words(&container_rows(samples, &events, 100)), ["n-new running –"]);
    }

    #[test]
    fn memory_near_its_limit_stands_out() {
        let samples = vec![
            sample("a", &metric::CONTAINER_MEMORY_USAGE, 95.0 * 1024.0, 50),
            sample("a", &metric::CONTAINER_MEMORY_LIMIT, 100.0 * 1024.0, 50),
            sample("a", &metric::CONTAINER_RESTARTS, 3.0, 50),
        ];
        let row = container_rows(samples, &[], 100).remove(0);
        assert_eq!((row.memory.as_str(), row.memory_level), ("95.0 KiB of 100 KiB", "full"));
        assert_eq!((row.restarts.as_str(), row.cpu.as_str()), ("3", "–"));
    }
}
