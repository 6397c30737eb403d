//! What is live: one upstream stream per thing, shared by everyone who looks at it.
//!
//! A viewer never has a queue. The fleet is a picture that is replaced, a machine's values are a ring
//! that is overwritten; each viewer remembers how far it has read. Who is slow reads newer values.

mod alerts;
mod feed;
mod fleet;
mod metrics;
mod spark;
mod upgrade;
mod viewer;
mod wire;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::registry::Registry;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::upstream::{self, Upstream};

pub(crate) use alerts::Alerts;
pub(crate) use feed::{Feed, Window};
pub(crate) use fleet::{Link, Picture, Row};
pub(crate) use metrics::Metrics;
pub(crate) use spark::{Line, Spark};
pub(crate) use upgrade::upgrade;
pub(crate) use wire::Number;

/// Machines whose every value is streamed at the same time. Each costs one upstream stream and a ring
/// of five minutes.
const FEEDS_MAX: usize = 256;

#[derive(Debug)]
pub(crate) struct Hub {
    upstream: Upstream,
    picture: watch::Sender<Arc<Picture>>,
    alert_service: upstream::Alerts,
    alerts: watch::Sender<Arc<Alerts>>,
    /// Told when a page begins to want alerts.
    alerts_wanted: Arc<Notify>,
    /// By machine id. Locked only to find, add or remove an entry.
    feeds: Arc<Mutex<HashMap<String, Arc<Feed>>>>,
    /// One permit per open page.
    places: Arc<Semaphore>,
    viewers_max: usize,
    metrics: Metrics,
    tasks: TaskTracker,
    /// Ends feeds and viewers; a child of nothing, so that it exists before `run`.
    stop: CancellationToken,
}

impl Hub {
    pub(crate) fn new(
        upstream: Upstream,
        alert_service: upstream::Alerts,
        viewers_max: usize,
        registry: &mut Registry,
    ) -> Self {
        Self {
            upstream,
            picture: watch::Sender::new(Arc::new(Picture::default())),
            alert_service,
            alerts: watch::Sender::new(Arc::default()),
            alerts_wanted: Arc::default(),
            feeds: Arc::default(),
            places: Arc::new(Semaphore::new(viewers_max)),
            viewers_max,
            metrics: Metrics::registered(registry),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Follows the fleet until `shutdown`, then waits for the viewers to have said goodbye.
    pub(crate) async fn run(&self, shutdown: CancellationToken) {
        let fleet =
            fleet::Follower::new(self.upstream.clone(), self.picture.clone(), self.metrics.clone());
        let alerts = alerts::Follower {
            service: self.alert_service.clone(),
            alerts: self.alerts.clone(),
            wanted: Arc::clone(&self.alerts_wanted),
        };
        let stop_alerts = shutdown.clone();
        tokio::join!(fleet.run(shutdown), stop_alerts.run_until_cancelled(alerts.run()));
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// A place for a page that is live; `None` when all are taken.
    pub(crate) fn take_place(&self) -> Option<Place> {
        let Ok(permit) = self.places.clone().try_acquire_owned() else {
            self.metrics.viewers_refused.inc();
            return None;
        };
        Some(Place { _permit: permit, _task: self.tasks.token(), stop: self.stop.clone() })
    }

    /// The fleet as it is known now.
    pub(crate) fn picture(&self) -> Arc<Picture> {
        Arc::clone(&self.picture.borrow())
    }

    /// What is wrong, as it is known now.
    pub(crate) fn alerts(&self) -> Arc<Alerts> {
        Arc::clone(&self.alerts.borrow())
    }

    /// The values of this machine: a feed that others already use, or a new one. `None` when too many
    /// machines are watched.
    pub(crate) fn feed(&self, machine_id: &str) -> Option<feed::Reader> {
        let mut feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        let full = feeds.len() >= FEEDS_MAX;
        let feed = match feeds.entry(machine_id.to_owned()) {
            Entry::Occupied(entry) => Arc::clone(entry.get()),
            Entry::Vacant(_) if full || self.stop.is_cancelled() => return None,
            Entry::Vacant(entry) => {
                let feed = Arc::clone(entry.insert(Arc::new(Feed::default())));
                let follower = feed::Follower {
                    machine_id: machine_id.to_owned(),
                    upstream: self.upstream.clone(),
                    feed: Arc::clone(&feed),
                    feeds: Arc::clone(&self.feeds),
                    metrics: self.metrics.clone(),
                };
                let stop = self.stop.clone();
                self.tasks.spawn(async move {
                    stop.run_until_cancelled(follower.run()).await;
                });
                feed
            }
        };
        // Made under the lock: a feed that nobody reads is removed under the same lock.
        Some(feed.reader())
    }

    pub(crate) fn figures(&self) -> Figures {
        Figures {
            viewers: self.viewers_max - self.places.available_permits(),
            viewers_max: self.viewers_max,
            feeds: self.feeds.lock().unwrap_or_else(PoisonError::into_inner).len(),
            messages: self.metrics.messages.get(),
            frames_missed: self.metrics.frames_missed.get(),
            viewers_refused: self.metrics.viewers_refused.get(),
            viewers_too_slow: self.metrics.viewers_too_slow.get(),
            upstream_losses: self.metrics.upstream_losses.get(),
        }
    }
}

/// Held by a live page until it ends; a shutdown waits for it.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    _task: TaskTrackerToken,
    stop: CancellationToken,
}

impl Place {
    /// Completes when the page must end.
    pub(crate) async fn stopping(&self) {
        self.stop.cancelled().await;
    }
}

/// What the health page says about the gateway itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) viewers: usize,
    pub(crate) viewers_max: usize,
    pub(crate) feeds: usize,
    pub(crate) messages: u64,
    pub(crate) frames_missed: u64,
    pub(crate) viewers_refused: u64,
    pub(crate) viewers_too_slow: u64,
    pub(crate) upstream_losses: u64,
}
