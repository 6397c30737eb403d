//! `GET /api/v1/machines/{machine}/events`.

use axum::Json;
use axum::extract::{Path, State};
use model::UnixMillis;
use proto::convert::timestamp_to_proto;
use proto::v1;
use serde::Serialize;

use super::{ApiError, Params, now_ms};
use crate::gateway::Shared;
use crate::view::EventJson;

#[derive(Serialize)]
pub(crate) struct Events {
    events: Vec<EventJson>,
}

pub(crate) async fn events(
    State(shared): State<Shared>,
    Path(machine): Path<String>,
    params: Params,
) -> Result<Json<Events>, ApiError> {
    params.allow(&["start", "end", "limit"])?;
    let now = now_ms();
    let time = |name: &str| -> Result<_, ApiError> {
        Ok(params.time(name, now)?.map(|ms| timestamp_to_proto(UnixMillis(ms))))
    };
    let request = v1::ListEventsRequest {
        machine,
        start: time("start")?,
        end: time("end")?,
        limit: params.number("limit")?.unwrap_or(0),
    };
    let answer = shared.upstream.list_events(request).await?;
    Ok(Json(Events { events: answer.events.into_iter().filter_map(EventJson::new).collect() }))
}
