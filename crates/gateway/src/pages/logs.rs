//! `/logs`: what was logged, searched and live; `/logs/errors`: errors by service and kind.

use askama::Template;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use model::UnixMillis;
use proto::convert::timestamp_to_proto;
use proto::v1;

use super::Page;
use super::page::{html, html_with, is_htmx, problem};
use crate::api::{ApiError, Params, now_ms};
use crate::format;
use crate::gateway::Shared;
use crate::view::{GroupLine, LogLine, bars};
use histogram::Histogram;

mod histogram;

/// Name, words and milliseconds.
const SPANS: [(&str, &str, i64); 5] = [
    ("15m", "15 min", 15 * 60_000),
    ("1h", "1 h", 3_600_000),
    ("24h", "24 h", 86_400_000),
    ("7d", "7 d", 7 * 86_400_000),
    ("30d", "30 d", 30 * 86_400_000),
];
const SPAN_DEFAULT: &str = "24h";
const LINES: u32 = 100;
/// What is around a moment, to either side.
const AROUND_MS: i64 = 150_000;

#[derive(Template)]
#[template(path = "logs.html")]
struct LogsPage {
    page: Page,
    query: String,
    span: &'static str,
    /// From here to there, when an address says so.
    at: String,
    spans: Vec<(&'static str, &'static str)>,
    histogram: Option<Histogram>,
    lines: Vec<LogLine>,
    /// What lines that arrive are made from.
    blank: Option<Vec<LogLine>>,
    problem: String,
    older: String,
}

#[derive(Template)]
#[template(path = "logs/lines.html")]
struct Lines {
    page: Page,
    lines: Vec<LogLine>,
    older: String,
}

/// `q` is the query, `span` one of the named, or `from` and `to` in milliseconds; `page` goes on from a page before.
pub(crate) async fn logs(
    State(shared): State<Shared>,
    headers: HeaderMap,
    uri: Uri,
    params: Params,
) -> Response {
    match logs_page(&shared, &headers, &uri, &params).await {
        Ok(response) => response,
        Err(error) => problem(&shared, &uri, &error),
    }
}

async fn logs_page(
    shared: &Shared,
    headers: &HeaderMap,
    uri: &Uri,
    params: &Params,
) -> Result<Response, ApiError> {
    params.allow(&["q", "span", "from", "to", "page"])?;
    let now = now_ms();
    let query = params.text("q").unwrap_or_default().to_owned();
    let (span, _, span_ms) = span(params.text("span"))?;
    let (from, to) = (params.time("from", now)?, params.time("to", now)?);
    let start = from.unwrap_or(to.unwrap_or(now).saturating_sub(span_ms));
    let request = v1::SearchRequest {
        query: query.clone(),
        start: Some(timestamp_to_proto(UnixMillis(start))),
        end: to.map(|ms| timestamp_to_proto(UnixMillis(ms))),
        page_size: LINES,
        page_token: params.text("page").unwrap_or_default().to_owned(),
    };
    let page = Page::new(shared, uri, "logs");
    let is_page = !is_htmx(headers) && params.text("page").is_none();
    let counted = async {
        let shown = histogram::histogram(shared, &query, start, to.unwrap_or(now));
        if is_page { shown.await } else { None }
    };
    let (answer, histogram) = tokio::join!(shared.logs.search(request), counted);
    let (lines, older, problem) = match answer {
        Ok(answer) => {
            let lines = answer.entries.into_iter().map(|entry| LogLine::new(entry, now)).collect();
            (lines, older(answer.next_page_token, &query, span, from, to), String::new())
        }
        Err(status) => (Vec::new(), String::new(), status.message().to_owned()),
    };
    if is_htmx(headers) && problem.is_empty() {
        return Ok(html(&Lines { page, lines, older }));
    }
    let status = if problem.is_empty() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    let at = match (from, to) {
        (None, None) => String::new(),
        _ => format!(
            "{} to {}",
            format::rfc3339(start),
            to.map_or_else(|| "now".to_owned(), format::rfc3339)
        ),
    };
    let spans = SPANS.map(|(name, words, _)| (name, words)).to_vec();
    let blank = Some(vec![LogLine::new(v1::LogEntry::default(), now)]);
    let shown = LogsPage { page, query, span, at, spans, histogram, lines, blank, problem, older };
    Ok(html_with(status, &shown))
}

/// The address of the page behind, relative to this one.
fn older(token: String, query: &str, span: &str, from: Option<i64>, to: Option<i64>) -> String {
    if token.is_empty() {
        return String::new();
    }
    let mut pairs = vec![("q", query.to_owned()), ("span", span.to_owned()), ("page", token)];
    pairs.extend(from.map(|ms| ("from", ms.to_string())));
    pairs.extend(to.map(|ms| ("to", ms.to_string())));
    let pairs = pairs.iter().map(|(name, value)| format!("{name}={}", encoded(value)));
    format!("logs?{}", pairs.collect::<Vec<_>>().join("&"))
}

/// What a machine logged around a moment, as an address relative to the machine's page.
pub(super) fn around(machine: &str, ms: i64) -> String {
    let (from, to) = (ms - AROUND_MS, ms + AROUND_MS);
    format!("../logs?from={from}&to={to}&q={}", encoded(&format!("machine:{machine}")))
}

fn encoded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    text.bytes()
        .map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

fn span(name: Option<&str>) -> Result<(&'static str, &'static str, i64), ApiError> {
    let name = name.unwrap_or(SPAN_DEFAULT);
    SPANS.into_iter().find(|(known, ..)| *known == name).ok_or_else(|| {
        let names: Vec<_> = SPANS.iter().map(|(name, ..)| *name).collect();
        let message = format!("span: expected one of {}, found {name:?}", names.join(", "));
        ApiError::invalid("span", message)
    })
}

#[derive(Template)]
#[template(path = "logs/errors.html")]
struct ErrorsPage {
    page: Page,
    span: &'static str,
    service: String,
    spans: Vec<(&'static str, &'static str)>,
    services: Vec<ServiceLine>,
    groups: Vec<GroupLine>,
    left_out: u32,
    total: String,
    buckets: usize,
    bucket: String,
    problem: String,
}

struct ServiceLine {
    service: String,
    count: String,
    path: String,
}

pub(crate) async fn errors(State(shared): State<Shared>, uri: Uri, params: Params) -> Response {
    match errors_page(&shared, &uri, &params).await {
        Ok(response) => response,
        Err(error) => problem(&shared, &uri, &error),
    }
}

async fn errors_page(shared: &Shared, uri: &Uri, params: &Params) -> Result<Response, ApiError> {
    params.allow(&["span", "service"])?;
    let now = now_ms();
    let (span, _, span_ms) = span(params.text("span"))?;
    let service = params.text("service").unwrap_or_default().to_owned();
    let request = v1::ErrorBreakdownRequest {
        start: Some(timestamp_to_proto(UnixMillis(now - span_ms))),
        end: Some(timestamp_to_proto(UnixMillis(now))),
        service: service.clone(),
        machine: String::new(),
    };
    let (answer, problem) = match shared.logs.error_breakdown(request).await {
        Ok(answer) => (answer, String::new()),
        Err(status) => (v1::ErrorBreakdownResponse::default(), status.message().to_owned()),
    };
    let buckets = answer.services.first().map_or(1, |service| service.counts.len().max(1));
    let total: u64 = answer.services.iter().map(|service| service.count).sum();
    let bucket = answer.bucket.as_ref().map_or(0, |bucket| bucket.seconds);
    let services = answer.services.into_iter().map(|service| ServiceLine {
        count: format::number(service.count as f64),
        path: bars(&service.counts),
        service: service.service,
    });
    Ok(html(&ErrorsPage {
        page: Page::new(shared, uri, "logs"),
        span,
        service,
        spans: SPANS.map(|(name, words, _)| (name, words)).to_vec(),
        services: services.collect(),
        groups: answer.groups.into_iter().map(|group| GroupLine::new(group, now)).collect(),
        left_out: answer.groups_left_out,
        total: format::number(total as f64),
        buckets,
        bucket: format::duration(bucket as f64),
        problem,
    }))
}
