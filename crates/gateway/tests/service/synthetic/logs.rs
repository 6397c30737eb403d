//! The `LogService` of the synthetic fleet: a few lines, one of them hostile.

use std::pin::Pin;
use std::time::SystemTime;

use futures::Stream;
use proto::convert::{duration_from_ms, timestamp_to_proto};
use proto::v1;
use proto::v1::log_service_server::LogService;
use tonic::{Request, Response, Status};

use super::{HOSTILE, Synthetic, machine_id};

/// What there is, newest first: level, service and text.
const LINES: [(&str, &str, &str); 6] = [
    ("info", "api", "GET /api/v1/users/17 status=200 duration=12ms"),
    ("error", "api", "POST /api/v1/orders failed: connection to 10.0.0.7:5432 refused"),
    ("warn", "postgres", "checkpoints are occurring too frequently (9 seconds apart)"),
    ("error", "worker", HOSTILE),
    ("fatal", "worker", "panicked at src/main.rs:42:\n  index out of bounds\n    at worker::run"),
    ("debug", "api", "cache miss key=user:17"),
];

fn entries(query: &str) -> Vec<v1::LogEntry> {
    let now = model::UnixMillis::from(SystemTime::now());
    let query = model::LogQuery::parse(query).expect("checked");
    let lines = LINES.into_iter().enumerate();
    lines
        .filter(|(_, (level, service, body))| {
            let number = ["", "trace", "debug", "info", "warn", "error", "fatal"]
                .iter()
                .position(|name| name == level)
                .map_or(0, |at| at as u32 * 4);
            let severity = model::Severity::new(number).expect("a severity");
            let attributes = &[][..];
            query.accepts(&model::log_query::LogView { severity, service, body, attributes })
        })
        .map(|(i, (level, service, body))| v1::LogEntry {
            time: Some(timestamp_to_proto(now - 1000 * i as i64)),
            level: level.to_owned(),
            machine_id: machine_id(0),
            host_name: "build-box".to_owned(),
            service: service.to_owned(),
            body: body.to_owned(),
            attributes: [("logger".to_owned(), "main".to_owned())].into(),
            source: "file".to_owned(),
            position: format!("{i:x}.0"),
            ..Default::default()
        })
        .collect()
}

#[tonic::async_trait]
impl LogService for Synthetic {
    async fn search(
        &self,
        request: Request<v1::SearchRequest>,
    ) -> Result<Response<v1::SearchResponse>, Status> {
        let request = request.into_inner();
        if let Err(error) = model::LogQuery::parse(&request.query) {
            return Err(Status::invalid_argument(error.to_string()));
        }
        let mut entries = entries(&request.query);
        let skipped = request.page_token.parse().unwrap_or(0).min(entries.len());
        entries.drain(..skipped);
        // Pages of five, so that there is a second one.
        let more = entries.len() > 5;
        entries.truncate(5);
        let next_page_token = if more { (skipped + 5).to_string() } else { String::new() };
        Ok(Response::new(v1::SearchResponse { entries, next_page_token, ..Default::default() }))
    }

    type TailStream = Pin<Box<dyn Stream<Item = Result<v1::TailResponse, Status>> + Send>>;

    /// One message with everything, and then nothing.
    async fn tail(
        &self,
        request: Request<v1::TailRequest>,
    ) -> Result<Response<Self::TailStream>, Status> {
        let query = request.into_inner().query;
        if let Err(error) = model::LogQuery::parse(&query) {
            return Err(Status::invalid_argument(error.to_string()));
        }
        let message = v1::TailResponse {
            entries: entries(&query).into_iter().rev().collect(),
            dropped_events: 3,
            past: false,
        };
        let first = futures::stream::iter([Ok(message)]);
        Ok(Response::new(Box::pin(futures::StreamExt::chain(first, futures::stream::pending()))))
    }

    async fn error_breakdown(
        &self,
        _: Request<v1::ErrorBreakdownRequest>,
    ) -> Result<Response<v1::ErrorBreakdownResponse>, Status> {
        let now = model::UnixMillis::from(SystemTime::now());
        let counts: Vec<u64> = (0..60).map(|i| (i * 7) % 13).collect();
        let group = |id: &str, service: &str, template: &str| v1::ErrorGroup {
            id: id.to_owned(),
            service: service.to_owned(),
            template: template.to_owned(),
            example: template.replace("<number>", "7"),
            level: "error".to_owned(),
            first_seen: Some(timestamp_to_proto(now - 86_400_000)),
            last_seen: Some(timestamp_to_proto(now - 5_000)),
            count: counts.iter().sum(),
            count_total: 12_345,
            machines: ["build-box", "web-1", "web-2", "db-primary"].map(str::to_owned).into(),
            counts: counts.clone(),
        };
        Ok(Response::new(v1::ErrorBreakdownResponse {
            services: ["api", "worker"]
                .into_iter()
                .map(|service| v1::ServiceErrors {
                    service: service.to_owned(),
                    count: counts.iter().sum(),
                    counts: counts.clone(),
                })
                .collect(),
            groups: vec![
                group(
                    "0011223344556677",
                    "api",
                    "POST <path> failed: connection to <address> refused",
                ),
                group("8899aabbccddeeff", "worker", HOSTILE),
            ],
            groups_left_out: 0,
            start: Some(timestamp_to_proto(now - 3_600_000)),
            bucket: Some(duration_from_ms(60_000)),
        }))
    }
}
