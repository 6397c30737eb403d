//! Sets events aside that could not be processed, beside the watcher: it waits for no stream.

use std::sync::Arc;
use std::time::Duration;

use storage::EventStream;
use storage::events::Unprocessed;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Events that wait to be set aside. More come only when something is thoroughly wrong, and then the first tell most.
const QUEUE_MAX: usize = 64;
/// How long the end may wait for the store.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Where the watcher puts them.
#[derive(Clone, Debug)]
pub(crate) struct Letterbox {
    queue: mpsc::Sender<Unprocessed>,
    metrics: Metrics,
}

#[derive(Debug)]
pub(crate) struct Letters {
    events: Arc<dyn EventStream>,
    queue: mpsc::Receiver<Unprocessed>,
    metrics: Metrics,
}

pub(crate) fn letters(events: Arc<dyn EventStream>, metrics: Metrics) -> (Letterbox, Letters) {
    let (sender, queue) = mpsc::channel(QUEUE_MAX);
    let letterbox = Letterbox { queue: sender, metrics: metrics.clone() };
    (letterbox, Letters { events, queue, metrics })
}

impl Letterbox {
    /// Never waits.
    pub(crate) fn put(&self, what: Unprocessed) {
        self.metrics.events_failed.inc();
        if self.queue.try_send(what).is_err() {
            self.metrics.dead_events_dropped.inc();
        }
    }
}

impl Letters {
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut full = false;
        while let Some(Some(what)) = shutdown.run_until_cancelled(self.queue.recv()).await {
            self.set_aside(what, &mut full).await;
        }
        // What waits is set aside still, unless the store does not answer.
        self.queue.close();
        let rest = async {
            while let Some(what) = self.queue.recv().await {
                self.set_aside(what, &mut full).await;
            }
        };
        if tokio::time::timeout(LAST_WORDS, rest).await.is_err() {
            tracing::warn!("ended before all events that failed were set aside");
        }
    }

    async fn set_aside(&self, what: Unprocessed, full: &mut bool) {
        match self.events.set_aside(&what).await {
            Ok(true) => {
                *full = false;
                let (machine, reason) = match &what {
                    Unprocessed::Event(event, reason) => (event.machine.to_string(), reason),
                    Unprocessed::Unreadable(unreadable) => (String::new(), &unreadable.reason),
                };
                tracing::warn!(
                    machine.id = machine,
                    reason,
                    "set an event aside; hint: `muster alerts dead list` shows it, or the health page"
                );
            }
            Ok(false) => {
                self.metrics.dead_events_dropped.inc();
                if !std::mem::replace(full, true) {
                    tracing::warn!(
                        "no room for more events that failed; hint: retry or discard what is set aside"
                    );
                }
            }
            Err(error) => {
                self.metrics.dead_events_dropped.inc();
                tracing::warn!(%error, "failed to set an event aside");
            }
        }
    }
}
