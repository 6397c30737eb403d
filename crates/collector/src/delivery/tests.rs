//! The delivery against a real tonic server on a real socket. The server is a double of the peer only.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use model::{Frame, Labels, Seq, Series};
use proto::v1::collector_message::Kind;
use proto::v1::collector_service_server::{CollectorService, CollectorServiceServer};
use tokio::sync::oneshot;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Streaming};

use super::*;
use crate::spool::Limits;

const PATIENCE: Duration = Duration::from_secs(20);

/// One stream, as the aggregator's side sees it.
struct Peer {
    hello: v1::Hello,
    incoming: Streaming<v1::CollectorMessage>,
    answers: mpsc::Sender<Result<v1::AggregatorMessage, Status>>,
}

impl Peer {
    async fn send(&self, kind: Answer) {
        let message = v1::AggregatorMessage { kind: Some(kind) };
        self.answers.send(Ok(message)).await.expect("the stream is open");
    }

    async fn welcome(&self, acknowledged: &[(Seq, Seq)], settings: v1::Settings) {
        self.send(Answer::Welcome(v1::Welcome {
            protocol_version: 1,
            acknowledged: to_ranges(acknowledged),
            settings: Some(settings),
            aggregator: "double".to_owned(),
        }))
        .await;
    }

    async fn acknowledge(&self, ranges: &[(Seq, Seq)]) {
        self.send(Answer::Ack(v1::Ack { ranges: to_ranges(ranges) })).await;
    }

    async fn end(self, status: Status) {
        self.answers.send(Err(status)).await.expect("the stream is open");
    }

    async fn next(&mut self) -> Option<(Seq, Kind)> {
        let message = tokio::time::timeout(PATIENCE, self.incoming.message());
        let message = message.await.expect("a message in time").ok()??;
        Some((message.seq, message.kind.expect("a kind")))
    }

    /// The next item; layouts are left out.
    async fn item(&mut self) -> (Seq, Kind) {
        loop {
            match self.next().await.expect("the stream is open") {
                (_, Kind::Layout(_)) => {}
                item => return item,
            }
        }
    }

    async fn items(&mut self, count: usize) -> BTreeSet<Seq> {
        let mut seqs = BTreeSet::new();
        for _ in 0..count {
            assert!(seqs.insert(self.item().await.0), "an item is sent twice on one stream");
        }
        seqs
    }
}

fn to_ranges(ranges: &[(Seq, Seq)]) -> Vec<v1::SeqRange> {
    ranges.iter().map(|&(first, last)| v1::SeqRange { first, last }).collect()
}

/// Hands every stream to the test.
struct Double(mpsc::Sender<Peer>);

#[tonic::async_trait]
impl CollectorService for Double {
    type ConnectStream = ReceiverStream<Result<v1::AggregatorMessage, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::CollectorMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let mut incoming = request.into_inner();
        let (answers, stream) = mpsc::channel(16);
        let peers = self.0.clone();
        tokio::spawn(async move {
            let message = incoming.message().await.expect("a hello").expect("a hello");
            let Some(Kind::Hello(hello)) = message.kind else { panic!("{message:?}") };
            assert_eq!(message.seq, 0);
            // A test that is over takes no more streams.
            let _ = peers.send(Peer { hello, incoming, answers }).await;
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// An aggregator on a free port, and the streams that it gets.
struct Hub {
    address: SocketAddr,
    peers: mpsc::Receiver<Peer>,
    _stop: oneshot::Sender<()>,
}

impl Hub {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (sender, peers) = mpsc::channel(8);
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tonic::transport::Server::builder()
            .add_service(CollectorServiceServer::new(Double(sender)));
        tokio::spawn(
            server.serve_with_incoming_shutdown(TcpListenerStream::new(listener), async move {
                drop(stopped.await)
            }),
        );
        Self { address, peers, _stop: stop }
    }

    async fn peer(&mut self) -> Peer {
        let peer = tokio::time::timeout(PATIENCE, self.peers.recv()).await;
        peer.expect("a stream in time").expect("the server runs")
    }
}

/// A running delivery whose readings the test makes.
struct Collector {
    batches: mpsc::Sender<Batch>,
    settings: watch::Receiver<Settings>,
    outlook: watch::Sender<Outlook>,
    stats: Arc<CollectorStats>,
    running: JoinHandle<()>,
}

impl Collector {
    fn start(dir: &std::path::Path, urls: &[String]) -> Self {
        let stats = Arc::new(CollectorStats::default());
        let spool = Spool::open(dir, Limits::new(64 * 1024 * 1024), Arc::clone(&stats));
        let target = Target::urls(urls, None).expect("addresses");
        let (asked, settings) = watch::channel(Settings::own(Duration::from_secs(1)));
        let introduction = Introduction {
            machine_id: "3d1219c7c4c5404aaa1f6d2a48adfda4".parse().expect("an id"),
            labels: Labels::of([("env", "test")]),
            facts: MachineFacts::default,
            clock: || UnixMillis(1_000),
        };
        let spool = spool.expect("opens");
        let (outlook, expected) = watch::channel(Outlook::default());
        let delivery =
            Delivery::new(introduction, spool, target, asked, expected, Arc::clone(&stats));
        let (batches, delivered) = mpsc::channel(4);
        Self {
            batches,
            settings,
            outlook,
            stats,
            running: tokio::spawn(delivery.run(delivered, mpsc::channel(1).1)),
        }
    }

    async fn read(&self, time: i64) {
        let batch = Batch { layouts: vec![layout()], payloads: vec![frame(time)], kept: None };
        self.batches.send(batch).await.expect("it runs");
    }

    async fn stop(self) {
        drop(self.batches);
        tokio::time::timeout(PATIENCE, self.running).await.expect("in time").expect("no panic");
    }
}

fn layout() -> Layout {
    Layout::new(vec![Series::gauge("test.value", "1", Labels::empty())]).expect("valid")
}

fn frame(time: i64) -> Payload {
    let (time, layout) = (UnixMillis(time), layout().id());
    Payload::Frame(Frame { time, layout, values: vec![0.5] })
}

fn url(hub: &Hub) -> String {
    format!("http://{}", hub.address)
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn hello_tells_who_speaks_and_where_the_spool_stands() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut hub = Hub::start().await;
    let collector = Collector::start(dir.path(), &[url(&hub)]);
    let peer = hub.peer().await;
    assert_eq!(peer.hello.protocol_version, 1);
    assert_eq!(peer.hello.machine_id, "3d1219c7c4c5404aaa1f6d2a48adfda4");
    assert_eq!(peer.hello.labels["env"], "test");
    assert_ne!(peer.hello.spool_epoch, 0);
    assert_eq!(peer.hello.oldest_unacknowledged_seq, 1);
    assert_eq!(peer.hello.time_unix_ms, 1_000);
    assert_eq!(peer.hello.interval.map(|i| i.seconds), Some(1));
    drop(collector);
}

#[tokio::test]
async fn a_frame_comes_after_its_layout_and_is_forgotten_when_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut hub = Hub::start().await;
    let collector = Collector::start(dir.path(), &[url(&hub)]);
    let mut peer = hub.peer().await;
    peer.welcome(&[], v1::Settings::default()).await;
    eventually("it is connected", || collector.stats.connects() == 1).await;
    collector.read(1).await;
    let (seq, kind) = peer.next().await.expect("open");
    assert!(seq == 0 && matches!(kind, Kind::Layout(_)), "{kind:?}");
    let (seq, kind) = peer.next().await.expect("open");
    assert!(seq == 1 && matches!(kind, Kind::Frame(_)), "{kind:?}");
    eventually("it is kept", || collector.stats.spool_items() == 1).await;
    peer.acknowledge(&[(1, 1)]).await;
    eventually("it is forgotten", || collector.stats.spool_items() == 0).await;
    assert!(collector.stats.ack_latency().is_some());
}

#[tokio::test]
async fn fresh_frames_do_not_wait_for_the_backlog() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut hub = Hub::start().await;
    let collector = Collector::start(dir.path(), &[url(&hub)]);
    // Not welcomed yet: this becomes the backlog.
    let mut peer = hub.peer().await;
    for time in 1..=20_000 {
        collector.read(time).await;
    }
    peer.welcome(&[], v1::Settings::default()).await;
    let mut seen = BTreeSet::new();
    seen.extend(peer.items(100).await);
    for fresh in 20_001..=20_020 {
        collector.read(fresh as i64).await;
        // What was under way already may come before it: the window, not the backlog.
        let mut before = 0;
        loop {
            let (seq, _) = peer.item().await;
            assert!(seen.insert(seq), "{seq} came twice");
            if seq == fresh {
                break;
            }
            before += 1;
        }
        assert!(before < 8_000, "{before} items of the backlog came before a fresh one");
        let stored: Vec<(Seq, Seq)> = seen.iter().map(|seq| (*seq, *seq)).collect();
        peer.acknowledge(&stored).await;
    }
    while seen.len() < 20_020 {
        let (seq, _) = peer.item().await;
        assert!(seen.insert(seq), "{seq} came twice");
        if seen.len() % 500 == 0 {
            peer.acknowledge(&[(1, seq)]).await;
        }
    }
    peer.acknowledge(&[(1, 20_020)]).await;
    eventually("the backlog is drained", || collector.stats.spool_items() == 0).await;
}

#[tokio::test]
async fn after_a_lost_stream_only_what_was_not_acknowledged_comes_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut hub = Hub::start().await;
    let collector = Collector::start(dir.path(), &[url(&hub)]);
    let mut peer = hub.peer().await;
    peer.welcome(&[], v1::Settings::default()).await;
    for time in 1..=10 {
        collector.read(time).await;
    }
    assert_eq!(peer.items(10).await, (1..=10).collect());
    peer.acknowledge(&[(1, 3), (6, 6)]).await;
    eventually("they are forgotten", || collector.stats.spool_items() == 6).await;
    peer.end(Status::unavailable("restarting")).await;

    let mut peer = hub.peer().await;
    assert_eq!(peer.hello.oldest_unacknowledged_seq, 4);
    // This one was stored, but its acknowledgement was lost.
    peer.welcome(&[(1, 4)], v1::Settings::default()).await;
    collector.read(11).await;
    assert_eq!(peer.items(6).await, [5, 7, 8, 9, 10, 11].into());
}

#[tokio::test]
async fn a_killed_collector_goes_on_where_it_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut hub = Hub::start().await;
    let collector = Collector::start(dir.path(), &[url(&hub)]);
    let mut peer = hub.peer().await;
    peer.welcome(&[], v1::Settings::default()).await;
    collector.read(1).await;
    collector.read(2).await;
    assert_eq!(peer.items(2).await, [1, 2].into());
    let epoch = peer.hello.spool_epoch;
    collector.running.abort();
    assert!(collector.running.await.is_err());

    let collector = Collector::start(dir.path(), &[url(&hub)]);
    let mut peer = hub.peer().await;
    assert_eq!(peer.hello.spool_epoch, epoch);
    peer.welcome(&[(1, 1)], v1::Settings::default()).await;
    assert_eq!(peer.item().await.0, 2);
    collector.read(3).await;
    assert!(peer.item().await.0 > 2);
}

#[tokio::test]
async fn refused_items_become_gaps() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut hub = Hub::start().await;
    let collector = Collector::start(dir.path(), &[url(&hub)]);
    let mut peer = hub.peer().await;
    peer.welcome(&[], v1::Settings::default()).await;
    collector.read(5).await;
    assert_eq!(peer.item().await.0, 1);
    peer.send(Answer::Reject(v1::Reject {
        ranges: to_ranges(&[(1, 1)]),
        reason: v1::reject::Reason::TooOld.into(),
        message: "frame.time_unix_ms: 7 days behind".to_owned(),
        retry: false,
    }))
    .await;
    let (seq, kind) = peer.item().await;
    let Kind::Gap(gap) = kind else { panic!("{kind:?}") };
    assert_eq!((seq, gap.first_seq, gap.last_seq), (2, 1, 1));
    assert_eq!((gap.first_time_unix_ms, gap.last_time_unix_ms), (5, 5));
    assert_eq!(gap.reason(), v1::gap::Reason::Rejected);
    assert!(gap.detail.contains("frame.time_unix_ms"), "{}", gap.detail);
    assert_eq!(collector.stats.items_rejected(), 1);
}

#[tokio::test]
async fn a_stop_sends_the_last_items_then_goodbye_and_keeps_what_is_not_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut hub = Hub::start().await;
    let collector = Collector::start(dir.path(), &[url(&hub)]);
    let mut peer = hub.peer().await;
    peer.welcome(&[], v1::Settings::default()).await;
    collector.read(1).await;
    assert_eq!(peer.item().await.0, 1);
    collector.read(2).await;
    let stopping = tokio::spawn(collector.stop());
    assert_eq!(peer.item().await.0, 2);
    let (_, kind) = peer.next().await.expect("open");
    let Kind::Goodbye(goodbye) = kind else { panic!("{kind:?}") };
    assert_eq!(goodbye.reason(), v1::goodbye::Reason::Stopped);
    peer.acknowledge(&[(1, 1)]).await;
    // The second is never acknowledged: the end does not wait for it for ever.
    stopping.await.expect("it ends");
    assert!(peer.next().await.is_none(), "the stream is closed");

    let collector = Collector::start(dir.path(), &[url(&hub)]);
    let peer = hub.peer().await;
    assert_eq!(peer.hello.oldest_unacknowledged_seq, 2);
    drop(collector);
}

#[tokio::test]
async fn settings_reach_the_sampler_and_an_absent_one_is_taken_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut hub = Hub::start().await;
    let mut collector = Collector::start(dir.path(), &[url(&hub)]);
    let peer = hub.peer().await;
    let interval = Some(proto::convert::duration_from_ms(250));
    let disabled_probes = vec!["container".to_owned()];
    let app = v1::LogSource { kind: "file".to_owned(), selector: "/var/log/app.log".to_owned() };
    let log_sources = vec![app];
    let settings = v1::Settings { interval, disabled_probes, log_sources, ..Default::default() };
    assert_eq!(collector.settings.borrow().log_sources, None, "nobody was heard yet");
    peer.welcome(&[], settings).await;
    collector.settings.changed().await.expect("it runs");
    let asked = collector.settings.borrow_and_update().clone();
    assert_eq!(asked.interval_in_force(), Duration::from_millis(250));
    assert_eq!(asked.disabled_probes, ["container"]);
    let sources = asked.log_sources.expect("heard");
    assert_eq!((&*sources[0].kind, &*sources[0].selector), ("file", "/var/log/app.log"));
    peer.send(Answer::Settings(v1::Settings::default())).await;
    collector.settings.changed().await.expect("it runs");
    assert_eq!(collector.settings.borrow().interval_in_force(), Duration::from_secs(1));
    assert_eq!(collector.settings.borrow().log_sources, Some(vec![]), "nothing is asked for");
}

#[tokio::test]
async fn the_next_aggregator_is_told_the_own_interval_and_not_what_the_last_one_asked_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut hub = Hub::start().await;
    let mut collector = Collector::start(dir.path(), &[url(&hub)]);
    let peer = hub.peer().await;
    let interval = Some(proto::convert::duration_from_ms(250));
    peer.welcome(&[], v1::Settings { interval, ..Default::default() }).await;
    collector.settings.changed().await.expect("it runs");
    peer.end(Status::unavailable("restarting")).await;
    let peer = hub.peer().await;
    assert_eq!(peer.hello.interval, Some(proto::convert::duration_from_ms(1_000)));
}

#[tokio::test]
async fn when_one_aggregator_is_gone_the_next_one_is_used() {
    let dir = tempfile::tempdir().expect("a directory");
    // A port on which nobody listens any more.
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = gone.local_addr().expect("an address");
    drop(gone);
    let mut hub = Hub::start().await;
    let collector = Collector::start(dir.path(), &[format!("http://{address}"), url(&hub)]);
    collector.read(1).await;
    let mut peer = hub.peer().await;
    peer.welcome(&[], v1::Settings::default()).await;
    assert_eq!(peer.item().await.0, 1);
}

#[tokio::test]
async fn waking_up_connects_anew_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut hub = Hub::start().await;
    let collector = Collector::start(dir.path(), &[url(&hub)]);
    let peer = hub.peer().await;
    peer.welcome(&[], v1::Settings::default()).await;
    eventually("it is connected", || collector.stats.connects() == 1).await;
    let resume = Payload::Event(model::MachineEvent {
        time: UnixMillis(9),
        kind: EventKind::Resume,
        detail: "slept for 8 h".to_owned(),
        attributes: Labels::empty(),
    });
    let batch = Batch { payloads: vec![resume], ..Batch::default() };
    collector.batches.send(batch).await.expect("it runs");
    let mut peer = tokio::time::timeout(Duration::from_millis(900), hub.peer())
        .await
        .expect("without waiting");
    peer.welcome(&[], v1::Settings::default()).await;
    assert!(matches!(peer.item().await.1, Kind::MachineEvent(_)));
}

#[tokio::test]
async fn a_goodbye_says_why_as_far_as_it_is_known() {
    use v1::goodbye::Reason;
    for (outlook, expected) in [
        (Outlook::Stays, Reason::Stopped),
        (Outlook::GoesDown, Reason::Shutdown),
        (Outlook::Reboots, Reason::Reboot),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let mut hub = Hub::start().await;
        let collector = Collector::start(dir.path(), &[url(&hub)]);
        let mut peer = hub.peer().await;
        peer.welcome(&[], v1::Settings::default()).await;
        eventually("it is connected", || collector.stats.connects() == 1).await;
        collector.outlook.send_replace(outlook);
        // Nothing waits for its acknowledgement: the goodbye alone must get there.
        let stopping = tokio::spawn(collector.stop());
        let (_, kind) = peer.next().await.expect("open");
        let Kind::Goodbye(goodbye) = kind else { panic!("{kind:?}") };
        assert_eq!(goodbye.reason(), expected);
        assert!(peer.next().await.is_none(), "the goodbye is the last word");
        drop(peer);
        stopping.await.expect("it ends");
    }
}
