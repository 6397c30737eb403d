//! `GET /api/v1/query_range`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use model::UnixMillis;
use proto::convert::{duration_from_ms, timestamp_to_proto};
use proto::v1;
use serde::Serialize;

use super::{ApiError, Params, now_ms};
use crate::format;
use crate::gateway::Shared;
use crate::live::Number;
use crate::view::millis;

#[derive(Serialize)]
pub(crate) struct Range {
    start: Option<String>,
    start_ms: Option<i64>,
    step_ms: i64,
    /// `raw`, `1m` or `1h`.
    tier: &'static str,
    aggregate: &'static str,
    series: Vec<RangeSeries>,
}

#[derive(Serialize)]
struct RangeSeries {
    machine: String,
    host_name: String,
    metric: String,
    labels: BTreeMap<String, String>,
    kind: &'static str,
    unit: String,
    values: Vec<Number>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    min: Vec<Number>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    max: Vec<Number>,
}

const AGGREGATES: [(&str, v1::Aggregate); 10] = [
    ("last", v1::Aggregate::Last),
    ("mean", v1::Aggregate::Mean),
    ("min", v1::Aggregate::Min),
    ("max", v1::Aggregate::Max),
    ("sum", v1::Aggregate::Sum),
    ("count", v1::Aggregate::Count),
    ("stddev", v1::Aggregate::Stddev),
    ("p95", v1::Aggregate::P95),
    ("rate", v1::Aggregate::Rate),
    ("increase", v1::Aggregate::Increase),
];

/// `metric`, `start` and `end` (an hour ago and now when absent), `step`, `aggregate`, `band`, `machine`
/// (an id, a host name or the beginning of an id), `match` over machines and `label` over labels of the series.
pub(crate) async fn query_range(
    State(shared): State<Shared>,
    params: Params,
) -> Result<Json<Range>, ApiError> {
    params.allow(&[
        "metric",
        "machine",
        "match",
        "label",
        "start",
        "end",
        "step",
        "aggregate",
        "band",
    ])?;
    let mut request = request(&params, now_ms())?;
    if let Some(machine) = params.once("machine")? {
        request.machines.push(v1::LabelMatcher {
            name: "machine.id".to_owned(),
            op: v1::label_matcher::Op::Equal.into(),
            value: id_of(&shared, machine).await?,
        });
    }
    let answer = shared.upstream.query_range(request).await?;
    Ok(Json(answer.into()))
}

/// A matcher knows whole ids only; the aggregator knows which machine is meant, and why there is none.
async fn id_of(shared: &Shared, machine: &str) -> Result<String, ApiError> {
    if shared.hub.picture().rows.contains_key(machine) {
        return Ok(machine.to_owned());
    }
    Ok(shared.upstream.machine(machine).await?.id)
}

fn request(params: &Params, now: i64) -> Result<v1::QueryRangeRequest, ApiError> {
    let end = params.time("end", now)?.unwrap_or(now);
    let start = params.time("start", now)?.unwrap_or(end.saturating_sub(3_600_000));
    if start >= end {
        return Err(ApiError::invalid("start", "start: expected a time before end"));
    }
    Ok(v1::QueryRangeRequest {
        metric: params.required("metric")?.to_owned(),
        labels: params.matchers("label")?,
        machines: params.matchers("match")?,
        start: Some(timestamp_to_proto(UnixMillis(start))),
        end: Some(timestamp_to_proto(UnixMillis(end))),
        step: params.duration_ms("step")?.map(duration_from_ms),
        aggregate: aggregate(params.text("aggregate"))?.into(),
        with_band: params.flag("band"),
    })
}

fn aggregate(name: Option<&str>) -> Result<v1::Aggregate, ApiError> {
    let Some(name) = name else { return Ok(v1::Aggregate::Unspecified) };
    let known = AGGREGATES.iter().find(|(known, _)| *known == name);
    known.map(|(_, aggregate)| *aggregate).ok_or_else(|| {
        let names: Vec<_> = AGGREGATES.iter().map(|(name, _)| *name).collect();
        let message = format!("aggregate: expected one of {}, found {name:?}", names.join(", "));
        ApiError::invalid("aggregate", message)
    })
}

impl From<v1::QueryRangeResponse> for Range {
    fn from(answer: v1::QueryRangeResponse) -> Self {
        let numbers = |values: Vec<f64>| values.into_iter().map(Number).collect();
        let start_ms = millis(answer.start.as_ref());
        let tier = match answer.tier() {
            v1::Tier::Raw => "raw",
            v1::Tier::Tier1m => "1m",
            v1::Tier::Tier1h => "1h",
            v1::Tier::Unspecified => "",
        };
        let aggregate = AGGREGATES
            .iter()
            .find(|(_, aggregate)| *aggregate == answer.aggregate())
            .map_or("", |(name, _)| name);
        let step_ms =
            answer.step.as_ref().map_or(0, |d| d.seconds * 1000 + i64::from(d.nanos) / 1_000_000);
        let series = answer.series.into_iter().map(|series| RangeSeries {
            kind: match series.kind() {
                v1::MetricKind::Counter => "counter",
                v1::MetricKind::Gauge | v1::MetricKind::Unspecified => "gauge",
            },
            machine: series.machine_id,
            host_name: series.host_name,
            metric: series.metric,
            labels: series.labels.into_iter().collect(),
            unit: series.unit,
            values: numbers(series.values),
            min: numbers(series.min),
            max: numbers(series.max),
        });
        let series = series.collect();
        Self { start: start_ms.map(format::rfc3339), start_ms, step_ms, tier, aggregate, series }
    }
}
