//! What just happened, for whoever watches: live views, alert rules.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use model::{Gap, LogEvent, MachineEvent, MachineId, MachineStatus, ProcessReport, UnixMillis};

use crate::StorageError;
use crate::live::LiveFrame;

mod dead;
mod local;
mod redis;

pub use dead::{
    CONTENT_BYTES_MAX, DEAD_MAX, DeadLetter, DeadLetters, Retry, Unprocessed, Unreadable,
};
pub use local::LocalEvents;
pub use redis::RedisEvents;

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
    /// An event that was set aside and is to be tried again. It is for those who set events aside: what is new
    /// went on without it, and it may be old.
    Again(Arc<Event>),
    /// Somebody else published what this process cannot read.
    Unreadable(Arc<Unreadable>),
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

    /// Keeps what a subscriber could not process, until a person decides. False when there are [`DEAD_MAX`]
    /// already and it is not kept.
    async fn set_aside(&self, what: &Unprocessed) -> Result<bool, StorageError>;

    async fn dead_letters(&self, limit: usize) -> Result<DeadLetters, StorageError>;

    /// Gives a dead letter to all subscribers as [`Received::Again`], to each once, and forgets it.
    async fn retry_dead(&self, id: &str) -> Result<Retry, StorageError>;

    /// Forgets a dead letter. False when it is not there.
    async fn discard_dead(&self, id: &str) -> Result<bool, StorageError>;
}

/// One reader of the event stream. Bounded: a reader that is too slow loses the oldest events and is
/// told how many.
#[async_trait]
pub trait Subscription: Send + fmt::Debug {
    /// The next event; `None` when the stream has ended. Safe to cancel: nothing is lost by it.
    async fn next(&mut self) -> Option<Received>;
}
