//! The channels there are, and how they are doing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use model::UnixMillis;
use serde::{Deserialize, Serialize};
use storage::StorageError;
use storage::alerting::{Alerting, Setting, SettingKind};
use tokio::sync::watch;

use super::Channel;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Health {
    pub(crate) suspended: bool,
    pub(crate) last_success: Option<UnixMillis>,
    pub(crate) last_failure: Option<UnixMillis>,
    pub(crate) last_error: String,
}

#[derive(Serialize, Deserialize)]
struct Note {
    suspended: bool,
    last_success: Option<i64>,
    last_failure: Option<i64>,
    last_error: String,
}

/// Cheap to clone; all clones are the same directory.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    store: Arc<dyn Alerting>,
    channels: watch::Sender<Arc<Vec<Channel>>>,
    /// Written by the workers, read by the RPC; held for a look-up only.
    health: Arc<Mutex<HashMap<String, Health>>>,
}

impl Directory {
    pub(crate) fn new(store: Arc<dyn Alerting>) -> Self {
        Self { store, channels: watch::Sender::default(), health: Arc::default() }
    }

    /// Reads the channels again and tells the workers.
    pub(crate) async fn reload(&self) -> Result<Arc<Vec<Channel>>, StorageError> {
        let settings = self.store.settings(SettingKind::Channel).await?;
        let channels: Arc<Vec<_>> = Arc::new(settings.iter().filter_map(read).collect());
        self.health().retain(|id, _| channels.iter().any(|channel| channel.id == *id));
        self.channels.send_if_modified(|before| {
            let changed = **before != *channels;
            *before = channels.clone();
            changed
        });
        Ok(channels)
    }

    pub(crate) fn follow(&self) -> watch::Receiver<Arc<Vec<Channel>>> {
        self.channels.subscribe()
    }

    pub(crate) fn health_of(&self, channel: &str) -> Health {
        self.health().get(channel).cloned().unwrap_or_default()
    }

    pub(crate) fn channels(&self) -> Arc<Vec<Channel>> {
        self.channels.borrow().clone()
    }

    /// How a channel is doing, for services that do not serve it.
    pub(crate) fn note_of(&self, channel: &str) -> String {
        let health = self.health_of(channel);
        let note = Note {
            suspended: health.suspended,
            last_success: health.last_success.map(|time| time.0),
            last_failure: health.last_failure.map(|time| time.0),
            last_error: health.last_error,
        };
        serde_json::to_string(&note).expect("texts and numbers are always JSON")
    }

    /// What the service that serves the channel notes of it.
    pub(crate) fn learn(&self, channel: &str, note: &str) {
        let Ok(note) = serde_json::from_str::<Note>(note) else { return };
        self.note(channel, |health| {
            *health = Health {
                suspended: note.suspended,
                last_success: note.last_success.map(UnixMillis),
                last_failure: note.last_failure.map(UnixMillis),
                last_error: note.last_error,
            };
        });
    }

    pub(super) fn note(&self, channel: &str, change: impl FnOnce(&mut Health)) {
        change(self.health().entry(channel.to_owned()).or_default());
    }

    fn health(&self) -> std::sync::MutexGuard<'_, HashMap<String, Health>> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn read(setting: &Setting) -> Option<Channel> {
    let channel =
        Channel::from_json(&setting.id, setting.revision, &setting.name, &setting.document);
    if channel.is_none() {
        tracing::error!(channel.id = setting.id, "a stored channel cannot be read, it is left out");
    }
    channel
}
