//! What programs on this machine measure and send, where its owner wants them to.
//!
//! Each way in is one file of this module. What comes in is summed up by one task in a bounded [`Tally`],
//! which gives a frame with every tick, as a probe does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::bail;
use model::UnixMillis;
use serde::Deserialize;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::CollectorStats;
use crate::delivery::Batch;
use crate::logs::Inlet;
use crate::settings::Settings;
use crate::ticker::Ticker;
use otlp::{Otlp, Unanswered};
use tally::Tally;

mod otlp;
mod statsd;
mod tally;

const DATAGRAM_BYTES_MAX: usize = 64 * 1024;
/// Who sent metrics waits for the next frame, but no longer than this: clients are impatient.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// A quarter of what a machine may have: while names change, old layouts count beside new ones, and the
/// machine has series of its own.
const SERIES_MAX_MAX: usize = model::limits::SERIES_PER_MACHINE_MAX / 4;

/// The section `[collector.push]`. Nobody is listened to by default.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PushConfig {
    /// Series that programs may send together; further ones are refused and counted.
    pub series_max: usize,
    pub statsd: StatsdConfig,
    pub otlp: OtlpConfig,
}

/// The section `[collector.push.otlp]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpConfig {
    pub enabled: bool,
    /// For gRPC, and for HTTP with Protobuf or JSON; either takes both. Addresses of this machine alone.
    pub grpc: SocketAddr,
    pub http: SocketAddr,
}

/// The section `[collector.push.statsd]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StatsdConfig {
    pub enabled: bool,
    /// For UDP; an address of this machine alone.
    pub listen: SocketAddr,
    /// Where no tag says one.
    pub service: String,
}

impl Default for PushConfig {
    fn default() -> Self {
        Self { series_max: 2_000, statsd: StatsdConfig::default(), otlp: OtlpConfig::default() }
    }
}

impl Default for OtlpConfig {
    fn default() -> Self {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self { enabled: false, grpc: at(4317), http: at(4318) }
    }
}

impl Default for StatsdConfig {
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 8125));
        Self { enabled: false, listen, service: "statsd".to_owned() }
    }
}

impl PushConfig {
    /// # Errors
    /// When a value cannot be used. The message names its key.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.series_max > SERIES_MAX_MAX {
            let found = self.series_max;
            bail!("collector.push.series_max: expected at most {SERIES_MAX_MAX}, found {found}");
        }
        if self.statsd.service.is_empty() || self.statsd.service.len() > 255 {
            bail!("collector.push.statsd.service: expected 1 to 255 bytes");
        }
        crate::logs::check_loopback("collector.push.otlp.grpc", self.otlp.grpc)?;
        crate::logs::check_loopback("collector.push.otlp.http", self.otlp.http)?;
        crate::logs::check_loopback("collector.push.statsd.listen", self.statsd.listen)
    }
}

/// The ways in, bound, before anything is taken in.
#[derive(Debug)]
pub(crate) struct Push {
    statsd: Option<UdpSocket>,
    /// Listeners, and what serves them.
    otlp: Option<([TcpListener; 2], Otlp)>,
    metrics: mpsc::Receiver<otlp::Metrics>,
    service: String,
    tally: Tally,
    stats: Arc<CollectorStats>,
    /// Whether a line that could not be read was told.
    has_complained: bool,
    /// Answers that wait for the next frame, and when that comes at the latest.
    unanswered: Vec<Unanswered>,
    answer_at: Option<Instant>,
}

impl Push {
    /// `None` when nobody is to be listened to. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// When an address cannot be listened on.
    pub(crate) fn bind(
        config: &PushConfig,
        logs: Inlet,
        stats: Arc<CollectorStats>,
    ) -> anyhow::Result<Option<Self>> {
        let enabled = config.statsd.enabled;
        let statsd = enabled.then(|| statsd::bind(config.statsd.listen)).transpose()?;
        let (sender, metrics) = mpsc::channel(otlp::REQUESTS_MAX);
        let listen = || {
            let grpc = otlp::bind("collector.push.otlp.grpc", config.otlp.grpc)?;
            let http = otlp::bind("collector.push.otlp.http", config.otlp.http)?;
            anyhow::Ok([grpc, http])
        };
        let listeners = config.otlp.enabled.then(listen).transpose()?;
        let turns = Arc::new(Semaphore::new(otlp::AT_ONCE_MAX));
        let otlp = Otlp { metrics: sender, logs: Arc::new(logs), turns };
        let otlp = listeners.map(|listeners| (listeners, otlp));
        let tally = Tally::new(config.series_max, Instant::now());
        let service = config.statsd.service.clone();
        let push = Self {
            statsd,
            otlp,
            metrics,
            service,
            tally,
            stats,
            has_complained: false,
            unanswered: Vec::new(),
            answer_at: None,
        };
        Ok((push.statsd.is_some() || push.otlp.is_some()).then_some(push))
    }

    /// Takes in and gives frames until `stop` is cancelled or the delivery is gone.
    pub(crate) async fn run(
        mut self,
        mut settings: watch::Receiver<Settings>,
        batches: mpsc::Sender<Batch>,
        stop: CancellationToken,
    ) {
        if let Some((listeners, otlp)) = self.otlp.take() {
            for listener in listeners {
                tokio::spawn(otlp.clone().run(listener, stop.clone()));
            }
        }
        let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
        let ticker = |settings: &mut watch::Receiver<Settings>| {
            Ticker::new(settings.borrow_and_update().interval_in_force(), clock())
        };
        let mut ticks = ticker(&mut settings);
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    // What was taken in since the last tick was answered for.
                    let _ = self.hand_over(&batches);
                    return;
                }
                changed = settings.changed() => match changed {
                    Ok(()) => ticks = ticker(&mut settings),
                    Err(_) => return,
                },
                _ = ticks.tick() => if self.hand_over(&batches).is_err() {
                    return;
                },
                () = at(self.answer_at) => if self.hand_over(&batches).is_err() {
                    return;
                },
                Some(metrics) = self.metrics.recv() => {
                    let now = Instant::now();
                    self.unanswered.push(metrics.take_in(&mut self.tally, now));
                    self.answer_at.get_or_insert(now + ANSWER_WITHIN);
                }
                received = receive(self.statsd.as_ref(), &mut datagram) => {
                    if let Ok(length) = received {
                        self.take_in(&datagram[..length]);
                    }
                }
            }
        }
    }

    /// Everything as it is now goes to the spool; then who waits for that is answered.
    fn hand_over(&mut self, batches: &mpsc::Sender<Batch>) -> Result<(), Closed> {
        self.answer_at = None;
        let permit = match batches.try_reserve() {
            Ok(permit) => permit,
            // An instant is lost, no count: that goes on in the tally. Answers wait on.
            Err(mpsc::error::TrySendError::Full(())) => {
                self.stats.add_ticks_missed(1);
                return Ok(());
            }
            Err(mpsc::error::TrySendError::Closed(())) => return Err(Closed),
        };
        let mut batch = self.tally.frames(clock(), Instant::now());
        self.tell();
        let unanswered = std::mem::take(&mut self.unanswered);
        if batch.payloads.is_empty() {
            // Nothing of it was taken.
            unanswered.into_iter().for_each(Unanswered::answer);
            return Ok(());
        }
        if !unanswered.is_empty() {
            let (sender, kept) = oneshot::channel();
            batch.kept = Some(sender);
            tokio::spawn(async move {
                if kept.await.is_ok() {
                    unanswered.into_iter().for_each(Unanswered::answer);
                }
            });
        }
        permit.send(batch);
        Ok(())
    }

    fn take_in(&mut self, datagram: &[u8]) {
        let problem = statsd::take_in(datagram, &self.service, &mut self.tally, Instant::now());
        if let Some(problem) = problem
            && !std::mem::replace(&mut self.has_complained, true)
        {
            tracing::warn!(%problem, "a line of StatsD is not understood; further ones are only counted");
        }
    }

    fn tell(&mut self) {
        self.stats.add_push_refused(self.tally.take_refused());
        self.stats.set_push_series(self.tally.series() as u64);
    }
}

/// The delivery is gone.
struct Closed;

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

async fn receive(socket: Option<&UdpSocket>, datagram: &mut [u8]) -> std::io::Result<usize> {
    match socket {
        Some(socket) => socket.recv(datagram).await,
        None => std::future::pending().await,
    }
}

fn clock() -> UnixMillis {
    UnixMillis::from(SystemTime::now())
}

#[cfg(test)]
mod tests;
