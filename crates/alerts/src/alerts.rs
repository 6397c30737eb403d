//! The role: its parts, and how they begin and end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use model::limits;
use prometheus_client::registry::Registry as MetricsRegistry;
use proto::v1::alert_config_service_server::AlertConfigServiceServer;
use proto::v1::alert_service_server::AlertServiceServer;
use storage::{EventStream, Stores};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;

use crate::api::Api;
use crate::attendant::Attendant;
use crate::book::Book;
use crate::config::{Config, millis};
use crate::desk::Pace;
use crate::keeper::Keeper;
use crate::letters::{Letters, letters};
use crate::metrics::Metrics;
use crate::notify::{Directory, Pacing, Sender, Workers};
use crate::rule;
use crate::rules_file::RulesFile;
use crate::watch::{Command, State, Watcher};

/// Requests that wait for the watcher.
const COMMANDS_MAX: usize = 64;
/// Batches of changes that wait for the store. Above it watching waits: nobody may be told of what is not
/// kept.
const KEEP_MAX: usize = 1024;
/// Samples of probes that wait for who follows them slowly.
const PROBES_MAX: usize = 64;
/// How long the end may wait for a store that does not answer.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The alert service over its stores. [`routes`](Self::routes) may be served as soon as it is open; they
/// answer while it [runs](Self::run).
#[derive(Debug)]
pub struct Alerts {
    api: Api,
    attendant: Attendant,
    watcher: Watcher,
    keeper: Keeper,
    letters: Letters,
    workers: Workers,
    rules_file: Option<RulesFile>,
    /// Ends when its last owner goes, and that may be this service.
    events: Arc<dyn EventStream>,
}

impl Alerts {
    /// Goes on where the service stood: rules, machines, alerts. On the very first start the default rules
    /// are made.
    ///
    /// # Errors
    /// A configuration that cannot work, and a store that cannot be read.
    pub async fn open(
        config: Config,
        stores: Stores,
        metrics: &mut MetricsRegistry,
    ) -> anyhow::Result<Self> {
        config.check()?;
        let metrics = Metrics::register(metrics);
        let store = stores.alerting;
        // From here on nothing that happens is missed.
        let subscription =
            stores.events.subscribe().await.context("failed to read the event stream")?;
        let book = Book::new(store.clone());
        let defaults = rule::defaults().context("failed to read the default rules")?;
        book.seed(defaults).await.context("failed to make the default rules")?;

        let (send_command, commands) = mpsc::channel::<Command>(COMMANDS_MAX);
        let (keep, queue) = mpsc::channel(KEEP_MAX);
        let (probes, _) = broadcast::channel(PROBES_MAX);
        let follow = probes.downgrade();
        let (news, hear_news) = watch::channel(0);
        let directory = Directory::new(store.clone());
        let notify = &config.notify;
        let pace = Pace {
            group_wait_ms: millis(notify.group_wait),
            repeat_ms: millis(notify.repeat_interval),
        };
        let attendant = Attendant::open(store.clone(), directory.clone()).await;
        let attendant = attendant.context("failed to join the alert services")?;
        let (letterbox, letters) = letters(stores.events.clone(), metrics.clone());
        let mut watcher = Watcher {
            store: store.clone(),
            book: book.clone(),
            directory: directory.clone(),
            registry: stores.registry.clone(),
            subscription,
            letterbox,
            commands,
            keep,
            rolls: attendant.rolls(),
            metrics: metrics.clone(),
            pace,
            series_per_rule_max: config.series_per_rule_max,
            probes,
            state: State::default(),
        };
        watcher.restore().await?;
        let sender = Sender::new(notify.timeout.get())?;
        let workers = Workers {
            store: store.clone(),
            directory: directory.clone(),
            sender: sender.clone(),
            pacing: Pacing {
                group_interval_ms: millis(notify.group_interval),
                give_up_after_ms: millis(notify.give_up_after),
                queue_max: notify.queue_max,
            },
            metrics: metrics.clone(),
            news: hear_news,
            rolls: attendant.rolls(),
        };
        let numbers = HashMap::new();
        let keeper = Keeper { store: store.clone(), queue, news, metrics, numbers };
        let rules_file = config.rules_file.map(|path| RulesFile {
            path,
            book: book.clone(),
            watcher: send_command.clone(),
        });
        let api = Api {
            store,
            book,
            directory,
            sender,
            watcher: send_command,
            events: stores.events.clone(),
            history: stores.history,
            registry: stores.registry,
            series_per_rule_max: config.series_per_rule_max,
            probes: follow,
            tests: Arc::new(tokio::sync::Semaphore::new(1)),
        };
        Ok(Self {
            api,
            attendant,
            watcher,
            keeper,
            letters,
            workers,
            rules_file,
            events: stores.events,
        })
    }

    /// `AlertConfigService` and `AlertService`, with their limits on messages.
    pub fn routes(&self) -> Routes {
        let config = AlertConfigServiceServer::new(self.api.clone())
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
        let alerts = AlertServiceServer::new(self.api.clone())
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
        Routes::new(config).add_service(alerts)
    }

    /// Watches until `shutdown`; then what was decided is kept before this returns. What was not told yet
    /// waits in the store for the next start.
    ///
    /// # Errors
    /// A part that ended before its time.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self { api, attendant, watcher, keeper, letters, workers, rules_file, events } = self;
        // The routes keep their own copy: requests in flight are answered as long as the watcher is there.
        drop(api);
        let give_up = CancellationToken::new();
        let stop = shutdown.child_token();
        let farewell = attendant.farewell();
        let mut attendant = spawn(attendant.run(stop.clone()));
        let mut watcher = spawn(watcher.run(stop.clone()));
        let mut keeper = spawn(keeper.run(give_up.clone()));
        let mut letters = spawn(letters.run(stop.clone()));
        let mut workers = spawn(workers.run(stop.clone()));
        let file_stop = stop.clone();
        let mut file = spawn(async move {
            match rules_file {
                Some(rules_file) => rules_file.run(file_stop).await,
                None => file_stop.cancelled().await,
            }
        });
        let failed = tokio::select! {
            // All of them end when it does; only before it is that a failure.
            biased;
            () = shutdown.cancelled() => None,
            end = &mut attendant => Some(("attendant", end)),
            end = &mut watcher => Some(("watcher", end)),
            end = &mut keeper => Some(("keeper", end)),
            end = &mut letters => Some(("dead letters", end)),
            end = &mut workers => Some(("notification workers", end)),
            end = &mut file => Some(("reader of the rules file", end)),
        };
        stop.cancel();
        if let Some((part, end)) = failed {
            give_up.cancel();
            end.with_context(|| format!("the alert service's {part} failed"))?;
            anyhow::bail!("the alert service's {part} ended by itself");
        }
        watcher.await.context("the alert service's watcher failed")?;
        drop(events);
        // The watcher is gone, so the keeper ends when it has kept what it was given.
        if tokio::time::timeout(LAST_WORDS, &mut keeper).await.is_err() {
            give_up.cancel();
            keeper.await.context("the alert service's keeper failed")?;
        }
        file.await.context("the alert service's reader of the rules file failed")?;
        letters.await.context("the alert service's dead letters failed")?;
        workers.await.context("the alert service's notification workers failed")?;
        attendant.await.context("the alert service's attendant failed")?;
        // When nobody hears it, the others find out by themselves.
        if let Ok(Err(error)) = tokio::time::timeout(LAST_WORDS, farewell.say()).await {
            tracing::warn!(%error, "failed to hand over to the other alert services");
        }
        Ok(())
    }
}

/// A task that ends with whoever waits for it.
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(task))
}
