//! A real StatsD client, as services have it.

use std::collections::HashMap;
use std::time::Duration;

use cadence::{Counted as _, CountedExt as _, Distributed as _, Gauged as _, Histogrammed as _};
use cadence::{MetricBuilder, MetricError, Setted as _, StatsdClient, Timed as _, UdpMetricSink};
use model::Payload;

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

struct Desk {
    address: SocketAddr,
    batches: mpsc::Receiver<Batch>,
    stats: Arc<CollectorStats>,
    _asked: watch::Sender<Settings>,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

fn start(series_max: usize) -> Desk {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let statsd = StatsdConfig { enabled: true, listen, ..StatsdConfig::default() };
    let stats = Arc::new(CollectorStats::default());
    let config = PushConfig { series_max, statsd, ..PushConfig::default() };
    let (logs, _) = mpsc::channel(1);
    let logs = Inlet::for_tests(logs, 0, 0, Arc::clone(&stats));
    let push = Push::bind(&config, logs, Arc::clone(&stats)).expect("bound").expect("enabled");
    let socket = push.statsd.as_ref().expect("enabled");
    let address = socket.local_addr().expect("an address");
    let (asked, settings) = watch::channel(Settings::own(Duration::from_millis(100)));
    let (sender, batches) = mpsc::channel(4);
    let stop = CancellationToken::new();
    let running = tokio::spawn(push.run(settings, sender, stop.clone()));
    Desk { address, batches, stats, _asked: asked, stop, running }
}

impl Desk {
    /// The next frames, by series.
    async fn values(&mut self) -> HashMap<String, f64> {
        let batch = tokio::time::timeout(PATIENCE, self.batches.recv()).await;
        let batch = batch.expect("in time").expect("it runs");
        let mut values = HashMap::new();
        for payload in &batch.payloads {
            let Payload::Frame(frame) = payload else { panic!("{payload:?}") };
            let layout = batch.layouts.iter().find(|layout| layout.id() == frame.layout);
            let series = layout.expect("comes with its frame").series().iter();
            values.extend(series.map(ToString::to_string).zip(frame.values.clone()));
        }
        values
    }

    /// Frames go on until they hold this.
    async fn eventually(&mut self, series: &str, value: f64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let values = self.values().await;
            if values.get(series) == Some(&value) {
                return;
            }
            assert!(Instant::now() < deadline, "{series}: {values:?}");
        }
    }

    fn client(&self) -> StatsdClient {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let sink = UdpMetricSink::from(self.address, socket).expect("a sink");
        StatsdClient::builder("shop", sink).with_tag("env", "prod").build()
    }
}

fn sent<T: cadence::Metric + From<String>>(metric: MetricBuilder<'_, '_, T>) {
    let sent: Result<T, MetricError> = metric.with_tag("service", "api").try_send();
    sent.expect("sent");
}

#[tokio::test]
async fn what_a_common_client_sends_becomes_series() {
    let mut desk = start(100);
    let client = desk.client();
    sent(client.count_with_tags("orders", 3));
    sent(client.incr_with_tags("orders"));
    sent(client.gauge_with_tags("queue.depth", 12));
    sent(client.time_with_tags("checkout", Duration::from_millis(250)));
    sent(client.histogram_with_tags("basket", 7));
    sent(client.distribution_with_tags("basket", 9));
    sent(client.set_with_tags("users", 42));
    let name = |metric: &str| format!(r#"{metric}{{env="prod", service.name="api"}}"#);
    desk.eventually(&name("shop.orders"), 4.0).await;
    desk.eventually(&name("shop.queue.depth"), 12.0).await;
    desk.eventually(&name("shop.checkout.count"), 1.0).await;
    desk.eventually(&name("shop.checkout.sum"), 0.25).await;
    desk.eventually(&name("shop.basket.sum"), 16.0).await;
    // What is of ten seconds.
    desk.eventually(r#"shop.checkout{env="prod", quantile="0.95", service.name="api"}"#, 0.25)
        .await;
    desk.eventually(&name("shop.users"), 1.0).await;
    assert_eq!(desk.stats.push_refused(), 0);
    desk.stop.cancel();
    desk.running.await.expect("it ends");
}

#[tokio::test]
async fn what_is_malformed_or_too_much_is_counted_and_the_rest_goes_on() {
    let mut desk = start(10);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let flood: String = (0..50).map(|i| format!("user.{i}:1|c\n")).collect();
    socket.send_to(b"good:1|c\nbad\n\xff\xfe:x|c\ngood:1|c\n", desk.address).expect("sent");
    socket.send_to(flood.as_bytes(), desk.address).expect("sent");
    desk.eventually(r#"good{service.name="statsd"}"#, 2.0).await;
    let deadline = Instant::now() + PATIENCE;
    // Further names wait for the next change of the layout.
    while desk.stats.push_refused() < 43 || desk.values().await.len() < 10 {
        assert!(Instant::now() < deadline, "{}", desk.stats.push_refused());
        desk.values().await;
    }
    assert_eq!(desk.stats.push_refused(), 43, "2 malformed, 41 beyond the limit");
    assert_eq!((desk.stats.push_series(), desk.values().await.len()), (10, 10));
}

#[tokio::test]
async fn metrics_by_otlp_are_answered_when_a_frame_of_them_is_in_the_spool() {
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    let otlp = OtlpConfig { enabled: true, grpc: free, http: free };
    let stats = Arc::new(CollectorStats::default());
    let config = PushConfig { otlp, ..PushConfig::default() };
    let logs = Inlet::for_tests(mpsc::channel(1).0, 0, 0, Arc::clone(&stats));
    let push = Push::bind(&config, logs, stats).expect("bound").expect("enabled");
    let (listeners, _) = push.otlp.as_ref().expect("enabled");
    let address = listeners[1].local_addr().expect("an address");
    // Nobody waits for an hour.
    let (_asked, settings) = watch::channel(Settings::own(Duration::from_secs(3_600)));
    let (sender, mut batches) = mpsc::channel(4);
    let stop = CancellationToken::new();
    let running = tokio::spawn(push.run(settings, sender, stop.clone()));
    let request = br#"{"resourceMetrics": [{"scopeMetrics": [{"metrics": [
        {"name": "jobs", "gauge": {"dataPoints": [{"asInt": "7"}]}}]}]}]}"#;
    let kind = "content-type: application/json\r\n";
    let asking = otlp::tests::post(address, "/v1/metrics", kind, request);
    tokio::pin!(asking);
    let batch = tokio::select! {
        answer = &mut asking => panic!("answered before it was kept: {answer:?}"),
        batch = tokio::time::timeout(PATIENCE, batches.recv()) => batch,
    };
    let batch = batch.expect("in time").expect("it runs");
    let Payload::Frame(frame) = &batch.payloads[0] else { panic!("{batch:?}") };
    assert_eq!(frame.values, [7.0]);
    batch.kept.expect("waited for").send(()).expect("waited for");
    assert_eq!(asking.await, (200, "{}".to_owned()));
    stop.cancel();
    running.await.expect("no panic");
}
