//! Who runs when: one task reads the machine, another delivers, and a short queue lies between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use daemon::tls::Client;
use model::{EventKind, Labels, MachineEvent, MachineId, Payload, UnixMillis};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::delivery::{Batch, Delivery, Introduction};
use crate::logs::Logs;
use crate::power::{self, Outlook, Power};
use crate::probe::{Prober, Readings};
use crate::push::{Push, PushConfig};
use crate::settings::Settings;
use crate::spool::{Limits, Spool};
use crate::state_dir::StateDir;
use crate::ticker::Ticker;
use crate::uplink::Target;
use crate::{CollectorStats, facts, identity};

/// Readings that wait for the disk. When there are more, ticks are missed, and counted.
const BATCHES_MAX: usize = 4;
/// How long nothing is read before a sleep that was announced, time asleep not counted. Sleep comes within
/// seconds; if it does not, and nobody says so, life goes on.
const BEFORE_SLEEP_MAX: Duration = Duration::from_secs(60);

/// Reads this machine and delivers what it read, until it is told to stop.
#[derive(Debug)]
pub struct Collector {
    machine_id: MachineId,
    sampler: Sampler,
    logs: Logs,
    push: PushConfig,
    delivery: Delivery,
    batches: (mpsc::Sender<Batch>, mpsc::Receiver<Batch>),
    tls: Option<Client>,
    stats: Arc<CollectorStats>,
    outlook: watch::Sender<Outlook>,
    state_dir: StateDir,
}

/// Reads the machine, tick by tick.
#[derive(Debug)]
struct Sampler {
    prober: Prober,
    settings: watch::Receiver<Settings>,
    outlook: watch::Receiver<Outlook>,
    /// Whether the aggregator is being told that the machine sleeps.
    suspend_told: Arc<AtomicBool>,
    own: Config,
    stats: Arc<CollectorStats>,
}

impl Collector {
    /// Takes hold of the state directory and opens the spool. Nothing is read or sent yet.
    ///
    /// # Errors
    /// When the configuration is out of bounds, the state directory cannot be written, or another
    /// collector uses it.
    pub fn open(config: Config, target: Target) -> anyhow::Result<Self> {
        let labels = config.check()?;
        let state_dir = StateDir::open(config.state_dir()?)?;
        let machine_id = identity::machine_id(state_dir.path())?;
        let stats = Arc::new(CollectorStats::default());
        let limits = Limits::new(config.spool.size_max.0);
        let spool = Spool::open(state_dir.path(), limits, Arc::clone(&stats))?;
        let logs = Logs {
            config: config.logs.clone(),
            places: spool.places().clone(),
            // The other half is for metrics.
            spool_bytes_max: config.spool.size_max.0 / 2,
            stats: Arc::clone(&stats),
        };
        let push = config.push.clone();
        let prober = Prober::new(config.prober(state_dir.path()), Arc::clone(&stats));
        let (asked, settings) = watch::channel(Settings::own(config.interval.get()));
        let tls = target.tls().cloned();
        let introduction = Introduction { machine_id, labels, facts: facts::read, clock };
        let (outlook, expected) = watch::channel(Outlook::default());
        let delivery =
            Delivery::new(introduction, spool, target, asked, expected.clone(), Arc::clone(&stats));
        let sampler = Sampler {
            prober,
            settings,
            outlook: expected,
            suspend_told: Arc::default(),
            own: config,
            stats: Arc::clone(&stats),
        };
        let batches = mpsc::channel(BATCHES_MAX);
        Ok(Self {
            machine_id,
            sampler,
            logs,
            push,
            delivery,
            batches,
            tls,
            stats,
            outlook,
            state_dir,
        })
    }

    pub fn machine_id(&self) -> MachineId {
        self.machine_id
    }

    pub fn stats(&self) -> Arc<CollectorStats> {
        Arc::clone(&self.stats)
    }

    /// Runs until `shutdown` is cancelled; then says goodbye, which takes two seconds at most.
    ///
    /// # Errors
    /// When a part of it could not start, or panicked.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        tracing::info!(
            machine.id = %self.machine_id,
            state_dir = %self.state_dir.path().display(),
            "collecting"
        );
        let told = Arc::clone(&self.sampler.suspend_told);
        let (log_sender, logs) = Logs::channel();
        let inlet = self.logs.inlet(log_sender.clone());
        let push = Push::bind(&self.push, inlet, Arc::clone(&self.stats))?;
        let stats = self.stats;
        if let Some(tls) = self.tls {
            tokio::spawn(follow_certificate(tls, Arc::clone(&stats), shutdown.clone()));
        }
        let is_delivered = move || stats.spool_items() == 0;
        let _power = Power::follow(power::system_bus(), self.outlook, told, is_delivered);
        let (batches, delivered) = self.batches;
        // Ends, too, with what is piped into it.
        let shutdown = shutdown.child_token();
        self.logs.start(self.sampler.settings.clone(), log_sender, &shutdown)?;
        let delivery = tokio::spawn(self.delivery.run(delivered, logs));
        if let Some(push) = push {
            let settings = self.sampler.settings.clone();
            tokio::spawn(push.run(settings, batches.clone(), shutdown.clone()));
        }
        // The delivery ends when there is nothing more to come.
        self.sampler.run(batches, shutdown).await;
        delivery.await?;
        drop(self.state_dir);
        Ok(())
    }
}

/// Looks at the TLS files, so that somebody is warned before a certificate ends however long the stream is open.
async fn follow_certificate(tls: Client, stats: Arc<CollectorStats>, stop: CancellationToken) {
    loop {
        stats.set_certificate_expires(tls.expires());
        if stop.run_until_cancelled(tls.next_look()).await.is_none() {
            return;
        }
    }
}

impl Sampler {
    async fn run(mut self, batches: mpsc::Sender<Batch>, shutdown: CancellationToken) {
        let started = Batch { payloads: vec![Payload::Event(started())], ..Batch::default() };
        if batches.send(started).await.is_err() {
            return;
        }
        let mut interval = self.own.interval.get();
        let mut ticker = Ticker::new(interval, clock());
        loop {
            let missed = tokio::select! {
                () = shutdown.cancelled() => return,
                changed = self.settings.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let asked = self.apply();
                    if asked != interval {
                        interval = asked;
                        ticker = Ticker::new(interval, clock());
                    }
                    continue;
                }
                () = is_sent_to_sleep(&mut self.outlook) => {
                    let event = Payload::Event(event(EventKind::Suspend, "going to sleep".to_owned()));
                    let batch = Batch { payloads: vec![event], ..Batch::default() };
                    if batches.send(batch).await.is_err() {
                        return;
                    }
                    self.sleep(&shutdown).await;
                    ticker = Ticker::new(interval, clock());
                    continue;
                }
                missed = ticker.tick() => missed,
            };
            if missed > 0 {
                self.stats.add_ticks_missed(missed);
            }
            let readings = tokio::select! {
                () = shutdown.cancelled() => return,
                readings = self.prober.tick(clock()) => readings,
            };
            if readings.events.iter().any(|event| moves_clocks_apart(event.kind)) {
                ticker = Ticker::new(interval, clock());
            }
            // Waits for the disk at most, never for the network.
            if batches.send(batch(readings)).await.is_err() {
                return;
            }
        }
    }

    /// Reads nothing until the machine is awake again: a frame would say that it is.
    async fn sleep(&mut self, shutdown: &CancellationToken) {
        self.suspend_told.store(true, Relaxed);
        let awake = self.outlook.wait_for(|outlook| *outlook != Outlook::Sleeps);
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = awake => {}
            () = tokio::time::sleep(BEFORE_SLEEP_MAX) => {}
        }
        self.suspend_told.store(false, Relaxed);
    }

    /// Applies what the aggregator asks for; returns the interval now in force.
    fn apply(&mut self) -> std::time::Duration {
        let settings = self.settings.borrow_and_update().clone();
        let processes = self.own.probes.process_interval.get();
        self.prober.set_process_interval(settings.process_interval.unwrap_or(processes));
        // The machine's owner has the last word: what is off here stays off.
        let mut disabled = self.own.probes.disabled.clone();
        disabled.extend(settings.disabled_probes.iter().cloned());
        self.prober.set_disabled(disabled);
        settings.interval_in_force()
    }
}

/// Whether the ticker, which follows the monotonic clock, has lost its step with the wall clock.
fn moves_clocks_apart(kind: EventKind) -> bool {
    matches!(kind, EventKind::ClockStep | EventKind::Resume)
}

/// Waits until it is announced that the machine sleeps. Cancel safe.
async fn is_sent_to_sleep(outlook: &mut watch::Receiver<Outlook>) {
    while outlook.changed().await.is_ok() {
        if *outlook.borrow_and_update() == Outlook::Sleeps {
            return;
        }
    }
    std::future::pending().await
}

fn batch(readings: Readings) -> Batch {
    let Readings { layouts, frames, processes, events } = readings;
    // Events first: they explain what the frames show.
    let events = events.into_iter().map(Payload::Event);
    let frames = frames.into_iter().map(Payload::Frame);
    let payloads = events.chain(frames).chain(processes.map(Payload::Processes)).collect();
    Batch { layouts, payloads, kept: None }
}

fn started() -> MachineEvent {
    event(EventKind::CollectorStart, format!("collector {} started", env!("CARGO_PKG_VERSION")))
}

fn event(kind: EventKind, detail: String) -> MachineEvent {
    MachineEvent { time: clock(), kind, detail, attributes: Labels::empty() }
}

fn clock() -> UnixMillis {
    UnixMillis::from(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use daemon::config::Span;

    use super::*;
    use crate::probe::ProberConfig;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn sampler(outlook: watch::Receiver<Outlook>, settings: watch::Receiver<Settings>) -> Sampler {
        let own = Config { interval: Span(Duration::from_millis(100)), ..Config::default() };
        let stats = Arc::new(CollectorStats::default());
        let prober = Prober::new(ProberConfig::default(), Arc::clone(&stats));
        Sampler { prober, settings, outlook, suspend_told: Arc::default(), own, stats }
    }

    async fn next(batches: &mut mpsc::Receiver<Batch>) -> Vec<Payload> {
        let batch = tokio::time::timeout(PATIENCE, batches.recv()).await.expect("in time");
        batch.expect("it runs").payloads
    }

    fn is_suspend(payload: &Payload) -> bool {
        matches!(payload, Payload::Event(event) if event.kind == EventKind::Suspend)
    }

    #[tokio::test]
    async fn a_machine_that_is_about_to_sleep_says_so_last() {
        let (outlook, expected) = watch::channel(Outlook::default());
        let (sender, mut batches) = mpsc::channel(BATCHES_MAX);
        let (asked, settings) = watch::channel(Settings::own(Duration::from_millis(100)));
        let sampler = sampler(expected, settings);
        let told = Arc::clone(&sampler.suspend_told);
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(sampler.run(sender, shutdown.clone()));
        outlook.send_replace(Outlook::Sleeps);
        while !next(&mut batches).await.iter().any(is_suspend) {}
        let silent = tokio::time::timeout(Duration::from_millis(500), batches.recv()).await;
        assert!(silent.is_err(), "{silent:?}");
        assert!(told.load(Relaxed));
        // Awake again, or never asleep: either way it goes on, once.
        outlook.send_replace(Outlook::Stays);
        for _ in 0..3 {
            assert!(!next(&mut batches).await.iter().any(is_suspend));
        }
        assert!(!told.load(Relaxed));
        shutdown.cancel();
        tokio::time::timeout(PATIENCE, running).await.expect("in time").expect("no panic");
        drop(asked);
    }
}
