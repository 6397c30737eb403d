//! From the event stream: frames to those who watch their machine, log events to those who follow them, and
//! to the roll which machines were removed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::{LogEvent, MachineId};
use storage::events::{EventKind, Received, Subscription};
use storage::live::LiveFrame;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::roll::Roll;

/// One channel per watched machine, so that a reader sees and misses frames of its own machine only, and a
/// fleet's frames are not handed to every reader.
#[derive(Debug)]
pub(crate) struct Hub {
    /// Protects the map; held for one lookup.
    machines: Mutex<HashMap<MachineId, broadcast::Sender<News>>>,
    logs: broadcast::Sender<LogNews>,
    /// Protects the number of the next log event; held to send.
    logs_next: Mutex<u64>,
}

/// Log events of one machine that arrived together.
#[derive(Clone, Debug)]
pub(super) struct LogNews {
    pub(super) machine: MachineId,
    pub(super) events: Arc<[LogEvent]>,
    /// Of the first of them, among all that were handed on.
    pub(super) number: u64,
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
/// Batches of log events that a reader may lag behind.
const LOGS_LAG_MAX: usize = 1024;

impl Default for Hub {
    fn default() -> Self {
        let logs = broadcast::Sender::new(LOGS_LAG_MAX);
        Self { machines: Mutex::default(), logs, logs_next: Mutex::default() }
    }
}

impl Hub {
    /// Frames of this machine from now on.
    pub(super) fn follow(&self, machine: MachineId) -> broadcast::Receiver<News> {
        self.lock().entry(machine).or_insert_with(|| broadcast::Sender::new(LAG_MAX)).subscribe()
    }

    /// Log events of all machines from now on.
    pub(super) fn follow_logs(&self) -> broadcast::Receiver<LogNews> {
        self.logs.subscribe()
    }

    fn logs(&self, machine: MachineId, events: &Arc<[LogEvent]>) {
        let mut next = self.logs_next.lock().unwrap_or_else(PoisonError::into_inner);
        let news = LogNews { machine, events: events.clone(), number: *next };
        *next += events.len() as u64;
        // Without anybody who follows, it is sent to nobody.
        let _ = self.logs.send(news);
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
        // How many of them were log events is not known.
        *self.logs_next.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.lock().retain(|_, sender| sender.send(News::Missed).is_ok());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<MachineId, broadcast::Sender<News>>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one task that reads the event stream for the hub and the roll.
#[derive(Debug)]
pub(crate) struct Dispatch {
    pub(crate) hub: Arc<Hub>,
    pub(crate) roll: Arc<Roll>,
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
                Some(Received::Event(event)) => match &event.kind {
                    EventKind::Frame { frame, .. } => self.hub.frame(event.machine, frame),
                    EventKind::Logs(events) => self.hub.logs(event.machine, events),
                    EventKind::Removed => _ = self.roll.forget(event.machine),
                    _ => {}
                },
                Some(Received::Missed(missed)) => self.missed(missed),
                // Whether it is kept is for those who have to process everything.
                Some(Received::Unreadable(_)) => self.missed(1),
                // It is of the past, and viewers went on without it.
                Some(Received::Again(_)) => {}
                None => return,
            }
        }
    }

    fn missed(&self, events: u64) {
        self.metrics.events_missed.inc_by(events);
        self.hub.missed();
    }
}
