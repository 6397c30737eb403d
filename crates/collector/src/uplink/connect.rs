//! Opening a stream: connect, say hello, wait for the welcome.

use std::time::Duration;

use bytes::Bytes;
use daemon::tls::{Client, Stream};
use hyper_util::rt::TokioIo;
use model::limits;
use proto::Link;
use proto::v1::aggregator_message::Kind;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codegen::Service;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::http::{Uri, Version};
use tonic::transport::Endpoint;
use tonic::{Request, Status};

use super::wire::Wire;
use super::{Address, Connection, Token};

const CONNECT: PathAndQuery = PathAndQuery::from_static("/muster.v1.CollectorService/Connect");
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const WELCOME_TIMEOUT: Duration = Duration::from_secs(15);
/// Shorter than the idle time after which proxies cut a stream.
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// What was handed over can no longer be overtaken by fresher items, so it is next to nothing.
const OUTGOING_MAX: usize = 2;

pub(super) async fn connect(
    address: Address,
    token: Option<Token>,
    hello: Bytes,
) -> Result<Connection, Status> {
    let link = match address {
        Address::Link(link) => link,
        Address::Url(url, tls) => {
            let endpoint = Endpoint::from(url)
                .connect_timeout(CONNECT_TIMEOUT)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(KEEPALIVE)
                .keep_alive_timeout(KEEPALIVE_TIMEOUT)
                .keep_alive_while_idle(true);
            let connected = match tls {
                None => endpoint.connect().await,
                Some(tls) => endpoint.connect_with_connector(over(tls)).await,
            };
            let channel = connected.map_err(|error| {
                let mut status = Status::unavailable("failed to connect");
                status.set_source(std::sync::Arc::new(error));
                status
            })?;
            Link::new(channel)
        }
    };
    tokio::time::timeout(WELCOME_TIMEOUT, greet(link, token, hello)).await.unwrap_or_else(|_| {
        Err(Status::deadline_exceeded(format!("no welcome within {} s", WELCOME_TIMEOUT.as_secs())))
    })
}

/// Connects with what the settings say about TLS.
fn over(
    tls: Client,
) -> impl Service<Uri, Response = TokioIo<Stream>, Error = std::io::Error, Future: Send> {
    tower::service_fn(move |url: Uri| {
        let tls = tls.clone();
        async move { tls.connect(&url, Version::HTTP_2).await.map(TokioIo::new) }
    })
}

async fn greet(link: Link, token: Option<Token>, hello: Bytes) -> Result<Connection, Status> {
    let (outgoing, messages) = mpsc::channel(OUTGOING_MAX);
    let ended = |_| Status::unavailable("the stream ended before the hello");
    outgoing.send(hello).await.map_err(ended)?;
    let mut request = Request::new(ReceiverStream::new(messages));
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", token.header());
    }
    let mut client = Grpc::new(link).max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
    client.ready().await.map_err(Status::from_error)?;
    let mut incoming = client.streaming(request, CONNECT, Wire).await?.into_inner();
    match incoming.message().await?.and_then(|message| message.kind) {
        Some(Kind::Welcome(welcome)) => Ok(Connection { outgoing, welcome, incoming }),
        Some(_) => Err(Status::internal("the aggregator spoke before its welcome")),
        None => Err(Status::unavailable("the aggregator ended the stream without a welcome")),
    }
}
