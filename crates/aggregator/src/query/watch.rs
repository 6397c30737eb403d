//! The fleet as it changes: `Watch`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use model::{MachineId, Matcher};
use proto::{convert, v1};
use tokio::time::{Interval, MissedTickBehavior};
use tonic::Status;

use super::Desk;
use super::directory::{self, Known};

const INTERVAL_DEFAULT_MS: i64 = 1000;
const INTERVAL_MS_MIN: i64 = 200;
const INTERVAL_MS_MAX: i64 = 60 * 60 * 1000;

/// A picture is taken when the reader is ready for it, so a slow reader gets fewer and newer ones.
pub(super) fn answers(
    desk: Arc<Desk>,
    request: v1::WatchRequest,
) -> Result<impl Stream<Item = Result<v1::WatchResponse, Status>> + Send + 'static, Status> {
    let matchers = directory::matchers(request.matchers)?;
    let interval_ms = request.interval.map_or(Ok(INTERVAL_DEFAULT_MS), |interval| {
        convert::duration_to_ms("interval", &interval)
    })?;
    if !(INTERVAL_MS_MIN..=INTERVAL_MS_MAX).contains(&interval_ms) {
        return Err(Status::invalid_argument(format!(
            "interval: expected 200 ms to 1 h, found {interval_ms} ms"
        )));
    }
    let mut ticks = tokio::time::interval(Duration::from_millis(interval_ms as u64));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watcher = Watcher { desk, matchers, ticks, shown: None };
    Ok(futures::stream::unfold(watcher, |mut watcher| async move {
        Some((watcher.next().await, watcher))
    }))
}

struct Watcher {
    desk: Arc<Desk>,
    matchers: Vec<Matcher>,
    ticks: Interval,
    /// What the reader has seen last; nothing before the first picture.
    shown: Option<HashMap<MachineId, Known>>,
}

impl Watcher {
    async fn next(&mut self) -> Result<v1::WatchResponse, Status> {
        loop {
            self.ticks.tick().await;
            let machines = self.desk.machines(&self.matchers).await?;
            if let Some(response) = self.show(machines) {
                return Ok(response);
            }
        }
    }

    /// What to tell the reader; `None` when nothing changed.
    fn show(&mut self, machines: Vec<Known>) -> Option<v1::WatchResponse> {
        let snapshot = self.shown.is_none();
        let shown = self.shown.get_or_insert_default();
        let there: HashSet<MachineId> = machines.iter().map(|known| known.record.id).collect();
        let mut removed_machine_ids = Vec::new();
        shown.retain(|id, _| {
            let stays = there.contains(id);
            if !stays {
                removed_machine_ids.push(id.to_string());
            }
            stays
        });
        let mut changed = Vec::new();
        for known in machines {
            if shown.get(&known.record.id).is_none_or(|before| before.differs(&known)) {
                changed.push(known.to_proto());
                shown.insert(known.record.id, known);
            }
        }
        let news = snapshot || !changed.is_empty() || !removed_machine_ids.is_empty();
        news.then_some(v1::WatchResponse { machines: changed, snapshot, removed_machine_ids })
    }
}

impl Known {
    fn differs(&self, other: &Self) -> bool {
        self.presence != other.presence
            || !(Arc::ptr_eq(&self.record, &other.record) || self.record == other.record)
    }
}
