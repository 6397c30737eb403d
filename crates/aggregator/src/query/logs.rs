//! What machines and their services logged: `LogService`.

use std::time::SystemTime;

use model::{LogEvent, LogQuery, MachineId, TimeRange, UnixMillis, limits};
use proto::v1::log_service_server::LogService;
use proto::{convert, v1};
use tonic::{Request, Response, Status};

use super::{Answers, Desk, Query};

mod breakdown;
mod search;
mod tail;

#[tonic::async_trait]
impl LogService for Query {
    async fn search(
        &self,
        request: Request<v1::SearchRequest>,
    ) -> Result<Response<v1::SearchResponse>, Status> {
        search::answer(&self.0, request.into_inner()).await.map(Response::new)
    }

    type TailStream = Answers<v1::TailResponse>;

    async fn tail(
        &self,
        request: Request<v1::TailRequest>,
    ) -> Result<Response<Self::TailStream>, Status> {
        let answers = tail::answers(self.0.clone(), request.into_inner()).await?;
        Ok(Response::new(self.until_stopping(answers)))
    }

    async fn error_breakdown(
        &self,
        request: Request<v1::ErrorBreakdownRequest>,
    ) -> Result<Response<v1::ErrorBreakdownResponse>, Status> {
        breakdown::answer(&self.0, request.into_inner()).await.map(Response::new)
    }
}

fn query(text: &str) -> Result<LogQuery, Status> {
    LogQuery::parse(text).map_err(|error| Status::invalid_argument(error.to_string()))
}

/// The range that is asked for; from `default_ms` ago to now where it is open.
fn range(
    start: Option<prost_types::Timestamp>,
    end: Option<prost_types::Timestamp>,
    default_ms: i64,
) -> Result<TimeRange, Status> {
    let time = |field: &str, time: Option<prost_types::Timestamp>| {
        time.map(|time| convert::timestamp_from_proto(field, &time)).transpose()
    };
    let (start, end) = (time("start", start)?, time("end", end)?);
    let now = UnixMillis::from(SystemTime::now());
    // Clocks of machines may be ahead.
    let end_of_all = now + limits::ITEM_AHEAD_MS_MAX;
    let start = start.unwrap_or(end.unwrap_or(now) - default_ms);
    let range = TimeRange::new(start, end.unwrap_or(end_of_all));
    if range.is_empty() {
        return Err(Status::invalid_argument("end: expected a time after start"));
    }
    Ok(range)
}

impl Desk {
    /// The machines that a query is about; `None` for all.
    fn machines_of(&self, query: &LogQuery) -> Option<Vec<MachineId>> {
        query.names_machines().then(|| {
            let records = self.roll.records().into_iter();
            records
                .filter(|r| query.accepts_machine(&r.facts.host_name, &r.id.to_string()))
                .map(|record| record.id)
                .collect()
        })
    }

    /// Its id where it is not known by a name.
    fn host_name(&self, machine: MachineId) -> String {
        self.roll
            .record(machine)
            .map_or_else(|| machine.to_string(), |record| record.facts.host_name.clone())
    }

    fn entry(&self, machine: MachineId, event: &LogEvent, position: String) -> v1::LogEntry {
        v1::LogEntry {
            time: Some(convert::timestamp_to_proto(event.time)),
            level: model::Level::of(event.severity).name().to_owned(),
            machine_id: machine.to_string(),
            host_name: self.host_name(machine),
            service: event.service.clone(),
            body: event.body.clone(),
            body_truncated: event.body_truncated,
            attributes: convert::labels_to_proto(&event.attributes),
            source: event.source.clone(),
            severity_number: event.severity.number().into(),
            position,
        }
    }
}
