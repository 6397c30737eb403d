//! `/api/v1/alerts/dead-events`: what the alert services could not process; `POST …/{id}/retry`, `DELETE …/{id}`.

use axum::Json;
use axum::extract::{Path, State};
use proto::v1;
use serde::Serialize;

use super::ApiError;
use crate::format;
use crate::gateway::Shared;
use crate::view::millis;

#[derive(Serialize)]
pub(crate) struct DeadEvents {
    total: u32,
    events: Vec<DeadEvent>,
}

#[derive(Serialize)]
struct DeadEvent {
    id: String,
    since: Option<String>,
    machine: String,
    kind: String,
    reason: String,
    can_be_retried: bool,
}

#[derive(Serialize)]
pub(crate) struct Done {
    id: String,
}

/// All that are kept.
const LIMIT: u32 = 1_000;

pub(crate) async fn dead_events(
    State(shared): State<Shared>,
) -> Result<Json<DeadEvents>, ApiError> {
    let request = v1::ListDeadEventsRequest { limit: LIMIT };
    let answer = shared.alerts.list_dead_events(request).await?;
    let shown = |event: v1::DeadEvent| DeadEvent {
        since: millis(event.since.as_ref()).map(format::rfc3339),
        machine: event.machine_id,
        kind: event.kind,
        reason: event.reason,
        can_be_retried: event.can_be_retried,
        id: event.id,
    };
    let events = answer.events.into_iter().map(shown).collect();
    Ok(Json(DeadEvents { total: answer.total, events }))
}

pub(crate) async fn dead_event_retry(
    State(shared): State<Shared>,
    Path(id): Path<String>,
) -> Result<Json<Done>, ApiError> {
    let request = v1::RetryDeadEventRequest { id: id.clone() };
    shared.alerts.retry_dead_event(request).await.map_err(ApiError::refused)?;
    Ok(Json(Done { id }))
}

pub(crate) async fn dead_event_discard(
    State(shared): State<Shared>,
    Path(id): Path<String>,
) -> Result<Json<Done>, ApiError> {
    let request = v1::DiscardDeadEventRequest { id: id.clone() };
    shared.alerts.discard_dead_event(request).await?;
    Ok(Json(Done { id }))
}
