//! The services on the wire.

use std::sync::Arc;

use model::{MachineId, UnixMillis};
use proto::convert::{FieldError, timestamp_from_proto, timestamp_to_proto};
use storage::alerting::Alerting;
use storage::{EventStream, History, Registry, StorageError};
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot};
use tonic::{Request, Status};

use crate::book::{Book, SaveError};
use crate::notify::{Directory, Sender};
use crate::watch::Command;

mod channel;
mod channels;
mod dead_events;
mod now;
mod probe;
mod rule;
mod rules;

/// Answers requests. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) store: Arc<dyn Alerting>,
    pub(crate) book: Book,
    pub(crate) directory: Directory,
    pub(crate) sender: Sender,
    pub(crate) watcher: mpsc::Sender<Command>,
    pub(crate) events: Arc<dyn EventStream>,
    pub(crate) history: Arc<dyn History>,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) series_per_rule_max: usize,
    /// The watcher's. Who follows ends with it.
    pub(crate) probes: broadcast::WeakSender<(MachineId, UnixMillis)>,
    /// Backtests read much: one at a time.
    pub(crate) tests: Arc<Semaphore>,
}

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: u32 = 1000;
const ACTOR_BYTES_MAX: usize = 120;

impl Api {
    /// Asks the watcher.
    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Status> {
        let (reply, answer) = oneshot::channel();
        let gone = || Status::unavailable("the alert service is not running");
        self.watcher.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }

    /// Lets what was saved take effect.
    async fn reload(&self) -> Result<(), Status> {
        self.ask(Command::Reload).await?.map_err(unavailable)
    }
}

/// Who asks, for the audit.
fn actor<T>(request: &Request<T>) -> Result<String, Status> {
    let Some(actor) = request.metadata().get("muster-actor") else { return Ok("rpc".to_owned()) };
    match actor.to_str() {
        Ok(actor) if (1..=ACTOR_BYTES_MAX).contains(&actor.len()) => Ok(actor.to_owned()),
        _ => {
            let problem = format!("expected 1 to {ACTOR_BYTES_MAX} bytes of printable ASCII");
            Err(FieldError::new("muster-actor", problem).into())
        }
    }
}

fn limit(limit: u32) -> Result<usize, Status> {
    match limit {
        0 => Ok(LIMIT_DEFAULT),
        1..=LIMIT_MAX => Ok(limit as usize),
        _ => {
            Err(FieldError::new("limit", format!("expected at most {LIMIT_MAX}, found {limit}"))
                .into())
        }
    }
}

fn time(
    field: &str,
    time: Option<&prost_types::Timestamp>,
) -> Result<Option<UnixMillis>, FieldError> {
    time.map(|time| timestamp_from_proto(field, time)).transpose()
}

fn stamp(time: UnixMillis) -> Option<prost_types::Timestamp> {
    Some(timestamp_to_proto(time))
}

fn unavailable(error: StorageError) -> Status {
    tracing::warn!(%error, "a request failed for the store");
    Status::unavailable(error.to_string())
}

/// `what`: "rule", "channel".
fn refused(what: &str, error: SaveError) -> Status {
    match error {
        SaveError::NotFound(_) => Status::not_found(format!("{what}.id: {error}")),
        SaveError::Conflict { .. } => Status::aborted(format!("{what}.revision: {error}")),
        SaveError::NameTaken(_) => Status::already_exists(format!("{what}.name: {error}")),
        SaveError::FromFile => Status::failed_precondition(format!("{what}: {error}")),
        SaveError::Store(error) => unavailable(error),
    }
}

fn required<T>(field: &str, value: Option<T>) -> Result<T, FieldError> {
    value.ok_or_else(|| FieldError::new(field, "is missing"))
}
