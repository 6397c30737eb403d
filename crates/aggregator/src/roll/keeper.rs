//! Writes the roll's news to live state and the event stream.

use std::sync::Arc;
use std::time::Duration;

use model::MachineId;
use storage::events::{Event, EventKind};
use storage::live::Presence;
use storage::{EventStream, LiveState};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{Change, Roll};
use crate::clock::Now;
use crate::metrics::{Metrics, Status};

/// The one task that writes about machines to live state.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) roll: Arc<Roll>,
    pub(crate) live: Arc<dyn LiveState>,
    pub(crate) events: Arc<dyn EventStream>,
    pub(crate) metrics: Metrics,
}

/// How often silence is looked at.
const SWEEP_EVERY: Duration = Duration::from_millis(500);
/// News that come together are written together.
const GATHER: Duration = Duration::from_millis(20);

impl Keeper {
    /// Ends when `stopping`, after it wrote what was there.
    pub(crate) async fn run(self, stopping: CancellationToken) {
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            let last = tokio::select! {
                biased;
                () = stopping.cancelled() => true,
                _ = sweep.tick() => {
                    self.observe().await;
                    self.roll.sweep(Now::read());
                    self.count();
                    false
                }
                // While a store fails, the sweep's pace is quick enough to try again.
                () = self.roll.news.notified(), if !failing => {
                    tokio::time::sleep(GATHER).await;
                    false
                }
            };
            failing = !self.write(failing).await;
            if last {
                return;
            }
        }
    }

    /// Looks at what other aggregators wrote. When live state does not answer, there is nothing to learn.
    async fn observe(&self) {
        let Ok(presences) = self.live.presences().await else { return };
        if self.roll.observe(&presences, Now::read()) {
            // Whom the registrar has introduced is observed the next time.
            self.roll.strangers.notify_one();
        }
    }

    fn count(&self) {
        for (status, count) in self.roll.census() {
            self.metrics
                .machines
                .get_or_create(&Status { status: status.name() })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// False when something could not be written; it will be tried again. `failing` tells that it was so
    /// the last time too, so that a long failure is logged once.
    async fn write(&self, failing: bool) -> bool {
        let _turn = self.roll.keeping.lock().await;
        let mut fine = true;
        for change in self.roll.take_news() {
            let machine = change.machine;
            let Err(error) = self.tell(machine, &change).await else { continue };
            if !failing && fine {
                tracing::warn!(machine.id = %machine, %error, "failed to write a machine's state; trying again");
            }
            fine = false;
            self.metrics.live_failures.inc();
            self.roll.give_back(&change);
        }
        fine
    }

    async fn tell(&self, machine: MachineId, change: &Change) -> Result<(), storage::StorageError> {
        let Presence { status, status_since, .. } = change.presence;
        self.live.put_presence(machine, change.presence.clone()).await?;
        if change.status_changed {
            tracing::info!(machine.id = %machine, status = status.name(), "machine is {}", status.name());
            let kind = EventKind::Status { status, since: status_since };
            self.events.publish(Event { machine, kind }).await?;
        }
        self.events.publish(Event { machine, kind: EventKind::Changed }).await
    }
}
