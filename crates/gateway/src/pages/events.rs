//! What happened to one machine and what is missing of it; a part of its page and a fragment.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use proto::v1;

use super::page::html;
use crate::api::now_ms;
use crate::gateway::Shared;
use crate::view::EventLine;

const EVENTS_SHOWN: u32 = 50;

#[derive(Template)]
#[template(path = "machine/events.html")]
struct EventsFragment {
    events: Events,
}

pub(crate) struct Events {
    pub(crate) lines: Vec<EventLine>,
    pub(crate) problem: String,
}

pub(crate) async fn events(State(shared): State<Shared>, Path(name): Path<String>) -> Response {
    html(&EventsFragment { events: list_events(&shared, &name).await })
}

pub(crate) async fn list_events(shared: &Shared, machine: &str) -> Events {
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
