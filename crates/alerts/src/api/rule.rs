//! Rules on the wire, to what they mean and back.

use std::collections::HashMap;

use model::{Labels, MatchOp, Matcher};
use proto::convert::{
    FieldError, duration_from_ms, duration_to_ms, labels_to_proto, matcher_from_proto,
};
use proto::v1;
use proto::v1::alert_rule::{Condition as Kind, NoData as WireNoData};
use proto::v1::threshold_condition::Signal;

use super::stamp;
use crate::book::Entry;
use crate::rule::{
    Aggregate, Condition, Level, Limit, LogCount, NoData, Side, Spec, Threshold, Timing, Window,
    check,
};
use crate::template::Template;

const NO_DATA_AFTER_MS: i64 = 5 * 60 * 1000;

/// Reads and checks. Errors name the field as the caller sees it.
pub(super) fn spec_from_proto(rule: v1::AlertRule) -> Result<Spec, FieldError> {
    let within = |error: FieldError| error.within("rule");
    let span = |field: &str, duration: Option<prost_types::Duration>, default: i64| {
        duration.map_or(Ok(default), |d| duration_to_ms(field, &d))
    };
    let condition = match rule.condition {
        None => {
            return Err(FieldError::new("rule.condition", "expected threshold, offline or log"));
        }
        Some(Kind::Offline(offline)) => {
            let level = level_from_proto("rule.offline.level", offline.level)?;
            Condition::Offline { level: level.unwrap_or(Level::Critical) }
        }
        Some(Kind::Threshold(threshold)) => {
            let threshold = threshold_from_proto(threshold);
            Condition::Threshold(threshold.map_err(|e| e.within("rule.threshold"))?)
        }
        Some(Kind::Log(log)) => Condition::Log(log_from_proto(log)?),
    };
    let spec = Spec {
        name: rule.name,
        enabled: !rule.disabled,
        machines: matchers_from_proto("rule.machines", rule.machines)?,
        condition,
        timing: Timing {
            for_ms: span("rule.for", rule.r#for, 0)?,
            keep_firing_ms: span("rule.keep_firing_for", rule.keep_firing_for, 0)?,
        },
        no_data: match WireNoData::try_from(rule.no_data) {
            Ok(WireNoData::Unspecified | WireNoData::Ok) => NoData::Fine,
            Ok(WireNoData::Alert) => NoData::Trouble,
            Ok(WireNoData::Keep) => NoData::Keep,
            Err(_) => {
                let problem = format!("unknown value {}", rule.no_data);
                return Err(FieldError::new("rule.no_data", problem));
            }
        },
        no_data_after_ms: span("rule.no_data_after", rule.no_data_after, NO_DATA_AFTER_MS)?,
        labels: labels("rule.labels", rule.labels)?,
        summary: Template::parse(&rule.summary).map_err(|e| FieldError::new("rule.summary", e))?,
        runbook_url: rule.runbook_url,
        channels: rule.channels,
    };
    check(&spec).map_err(|error| match (is_of_condition(&error.field), spec.log()) {
        (true, None) => error.within("rule.threshold"),
        (true, Some(_)) => error.within("rule.log"),
        (false, _) => within(error),
    })?;
    Ok(spec)
}

/// Whether the checked field lies in the condition on the wire.
fn is_of_condition(field: &str) -> bool {
    let name = field.split('[').next().unwrap_or(field);
    let fields = [
        "metric",
        "labels",
        "divide_by",
        "warning",
        "critical",
        "recover",
        "window",
        "window_values",
        "forecast",
    ];
    fields.contains(&name)
}

fn log_from_proto(log: v1::LogCondition) -> Result<LogCount, FieldError> {
    let window_ms = log.window.map(|d| duration_to_ms("rule.log.window", &d)).transpose()?;
    LogCount::new(&log.query, window_ms, (log.warning, log.critical, log.recover))
        .map_err(|error| FieldError { field: "rule.log.query".into(), ..error })
}

fn log_to_proto(log: &LogCount) -> v1::LogCondition {
    v1::LogCondition {
        query: log.text.clone(),
        window: Some(duration_from_ms(log.window_ms)),
        warning: log.limit.warning,
        critical: log.limit.critical,
        recover: log.limit.recover,
    }
}

fn threshold_from_proto(threshold: v1::ThresholdCondition) -> Result<Threshold, FieldError> {
    let window_ms = threshold.window.map(|d| duration_to_ms("window", &d)).transpose()?;
    let forecast_ms = threshold.forecast.map(|d| duration_to_ms("forecast", &d)).transpose()?;
    let aggregate = aggregate(threshold.signal, forecast_ms)?;
    let window = match (window_ms, threshold.window_values, threshold.tumbling) {
        (Some(_), 1.., _) => {
            return Err(FieldError::new("window_values", "expected either this or window"));
        }
        (Some(ms), 0, true) => Window::Tumbling { ms },
        (Some(ms), 0, false) => Window::Sliding { ms },
        (None, _, true) => return Err(FieldError::new("tumbling", "needs a window")),
        (None, 0, false) => aggregate.default_window(),
        (None, count, false) => Window::Values { count: count as usize },
    };
    Ok(Threshold {
        metric: threshold.metric,
        labels: matchers_from_proto("labels", threshold.labels)?,
        divide_by: (!threshold.divide_by.is_empty()).then_some(threshold.divide_by),
        aggregate,
        window,
        limit: match (aggregate.default_limit(), threshold.warning, threshold.critical) {
            (Some(limit), None, None) if !threshold.below => {
                Limit { recover: threshold.recover, ..limit }
            }
            (_, warning, critical) => Limit {
                side: if threshold.below { Side::Below } else { Side::Above },
                warning,
                critical,
                recover: threshold.recover,
            },
        },
    })
}

fn aggregate(signal: i32, forecast_ms: Option<i64>) -> Result<Aggregate, FieldError> {
    let known = Signal::try_from(signal)
        .map_err(|_| FieldError::new("signal", format!("unknown value {signal}")))?;
    match (known, forecast_ms) {
        (Signal::Forecast, Some(ahead_ms)) => return Ok(Aggregate::Forecast { ahead_ms }),
        (Signal::Forecast, None) => {
            return Err(FieldError::new("forecast", "expected how far ahead, such as 14400s"));
        }
        (_, Some(_)) => {
            return Err(FieldError::new("forecast", "only SIGNAL_FORECAST looks ahead"));
        }
        (_, None) => {}
    }
    Ok(SIGNALS.iter().find(|(s, _)| *s == known).map_or(Aggregate::Last, |(_, a)| *a))
}

const SIGNALS: [(Signal, Aggregate); 11] = [
    (Signal::Last, Aggregate::Last),
    (Signal::Mean, Aggregate::Mean),
    (Signal::Min, Aggregate::Min),
    (Signal::Max, Aggregate::Max),
    (Signal::Sum, Aggregate::Sum),
    (Signal::Count, Aggregate::Count),
    (Signal::Stddev, Aggregate::StdDev),
    (Signal::P95, Aggregate::P95),
    (Signal::Rate, Aggregate::Rate),
    (Signal::Increase, Aggregate::Increase),
    (Signal::Deviation, Aggregate::Deviation),
];

pub(super) fn rule_to_proto(entry: &Entry) -> v1::AlertRule {
    let spec = &entry.rule.spec;
    let span = |ms: i64, default: i64| (ms != default).then(|| duration_from_ms(ms));
    v1::AlertRule {
        id: entry.rule.id.to_string(),
        revision: entry.rule.revision,
        name: spec.name.clone(),
        disabled: !spec.enabled,
        condition: Some(match &spec.condition {
            Condition::Offline { level } => {
                Kind::Offline(v1::OfflineCondition { level: level_to_proto(*level).into() })
            }
            Condition::Threshold(threshold) => Kind::Threshold(threshold_to_proto(threshold)),
            Condition::Log(log) => Kind::Log(log_to_proto(log)),
        }),
        machines: matchers_to_proto(&spec.machines),
        r#for: span(spec.timing.for_ms, 0),
        keep_firing_for: span(spec.timing.keep_firing_ms, 0),
        no_data: match spec.no_data {
            NoData::Fine => WireNoData::Ok,
            NoData::Trouble => WireNoData::Alert,
            NoData::Keep => WireNoData::Keep,
        }
        .into(),
        no_data_after: Some(duration_from_ms(spec.no_data_after_ms)),
        labels: labels_to_proto(&spec.labels),
        summary: spec.summary.to_string(),
        runbook_url: spec.runbook_url.clone(),
        channels: spec.channels.clone(),
        origin: entry.setting.origin.clone(),
        updated: stamp(entry.setting.updated),
        updated_by: entry.setting.updated_by.clone(),
    }
}

fn threshold_to_proto(threshold: &Threshold) -> v1::ThresholdCondition {
    let (window, tumbling, values) = match threshold.window {
        Window::Instant => (None, false, 0),
        Window::Sliding { ms } => (Some(duration_from_ms(ms)), false, 0),
        Window::Tumbling { ms } => (Some(duration_from_ms(ms)), true, 0),
        Window::Values { count } => (None, false, count as u32),
    };
    let signal = SIGNALS.iter().find(|(_, a)| *a == threshold.aggregate);
    let forecast = match threshold.aggregate {
        Aggregate::Forecast { ahead_ms } => Some(duration_from_ms(ahead_ms)),
        _ => None,
    };
    v1::ThresholdCondition {
        metric: threshold.metric.clone(),
        labels: matchers_to_proto(&threshold.labels),
        divide_by: threshold.divide_by.clone().unwrap_or_default(),
        signal: signal.map_or(Signal::Forecast, |(s, _)| *s).into(),
        forecast,
        window,
        tumbling,
        window_values: values,
        below: threshold.limit.side == Side::Below,
        warning: threshold.limit.warning,
        critical: threshold.limit.critical,
        recover: threshold.limit.recover,
    }
}

pub(super) fn matchers_from_proto(
    field: &str,
    matchers: Vec<v1::LabelMatcher>,
) -> Result<Vec<Matcher>, FieldError> {
    let read = |(i, m)| matcher_from_proto(&format!("{field}[{i}]"), m);
    matchers.into_iter().enumerate().map(read).collect()
}

pub(super) fn matchers_to_proto(matchers: &[Matcher]) -> Vec<v1::LabelMatcher> {
    use v1::label_matcher::Op;
    let write = |matcher: &Matcher| v1::LabelMatcher {
        name: matcher.name.clone(),
        op: match matcher.op {
            MatchOp::Equal => Op::Equal,
            MatchOp::NotEqual => Op::NotEqual,
            MatchOp::Glob => Op::Glob,
            MatchOp::NotGlob => Op::NotGlob,
        }
        .into(),
        value: matcher.value.clone(),
    };
    matchers.iter().map(write).collect()
}

fn labels(field: &str, labels: HashMap<String, String>) -> Result<Labels, FieldError> {
    Labels::new(labels).map_err(|e| FieldError::new(field, e))
}

fn level_from_proto(field: &str, level: i32) -> Result<Option<Level>, FieldError> {
    match v1::AlertLevel::try_from(level) {
        Ok(v1::AlertLevel::Unspecified) => Ok(None),
        Ok(v1::AlertLevel::Warning) => Ok(Some(Level::Warning)),
        Ok(v1::AlertLevel::Critical) => Ok(Some(Level::Critical)),
        Err(_) => Err(FieldError::new(field, format!("unknown value {level}"))),
    }
}

pub(super) fn level_to_proto(level: Level) -> v1::AlertLevel {
    match level {
        Level::Warning => v1::AlertLevel::Warning,
        Level::Critical => v1::AlertLevel::Critical,
    }
}

#[cfg(test)]
mod tests {
    use storage::alerting::{Setting, SettingKind};

    use super::*;
    use crate::rule::{Document, Rule, RuleId, defaults};

    fn entry(spec: Spec) -> Entry {
        let rule = Rule { id: RuleId::from_name(&spec.name), revision: 3, spec };
        let setting = Setting {
            kind: SettingKind::Rule,
            id: rule.id.to_string(),
            revision: 3,
            name: rule.spec.name.clone(),
            origin: "rpc".into(),
            document: String::new(),
            updated: model::UnixMillis(1),
            updated_by: "ann".into(),
        };
        Entry { rule: rule.into(), setting }
    }

    fn spec(text: &str) -> Spec {
        let document: Document = toml::from_str(text).expect("TOML");
        document.to_spec().expect("valid")
    }

    #[test]
    fn rules_cross_the_wire_unchanged() {
        let mut specs = defaults().expect("valid");
        specs.push(spec("name = 'x'\nmetric = 'a'\nbelow = { critical = 3 }\nwindow_values = 100\naggregate = 'deviation'\nno_data = 'keep'\nenabled = false\nmachines = ['env!~d*']\nlabels = ['a=b']\nkeep_firing_for = '1m'\nno_data_after = '30s'\nchannels = ['c']\nalert_labels = { team = 'x' }\nrunbook_url = 'https://example.org/x'"));
        specs.push(spec("name = 'y'\nmetric = 'a'\nabove = { critical = 3 }\nwindow = '90s'\ntumbling = true\naggregate = 'p95'"));
        specs.push(spec("name = 'z'\nlog = 'level:>=error service:api'\nwindow = '90s'\nabove = { warning = 2, recover = 0 }"));
        for spec in specs {
            let wire = rule_to_proto(&entry(spec.clone()));
            assert_eq!(spec_from_proto(wire).expect("valid"), spec);
        }
    }

    #[test]
    fn an_anomaly_needs_neither_window_nor_threshold() {
        let written = spec("name = 'odd'\nmetric = 'a'\naggregate = 'deviation'");
        let mut wire = rule_to_proto(&entry(written.clone()));
        let Some(Kind::Threshold(threshold)) = &mut wire.condition else { panic!() };
        (threshold.window_values, threshold.warning) = (0, None);
        assert_eq!(spec_from_proto(wire).expect("valid"), written);
    }

    #[test]
    fn what_is_wrong_is_refused_with_the_field_of_the_wire() {
        let good =
            || rule_to_proto(&entry(spec("name = 'x'\nmetric = 'a'\nabove = { warning = 1 }")));
        let check = |spoil: &dyn Fn(&mut v1::AlertRule, &mut v1::ThresholdCondition),
                     expected: &str| {
            let mut rule = good();
            let Some(Kind::Threshold(mut threshold)) = rule.condition.take() else { panic!() };
            spoil(&mut rule, &mut threshold);
            rule.condition = Some(Kind::Threshold(threshold));
            let error = spec_from_proto(rule).expect_err(expected).to_string();
            assert!(error.starts_with(expected), "{error}");
        };
        check(&|r, _| r.name.clear(), "rule.name: ");
        check(&|_, t| t.metric = "a b".into(), "rule.threshold.metric: ");
        check(&|_, t| t.critical = Some(0.5), "rule.threshold.critical: ");
        check(&|_, t| t.warning = None, "rule.threshold.warning: ");
        check(&|_, t| t.recover = Some(f64::NAN), "rule.threshold.recover: ");
        check(&|_, t| t.signal = 99, "rule.threshold.signal: ");
        check(&|_, t| t.window = Some(duration_from_ms(1)), "rule.threshold.window: ");
        check(&|_, t| t.labels = vec![Default::default()], "rule.threshold.labels[0].name: ");
        check(&|r, _| r.r#for = Some(duration_from_ms(-1)), "rule.for: ");
        check(&|r, _| r.machines = vec![Default::default()], "rule.machines[0].name: ");
        check(&|r, _| r.summary = "{{ x }}".into(), "rule.summary: ");
        check(&|r, _| r.no_data = 9, "rule.no_data: ");
        check(&|r, _| r.runbook_url = "x".into(), "rule.runbook_url: ");
        let mut none = good();
        none.condition = None;
        assert!(spec_from_proto(none).is_err());
    }
}
