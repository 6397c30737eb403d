//! Says once a second that this service is there, and learns what is its own: which machines it watches,
//! which channels it serves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use storage::StorageError;
use storage::alerting::{Alerting, Attendance};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::notify::{Channel, Directory};

const EVERY: Duration = Duration::from_secs(1);
/// A call that takes longer is given up: the next may find the store well again.
const PATIENCE: Duration = Duration::from_secs(4);

/// What was learnt last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roll {
    pub(crate) attendance: Attendance,
    /// Until then nobody else serves its channels. For ever when absent.
    until: Option<Instant>,
}

/// What everybody in this process may ask. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Rolls(watch::Receiver<Arc<Roll>>);

impl Rolls {
    pub(crate) fn latest(&mut self) -> Arc<Roll> {
        self.0.borrow_and_update().clone()
    }

    /// Waits for news; for ever once the attendant ended.
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// Whether this service is the one that serves the channel.
    pub(crate) fn serves(&self, channel: &str) -> bool {
        let roll = self.0.borrow();
        let mine = roll.attendance.channels.get(channel).is_some_and(|serving| serving.mine);
        mine && roll.until.is_none_or(|until| Instant::now() < until)
    }

    /// Returns when it is not any more.
    pub(crate) async fn lose(&mut self, channel: &str) {
        while self.serves(channel) {
            let until = self.0.borrow_and_update().until;
            let over = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = over => {}
                () = self.changed() => {}
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct Attendant {
    store: Arc<dyn Alerting>,
    directory: Directory,
    service: String,
    roll: watch::Sender<Arc<Roll>>,
}

impl Attendant {
    /// Takes its part at once.
    pub(crate) async fn open(
        store: Arc<dyn Alerting>,
        directory: Directory,
    ) -> Result<Self, StorageError> {
        let service = format!("{}-{:016x}", std::process::id(), random());
        let attendant = Self { store, directory, service, roll: watch::Sender::default() };
        attendant.directory.reload().await?;
        attendant.attend().await?;
        Ok(attendant)
    }

    pub(crate) fn rolls(&self) -> Rolls {
        Rolls(self.roll.subscribe())
    }

    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut channels = self.directory.follow();
        let mut failing = false;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
                // A channel that is new need not wait.
                changed = channels.changed() => if changed.is_err() { return },
            }
            let outcome = tokio::time::timeout(PATIENCE, self.attend()).await;
            let error = match outcome {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("no answer within {PATIENCE:?}")),
            };
            match error {
                None => failing = false,
                Some(error) if !failing => {
                    failing = true;
                    tracing::warn!(error, "failed to tell the other alert services of this one");
                }
                Some(_) => {}
            }
        }
    }

    async fn attend(&self) -> Result<(), StorageError> {
        let begin = Instant::now();
        let channels = self.directory.channels();
        let note = |channel: &Channel| (channel.id.clone(), self.directory.note_of(&channel.id));
        let enabled: BTreeMap<String, String> =
            channels.iter().filter(|channel| channel.enabled).map(note).collect();
        let attendance = self.store.attend(&self.service, &enabled).await?;
        for (channel, serving) in attendance.channels.iter().filter(|(_, s)| !s.mine) {
            self.directory.learn(channel, &serving.note);
        }
        let until = attendance.lease.map(|lease| begin + lease);
        self.roll.send_replace(Arc::new(Roll { attendance, until }));
        Ok(())
    }

    /// For whoever ends: the others need not wait until it is missed.
    pub(crate) fn farewell(&self) -> Farewell {
        Farewell { store: self.store.clone(), service: self.service.clone() }
    }
}

#[derive(Debug)]
pub(crate) struct Farewell {
    store: Arc<dyn Alerting>,
    service: String,
}

impl Farewell {
    pub(crate) async fn say(self) -> Result<(), StorageError> {
        self.store.leave(&self.service).await
    }
}

/// Need not be good, only different from others'.
fn random() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0u8)
}
