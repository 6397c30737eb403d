//! Metrics, spread over the series that they are. Pure.
//!
//! The same series as OTLP's: a histogram is `NAME.count`, `NAME.sum` and `NAME.bucket` by `le`, a summary
//! `NAME.count`, `NAME.sum` and the gauge `NAME` by `quantile`.

use model::{Kind, Labels, Series, limits, pushed};
use proto::{convert, v1};
use serde_json::Value;

use super::fields::{Fields, shown};
use crate::api::ApiError;

/// Labels of a histogram are repeated for each of its buckets: so many bytes of them are built at most.
const SPREAD_BYTES_MAX: usize = limits::PUSH_BODY_BYTES_MAX * 3 / 4;

/// The series of all metrics of a request.
pub(super) struct Spread<'a> {
    service: &'a str,
    points: Vec<v1::PushedPoint>,
    places: Vec<usize>,
    items: usize,
    bytes: usize,
}

/// What all series of one metric share.
struct Metric<'a> {
    fields: &'a Fields,
    name: Box<str>,
    unit: String,
    labels: Vec<(String, String)>,
    service: String,
    delta: bool,
    time_unix_ms: i64,
}

impl<'a> Spread<'a> {
    pub(super) fn new(service: &'a str) -> Self {
        Self { service, points: Vec::new(), places: Vec::new(), items: 0, bytes: 0 }
    }

    /// The points, and which item each is of.
    pub(super) fn finish(self) -> (Vec<v1::PushedPoint>, Vec<usize>) {
        (self.points, self.places)
    }

    /// `{"name", "type", "value", "temporality", "unit", "labels", "service", "time"}`, and for histograms
    /// `count`, `sum`, `bounds` and `counts`, for summaries `count`, `sum` and `quantiles`.
    pub(super) fn metric(&mut self, mut fields: Fields) -> Result<(), ApiError> {
        let name = fields.text("name")?.unwrap_or_default();
        let kind = fields.text("type")?;
        let unit = fields.text("unit")?.unwrap_or_default();
        let labels = fields.texts("labels")?;
        let service = fields.text("service")?.unwrap_or_else(|| self.service.to_owned());
        let time_unix_ms = fields.time("time")?.map_or(0, |time| time.0);
        let temporality = fields.text("temporality")?;
        let kind = kind.as_deref();
        let is_gauge = kind == Some("gauge");
        let delta = match temporality.as_deref() {
            None | Some("cumulative") => false,
            Some("delta") if !is_gauge => true,
            Some(other) => {
                let problem = match is_gauge {
                    true => "a gauge has none".to_owned(),
                    false => format!("expected cumulative (the default) or delta, found {other:?}"),
                };
                return Err(fields.problem("temporality", problem));
            }
        };
        let mut values = Values::default();
        match kind {
            Some("counter" | "gauge") => values.value = fields.number("value")?,
            Some("histogram") => {
                values.totals(&mut fields)?;
                values.bounds = fields.numbers("bounds")?;
                values.counts = fields.numbers("counts")?;
            }
            Some("summary") => {
                values.totals(&mut fields)?;
                values.quantiles = quantiles(&mut fields)?;
            }
            found => {
                let found = found.unwrap_or_default();
                let problem =
                    format!("expected counter, gauge, histogram or summary, found {found:?}");
                return Err(fields.problem("type", problem));
            }
        }
        fields.finish()?;
        let shown_name: String = name.chars().take(64).collect();
        let name = pushed::metric_name(&name)
            .map_err(|error| fields.problem("name", format!("{error}, found {shown_name:?}")))?;
        if unit.len() > limits::UNIT_BYTES_MAX {
            let problem = format!("expected at most {} bytes", limits::UNIT_BYTES_MAX);
            return Err(fields.problem("unit", problem));
        }
        let metric = Metric { fields: &fields, name, unit, labels, service, delta, time_unix_ms };
        match kind {
            Some("counter") => self.one(&metric, Kind::Counter, values)?,
            Some("gauge") => self.one(&metric, Kind::Gauge, values)?,
            Some("histogram") => self.histogram(&metric, values)?,
            _ => self.summary(&metric, values)?,
        }
        self.items += 1;
        Ok(())
    }

    fn one(&mut self, metric: &Metric<'_>, kind: Kind, values: Values) -> Result<(), ApiError> {
        let value = values.value;
        let value =
            value.ok_or_else(|| metric.fields.problem("value", "expected a number, found none"))?;
        if kind == Kind::Counter && value < 0.0 {
            let problem = format!("a counter only grows, found {value}; hint: send it as a gauge");
            return Err(metric.fields.problem("value", problem));
        }
        self.put(metric, "", kind, None, value)
    }

    fn histogram(&mut self, metric: &Metric<'_>, values: Values) -> Result<(), ApiError> {
        let problem = |field: &str, problem: String| Err(metric.fields.problem(field, problem));
        let bounds = values.bounds.unwrap_or_default();
        let counts = values.counts.unwrap_or_default();
        if bounds.len() + 1 != counts.len() {
            let expected = bounds.len() + 1;
            return problem(
                "counts",
                format!(
                    "expected {expected}, one for each bound and one above; found {}",
                    counts.len()
                ),
            );
        }
        if counts.len() > limits::PUSH_PARTS_MAX {
            let max = limits::PUSH_PARTS_MAX;
            return problem("counts", format!("expected at most {max}, found {}", counts.len()));
        }
        if let Some(at) = bounds.windows(2).position(|pair| pair[0] >= pair[1]) {
            let found = format!("{} after {}", bounds[at + 1], bounds[at]);
            return problem("bounds", format!("expected them to grow, found {found}"));
        }
        if let Some(count) = counts.iter().find(|count| **count < 0.0 || count.fract() != 0.0) {
            return problem("counts", format!("expected whole numbers from 0, found {count}"));
        }
        let all: f64 = counts.iter().sum();
        if let Some(count) = values.count
            && count != all
        {
            return problem("count", format!("expected {all}, the sum of counts, found {count}"));
        }
        self.totals(metric, Some(all), values.sum)?;
        let mut below = 0.0;
        let bounds = bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (count, bound) in counts.iter().zip(bounds) {
            below += count;
            self.put(metric, ".bucket", Kind::Counter, Some(("le", &bound)), below)?;
        }
        Ok(())
    }

    fn summary(&mut self, metric: &Metric<'_>, values: Values) -> Result<(), ApiError> {
        if values.count.is_none() && values.sum.is_none() && values.quantiles.is_empty() {
            let problem = "expected some, or a count and a sum; found nothing";
            return Err(metric.fields.problem("quantiles", problem));
        }
        self.totals(metric, values.count, values.sum)?;
        for (quantile, value) in values.quantiles {
            let split = Some(("quantile", quantile.as_str()));
            self.put(metric, "", Kind::Gauge, split, value)?;
        }
        Ok(())
    }

    fn totals(
        &mut self,
        metric: &Metric<'_>,
        count: Option<f64>,
        sum: Option<f64>,
    ) -> Result<(), ApiError> {
        for (field, suffix, value) in [("count", ".count", count), ("sum", ".sum", sum)] {
            let Some(value) = value else { continue };
            if value < 0.0 {
                let problem = format!("expected at least 0, as it only grows, found {value}");
                return Err(metric.fields.problem(field, problem));
            }
            self.put(metric, suffix, Kind::Counter, None, value)?;
        }
        Ok(())
    }

    fn put(
        &mut self,
        metric: &Metric<'_>,
        suffix: &str,
        kind: Kind,
        split: Option<(&str, &str)>,
        value: f64,
    ) -> Result<(), ApiError> {
        let own = [("service.name", metric.service.as_str())].into_iter().chain(split);
        // Whatever a program sends has a service: so it is never taken for what a machine measured.
        let is_own =
            |name: &str| name == "service.name" || split.is_some_and(|(own, _)| own == name);
        let others = metric.labels.iter().filter(|(name, _)| !is_own(name));
        let others = others.map(|(name, value)| (name.as_str(), value.as_str()));
        let labels = Labels::new(own.chain(others))
            .map_err(|error| metric.fields.problem("labels", error))?;
        let unit = if matches!(suffix, ".count" | ".bucket") { "1" } else { &metric.unit };
        let series = Series {
            metric: format!("{}{suffix}", metric.name).into(),
            labels,
            kind,
            unit: unit.into(),
        };
        let labels = series.labels.iter().map(|(name, value)| name.len() + value.len() + 8);
        self.bytes += 64 + series.metric.len() + labels.sum::<usize>();
        if self.points.len() >= limits::PUSH_VALUES_MAX || self.bytes > SPREAD_BYTES_MAX {
            let problem = format!(
                "with this one the request has more than {} series, or 3 MiB of labels; hint: send it in parts",
                limits::PUSH_VALUES_MAX
            );
            return Err(metric.fields.problem("", problem));
        }
        self.points.push(v1::PushedPoint {
            series: Some(convert::series_to_proto(&series)),
            value,
            delta: metric.delta && kind == Kind::Counter,
            time_unix_ms: metric.time_unix_ms,
        });
        self.places.push(self.items);
        Ok(())
    }
}

/// The values of a metric, whatever its type.
#[derive(Default)]
struct Values {
    value: Option<f64>,
    count: Option<f64>,
    sum: Option<f64>,
    bounds: Option<Vec<f64>>,
    counts: Option<Vec<f64>>,
    quantiles: Vec<(String, f64)>,
}

impl Values {
    fn totals(&mut self, fields: &mut Fields) -> Result<(), ApiError> {
        self.count = fields.number("count")?;
        self.sum = fields.number("sum")?;
        Ok(())
    }
}

/// `{"0.5": 1.2, "0.99": 7}`
fn quantiles(fields: &mut Fields) -> Result<Vec<(String, f64)>, ApiError> {
    let map = fields.map("quantiles")?;
    if map.len() > limits::PUSH_PARTS_MAX {
        let (max, found) = (limits::PUSH_PARTS_MAX, map.len());
        return Err(fields.problem("quantiles", format!("expected at most {max}, found {found}")));
    }
    let read = |(quantile, value): (String, Value)| {
        let of = quantile.parse::<f64>().ok().filter(|of| (0.0..=1.0).contains(of));
        match (of, value.as_f64()) {
            (Some(of), Some(value)) => Ok((of.to_string(), value)),
            _ => {
                let quantile: String = quantile.chars().take(32).collect();
                let problem = format!(
                    "expected shares of 1 with numbers, such as {{\"0.99\": 1.5}}, found {quantile:?}: {}",
                    shown(&value)
                );
                Err(fields.problem("quantiles", problem))
            }
        }
    };
    map.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spread(value: Value) -> Result<Vec<v1::PushedPoint>, ApiError> {
        let mut spread = Spread::new("shop");
        spread.metric(Fields::new("[0]".to_owned(), value))?;
        Ok(spread.finish().0)
    }

    /// `name{labels} value`, with a plus where it is to be added.
    fn told(value: Value) -> Vec<String> {
        let one = |point: v1::PushedPoint| {
            let series = point.series.expect("one");
            let kind = series.kind().as_str_name().to_lowercase();
            let kind = kind.trim_start_matches("metric_kind_").chars().next().expect("a letter");
            let mut labels: Vec<String> =
                series.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            labels.sort();
            let plus = if point.delta { "+" } else { "" };
            format!("{kind} {} {} {plus}{}", series.metric, labels.join(","), point.value)
        };
        spread(value).expect("reads").into_iter().map(one).collect()
    }

    #[test]
    fn each_type_becomes_the_series_that_it_is() {
        let counter = json!({ "name": "orders", "type": "counter", "value": 3, "temporality": "delta",
            "labels": { "country": "de" } });
        assert_eq!(told(counter), ["c orders country=de,service.name=shop +3"]);
        let gauge =
            json!({ "name": "queue-depth", "type": "gauge", "value": -1.5, "service": "bank" });
        assert_eq!(told(gauge), ["g queue_depth service.name=bank -1.5"]);
        let histogram = json!({ "name": "t", "type": "histogram", "unit": "s", "sum": 4.5,
            "bounds": [0.1, 1], "counts": [2, 1, 3] });
        let expected = [
            "c t.count service.name=shop 6",
            "c t.sum service.name=shop 4.5",
            "c t.bucket le=0.1,service.name=shop 2",
            "c t.bucket le=1,service.name=shop 3",
            "c t.bucket le=+Inf,service.name=shop 6",
        ];
        assert_eq!(told(histogram), expected);
        let summary = json!({ "name": "t", "type": "summary", "count": 9, "sum": 4.5,
            "quantiles": { "0.50": 0.2, "0.99": 1 }, "temporality": "delta" });
        let expected = [
            "c t.count service.name=shop +9",
            "c t.sum service.name=shop +4.5",
            "g t quantile=0.5,service.name=shop 0.2",
            "g t quantile=0.99,service.name=shop 1",
        ];
        assert_eq!(told(summary), expected);
    }

    #[test]
    fn a_service_cannot_be_hidden_by_a_label() {
        let gauge = json!({ "name": "a", "type": "gauge", "value": 1,
            "labels": { "service.name": "", "quantile": "7" } });
        assert_eq!(told(gauge), ["g a quantile=7,service.name=shop 1"]);
    }

    #[test]
    fn a_metric_that_cannot_be_read_says_why() {
        fn check(value: Value, expected: &str) {
            let error = spread(value).expect_err(expected);
            assert!(error.message().starts_with(expected), "{}", error.message());
        }
        let gauge = |name: &str| json!({ "name": name, "type": "gauge", "value": 1 });
        check(gauge(""), "[0].name: expected 1 to 248 bytes");
        check(gauge("system.cpu.utilization"), "[0].name: names that begin with");
        check(json!({ "name": "a" }), "[0].type: expected counter, gauge, ");
        check(json!({ "name": "a", "type": "gauge" }), "[0].value: expected a number");
        check(
            json!({ "name": "a", "type": "counter", "value": -1 }),
            "[0].value: a counter only grows",
        );
        check(
            json!({ "name": "a", "type": "gauge", "value": 1, "temporality": "delta" }),
            "[0].temporality: a gauge has none",
        );
        let histogram = |bounds: Value, counts: Value| json!({ "name": "a", "type": "histogram", "bounds": bounds, "counts": counts });
        check(histogram(json!([1]), json!([1])), "[0].counts: expected 2");
        check(histogram(json!([2, 1]), json!([1, 1, 1])), "[0].bounds: expected them to grow");
        check(histogram(json!([1]), json!([1, 0.5])), "[0].counts: expected whole numbers");
        check(
            json!({ "name": "a", "type": "summary", "quantiles": { "99": 1 } }),
            "[0].quantiles: expected shares of 1",
        );
        check(
            json!({ "name": "a", "type": "gauge", "value": 1, "tags": {} }),
            "[0].tags: unknown field",
        );
    }

    #[test]
    fn labels_that_are_repeated_for_each_bucket_are_bounded() {
        let labels: serde_json::Map<String, Value> =
            (0..60).map(|i| (format!("l{i}"), json!("x".repeat(1000)))).collect();
        let counts = vec![1; 100];
        let bounds: Vec<i32> = (1..100).collect();
        let value = json!({ "name": "a", "type": "histogram", "bounds": bounds, "counts": counts,
            "labels": labels });
        let error = spread(value).expect_err("too much");
        assert!(error.message().contains("3 MiB of labels"), "{}", error.message());
    }
}
