//! `GET /api/v1/logs`, `/api/v1/logs/tail` and `/api/v1/logs/errors`.

use std::collections::BTreeMap;
use std::convert::Infallible;

use axum::Json;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use model::UnixMillis;
use proto::convert::timestamp_to_proto;
use proto::v1;
use serde::Serialize;

use super::{ApiError, Params, now_ms};
use crate::format;
use crate::gateway::Shared;
use crate::view::millis;

#[derive(Serialize)]
pub(crate) struct Found {
    entries: Vec<LogJson>,
    /// For the parameter `page`; null when there is nothing more.
    next_page: Option<String>,
    start: Option<String>,
    end: Option<String>,
}

/// A log event, as REST and the live tail show it.
#[derive(Serialize)]
pub(crate) struct LogJson {
    time: String,
    time_ms: i64,
    level: String,
    machine: String,
    host_name: String,
    service: String,
    body: String,
    truncated: bool,
    attributes: BTreeMap<String, String>,
    source: String,
}

impl From<v1::LogEntry> for LogJson {
    fn from(entry: v1::LogEntry) -> Self {
        let time_ms = millis(entry.time.as_ref()).unwrap_or_default();
        Self {
            time: format::rfc3339(time_ms),
            time_ms,
            level: entry.level,
            machine: entry.machine_id,
            host_name: entry.host_name,
            service: entry.service,
            body: entry.body,
            truncated: entry.body_truncated,
            attributes: entry.attributes.into_iter().collect(),
            source: entry.source,
        }
    }
}

/// `query`, `start` and `end` (a day ago and now when absent), `limit`, `page`.
pub(crate) async fn logs(
    State(shared): State<Shared>,
    params: Params,
) -> Result<Json<Found>, ApiError> {
    params.allow(&["query", "start", "end", "limit", "page"])?;
    let answer = shared.logs.search(search_request(&params, now_ms())?).await?;
    let time = |time: Option<&prost_types::Timestamp>| millis(time).map(format::rfc3339);
    Ok(Json(Found {
        start: time(answer.start.as_ref()),
        end: time(answer.end.as_ref()),
        next_page: (!answer.next_page_token.is_empty()).then_some(answer.next_page_token),
        entries: answer.entries.into_iter().map(LogJson::from).collect(),
    }))
}

pub(crate) fn search_request(params: &Params, now: i64) -> Result<v1::SearchRequest, ApiError> {
    let time = |name: &str| -> Result<_, ApiError> {
        Ok(params.time(name, now)?.map(|ms| timestamp_to_proto(UnixMillis(ms))))
    };
    Ok(v1::SearchRequest {
        query: params.text("query").unwrap_or_default().to_owned(),
        start: time("start")?,
        end: time("end")?,
        page_size: params.number("limit")?.unwrap_or(0),
        page_token: params.text("page").unwrap_or_default().to_owned(),
    })
}

#[derive(Serialize)]
struct TailJson {
    entries: Vec<LogJson>,
    /// Events that were missed since the message before.
    dropped: u64,
    past: bool,
}

/// Server-sent events: `query`, `lookback`. Each event's data is `{"entries":[…],"dropped":0,"past":false}`.
pub(crate) async fn tail(
    State(shared): State<Shared>,
    params: Params,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    params.allow(&["query", "lookback"])?;
    let request = v1::TailRequest {
        query: params.text("query").unwrap_or_default().to_owned(),
        lookback: params.number("lookback")?.unwrap_or(0),
    };
    let Some(place) = shared.hub.take_place() else {
        return Err(tonic::Status::unavailable("all places for live pages are taken").into());
    };
    let answers = shared.logs.tail(request).await?;
    // With the place, and with the count of those that a shutdown waits for.
    let state = (answers, place);
    let events = futures::stream::unfold(state, |(mut answers, place)| async move {
        let next = tokio::select! {
            biased;
            () = place.stopping() => None,
            next = answers.message() => next.ok().flatten(),
        }?;
        let message = TailJson {
            entries: next.entries.into_iter().map(LogJson::from).collect(),
            dropped: next.dropped_events,
            past: next.past,
        };
        let event = Event::default().json_data(message).unwrap_or_default();
        Some((Ok(event), (answers, place)))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

#[derive(Serialize)]
pub(crate) struct Errors {
    services: Vec<ServiceJson>,
    groups: Vec<GroupJson>,
    groups_left_out: u32,
    start: Option<String>,
    bucket_ms: i64,
}

#[derive(Serialize)]
struct ServiceJson {
    service: String,
    count: u64,
    counts: Vec<u64>,
}

#[derive(Serialize)]
struct GroupJson {
    id: String,
    service: String,
    template: String,
    example: String,
    level: String,
    first_seen: Option<String>,
    last_seen: Option<String>,
    count: u64,
    count_total: u64,
    machines: Vec<String>,
    counts: Vec<u64>,
}

/// `start` and `end` (an hour ago and now when absent), `service`, `machine`.
pub(crate) async fn errors(
    State(shared): State<Shared>,
    params: Params,
) -> Result<Json<Errors>, ApiError> {
    params.allow(&["start", "end", "service", "machine"])?;
    let now = now_ms();
    let time = |name: &str| -> Result<_, ApiError> {
        Ok(params.time(name, now)?.map(|ms| timestamp_to_proto(UnixMillis(ms))))
    };
    let request = v1::ErrorBreakdownRequest {
        start: time("start")?,
        end: time("end")?,
        service: params.text("service").unwrap_or_default().to_owned(),
        machine: params.text("machine").unwrap_or_default().to_owned(),
    };
    let answer = shared.logs.error_breakdown(request).await?;
    let time = |time: Option<&prost_types::Timestamp>| millis(time).map(format::rfc3339);
    let bucket = answer.bucket.as_ref();
    Ok(Json(Errors {
        start: time(answer.start.as_ref()),
        bucket_ms: bucket.map_or(0, |d| d.seconds * 1000 + i64::from(d.nanos) / 1_000_000),
        groups_left_out: answer.groups_left_out,
        services: answer
            .services
            .into_iter()
            .map(|s| ServiceJson { service: s.service, count: s.count, counts: s.counts })
            .collect(),
        groups: answer
            .groups
            .into_iter()
            .map(|group| GroupJson {
                first_seen: time(group.first_seen.as_ref()),
                last_seen: time(group.last_seen.as_ref()),
                id: group.id,
                service: group.service,
                template: group.template,
                example: group.example,
                level: group.level,
                count: group.count,
                count_total: group.count_total,
                machines: group.machines,
                counts: group.counts,
            })
            .collect(),
    }))
}
