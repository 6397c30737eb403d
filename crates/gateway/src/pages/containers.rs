//! The containers of one machine with state, health and restarts; a part of its page and a fragment.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use proto::v1;

use super::page::html;
use crate::api::now_ms;
use crate::gateway::Shared;
use crate::view::{CONTAINER_METRICS, ContainerRow, container_rows};

/// Events that are looked through for starts and stops.
const EVENTS_ASKED: u32 = 500;

#[derive(Template)]
#[template(path = "machine/containers.html")]
struct ContainersFragment {
    containers: Containers,
}

pub(crate) struct Containers {
    pub(crate) lines: Vec<ContainerRow>,
    pub(crate) problem: String,
}

impl Containers {
    /// Many machines have none, and then there is nothing to say.
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.problem.is_empty()
    }
}

pub(crate) async fn containers(State(shared): State<Shared>, Path(name): Path<String>) -> Response {
    html(&ContainersFragment { containers: list_containers(&shared, &name).await })
}

pub(crate) async fn list_containers(shared: &Shared, machine: &str) -> Containers {
    let state = shared.upstream.current_state(v1::GetCurrentStateRequest {
        machine: machine.to_owned(),
        metrics: CONTAINER_METRICS.iter().map(|metric| metric.name.to_owned()).collect(),
    });
    let events = shared.upstream.list_events(v1::ListEventsRequest {
        machine: machine.to_owned(),
        limit: EVENTS_ASKED,
        ..Default::default()
    });
    let (state, events) = tokio::join!(state, events);
    match state {
        Ok(state) => {
            // What runs is worth showing without what has stopped.
            let events = events.map(|answer| answer.events).unwrap_or_default();
            let lines = container_rows(state.samples, &events, now_ms());
            Containers { lines, problem: String::new() }
        }
        Err(status) => Containers { lines: Vec::new(), problem: status.message().to_owned() },
    }
}
