//! Takes in what programs push: `PushService`.
//!
//! A source is a machine without a collector. Its counters are summed up here, by whichever aggregator holds
//! its lease, and an answer waits for the commit.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use model::{Caller, limits};
use proto::v1;
use proto::v1::aggregator_message::Kind as Answer;
use proto::v1::push_service_server::PushService;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

use super::Dock;
use super::outbox::{End, Outbox, messages};
use super::session::shutting_down;
use crate::clock::Now;
use crate::metrics::Outcome;
use read::Pushed;
use source::{Begun, Source};

mod read;
mod source;
mod tally;

/// How long a request waits for its commit.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(8);
/// How often log counts are told and idle sources are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A source that nothing came of for so long is closed; what it added up begins again with 0.
const IDLE_AFTER: Duration = Duration::from_secs(15 * 60);

/// The service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Push {
    dock: Arc<Dock>,
    /// Protects the map; held for a look or a step.
    sources: Arc<Mutex<HashMap<String, Desk>>>,
}

/// One request of a source at a time is taken in; they wait for their commits together.
type Desk = Arc<tokio::sync::Mutex<Option<Source>>>;

impl std::fmt::Debug for Push {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Push").field("sources", &self.lock().len()).finish_non_exhaustive()
    }
}

#[tonic::async_trait]
impl PushService for Push {
    async fn push(
        &self,
        request: Request<v1::PushRequest>,
    ) -> Result<Response<v1::PushResponse>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let now = Now::read();
        // Tracked: the writer stays until whoever waits for it has gone.
        let work = async {
            let pushed = read::request(request.into_inner(), caller.as_ref(), now.wall)?;
            self.store(pushed, now).await
        };
        let stored = self.dock.sessions.track_future(work).await;
        let outcome = match &stored {
            Ok(true) => "duplicate",
            Ok(false) => "stored",
            Err(status) if status.code() == Code::ResourceExhausted => "full",
            Err(status) if status.code() == Code::Unavailable => "unavailable",
            Err(_) => "refused",
        };
        self.dock.metrics.pushes.get_or_create(&Outcome { outcome }).inc();
        stored.map(|duplicate| Response::new(v1::PushResponse { duplicate }))
    }
}

impl Push {
    pub(crate) fn new(dock: Arc<Dock>) -> Self {
        Self { dock, sources: Arc::default() }
    }

    /// Whether it was stored before. Returns when it is durable.
    async fn store(&self, pushed: Pushed, now: Now) -> Result<bool, Status> {
        let dock = &self.dock;
        if dock.stopping.is_cancelled() {
            return Err(shutting_down());
        }
        let name = pushed.source.clone();
        let desk = self.desk(&name)?;
        let outbox = Arc::new(Outbox::new());
        let mut source = desk.lock().await;
        if let Some(open) = source.as_ref()
            && !open.is_current(dock).await
        {
            *source = None;
        }
        let source_open = match &mut *source {
            Some(open) => open,
            None => source.insert(Source::open(dock, &name, now).await?),
        };
        let items = match source_open.push(dock, pushed, &outbox, now).await? {
            Begun::Duplicate => return Ok(true),
            Begun::Waits(items) => items,
        };
        drop(source);
        outbox.end(End::Drained(None));
        tokio::select! {
            durable = durable(outbox, items) => match durable {
                true => Ok(false),
                false => Err(Status::unavailable("history does not take it now")),
            },
            () = tokio::time::sleep(COMMIT_TIMEOUT) => Err(Status::unavailable(
                "history does not answer; it may be stored yet; hint: send it again with the same key",
            )),
            () = dock.stopping.cancelled() => Err(shutting_down()),
        }
    }

    fn desk(&self, name: &str) -> Result<Desk, Status> {
        let mut sources = self.lock();
        if !sources.contains_key(name) && sources.len() >= limits::PUSH_SOURCES_MAX {
            let max = limits::PUSH_SOURCES_MAX;
            let problem = format!("source: {max} push already, and no more at a time");
            return Err(Status::resource_exhausted(problem));
        }
        Ok(sources.entry(name.to_owned()).or_default().clone())
    }

    /// Tells how many events came, and lets go of idle sources, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            let desks: Vec<Desk> = self.lock().values().cloned().collect();
            for desk in desks {
                // One that is busy is not idle, and is told of the next time.
                let Ok(mut source) = desk.try_lock() else { continue };
                let now = Now::read();
                let Some(open) = source.as_mut() else { continue };
                open.tell_log_counts(&self.dock, now).await;
                if now.since(open.used) >= IDLE_AFTER {
                    open.close(&self.dock);
                    *source = None;
                }
            }
            self.lock().retain(|_, desk| {
                Arc::strong_count(desk) > 1 || desk.try_lock().is_ok_and(|source| source.is_some())
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Desk>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether all items became durable.
async fn durable(outbox: Arc<Outbox>, items: usize) -> bool {
    let mut answers = pin!(messages(outbox));
    let mut stored = 0;
    while let Some(Ok(answer)) = answers.next().await {
        if let Some(Answer::Ack(ack)) = answer.kind {
            stored += ack.ranges.iter().map(|r| r.last - r.first + 1).sum::<u64>();
        }
    }
    stored == items as u64
}
