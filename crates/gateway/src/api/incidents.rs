//! `GET /api/v1/alerts/history`: when alerts fired, for the charts and for scripts.

use std::collections::{BTreeMap, HashMap};

use axum::Json;
use axum::extract::State;
use model::UnixMillis;
use proto::convert::timestamp_to_proto;
use proto::v1;
use serde::Serialize;

use super::alerts::available;
use super::{ApiError, Params, now_ms};
use crate::format;
use crate::gateway::Shared;
use crate::view::{Measure, level_name, millis};

const MONTH_MS: i64 = 30 * 24 * 3600 * 1000;
/// As many as the alert service gives when it is not told how many.
const LIMIT: u32 = 100;

#[derive(Serialize)]
pub(crate) struct History {
    /// Whether there is an alert service: without one, an empty list says nothing.
    available: bool,
    /// There may be older ones that were not looked at.
    more: bool,
    incidents: Vec<IncidentJson>,
}

/// One time that an alert fired.
#[derive(Debug, PartialEq, Serialize)]
struct IncidentJson {
    id: String,
    alert: String,
    rule_id: String,
    rule: String,
    machine: String,
    host_name: String,
    /// Empty for a rule about the machine itself.
    metric: String,
    labels: BTreeMap<String, String>,
    level: &'static str,
    started: String,
    started_ms: i64,
    /// `null` while it goes on.
    resolved: Option<String>,
    resolved_ms: Option<i64>,
    peak: Option<f64>,
    /// For people: `93 %`.
    peak_text: Option<String>,
    summary: String,
    cause: String,
    acknowledged_by: String,
    comment: String,
}

/// `machine` (an id, a name or the beginning of an id), `rule` (an id), `start` and `end` (30 days ago and now
/// when absent), `limit`. Newest first; also those that began before `start` and were not over by then.
pub(crate) async fn incidents(
    State(shared): State<Shared>,
    params: Params,
) -> Result<Json<History>, ApiError> {
    params.allow(&["machine", "rule", "start", "end", "limit"])?;
    let now = now_ms();
    let end = params.time("end", now)?.unwrap_or(now);
    let start = params.time("start", now)?.unwrap_or(end.saturating_sub(MONTH_MS));
    if start >= end {
        return Err(ApiError::invalid("start", "start: expected a time before end"));
    }
    let limit = params.number("limit")?.filter(|&limit| limit > 0).unwrap_or(LIMIT);
    let machine_id = match params.text("machine") {
        None => String::new(),
        // The alerts of a machine that was removed stay.
        Some(id) if id.parse::<model::MachineId>().is_ok() => id.to_owned(),
        Some(name) => shared.upstream.machine(name).await?.id,
    };
    let request = v1::ListHistoryRequest {
        // The service tells when one started, not whether it still goes on.
        start: Some(timestamp_to_proto(UnixMillis(0))),
        end: Some(timestamp_to_proto(UnixMillis(end))),
        rule_id: params.text("rule").unwrap_or_default().to_owned(),
        machine_id,
        limit,
    };
    let (incidents, rules) = tokio::join!(
        shared.alerts.list_history(request),
        shared.alerts.list_rules(v1::ListRulesRequest {}),
    );
    let Some(answer) = available(incidents)? else {
        return Ok(Json(History { available: false, more: false, incidents: Vec::new() }));
    };
    let rules = available(rules)?.unwrap_or_default().rules;
    let measures: HashMap<&str, Measure> =
        rules.iter().map(|rule| (rule.id.as_str(), Measure::of_rule(rule))).collect();
    let found = answer.incidents;
    // However early the oldest began: one that began before it may still go on.
    let more = found.len() as u64 >= u64::from(limit);
    let incidents = found
        .into_iter()
        .filter(|incident| overlaps(incident, start))
        .filter_map(|incident| {
            let measure = measures.get(incident.rule_id.as_str()).copied().unwrap_or_default();
            IncidentJson::new(measure, incident)
        })
        .collect();
    Ok(Json(History { available: true, more, incidents }))
}

/// Whether it was not over before this.
fn overlaps(incident: &v1::Incident, start: i64) -> bool {
    millis(incident.resolved.as_ref()).is_none_or(|resolved| resolved >= start)
}

impl IncidentJson {
    fn new(measure: Measure, incident: v1::Incident) -> Option<Self> {
        let started_ms = millis(incident.started.as_ref())?;
        let resolved_ms = millis(incident.resolved.as_ref());
        let acknowledged = incident.acknowledged.clone().unwrap_or_default();
        Some(Self {
            level: level_name(incident.level()),
            started: format::rfc3339(started_ms),
            started_ms,
            resolved: resolved_ms.map(format::rfc3339),
            resolved_ms,
            peak_text: incident.peak.map(|peak| measure.say(peak)),
            peak: incident.peak,
            id: incident.id,
            alert: incident.alert_id,
            rule_id: incident.rule_id,
            rule: incident.rule_name,
            machine: incident.machine_id,
            host_name: incident.host_name,
            metric: incident.metric,
            labels: incident.labels.into_iter().collect(),
            summary: incident.summary,
            cause: incident.cause,
            acknowledged_by: acknowledged.author,
            comment: acknowledged.comment,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incident_says_how_bad_it_was_and_whether_it_goes_on() {
        let incident = v1::Incident {
            level: v1::AlertLevel::Critical.into(),
            started: Some(timestamp_to_proto(UnixMillis(1_700_000_000_000))),
            peak: Some(0.97),
            ..v1::Incident::default()
        };
        let json = serde_json::to_value(IncidentJson::new(Measure::Ratio, incident)).expect("JSON");
        assert_eq!((&json["level"], &json["peak"]), (&"critical".into(), &0.97.into()));
        assert_eq!((&json["peak_text"], &json["resolved"]), (&"97 %".into(), &().into()));
        assert!(
            json["started"].as_str().is_some_and(|text| text.starts_with("2023-11-14T22:13:20"))
        );
    }

    #[test]
    fn what_goes_on_or_was_not_over_before_the_range_is_part_of_it() {
        let check = |resolved: Option<i64>, expected: bool| {
            let resolved = resolved.map(|ms| timestamp_to_proto(UnixMillis(ms)));
            let incident = v1::Incident { resolved, ..Default::default() };
            assert_eq!(overlaps(&incident, 1_000), expected, "{incident:?}");
        };
        check(None, true);
        check(Some(1_000), true);
        check(Some(999), false);
    }
}
