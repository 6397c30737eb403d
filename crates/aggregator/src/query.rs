//! Answers questions about present and past: `StateService` and `LogService`.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use proto::v1;
use proto::v1::state_service_server::StateService;
use storage::{EventStream, History, LiveState, Registry, StorageError};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::config::QueryConfig;
use crate::maintenance::LastUsage;
use crate::metrics::Metrics;
use crate::roll::Roll;

mod current;
mod directory;
mod filter;
mod hub;
mod logs;
mod lookback;
mod past;
mod range;
mod removal;
mod server;
mod stream;
mod watch;

pub(crate) use hub::{Dispatch, Hub};
pub(crate) use server::Server;

/// The service. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Query(pub(crate) Arc<Desk>);

/// What answers are made from.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) config: QueryConfig,
    pub(crate) live: Arc<dyn LiveState>,
    pub(crate) events: Arc<dyn EventStream>,
    pub(crate) history: Arc<dyn History>,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) roll: Arc<Roll>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) usage: LastUsage,
    pub(crate) metrics: Metrics,
    pub(crate) server: Server,
    /// The aggregator ends: streams of answers end too.
    pub(crate) stopping: CancellationToken,
    /// Range queries that may be worked on now.
    pub(crate) range_slots: Semaphore,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send + 'static>>;

#[tonic::async_trait]
impl StateService for Query {
    async fn list_machines(
        &self,
        request: Request<v1::ListMachinesRequest>,
    ) -> Result<Response<v1::ListMachinesResponse>, Status> {
        let matchers = directory::matchers(request.into_inner().matchers)?;
        let machines = self.0.machines(&matchers).await?;
        let machines = machines.iter().map(directory::Known::to_proto).collect();
        Ok(Response::new(v1::ListMachinesResponse { machines }))
    }

    async fn get_machine(
        &self,
        request: Request<v1::GetMachineRequest>,
    ) -> Result<Response<v1::GetMachineResponse>, Status> {
        let machine = self.0.machine("machine", &request.into_inner().machine).await?;
        Ok(Response::new(v1::GetMachineResponse { machine: Some(machine.to_proto()) }))
    }

    async fn get_current_state(
        &self,
        request: Request<v1::GetCurrentStateRequest>,
    ) -> Result<Response<v1::GetCurrentStateResponse>, Status> {
        current::answer(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn query_range(
        &self,
        request: Request<v1::QueryRangeRequest>,
    ) -> Result<Response<v1::QueryRangeResponse>, Status> {
        range::answer(&self.0, request.into_inner()).await.map(Response::new)
    }

    type StreamMetricsStream = Answers<v1::StreamMetricsResponse>;

    async fn stream_metrics(
        &self,
        request: Request<v1::StreamMetricsRequest>,
    ) -> Result<Response<Self::StreamMetricsStream>, Status> {
        let answers = stream::answers(self.0.clone(), request.into_inner()).await?;
        Ok(Response::new(self.until_stopping(answers)))
    }

    type WatchStream = Answers<v1::WatchResponse>;

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let answers = watch::answers(self.0.clone(), request.into_inner())?;
        Ok(Response::new(self.until_stopping(answers)))
    }

    async fn list_processes(
        &self,
        request: Request<v1::ListProcessesRequest>,
    ) -> Result<Response<v1::ListProcessesResponse>, Status> {
        past::processes(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        past::events(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn remove_machine(
        &self,
        request: Request<v1::RemoveMachineRequest>,
    ) -> Result<Response<v1::RemoveMachineResponse>, Status> {
        removal::answer(&self.0, request).await.map(Response::new)
    }

    async fn get_server_status(
        &self,
        _: Request<v1::GetServerStatusRequest>,
    ) -> Result<Response<v1::GetServerStatusResponse>, Status> {
        Ok(Response::new(server::answer(&self.0)))
    }
}

impl Query {
    /// An open stream would hold up a graceful shutdown for as long as its reader likes.
    fn until_stopping<T: Send + 'static>(
        &self,
        answers: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> Answers<T> {
        struct Counted(Metrics);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.readers.dec();
            }
        }
        self.0.metrics.readers.inc();
        let counted = Counted(self.0.metrics.clone());
        let stopping = self.0.stopping.clone();
        let state = (Box::pin(answers), Some(stopping), counted);
        Box::pin(futures::stream::unfold(state, |(mut answers, stopping, counted)| async move {
            let stopping = stopping?;
            tokio::select! {
                biased;
                () = stopping.cancelled() => {
                    let end = Status::unavailable("the aggregator is shutting down");
                    Some((Err(end), (answers, None, counted)))
                }
                answer = futures::StreamExt::next(&mut answers) => {
                    answer.map(|answer| (answer, (answers, Some(stopping), counted)))
                }
            }
        }))
    }
}

/// A store that fails, as callers see it.
fn unavailable(error: StorageError) -> Status {
    match error.is_transient() {
        true => Status::unavailable(error.to_string()),
        false => Status::internal(error.to_string()),
    }
}
