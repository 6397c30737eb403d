//! The processes of one machine, now or at a moment; a part of its page and a fragment.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use model::UnixMillis;
use proto::convert::timestamp_to_proto;
use proto::v1;

use super::page::html;
use crate::api::{ApiError, Params, now_ms};
use crate::format;
use crate::gateway::Shared;
use crate::view::{Arrange, ProcessLine, ProcessSort, When, millis, process_matches};

/// Rows of the table. The others are found by a search or another order.
const PROCESSES_SHOWN: usize = 25;
/// Where they are grouped: a group without its members says little.
const GROUPED_SHOWN: usize = 100;

#[derive(Template)]
#[template(path = "machine/processes.html")]
struct ProcessesFragment {
    processes: Processes,
}

pub(crate) struct Processes {
    pub(crate) time: Option<When>,
    /// A moment was asked for, rather than now.
    pub(crate) at: Option<When>,
    pub(crate) sort: &'static str,
    pub(crate) arrange: Arrange,
    pub(crate) text: String,
    pub(crate) counts: String,
    pub(crate) lines: Vec<ProcessLine>,
    /// How many fit the search, shown or not.
    pub(crate) found: usize,
    pub(crate) problem: String,
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

pub(crate) async fn list_processes(
    shared: &Shared,
    machine: &str,
    params: &Params,
) -> Result<Processes, ApiError> {
    params.allow(&["sort", "by", "q", "at", "range", "from", "to"])?;
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
    let arrange = Arrange::named(params.text("by"));
    let contained = answer.processes.iter().any(|p| !p.container_id.is_empty());
    let containers = match contained {
        true => shared.upstream.container_names(machine).await,
        false => Default::default(),
    };
    let shown = if arrange == Arrange::List { PROCESSES_SHOWN } else { GROUPED_SHOWN };
    let processes = std::mem::take(&mut answer.processes);
    let picture = shared.hub.picture();
    let facts = picture.rows.get(machine).and_then(|row| row.machine.facts.as_ref());
    let cpus = facts.map_or(0, |facts| facts.logical_cpus);
    Ok(Processes {
        time: millis(answer.time.as_ref()).map(|ms| When::new(now, ms)),
        at: at.map(|ms| When::new(now, ms)),
        sort: sort.name(),
        text,
        counts: counts(&answer),
        found,
        arrange,
        lines: arrange
            .place(processes, &containers)
            .into_iter()
            .take(shown)
            .map(|placed| ProcessLine::new(placed, &containers, cpus, now))
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
    pub(crate) fn unknown(error: ApiError) -> Self {
        Self {
            time: None,
            at: None,
            sort: ProcessSort::default().name(),
            arrange: Arrange::default(),
            text: String::new(),
            counts: String::new(),
            lines: Vec::new(),
            found: 0,
            problem: error.message().to_owned(),
        }
    }

    pub(crate) fn is_sorted_by(&self, name: &str) -> bool {
        self.sort == name
    }
}
