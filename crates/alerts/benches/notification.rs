//! How long it takes from a value that breaches its threshold to the message at its receiver: through the
//! event stream, the engine, the commit, the worker and HTTP. `for: 0`, one alert at a time.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use alerts::{Alerts, Config};
use criterion::{Criterion, criterion_group, criterion_main};
use daemon::config::Span;
use model::{Frame, Labels, Layout, MachineId, Series, UnixMillis};
use proto::Link;
use proto::v1;
use proto::v1::alert_config_service_client::AlertConfigServiceClient;
use storage::events::{Event, EventKind};
use storage::live::LiveFrame;
use tokio_util::sync::CancellationToken;

#[path = "../tests/receiver.rs"]
mod receiver;
#[path = "parts/spread.rs"]
mod spread;

use receiver::{Manner, Receiver};
use spread::Spread;

struct Scene {
    stores: storage::Stores,
    receiver: Receiver,
    layout: Layout,
    last: i64,
    _dir: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let stores = storage::open(&storage::Config::default(), dir.path()).await.expect("stores");
        let mut config = Config::default();
        config.notify.group_interval = Span::from_millis(0);
        let mut metrics = prometheus_client::registry::Registry::default();
        let alerts = Alerts::open(config, stores.clone(), &mut metrics).await.expect("opened");
        let link = Link::new(alerts.routes().prepare());
        tokio::spawn(alerts.run(CancellationToken::new()));
        let receiver = Receiver::start(Manner::Status(200)).await;
        let mut client = AlertConfigServiceClient::new(link);
        let webhook = v1::WebhookChannel { url: receiver.url.clone(), secret: "s".into() };
        let kind = Some(v1::channel::Kind::Webhook(webhook));
        let channel = Some(v1::Channel { name: "hook".into(), kind, ..Default::default() });
        client.create_channel(v1::CreateChannelRequest { channel }).await.expect("created");
        let threshold = v1::ThresholdCondition {
            metric: "system.cpu.utilization".into(),
            warning: Some(0.8),
            ..Default::default()
        };
        let rule = Some(v1::AlertRule {
            name: "cpu".into(),
            condition: Some(v1::alert_rule::Condition::Threshold(threshold)),
            ..Default::default()
        });
        client.create_rule(v1::CreateRuleRequest { rule }).await.expect("created");
        let series = vec![Series::gauge("system.cpu.utilization", "1", Labels::empty())];
        let layout = Layout::new(series).expect("valid");
        Self { stores, receiver, layout, last: 0, _dir: dir }
    }

    /// Publishes the value and waits until one more message came.
    async fn told(&mut self, value: f64) -> Duration {
        let before = self.receiver.got().len();
        let now: UnixMillis = SystemTime::now().into();
        self.last = now.0.max(self.last + 1);
        let time = UnixMillis(self.last);
        let frame = Arc::new(Frame { time, layout: self.layout.id(), values: vec![value] });
        let frame = LiveFrame { layout: self.layout.clone(), frame };
        let machine = MachineId::from_u128(1).expect("not zero");
        let begin = Instant::now();
        let event = Event { machine, kind: EventKind::Frame { frame, late: false } };
        self.stores.events.publish(event).await.expect("published");
        while self.receiver.got().len() == before {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        begin.elapsed()
    }
}

fn notification(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut scene = runtime.block_on(Scene::new());
    let mut spread = Spread::default();
    let mut group = c.benchmark_group("from a breached value to its message");
    group.sample_size(50);
    group.bench_function("webhook", |b| {
        b.iter_custom(|count| {
            runtime.block_on(async {
                let mut total = Duration::ZERO;
                for _ in 0..count {
                    let took = scene.told(0.9).await;
                    spread.note(took);
                    total += took;
                    scene.told(0.1).await;
                }
                total
            })
        });
    });
    group.finish();
    spread.print("from a breached value to its message");
}

criterion_group!(benches, notification);
criterion_main!(benches);
