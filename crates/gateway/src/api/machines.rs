//! `GET /api/v1/machines` and what is below it.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use proto::v1;
use serde::Serialize;

use super::{ApiError, Params};
use crate::format;
use crate::gateway::Shared;
use crate::live::Number;
use crate::view::{MachineJson, millis};

#[derive(Serialize)]
pub(crate) struct Machines {
    machines: Vec<MachineJson>,
}

/// `?match=env=dev` any number of times.
pub(crate) async fn machines(
    State(shared): State<Shared>,
    params: Params,
) -> Result<Json<Machines>, ApiError> {
    params.allow(&["match"])?;
    let matchers = params.matchers("match")?;
    let answer = shared.upstream.list_machines(v1::ListMachinesRequest { matchers }).await?;
    let machines = answer.machines.into_iter().map(MachineJson::from).collect();
    Ok(Json(Machines { machines }))
}

pub(crate) async fn machine(
    State(shared): State<Shared>,
    Path(machine): Path<String>,
) -> Result<Json<MachineJson>, ApiError> {
    Ok(Json(shared.upstream.machine(&machine).await?.into()))
}

#[derive(Serialize)]
pub(crate) struct Removed {
    id: String,
    host_name: String,
}

/// Forgets the machine and its history.
pub(crate) async fn machine_remove(
    State(shared): State<Shared>,
    Path(machine): Path<String>,
) -> Result<Json<Removed>, ApiError> {
    // Which one is meant is settled first, so that what is refused afterwards is the removal.
    let machine = shared.upstream.machine(&machine).await?;
    let removed = shared.upstream.remove_machine(&machine.id).await.map_err(ApiError::refused)?;
    Ok(Json(Removed { id: removed.machine_id, host_name: removed.host_name }))
}

#[derive(Serialize)]
pub(crate) struct CurrentState {
    machine: Option<MachineJson>,
    samples: Vec<SampleJson>,
}

#[derive(Serialize)]
struct SampleJson {
    metric: String,
    labels: BTreeMap<String, String>,
    value: Number,
    unit: String,
    time: Option<String>,
    rate: Option<Number>,
}

/// `?metrics=system.cpu.*,system.uptime`.
pub(crate) async fn state(
    State(shared): State<Shared>,
    Path(machine): Path<String>,
    params: Params,
) -> Result<Json<CurrentState>, ApiError> {
    params.allow(&["metrics"])?;
    let request = v1::GetCurrentStateRequest { machine, metrics: params.list("metrics") };
    let answer = shared.upstream.current_state(request).await?;
    let samples = answer.samples.into_iter().map(|sample| SampleJson {
        time: millis(sample.time.as_ref()).map(format::rfc3339),
        metric: sample.metric,
        labels: sample.labels.into_iter().collect(),
        value: Number(sample.value),
        unit: sample.unit,
        rate: sample.rate.map(Number),
    });
    let samples = samples.collect();
    Ok(Json(CurrentState { machine: answer.machine.map(Into::into), samples }))
}
