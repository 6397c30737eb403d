//! `/alerts`: what is wrong, what was, and what is watched.

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
use crate::view::{When, millis};

mod act;
mod form;
mod rule;

pub(crate) use act::{
    Fields, acknowledge, channel_create, channel_delete, channel_test, dead_retry, rule_delete,
    rule_switch, silence, silence_end,
};
pub(crate) use rule::{rule_edit, rule_new, rule_save, rule_test};

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
    lasted: String,
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
        history: history.into_iter().map(|incident| Line::new(incident, now)).collect(),
        rules: rules.unwrap_or_default().rules.iter().map(rule_line).collect(),
        channels: channels.unwrap_or_default().channels.into_iter().map(channel_line).collect(),
        silences: silences
            .unwrap_or_default()
            .silences
            .into_iter()
            .map(|s| Silence {
                matchers: form::matchers_to_text(&s.matchers),
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
        level: level_word(alert.level()),
        since: millis(alert.since.as_ref()).map(|ms| When::new(now, ms)),
        acknowledged: alert.acknowledged.map_or(String::new(), |a| a.author),
        silenced: !alert.silenced_by.is_empty(),
        id: alert.id,
        machine_id: alert.machine_id,
        host_name: alert.host_name,
        rule: alert.rule_name,
        summary: alert.summary,
        runbook_url: alert.runbook_url,
    }
}

impl Line {
    fn new(incident: v1::Incident, now: i64) -> Self {
        let (started, resolved) =
            (millis(incident.started.as_ref()), millis(incident.resolved.as_ref()));
        let lasted = match (started, resolved) {
            (Some(started), Some(resolved)) => {
                format::duration((resolved - started).max(0) as f64 / 1000.0)
            }
            _ => "goes on".to_owned(),
        };
        Self {
            level: level_word(incident.level()),
            started: started.map(|ms| When::new(now, ms)),
            lasted,
            machine_id: incident.machine_id,
            host_name: incident.host_name,
            rule: incident.rule_name,
            summary: incident.summary,
        }
    }
}

fn level_word(level: v1::AlertLevel) -> &'static str {
    match level {
        v1::AlertLevel::Warning => "warning",
        v1::AlertLevel::Critical => "critical",
        v1::AlertLevel::Unspecified => "",
    }
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
    use v1::channel::Kind;
    let kind = match channel.kind {
        Some(Kind::Webhook(_)) => "webhook",
        Some(Kind::Slack(_)) => "Slack",
        Some(Kind::Discord(_)) => "Discord",
        Some(Kind::Teams(_)) => "Teams",
        Some(Kind::Telegram(_)) => "Telegram",
        Some(Kind::Ntfy(_)) => "ntfy",
        Some(Kind::Pagerduty(_)) => "PagerDuty",
        Some(Kind::Alertmanager(_)) => "Alertmanager",
        Some(Kind::Email(_)) => "e-mail",
        None => "unknown",
    };
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
