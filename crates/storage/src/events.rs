//! What just happened, for whoever watches: live views, alert rules.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use model::{Gap, LogEvent, MachineEvent, MachineId, MachineStatus, ProcessReport, UnixMillis};

use crate::StorageError;
use crate::live::LiveFrame;

mod local;
mod redis;

pub use local::LocalEvents;
pub use redis::{Consumer, DeadLetter, GroupEvent, RedisEvents};

/// One thing that happened to one machine.
#[derive(Clone, Debug)]
pub struct Event {
    pub machine: MachineId,
    pub kind: EventKind,
}

#[derive(Clone, Debug)]
pub enum EventKind {
    /// `late`: it is not newer than what was there already, or older than the 5 s watermark; it must
    /// not raise or resolve an alert.
    Frame {
        frame: LiveFrame,
        late: bool,
    },
    Processes(Arc<ProcessReport>),
    Logs(Arc<[LogEvent]>),
    Machine(MachineEvent),
    Gap(Gap),
    Status {
        status: MachineStatus,
        since: UnixMillis,
    },
    /// Facts, labels or headline changed: look again.
    Changed,
    Removed,
}

/// What a subscriber receives.
#[derive(Clone, Debug)]
pub enum Received {
    Event(Arc<Event>),
    /// The subscriber was too slow and missed this many events, which are gone for it.
    Missed(u64),
}

/// Port: the stream of events.
#[async_trait]
pub trait EventStream: Send + Sync + fmt::Debug {
    /// Hands the event to every subscriber. Never waits for a slow one.
    async fn publish(&self, event: Event) -> Result<(), StorageError>;

    /// Everything published from now on.
    async fn subscribe(&self) -> Result<Box<dyn Subscription>, StorageError>;
}

/// One reader of the event stream. Bounded: a reader that is too slow loses the oldest events and is
/// told how many.
#[async_trait]
pub trait Subscription: Send + fmt::Debug {
    /// The next event; `None` when the stream has ended. Safe to cancel: nothing is lost by it.
    async fn next(&mut self) -> Option<Received>;
}
