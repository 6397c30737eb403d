//! `kill -9` of `muster alerts` at every stage of an alert's life.
//!
//! One alert is brought to each stage, then the one process that has them all is killed, and another goes on.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use model::{Frame, Labels, Layout, MachineFacts, MachineId, MachineStatus, UnixMillis, metric};
use serde::Deserialize;
use serde_json::json;
use storage::Stores;
use storage::events::{Event, EventKind};
use storage::live::LiveFrame;
use storage::registry::MachineRecord;
use tokio_util::task::AbortOnDropHandle;

use super::call;
use super::receiver::{Got, Manner, Receiver};
use crate::cluster::{Cluster, PATIENCE};
use crate::eventually::eventually;

/// Where each alert is when the process is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Pending,
    /// It fires, and its message waits for others to join.
    BeforeSending,
    /// The receiver has the message and has not answered.
    Sending,
    Sent,
    /// The receiver has the message that it is over, and has not answered.
    Resolving,
    Resolved,
}

const STAGES: [Stage; 6] = [
    Stage::Pending,
    Stage::BeforeSending,
    Stage::Sending,
    Stage::Sent,
    Stage::Resolving,
    Stage::Resolved,
];

/// How long trouble must last where the stage needs it; a quarter of it is how long a message waits.
const FOR: Duration = Duration::from_secs(16);
const BUSY: f64 = 0.95;
const CALM: f64 = 0.1;

impl Stage {
    fn place(self) -> usize {
        STAGES.iter().position(|stage| *stage == self).expect("one of them")
    }

    /// Of its rule and channel; the channel's id too.
    fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::BeforeSending => "before-sending",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Resolving => "resolving",
            Self::Resolved => "resolved",
        }
    }

    fn machine(self) -> MachineId {
        MachineId::from_u128(self.place() as u128 + 1).expect("not zero")
    }

    fn waits(self) -> bool {
        matches!(self, Self::Pending | Self::BeforeSending)
    }

    /// Messages that may come twice: those that the receiver had taken when the process was killed.
    fn twice(self, status: &str) -> bool {
        matches!((self, status), (Self::Sending, "firing") | (Self::Resolving, "resolved"))
    }
}

/// Machines, each on its own, that send their CPU five times a second.
struct Machines {
    values: Arc<Mutex<[f64; STAGES.len()]>>,
    _sending: AbortOnDropHandle<()>,
}

impl Machines {
    async fn start(stores: &Stores) -> Self {
        for stage in STAGES {
            let now = SystemTime::now().into();
            let record = MachineRecord {
                id: stage.machine(),
                facts: MachineFacts { host_name: stage.name().into(), ..MachineFacts::default() },
                labels: Labels::empty(),
                first_seen: now,
                last_seen: now,
                status: MachineStatus::Online,
                status_since: now,
            };
            stores.registry.put_machine(record).await.expect("kept");
        }
        let values = Arc::new(Mutex::new([CALM; STAGES.len()]));
        let (events, sent) = (stores.events.clone(), values.clone());
        let sending = async move {
            let layout = Layout::new(vec![metric::CPU_UTILIZATION.alone()]).expect("valid");
            loop {
                let values = *sent.lock().expect("no panic");
                for (stage, value) in STAGES.iter().zip(values) {
                    let time: UnixMillis = SystemTime::now().into();
                    let frame = Frame { time, layout: layout.id(), values: vec![value] };
                    let frame = LiveFrame { layout: layout.clone(), frame: Arc::new(frame) };
                    let kind = EventKind::Frame { frame, late: false };
                    let event = Event { machine: stage.machine(), kind };
                    events.publish(event).await.expect("published");
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        Self { values, _sending: AbortOnDropHandle::new(tokio::spawn(sending)) }
    }

    fn send(&self, stage: Stage, value: f64) {
        self.values.lock().expect("no panic")[stage.place()] = value;
    }
}

/// The stores that test and process share.
#[derive(Debug, Default, Deserialize)]
struct Shared {
    storage: storage::Config,
}

struct Scene {
    cluster: Cluster,
    stores: Stores,
    receivers: Vec<Receiver>,
    machines: Machines,
}

impl Scene {
    async fn start(variables: &[(&str, &str)]) -> Self {
        let mut all = vec![
            ("MUSTER_ALERTS__NOTIFY__GROUP_INTERVAL", "0s"),
            // A message that is on its way stays there until the process is killed.
            ("MUSTER_ALERTS__NOTIFY__TIMEOUT", "5m"),
        ];
        all.extend(variables);
        let cluster = Cluster::start("alerts", &all).await;
        let shared = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        let shared: Shared = daemon::config::load_with(None, shared).expect("accepted");
        let stores = storage::open(&shared.storage, &cluster.data_dir()).await.expect("stores");
        let mut receivers = Vec::new();
        for stage in STAGES {
            let receiver = Receiver::start(Manner::Status(200)).await;
            let name = stage.name();
            let hook = json!({ "channel": { "name": name, "webhook": { "url": receiver.url } } });
            call(&cluster, "AlertConfigService/CreateChannel", hook).await;
            let rule = json!({ "rule": {
                "name": name,
                "threshold": { "metric": metric::CPU_UTILIZATION.name, "warning": 0.8 },
                "machines": [{ "name": "machine.id", "value": stage.machine().to_string() }],
                "for": format!("{}s", if stage.waits() { FOR.as_secs() } else { 0 }),
                "channels": [name],
            }});
            call(&cluster, "AlertConfigService/CreateRule", rule).await;
            receivers.push(receiver);
        }
        let machines = Machines::start(&stores).await;
        Self { cluster, stores, receivers, machines }
    }

    fn receiver(&self, stage: Stage) -> &Receiver {
        &self.receivers[stage.place()]
    }

    fn got(&self, stage: Stage, status: &str) -> Vec<String> {
        let got = self.receiver(stage).got();
        let of = got.iter().map(Got::json).filter(|body| body["status"] == status);
        of.map(|body| body["alerts"][0]["incident_id"].to_string()).collect()
    }

    /// Waits until the receiver of this stage got so many.
    async fn comes(&self, stage: Stage, status: &str, count: usize) {
        eventually(PATIENCE, || async {
            let got = self.got(stage, status).len();
            (got >= count).then_some(()).ok_or(format!("{stage:?}: {got} {status}, not {count}"))
        })
        .await;
    }

    /// Messages that wait in the store.
    async fn waiting(&self, stage: Stage) -> usize {
        self.stores.alerting.queue_len(stage.name()).await.expect("read")
    }

    async fn noted(&self, stage: Stage) {
        eventually(PATIENCE, || async {
            let waiting = self.waiting(stage).await;
            (waiting == 0).then_some(()).ok_or(format!("{stage:?}: {waiting} wait"))
        })
        .await;
    }

    async fn is_kept(&self, stage: Stage, phase: &str) -> bool {
        let states = self.stores.alerting.states().await.expect("read");
        let documents = states.iter().filter_map(|s| serde_json::from_str(&s.document).ok());
        let machine = stage.machine().to_string();
        documents
            .into_iter()
            .any(|d: serde_json::Value| d["machine"] == machine && d["phase"] == phase)
    }

    /// Every alert is at its own stage when this returns.
    async fn bring_all_to_their_stages(&self) {
        use Stage::{BeforeSending, Pending, Resolved, Resolving, Sending, Sent};
        for stage in [Sent, Resolving, Resolved] {
            self.machines.send(stage, BUSY);
            self.comes(stage, "firing", 1).await;
            self.noted(stage).await;
        }
        self.machines.send(Resolved, CALM);
        self.comes(Resolved, "resolved", 1).await;
        self.noted(Resolved).await;
        self.receiver(Resolving).behave(Manner::Hang);
        self.machines.send(Resolving, CALM);
        self.comes(Resolving, "resolved", 1).await;
        self.receiver(Sending).behave(Manner::Hang);
        self.machines.send(Sending, BUSY);
        self.comes(Sending, "firing", 1).await;
        // The others stay as they are. One fires when the other has been in trouble for half as long.
        self.machines.send(BeforeSending, BUSY);
        tokio::time::sleep(FOR / 2).await;
        self.machines.send(Pending, BUSY);
        eventually(PATIENCE, || async {
            let there = self.is_kept(Pending, "pending").await
                && self.is_kept(BeforeSending, "firing").await
                && self.waiting(BeforeSending).await == 1;
            there.then_some(()).ok_or("not at their stages".to_owned())
        })
        .await;
    }

    async fn is_at_its_stage(&self, stage: Stage) {
        let (firing, resolved) =
            (self.got(stage, "firing").len(), self.got(stage, "resolved").len());
        let (expected, phase, waiting) = match stage {
            Stage::Pending => ((0, 0), Some("pending"), 0),
            Stage::BeforeSending => ((0, 0), Some("firing"), 1),
            Stage::Sending => ((1, 0), Some("firing"), 1),
            Stage::Sent => ((1, 0), Some("firing"), 0),
            Stage::Resolving => ((1, 1), None, 1),
            Stage::Resolved => ((1, 1), None, 0),
        };
        assert_eq!((firing, resolved), expected, "{stage:?}");
        assert_eq!(self.waiting(stage).await, waiting, "{stage:?}");
        for known in ["pending", "firing"] {
            assert_eq!(self.is_kept(stage, known).await, phase == Some(known), "{stage:?}");
        }
    }
}

async fn every_alert_is_told_once_whenever_it_is_killed(variables: &[(&str, &str)]) {
    let mut scene = Scene::start(variables).await;
    scene.bring_all_to_their_stages().await;
    scene.cluster.server.kill();
    for stage in STAGES {
        scene.is_at_its_stage(stage).await;
    }

    scene.receivers.iter().for_each(|receiver| receiver.behave(Manner::Status(200)));
    scene.cluster.restart().await;
    for stage in STAGES {
        scene.comes(stage, "firing", 1 + usize::from(stage.twice("firing"))).await;
    }
    for stage in STAGES {
        scene.machines.send(stage, CALM);
    }
    for stage in STAGES {
        scene.comes(stage, "resolved", 1 + usize::from(stage.twice("resolved"))).await;
        scene.noted(stage).await;
    }

    // Whatever should not come gets the time to come.
    tokio::time::sleep(Duration::from_secs(2)).await;
    for stage in STAGES {
        let mut incidents = Vec::new();
        for status in ["firing", "resolved"] {
            let got = scene.got(stage, status);
            let expected = 1 + usize::from(stage.twice(status));
            assert_eq!(got.len(), expected, "{stage:?}, {status}: {got:?}");
            incidents.extend(got);
        }
        incidents.dedup();
        assert_eq!(incidents.len(), 1, "{stage:?} is one incident: {incidents:?}");
    }
    let history = call(&scene.cluster, "AlertService/ListHistory", json!({})).await;
    let incidents = history["incidents"].as_array().expect("incidents");
    let over = incidents.iter().filter(|i| i["resolved"].is_string() && i["peak"] == BUSY);
    assert_eq!((incidents.len(), over.count()), (STAGES.len(), STAGES.len()), "{history}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_stage_an_alert_is_told_once_from_the_embedded_file() {
    let Some(redis) = storage::testing::server("MUSTER_TEST_REDIS_URL") else { return };
    let prefix = storage::testing::unique("killed");
    every_alert_is_told_once_whenever_it_is_killed(&[
        ("MUSTER_STORAGE__EVENTS__REDIS__URL", &redis),
        ("MUSTER_STORAGE__EVENTS__REDIS__PREFIX", &prefix),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_stage_an_alert_is_told_once_from_timescale() {
    let Some(redis) = storage::testing::server("MUSTER_TEST_REDIS_URL") else { return };
    let Some(timescale) = storage::testing::timescale_url().await else { return };
    let prefix = storage::testing::unique("killed");
    every_alert_is_told_once_whenever_it_is_killed(&[
        ("MUSTER_STORAGE__EVENTS__REDIS__URL", &redis),
        ("MUSTER_STORAGE__EVENTS__REDIS__PREFIX", &prefix),
        ("MUSTER_STORAGE__HISTORY__KIND__TIMESCALE__URL", &timescale),
        ("MUSTER_STORAGE__ALERTS__TIMESCALE__URL", &timescale),
    ])
    .await;
}
