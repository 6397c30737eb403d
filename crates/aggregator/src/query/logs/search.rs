//! `Search`: from history, in pages.

use model::UnixMillis;
use proto::{convert, v1};
use storage::history::{LogPosition, LogSearch};
use tonic::Status;

use super::super::{Desk, unavailable};

const PAGE_DEFAULT: u32 = 100;
pub(super) const PAGE_MAX: u32 = 1000;
const RANGE_DEFAULT_MS: i64 = 24 * 60 * 60 * 1000;

pub(super) async fn answer(
    desk: &Desk,
    request: v1::SearchRequest,
) -> Result<v1::SearchResponse, Status> {
    let query = super::query(&request.query)?;
    let range = super::range(request.start, request.end, RANGE_DEFAULT_MS)?;
    let limit = match request.page_size {
        0 => PAGE_DEFAULT,
        limit if limit <= PAGE_MAX => limit,
        limit => {
            return Err(Status::invalid_argument(format!(
                "page_size: expected at most {PAGE_MAX}, found {limit}"
            )));
        }
    };
    let before = match request.page_token.as_str() {
        "" => None,
        token => Some(position(token).ok_or_else(|| {
            Status::invalid_argument(
                "page_token: expected the next_page_token of an answer before; hint: leave it out for the first page",
            )
        })?),
    };
    let machines = desk.machines_of(&query);
    let search = LogSearch { query, machines, range, before, limit: limit as usize };
    // A large search works as a range query does, and takes its turn among them.
    let _slot =
        desk.range_slots.acquire().await.map_err(|_| Status::unavailable("shutting down"))?;
    let found = tokio::time::timeout(desk.config.timeout.0, desk.history.search_logs(search));
    let page = found
        .await
        .map_err(|_| Status::deadline_exceeded("the search took too long; hint: name a service, a level or a whole word, or a shorter time"))?
        .map_err(unavailable)?;
    let entries = page
        .events
        .iter()
        .map(|found| desk.entry(found.machine, &found.event, token(found.position)));
    Ok(v1::SearchResponse {
        entries: entries.collect(),
        next_page_token: page.next.map(token).unwrap_or_default(),
        start: Some(convert::timestamp_to_proto(range.start)),
        end: Some(convert::timestamp_to_proto(range.end)),
    })
}

/// Opaque to callers: time and number, hexadecimal.
fn token(position: LogPosition) -> String {
    format!("{:x}.{:x}", position.time.0, position.id)
}

fn position(token: &str) -> Option<LogPosition> {
    let (time, id) = token.split_once('.')?;
    Some(LogPosition {
        // As it was written: the bits of a signed number.
        time: UnixMillis(u64::from_str_radix(time, 16).ok()? as i64),
        id: u64::from_str_radix(id, 16).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back_from_its_token() {
        for (time, id) in [(0, 0), (1_700_000_000_123, 7 << 20), (-5, u64::MAX)] {
            let place = LogPosition { time: UnixMillis(time), id };
            assert_eq!(position(&token(place)), Some(place));
        }
        for bad in ["", ".", "x.1", "1", "1.1.1"] {
            assert_eq!(position(bad), None, "{bad:?}");
        }
    }
}
