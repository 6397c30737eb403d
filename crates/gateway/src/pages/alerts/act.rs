//! What the buttons of the alert pages do. Each is a plain form, so it works without scripts; afterwards
//! the browser is sent back to the page, so that reloading does nothing twice.

use axum::body::Bytes;
use axum::extract::{FromRequest, Path, Query, Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Redirect, Response};
use model::UnixMillis;
use proto::convert::timestamp_to_proto;
use proto::v1;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tonic::Status;

use super::show;
use super::text::matchers_from_text;
use crate::api::now_ms;
use crate::gateway::Shared;

/// The fields of a form.
pub(crate) struct Fields<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Fields<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let body = Bytes::from_request(request, state).await.map_err(|e| e.into_response())?;
        let refuse = || (StatusCode::BAD_REQUEST, "the form cannot be read\n").into_response();
        // A body of a form is written like a query.
        let query = std::str::from_utf8(&body).map_err(|_| refuse())?;
        let uri: Uri = format!("/?{query}").parse().map_err(|_| refuse())?;
        let Query(fields) = Query::try_from_uri(&uri).map_err(|_| refuse())?;
        Ok(Self(fields))
    }
}

/// Back to the page, or the page with what went wrong.
pub(super) async fn done<T>(
    shared: &Shared,
    uri: &Uri,
    up: &str,
    outcome: Result<T, Status>,
) -> Response {
    match outcome {
        Ok(_) => Redirect::to(&format!("{up}alerts")).into_response(),
        Err(status) => {
            let said = format!("That did not work: {}", status.message());
            Box::pin(show(shared, uri, said)).await
        }
    }
}

#[derive(Deserialize)]
#[serde(default)]
pub(crate) struct Comment {
    author: String,
    comment: String,
}

impl Default for Comment {
    fn default() -> Self {
        Self { author: crate::caller::name(), comment: String::new() }
    }
}

pub(crate) async fn acknowledge(
    State(shared): State<Shared>,
    uri: Uri,
    Path(alert_id): Path<String>,
    Fields(fields): Fields<Comment>,
) -> Response {
    let Comment { author, comment } = fields;
    let request = v1::AcknowledgeRequest { alert_id, author, comment };
    done(&shared, &uri, "../../", shared.alerts.acknowledge(request).await).await
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct NewSilence {
    matchers: String,
    /// By the clocks of the time zone; now when empty.
    start: String,
    length: String,
    /// Empty: it comes once.
    every: String,
    time_zone: String,
    author: String,
    comment: String,
}

pub(crate) async fn silence(
    State(shared): State<Shared>,
    uri: Uri,
    Fields(fields): Fields<NewSilence>,
) -> Response {
    let outcome = match new_silence(fields) {
        Ok(silence) => {
            let request = v1::CreateSilenceRequest { silence: Some(silence) };
            shared.alerts.create_silence(request).await.map(drop)
        }
        Err(problem) => Err(Status::invalid_argument(problem)),
    };
    done(&shared, &uri, "../", outcome).await
}

fn new_silence(fields: NewSilence) -> Result<v1::Silence, String> {
    let length: daemon::config::Span = fields.length.parse().map_err(|e| format!("length: {e}"))?;
    let ms = i64::try_from(length.get().as_millis()).unwrap_or(i64::MAX);
    let start = match fields.start.as_str() {
        "" => UnixMillis(now_ms()),
        text => local_time(text, &fields.time_zone)?,
    };
    let every = match fields.every.as_str() {
        "" => None,
        "day" => Some(v1::recurrence::Every::Day),
        "week" => Some(v1::recurrence::Every::Week),
        other => return Err(format!("every: expected day or week, found {other:?}")),
    };
    Ok(v1::Silence {
        matchers: matchers_from_text(&fields.matchers).map_err(|e| format!("matchers: {e}"))?,
        start: Some(timestamp_to_proto(start)),
        end: Some(timestamp_to_proto(start + ms)),
        author: fields.author,
        comment: fields.comment,
        recurrence: every.map(|every| v1::Recurrence {
            every: every.into(),
            time_zone: fields.time_zone,
            until: None,
        }),
        ..Default::default()
    })
}

/// What a browser sends of its field for a date and a time: `2026-03-29T02:00`.
fn local_time(text: &str, time_zone: &str) -> Result<UnixMillis, String> {
    let name = if time_zone.is_empty() { "UTC" } else { time_zone };
    let zone = jiff::tz::TimeZone::get(name).map_err(|_| {
        format!("time_zone: expected a time zone such as Europe/Berlin, found {name:?}")
    })?;
    let time = text.parse::<jiff::civil::DateTime>().and_then(|time| time.to_zoned(zone));
    let time = time.map_err(|_| {
        format!("start: expected a date and a time such as 2026-03-29T02:00, found {text:?}")
    })?;
    Ok(UnixMillis(time.timestamp().as_millisecond()))
}

pub(crate) async fn silence_end(
    State(shared): State<Shared>,
    uri: Uri,
    Path(id): Path<String>,
) -> Response {
    let outcome = shared.alerts.end_silence(v1::EndSilenceRequest { id }).await;
    done(&shared, &uri, "../../../", outcome).await
}

#[derive(Deserialize)]
pub(crate) struct Switch {
    enabled: bool,
}

pub(crate) async fn rule_switch(
    State(shared): State<Shared>,
    uri: Uri,
    Path(id): Path<String>,
    Fields(Switch { enabled }): Fields<Switch>,
) -> Response {
    let request = v1::SetRuleEnabledRequest { id, enabled };
    done(&shared, &uri, "../../../", shared.alerts.set_rule_enabled(request).await).await
}

pub(crate) async fn rule_delete(
    State(shared): State<Shared>,
    uri: Uri,
    Path(id): Path<String>,
) -> Response {
    let outcome = shared.alerts.delete_rule(v1::DeleteRuleRequest { id, revision: 0 }).await;
    done(&shared, &uri, "../../../", outcome).await
}

pub(crate) async fn dead_retry(
    State(shared): State<Shared>,
    uri: Uri,
    Path(id): Path<i64>,
) -> Response {
    let outcome = shared.alerts.retry_dead_notice(v1::RetryDeadNoticeRequest { id }).await;
    done(&shared, &uri, "../../../", outcome).await
}
