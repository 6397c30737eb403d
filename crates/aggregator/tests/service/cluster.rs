//! A running aggregator.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aggregator::{Aggregator, Config, SettingsBoard};
use model::{MachineId, UnixMillis};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use proto::v1;
use proto::v1::state_service_client::StateServiceClient;
use storage::Stores;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::collector::Collector;
use crate::gate::{Gate, GatedHistory, GatedRegistry};

pub(crate) struct Cluster {
    pub(crate) stores: Stores,
    pub(crate) settings: SettingsBoard,
    /// What history may do.
    pub(crate) gate: Gate,
    /// What the register of machines may do.
    pub(crate) registry_gate: Gate,
    address: SocketAddr,
    /// What whoever serves it counts.
    pub(crate) shed: Counter,
    metrics: Registry,
    config: Config,
    dir: Arc<TempDir>,
    shutdown: CancellationToken,
    ran: JoinHandle<anyhow::Result<()>>,
    served: JoinHandle<anyhow::Result<()>>,
}

pub(crate) fn now() -> UnixMillis {
    SystemTime::now().into()
}

pub(crate) fn machine_id(n: u128) -> MachineId {
    MachineId::from_u128(n).unwrap()
}

/// Waits until something that is truly asynchronous holds.
pub(crate) async fn eventually<T, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let patience = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), patience)
        .await
        .unwrap_or_else(|_| panic!("not within 20 s: {what}"))
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::start_with(Config::default()).await
    }

    pub(crate) async fn start_with(config: Config) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), config).await
    }

    async fn start_in(dir: Arc<TempDir>, config: Config) -> Self {
        let stores = storage::open(&storage::Config::default(), dir.path()).await.unwrap();
        Self::start_on(stores, dir, config).await
    }

    /// Another aggregator on the same stores.
    pub(crate) async fn beside(&self) -> Self {
        Self::start_on(self.stores.clone(), self.dir.clone(), self.config.clone()).await
    }

    async fn start_on(stores: Stores, dir: Arc<TempDir>, config: Config) -> Self {
        let gate = Gate::open();
        let history = Arc::new(GatedHistory::new(stores.history.clone(), gate.clone()));
        let registry_gate = Gate::open();
        let registry = Arc::new(GatedRegistry::new(stores.registry.clone(), registry_gate.clone()));
        let gated = Stores { history, registry, ..stores.clone() };
        let (mut metrics, shed) = (Registry::default(), Counter::default());
        let refusals = [("requests_shed", shed.clone())];
        let aggregator = Aggregator::open(config.clone(), gated, &refusals, &mut metrics);
        let aggregator = aggregator.await.unwrap();
        let server = daemon::http::Server::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = server.local_addr();
        let shutdown = CancellationToken::new();
        let router = aggregator.routes().into_axum_router();
        let settings = aggregator.settings();
        let served = tokio::spawn(server.serve(router, shutdown.clone()));
        let ran = tokio::spawn(aggregator.run(shutdown.clone()));
        Self {
            stores,
            settings,
            gate,
            registry_gate,
            address,
            shed,
            metrics,
            config,
            dir,
            shutdown,
            ran,
            served,
        }
    }

    pub(crate) async fn channel(&self) -> Channel {
        let uri = format!("http://{}", self.address);
        Channel::from_shared(uri).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn state(&self) -> StateServiceClient<Channel> {
        StateServiceClient::new(self.channel().await).max_decoding_message_size(64 << 20)
    }

    /// A collector that has said hello and was welcomed.
    pub(crate) async fn collector(&self, id: u128, host_name: &str) -> Collector {
        let mut collector = self.silent_collector(id, host_name).await;
        collector.hello().await;
        collector.welcome().await;
        collector
    }

    /// A collector that has not said anything.
    pub(crate) async fn silent_collector(&self, id: u128, host_name: &str) -> Collector {
        Collector::connect(self.channel().await, machine_id(id), host_name).await
    }

    pub(crate) async fn machine(&self, reference: &str) -> v1::Machine {
        self.known_machine(reference).await.unwrap()
    }

    async fn known_machine(&self, reference: &str) -> Option<v1::Machine> {
        let request = v1::GetMachineRequest { machine: reference.into() };
        let answer = self.state().await.get_machine(request).await;
        match answer {
            Err(status) if status.code() == tonic::Code::NotFound => None,
            answer => answer.unwrap().into_inner().machine,
        }
    }

    pub(crate) async fn becomes(&self, reference: &str, status: v1::MachineStatus) -> v1::Machine {
        eventually(&format!("{reference} is {status:?}"), || async {
            let machine = self.known_machine(reference).await?;
            (machine.status() == status).then_some(machine)
        })
        .await
    }

    /// The value of one of the aggregator's own metrics, as `/metrics` shows it.
    pub(crate) fn metric(&self, line_start: &str) -> f64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.metrics).unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("{line_start} ")));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    }

    pub(crate) fn begin_shutdown(&self) {
        self.shutdown.cancel();
    }

    /// Ends it in good order and leaves its files.
    pub(crate) async fn stop(self) -> (Arc<TempDir>, Config) {
        self.shutdown.cancel();
        self.ran.await.unwrap().unwrap();
        self.served.await.unwrap().unwrap();
        (self.dir, self.config)
    }

    /// Ends it and starts another one on the same files.
    pub(crate) async fn restart(self) -> Self {
        let (dir, config) = self.stop().await;
        Self::start_in(dir, config).await
    }
}
