//! An aggregator that acknowledges whatever comes, and hands it over. The double of a peer, for tests and
//! benchmarks of the real collector.

use std::net::SocketAddr;
use std::sync::Arc;

use proto::v1;
use proto::v1::aggregator_message::Kind as Answer;
use proto::v1::collector_message::Kind;
use proto::v1::collector_service_server::{CollectorService, CollectorServiceServer};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// What names an item in all lives of a collector: the epoch of its spool, and its number there.
pub(crate) type Name = (u64, u64);

struct Server<F>(Arc<F>);

/// Serves until the task is aborted. `each` is given every item before it is acknowledged. Port 0 takes a free
/// one.
pub(crate) async fn serve<F>(address: SocketAddr, each: F) -> (SocketAddr, JoinHandle<()>)
where
    F: Fn(Name, Kind) + Send + Sync + 'static,
{
    let listener = tokio::net::TcpListener::bind(address).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = tonic::transport::Server::builder()
        .add_service(CollectorServiceServer::new(Server(Arc::new(each))))
        .serve_with_incoming(TcpListenerStream::new(listener));
    (address, tokio::spawn(async move { drop(server.await) }))
}

#[tonic::async_trait]
impl<F: Fn(Name, Kind) + Send + Sync + 'static> CollectorService for Server<F> {
    type ConnectStream = ReceiverStream<Result<v1::AggregatorMessage, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::CollectorMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let mut incoming = request.into_inner();
        let (answers, stream) = mpsc::channel(64);
        let each = Arc::clone(&self.0);
        tokio::spawn(async move {
            let mut epoch = 0;
            while let Ok(Some(message)) = incoming.message().await {
                let answer = match message.kind {
                    Some(Kind::Hello(hello)) => {
                        epoch = hello.spool_epoch;
                        Answer::Welcome(v1::Welcome { protocol_version: 1, ..Default::default() })
                    }
                    Some(Kind::Layout(_) | Kind::Goodbye(_)) | None => continue,
                    Some(kind) => {
                        each((epoch, message.seq), kind);
                        let range = v1::SeqRange { first: message.seq, last: message.seq };
                        Answer::Ack(v1::Ack { ranges: vec![range] })
                    }
                };
                let message = v1::AggregatorMessage { kind: Some(answer) };
                if answers.send(Ok(message)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
