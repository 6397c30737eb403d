//! What a rule about logs finds in history.

use std::collections::HashMap;
use std::sync::Arc;

use model::{MachineId, TimeRange, UnixMillis};
use storage::History;
use storage::history::LogSearch;

use super::TestError;
use crate::rule::Rule;

/// Events of one search.
const PAGE: usize = 1000;
/// Of all machines. A rule that finds more is of no use, and would fill the memory.
pub(super) const FOUND_MAX: usize = 500_000;

/// A log event that the rule asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    pub(super) time: UnixMillis,
    pub(super) service: Arc<str>,
}

/// By machine, each in the order of time, at most `max` in all. Empty for rules about something else.
pub(super) async fn read(
    history: &dyn History,
    rule: &Rule,
    range: TimeRange,
    max: usize,
) -> Result<HashMap<MachineId, Vec<Found>>, TestError> {
    let mut found: HashMap<MachineId, Vec<Found>> = HashMap::new();
    let Some(log) = rule.spec.log() else { return Ok(found) };
    let mut services: HashMap<String, Arc<str>> = HashMap::new();
    let (mut before, mut count) = (None, 0);
    loop {
        let query = log.query.clone();
        let search = LogSearch { query, machines: None, range, before, limit: PAGE };
        let page = history.search_logs(search).await?;
        count += page.events.len();
        if count > max {
            return Err(TestError::FindsTooMuch { max });
        }
        for log in page.events {
            let service = services.entry(log.event.service);
            let service = service.or_insert_with_key(|name| name.as_str().into()).clone();
            found.entry(log.machine).or_default().push(Found { time: log.event.time, service });
        }
        before = page.next;
        if before.is_none() {
            break;
        }
        // It may be much work: others come in between.
        tokio::task::yield_now().await;
    }
    // Found newest first.
    found.values_mut().for_each(|found| found.reverse());
    Ok(found)
}

/// How many services they are of.
pub(super) fn services(found: &[Found]) -> usize {
    let services: std::collections::HashSet<&str> = found.iter().map(|f| &*f.service).collect();
    services.len()
}
