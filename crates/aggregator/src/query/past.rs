//! What ran and what happened: `ListProcesses`, `ListEvents`.

use std::sync::Arc;
use std::time::SystemTime;

use model::{TimeRange, UnixMillis, limits};
use proto::v1::recorded_event::Kind;
use proto::{convert, v1};
use storage::history::Recorded;
use tonic::Status;

use super::{Desk, unavailable};

const EVENTS_DEFAULT: u32 = 100;
const EVENTS_MAX: u32 = 1000;
const EVENTS_RANGE_DEFAULT_MS: i64 = 7 * 24 * 60 * 60 * 1000;

pub(super) async fn processes(
    desk: &Desk,
    request: v1::ListProcessesRequest,
) -> Result<v1::ListProcessesResponse, Status> {
    let at = request.at.map(|at| convert::timestamp_from_proto("at", &at)).transpose()?;
    let machine = desk.record("machine", &request.machine)?.id;
    let live = match at {
        None => desk.live.processes(machine).await.map_err(unavailable)?,
        Some(_) => None,
    };
    let report = match live {
        Some(report) => Some(report),
        None => {
            let now = UnixMillis::from(SystemTime::now());
            let report = desk.history.processes_at(machine, at.unwrap_or(now)).await;
            report.map_err(unavailable)?.map(Arc::new)
        }
    };
    let Some(report) = report else { return Ok(v1::ListProcessesResponse::default()) };
    Ok(v1::ListProcessesResponse {
        time: Some(convert::timestamp_to_proto(report.time)),
        processes: report.processes.iter().map(convert::process_to_proto).collect(),
        total: report.total,
        running: report.running,
        blocked: report.blocked,
        zombie: report.zombie,
    })
}

pub(super) async fn events(
    desk: &Desk,
    request: v1::ListEventsRequest,
) -> Result<v1::ListEventsResponse, Status> {
    let time = |field: &str, time: Option<prost_types::Timestamp>| {
        time.map(|time| convert::timestamp_from_proto(field, &time)).transpose()
    };
    let (start, end) = (time("start", request.start)?, time("end", request.end)?);
    let end = end.unwrap_or(UnixMillis::from(SystemTime::now()) + limits::ITEM_AHEAD_MS_MAX);
    let range = TimeRange::new(start.unwrap_or(end - EVENTS_RANGE_DEFAULT_MS), end);
    if range.is_empty() {
        return Err(Status::invalid_argument("end: expected a time after start"));
    }
    let limit = match request.limit {
        0 => EVENTS_DEFAULT,
        limit if limit <= EVENTS_MAX => limit,
        limit => {
            return Err(Status::invalid_argument(format!(
                "limit: expected at most {EVENTS_MAX}, found {limit}"
            )));
        }
    };
    let machine = desk.record("machine", &request.machine)?.id;
    let recorded =
        desk.history.recorded(machine, range, limit as usize).await.map_err(unavailable)?;
    let events = recorded.iter().map(|recorded| {
        let (time, kind) = match recorded {
            Recorded::Event(event) => (event.time, Kind::Event(convert::event_to_proto(event))),
            Recorded::Gap(gap, received) => {
                let time = gap.times.map_or(*received, |(_, last)| last);
                (time, Kind::Gap(convert::gap_to_proto(gap)))
            }
        };
        v1::RecordedEvent { time: Some(convert::timestamp_to_proto(time)), kind: Some(kind) }
    });
    Ok(v1::ListEventsResponse { events: events.collect() })
}
