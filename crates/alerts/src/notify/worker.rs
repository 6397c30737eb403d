//! One worker per channel: takes what waits from the store, sends it, forgets it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use model::UnixMillis;
use storage::StorageError;
use storage::alerting::{Alerting, Queued};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::breaker::Breaker;
use super::plan::plan;
use super::{Answer, Channel, Directory, Message, Sender};
use crate::attendant::Rolls;
use crate::book::now;
use crate::metrics::{Metrics, Sent};

/// Notices that are looked at together.
const LOOK_AT: usize = 1000;
/// Without news a worker looks this often, in case it missed some.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Of what other services have to tell there is no news.
const LOOK_EVERY_SHARED: Duration = Duration::from_secs(1);
const LAST_MOMENT: Duration = Duration::from_secs(5);
const STORE_PAUSE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Pacing {
    pub(crate) group_interval_ms: i64,
    pub(crate) give_up_after_ms: i64,
    pub(crate) queue_max: usize,
}

/// All workers; starts and stops them as channels come and go.
#[derive(Clone, Debug)]
pub(crate) struct Workers {
    pub(crate) store: Arc<dyn Alerting>,
    pub(crate) directory: Directory,
    pub(crate) sender: Sender,
    pub(crate) pacing: Pacing,
    pub(crate) metrics: Metrics,
    /// Moves whenever there may be something new to tell.
    pub(crate) news: watch::Receiver<u64>,
    /// Which channels this service serves.
    pub(crate) rolls: Rolls,
}

impl Workers {
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut channels = self.directory.follow();
        let mut rolls = self.rolls.clone();
        let mut tasks = JoinSet::new();
        let mut running: HashMap<String, (Channel, CancellationToken)> = HashMap::new();
        loop {
            let wanted = channels.borrow_and_update().clone();
            rolls.latest();
            let is_ours = |channel: &Channel| channel.enabled && rolls.serves(&channel.id);
            running.retain(|_, (channel, stop)| {
                let stays = is_ours(channel) && wanted.contains(channel);
                if !stays {
                    stop.cancel();
                }
                stays
            });
            for channel in wanted.iter().filter(|channel| is_ours(channel)) {
                if running.contains_key(&channel.id) {
                    continue;
                }
                let stop = shutdown.child_token();
                let worker = self.worker(channel.clone());
                tasks.spawn(worker.run(stop.clone()));
                running.insert(channel.id.clone(), (channel.clone(), stop));
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                changed = channels.changed() => if changed.is_err() { break },
                () = rolls.changed() => {}
                Some(ended) = tasks.join_next() => if let Err(error) = ended {
                    tracing::error!(%error, "a notification worker failed");
                    // Which one is not known: all begin again, from the store.
                    running.drain().for_each(|(_, (_, stop))| stop.cancel());
                },
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    fn worker(&self, channel: Channel) -> Worker {
        Worker { channel, all: self.clone(), breaker: Breaker::default(), sent: HashMap::new() }
    }
}

struct Worker {
    channel: Channel,
    all: Workers,
    breaker: Breaker,
    /// When each grouping was told last.
    sent: HashMap<String, UnixMillis>,
}

impl Worker {
    async fn run(mut self, stop: CancellationToken) {
        let mut news = self.all.news.clone();
        loop {
            news.mark_unchanged();
            let pause = match self.round(&stop).await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::warn!(channel.id = self.channel.id, %error, "failed to read what has to be told");
                    STORE_PAUSE
                }
            };
            // After a failure news does not shorten the pause: the receiver needs it.
            let waits_for_receiver = self.breaker.has_failed();
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                changed = news.changed(), if !waits_for_receiver => if changed.is_err() { return },
            }
        }
    }

    /// Tells what is ready. Returns how long there is nothing to do.
    async fn round(&mut self, stop: &CancellationToken) -> Result<Duration, StorageError> {
        let look_every = match self.all.store.shards() {
            1 => LOOK_EVERY,
            _ => LOOK_EVERY_SHARED,
        };
        if !self.all.rolls.serves(&self.channel.id) {
            // Somebody else may tell the same. This one is stopped soon, or holds it again.
            return Ok(look_every);
        }
        let waiting = self.waiting().await?;
        let plan = plan(&waiting, &self.sent, self.all.pacing.group_interval_ms, now());
        for places in &plan.messages {
            let batch: Vec<&Queued> = places.iter().map(|place| &waiting[*place]).collect();
            let Some(answer) = self.send(&batch, stop).await? else { return Ok(look_every) };
            if let Answer::Retry { reason, after } = answer {
                return Ok(self.failed(reason, after));
            }
        }
        if !plan.messages.is_empty() {
            // There may be more of it.
            return Ok(Duration::ZERO);
        }
        let wake = plan.wake.map(|wake| Duration::from_millis(wake.since(now()).max(0) as u64));
        Ok(wake.unwrap_or(look_every).min(look_every))
    }

    /// What waits, without what waited for too long or does not fit.
    async fn waiting(&self) -> Result<Vec<Queued>, StorageError> {
        let (store, id) = (&self.all.store, &self.channel.id);
        let over = store.queue_len(id).await?.saturating_sub(self.all.pacing.queue_max);
        if over > 0 {
            let oldest = store.queued(id, over).await?;
            self.bury(&oldest.iter().collect::<Vec<_>>(), "its channel's queue was full").await?;
        }
        let waiting = store.queued(id, LOOK_AT).await?;
        let too_old = now() - self.all.pacing.give_up_after_ms;
        // What was revived waits anew: it is due later than it was made.
        let (old, waiting): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|q| q.notice.due < too_old);
        if !old.is_empty() {
            let last = self.all.directory.health_of(id).last_error;
            let reason = format!("it could not be told for too long; the last answer was: {last}");
            self.bury(&old.iter().collect::<Vec<_>>(), &reason).await?;
        }
        Ok(waiting)
    }

    /// `None` when told to stop meanwhile, or when another service may serve the channel.
    async fn send(
        &mut self,
        batch: &[&Queued],
        stop: &CancellationToken,
    ) -> Result<Option<Answer>, StorageError> {
        let notices = batch.iter().filter_map(|q| serde_json::from_str(&q.notice.document).ok());
        let message = Message::new(notices.collect());
        if message.notices.len() < batch.len() {
            self.bury(batch, "it cannot be read by this version").await?;
            return Ok(Some(Answer::Refused { reason: String::new() }));
        }
        let mut rolls = self.all.rolls.clone();
        let answer = tokio::select! {
            biased;
            () = rolls.lose(&self.channel.id) => return Ok(None),
            answer = self.all.sender.send(&self.channel.address, &message) => answer,
            () = last_moment(stop) => return Ok(None),
        };
        let outcome = match &answer {
            Answer::Delivered { .. } => "delivered",
            Answer::Retry { .. } => "retried",
            Answer::Refused { .. } => "refused",
        };
        let kind = self.channel.address.kind();
        self.all.metrics.messages.get_or_create(&Sent { kind, outcome }).inc();
        if let Some(first) = batch.first() {
            self.sent.insert(first.notice.grouping.clone(), now());
        }
        match &answer {
            Answer::Delivered { .. } => {
                self.breaker.succeeded();
                self.all.directory.note(&self.channel.id, |health| {
                    health.suspended = false;
                    health.last_success = Some(now());
                });
                self.forget(batch).await;
            }
            Answer::Refused { reason } => {
                tracing::warn!(
                    channel.id = self.channel.id,
                    reason,
                    "a message was refused for good"
                );
                self.note_failure(reason, false);
                self.bury(batch, reason).await?;
            }
            Answer::Retry { .. } => {}
        }
        Ok(Some(answer))
    }

    fn failed(&mut self, reason: String, after: Option<Duration>) -> Duration {
        let was_suspended = self.breaker.is_suspended();
        let pause = self.breaker.failed(after, jitter());
        if self.breaker.is_suspended() && !was_suspended {
            tracing::error!(
                channel.id = self.channel.id,
                reason,
                "a notification channel keeps failing, it is tried more rarely"
            );
        }
        self.note_failure(&reason, self.breaker.is_suspended());
        pause
    }

    fn note_failure(&self, reason: &str, suspended: bool) {
        self.all.directory.note(&self.channel.id, |health| {
            health.suspended = suspended;
            health.last_failure = Some(now());
            reason.clone_into(&mut health.last_error);
        });
    }

    /// What was told must be forgotten before anything else is: else it would be told again.
    async fn forget(&self, batch: &[&Queued]) {
        let ids: Vec<i64> = batch.iter().map(|queued| queued.id).collect();
        // A few seconds bridge a store that is busy; if it is gone for good there is nothing to tell either.
        for _ in 0..30 {
            match self.all.store.told(&ids).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(channel.id = self.channel.id, %error, "failed to note what was told");
                    tokio::time::sleep(STORE_PAUSE).await;
                }
            }
        }
    }

    async fn bury(&self, batch: &[&Queued], reason: &str) -> Result<(), StorageError> {
        let ids: Vec<i64> = batch.iter().map(|queued| queued.id).collect();
        self.all.store.bury(&ids, reason, now()).await?;
        self.all.metrics.notices_dead.inc_by(ids.len() as u64);
        Ok(())
    }
}

/// A message on its way gets a moment to arrive: cut off, it would be sent again by the next start.
async fn last_moment(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(LAST_MOMENT).await;
}

/// From 0 to 1; need not be good, only different from others'.
fn jitter() -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    (RandomState::new().hash_one(0u8) % 1000) as f64 / 1000.0
}
