//! `GET /api/v1/metrics`: the metrics that Muster's own collector sends. Other names may be in history too.

use axum::Json;
use serde::Serialize;

#[derive(Serialize)]
pub(crate) struct Metrics {
    metrics: Vec<MetricJson>,
}

#[derive(Serialize)]
struct MetricJson {
    name: &'static str,
    kind: &'static str,
    unit: &'static str,
    help: &'static str,
}

pub(crate) async fn metrics() -> Json<Metrics> {
    let metrics = model::metric::ALL.iter().map(|metric| MetricJson {
        name: metric.name,
        kind: match metric.kind {
            model::Kind::Gauge => "gauge",
            model::Kind::Counter => "counter",
        },
        unit: metric.unit,
        help: metric.help.trim(),
    });
    Json(Metrics { metrics: metrics.collect() })
}
