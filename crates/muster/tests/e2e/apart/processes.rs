//! Two aggregators, a gateway, Redis and TimescaleDB, each a process of its own, none of them shared with other tests.
//! The aggregators have no more rights in the database than they need.

use std::net::SocketAddr;
use std::process::Output;

use proto::v1;
use proto::v1::state_service_client::StateServiceClient;
use storage::Stores;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use xtask::services::{DebianRoot, Server, cache};

use super::one_address::OneAddress;
use crate::cluster::{self, PATIENCE};
use crate::eventually::eventually;
use crate::process::{self, Process};

/// One process that serves on a port that stays the same.
#[derive(Debug)]
pub(super) struct Role {
    pub(super) process: Process,
    pub(super) address: SocketAddr,
}

impl Role {
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The value of a metric that has no labels, or is named with all of them.
    pub(super) async fn metric(&self, name: &str) -> Option<f64> {
        let (_, metrics) = cluster::get(self.address, "/metrics").await;
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok())
    }

    /// Memory that it has resident, as the kernel counts it.
    pub(super) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.expect("it runs");
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"));
        kib.and_then(|kib| kib.trim().parse::<u64>().ok()).expect("a size") * 1024
    }
}

#[derive(Debug)]
pub(super) struct Apart {
    pub(super) aggregators: [Role; 2],
    pub(super) gateway: Role,
    pub(super) redis: Server,
    pub(super) timescale: Server,
    root: DebianRoot,
    /// Where the gateway finds either aggregator.
    _one_address: OneAddress,
    // Last, so that the processes are gone before their files are.
    dir: TempDir,
}

impl Apart {
    /// Nothing where private servers cannot be had; under `CI=true` that is a failure.
    pub(super) async fn start() -> Option<Self> {
        let root = root()?;
        let redis = beside(|| Server::redis(&root)).expect("a private Redis");
        let timescale = beside(|| Server::timescale(&root)).expect("a private TimescaleDB");
        beside(|| grant(&root, &redis, &timescale));
        let dir = tempfile::tempdir().expect("a temporary directory");
        let settings = settings(&redis, &as_user(&timescale));
        let aggregator = |name: &str| {
            let mut command = process::muster();
            let address = cluster::free_address();
            command.args(["aggregator", "--listen", &address.to_string()]);
            command.arg("--data-dir").arg(dir.path().join(format!("{name}-data")));
            command.envs(settings.iter().map(|(name, value)| (*name, value)));
            Role { process: Process::start(name, dir.path(), command), address }
        };
        let aggregators = ["aggregator-1", "aggregator-2"].map(aggregator);
        for aggregator in &aggregators {
            is_ready(aggregator).await;
        }
        let one_address = OneAddress::of(aggregators.each_ref().map(|role| role.address)).await;
        let mut command = process::muster();
        let address = cluster::free_address();
        command.args(["gateway", "--listen", &address.to_string()]);
        command.args(["--aggregator", &one_address.url()]);
        let gateway = Role { process: Process::start("gateway", dir.path(), command), address };
        is_ready(&gateway).await;
        let _one_address = one_address;
        Some(Self { aggregators, gateway, redis, timescale, root, _one_address, dir })
    }

    pub(super) fn collector(&self, every: &str, name: &str, urls: &str) -> Process {
        cluster::start_collector(self.dir.path(), &["--interval", every], name, urls)
    }

    /// The stores as a further process has them.
    pub(super) async fn stores(&self) -> Stores {
        #[derive(Debug, Default, serde::Deserialize)]
        struct Whole {
            storage: storage::Config,
        }
        let settings = settings(&self.redis, &as_user(&self.timescale));
        let settings = settings.map(|(name, value)| (name.to_owned(), value));
        let whole: Whole = daemon::config::load_with(None, settings).expect("accepted");
        storage::open(&whole.storage, &self.dir.path().join("reader")).await.expect("opens")
    }

    /// Sessions of our processes as the database counts them.
    pub(super) fn sessions(&self) -> u32 {
        const COUNT: &str = "select count(*) from pg_stat_activity \
                             where backend_type = 'client backend' and pid <> pg_backend_pid()";
        let count = beside(|| self.timescale.sql(&self.root, COUNT)).expect("answers");
        count.parse().expect("a number")
    }

    /// `muster bench` against the first aggregator.
    pub(super) fn load(&self, arguments: &[&str]) -> Load {
        let mut command = process::muster();
        command.args(["bench", "--json", "--target", &self.aggregators[0].url()]).args(arguments);
        Load(tokio::task::spawn_blocking(move || command.output().expect("runs")))
    }

    /// Machines as the dashboard lists them.
    pub(super) async fn machines(&self) -> Result<Vec<serde_json::Value>, String> {
        let (status, body) = cluster::get(self.gateway.address, "/api/v1/machines").await;
        let body: serde_json::Value =
            serde_json::from_str(&body).map_err(|_| format!("{status}: {body}"))?;
        body["machines"].as_array().cloned().ok_or_else(|| format!("{status}: {body}"))
    }

    /// The id of each, by the label that its collector was given.
    pub(super) async fn ids<const N: usize>(&self, names: [&str; N]) -> [String; N] {
        let client = StateServiceClient::new(cluster::channel(&self.aggregators[1].url()).await);
        let machines = eventually(PATIENCE, || {
            let mut client = client.clone();
            async move {
                let answer = client.list_machines(v1::ListMachinesRequest::default()).await;
                let machines = answer.map_err(|status| status.to_string())?.into_inner().machines;
                let all = machines.len() >= N && machines.iter().all(|m| m.last_seen.is_some());
                all.then_some(machines).ok_or_else(|| "not all machines are there".to_owned())
            }
        })
        .await;
        names.map(|name| {
            let is_it = |m: &&v1::Machine| m.labels.get("name").is_some_and(|label| label == name);
            machines.iter().find(is_it).expect("is listed").id.clone()
        })
    }
}

/// A made-up fleet that sends.
#[derive(Debug)]
pub(super) struct Load(JoinHandle<Output>);

impl Load {
    pub(super) fn is_over(&self) -> bool {
        self.0.is_finished()
    }

    /// What it reports at its end.
    pub(super) async fn report(self) -> serde_json::Value {
        let output = self.0.await.expect("no panic");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}

/// Where private servers come from; nothing where there are none, which is said, and a failure under `CI=true`.
pub(crate) fn root() -> Option<DebianRoot> {
    if std::env::var("CI").is_ok_and(|ci| ci == "true") {
        return Some(DebianRoot::make_available(&cache()).expect("private servers"));
    }
    let root = DebianRoot::find(&cache()).expect("a root that can be used");
    if root.is_none() {
        eprintln!("skipped: there are no private servers; `cargo xtask outage` installs them");
    }
    root
}

/// The user of the database that aggregators run as: it owns nothing.
const USER: &str = "muster_app";

/// As somebody does it who sets up a database.
fn grant(root: &DebianRoot, redis: &Server, timescale: &Server) {
    let make = format!("create role {USER} login password '{USER}'");
    timescale.sql(root, &make).expect("a user");
    let mut migrate = process::muster();
    migrate.args(["migrate", "--grant", USER]).envs(settings(redis, timescale.url()));
    let output = migrate.output().expect("runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.ends_with("timescaledb: muster_app may use it\n"), "{output:?}");
}

fn as_user(timescale: &Server) -> String {
    let (_, address) = timescale.url().split_once('@').expect("a password, and an address");
    format!("postgres://{USER}:{USER}@{address}")
}

fn settings(redis: &Server, timescale: &str) -> [(&'static str, String); 4] {
    let (redis, timescale) = (redis.url().to_owned(), timescale.to_owned());
    [
        ("MUSTER_STORAGE__LIVE__REDIS__URL", redis.clone()),
        ("MUSTER_STORAGE__EVENTS__REDIS__URL", redis),
        ("MUSTER_STORAGE__HISTORY__KIND__TIMESCALE__URL", timescale.clone()),
        ("MUSTER_STORAGE__ALERTS__TIMESCALE__URL", timescale),
    ]
}

async fn is_ready(role: &Role) {
    let address = role.address;
    eventually(PATIENCE, || async move {
        let connected = tokio::net::TcpStream::connect(address).await;
        connected.map_err(|error| error.to_string())?;
        let (status, body) = cluster::get(address, "/readyz").await;
        (status == 200).then_some(()).ok_or(body)
    })
    .await;
}

/// Blocking work, beside what the test does meanwhile.
pub(crate) fn beside<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}
