//! What the alert service must not forget.
//!
//! Rules, channels and silences are documents here: what they mean is not this crate's business.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use model::{Labels, MachineId, TimeRange, UnixMillis};

use crate::StorageError;

mod sharing;
mod sqlite;
mod timescale;

pub use sharing::{Attendance, Batch, Claim, Errand, Serving, Shard};
pub use sqlite::SqliteAlerting;
pub use timescale::TimescaleAlerting;

/// Notices that could not be told, of each channel.
const DEAD_PER_CHANNEL_MAX: i64 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SettingKind {
    Rule,
    Channel,
    Silence,
    /// Something that was done once and must not be done again.
    Mark,
}

impl SettingKind {
    pub const ALL: [Self; 4] = [Self::Rule, Self::Channel, Self::Silence, Self::Mark];

    pub fn name(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Channel => "channel",
            Self::Silence => "silence",
            Self::Mark => "mark",
        }
    }
}

/// A named document with a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub kind: SettingKind,
    /// Unique within its kind, for ever.
    pub id: String,
    /// 1 for a new one; each save must add one.
    pub revision: u64,
    /// Unique within its kind.
    pub name: String,
    /// Where it came from: `default`, `rpc`, `file`.
    pub origin: String,
    /// JSON.
    pub document: String,
    pub updated: UnixMillis,
    pub updated_by: String,
}

/// Whether a save or a removal took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    Done,
    /// Somebody was faster: this revision is in force, or none when it does not exist.
    Conflict {
        current: Option<u64>,
    },
    /// Another one of its kind has this name.
    NameTaken,
}

/// Who changed what, from what to what. Without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    pub time: UnixMillis,
    pub actor: String,
    /// `create`, `update`, `delete`.
    pub action: String,
    pub kind: SettingKind,
    pub subject: String,
    pub before: String,
    pub after: String,
}

/// An alert that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertState {
    pub id: String,
    /// JSON.
    pub document: String,
}

/// One time that an alert fired.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    pub id: String,
    pub alert: String,
    pub rule: String,
    pub rule_name: String,
    pub machine: MachineId,
    pub host_name: String,
    /// Empty for rules about the machine itself.
    pub metric: String,
    pub labels: Labels,
    /// `warning` or `critical`.
    pub level: String,
    pub started: UnixMillis,
    pub resolved: Option<UnixMillis>,
    /// The worst value.
    pub peak: Option<f64>,
    pub summary: String,
    /// Why it ended; empty while it goes on.
    pub cause: String,
    pub acknowledged: Option<UnixMillis>,
    pub acknowledged_by: String,
    pub comment: String,
}

/// Something that one channel has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub channel: String,
    /// Notices of one grouping may be told together.
    pub grouping: String,
    pub incident: String,
    /// `firing`, `escalated`, `repeated`, `resolved`.
    pub kind: String,
    /// JSON.
    pub document: String,
    pub created: UnixMillis,
    /// Not to be told before this.
    pub due: UnixMillis,
}

/// A notice that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// Grows with every notice.
    pub id: i64,
    pub notice: Notice,
}

/// A notice that could not be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dead {
    pub id: i64,
    pub notice: Notice,
    pub reason: String,
    pub died: UnixMillis,
}

/// What a step of some alerts changes; takes effect as a whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlertChanges {
    /// Alerts that go on, new or changed.
    pub states: Vec<AlertState>,
    /// Alerts that are over.
    pub gone: Vec<String>,
    /// Incidents, new or changed.
    pub incidents: Vec<Incident>,
    pub notices: Vec<Notice>,
    /// Errands that were done.
    pub done: Vec<i64>,
}

impl AlertChanges {
    /// This alert goes on, whatever was said of it before.
    pub fn keep(&mut self, state: AlertState) {
        self.gone.retain(|id| *id != state.id);
        self.states.retain(|earlier| earlier.id != state.id);
        self.states.push(state);
    }

    /// This alert is over, whatever was said of it before.
    pub fn forget(&mut self, id: String) {
        self.states.retain(|earlier| earlier.id != id);
        self.gone.retain(|earlier| *earlier != id);
        self.gone.push(id);
    }

    /// Adds what happened after these.
    pub fn append(&mut self, later: Self) {
        for state in later.states {
            self.keep(state);
        }
        for id in later.gone {
            self.forget(id);
        }
        self.incidents.extend(later.incidents);
        self.notices.extend(later.notices);
        self.done.extend(later.done);
    }

    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
            && self.gone.is_empty()
            && self.incidents.is_empty()
            && self.notices.is_empty()
            && self.done.is_empty()
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct IncidentFilter {
    /// Those that started within; all when absent.
    pub started: Option<TimeRange>,
    pub rule: Option<String>,
    pub machine: Option<MachineId>,
    pub open_only: bool,
}

/// Port: the memory of the alert service.
///
/// A call that returned took effect durably. Calls are safe to cancel: they took effect or did not, and an
/// error of the kind `Unavailable` says neither. Repeating `record` with the same changes is right but for
/// its notices, which may then be told twice.
#[async_trait]
pub trait Alerting: Send + Sync + fmt::Debug {
    /// All of a kind, by name.
    async fn settings(&self, kind: SettingKind) -> Result<Vec<Setting>, StorageError>;

    /// Keeps the setting with its audit, when the revision in force is the one before it (none for
    /// revision 1) and its name is free.
    async fn save(&self, setting: Setting, audit: Audit) -> Result<Saved, StorageError>;

    /// Removes the setting when this revision is in force. A channel's notices go with it.
    async fn remove(
        &self,
        kind: SettingKind,
        id: &str,
        revision: u64,
        audit: Audit,
    ) -> Result<Saved, StorageError>;

    /// Newest first, at most `limit`; of one subject when given.
    async fn audits(
        &self,
        kind: SettingKind,
        subject: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Audit>, StorageError>;

    /// All alerts that go on.
    async fn states(&self) -> Result<Vec<AlertState>, StorageError>;

    /// Makes the changes durable in one transaction, whoever watches their machines.
    async fn record(&self, changes: AlertChanges) -> Result<(), StorageError>;

    /// How many parts the machines are divided into. 1: this memory serves one process, which has it all.
    fn shards(&self) -> u16;

    /// Says that this service is there and could serve these channels, each with what it notes of it if it
    /// does. It goes on with what it holds, and takes what nobody holds up to its part. To be repeated well
    /// within the lease.
    async fn attend(
        &self,
        service: &str,
        channels: &BTreeMap<String, String>,
    ) -> Result<Attendance, StorageError>;

    /// Makes the changes durable in one transaction, but for those whose claim is not in force any more,
    /// which it returns. At most one batch of each claim. Repeating it with the same numbers is right.
    async fn record_under(&self, batches: Vec<Batch>) -> Result<Vec<Claim>, StorageError>;

    /// Gives shards up, for others to take. What is recorded under these claims from now on is refused.
    async fn release(&self, claims: &[Claim]) -> Result<(), StorageError>;

    /// Gives everything up: the service ends.
    async fn leave(&self, service: &str) -> Result<(), StorageError>;

    /// Asks something of whoever watches this shard.
    async fn ask(&self, shard: Shard, document: &str) -> Result<i64, StorageError>;

    /// Whether the errand waits to be done.
    async fn is_asked(&self, errand: i64) -> Result<bool, StorageError>;

    /// Newest first, at most `limit`.
    async fn incidents(
        &self,
        filter: &IncidentFilter,
        limit: usize,
    ) -> Result<Vec<Incident>, StorageError>;

    /// The oldest notices of a channel, at most `limit`.
    async fn queued(&self, channel: &str, limit: usize) -> Result<Vec<Queued>, StorageError>;

    /// How many notices of a channel wait.
    async fn queue_len(&self, channel: &str) -> Result<usize, StorageError>;

    /// Forgets notices that were told.
    async fn told(&self, ids: &[i64]) -> Result<(), StorageError>;

    /// Moves notices to the dead ones. Of each channel the latest 1,000 are kept.
    async fn bury(&self, ids: &[i64], reason: &str, at: UnixMillis) -> Result<(), StorageError>;

    /// Newest first, at most `limit`.
    async fn dead(&self, limit: usize) -> Result<Vec<Dead>, StorageError>;

    /// Puts a dead notice back into its queue. False when there is none.
    async fn revive(&self, id: i64, due: UnixMillis) -> Result<bool, StorageError>;

    /// Forgets incidents that ended, audits and dead notices from before `before`.
    async fn prune(&self, before: UnixMillis) -> Result<(), StorageError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_word_on_an_alert_counts() {
        let state =
            |id: &str, document: &str| AlertState { id: id.into(), document: document.into() };
        let mut changes = AlertChanges::default();
        changes.keep(state("a", "1"));
        changes.forget("a".into());
        changes.keep(state("b", "1"));
        let mut later = AlertChanges::default();
        later.keep(state("a", "2"));
        later.forget("b".into());
        changes.append(later);
        assert_eq!(changes.states, [state("a", "2")]);
        assert_eq!(changes.gone, ["b"]);
    }
}
