//! `/machines/{machine}`: everything about one machine.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::{IntoResponse as _, Redirect, Response};
use serde::Deserialize;

use super::Page;
use super::alerts::Fields;
use super::badge::{Badge, badges};
use super::charts::{CHARTS, Chart};
use super::containers::{Containers, list_containers};
use super::events::{Events, list_events};
use super::facts::{Facts, collector_costs};
use super::filesystems::{Filesystems, list_filesystems};
use super::page::{html, problem, undone};
use super::processes::{Processes, list_processes};
use crate::api::{ApiError, Params, now_ms};
use crate::gateway::Shared;
use crate::view::{MachineLine, seconds};

#[derive(Template)]
#[template(path = "machine.html")]
struct MachinePage {
    page: Page,
    machine: MachineLine,
    charts: &'static [Chart],
    /// The page opens with the last minutes, so what its first chart shows is fetched beside the scripts.
    opens_live: bool,
    facts: Facts,
    clock_skew_ms: i64,
    interval_ms: i64,
    processes: Processes,
    containers: Containers,
    events: Events,
    filesystems: Filesystems,
    badges: Vec<Badge>,
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
    let (processes, containers, events, filesystems, costs, mut badges) = tokio::join!(
        list_processes(shared, &machine.id, params),
        list_containers(shared, &machine.id),
        list_events(shared, &machine.id),
        list_filesystems(shared, &machine.id),
        collector_costs(shared, &machine.id),
        badges(shared),
    );
    drop(feed);
    let now = now_ms();
    let to_ms = |seconds: Option<f64>| seconds.map_or(0, |s| (s * 1000.0) as i64);
    Ok(MachinePage {
        page: Page::new(shared, uri, "machine"),
        facts: Facts::new(&machine, &costs, now),
        clock_skew_ms: to_ms(seconds(machine.clock_skew.as_ref())),
        interval_ms: to_ms(seconds(machine.interval.as_ref())),
        machine: match shared.hub.picture().rows.get(&machine.id) {
            Some(row) => MachineLine::with_lines(row, now),
            None => MachineLine::new(&machine, now),
        },
        charts: CHARTS,
        opens_live: params.text("range").is_none_or(|range| range == "5m")
            && params.text("from").is_none(),
        // The page is worth showing without them.
        processes: processes.unwrap_or_else(Processes::unknown),
        containers,
        events,
        filesystems,
        badges: badges.remove(&machine.id).unwrap_or_default(),
    })
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Confirmation {
    /// The machine's, typed by hand: what is removed does not come back.
    name: String,
}

pub(crate) async fn remove(
    State(shared): State<Shared>,
    uri: Uri,
    Path(machine): Path<String>,
    Fields(Confirmation { name }): Fields<Confirmation>,
) -> Response {
    match remove_confirmed(&shared, &machine, &name).await {
        Ok(()) => Redirect::to("../../").into_response(),
        Err(error) => undone(&shared, &uri, "Not removed", &error),
    }
}

async fn remove_confirmed(shared: &Shared, machine: &str, name: &str) -> Result<(), ApiError> {
    let machine = shared.upstream.machine(machine).await?;
    if name.trim() != machine.host_name {
        let expected = format!("expected {:?}, found {name:?}", machine.host_name);
        return Err(ApiError::invalid("name", expected));
    }
    shared.upstream.remove_machine(&machine.id).await.map_err(ApiError::refused)?;
    Ok(())
}
