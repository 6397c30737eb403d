//! `GET /api/v1/alerts/history`: every time an alert fired, newest first.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use model::UnixMillis;
use proto::convert::timestamp_to_proto;
use proto::v1;
use serde::Serialize;

use super::alerts::{available, level_name};
use super::{ApiError, Params, now_ms};
use crate::format;
use crate::gateway::Shared;
use crate::view::millis;

#[derive(Serialize)]
pub(crate) struct History {
    /// Whether there is an alert service: without one, an empty list says nothing.
    available: bool,
    incidents: Vec<Incident>,
}

/// One time that an alert fired.
#[derive(Serialize)]
struct Incident {
    id: String,
    alert: String,
    rule_id: String,
    rule: String,
    machine: String,
    host_name: String,
    metric: String,
    labels: BTreeMap<String, String>,
    level: &'static str,
    started: Option<String>,
    /// `null` while it goes on.
    resolved: Option<String>,
    /// The worst value; `null` where there was none.
    peak: Option<f64>,
    summary: String,
    cause: String,
    acknowledged_by: String,
    comment: String,
}

pub(crate) async fn incidents(
    State(shared): State<Shared>,
    params: Params,
) -> Result<Json<History>, ApiError> {
    params.allow(&["start", "end", "rule", "machine", "limit"])?;
    let now = now_ms();
    let time = |name: &str| -> Result<_, ApiError> {
        Ok(params.time(name, now)?.map(|ms| timestamp_to_proto(UnixMillis(ms))))
    };
    let machine_id = match params.text("machine") {
        Some(machine) => shared.upstream.machine(machine).await?.id,
        None => String::new(),
    };
    let request = v1::ListHistoryRequest {
        start: time("start")?,
        end: time("end")?,
        rule_id: params.text("rule").unwrap_or_default().to_owned(),
        machine_id,
        limit: params.number("limit")?.unwrap_or(0),
    };
    let answer = available(shared.alerts.list_history(request).await)?;
    let available = answer.is_some();
    let incidents = answer.unwrap_or_default().incidents.into_iter().map(Incident::from);
    Ok(Json(History { available, incidents: incidents.collect() }))
}

impl From<v1::Incident> for Incident {
    fn from(incident: v1::Incident) -> Self {
        let acknowledged = incident.acknowledged.clone().unwrap_or_default();
        Self {
            level: level_name(incident.level()),
            started: millis(incident.started.as_ref()).map(format::rfc3339),
            resolved: millis(incident.resolved.as_ref()).map(format::rfc3339),
            id: incident.id,
            alert: incident.alert_id,
            rule_id: incident.rule_id,
            rule: incident.rule_name,
            machine: incident.machine_id,
            host_name: incident.host_name,
            metric: incident.metric,
            labels: incident.labels.into_iter().collect(),
            peak: incident.peak,
            summary: incident.summary,
            cause: incident.cause,
            acknowledged_by: acknowledged.author,
            comment: acknowledged.comment,
        }
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
        let json = serde_json::to_value(Incident::from(incident)).expect("JSON");
        assert_eq!(
            (&json["level"], &json["peak"], &json["resolved"]),
            (&"critical".into(), &0.97.into(), &serde_json::Value::Null)
        );
        assert!(
            json["started"].as_str().is_some_and(|text| text.starts_with("2023-11-14T22:13:20"))
        );
    }
}
