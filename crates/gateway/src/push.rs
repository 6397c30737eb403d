//! `POST /api/v1/push/events` and `/api/v1/push/metrics`: what programs say of themselves, without a collector.
//!
//! What they send is read here and stored by the aggregator, whose answer is awaited: 200 means durable.

use std::sync::LazyLock;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::header::HeaderName;
use axum::http::{HeaderMap, StatusCode};
use model::{Caller, Grant, limits};
use proto::v1;
use serde::Serialize;
use tokio::sync::Semaphore;
use tonic::Status;

use crate::api::{ApiError, Params};
use crate::caller;
use crate::gateway::Shared;
use body::Items;

mod body;
mod events;
mod fields;
mod metrics;

/// Names a request, so that it is stored once however often it is sent.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Where nothing says whose it is.
const SOURCE: &str = "apps";
/// Requests that are read and wait to be stored at the same time: each may be large.
const AT_ONCE_MAX: usize = 32;
static TURNS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(AT_ONCE_MAX));

#[derive(Serialize)]
pub(crate) struct Stored {
    /// Events or metrics of the request.
    accepted: usize,
    /// They were stored by an earlier request with the same key.
    duplicate: bool,
}

pub(crate) async fn events(
    State(shared): State<Shared>,
    params: Params,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Stored>, ApiError> {
    push(&shared, &params, &headers, body, |items, service| {
        let mut request = v1::PushRequest::default();
        for item in items.take_all() {
            request.events.push(events::event(item, service)?);
        }
        let places = (0..request.events.len()).collect();
        Ok((request, places))
    })
    .await
}

pub(crate) async fn metrics(
    State(shared): State<Shared>,
    params: Params,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Stored>, ApiError> {
    push(&shared, &params, &headers, body, |items, service| {
        let mut spread = metrics::Spread::new(service);
        for item in items.take_all() {
            spread.metric(item)?;
        }
        let (points, places) = spread.finish();
        Ok((v1::PushRequest { points, ..Default::default() }, places))
    })
    .await
}

/// What a request is to be stored as, and for each of its values, which item of the body it came from.
type Read = (v1::PushRequest, Vec<usize>);

async fn push(
    shared: &Shared,
    params: &Params,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
    read: impl FnOnce(&mut Items, &str) -> Result<Read, ApiError>,
) -> Result<Json<Stored>, ApiError> {
    let Ok(_turn) = TURNS.try_acquire() else {
        let problem = "too many requests push at the same time; hint: send more in one request";
        return Err(Status::resource_exhausted(problem).into());
    };
    let (source, request, places, items) = {
        params.allow(&["source", "service"])?;
        let source = source(caller::current().as_ref(), params.once("source")?)?;
        let key = key(headers)?;
        let body = body.map_err(too_large)?;
        let mut items = body::read(headers, &body)?;
        let (mut request, places) = read(&mut items, params.once("service")?.unwrap_or(&source))?;
        request.source.clone_from(&source);
        request.idempotency_key = key;
        (source, request, places, items)
    };
    tracing::trace!(source, items = items.len(), "a program pushes");
    match shared.push.push(request).await {
        Ok(v1::PushResponse { duplicate }) => Ok(Json(Stored { accepted: items.len(), duplicate })),
        Err(status) => Err(relocated(status, &items, &places).into()),
    }
}

/// A token for pushing has the name of its source.
fn source(caller: Option<&Caller>, named: Option<&str>) -> Result<String, ApiError> {
    let own =
        caller.filter(|caller| caller.grant == Grant::Push).map(|caller| caller.name.as_str());
    let problem = match (own, named) {
        (Some(own), Some(named)) if own != named => {
            let problem = format!("source: this token pushes as {own:?} alone, found {named:?}");
            return Err(ApiError::of(
                StatusCode::FORBIDDEN,
                "permission_denied",
                "source",
                problem,
            ));
        }
        (own, named) => {
            let source = own.or(named).unwrap_or(SOURCE);
            match model::pushed::is_source_name(source) {
                true => return Ok(source.to_owned()),
                false => format!(
                    "source: expected 1 to {} bytes of text, found {source:?}",
                    limits::PUSH_SOURCE_BYTES_MAX
                ),
            }
        }
    };
    Err(ApiError::invalid("source", problem))
}

fn key(headers: &HeaderMap) -> Result<String, ApiError> {
    let Some(key) = headers.get(KEY) else { return Ok(String::new()) };
    match key.to_str() {
        Ok(key) if (1..=limits::PUSH_KEY_BYTES_MAX).contains(&key.len()) => Ok(key.to_owned()),
        _ => {
            let max = limits::PUSH_KEY_BYTES_MAX;
            let problem = format!("idempotency-key: expected 1 to {max} bytes of ASCII");
            Err(ApiError::invalid("idempotency-key", problem))
        }
    }
}

fn too_large(rejection: BytesRejection) -> ApiError {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => body::too_large(),
        _ => ApiError::invalid("body", format!("body: {}", rejection.body_text())),
    }
}

/// The aggregator counts values; whoever wrote the body knows its items.
fn relocated(status: Status, items: &Items, places: &[usize]) -> Status {
    let place = || {
        let (what, rest) = status.message().split_once('[')?;
        let (index, rest) = rest.split_once(']')?;
        let known = matches!(what, "points" | "events");
        let item = *places.get(index.parse::<usize>().ok()?)?;
        let rest = rest.replacen(".series.", ".", 1).replacen("time_unix_ms", "time", 1);
        known.then(|| format!("{}{rest}", items.place(item)).trim_start_matches('.').to_owned())
    };
    match place() {
        Some(message) => Status::new(status.code(), message),
        None => status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_pushes_under_its_own_name() {
        let caller = |grant| Caller { id: "1".into(), name: "shop".into(), grant };
        let check = |caller: Option<Caller>, named: Option<&str>, expected: Option<&str>| {
            let found = source(caller.as_ref(), named).ok();
            assert_eq!(found.as_deref(), expected, "{named:?} by {caller:?}");
        };
        check(None, None, Some("apps"));
        check(None, Some("bank"), Some("bank"));
        check(Some(caller(Grant::Admin)), Some("bank"), Some("bank"));
        check(Some(caller(Grant::Push)), None, Some("shop"));
        check(Some(caller(Grant::Push)), Some("shop"), Some("shop"));
        check(Some(caller(Grant::Push)), Some("bank"), None);
        check(None, Some("a\nb"), None);
    }

    #[test]
    fn what_the_aggregator_refuses_is_shown_where_it_was_written() {
        let items = body::split(b"{}\n{}\n{}").expect("three");
        let told = |message: &str| {
            let status = Status::invalid_argument(message);
            relocated(status, &items, &[0, 1, 1, 2]).message().to_owned()
        };
        assert_eq!(told("points[2].series.kind: was a gauge"), "line 2.kind: was a gauge");
        assert_eq!(told("events[3].time_unix_ms: too old"), "line 3.time: too old");
        assert_eq!(told("the queue is full"), "the queue is full");
        let one = body::split(b"{}").expect("one");
        let status = Status::invalid_argument("points[0].series.kind: was a gauge");
        assert_eq!(relocated(status, &one, &[0]).message(), "kind: was a gauge");
    }
}
