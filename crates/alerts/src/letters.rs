//! Sets events aside that could not be processed, beside the watcher: it waits for no stream.

use std::sync::Arc;

use storage::EventStream;
use storage::events::Unprocessed;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Events that wait to be set aside. More come only when something is thoroughly wrong, and then the first tell most.
const QUEUE_MAX: usize = 64;

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
        loop {
            let what = tokio::select! {
                () = shutdown.cancelled() => return,
                what = self.queue.recv() => match what {
                    Some(what) => what,
                    None => return,
                },
            };
            match self.events.set_aside(&what).await {
                Ok(true) => {
                    full = false;
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
                    if !std::mem::replace(&mut full, true) {
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
}
