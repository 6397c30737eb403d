//! "Who did it": the processes that stood out at a moment, and how much more they took than before.

use std::collections::HashMap;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use model::{UnixMillis, metric};
use proto::convert::timestamp_to_proto;
use proto::v1;

use super::page::html;
use crate::api::{ApiError, Params, now_ms};
use crate::format;
use crate::gateway::Shared;
use crate::upstream::ContainerUse;
use crate::view::{When, millis};

/// What a moment is compared with.
const BEFORE_MS: i64 = 60_000;
const SHOWN: usize = 5;

#[derive(Template)]
#[template(path = "machine/who.html")]
struct WhoFragment {
    at: When,
    /// Time of the report that answers; absent when none is kept.
    read: Option<When>,
    lists: Vec<List>,
    /// Address of what the machine logged around the moment, relative to its page.
    logged: String,
}

struct List {
    title: &'static str,
    /// The title within a sentence.
    words: &'static str,
    lines: Vec<Line>,
}

#[derive(Debug, PartialEq)]
struct Line {
    name: String,
    command_line: String,
    pid: u32,
    value: String,
    /// `+42 %`; empty when it did not rise.
    rise: String,
    /// Percent of all that rose meanwhile; 0 when it did not.
    share: u8,
    /// It alone made most of a rise that is worth a sentence.
    made_most: bool,
}

/// `?at=` the moment.
pub(crate) async fn who(
    State(shared): State<Shared>,
    Path(machine): Path<String>,
    params: Params,
) -> Response {
    match fragment(&shared, &machine, &params).await {
        Ok(fragment) => html(&fragment),
        Err(error) => error.into_response(),
    }
}

async fn fragment(
    shared: &Shared,
    machine: &str,
    params: &Params,
) -> Result<WhoFragment, ApiError> {
    params.allow(&["at", "q", "sort", "by"])?;
    let now = now_ms();
    params.required("at")?;
    let at = params.time("at", now)?.unwrap_or(now);
    let report = |ms| {
        shared.upstream.list_processes(v1::ListProcessesRequest {
            machine: machine.to_owned(),
            at: Some(timestamp_to_proto(UnixMillis(ms))),
        })
    };
    let containers = |metric: &'static metric::Metric| {
        shared.upstream.containers_at(machine, metric, at, BEFORE_MS)
    };
    let (then, before, cpu, memory) = tokio::join!(
        report(at),
        report(at - BEFORE_MS),
        containers(&metric::CONTAINER_CPU_USAGE),
        containers(&metric::CONTAINER_MEMORY_USAGE),
    );
    let then = then?;
    // Without it the rise is unknown, which is no reason to say nothing.
    let before = before.map(|answer| answer.processes).unwrap_or_default();
    let read = millis(then.time.as_ref()).map(|ms| When::new(now, ms));
    let mut lists = lists(&then.processes, &before);
    let containers = [
        ("Containers: CPU", cpu, format::percent as Text),
        ("Containers: memory", memory, format::bytes),
    ];
    for (title, uses, text) in containers {
        // Many machines have none.
        let lines = container_lines(uses.unwrap_or_default(), text);
        if !lines.is_empty() {
            lists.push(List { title, words: title, lines });
        }
    }
    let logged = super::logs::around(machine, at);
    Ok(WhoFragment { at: When::new(now, at), read, lists, logged })
}

type Text = fn(f64) -> String;

/// What processes are compared by.
struct Measure {
    title: &'static str,
    words: &'static str,
    of: fn(&v1::Process) -> f64,
    text: Text,
    /// A rise of less is not worth a sentence.
    worth: f64,
}

const MEASURES: [Measure; 3] = [
    Measure {
        title: "CPU",
        words: "CPU",
        of: |p| p.cpu_utilization,
        text: format::percent,
        worth: 0.1,
    },
    Measure {
        title: "Memory",
        words: "memory",
        of: |p| p.memory_bytes as f64,
        text: format::bytes,
        worth: 64.0 * 1024.0 * 1024.0,
    },
    Measure {
        title: "Disk I/O",
        words: "disk I/O",
        of: |p| p.disk_read_bytes_per_second + p.disk_write_bytes_per_second,
        text: format::bytes_rate,
        worth: 1024.0 * 1024.0,
    },
];
/// Percent of the rise from which on one process made most of it.
const MOST: u8 = 50;

fn lists(then: &[v1::Process], before: &[v1::Process]) -> Vec<List> {
    let lists = MEASURES.iter().map(|measure| {
        let lines = lines(then, before, measure);
        List { title: measure.title, words: measure.words, lines }
    });
    lists.filter(|list| !list.lines.is_empty()).collect()
}

fn lines(then: &[v1::Process], before: &[v1::Process], measure: &Measure) -> Vec<Line> {
    let Measure { of: size, text, worth, .. } = measure;
    // A number is used again by another process, so the start tells them apart.
    let key = |p: &v1::Process| (p.pid, p.start_time_unix_ms);
    let earlier: HashMap<_, f64> = before.iter().map(|p| (key(p), size(p))).collect();
    let rise = |p: &v1::Process| size(p) - earlier.get(&key(p)).copied().unwrap_or(0.0);
    let all: f64 = then.iter().map(|p| rise(p).max(0.0)).sum();
    let mut top: Vec<_> = then.iter().filter(|p| size(p) > 0.0).collect();
    top.sort_by(|a, b| size(b).total_cmp(&size(a)));
    top.truncate(SHOWN);
    let line = |p: &v1::Process| {
        let value = size(p);
        let rise = rise(p);
        // A tenth more is noise; and without a report from before, nothing is known.
        let rose = !before.is_empty() && rise > value * 0.1;
        let share = if rose { share(rise, all) } else { 0 };
        Line {
            share,
            made_most: share >= MOST && rise >= *worth,
            name: p.name.clone(),
            command_line: p.command_line.clone(),
            pid: p.pid,
            value: text(value),
            rise: if rose { format!("+{}", text(rise)) } else { String::new() },
        }
    };
    top.into_iter().map(line).collect()
}

fn share(rise: f64, all: f64) -> u8 {
    (rise / all * 100.0).clamp(0.0, 100.0).round() as u8
}

fn container_lines(mut uses: Vec<ContainerUse>, text: Text) -> Vec<Line> {
    uses.retain(|container| container.then > 0.0);
    // What nothing is known of before has no rise.
    let all: f64 = uses.iter().map(|c| (c.then - c.before).max(0.0)).sum();
    uses.sort_by(|a, b| b.then.total_cmp(&a.then));
    uses.truncate(SHOWN);
    let line = |container: ContainerUse| {
        let rise = container.then - container.before;
        let rose = rise > container.then * 0.1;
        Line {
            value: text(container.then),
            rise: if rose { format!("+{}", text(rise)) } else { String::new() },
            share: if rose { share(rise, all) } else { 0 },
            made_most: false,
            name: container.name,
            command_line: "a container".to_owned(),
            pid: 0,
        }
    };
    uses.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, start: i64, cpu: f64) -> v1::Process {
        v1::Process {
            pid,
            start_time_unix_ms: start,
            name: format!("p{pid}"),
            cpu_utilization: cpu,
            ..Default::default()
        }
    }

    fn rises(then: &[v1::Process], before: &[v1::Process]) -> Vec<(String, String)> {
        let lines = lines(then, before, &MEASURES[0]);
        lines.into_iter().map(|line| (line.name, line.rise)).collect()
    }

    fn named(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn what_rose_is_told_from_what_was_always_there() {
        let before = [process(1, 0, 0.50), process(2, 0, 0.10)];
        let then = [process(2, 0, 0.90), process(1, 0, 0.52), process(3, 0, 0.0)];
        assert_eq!(rises(&then, &before), named(&[("p2", "+80 %"), ("p1", "")]));
    }

    #[test]
    fn a_rise_is_told_as_a_share_of_all_that_rose() {
        let before = [process(1, 0, 0.10), process(2, 0, 0.10), process(3, 0, 0.9)];
        let then = [process(1, 0, 0.70), process(2, 0, 0.30), process(3, 0, 0.1)];
        let lines = lines(&then, &before, &MEASURES[0]);
        let shares: Vec<_> = lines.into_iter().map(|line| (line.name, line.share)).collect();
        assert_eq!(shares, [("p1".to_owned(), 75), ("p2".to_owned(), 25), ("p3".to_owned(), 0)]);
    }

    #[test]
    fn who_made_most_of_a_rise_is_said_when_the_rise_is_worth_it() {
        fn check(rises: [f64; 2], expected: [bool; 2]) {
            let before = [process(1, 0, 0.01), process(2, 0, 0.01)];
            let then = [process(1, 0, 0.01 + rises[0]), process(2, 0, 0.01 + rises[1])];
            let mut lines = lines(&then, &before, &MEASURES[0]);
            lines.sort_by_key(|line| line.pid);
            assert_eq!(lines.iter().map(|line| line.made_most).collect::<Vec<_>>(), expected);
        }
        check([0.9, 0.1], [true, false]);
        check([0.3, 0.31], [false, true]);
        check([0.05, 0.01], [false, false]);
    }

    #[test]
    fn a_new_process_with_an_old_number_rose_from_nothing() {
        let before = [process(7, 100, 0.8)];
        let then = [process(7, 200, 0.8)];
        assert_eq!(rises(&then, &before), named(&[("p7", "+80 %")]));
    }

    #[test]
    fn a_container_of_which_nothing_was_known_before_did_not_rise() {
        let used = |name: &str, then, before| ContainerUse { name: name.to_owned(), then, before };
        let uses = vec![used("calm", 0.2, 0.2), used("new", 0.5, f64::NAN), used("up", 0.9, 0.1)];
        let lines = container_lines(uses, format::percent);
        let rises: Vec<_> = lines.into_iter().map(|line| (line.name, line.rise)).collect();
        assert_eq!(rises, named(&[("up", "+80 %"), ("new", ""), ("calm", "")]));
    }

    #[test]
    fn without_a_report_from_before_no_rise_is_claimed() {
        assert_eq!(rises(&[process(1, 0, 0.5)], &[]), named(&[("p1", "")]));
    }
}
