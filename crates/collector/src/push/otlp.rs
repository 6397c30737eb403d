//! OTLP 1: logs and metrics of services that speak OpenTelemetry, by gRPC (4317) and by HTTP with
//! Protobuf or JSON (4318). Either port takes both.
//!
//! A request is answered when what it brought is in the spool: logs themselves, metrics as the sums that the
//! next frame is made of. While the spool is half full, logs are asked to come again later.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use daemon::hint::WithHint as _;
use http::{HeaderMap, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::codec::CompressionEncoding;
use tonic_prost::ProstCodec;

use super::tally::Tally;
use crate::logs::Inlet;
use over_http::{plain, read, respond};
use wire::{ExportLogsRequest, ExportMetricsRequest, ExportResponse, PartialSuccess};

mod json;
mod logs;
mod metrics;
mod over_http;
mod wire;

const LOGS_CALL: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
const METRICS_CALL: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
/// One request, unpacked.
const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;
const CONNECTIONS_MAX: usize = 64;
const STREAMS_PER_CONNECTION_MAX: u32 = 32;
/// How long a client may take to send a request.
const PATIENCE: Duration = Duration::from_secs(10);
const GONE: &str = "the collector stops, or its spool takes nothing; try again later";
/// Requests that are read at once; others wait.
pub(super) const AT_ONCE_MAX: usize = 4;
/// Requests of metrics that wait for the sums.
pub(super) const REQUESTS_MAX: usize = 16;

/// A request of metrics on its way to the tally, and where the answer goes.
#[derive(Debug)]
pub(super) struct Metrics {
    request: ExportMetricsRequest,
    /// Given back when the request is read.
    turn: Turn,
    answer: oneshot::Sender<Outcome>,
}

/// The right to be read now.
type Turn = OwnedSemaphorePermit;
/// Values that were refused, and why the first was.
type Outcome = (u64, Option<String>);

/// An answer that waits until what it answers for is kept.
#[derive(Debug)]
pub(super) struct Unanswered {
    outcome: Outcome,
    answer: oneshot::Sender<Outcome>,
}

impl Metrics {
    pub(super) fn take_in(self, tally: &mut Tally, now: Instant) -> Unanswered {
        let Self { request, turn, answer } = self;
        let outcome = metrics::take_in(&request, tally, now);
        drop((request, turn));
        Unanswered { outcome, answer }
    }
}

impl Unanswered {
    pub(super) fn answer(self) {
        // Who asked may have gone.
        let _ = self.answer.send(self.outcome);
    }
}

/// Binds an address. Port 0 takes a free one. Must be called within a Tokio runtime.
pub(super) fn bind(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    bound()
        .with_context(|| format!("{key}: failed to listen on {address}"))
        .hint("another OpenTelemetry collector may listen there: stop it, or choose another port")
}

/// Takes requests.
#[derive(Clone, Debug)]
pub(super) struct Otlp {
    pub(super) metrics: mpsc::Sender<Metrics>,
    pub(super) logs: Arc<Inlet>,
    pub(super) turns: Arc<Semaphore>,
}

impl Otlp {
    /// Serves until `stop` is cancelled; what is open then is cut, and sent again by its client.
    pub(super) async fn run(self, listener: TcpListener, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                    Ok((stream, _)) => drop(connections.spawn(self.clone().serve(stream))),
                    // Out of descriptors: it would fail again at once.
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }

    async fn serve(self, stream: TcpStream) {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
        builder.http2().timer(TokioTimer::new());
        builder.http2().max_concurrent_streams(STREAMS_PER_CONNECTION_MAX);
        builder.http2().keep_alive_interval(Duration::from_secs(20));
        let service = service_fn(move |request| {
            let otlp = self.clone();
            async move { Ok::<_, Infallible>(otlp.answer(request).await) }
        });
        // Whatever breaks a connection is its client's to see.
        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(self, request: http::Request<Incoming>) -> http::Response<tonic::body::Body> {
        // No page of a browser has business here.
        if request.headers().contains_key(header::ORIGIN) {
            return plain(StatusCode::FORBIDDEN, "pages cannot send here");
        }
        // Bounds what is read and unpacked at once, whoever asks.
        let Ok(turn) = self.turns.clone().acquire_owned().await else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, GONE);
        };
        match request.uri().path() {
            LOGS_CALL => unary(request, |message| self.take_logs(message, turn)).await,
            METRICS_CALL => unary(request, |message| self.take_metrics(message, turn)).await,
            "/v1/logs" => match read(request).await {
                Ok((message, encoding)) => {
                    respond(self.take_logs(message, turn).await, encoding, "rejectedLogRecords")
                }
                Err(refusal) => *refusal,
            },
            "/v1/metrics" => match read(request).await {
                Ok((message, encoding)) => {
                    respond(self.take_metrics(message, turn).await, encoding, "rejectedDataPoints")
                }
                Err(refusal) => *refusal,
            },
            path if is_grpc(request.headers()) => {
                let what = format!("{path}: logs and metrics alone are taken here");
                Status::unimplemented(what).into_http()
            }
            _ => plain(
                StatusCode::NOT_FOUND,
                "logs and metrics alone are taken here: /v1/logs, /v1/metrics",
            ),
        }
    }

    async fn take_logs(
        &self,
        request: ExportLogsRequest,
        turn: Turn,
    ) -> Result<ExportResponse, Status> {
        if !self.logs.is_open() {
            return Err(Status::unavailable("the spool is half full; try again later"));
        }
        let gone = |_| Status::unavailable(GONE);
        let unreadable = AtomicU64::new(0);
        let taken = self.logs.take_in(logs::events(&request, &unreadable)).await.map_err(gone)?;
        drop((request, turn));
        let (dropped, unreadable) = (taken.dropped, unreadable.into_inner());
        taken.until_kept().await.map_err(gone)?;
        let problem = match (unreadable, dropped) {
            (0, 0) => None,
            (_, 0) => Some("log records that cannot be read"),
            _ => Some("more than collector.logs.events_per_second_max"),
        };
        Ok(response(unreadable + dropped, problem.map(str::to_owned)))
    }

    async fn take_metrics(
        &self,
        request: ExportMetricsRequest,
        turn: Turn,
    ) -> Result<ExportResponse, Status> {
        let stops = || Status::unavailable(GONE);
        let (answer, answered) = oneshot::channel();
        self.metrics.send(Metrics { request, turn, answer }).await.map_err(|_| stops())?;
        let (rejected, problem) = answered.await.map_err(|_| stops())?;
        Ok(response(rejected, problem))
    }
}

fn response(rejected: u64, problem: Option<String>) -> ExportResponse {
    let rejected = i64::try_from(rejected).unwrap_or(i64::MAX);
    let partial_success = problem.map(|error_message| PartialSuccess { rejected, error_message });
    ExportResponse { partial_success }
}

/// One call by gRPC.
async fn unary<Q, F>(
    request: http::Request<Incoming>,
    take: impl FnOnce(Q) -> F,
) -> http::Response<tonic::body::Body>
where
    Q: Message + Default + 'static,
    F: Future<Output = Result<ExportResponse, Status>>,
{
    let mut take = Some(take);
    let call = |request: tonic::Request<Q>| {
        let answer = take.take().map(|take| take(request.into_inner()));
        async {
            let answer = answer.ok_or_else(|| Status::internal("one message, one answer"))?;
            answer.await.map(tonic::Response::new)
        }
    };
    let mut grpc = tonic::server::Grpc::new(ProstCodec::<ExportResponse, Q>::default())
        // Before and after it was unpacked.
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .accept_compressed(CompressionEncoding::Gzip);
    let request = request.map(tonic::body::Body::new);
    let answer = grpc.unary(tower::service_fn(call), request);
    let too_long = |_| Status::deadline_exceeded("the request took too long").into_http();
    tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(too_long)
}

fn is_grpc(headers: &HeaderMap) -> bool {
    kind(headers).starts_with("application/grpc")
}

fn kind(headers: &HeaderMap) -> &str {
    headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests;
