//! What a request of metrics says, as changes of series. Pure.

use std::time::Instant;

use model::{Kind, Labels, Series, pushed};

use super::super::tally::Tally;
use super::wire::{
    ExponentialPoint, ExportMetricsRequest, HistogramPoint, KeyValue, Metric, Number, NumberPoint,
    Points, Resource, SummaryPoint,
};

/// What a value says in `temporality`: the increase since the one before.
const DELTA: i32 = 1;
/// Buckets or quantiles of one point, each a series.
const PARTS_MAX: usize = 256;
/// Attributes of a point that are looked at: names that come twice count once.
const READ_MAX: usize = 4 * model::limits::LABELS_MAX;
/// In `flags`: there is no value.
const NO_VALUE: u32 = 1;

/// Takes a request in. Gives how many values were refused, and why the first was.
pub(super) fn take_in(
    request: &ExportMetricsRequest,
    tally: &mut Tally,
    now: Instant,
) -> (u64, Option<String>) {
    let before = tally.refused();
    let mut problem = None;
    for resource in &request.resource_metrics {
        let (service, instance) = Resource::service(resource.resource.as_ref());
        for metric in resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            let Ok(name) = pushed::metric_name(&metric.name) else {
                tally.refuse(1);
                problem.get_or_insert_with(|| {
                    let shown: String = metric.name.chars().take(80).collect();
                    format!("metric name: expected 1 to 248 bytes that do not begin with muster., system., hw. or container., found {shown:?}")
                });
                continue;
            };
            let mut desk = Desk { name, metric, service: [&service, &instance], tally, now };
            desk.take_in();
        }
    }
    let refused = tally.refused() - before;
    let otherwise = || {
        "no room for further series (collector.push.series_max), or one of another kind".to_owned()
    };
    (refused, (refused > 0).then(|| problem.unwrap_or_else(otherwise)))
}

/// One metric at work.
struct Desk<'a> {
    name: Box<str>,
    metric: &'a Metric,
    service: [&'a str; 2],
    tally: &'a mut Tally,
    now: Instant,
}

impl Desk<'_> {
    fn take_in(&mut self) {
        match &self.metric.points {
            Some(Points::Gauge(gauge)) => {
                gauge.data_points.iter().for_each(|point| self.number(point, Kind::Gauge, false));
            }
            Some(Points::Sum(sum)) => {
                let kind = if sum.is_monotonic { Kind::Counter } else { Kind::Gauge };
                let is_delta = sum.temporality == DELTA;
                sum.data_points.iter().for_each(|point| self.number(point, kind, is_delta));
            }
            Some(Points::Histogram(histogram)) => {
                let is_delta = histogram.temporality == DELTA;
                histogram.data_points.iter().for_each(|point| self.histogram(point, is_delta));
            }
            Some(Points::ExponentialHistogram(histogram)) => {
                let is_delta = histogram.temporality == DELTA;
                histogram.data_points.iter().for_each(|point| self.exponential(point, is_delta));
            }
            Some(Points::Summary(summary)) => {
                summary.data_points.iter().for_each(|point| self.summary(point));
            }
            None => self.tally.refuse(1),
        }
    }

    fn number(&mut self, point: &NumberPoint, kind: Kind, is_delta: bool) {
        let value = match point.value {
            Some(Number::Double(value)) => value,
            Some(Number::Int(value)) => value as f64,
            None => return,
        };
        if point.flags & NO_VALUE == 0 {
            self.put("", kind, &point.attributes, None, value, is_delta);
        }
    }

    fn histogram(&mut self, point: &HistogramPoint, is_delta: bool) {
        if point.flags & NO_VALUE != 0 {
            return;
        }
        if point.bucket_counts.len() > PARTS_MAX {
            return self.tally.refuse(1);
        }
        self.totals(&point.attributes, point.count, point.sum, is_delta);
        // Cumulative, as Prometheus has them: how many were at most so much.
        let mut below = 0u64;
        let bounds = point.explicit_bounds.iter().map(f64::to_string);
        for (count, bound) in point.bucket_counts.iter().zip(bounds.chain(["+Inf".to_owned()])) {
            below = below.saturating_add(*count);
            let le = Some(("le", bound.as_str()));
            self.put(".bucket", Kind::Counter, &point.attributes, le, below as f64, is_delta);
        }
    }

    /// Its buckets are too many to be series each.
    fn exponential(&mut self, point: &ExponentialPoint, is_delta: bool) {
        if point.flags & NO_VALUE == 0 {
            self.totals(&point.attributes, point.count, point.sum, is_delta);
        }
    }

    fn summary(&mut self, point: &SummaryPoint) {
        if point.flags & NO_VALUE != 0 {
            return;
        }
        if point.quantile_values.len() > PARTS_MAX {
            return self.tally.refuse(1);
        }
        self.totals(&point.attributes, point.count, Some(point.sum), false);
        for value in &point.quantile_values {
            let quantile = value.quantile.to_string();
            let split = Some(("quantile", quantile.as_str()));
            self.put("", Kind::Gauge, &point.attributes, split, value.value, false);
        }
    }

    fn totals(&mut self, attributes: &[KeyValue], count: u64, sum: Option<f64>, is_delta: bool) {
        self.put(".count", Kind::Counter, attributes, None, count as f64, is_delta);
        if let Some(sum) = sum {
            self.put(".sum", Kind::Counter, attributes, None, sum, is_delta);
        }
    }

    fn put(
        &mut self,
        suffix: &str,
        kind: Kind,
        attributes: &[KeyValue],
        split: Option<(&str, &str)>,
        value: f64,
        is_delta: bool,
    ) {
        let Some(labels) = self.labels(attributes, split) else { return self.tally.refuse(1) };
        let is_count = matches!(suffix, ".count" | ".bucket");
        let unit = if is_count { "1" } else { self.metric.unit.as_str() };
        let unit = if unit.len() > model::limits::UNIT_BYTES_MAX { "" } else { unit };
        let metric = format!("{}{suffix}", self.name);
        let series = Series { metric: metric.into(), labels, kind, unit: unit.into() };
        match is_delta {
            true => self.tally.add(series, value, self.now),
            false => self.tally.set(series, value, self.now),
        }
    }

    fn labels(&self, attributes: &[KeyValue], split: Option<(&str, &str)>) -> Option<Labels> {
        let own = ["service.name", "service.instance.id"].into_iter().zip(self.service);
        let texts: Vec<(&str, String)> =
            attributes.iter().take(READ_MAX).map(|pair| (pair.key.as_str(), pair.text())).collect();
        let texts = texts.iter().map(|(name, value)| (*name, value.as_str()));
        pushed::labels(own.chain(split).chain(texts))
    }
}
