//! `/about/health`: how Muster itself is.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Redirect, Response};
use model::{UnixMillis, metric};
use prometheus_client::metrics::counter::Counter;
use proto::convert::{duration_from_ms, timestamp_to_proto};
use proto::v1;
use tonic::{Code, Status};

use super::Page;
use super::page::html;
use crate::api::now_ms;
use crate::format;
use crate::gateway::Shared;
use crate::live::{Figures, Link};
use crate::view::{EventLine, MachineLine, ServerLines, When, millis, seconds, server_words};

/// Machines whose gaps are asked for: those that are in trouble come first.
const MACHINES_ASKED: usize = 25;
const GAPS_SHOWN: usize = 50;
const DEAD_SHOWN: u32 = 50;
const HOUR_MS: i64 = 3_600_000;

#[derive(Template)]
#[template(path = "health.html")]
struct HealthPage {
    page: Page,
    link: &'static str,
    link_since: Option<When>,
    link_reason: String,
    gateway: Vec<(&'static str, String, bool)>,
    server: ServerLines,
    /// What is worth a look; empty when all is well.
    worries: Vec<String>,
    /// Of collectors, with how many machines have each; the oldest first.
    versions: Vec<(String, usize)>,
    collectors: Vec<Collector>,
    gaps: Vec<(String, String, EventLine)>,
    dead: Dead,
    problem: String,
}

/// Events that the alert services could not process.
#[derive(Default)]
struct Dead {
    total: u32,
    shown: Vec<DeadLine>,
}

struct DeadLine {
    id: String,
    since: Option<When>,
    machine: String,
    kind: String,
    reason: String,
    can_be_retried: bool,
}

/// One machine's delivery.
struct Collector {
    machine: MachineLine,
    version: String,
    interval: String,
    skew: String,
    skewed: bool,
    waiting: String,
    spool: String,
    latency: String,
    dropped: f64,
    rejected: f64,
    missed: f64,
    /// Log events that came faster than they may.
    logs: f64,
    /// Values of programs that were refused.
    pushed: f64,
    cpu: String,
    memory: String,
}

impl Collector {
    /// Items, ticks and log events of the last 24 hours that are lost.
    fn lost(&self) -> f64 {
        self.dropped + self.rejected + self.missed + self.logs + self.pushed
    }

    fn lost_words(&self) -> String {
        let parts = [
            (self.dropped, "dropped"),
            (self.rejected, "refused"),
            (self.missed, "ticks missed"),
            (self.logs, "log events over the limit"),
            (self.pushed, "values of programs refused"),
        ];
        let words: Vec<_> = parts
            .into_iter()
            .filter(|(count, _)| *count > 0.0)
            .map(|(count, what)| format!("{} {what}", format::number(count.round())))
            .collect();
        if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
    }
}

pub(crate) async fn health(State(shared): State<Shared>, uri: Uri) -> Response {
    let now = now_ms();
    let picture = shared.hub.picture();
    let (link, since, link_reason) = match &picture.link {
        Link::Connecting => ("connecting", None, String::new()),
        Link::Up { since_ms } => ("connected", Some(*since_ms), String::new()),
        Link::Down { since_ms, reason } => ("lost", Some(*since_ms), reason.clone()),
    };
    let of = |metric: &'static str| (metric, v1::Aggregate::Last, 2 * 60_000, 2 * 60_000);
    let day = |metric: &'static str| (metric, v1::Aggregate::Increase, 24 * HOUR_MS, HOUR_MS);
    let (items, spool, latency, memory, dropped, rejected, missed, logs, pushed, cpu) = tokio::join!(
        by_machine(&shared, now, of(metric::SPOOL_ITEMS.name)),
        by_machine(&shared, now, of(metric::SPOOL_USAGE.name)),
        by_machine(&shared, now, of(metric::ACK_LATENCY.name)),
        by_machine(&shared, now, of(metric::COLLECTOR_MEMORY_USAGE.name)),
        by_machine(&shared, now, day(metric::SPOOL_DROPPED.name)),
        by_machine(&shared, now, day(metric::ITEMS_REJECTED.name)),
        by_machine(&shared, now, day(metric::COLLECTOR_TICKS_MISSED.name)),
        by_machine(&shared, now, day(metric::LOG_EVENTS_DROPPED.name)),
        by_machine(&shared, now, day(metric::PUSH_REFUSED.name)),
        by_machine(
            &shared,
            now,
            (metric::COLLECTOR_CPU_TIME.name, v1::Aggregate::Rate, 5 * 60_000, 60_000)
        ),
    );
    let problem = items.as_ref().err().cloned().unwrap_or_default();
    let [items, spool, latency, memory, dropped, rejected, missed, logs, pushed, cpu] =
        [items, spool, latency, memory, dropped, rejected, missed, logs, pushed, cpu]
            .map(Result::unwrap_or_default);

    let mut collectors: Vec<_> = picture
        .rows
        .values()
        .map(|row| {
            let id = &row.machine.id;
            let last = |values: &BTreeMap<String, Vec<f64>>| {
                values.get(id).and_then(|v| v.iter().rev().find(|v| v.is_finite()).copied())
            };
            let sum = |values: &BTreeMap<String, Vec<f64>>| {
                values.get(id).map_or(0.0, |v| v.iter().filter(|v| v.is_finite()).sum())
            };
            let text = |v: Option<f64>, f: fn(f64) -> String| v.map_or_else(|| "–".to_owned(), f);
            let facts = row.machine.facts.as_ref();
            let skew = seconds(row.machine.clock_skew.as_ref());
            Collector {
                version: facts.map(|f| f.collector_version.clone()).unwrap_or_default(),
                interval: text(seconds(row.machine.interval.as_ref()), format::duration),
                skew: text(skew, format::duration),
                skewed: skew.is_some_and(|s| s.abs() > 2.0),
                waiting: text(last(&items), format::number),
                spool: text(last(&spool), format::bytes),
                latency: text(last(&latency), format::duration),
                dropped: sum(&dropped),
                rejected: sum(&rejected),
                missed: sum(&missed),
                logs: sum(&logs),
                pushed: sum(&pushed),
                cpu: text(last(&cpu), |v| format!("{:.2} %", v * 100.0)),
                memory: text(last(&memory), format::bytes),
                machine: MachineLine::new(&row.machine, now),
            }
        })
        .collect();
    collectors.sort_by(|a, b| {
        let trouble = |c: &Collector| (c.lost() > 0.0, !c.machine.is_heard(), c.skewed);
        trouble(b).cmp(&trouble(a)).then_with(|| a.machine.name.cmp(&b.machine.name))
    });
    let (gaps, server, dead) = tokio::join!(
        gaps(&shared, &collectors, now),
        shared.upstream.server_status(),
        dead(&shared, now)
    );
    let server = match server {
        Ok(answer) => ServerLines::new(answer, now),
        Err(status) => ServerLines::unknown(&status),
    };
    html(&HealthPage {
        page: Page::new(&shared, &uri, "health"),
        link,
        link_since: since.map(|ms| When::new(now, ms)),
        link_reason,
        gateway: gateway_lines(shared.hub.figures(), &shared.refusals),
        worries: worries(link, &server, &collectors, &gaps, dead.total, now),
        server,
        versions: versions(&collectors),
        collectors,
        gaps,
        dead,
        problem,
    })
}

/// None where there is no alert service, or an old one.
async fn dead(shared: &Shared, now: i64) -> Dead {
    let request = v1::ListDeadEventsRequest { limit: DEAD_SHOWN };
    let Ok(answer) = shared.alerts.list_dead_events(request).await else { return Dead::default() };
    let line = |event: v1::DeadEvent| DeadLine {
        since: millis(event.since.as_ref()).map(|ms| When::new(now, ms)),
        machine: event.machine_id,
        kind: event.kind,
        reason: event.reason,
        can_be_retried: event.can_be_retried,
        id: event.id,
    };
    Dead { total: answer.total, shown: answer.events.into_iter().map(line).collect() }
}

pub(crate) async fn dead_event_retry(
    State(shared): State<Shared>,
    Path(id): Path<String>,
) -> Response {
    back(shared.alerts.retry_dead_event(v1::RetryDeadEventRequest { id }).await)
}

pub(crate) async fn dead_event_discard(
    State(shared): State<Shared>,
    Path(id): Path<String>,
) -> Response {
    back(shared.alerts.discard_dead_event(v1::DiscardDeadEventRequest { id }).await)
}

/// To what is still there, also after somebody else was quicker.
fn back<T>(outcome: Result<T, Status>) -> Response {
    match outcome {
        Err(status) if status.code() != Code::NotFound => {
            let said = format!("That did not work: {}\n", status.message());
            (StatusCode::BAD_GATEWAY, said).into_response()
        }
        _ => Redirect::to("../../../about/health#dead-events").into_response(),
    }
}

/// In one line what a person should know first.
fn worries(
    link: &str,
    server: &ServerLines,
    collectors: &[Collector],
    gaps: &[(String, String, EventLine)],
    dead: u32,
    now: i64,
) -> Vec<String> {
    let mut worries = Vec::new();
    if link != "connected" {
        worries.push(format!("The aggregator is {link}"));
    }
    if !server.problem.is_empty() {
        worries.push("the aggregator does not tell how it is".to_owned());
    }
    for store in server.stores.iter().filter(|store| !store.down.is_empty()) {
        worries.push(format!("{} is down ({})", store.name, store.holds));
    }
    for queue in server.queues.iter().filter(|queue| !queue.level.is_empty()) {
        worries.push(format!("{} at {} %", queue.name.to_lowercase(), queue.percent));
    }
    if dead > 0 {
        let events = if dead == 1 { "event" } else { "events" };
        worries.push(format!("{dead} {events} could not be processed by the alert service"));
    }
    let recent = |line: &EventLine| line.when.as_ref().is_some_and(|w| w.ms > now - 24 * HOUR_MS);
    let losing: BTreeSet<&str> = (collectors.iter().filter(|c| c.lost() > 0.0))
        .map(|c| c.machine.id.as_str())
        .chain(gaps.iter().filter(|(_, _, line)| recent(line)).map(|(id, ..)| id.as_str()))
        .collect();
    if !losing.is_empty() {
        let machines = if losing.len() == 1 { "machine" } else { "machines" };
        worries.push(format!("{} {machines} lost data in the last 24 hours", losing.len()));
    }
    worries
}

fn versions(collectors: &[Collector]) -> Vec<(String, usize)> {
    let mut counts = BTreeMap::new();
    for collector in collectors.iter().filter(|c| !c.version.is_empty()) {
        *counts.entry(collector.version.clone()).or_default() += 1;
    }
    counts.into_iter().collect()
}

/// Words, value, and whether it is worth a look.
fn gateway_lines(
    figures: Figures,
    refusals: &[(&'static str, Counter)],
) -> Vec<(&'static str, String, bool)> {
    let number = |n: u64| format::number(n as f64);
    let mut lines = vec![
        ("Open pages", format!("{} of {}", figures.viewers, figures.viewers_max), false),
        ("Machines streamed in full", number(figures.feeds as u64), false),
        ("Messages sent", number(figures.messages), false),
        ("Frames missed by slow readers", number(figures.frames_missed), figures.frames_missed > 0),
        (
            "Pages closed for being too slow",
            number(figures.viewers_too_slow),
            figures.viewers_too_slow > 0,
        ),
        ("Pages refused", number(figures.viewers_refused), figures.viewers_refused > 0),
        (
            "Streams lost and taken up again",
            number(figures.upstream_losses),
            figures.upstream_losses > 0,
        ),
    ];
    lines.extend(
        refusals
            .iter()
            .map(|(name, count)| (server_words(name), number(count.get()), count.get() > 0)),
    );
    lines
}

/// One metric over all machines, summed over its series, by machine id.
async fn by_machine(
    shared: &Shared,
    now: i64,
    (metric, aggregate, length_ms, step_ms): (&str, v1::Aggregate, i64, i64),
) -> Result<BTreeMap<String, Vec<f64>>, String> {
    let request = v1::QueryRangeRequest {
        metric: metric.to_owned(),
        start: Some(timestamp_to_proto(UnixMillis(now - length_ms))),
        end: Some(timestamp_to_proto(UnixMillis(now))),
        step: Some(duration_from_ms(step_ms)),
        aggregate: aggregate.into(),
        ..Default::default()
    };
    let answer =
        shared.upstream.query_range(request).await.map_err(|status| status.message().to_owned())?;
    Ok(answer.series.into_iter().map(|series| (series.machine_id, series.values)).collect())
}

/// Gaps of the last week, newest first, from the machines most in trouble.
async fn gaps(
    shared: &Shared,
    collectors: &[Collector],
    now: i64,
) -> Vec<(String, String, EventLine)> {
    let asked = collectors.iter().take(MACHINES_ASKED).map(|collector| async {
        let machine = &collector.machine;
        let request = v1::ListEventsRequest {
            machine: machine.id.clone(),
            limit: 1_000,
            ..Default::default()
        };
        let events = shared.upstream.list_events(request).await.map(|a| a.events);
        let lines = events.unwrap_or_default().into_iter().map(|e| EventLine::new(e, now));
        let gaps = lines.filter(|line| line.weight == "gap").take(GAPS_SHOWN);
        gaps.map(|line| (machine.id.clone(), machine.name.clone(), line)).collect::<Vec<_>>()
    });
    let mut gaps: Vec<_> = futures::future::join_all(asked).await.into_iter().flatten().collect();
    gaps.sort_by_key(|(_, _, line)| std::cmp::Reverse(line.when.as_ref().map_or(0, |w| w.ms)));
    gaps.truncate(GAPS_SHOWN);
    gaps
}
