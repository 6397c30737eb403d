//! Frames from the event stream to those who watch their machine.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::MachineId;
use storage::events::{EventKind, Received, Subscription};
use storage::live::LiveFrame;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// One channel per watched machine, so that a reader sees and misses frames of its own machine only, and a
/// fleet's frames are not handed to every reader.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    /// Protects the map; held for one lookup.
    machines: Mutex<HashMap<MachineId, broadcast::Sender<News>>>,
}

#[derive(Clone, Debug)]
pub(super) enum News {
    Frame(LiveFrame),
    /// This process was too slow to read the event stream; how many frames were of this machine is not
    /// known.
    Missed,
}

/// Frames that a reader may lag behind: some ten seconds of a machine with a dozen layouts.
const LAG_MAX: usize = 128;

impl Hub {
    /// Frames of this machine from now on.
    pub(super) fn follow(&self, machine: MachineId) -> broadcast::Receiver<News> {
        self.lock().entry(machine).or_insert_with(|| broadcast::Sender::new(LAG_MAX)).subscribe()
    }

    fn frame(&self, machine: MachineId, frame: &LiveFrame) {
        let mut machines = self.lock();
        if let Some(sender) = machines.get(&machine)
            && sender.send(News::Frame(frame.clone())).is_err()
        {
            // The last reader left.
            machines.remove(&machine);
        }
    }

    fn missed(&self) {
        self.lock().retain(|_, sender| sender.send(News::Missed).is_ok());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<MachineId, broadcast::Sender<News>>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one task that reads the event stream for the hub.
#[derive(Debug)]
pub(crate) struct Dispatch {
    pub(crate) hub: std::sync::Arc<Hub>,
    pub(crate) subscription: Box<dyn Subscription>,
    pub(crate) metrics: Metrics,
}

impl Dispatch {
    pub(crate) async fn run(mut self, stopping: CancellationToken) {
        loop {
            let received = tokio::select! {
                biased;
                () = stopping.cancelled() => return,
                received = self.subscription.next() => received,
            };
            match received {
                Some(Received::Event(event)) => {
                    if let EventKind::Frame { frame, .. } = &event.kind {
                        self.hub.frame(event.machine, frame);
                    }
                }
                Some(Received::Missed(missed)) => {
                    self.metrics.events_missed.inc_by(missed);
                    self.hub.missed();
                }
                None => return,
            }
        }
    }
}
