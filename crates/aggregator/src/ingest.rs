//! Takes in what collectors send: `CollectorService`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use model::LayoutPool;
use proto::v1;
use proto::v1::collector_service_server::CollectorService;
use storage::{Credentials, EventStream, History, LiveState};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use crate::metrics::Metrics;
use crate::roll::Roll;
use crate::settings::SettingsBoard;
use crate::writer::{Queue, Strain};

mod admission;
mod claim;
mod hello;
mod intake;
mod log_counts;
mod log_filter;
mod log_times;
mod outbox;
mod push;
mod session;
mod skew;

pub(crate) use log_filter::LogFilter;
pub(crate) use outbox::Outbox;
pub(crate) use push::Push;

/// The service. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Ingest(pub(crate) Arc<Dock>);

/// What every stream needs: where collectors land.
#[derive(Debug)]
pub(crate) struct Dock {
    pub(crate) name: String,
    pub(crate) live: Arc<dyn LiveState>,
    pub(crate) events: Arc<dyn EventStream>,
    pub(crate) history: Arc<dyn History>,
    pub(crate) credentials: Arc<dyn Credentials>,
    pub(crate) roll: Arc<Roll>,
    pub(crate) layouts: LayoutPool,
    pub(crate) queue: Queue,
    pub(crate) strain: Arc<Strain>,
    /// How long an item waits for room in the queue.
    pub(crate) patience: Duration,
    pub(crate) log_filter: LogFilter,
    pub(crate) settings: SettingsBoard,
    pub(crate) metrics: Metrics,
    /// The aggregator ends: take nothing in any more.
    pub(crate) stopping: CancellationToken,
    /// Streams that still take items in.
    pub(crate) sessions: TaskTracker,
}

#[tonic::async_trait]
impl CollectorService for Ingest {
    type ConnectStream =
        Pin<Box<dyn Stream<Item = Result<v1::AggregatorMessage, Status>> + Send + 'static>>;

    /// Answers at once, so that a collector may wait for the response before it says hello; everything
    /// else, refusals too, comes on the stream.
    async fn connect(
        &self,
        request: Request<Streaming<v1::CollectorMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        if self.0.stopping.is_cancelled() {
            return Err(Status::unavailable("the aggregator is shutting down"));
        }
        let caller = request.extensions().get::<model::Caller>().cloned();
        let outbox = Arc::new(Outbox::new());
        let session = session::run(self.0.clone(), caller, request.into_inner(), outbox.clone());
        self.0.sessions.spawn(session);
        Ok(Response::new(Box::pin(outbox::messages(outbox))))
    }
}
