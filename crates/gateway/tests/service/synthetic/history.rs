//! The past: what `QueryRange` answers.

use proto::v1;
use tonic::Status;

use super::machines::{host_name, machine_id};
use super::values::series;
use super::{millis, timestamp};

/// `there` are the machines of the fleet.
pub(super) fn answer(
    request: v1::QueryRangeRequest,
    there: impl Iterator<Item = usize>,
) -> Result<v1::QueryRangeResponse, Status> {
    let (Some(start), Some(end)) = (&request.start, &request.end) else {
        return Err(Status::invalid_argument("start: required"));
    };
    let step =
        request.step.as_ref().map_or(10_000, |d| d.seconds * 1000 + i64::from(d.nanos) / 1_000_000);
    if step < 100 {
        return Err(Status::invalid_argument("step: expected at least 100 ms"));
    }
    let start = millis(start).div_euclid(step) * step;
    let windows = (millis(end) - start + step - 1) / step;
    let asked = request.machines.iter().find(|m| m.name == "machine.id").map(|m| &m.value);
    let mut answer = v1::QueryRangeResponse {
        start: Some(timestamp(start)),
        step: Some(prost_types::Duration {
            seconds: step / 1000,
            nanos: (step % 1000 * 1_000_000) as i32,
        }),
        tier: v1::Tier::Raw.into(),
        aggregate: request.aggregate,
        series: Vec::new(),
    };
    for i in there.filter(|&i| asked.is_none_or(|id| *id == machine_id(i))) {
        for (series, value) in series(i) {
            let fits = request.labels.iter().all(|m| {
                let found = series.labels.get(&m.name).map_or("", String::as_str);
                (found == m.value) != (m.op() == v1::label_matcher::Op::NotEqual)
            });
            if series.metric != request.metric || !fits {
                continue;
            }
            let counter = series.kind() == v1::MetricKind::Counter;
            // Half a percent of the range is missing, to be shown as a gap.
            let hole = windows * 3 / 5;
            let values: Vec<f64> = (0..windows)
                .map(|w| match start + w * step {
                    _ if windows > 20 && (hole..hole + windows / 40).contains(&w) => f64::NAN,
                    t if counter => (value(t + step) - value(t)).max(0.0) / (step as f64 / 1000.0),
                    t => value(t),
                })
                .collect();
            let band = |up: f64| match request.with_band && !counter {
                true => values.iter().map(|v| v * up).collect(),
                false => Vec::new(),
            };
            answer.series.push(v1::RangeSeries {
                machine_id: machine_id(i),
                host_name: host_name(i),
                metric: series.metric.clone(),
                kind: series.kind,
                unit: series.unit.clone(),
                min: band(0.8),
                max: band(1.15),
                values,
                labels: series.labels,
            });
        }
    }
    Ok(answer)
}
