//! The role: its parts, and how they begin and end.

use std::sync::Arc;

use anyhow::Context as _;
use model::{LayoutPool, limits};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry as MetricsRegistry;
use proto::v1::collector_service_server::CollectorServiceServer;
use proto::v1::log_service_server::LogServiceServer;
use proto::v1::push_service_server::PushServiceServer;
use proto::v1::state_service_server::StateServiceServer;
use storage::Stores;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

use crate::clock::Now;
use crate::config::Config;
use crate::ingest::{Dock, Ingest, LogFilter, Push};
use crate::maintenance::{LastUsage, Maintenance};
use crate::metrics::Metrics;
use crate::pace::Pace;
use crate::query::{Desk, Dispatch, Hub, Query, Server};
use crate::roll::Roll;
use crate::roll::keeper::Keeper;
use crate::roll::pulse::Patience;
use crate::roll::registrar::Registrar;
use crate::settings::SettingsBoard;
use crate::writer::{Queue, Strain, Writer};

/// An aggregator over its stores. [`routes`](Self::routes) may be served as soon as it is open; only
/// while it [runs](Self::run) does it acknowledge.
#[derive(Debug)]
pub struct Aggregator {
    dock: Arc<Dock>,
    push: Push,
    query: Query,
    dispatch: Dispatch,
    writer: Writer,
    keeper: Keeper,
    registrar: Registrar,
    maintenance: Maintenance,
    pace: Pace,
}

impl Aggregator {
    /// Begins with the machines that the registry knows.
    /// `refusals` are what was refused before it came here, by name, to be told with its own.
    ///
    /// # Errors
    /// A configuration that cannot work, and a registry that cannot be read.
    pub async fn open(
        config: Config,
        stores: Stores,
        refusals: &[(&'static str, Counter)],
        metrics: &mut MetricsRegistry,
    ) -> anyhow::Result<Self> {
        config.check()?;
        let Stores { live, events, history, registry, credentials, conditions, .. } = stores;
        let metrics = Metrics::register(metrics).telling(refusals);
        let records =
            registry.machines().await.context("failed to read the register of machines")?;
        let patience = Patience {
            offline_after_min: config.status.offline_after.0,
            grace: config.status.grace_after_start.0,
        };
        let presences = live.presences().await.context("failed to read live state")?;
        let roll = Arc::new(Roll::new(patience));
        roll.restore(records, presences, Now::read());
        let strain = Arc::new(Strain::default());
        let (queue, waiting) = Queue::new(&config.writer, metrics.clone());
        let stopping = CancellationToken::new();
        let usage = LastUsage::default();
        let hub = Arc::new(Hub::default());
        let subscription = events.subscribe().await.context("failed to read the event stream")?;
        let dispatch = Dispatch {
            hub: hub.clone(),
            roll: roll.clone(),
            subscription,
            metrics: metrics.clone(),
        };
        let pace = Pace::new(metrics.clone());
        let server = Server::new(&config, pace.clone(), conditions);
        let dock = Dock {
            name: config.name,
            live: live.clone(),
            events: events.clone(),
            history: history.clone(),
            credentials,
            roll: roll.clone(),
            layouts: LayoutPool::default(),
            queue,
            strain: strain.clone(),
            patience: config.writer.patience.0,
            log_filter: LogFilter::new(&config.logs),
            settings: SettingsBoard::new(config.collectors),
            metrics: metrics.clone(),
            stopping: stopping.clone(),
            sessions: TaskTracker::new(),
        };
        let desk = Desk {
            range_slots: Semaphore::new(config.query.concurrency_max),
            config: config.query,
            live: live.clone(),
            events: events.clone(),
            history: history.clone(),
            registry: registry.clone(),
            roll: roll.clone(),
            hub,
            usage: usage.clone(),
            metrics: metrics.clone(),
            server,
            stopping,
        };
        let query = Query(Arc::new(desk));
        let writer = Writer {
            queue: waiting,
            history: history.clone(),
            config: config.writer,
            metrics: metrics.clone(),
            strain,
        };
        let maintenance = Maintenance {
            history,
            registry: registry.clone(),
            roll: roll.clone(),
            usage,
            metrics: metrics.clone(),
        };
        let keeper = Keeper { roll: roll.clone(), live, events, metrics: metrics.clone() };
        let registrar = Registrar { roll, registry, metrics };
        let dock = Arc::new(dock);
        Ok(Self {
            push: Push::new(dock.clone()),
            dock,
            query,
            dispatch,
            writer,
            keeper,
            registrar,
            maintenance,
            pace,
        })
    }

    /// `CollectorService`, `PushService`, `StateService` and `LogService`, with their limits on messages.
    pub fn routes(&self) -> Routes {
        let collectors = CollectorServiceServer::new(Ingest(self.dock.clone()))
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(limits::MESSAGE_BYTES_MAX);
        let state = StateServiceServer::new(self.query.clone())
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
        let logs = LogServiceServer::new(self.query.clone())
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
        let push = PushServiceServer::new(self.push.clone())
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
        Routes::new(collectors).add_service(push).add_service(state).add_service(logs)
    }

    /// Changes how collectors work while they run.
    pub fn settings(&self) -> SettingsBoard {
        self.dock.settings.clone()
    }

    /// Works until `shutdown`. Then streams take nothing in any more, what they took in is committed and
    /// acknowledged, and everything is written out before this returns.
    ///
    /// # Errors
    /// A part that ended before its time.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self { dock, push, query: _, dispatch, writer, keeper, registrar, maintenance, pace } =
            self;
        let (draining, closing) = (CancellationToken::new(), CancellationToken::new());
        tokio::spawn(pace.run(dock.stopping.clone()));
        dock.sessions.spawn(push.run(dock.stopping.clone()));
        let mut writer = tokio::spawn(writer.run(draining.clone()));
        let mut keeper = tokio::spawn(keeper.run(closing.clone()));
        let mut registrar = tokio::spawn(registrar.run(closing.clone()));
        let mut maintenance = tokio::spawn(maintenance.run(dock.stopping.clone()));
        let mut dispatch = tokio::spawn(dispatch.run(dock.stopping.clone()));
        let failed = tokio::select! {
            () = shutdown.cancelled() => None,
            end = &mut writer => Some(("writer", end)),
            end = &mut keeper => Some(("roll keeper", end)),
            end = &mut registrar => Some(("registrar", end)),
            end = &mut maintenance => Some(("maintenance", end)),
            end = &mut dispatch => Some(("event dispatch", end)),
        };
        dock.stopping.cancel();
        dock.sessions.close();
        if let Some((part, end)) = failed {
            // Nothing more can be acknowledged or kept; the collectors have it all.
            return match end {
                Ok(()) => Err(anyhow::anyhow!("the {part} ended early")),
                Err(error) => Err(error).with_context(|| format!("the {part} failed")),
            };
        }
        // Sources first: after this nothing is handed to the writer any more.
        dock.sessions.wait().await;
        draining.cancel();
        writer.await.context("the writer failed")?;
        maintenance.await.context("maintenance failed")?;
        dispatch.await.context("the event dispatch failed")?;
        closing.cancel();
        keeper.await.context("the roll keeper failed")?;
        registrar.await.context("the registrar failed")
    }
}
