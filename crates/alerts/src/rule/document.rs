//! A rule as text: a table of the rules file, and the form in which the store keeps it.

use std::collections::BTreeMap;

use daemon::config::Span;
use model::{Labels, MatchOp, Matcher};
use proto::convert::FieldError;
use serde::{Deserialize, Serialize};

use super::{
    Aggregate, Condition, Level, Limit, LogCount, NoData, Side, Spec, Threshold, Timing, Window,
    check,
};
use crate::template::Template;

/// A rules file. Each rule knows where it stands.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    #[serde(default)]
    pub rules: Vec<toml::Spanned<Document>>,
}

/// One rule. Everything but the name and the condition has a default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    pub name: String,
    #[serde(skip_serializing_if = "is_true")]
    pub enabled: Option<bool>,
    /// `env=prod`, `env!=prod`, `host.name=~web-*`, `host.name!~web-*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub machines: Vec<String>,

    /// `"warning"` or `"critical"`: an alert of this level when the machine is offline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offline: Option<String>,

    /// Instead: a query of the log language. What it finds is counted over `window` for each service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,

    #[serde(skip_serializing_if = "String::is_empty")]
    pub metric: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub divide_by: Option<String>,
    /// `last` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<String>,
    /// How far ahead the aggregate `forecast` looks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Span>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tumbling: bool,
    /// A window of so many values instead of a stretch of time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_values: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub above: Option<Thresholds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub below: Option<Thresholds>,

    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub for_: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_firing_for: Option<Span>,
    /// `ok`, `alert` or `keep`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_data_after: Option<Span>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub alert_labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub summary: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub runbook_url: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Thresholds {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub critical: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recover: Option<f64>,
}

impl Thresholds {
    fn to_limit(&self, side: Side) -> Limit {
        let Self { warning, critical, recover } = *self;
        Limit { side, warning, critical, recover }
    }
}

const NO_DATA_AFTER_MS: i64 = 5 * 60 * 1000;

fn is_true(enabled: &Option<bool>) -> bool {
    enabled.unwrap_or(true)
}

impl Document {
    /// Reads and checks.
    pub fn to_spec(&self) -> Result<Spec, FieldError> {
        let spec = Spec {
            name: self.name.clone(),
            enabled: self.enabled.unwrap_or(true),
            machines: matchers("machines", &self.machines)?,
            condition: self.condition()?,
            timing: Timing {
                for_ms: self.for_.map_or(0, millis),
                keep_firing_ms: self.keep_firing_for.map_or(0, millis),
            },
            no_data: match &self.no_data {
                None => NoData::default(),
                Some(name) => named("no_data", name, &NoData::NAMES)?,
            },
            no_data_after_ms: self.no_data_after.map_or(NO_DATA_AFTER_MS, millis),
            labels: Labels::new(self.alert_labels.iter().map(|(k, v)| (k.as_str(), v.as_str())))
                .map_err(|e| FieldError::new("alert_labels", e))?,
            summary: Template::parse(&self.summary).map_err(|e| FieldError::new("summary", e))?,
            runbook_url: self.runbook_url.clone(),
            channels: self.channels.clone(),
        };
        check(&spec)?;
        Ok(spec)
    }

    fn condition(&self) -> Result<Condition, FieldError> {
        if let Some(level) = &self.offline {
            if !self.metric.is_empty() {
                return Err(FieldError::new(
                    "metric",
                    "a rule about machines that are offline has none",
                ));
            }
            let names = [("warning", Level::Warning), ("critical", Level::Critical)];
            return Ok(Condition::Offline { level: named("offline", level, &names)? });
        }
        if let Some(query) = &self.log {
            return self.log_count(query).map(Condition::Log);
        }
        if self.metric.is_empty() {
            return Err(FieldError::new(
                "metric",
                "expected a metric, offline = \"critical\", or log",
            ));
        }
        let aggregate = self.aggregate()?;
        let limit = match (&self.above, &self.below, aggregate.default_limit()) {
            (Some(above), None, _) => above.to_limit(Side::Above),
            (None, Some(below), _) => below.to_limit(Side::Below),
            (None, None, Some(limit)) => limit,
            _ => return Err(FieldError::new("above", "expected either above or below")),
        };
        Ok(Condition::Threshold(Threshold {
            metric: self.metric.clone(),
            labels: matchers("labels", &self.labels)?,
            divide_by: self.divide_by.clone(),
            aggregate,
            window: match (self.window, self.window_values, self.tumbling) {
                (Some(_), Some(_), _) => {
                    return Err(FieldError::new("window_values", "expected either this or window"));
                }
                (None, _, true) => {
                    return Err(FieldError::new("tumbling", "needs a window such as \"5m\""));
                }
                (Some(span), None, true) => Window::Tumbling { ms: millis(span) },
                (Some(span), None, false) => Window::Sliding { ms: millis(span) },
                (None, Some(count), false) => Window::Values { count },
                (None, None, false) => aggregate.default_window(),
            },
            limit,
        }))
    }

    fn log_count(&self, query: &str) -> Result<LogCount, FieldError> {
        let others = [
            ("metric", !self.metric.is_empty()),
            ("labels", !self.labels.is_empty()),
            ("divide_by", self.divide_by.is_some()),
            ("aggregate", self.aggregate.is_some()),
            ("forecast", self.forecast.is_some()),
            ("tumbling", self.tumbling),
            ("window_values", self.window_values.is_some()),
            ("below", self.below.is_some()),
        ];
        if let Some((field, _)) = others.into_iter().find(|(_, given)| *given) {
            return Err(FieldError::new(field, "a rule about logs has none"));
        }
        let limit = self.above.clone().unwrap_or_default();
        let limit = (limit.warning, limit.critical, limit.recover);
        LogCount::new(query, self.window.map(millis), limit)
    }

    fn aggregate(&self) -> Result<Aggregate, FieldError> {
        match (self.aggregate.as_deref(), self.forecast) {
            (Some("forecast") | None, Some(ahead)) => {
                Ok(Aggregate::Forecast { ahead_ms: millis(ahead) })
            }
            (Some("forecast"), None) => {
                Err(FieldError::new("forecast", "expected how far ahead, such as \"4h\""))
            }
            (Some(name), Some(_)) => Err(FieldError::new(
                "forecast",
                format!("the aggregate {name} does not look ahead"),
            )),
            (Some(name), None) => match Aggregate::named(name) {
                Some(aggregate) => Ok(aggregate),
                None => Err(FieldError::new("aggregate", Aggregate::expected(name))),
            },
            (None, None) => Ok(Aggregate::Last),
        }
    }

    pub fn of(spec: &Spec) -> Self {
        let mut document = Self {
            name: spec.name.clone(),
            enabled: Some(spec.enabled),
            machines: spec.machines.iter().map(matcher_to_text).collect(),
            for_: span_unless(spec.timing.for_ms, 0),
            keep_firing_for: span_unless(spec.timing.keep_firing_ms, 0),
            no_data: (spec.no_data != NoData::default()).then(|| spec.no_data.name().to_owned()),
            no_data_after: span_unless(spec.no_data_after_ms, NO_DATA_AFTER_MS),
            alert_labels: spec.labels.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            summary: spec.summary.to_string(),
            runbook_url: spec.runbook_url.clone(),
            channels: spec.channels.clone(),
            ..Self::default()
        };
        match &spec.condition {
            Condition::Offline { level } => document.offline = Some(level.name().to_owned()),
            Condition::Threshold(threshold) => document.set_threshold(threshold),
            Condition::Log(log) => {
                let Limit { warning, critical, recover, .. } = log.limit;
                document.log = Some(log.text.clone());
                document.window = Some(span(log.window_ms));
                document.above = Some(Thresholds { warning, critical, recover });
            }
        }
        document
    }

    fn set_threshold(&mut self, threshold: &Threshold) {
        self.metric.clone_from(&threshold.metric);
        self.labels = threshold.labels.iter().map(matcher_to_text).collect();
        self.divide_by.clone_from(&threshold.divide_by);
        match threshold.aggregate {
            Aggregate::Last => {}
            Aggregate::Forecast { ahead_ms } => self.forecast = Some(span(ahead_ms)),
            other => self.aggregate = Some(other.name().to_owned()),
        }
        match threshold.window {
            Window::Instant => {}
            Window::Sliding { ms } => self.window = Some(span(ms)),
            Window::Tumbling { ms } => (self.window, self.tumbling) = (Some(span(ms)), true),
            Window::Values { count } => self.window_values = Some(count),
        }
        let Limit { side, warning, critical, recover } = threshold.limit;
        let limit = Some(Thresholds { warning, critical, recover });
        match side {
            Side::Above => self.above = limit,
            Side::Below => self.below = limit,
        }
    }
}

fn millis(span: Span) -> i64 {
    i64::try_from(span.get().as_millis()).unwrap_or(i64::MAX)
}

fn span(ms: i64) -> Span {
    Span::from_millis(ms.max(0) as u64)
}

fn span_unless(ms: i64, default: i64) -> Option<Span> {
    (ms != default).then(|| span(ms))
}

fn named<T: Copy>(field: &str, name: &str, names: &[(&str, T)]) -> Result<T, FieldError> {
    names.iter().find(|(known, _)| *known == name).map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<_> = names.iter().map(|(known, _)| *known).collect();
        FieldError::new(field, format!("expected one of {}, found {name:?}", known.join(", ")))
    })
}

fn matchers(field: &str, texts: &[String]) -> Result<Vec<Matcher>, FieldError> {
    let read = |(i, text): (usize, &String)| {
        matcher_from_text(text).ok_or_else(|| {
            let expected =
                "expected a matcher such as env=prod, env!=prod or host.name=~web-*, found";
            FieldError::new(format!("{field}[{i}]"), format!("{expected} {text:?}"))
        })
    };
    texts.iter().enumerate().map(read).collect()
}

/// `name=value`, `name!=value`, and with globs `name=~glob`, `name!~glob`.
pub fn matcher_from_text(text: &str) -> Option<Matcher> {
    let at = text.find(['=', '!'])?;
    let (name, rest) = text.split_at(at);
    let ops = [
        ("=~", MatchOp::Glob),
        ("!~", MatchOp::NotGlob),
        ("!=", MatchOp::NotEqual),
        ("=", MatchOp::Equal),
    ];
    let (op, value) = ops.iter().find_map(|(sign, op)| Some((*op, rest.strip_prefix(sign)?)))?;
    let (name, value) = (name.trim(), value.trim());
    // In quotes, as JSON, where the value would be taken for something else.
    let value = match value.starts_with('"') {
        true => serde_json::from_str(value).ok()?,
        false => value.to_owned(),
    };
    (!name.is_empty()).then(|| Matcher { name: name.to_owned(), op, value })
}

pub fn matcher_to_text(matcher: &Matcher) -> String {
    let sign = match matcher.op {
        MatchOp::Equal => "=",
        MatchOp::NotEqual => "!=",
        MatchOp::Glob => "=~",
        MatchOp::NotGlob => "!~",
    };
    let value = &matcher.value;
    let plain = value.trim() == value && !value.starts_with(['~', '"']);
    match plain {
        true => format!("{}{sign}{value}", matcher.name),
        false => format!("{}{sign}{}", matcher.name, serde_json::Value::from(value.as_str())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Spec, String> {
        let document: Document = toml::from_str(text).map_err(|e| e.to_string())?;
        document.to_spec().map_err(|e| e.to_string())
    }

    #[test]
    fn a_rule_survives_being_written_and_read_again() {
        let texts = [
            "name = 'off'\noffline = 'critical'\nfor = '1m'",
            "name = 'cpu'\nmetric = 'system.cpu.utilization'\nabove = { warning = 0.8, critical = 0.9, recover = 0.7 }\nlabels = ['cpu.mode=']\nmachines = ['host.name=~web-*', 'env!=dev']\nwindow = '1m'\naggregate = 'mean'\ntumbling = true\nfor = '5m'\nkeep_firing_for = '30s'\nno_data = 'keep'\nsummary = '{{ machine.name }} is busy'\nchannels = ['ops']\nenabled = false\nalert_labels = { team = 'infra' }",
            "name = 'odd'\nmetric = 'a'\nbelow = { critical = 3 }\nwindow_values = 100\naggregate = 'deviation'",
            "name = 'errors'\nlog = 'level:>=error \"connection refused\"'\nwindow = '10m'\nabove = { warning = 5, critical = 50, recover = 1 }\nfor = '1m'",
            "name = 'full soon'\nmetric = 'a'\nabove = { critical = 1.0 }\nwindow = '1h'\nforecast = '4h'\ndivide_by = 'b'",
        ];
        for text in texts {
            let spec = read(text).expect("valid");
            let json = serde_json::to_string(&Document::of(&spec)).expect("to JSON");
            let again: Document = serde_json::from_str(&json).expect("from JSON");
            assert_eq!(again.to_spec().expect("valid"), spec, "{json}");
            let toml = toml::to_string(&Document::of(&spec)).expect("to TOML");
            assert_eq!(read(&toml).expect("valid"), spec, "{toml}");
        }
    }

    #[test]
    fn an_anomaly_is_three_deviations_from_the_last_hundred_values_unless_the_rule_says_otherwise()
    {
        let check = |text: &str, window: Window, warning: Option<f64>| {
            let spec =
                read(&format!("name = 'odd'\nmetric = 'a'\naggregate = 'deviation'\n{text}"));
            let spec = spec.expect("valid");
            let threshold = spec.threshold().expect("a threshold");
            let limit = threshold.limit;
            assert_eq!(
                (threshold.window, limit.side, limit.warning),
                (window, Side::Above, warning)
            );
        };
        check("", Window::Values { count: 100 }, Some(3.0));
        check("window_values = 20", Window::Values { count: 20 }, Some(3.0));
        check("window = '5m'", Window::Sliding { ms: 300_000 }, Some(3.0));
        check("above = { warning = 4 }", Window::Values { count: 100 }, Some(4.0));
        check("above = { critical = 5 }", Window::Values { count: 100 }, None);
    }

    #[test]
    fn a_matcher_survives_whatever_its_value() {
        for op in [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Glob, MatchOp::NotGlob] {
            for value in ["", "x", "~x", "=x", "\"x\"", " x ", "a=b", "é\n\\"] {
                let matcher = Matcher { name: "host.name".into(), op, value: value.into() };
                let text = matcher_to_text(&matcher);
                assert_eq!(matcher_from_text(&text), Some(matcher), "{text}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_refused_with_its_field() {
        fn check(text: &str, expected: &str) {
            let text =
                if text.contains("name =") { text.into() } else { format!("name = 'x'\n{text}") };
            let error = read(&text).expect_err(&text);
            assert!(error.contains(expected), "{text}\n{error}");
        }
        check("name = ''\nmetric = 'a'\nabove = { warning = 1 }", "name: expected 1 to");
        check("metric = 'a b'\nabove = { warning = 1 }", "metric: expected a metric");
        check("above = { warning = 1 }", "metric: expected a metric, offline");
        check("log = 'level:loud'", "log: ");
        check("log = 'oops'\nmetric = 'a'", "metric: a rule about logs has none");
        check("log = 'oops'\nbelow = { warning = 1 }", "below: a rule about logs has none");
        check("log = 'oops'\nwindow = '10ms'", "window: expected");
        check("metric = 'a'", "above: expected either");
        check("metric = 'a'\nabove = {}", "warning: expected a threshold");
        check("metric = 'a'\nabove = { warning = 2, critical = 1 }", "critical: expected above");
        check("metric = 'a'\nbelow = { warning = 2, recover = 1 }", "recover: expected not below");
        check("metric = 'a'\nabove = { warning = 1 }\nfor = 'five'", "expected a duration");
        check("metric = 'a'\nabove = { warning = 1 }\nfor = '9d'", "for: expected");
        check(
            "metric = 'a'\nabove = { warning = 1 }\naggregate = 'median'",
            "increase, deviation, forecast, found \"median\"",
        );
        check(
            "metric = 'a'\nabove = { warning = 1 }\naggregate = 'mean'",
            "window: the aggregate mean",
        );
        check(
            "metric = 'a'\nabove = { warning = 1 }\nlabels = ['x']",
            "labels[0]: expected a matcher",
        );
        check("metric = 'a'\nabove = { warning = 1 }\nsummary = '{{ nonsense }}'", "summary: ");
        check("metric = 'a'\nabove = { warning = 1 }\nrunbook_url = 'javascript:x'", "runbook_url");
        check("metric = 'a'\nabove = { warning = 1 }\ntypo = 1", "unknown field");
        check("offline = 'bad'", "offline: expected one of");
    }
}
