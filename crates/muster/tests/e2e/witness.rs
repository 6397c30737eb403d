//! Stands between collectors and aggregator and writes down every item sent and every acknowledgement:
//! what was promised, to be compared with what was kept.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use model::{SeqRange, SeqRanges};
use proto::v1;
use proto::v1::aggregator_message::Kind as Down;
use proto::v1::collector_message::Kind as Up;
use proto::v1::collector_service_client::CollectorServiceClient;
use proto::v1::collector_service_server::{CollectorService, CollectorServiceServer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

/// One life of one collector's spool.
pub(crate) type Spool = (String, u64);

/// What was said about one spool.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    pub(crate) layouts: HashMap<Vec<u8>, v1::Layout>,
    pub(crate) items: BTreeMap<u64, Up>,
    pub(crate) acknowledged: SeqRanges,
    pub(crate) rejected: Vec<v1::Reject>,
    /// Items sent again with another content: a number must never be used twice.
    pub(crate) changed: Vec<u64>,
    pub(crate) oldest_unacknowledged: u64,
}

/// A proxy on a port of its own.
#[derive(Debug)]
pub(crate) struct Witness {
    address: SocketAddr,
    records: Arc<Mutex<BTreeMap<Spool, Record>>>,
    server: AbortHandle,
}

impl Witness {
    /// Forwards to the aggregator at `upstream`, whether or not it is there.
    pub(crate) async fn of(upstream: &str) -> Self {
        Self::writing(upstream, Arc::default()).await
    }

    /// Stands before another aggregator of the same collectors and writes down what is said in the same book.
    pub(crate) async fn beside(&self, upstream: &str) -> Self {
        Self::writing(upstream, Arc::clone(&self.records)).await
    }

    async fn writing(upstream: &str, records: Arc<Mutex<BTreeMap<Spool, Record>>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let proxy = Proxy {
            upstream: Endpoint::from_shared(upstream.to_owned()).expect("a url"),
            records: Arc::clone(&records),
        };
        let service = CollectorServiceServer::new(proxy)
            .max_decoding_message_size(model::limits::MESSAGE_BYTES_MAX);
        let serving = Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(serving).abort_handle();
        Self { address, records, server }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn records(&self) -> BTreeMap<Spool, Record> {
        self.records.lock().expect("no panic").clone()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(Debug)]
struct Proxy {
    upstream: Endpoint,
    records: Arc<Mutex<BTreeMap<Spool, Record>>>,
}

#[tonic::async_trait]
impl CollectorService for Proxy {
    type ConnectStream = ReceiverStream<Result<v1::AggregatorMessage, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::CollectorMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let mut from_collector = request.into_inner();
        let hello = from_collector.message().await?.ok_or_else(|| Status::aborted("no hello"))?;
        let Some(Up::Hello(said)) = &hello.kind else {
            return Err(Status::invalid_argument("the first message is no hello"));
        };
        let spool: Spool = (said.machine_id.clone(), said.spool_epoch);
        note(&self.records, &spool, |record| {
            record.oldest_unacknowledged = said.oldest_unacknowledged_seq;
        });

        let channel = self.upstream.connect().await;
        let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
        let (up, to_aggregator) = mpsc::channel(16);
        let _ = up.send(hello).await;
        let mut from_aggregator = CollectorServiceClient::new(channel)
            .connect(ReceiverStream::new(to_aggregator))
            .await?
            .into_inner();

        let (records, of) = (Arc::clone(&self.records), spool.clone());
        let sending = tokio::spawn(async move {
            while let Ok(Some(message)) = from_collector.message().await {
                // Written down before it is passed on, so that no acknowledgement can come before.
                note(&records, &of, |record| record.sent(&message));
                if up.send(message).await.is_err() {
                    return;
                }
            }
        });
        let (down, to_collector) = mpsc::channel(16);
        let records = Arc::clone(&self.records);
        tokio::spawn(async move {
            loop {
                let message = match from_aggregator.message().await {
                    Ok(Some(message)) => message,
                    Ok(None) => break,
                    Err(status) => {
                        let _ = down.send(Err(status)).await;
                        break;
                    }
                };
                // Written down before the collector hears of it: a promise counts once it is made.
                note(&records, &spool, |record| record.answered(&message));
                if down.send(Ok(message)).await.is_err() {
                    break;
                }
            }
            sending.abort();
        });
        Ok(Response::new(ReceiverStream::new(to_collector)))
    }
}

fn note(records: &Mutex<BTreeMap<Spool, Record>>, spool: &Spool, what: impl FnOnce(&mut Record)) {
    what(records.lock().expect("no panic").entry(spool.clone()).or_default());
}

impl Record {
    fn sent(&mut self, message: &v1::CollectorMessage) {
        let Some(kind) = &message.kind else { return };
        match kind {
            Up::Layout(layout) => {
                self.layouts.insert(layout.id.clone(), layout.clone());
            }
            Up::Hello(_) | Up::Goodbye(_) => {}
            item => {
                let before = self.items.insert(message.seq, item.clone());
                // Bits, because NaN differs from itself.
                if before.is_some_and(|before| !same(&before, item)) {
                    self.changed.push(message.seq);
                }
            }
        }
    }

    fn answered(&mut self, message: &v1::AggregatorMessage) {
        let ranges = match &message.kind {
            Some(Down::Ack(ack)) => &ack.ranges,
            Some(Down::Welcome(welcome)) => &welcome.acknowledged,
            Some(Down::Reject(reject)) => {
                self.rejected.push(reject.clone());
                return;
            }
            _ => return,
        };
        self.acknowledged.extend(ranges.iter().filter_map(|r| SeqRange::new(r.first, r.last)));
    }

    /// Every number from the first to the last that was sent, as long as none is missing.
    pub(crate) fn sent_seqs(&self) -> SeqRanges {
        self.items.keys().copied().collect()
    }

    pub(crate) fn frames(&self) -> impl Iterator<Item = (u64, &v1::Frame)> {
        self.items.iter().filter_map(|(seq, item)| match item {
            Up::Frame(frame) => Some((*seq, frame)),
            _ => None,
        })
    }
}

fn same(a: &Up, b: &Up) -> bool {
    use prost::Message as _;
    let bytes =
        |item: &Up| v1::CollectorMessage { seq: 0, kind: Some(item.clone()) }.encode_to_vec();
    bytes(a) == bytes(b)
}
