//! A peer to talk to: the whole `StateService` over machines whose values are functions of time, so
//! that the past and the present always agree.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::Stream;
use prost_types::Timestamp;
use proto::v1;
use proto::v1::alert_service_server::AlertServiceServer;
use proto::v1::log_service_server::LogServiceServer;
use proto::v1::state_service_server::{StateService, StateServiceServer};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

#[path = "synthetic/alerts.rs"]
mod alerts;
#[path = "synthetic/events.rs"]
mod events;
#[path = "synthetic/history.rs"]
mod history;
#[path = "synthetic/logs.rs"]
mod logs;
#[path = "synthetic/machines.rs"]
mod machines;
#[path = "synthetic/processes.rs"]
mod processes;
#[path = "synthetic/server.rs"]
mod server;
#[path = "synthetic/stream.rs"]
mod stream;
#[path = "synthetic/values.rs"]
mod values;

pub(crate) use machines::machine_id;
use machines::{host_name, machine};
use values::series;

/// Cheap to clone; clones are the same fleet.
#[derive(Clone, Debug)]
pub(crate) struct Synthetic(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    machines: AtomicUsize,
    removed: Mutex<BTreeSet<usize>>,
    /// How many streams were opened, to see that viewers share them.
    watches: AtomicU64,
    metric_streams: AtomicU64,
    /// History does not answer.
    history_hangs: AtomicBool,
    /// Values from then to then have not arrived yet, in milliseconds since 1970.
    missing: Mutex<std::ops::Range<i64>>,
    /// `None`: there is no alert service.
    alerts: Mutex<Option<Vec<v1::ActiveAlert>>>,
}

type Answer<T> = Result<Response<T>, Status>;
type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub(crate) const HOSTILE: &str = "<img src=x onerror=alert(1)>\"'&";

impl Synthetic {
    pub(crate) fn new(machines: usize) -> Self {
        Self(Arc::new(Inner {
            machines: machines.into(),
            removed: Mutex::default(),
            watches: AtomicU64::new(0),
            metric_streams: AtomicU64::new(0),
            history_hangs: AtomicBool::new(false),
            missing: Mutex::default(),
            alerts: Mutex::default(),
        }))
    }

    /// A link to it without a socket.
    pub(crate) fn link(&self) -> proto::Link {
        let state = StateServiceServer::new(self.clone());
        let logs = LogServiceServer::new(self.clone());
        let alerts = AlertServiceServer::new(self.clone());
        proto::Link::new(tower::service_fn(move |request: http::Request<tonic::body::Body>| {
            let (mut state, mut logs) = (state.clone(), logs.clone());
            let mut alerts = alerts.clone();
            async move {
                match request.uri().path().split('/').nth(1) {
                    Some("muster.v1.LogService") => tower::Service::call(&mut logs, request).await,
                    Some("muster.v1.AlertService") => {
                        tower::Service::call(&mut alerts, request).await
                    }
                    _ => tower::Service::call(&mut state, request).await,
                }
            }
        }))
    }

    pub(crate) fn hang_history(&self) {
        self.0.history_hangs.store(true, Ordering::SeqCst);
    }

    /// From now on nothing of this stretch is known, or what was missing has arrived.
    pub(crate) fn miss(&self, stretch: std::ops::Range<i64>) {
        *self.0.missing.lock().expect("nobody panics with it") = stretch;
    }

    pub(crate) fn add_machine(&self) {
        self.0.machines.fetch_add(1, Ordering::SeqCst);
    }

    /// Fleet and metric streams that were ever opened.
    pub(crate) fn streams(&self) -> (u64, u64) {
        (self.0.watches.load(Ordering::SeqCst), self.0.metric_streams.load(Ordering::SeqCst))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.machines.load(Ordering::SeqCst)
    }

    fn machines(&self) -> Vec<v1::Machine> {
        self.there().map(|i| machine(i, now_ms())).collect()
    }

    fn removed(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.0.removed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn there(&self) -> impl Iterator<Item = usize> {
        let removed = self.removed().clone();
        (0..self.count()).filter(move |i| !removed.contains(i))
    }

    fn find(&self, name: &str) -> Result<usize, Status> {
        self.there()
            .find(|&i| machine_id(i) == name || host_name(i) == name)
            .ok_or_else(|| Status::not_found(format!("no machine fits {name:?}")))
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

fn timestamp(ms: i64) -> Timestamp {
    Timestamp { seconds: ms.div_euclid(1000), nanos: (ms.rem_euclid(1000) * 1_000_000) as i32 }
}

fn millis(time: &Timestamp) -> i64 {
    time.seconds * 1000 + i64::from(time.nanos) / 1_000_000
}

#[tonic::async_trait]
impl StateService for Synthetic {
    async fn list_machines(
        &self,
        _: Request<v1::ListMachinesRequest>,
    ) -> Answer<v1::ListMachinesResponse> {
        Ok(Response::new(v1::ListMachinesResponse { machines: self.machines() }))
    }

    async fn get_machine(
        &self,
        request: Request<v1::GetMachineRequest>,
    ) -> Answer<v1::GetMachineResponse> {
        let i = self.find(&request.into_inner().machine)?;
        Ok(Response::new(v1::GetMachineResponse { machine: Some(machine(i, now_ms())) }))
    }

    async fn get_current_state(
        &self,
        request: Request<v1::GetCurrentStateRequest>,
    ) -> Answer<v1::GetCurrentStateResponse> {
        let request = request.into_inner();
        let i = self.find(&request.machine)?;
        let now = now_ms();
        let wanted = |m: &str| request.metrics.is_empty() || request.metrics.iter().any(|w| w == m);
        let samples = series(i)
            .into_iter()
            .filter(|(series, _)| wanted(&series.metric))
            .map(|(series, value)| v1::Sample {
                value: value(now),
                rate: (series.kind() == v1::MetricKind::Counter)
                    .then(|| value(now) - value(now - 1000)),
                metric: series.metric,
                labels: series.labels,
                unit: series.unit,
                time: Some(timestamp(now)),
            })
            .collect();
        Ok(Response::new(v1::GetCurrentStateResponse { machine: Some(machine(i, now)), samples }))
    }

    async fn query_range(
        &self,
        request: Request<v1::QueryRangeRequest>,
    ) -> Answer<v1::QueryRangeResponse> {
        if self.0.history_hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        history::answer(request.into_inner(), 0..self.count()).map(Response::new)
    }

    type StreamMetricsStream = Streamed<v1::StreamMetricsResponse>;

    async fn stream_metrics(
        &self,
        request: Request<v1::StreamMetricsRequest>,
    ) -> Answer<Self::StreamMetricsStream> {
        let request = request.into_inner();
        let i = self.find(&request.machine)?;
        self.0.metric_streams.fetch_add(1, Ordering::SeqCst);
        let missing = self.0.missing.lock().expect("nobody panics with it").clone();
        let receiver = stream::send(i, request, missing);
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    type WatchStream = Streamed<v1::WatchResponse>;

    async fn watch(&self, _: Request<v1::WatchRequest>) -> Answer<Self::WatchStream> {
        self.0.watches.fetch_add(1, Ordering::SeqCst);
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let fleet = self.clone();
        tokio::spawn(async move {
            let mut known = usize::MAX;
            loop {
                let mut machines = fleet.machines();
                let count = machines.len();
                let snapshot = known == usize::MAX;
                if !snapshot {
                    machines.retain(|m| m.status() == v1::MachineStatus::Online);
                }
                known = count;
                let removed_machine_ids = fleet.removed().iter().copied().map(machine_id).collect();
                let message = v1::WatchResponse { machines, snapshot, removed_machine_ids };
                if sender.send(Ok(message)).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(if snapshot { 200 } else { 1000 })).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn list_processes(
        &self,
        request: Request<v1::ListProcessesRequest>,
    ) -> Answer<v1::ListProcessesResponse> {
        let request = request.into_inner();
        let i = self.find(&request.machine)?;
        let at = request.at.as_ref().map_or_else(now_ms, millis);
        Ok(Response::new(processes::answer(i, at)))
    }

    async fn remove_machine(
        &self,
        request: Request<v1::RemoveMachineRequest>,
    ) -> Answer<v1::RemoveMachineResponse> {
        let i = self.find(&request.into_inner().machine)?;
        if machine(i, now_ms()).status() == v1::MachineStatus::Online {
            return Err(Status::failed_precondition("machine: it reports"));
        }
        self.removed().insert(i);
        let (machine_id, host_name) = (machine_id(i), host_name(i));
        Ok(Response::new(v1::RemoveMachineResponse { machine_id, host_name }))
    }

    async fn get_server_status(
        &self,
        _: Request<v1::GetServerStatusRequest>,
    ) -> Answer<v1::GetServerStatusResponse> {
        Ok(Response::new(server::answer(self.count() as u64)))
    }

    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Answer<v1::ListEventsResponse> {
        let i = self.find(&request.into_inner().machine)?;
        Ok(Response::new(events::answer(i)))
    }
}
