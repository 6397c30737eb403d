//! One port for everything: HTTP/1.1 with WebSocket, and HTTP/2 without TLS for gRPC, told apart by the
//! first bytes. Over TLS when there is a certificate.
//!
//! The accept loop is our own because `axum::serve` bounds neither the number of connections nor the time
//! that a client may take to send its request head.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::Layer as _;
use tower::util::MapRequestLayer;

use crate::hint::WithHint as _;
use crate::tls::Listener;

mod metrics;
mod plain;
mod preface;

pub use metrics::Metrics;

/// Connections served at a time; further ones wait in the listen queue.
pub const CONNECTIONS_MAX: usize = 8_192;
/// Calls at a time on one HTTP/2 connection.
const STREAMS_PER_CONNECTION_MAX: u32 = 256;
/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How much a client may send ahead on one call, and on all of one connection. The default of 64 KiB makes a
/// collector that drains its backlog over a slow link wait for every round trip.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 2 << 20;
const HEAD_BYTES_MAX: usize = 32 << 10;
/// How long open calls may take to end after the signal to stop.
const GRACE: Duration = Duration::from_secs(8);
/// Pause after an accept that failed for want of descriptors or memory, which would fail again at once.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(200);

/// Where a request came from; an extension of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub address: SocketAddr,
    /// Whether nobody in between could read along.
    pub tls: bool,
}

/// Ends what was allowed and is not any more; an extension of requests whose caller may lose its rights.
/// What goes on after the answer was given, such as a WebSocket, must watch it.
#[derive(Clone, Debug)]
pub struct CutOff {
    token: CancellationToken,
    /// As long as somebody holds it, the rights behind it are looked after.
    _held: Arc<dyn std::any::Any + Send + Sync>,
}

impl CutOff {
    pub fn new(token: CancellationToken, held: Arc<dyn std::any::Any + Send + Sync>) -> Self {
        Self { token, _held: held }
    }

    /// Completes when the rights are lost.
    pub async fn cut(&self) {
        self.token.cancelled().await;
    }
}

/// A bound port, not served yet: binding early makes errors come early.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    connections_max: usize,
    head_timeout: Duration,
    grace: Duration,
    tls: Option<Listener>,
    metrics: Metrics,
}

impl Server {
    /// Binds the address. Port 0 takes a free one. Must be called within a Tokio runtime.
    pub fn bind(addr: SocketAddr) -> anyhow::Result<Self> {
        let bound = listen(addr);
        let in_use = matches!(&bound, Err(error) if error.kind() == io::ErrorKind::AddrInUse);
        let hint = match &bound {
            Err(_) if in_use => "stop what listens there, or choose another port with --listen",
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                "ports below 1024 need privileges: choose a higher one with --listen"
            }
            _ => "choose an address of this machine with --listen",
        };
        let problem = |error: io::Error| match in_use {
            true => anyhow::anyhow!("failed to listen on {addr}: the port is in use"),
            false => anyhow::anyhow!("failed to listen on {addr}: {error}"),
        };
        let (listener, address) = bound.map_err(problem).hint(hint)?;
        Ok(Self {
            listener,
            address,
            connections_max: CONNECTIONS_MAX,
            head_timeout: HEAD_TIMEOUT,
            grace: GRACE,
            tls: None,
            metrics: Metrics::default(),
        })
    }

    /// The address in use, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Replaces how long open calls may take to end after the signal to stop.
    #[must_use]
    pub fn with_grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// Serves over TLS alone, when there is something to prove itself with.
    #[must_use]
    pub fn with_tls(self, tls: Option<Listener>) -> Self {
        Self { tls, ..self }
    }

    pub fn speaks_tls(&self) -> bool {
        self.tls.is_some()
    }

    #[must_use]
    pub fn with_connections_max(self, connections_max: usize) -> Self {
        Self { connections_max, ..self }
    }

    #[must_use]
    pub fn with_head_timeout(self, head_timeout: Duration) -> Self {
        Self { head_timeout, ..self }
    }

    /// Lets the numbers of connections be seen in `/metrics`.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
        if let Some(tls) = self.tls.clone() {
            crate::tls::show_expiry(registry, "tls", move || tls.expires());
        }
    }

    /// Serves until `shutdown`, then takes no new connection, lets open calls end within the grace period, and
    /// closes what is left. Streams that never end by themselves must watch the token too.
    pub async fn serve(self, router: Router, shutdown: CancellationToken) -> anyhow::Result<()> {
        let builder = Arc::new(self.builder());
        let slots = Arc::new(Semaphore::new(self.connections_max));
        let abort = CancellationToken::new();
        let mut connections = JoinSet::new();
        if let Some(tls) = &self.tls {
            connections.spawn(tls.clone().follow(shutdown.clone()));
        }
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = self.accept(&slots) => accepted,
                // Ended tasks are taken away as they end, so that the set stays as small as its work.
                Some(_) = connections.join_next() => continue,
            };
            let Some((stream, peer, slot)) = accepted else { continue };
            let connection = Connection {
                builder: Arc::clone(&builder),
                router: router.clone(),
                peer: Peer { address: peer, tls: self.tls.is_some() },
                tls: self.tls.clone(),
                metrics: self.metrics.clone(),
                head_timeout: self.head_timeout,
                shutdown: shutdown.clone(),
                abort: abort.clone(),
            };
            let open = self.metrics.opened();
            connections.spawn(async move {
                connection.serve(stream).await;
                drop((open, slot));
            });
        }
        drop(self.listener);
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(self.grace, drained).await.is_err() {
            tracing::info!(
                connections = connections.len(),
                "closing connections that are still busy"
            );
            abort.cancel();
            connections.shutdown().await;
        }
        Ok(())
    }

    /// The next connection and its slot. `None` when accepting failed; the pause is over by then.
    async fn accept(
        &self,
        slots: &Arc<Semaphore>,
    ) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        if slots.available_permits() == 0 {
            self.metrics.full();
        }
        let slot = Arc::clone(slots).acquire_owned().await.ok()?;
        match self.listener.accept().await {
            Ok((stream, peer)) => Some((stream, peer, slot)),
            // The client was gone before we came to it.
            Err(error) if is_of_one_client(&error) => None,
            Err(error) => {
                self.metrics.accept_failed();
                tracing::error!(%error, "failed to accept a connection, trying again");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
                None
            }
        }
    }

    fn builder(&self) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head_timeout)
            .max_buf_size(HEAD_BYTES_MAX);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
            .max_header_list_size(HEAD_BYTES_MAX as u32);
        builder
    }
}

fn listen(addr: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart must not wait for the last connections' TIME_WAIT to pass.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    let listener = socket.listen(1024)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn is_of_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// What one connection's task needs.
struct Connection {
    builder: Arc<auto::Builder<TokioExecutor>>,
    router: Router,
    peer: Peer,
    tls: Option<Listener>,
    metrics: Metrics,
    head_timeout: Duration,
    shutdown: CancellationToken,
    abort: CancellationToken,
}

impl Connection {
    async fn serve(self, stream: TcpStream) {
        // Small messages at a steady pace: waiting to fill a segment would only add latency.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        // hyper's own timeout begins once it knows the version, which a silent client never tells.
        let (begun, shutdown) = (self.begin(stream), self.shutdown.clone());
        let begun = tokio::select! {
            () = shutdown.cancelled() => return,
            begun = tokio::time::timeout(self.head_timeout, begun) => begun,
        };
        match begun {
            Ok(Ok(Some(Begun::Plain(stream)))) => self.http(stream).await,
            Ok(Ok(Some(Begun::Tls(stream)))) => self.http(*stream).await,
            Ok(Ok(None)) | Err(_) => {}
            Ok(Err(error)) => {
                if self.tls.is_some() {
                    self.metrics.handshake_failed();
                }
                tracing::debug!(%error, peer = %self.peer.address, "connection refused");
            }
        }
    }

    /// The connection, once its protocol is known. `None` when there is nothing to serve.
    async fn begin(&self, stream: TcpStream) -> io::Result<Option<Begun>> {
        let Some(tls) = &self.tls else {
            let arrived = preface::arrived(&stream).await?;
            return Ok((arrived != preface::Arrived::Nothing).then_some(Begun::Plain(stream)));
        };
        if !preface::is_tls(&stream).await? {
            plain::answer(stream).await?;
            return Err(io::Error::other("the client does not speak TLS"));
        }
        let stream = tls.accept(stream).await?;
        Ok(preface::read(stream).await?.map(|stream| Begun::Tls(Box::new(stream))))
    }

    async fn http<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let peer = self.peer;
        let knows_peer = MapRequestLayer::new(move |mut request: http::Request<Incoming>| {
            request.extensions_mut().insert(peer);
            request
        });
        let service = TowerToHyperService::new(knows_peer.layer(self.router));
        let serving = self.builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let mut serving = pin!(serving);
        let ended = tokio::select! {
            ended = serving.as_mut() => ended,
            () = self.shutdown.cancelled() => {
                serving.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = serving.as_mut() => ended,
                    () = self.abort.cancelled() => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error, "connection ended");
        }
    }
}

/// A connection whose protocol is known.
enum Begun {
    Plain(TcpStream),
    Tls(Box<preface::Rewound<TlsStream<TcpStream>>>),
}

#[cfg(test)]
mod tests;
