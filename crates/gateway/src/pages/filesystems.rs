//! The filesystems of one machine, and when each will be full; a part of its page and a fragment.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use model::{UnixMillis, metric};
use proto::convert::{duration_from_ms, timestamp_to_proto};
use proto::v1;

use super::page::html;
use crate::api::now_ms;
use crate::format;
use crate::gateway::Shared;
use crate::view::{Forecast, level_of, until_full};

const HOUR_MS: i64 = 3_600_000;
/// What a forecast looks back on.
const PAST_MS: i64 = 7 * 24 * HOUR_MS;
const MOUNTPOINT: &str = "system.filesystem.mountpoint";

#[derive(Template)]
#[template(path = "machine/filesystems.html")]
struct FilesystemsFragment {
    filesystems: Filesystems,
}

pub(crate) struct Filesystems {
    pub(crate) lines: Vec<Line>,
    pub(crate) problem: String,
}

pub(crate) struct Line {
    pub(crate) mountpoint: String,
    pub(crate) used: String,
    pub(crate) level: &'static str,
    pub(crate) percent: u8,
    pub(crate) size: String,
    pub(crate) forecast: Forecast,
}

pub(crate) async fn filesystems(
    State(shared): State<Shared>,
    Path(name): Path<String>,
) -> Response {
    html(&FilesystemsFragment { filesystems: list_filesystems(&shared, &name).await })
}

pub(crate) async fn list_filesystems(shared: &Shared, machine: &str) -> Filesystems {
    match ask(shared, machine).await {
        Ok(lines) => Filesystems { lines, problem: String::new() },
        Err(status) => Filesystems { lines: Vec::new(), problem: status.message().to_owned() },
    }
}

async fn ask(shared: &Shared, machine: &str) -> Result<Vec<Line>, tonic::Status> {
    let now = now_ms();
    let metrics = [metric::FILESYSTEM_UTILIZATION, metric::FILESYSTEM_LIMIT];
    let state = shared.upstream.current_state(v1::GetCurrentStateRequest {
        machine: machine.to_owned(),
        metrics: metrics.iter().map(|metric| metric.name.to_owned()).collect(),
    });
    let past = shared.upstream.query_range(v1::QueryRangeRequest {
        metric: metric::FILESYSTEM_UTILIZATION.name.to_owned(),
        machines: vec![v1::LabelMatcher {
            name: "machine.id".to_owned(),
            op: v1::label_matcher::Op::Equal.into(),
            value: machine.to_owned(),
        }],
        start: Some(timestamp_to_proto(UnixMillis(now - PAST_MS))),
        end: Some(timestamp_to_proto(UnixMillis(now))),
        step: Some(duration_from_ms(HOUR_MS)),
        ..Default::default()
    });
    let (state, past) = tokio::join!(state, past);
    // What there is now is worth showing without what will be.
    Ok(lines(state?.samples, past.map(|answer| answer.series).unwrap_or_default()))
}

fn lines(samples: Vec<v1::Sample>, past: Vec<v1::RangeSeries>) -> Vec<Line> {
    // Labels have no order of their own.
    let key = |labels: std::collections::HashMap<String, String>| -> BTreeMap<String, String> {
        labels.into_iter().collect()
    };
    let past: BTreeMap<_, _> = past.into_iter().map(|s| (key(s.labels), s.values)).collect();
    let (shares, others): (Vec<_>, Vec<_>) =
        samples.into_iter().partition(|s| s.metric == metric::FILESYSTEM_UTILIZATION.name);
    let sizes: BTreeMap<_, _> = others.into_iter().map(|s| (key(s.labels), s.value)).collect();
    let mut lines: Vec<(f64, Line)> = shares
        .into_iter()
        .map(|sample| {
            let labels = key(sample.labels);
            let line = Line {
                mountpoint: labels.get(MOUNTPOINT).cloned().unwrap_or_default(),
                used: format::percent(sample.value),
                level: level_of(sample.value),
                percent: (sample.value.clamp(0.0, 1.0) * 100.0).round() as u8,
                size: sizes.get(&labels).map_or_else(|| "–".to_owned(), |&s| format::bytes(s)),
                forecast: past.get(&labels).map_or(Forecast::Unknown, |v| until_full(v)),
            };
            (sample.value, line)
        })
        .collect();
    lines.sort_by(|(a, x), (b, y)| b.total_cmp(a).then_with(|| x.mountpoint.cmp(&y.mountpoint)));
    lines.into_iter().map(|(_, line)| line).collect()
}
