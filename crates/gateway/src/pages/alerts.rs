//! `/alerts`: what is wrong, what was, and what is watched.

use std::collections::HashMap;

use askama::Template;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use proto::v1;

use super::Page;
use super::page::html;
use crate::api::now_ms;
use crate::format;
use crate::gateway::Shared;
use crate::view::{Measure, When, level_name, millis};

mod act;
mod channel;
mod form;
mod problems;
mod rule;
mod starters;
mod text;

pub(crate) use act::{
    Fields, acknowledge, dead_retry, rule_delete, rule_switch, silence, silence_end,
};
pub(crate) use channel::{channel_delete, channel_edit, channel_new, channel_save, channel_test};
pub(crate) use rule::{rule_edit, rule_hint, rule_new, rule_save, rule_test};

const HISTORY_SHOWN: u32 = 50;
const DEAD_SHOWN: u32 = 20;

#[derive(Template)]
#[template(path = "alerts.html")]
struct AlertsPage {
    page: Page,
    /// Why something is missing here, or what a button did.
    said: String,
    /// Whether the service answered: nothing is said about alerts by one that did not.
    reached: bool,
    active: Vec<Active>,
    history: Vec<Line>,
    rules: Vec<Rule>,
    channels: Vec<Channel>,
    /// Kinds of channels that can be added: key and title.
    kinds: Vec<(&'static str, &'static str)>,
    silences: Vec<Silence>,
    dead: Vec<Dead>,
}

struct Active {
    id: String,
    phase: &'static str,
    level: &'static str,
    machine_id: String,
    host_name: String,
    rule: String,
    summary: String,
    since: Option<When>,
    acknowledged: String,
    silenced: bool,
    runbook_url: String,
}

/// One line of the incident history, or of a backtest.
pub(super) struct Line {
    level: &'static str,
    machine_id: String,
    host_name: String,
    rule: String,
    summary: String,
    started: Option<When>,
    ended: Option<When>,
    lasted: String,
    /// Why it ended, where that was not because all was well again.
    cause: &'static str,
    /// The worst value; empty where there was none.
    peak: String,
}

struct Rule {
    id: String,
    name: String,
    enabled: bool,
    origin: String,
    from: &'static str,
    words: String,
}

struct Channel {
    id: String,
    name: String,
    kind: &'static str,
    state: String,
    trouble: bool,
}

struct Silence {
    id: String,
    matchers: String,
    /// "every week"; empty when it comes once.
    again: &'static str,
    time_zone: String,
    start: Option<When>,
    until: Option<When>,
    author: String,
    comment: String,
}

struct Dead {
    id: i64,
    channel: String,
    summary: String,
    reason: String,
    died: Option<When>,
}

pub(crate) async fn alerts(State(shared): State<Shared>, uri: Uri) -> Response {
    Box::pin(show(&shared, &uri, String::new())).await
}

/// The page, with what a button did.
async fn show(shared: &Shared, uri: &Uri, said: String) -> Response {
    let now = now_ms();
    let service = &shared.alerts;
    let history = v1::ListHistoryRequest { limit: HISTORY_SHOWN, ..Default::default() };
    let dead = v1::ListDeadNoticesRequest { limit: DEAD_SHOWN };
    let (active, history, rules, channels, silences, dead) = tokio::join!(
        service.list_active(v1::ListActiveRequest::default()),
        service.list_history(history),
        service.list_rules(v1::ListRulesRequest {}),
        service.list_channels(v1::ListChannelsRequest {}),
        service.list_silences(v1::ListSilencesRequest::default()),
        service.list_dead_notices(dead),
    );
    let problem = active.as_ref().err().map(|status| match status.code() {
        tonic::Code::Unimplemented => "The alert service is not part of this server.".to_owned(),
        _ => format!("The alert service is not reached: {}", status.message()),
    });
    let when = |time: Option<&prost_types::Timestamp>| millis(time).map(|ms| When::new(now, ms));
    let history = history.unwrap_or_default().incidents;
    let rules = rules.unwrap_or_default().rules;
    let measures: HashMap<&str, Measure> =
        rules.iter().map(|rule| (rule.id.as_str(), Measure::of_rule(rule))).collect();
    let measure = |incident: &v1::Incident| {
        measures.get(incident.rule_id.as_str()).copied().unwrap_or_default()
    };
    let template = AlertsPage {
        page: Page::new(shared, uri, "alerts"),
        reached: problem.is_none(),
        said: problem.unwrap_or(said),
        active: active
            .unwrap_or_default()
            .alerts
            .into_iter()
            .map(|a| active_line(a, now))
            .collect(),
        history: history
            .into_iter()
            .map(|incident| Line::new(measure(&incident), incident, now))
            .collect(),
        rules: rules.iter().map(rule_line).collect(),
        kinds: channel::KINDS.iter().map(|kind| (kind.key, kind.title)).collect(),
        channels: channels.unwrap_or_default().channels.into_iter().map(channel_line).collect(),
        silences: silences
            .unwrap_or_default()
            .silences
            .into_iter()
            .map(|s| Silence {
                matchers: text::matchers_to_text(&s.matchers),
                again: s.recurrence.as_ref().map_or("", again),
                start: when(s.start.as_ref()),
                until: when(s.end.as_ref()),
                time_zone: s.recurrence.map(|r| r.time_zone).unwrap_or_default(),
                id: s.id,
                author: s.author,
                comment: s.comment,
            })
            .collect(),
        dead: dead
            .unwrap_or_default()
            .notices
            .into_iter()
            .map(|d| Dead {
                id: d.id,
                channel: d.channel_name,
                summary: d.summary,
                reason: d.reason,
                died: when(d.died.as_ref()),
            })
            .collect(),
    };
    html(&template)
}

fn active_line(alert: v1::ActiveAlert, now: i64) -> Active {
    let phase = match alert.phase() {
        v1::AlertPhase::Pending => "pending",
        v1::AlertPhase::Firing => "firing",
        v1::AlertPhase::Unknown => "unknown",
        v1::AlertPhase::Resolved | v1::AlertPhase::Unspecified => "resolved",
    };
    Active {
        phase,
        level: level_name(alert.level()),
        since: millis(alert.since.as_ref()).map(|ms| When::new(now, ms)),
        acknowledged: alert.acknowledged.map_or(String::new(), |a| a.author),
        silenced: !alert.silenced_by.is_empty(),
        id: alert.id,
        host_name: named(alert.host_name, &alert.machine_id),
        machine_id: alert.machine_id,
        rule: alert.rule_name,
        summary: alert.summary,
        runbook_url: alert.runbook_url,
    }
}

impl Line {
    fn new(measure: Measure, incident: v1::Incident, now: i64) -> Self {
        let (started, resolved) =
            (millis(incident.started.as_ref()), millis(incident.resolved.as_ref()));
        let seconds = |from: i64, to: i64| format::duration((to - from).max(0) as f64 / 1000.0);
        let lasted = match (started, resolved) {
            (Some(started), Some(resolved)) => seconds(started, resolved),
            (Some(started), None) => format!("{} so far", seconds(started, now)),
            (None, _) => String::new(),
        };
        Self {
            level: level_name(incident.level()),
            started: started.map(|ms| When::new(now, ms)),
            ended: resolved.map(|ms| When::new(now, ms)),
            lasted,
            cause: match incident.cause.as_str() {
                "no_data" => "values ceased",
                "machine_status" => "machine went away",
                "machine_removed" => "machine removed",
                "rule_changed" => "rule changed",
                _ => "",
            },
            peak: incident.peak.map_or(String::new(), |peak| measure.say(peak)),
            host_name: named(incident.host_name, &incident.machine_id),
            machine_id: incident.machine_id,
            rule: incident.rule_name,
            summary: incident.summary,
        }
    }
}

/// A machine that had not yet said its name when it had an alert goes by the beginning of its id.
fn named(host_name: String, machine_id: &str) -> String {
    if host_name.is_empty() { machine_id.chars().take(8).collect() } else { host_name }
}

fn again(recurrence: &v1::Recurrence) -> &'static str {
    match recurrence.every() {
        v1::recurrence::Every::Day => "every day",
        v1::recurrence::Every::Week => "every week",
        v1::recurrence::Every::Unspecified => "",
    }
}

fn rule_line(rule: &v1::AlertRule) -> Rule {
    Rule {
        id: rule.id.clone(),
        name: rule.name.clone(),
        enabled: !rule.disabled,
        origin: rule.origin.clone(),
        from: match rule.origin.as_str() {
            "default" => "Muster",
            "file" => "rules file",
            // The dashboard speaks RPC as everybody does.
            _ => "people",
        },
        words: form::RuleForm::of(rule).words(),
    }
}

fn channel_line(channel: v1::Channel) -> Channel {
    let kind = channel::kind_of(&channel).map_or("unknown", |kind| kind.title);
    let health = channel.health.unwrap_or_default();
    let failing = millis(health.last_failure.as_ref()) > millis(health.last_success.as_ref());
    let mut state = match (channel.disabled, failing) {
        (true, _) => "off".to_owned(),
        (_, true) => format!("failing: {}", health.last_error),
        _ => "well".to_owned(),
    };
    if health.queued > 0 {
        state.push_str(&format!(", {} waiting", health.queued));
    }
    Channel { id: channel.id, name: channel.name, kind, state, trouble: failing }
}

#[cfg(test)]
mod tests {
    use proto::convert::timestamp_to_proto;

    use super::*;

    fn incident(resolved: Option<i64>) -> v1::Incident {
        v1::Incident {
            started: Some(timestamp_to_proto(model::UnixMillis(1_000_000))),
            resolved: resolved.map(|ms| timestamp_to_proto(model::UnixMillis(ms))),
            peak: Some(0.934),
            cause: "no_data".to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn an_incident_says_how_long_how_bad_and_why_it_ended() {
        let line = Line::new(Measure::Ratio, incident(Some(1_750_000)), 2_000_000);
        assert_eq!((line.lasted.as_str(), line.peak.as_str()), ("12 min 30 s", "93 %"));
        assert_eq!(line.cause, "values ceased");
        assert_eq!(line.ended.map(|when| when.ms), Some(1_750_000));
        assert_eq!(
            Line::new(
                Measure::Number,
                v1::Incident { machine_id: "0123456789".to_owned(), ..incident(None) },
                0
            )
            .host_name,
            "01234567"
        );
        let line = Line::new(Measure::Number, incident(None), 1_060_000);
        assert_eq!((line.lasted.as_str(), line.peak.as_str()), ("1 min so far", "0.93"));
        assert!(line.ended.is_none());
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_negative_time() {
        assert_eq!(Line::new(Measure::Number, incident(None), 5).lasted, "0 s so far");
    }
}
