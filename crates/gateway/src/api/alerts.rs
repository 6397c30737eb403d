//! `GET /api/v1/alerts`: what is wrong now. `GET /api/v1/machines/{machine}/thresholds`: from where on
//! something would be, for the charts.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use model::Matcher;
use proto::{convert, v1};
use serde::Serialize;
use tonic::{Code, Status};

use super::ApiError;
use crate::gateway::Shared;
use crate::view::AlertJson;

#[derive(Serialize)]
pub(crate) struct Active {
    /// Whether there is an alert service: without one, an empty list says nothing.
    available: bool,
    alerts: Vec<AlertJson>,
}

pub(crate) async fn alerts(State(shared): State<Shared>) -> Result<Json<Active>, ApiError> {
    let request = v1::ListActiveRequest::default();
    match available(shared.alerts.list_active(request).await)? {
        None => Ok(Json(Active { available: false, alerts: Vec::new() })),
        Some(answer) => {
            let alerts = answer.alerts.into_iter().map(AlertJson::from).collect();
            Ok(Json(Active { available: true, alerts }))
        }
    }
}

/// `None` where there is no alert service.
pub(super) fn available<T>(answer: Result<T, Status>) -> Result<Option<T>, ApiError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(status) if status.code() == Code::Unimplemented => Ok(None),
        Err(status) => Err(status.into()),
    }
}

#[derive(Serialize)]
pub(crate) struct Thresholds {
    thresholds: Vec<Threshold>,
}

/// A line that the values of a metric are judged against.
#[derive(Debug, PartialEq, Serialize)]
struct Threshold {
    rule: String,
    metric: String,
    /// Of one series rather than of all: its labels, as far as the rule names them exactly.
    labels: BTreeMap<String, String>,
    /// The threshold is of the metric divided by this one; empty when it is not.
    divide_by: String,
    below: bool,
    warning: Option<f64>,
    critical: Option<f64>,
}

pub(crate) async fn thresholds(
    State(shared): State<Shared>,
    Path(machine): Path<String>,
) -> Result<Json<Thresholds>, ApiError> {
    let (machine, rules) = tokio::join!(
        shared.upstream.machine(&machine),
        shared.alerts.list_rules(v1::ListRulesRequest {}),
    );
    let machine = machine?;
    let rules = available(rules)?.unwrap_or_default().rules;
    let thresholds = rules.into_iter().filter(|rule| watches(rule, &machine));
    Ok(Json(Thresholds { thresholds: thresholds.filter_map(threshold).collect() }))
}

fn watches(rule: &v1::AlertRule, machine: &v1::Machine) -> bool {
    rule.machines.iter().cloned().all(|matcher| {
        let Ok(matcher): Result<Matcher, _> = convert::matcher_from_proto("machines", matcher)
        else {
            return false;
        };
        let value = match matcher.name.as_str() {
            "host.name" => &machine.host_name,
            "machine.id" => &machine.id,
            name => machine.labels.get(name).map_or("", String::as_str),
        };
        matcher.accepts(value)
    })
}

/// `None` where a line on a chart of the metric itself would say something else than the rule does.
fn threshold(rule: v1::AlertRule) -> Option<Threshold> {
    use v1::threshold_condition::Signal::{Last, Max, Mean, Min, P95, Rate, Unspecified};
    let Some(v1::alert_rule::Condition::Threshold(condition)) = rule.condition else { return None };
    let same_unit =
        matches!(condition.signal(), Unspecified | Last | Mean | Min | Max | P95 | Rate);
    if rule.disabled || !same_unit {
        return None;
    }
    let mut labels = BTreeMap::new();
    for matcher in condition.labels {
        if matcher.op() != v1::label_matcher::Op::Equal {
            return None;
        }
        labels.insert(matcher.name, matcher.value);
    }
    Some(Threshold {
        rule: rule.name,
        metric: condition.metric,
        labels,
        divide_by: condition.divide_by,
        below: condition.below,
        warning: condition.warning,
        critical: condition.critical,
    })
}

#[cfg(test)]
mod tests {
    use v1::threshold_condition::Signal;

    use super::*;

    fn rule(signal: Signal, machines: Vec<v1::LabelMatcher>) -> v1::AlertRule {
        let condition = v1::ThresholdCondition {
            metric: "system.cpu.utilization".to_owned(),
            signal: signal.into(),
            warning: Some(0.8),
            ..Default::default()
        };
        v1::AlertRule {
            name: "busy".to_owned(),
            condition: Some(v1::alert_rule::Condition::Threshold(condition)),
            machines,
            ..Default::default()
        }
    }

    fn env(op: v1::label_matcher::Op, value: &str) -> v1::LabelMatcher {
        v1::LabelMatcher { name: "env".to_owned(), op: op.into(), value: value.to_owned() }
    }

    #[test]
    fn only_what_is_judged_as_it_is_drawn_is_a_line() {
        assert_eq!(threshold(rule(Signal::Mean, vec![])).and_then(|t| t.warning), Some(0.8));
        for signal in [Signal::Forecast, Signal::Deviation, Signal::Count, Signal::Increase] {
            assert_eq!(threshold(rule(signal, vec![])), None, "{signal:?}");
        }
        let off = v1::AlertRule { disabled: true, ..rule(Signal::Last, vec![]) };
        assert_eq!(threshold(off), None);
    }

    #[test]
    fn a_rule_of_other_machines_is_none_of_this_one() {
        use v1::label_matcher::Op::{Equal, Glob, NotEqual};
        let machine = v1::Machine {
            labels: [("env".to_owned(), "prod".to_owned())].into(),
            ..Default::default()
        };
        let check = |matcher, expected| {
            assert_eq!(watches(&rule(Signal::Last, vec![matcher]), &machine), expected);
        };
        check(env(Equal, "prod"), true);
        check(env(Equal, "dev"), false);
        check(env(NotEqual, "prod"), false);
        check(env(Glob, "pr*"), true);
        assert!(watches(&rule(Signal::Last, vec![]), &machine));
    }
}
