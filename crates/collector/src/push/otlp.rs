//! OTLP 1: logs and metrics of services that speak OpenTelemetry, by gRPC (4317) and by HTTP with
//! Protobuf (4318). Either port takes both.
//!
//! A request is answered when what it brought is on its way into the spool, or into the sums that every
//! frame is made of. While the spool is half full, logs are asked to come again later.

use std::convert::Infallible;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use daemon::hint::WithHint as _;
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::tally::Tally;
use crate::logs::Inlet;
use wire::{ExportLogsRequest, ExportMetricsRequest, ExportResponse, PartialSuccess};

mod logs;
mod metrics;
mod wire;

const LOGS_CALL: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
const METRICS_CALL: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
/// One request, unpacked.
const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;
const CONNECTIONS_MAX: usize = 64;
const STREAMS_PER_CONNECTION_MAX: u32 = 32;
/// How long a client may take to send a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests that are read at once; others wait.
pub(super) const AT_ONCE_MAX: usize = 4;
/// Requests of metrics that wait for the sums.
pub(super) const REQUESTS_MAX: usize = 16;

/// A request of metrics on its way to the tally, and where the answer goes.
#[derive(Debug)]
pub(super) struct Metrics {
    request: ExportMetricsRequest,
    answer: oneshot::Sender<(u64, Option<String>)>,
}

impl Metrics {
    pub(super) fn take_in(self, tally: &mut Tally, now: Instant) {
        // Who asked may have gone.
        let _ = self.answer.send(metrics::take_in(&self.request, tally, now));
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
        let Ok(_turn) = self.turns.clone().acquire_owned().await else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "the collector stops");
        };
        let too_long = || Status::deadline_exceeded("the request took too long").into_http();
        match request.uri().path() {
            LOGS_CALL => {
                let call = move |request: tonic::Request<ExportLogsRequest>| {
                    let otlp = self.clone();
                    async move { otlp.take_logs(request.into_inner()).await.map(tonic::Response::new) }
                };
                let request = request.map(tonic::body::Body::new);
                let mut grpc = grpc();
                let answer = grpc.unary(tower::service_fn(call), request);
                tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(|_| too_long())
            }
            METRICS_CALL => {
                let call = move |request: tonic::Request<ExportMetricsRequest>| {
                    let otlp = self.clone();
                    async move {
                        otlp.take_metrics(request.into_inner()).await.map(tonic::Response::new)
                    }
                };
                let request = request.map(tonic::body::Body::new);
                let mut grpc = grpc();
                let answer = grpc.unary(tower::service_fn(call), request);
                tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(|_| too_long())
            }
            "/v1/logs" => match read(request).await {
                Ok(message) => http_answer(self.take_logs(message).await),
                Err((status, why)) => plain(status, &why),
            },
            "/v1/metrics" => match read(request).await {
                Ok(message) => http_answer(self.take_metrics(message).await),
                Err((status, why)) => plain(status, &why),
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

    async fn take_logs(&self, request: ExportLogsRequest) -> Result<ExportResponse, Status> {
        if !self.logs.is_open() {
            return Err(Status::unavailable("the spool is half full; try again later"));
        }
        let gone = |_| Status::unavailable("the collector stops");
        let unreadable = AtomicU64::new(0);
        self.logs.take_in(logs::events(&request, &unreadable)).await.map_err(gone)?;
        let rejected = i64::try_from(unreadable.into_inner()).unwrap_or(i64::MAX);
        let partial_success = (rejected > 0).then(|| PartialSuccess {
            rejected,
            error_message: "log records that cannot be read".to_owned(),
        });
        Ok(ExportResponse { partial_success })
    }

    async fn take_metrics(&self, request: ExportMetricsRequest) -> Result<ExportResponse, Status> {
        let stops = || Status::unavailable("the collector stops");
        let (answer, answered) = oneshot::channel();
        self.metrics.send(Metrics { request, answer }).await.map_err(|_| stops())?;
        let (rejected, problem) = answered.await.map_err(|_| stops())?;
        let partial_success = problem.map(|error_message| PartialSuccess {
            rejected: i64::try_from(rejected).unwrap_or(i64::MAX),
            error_message,
        });
        Ok(ExportResponse { partial_success })
    }
}

fn grpc<Q>() -> tonic::server::Grpc<ProstCodec<ExportResponse, Q>>
where
    Q: Message + Default + 'static,
{
    tonic::server::Grpc::new(ProstCodec::default()).max_decoding_message_size(REQUEST_BYTES_MAX)
}

fn is_grpc(headers: &HeaderMap) -> bool {
    kind(headers).starts_with("application/grpc")
}

fn kind(headers: &HeaderMap) -> &str {
    headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default()
}

/// The message in the body of a request by HTTP.
async fn read<M: Message + Default>(
    request: http::Request<Incoming>,
) -> Result<M, (StatusCode, String)> {
    let refuse = |status: StatusCode, why: &str| Err((status, why.to_owned()));
    if request.method() != Method::POST {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "expected POST");
    }
    let (head, body) = request.into_parts();
    let kind = kind(&head.headers);
    if kind.split(';').next().map(str::trim) != Some("application/x-protobuf") {
        let hint = "expected content-type application/x-protobuf; set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf";
        return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, hint);
    }
    let collected = tokio::time::timeout(PATIENCE, Limited::new(body, REQUEST_BYTES_MAX).collect());
    let bytes = match collected.await {
        Err(_) => return refuse(StatusCode::REQUEST_TIMEOUT, "the request took too long"),
        Ok(Err(_)) => return refuse(StatusCode::PAYLOAD_TOO_LARGE, "expected at most 4 MiB"),
        Ok(Ok(body)) => body.to_bytes(),
    };
    let encoding = head.headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes());
    let bytes = match encoding {
        None | Some(b"" | b"identity") => bytes,
        Some(b"gzip") => match unpacked(&bytes) {
            Some(bytes) => bytes,
            None => {
                return refuse(StatusCode::BAD_REQUEST, "expected gzip of at most 4 MiB unpacked");
            }
        },
        Some(_) => {
            return refuse(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "expected no content-encoding, or gzip",
            );
        }
    };
    match M::decode(bytes) {
        Ok(message) => Ok(message),
        Err(error) => {
            refuse(StatusCode::BAD_REQUEST, &format!("expected a message of OTLP: {error}"))
        }
    }
}

/// `None` when it is no gzip, or more than a request may have: a few bytes can unpack to gigabytes.
fn unpacked(bytes: &[u8]) -> Option<Bytes> {
    let mut out = Vec::new();
    let mut reader = flate2::read::GzDecoder::new(bytes).take(REQUEST_BYTES_MAX as u64 + 1);
    reader.read_to_end(&mut out).ok()?;
    (out.len() <= REQUEST_BYTES_MAX).then(|| out.into())
}

fn http_answer(outcome: Result<ExportResponse, Status>) -> http::Response<tonic::body::Body> {
    let (code, body) = match outcome {
        Ok(response) => (StatusCode::OK, response.encode_to_vec()),
        Err(status) => {
            let code = match status.code() {
                Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::BAD_REQUEST,
            };
            return plain(code, status.message());
        }
    };
    respond(code, "application/x-protobuf", body)
}

fn plain(code: StatusCode, why: &str) -> http::Response<tonic::body::Body> {
    respond(code, "text/plain; charset=utf-8", format!("{why}\n").into_bytes())
}

fn respond(
    code: StatusCode,
    kind: &'static str,
    body: Vec<u8>,
) -> http::Response<tonic::body::Body> {
    let mut response = http::Response::new(tonic::body::Body::new(Full::new(Bytes::from(body))));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests;
