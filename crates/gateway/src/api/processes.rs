//! `GET /api/v1/machines/{machine}/processes`.

use axum::Json;
use axum::extract::{Path, State};
use model::UnixMillis;
use proto::convert::timestamp_to_proto;
use proto::v1;
use serde::Serialize;

use super::{ApiError, Params, now_ms};
use crate::format;
use crate::gateway::Shared;
use crate::view::{ProcessJson, millis};

#[derive(Serialize)]
pub(crate) struct Processes {
    time: Option<String>,
    total: u32,
    running: u32,
    blocked: u32,
    zombie: u32,
    processes: Vec<ProcessJson>,
}

/// `?at=` a moment in the past.
pub(crate) async fn processes(
    State(shared): State<Shared>,
    Path(machine): Path<String>,
    params: Params,
) -> Result<Json<Processes>, ApiError> {
    params.allow(&["at"])?;
    let at = params.time("at", now_ms())?.map(|ms| timestamp_to_proto(UnixMillis(ms)));
    let answer = shared.upstream.list_processes(v1::ListProcessesRequest { machine, at }).await?;
    Ok(Json(Processes {
        time: millis(answer.time.as_ref()).map(format::rfc3339),
        total: answer.total,
        running: answer.running,
        blocked: answer.blocked,
        zombie: answer.zombie,
        processes: answer.processes.into_iter().map(Into::into).collect(),
    }))
}
