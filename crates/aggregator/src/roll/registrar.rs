//! Writes the roll's records to the registry, and takes in those that other aggregators wrote.

use std::sync::Arc;
use std::time::Duration;

use storage::Registry;
use tokio_util::sync::CancellationToken;

use super::Roll;
use crate::clock::Now;
use crate::metrics::Metrics;

/// The one task that writes about machines to the registry: a database that is slow or away holds up nothing
/// but this.
#[derive(Debug)]
pub(crate) struct Registrar {
    pub(crate) roll: Arc<Roll>,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) metrics: Metrics,
}

/// Records that come together are written together.
const GATHER: Duration = Duration::from_millis(20);
/// After a failure.
const RETRY_EVERY: Duration = Duration::from_millis(500);
/// What cannot be written in this time at the end is told by the collectors again.
const LAST_WORDS: Duration = Duration::from_secs(3);

impl Registrar {
    /// Ends when `stopping`, after it wrote what was there.
    pub(crate) async fn run(self, stopping: CancellationToken) {
        let mut failing = false;
        loop {
            tokio::select! {
                biased;
                () = stopping.cancelled() => break,
                () = self.work(&mut failing) => {}
            }
        }
        let _ = tokio::time::timeout(LAST_WORDS, self.write(failing)).await;
    }

    /// Waits for something to do, and does it.
    async fn work(&self, failing: &mut bool) {
        tokio::select! {
            () = self.roll.strangers.notified() => {
                let _turn = self.roll.registering.lock().await;
                if let Ok(records) = self.registry.machines().await {
                    self.roll.meet(records, Now::read());
                }
            }
            () = self.roll.records.notified() => {
                tokio::time::sleep(if *failing { RETRY_EVERY } else { GATHER }).await;
                *failing = !self.write(*failing).await;
            }
        }
    }

    /// False when something could not be written; it will be tried again. `failing` tells that it was so
    /// the last time too, so that a long failure is logged once.
    async fn write(&self, failing: bool) -> bool {
        let _turn = self.roll.registering.lock().await;
        let mut unwritten = Unwritten { roll: &self.roll, records: self.roll.take_records() };
        let mut fine = true;
        while let Some(record) = unwritten.records.last() {
            let Err(error) = self.registry.put_machine(record.as_ref().clone()).await else {
                unwritten.records.pop();
                continue;
            };
            if !failing && fine {
                tracing::warn!(machine.id = %record.id, %error, "failed to register a machine; trying again");
            }
            fine = false;
            self.metrics.registry_failures.inc();
            // A registry that is away is away for the others too.
            if error.is_transient() {
                break;
            }
            unwritten.give_back_last();
        }
        fine
    }
}

/// Records that were taken from the roll; whatever becomes of the task, they are not forgotten.
struct Unwritten<'a> {
    roll: &'a Roll,
    records: Vec<Arc<storage::registry::MachineRecord>>,
}

impl Unwritten<'_> {
    fn give_back_last(&mut self) {
        if let Some(record) = self.records.pop() {
            self.roll.give_back_record(record.id);
        }
    }
}

impl Drop for Unwritten<'_> {
    fn drop(&mut self) {
        let none = self.records.is_empty();
        while !self.records.is_empty() {
            self.give_back_last();
        }
        if !none {
            self.roll.records.notify_one();
        }
    }
}
