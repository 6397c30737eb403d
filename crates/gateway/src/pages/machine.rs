//! `/machines/{machine}`: everything about one machine, and its fragments.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::{IntoResponse as _, Response};
use model::UnixMillis;
use proto::convert::timestamp_to_proto;
use proto::v1;

use super::Page;
use super::charts::{CHARTS, Chart};
use super::page::{html, problem};
use crate::api::{ApiError, Params, now_ms};
use crate::format;
use crate::gateway::Shared;
use crate::view::{
    EventLine, MachineLine, ProcessLine, ProcessSort, When, millis, process_matches, seconds,
};

/// Rows of the process table; the collector reports few more.
const PROCESSES_SHOWN: usize = 100;
const EVENTS_SHOWN: u32 = 50;

#[derive(Template)]
#[template(path = "machine.html")]
struct MachinePage {
    page: Page,
    machine: MachineLine,
    charts: &'static [Chart],
    facts: Vec<(&'static str, String)>,
    first_seen: Option<When>,
    clock_skew_ms: i64,
    interval_ms: i64,
    processes: Processes,
    events: Events,
}

#[derive(Template)]
#[template(path = "machine/processes.html")]
struct ProcessesFragment {
    processes: Processes,
}

#[derive(Template)]
#[template(path = "machine/events.html")]
struct EventsFragment {
    events: Events,
}

struct Processes {
    time: Option<When>,
    /// A moment was asked for, rather than now.
    at: Option<When>,
    sort: &'static str,
    text: String,
    counts: String,
    lines: Vec<ProcessLine>,
    /// How many fit the search, shown or not.
    found: usize,
    problem: String,
}

struct Events {
    lines: Vec<EventLine>,
    problem: String,
}

pub(crate) async fn machine(
    State(shared): State<Shared>,
    uri: Uri,
    Path(name): Path<String>,
    params: Params,
) -> Response {
    match machine_page(&shared, &uri, &name, &params).await {
        Ok(page) => html(&page),
        Err(error) => problem(&shared, &uri, &error),
    }
}

async fn machine_page(
    shared: &Shared,
    uri: &Uri,
    name: &str,
    params: &Params,
) -> Result<MachinePage, ApiError> {
    let machine = shared.upstream.machine(name).await?;
    // The page will want it in a moment: let it fill while the page travels.
    let feed = shared.hub.feed(&machine.id);
    let (processes, events) = tokio::join!(
        list_processes(shared, &machine.id, params),
        list_events(shared, &machine.id),
    );
    drop(feed);
    let now = now_ms();
    let to_ms = |seconds: Option<f64>| seconds.map_or(0, |s| (s * 1000.0) as i64);
    Ok(MachinePage {
        page: Page::new(shared, uri, "machine"),
        facts: facts(&machine),
        first_seen: millis(machine.first_seen.as_ref()).map(|ms| When::new(now, ms)),
        clock_skew_ms: to_ms(seconds(machine.clock_skew.as_ref())),
        interval_ms: to_ms(seconds(machine.interval.as_ref())),
        machine: match shared.hub.picture().rows.get(&machine.id) {
            Some(row) => MachineLine::with_lines(row, now),
            None => MachineLine::new(&machine, now),
        },
        charts: CHARTS,
        // The page is worth showing without them.
        processes: processes.unwrap_or_else(Processes::unknown),
        events,
    })
}

/// The table alone: `?sort=`, `q=`, `at=`.
pub(crate) async fn processes(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    params: Params,
) -> Response {
    match list_processes(&shared, &name, &params).await {
        Ok(processes) => html(&ProcessesFragment { processes }),
        Err(error) => error.into_response(),
    }
}

pub(crate) async fn events(State(shared): State<Shared>, Path(name): Path<String>) -> Response {
    html(&EventsFragment { events: list_events(&shared, &name).await })
}

async fn list_processes(
    shared: &Shared,
    machine: &str,
    params: &Params,
) -> Result<Processes, ApiError> {
    params.allow(&["sort", "q", "at", "range", "from", "to"])?;
    let now = now_ms();
    let at = params.time("at", now)?;
    let sort = match params.text("sort") {
        Some("memory") => ProcessSort::Memory,
        Some("io") => ProcessSort::Io,
        Some("name") => ProcessSort::Name,
        Some("user") => ProcessSort::User,
        Some("pid") => ProcessSort::Pid,
        _ => ProcessSort::Cpu,
    };
    let request = v1::ListProcessesRequest {
        machine: machine.to_owned(),
        at: at.map(|ms| timestamp_to_proto(UnixMillis(ms))),
    };
    let mut answer = shared.upstream.list_processes(request).await?;
    let text = params.text("q").unwrap_or_default().to_owned();
    answer.processes.retain(|process| process_matches(process, &text));
    sort.sort(&mut answer.processes);
    let found = answer.processes.len();
    Ok(Processes {
        time: millis(answer.time.as_ref()).map(|ms| When::new(now, ms)),
        at: at.map(|ms| When::new(now, ms)),
        sort: sort.name(),
        text,
        counts: counts(&answer),
        found,
        lines: answer
            .processes
            .into_iter()
            .take(PROCESSES_SHOWN)
            .map(|process| ProcessLine::new(process, now))
            .collect(),
        problem: String::new(),
    })
}

/// `312 processes, 2 running, 1 blocked`.
fn counts(answer: &v1::ListProcessesResponse) -> String {
    let mut text = format!("{} processes", format::number(f64::from(answer.total)));
    let states =
        [(answer.running, "running"), (answer.blocked, "blocked"), (answer.zombie, "zombie")];
    for (count, name) in states.into_iter().filter(|(count, _)| *count > 0) {
        text.push_str(&format!(", {count} {name}"));
    }
    text
}

impl Processes {
    fn unknown(error: ApiError) -> Self {
        Self {
            time: None,
            at: None,
            sort: ProcessSort::default().name(),
            text: String::new(),
            counts: String::new(),
            lines: Vec::new(),
            found: 0,
            problem: error.message().to_owned(),
        }
    }

    fn is_sorted_by(&self, name: &str) -> bool {
        self.sort == name
    }
}

async fn list_events(shared: &Shared, machine: &str) -> Events {
    let request = v1::ListEventsRequest {
        machine: machine.to_owned(),
        limit: EVENTS_SHOWN,
        ..Default::default()
    };
    let now = now_ms();
    match shared.upstream.list_events(request).await {
        Ok(answer) => {
            let lines = answer.events.into_iter().map(|event| EventLine::new(event, now)).collect();
            Events { lines, problem: String::new() }
        }
        Err(status) => Events { lines: Vec::new(), problem: status.message().to_owned() },
    }
}

/// What does not move, as pairs of words; what is not known is left out.
fn facts(machine: &v1::Machine) -> Vec<(&'static str, String)> {
    let facts = machine.facts.clone().unwrap_or_default();
    let cpus = match (facts.logical_cpus, facts.physical_cpus) {
        (0, _) => String::new(),
        (logical, 0) => format!("{logical} logical"),
        (logical, physical) => format!("{logical} logical, {physical} physical"),
    };
    let bytes = |b: u64| if b > 0 { format::bytes(b as f64) } else { String::new() };
    let span = |d: &Option<prost_types::Duration>| {
        seconds(d.as_ref()).map(format::duration).unwrap_or_default()
    };
    let rows = [
        ("System", facts.os_description),
        ("Kernel", facts.kernel_version),
        ("Architecture", facts.arch),
        ("Virtualisation", facts.virtualization),
        ("CPU", facts.cpu_model),
        ("CPUs", cpus),
        ("Memory", bytes(facts.memory_bytes)),
        ("Swap", bytes(facts.swap_bytes)),
        ("Addresses", facts.addresses.join(", ")),
        ("Collector", facts.collector_version),
        ("Reads every", span(&machine.interval)),
        ("Clock ahead by", span(&machine.clock_skew)),
        ("Id", machine.id.clone()),
    ];
    rows.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}
