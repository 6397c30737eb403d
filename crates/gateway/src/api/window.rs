//! `GET /api/v1/machines/{machine}/window`: the last five minutes of every chart, by series.
//!
//! What a chart opens with. By series rather than by time because neighbours in time compress to
//! almost nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use proto::v1;
use serde::Serialize;
use tonic::Status;

use super::{ApiError, Params, now_ms};
use crate::gateway::Shared;
use crate::live::{Number, Window};

/// How long a page waits for a feed that is just being filled.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Serialize)]
pub(crate) struct WindowJson {
    machine: String,
    now: i64,
    groups: Vec<Group>,
}

/// Series that are read at the same times.
#[derive(Serialize)]
struct Group {
    times: Vec<i64>,
    /// Those of the times whose values came late.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    late: Vec<i64>,
    series: Vec<Series>,
}

#[derive(Serialize)]
struct Series {
    metric: String,
    labels: BTreeMap<String, String>,
    counter: bool,
    values: Vec<Number>,
}

/// `?metrics=` only these; all when absent. `having=` only series with this label: of a machine with many
/// CPUs, the modes of all together are a tenth of what each CPU has.
pub(crate) async fn window(
    State(shared): State<Shared>,
    Path(machine): Path<String>,
    params: Params,
) -> Result<Json<WindowJson>, ApiError> {
    params.allow(&["metrics", "having"])?;
    let metrics = params.list("metrics");
    let having = params.text("having").filter(|label| !label.is_empty());
    let known = shared.hub.picture().rows.contains_key(&machine);
    // The hub knows ids; the aggregator also knows names, and why there is no such machine.
    let id = if known { machine } else { shared.upstream.machine(&machine).await?.id };
    let mut reader = shared.hub.feed(&id).ok_or_else(|| {
        Status::resource_exhausted("too many machines are watched at once; close some pages")
    })?;
    let window = reader.window(PATIENCE).await;
    Ok(Json(WindowJson { machine: id, now: now_ms(), groups: groups(&window, &metrics, having) }))
}

fn groups(window: &Window, metrics: &[String], having: Option<&str>) -> Vec<Group> {
    let wanted = |column: &v1::SeriesDescriptor| {
        (metrics.is_empty() || metrics.contains(&column.metric))
            && having.is_none_or(|label| column.labels.contains_key(label))
    };
    let mut by_layout: BTreeMap<u32, Vec<&Arc<_>>> = BTreeMap::new();
    for frame in &window.frames {
        by_layout.entry(frame.layout.number).or_default().push(frame);
    }
    let groups = by_layout.into_values().map(|frames| {
        let layout = &frames[0].layout;
        let columns = layout.columns.iter().enumerate().filter(|(_, c)| wanted(c));
        let series = columns.map(|(i, column)| Series {
            metric: column.metric.clone(),
            labels: column.labels.clone().into_iter().collect(),
            counter: column.kind() == v1::MetricKind::Counter,
            values: frames.iter().map(|frame| Number(frame.values[i])).collect(),
        });
        Group {
            times: frames.iter().map(|frame| frame.time_ms).collect(),
            late: frames.iter().filter(|frame| frame.late).map(|frame| frame.time_ms).collect(),
            series: series.collect(),
        }
    });
    groups.filter(|group| !group.series.is_empty()).collect()
}
