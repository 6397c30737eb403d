//! The latest value of every series: `GetCurrentState`, and samples as people read them.

use std::collections::HashMap;
use std::sync::Arc;

use model::{Frame, Kind, LayoutId, Series, UnixMillis};
use proto::{convert, v1};
use storage::live::LiveFrame;
use storage::rollup::Rollup;
use tonic::Status;

use super::filter::MetricFilter;
use super::{Desk, unavailable};

/// How far back to look for the frame before the latest, which a rate needs.
const RATE_LOOKBACK_MS: i64 = 60_000;

pub(super) async fn answer(
    desk: &Desk,
    request: v1::GetCurrentStateRequest,
) -> Result<v1::GetCurrentStateResponse, Status> {
    let filter = MetricFilter::new("metrics", request.metrics)?;
    let machine = desk.machine("machine", &request.machine).await?;
    let id = machine.record.id;
    let latest = desk.live.latest(id).await.map_err(unavailable)?;
    let newest = latest.last().map_or(UnixMillis(0), |f| f.frame.time);
    let recent = desk.live.recent(id, newest - RATE_LOOKBACK_MS).await.map_err(unavailable)?;
    let samples = samples(&filter, &latest, &recent);
    Ok(v1::GetCurrentStateResponse { machine: Some(machine.to_proto()), samples })
}

/// By metric and labels. Of a series that is in several layouts, the newest value. `recent` is by time.
fn samples(filter: &MetricFilter, latest: &[LiveFrame], recent: &[LiveFrame]) -> Vec<v1::Sample> {
    let times: HashMap<LayoutId, UnixMillis> =
        latest.iter().map(|f| (f.layout.id(), f.frame.time)).collect();
    let mut before: HashMap<LayoutId, &Arc<Frame>> = HashMap::new();
    for LiveFrame { layout, frame } in recent {
        if times.get(&layout.id()).is_some_and(|latest| frame.time < *latest) {
            before.insert(layout.id(), frame);
        }
    }
    // Oldest layout first, so that the newest value of a series is what remains.
    let mut samples: HashMap<&Series, v1::Sample> = HashMap::new();
    for LiveFrame { layout, frame } in latest {
        let before = before.get(&layout.id()).map(|frame| frame.as_ref());
        for column in filter.columns(layout) {
            let series = &layout.series()[column];
            if let Some(sample) = sample(series, column, frame, before) {
                samples.insert(series, sample);
            }
        }
    }
    let mut samples: Vec<_> = samples.into_iter().collect();
    samples.sort_by(|a, b| a.0.cmp(b.0));
    samples.into_iter().map(|(_, sample)| sample).collect()
}

/// `None` when there is no value.
pub(super) fn sample(
    series: &Series,
    column: usize,
    frame: &Frame,
    before: Option<&Frame>,
) -> Option<v1::Sample> {
    let value = frame.values[column];
    if value.is_nan() {
        return None;
    }
    let rate = before.filter(|_| series.kind == Kind::Counter).and_then(|before| {
        let seconds = frame.time.since(before.time) as f64 / 1000.0;
        let earlier = before.values[column];
        (seconds > 0.0 && !earlier.is_nan()).then(|| Rollup::step(earlier, value) / seconds)
    });
    Some(v1::Sample {
        metric: series.metric.to_string(),
        labels: convert::labels_to_proto(&series.labels),
        value,
        unit: series.unit.to_string(),
        time: Some(convert::timestamp_to_proto(frame.time)),
        rate,
    })
}

#[cfg(test)]
mod tests {
    use model::{Labels, Layout};

    use super::*;

    fn frame(layout: &Layout, ms: i64, values: &[f64]) -> LiveFrame {
        let frame = Frame { time: UnixMillis(ms), layout: layout.id(), values: values.to_vec() };
        LiveFrame { layout: layout.clone(), frame: Arc::new(frame) }
    }

    #[test]
    fn a_series_that_moved_to_another_layout_is_answered_once_with_its_newest_value() {
        let gauge = |name: &str| Series::gauge(name, "1", Labels::empty());
        let old = Layout::new(vec![gauge("a"), gauge("gone")]).expect("valid");
        let new = Layout::new(vec![gauge("b"), gauge("a")]).expect("valid");
        let latest = [frame(&old, 1000, &[1.0, 9.0]), frame(&new, 2000, &[f64::NAN, 2.0])];
        let all = MetricFilter::new("metrics", vec![]).expect("valid");
        let samples = samples(&all, &latest, &latest);
        let found: Vec<_> = samples.iter().map(|s| (s.metric.as_str(), s.value)).collect();
        assert_eq!(found, [("a", 2.0), ("gone", 9.0)]);
    }

    #[test]
    fn counters_have_a_rate_over_the_last_interval() {
        let counter = Series::counter("c", "By", Labels::empty());
        let layout = Layout::new(vec![counter]).expect("valid");
        let frames = [
            frame(&layout, 0, &[7.0]),
            frame(&layout, 1000, &[100.0]),
            frame(&layout, 3000, &[50.0]),
        ];
        let all = MetricFilter::new("metrics", vec![]).expect("valid");
        // It started again in between: 50 since then, in two seconds.
        assert_eq!(samples(&all, &frames[2..], &frames)[0].rate, Some(25.0));
        assert_eq!(samples(&all, &frames[..1], &frames[..1])[0].rate, None);
    }
}
