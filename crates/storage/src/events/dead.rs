//! What a subscriber could not process, as it is kept until a person decides.

use std::sync::Arc;

use bytes::Bytes;
use model::UnixMillis;

use super::Event;
use super::redis::codec;

/// Events set aside that are kept. What failed first tells most, so further ones are refused.
pub const DEAD_MAX: usize = 500;
/// Of an event that is set aside.
pub const CONTENT_BYTES_MAX: usize = 64 * 1024;

/// An entry of the stream that is no event to this version of the program.
#[derive(Clone, Debug)]
pub struct Unreadable {
    pub reason: String,
    /// The same for whoever read it.
    pub(super) id: String,
    pub(super) entry: Entry,
}

/// As it stands in the stream, whatever that is.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) machine: String,
    pub(super) kind: String,
    pub(super) data: Bytes,
}

/// What a subscriber could not process.
#[derive(Clone, Debug)]
pub enum Unprocessed {
    /// It failed in one process, for this reason.
    Event(Arc<Event>, String),
    /// Every process found it, and it is kept once.
    Unreadable(Arc<Unreadable>),
}

/// An event that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Names it among the dead. Ids are ordered by time.
    pub id: String,
    /// When it failed.
    pub since: UnixMillis,
    /// As the entry says; it may be what cannot be read.
    pub machine: String,
    pub kind: String,
    pub reason: String,
    /// Whether it can be tried again: what is larger than [`CONTENT_BYTES_MAX`] is kept without its content.
    pub whole: bool,
}

/// Some of the events that were set aside, and how many there are.
#[derive(Clone, Debug, Default)]
pub struct DeadLetters {
    /// The oldest first: what failed first is most often the cause of what follows.
    pub letters: Vec<DeadLetter>,
    pub total: usize,
}

/// What became of a dead letter that was to be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    Published,
    /// It was retried or discarded before, or never there.
    Absent,
    /// Its content was too large to be kept.
    Cut,
}

impl Unprocessed {
    pub(super) fn letter(&self, now: UnixMillis) -> (DeadLetter, Entry) {
        let (id, reason, entry) = match self {
            Self::Event(event, reason) => {
                let (kind, data) = codec::encode(&event.kind);
                let (machine, kind) = (event.machine.to_string(), kind.to_owned());
                let entry = Entry { machine, kind, data: data.into() };
                (format!("{}-{:016x}", now.0, random()), reason, entry)
            }
            Self::Unreadable(unreadable) => {
                (unreadable.id.clone(), &unreadable.reason, unreadable.entry.clone())
            }
        };
        let letter = DeadLetter {
            id,
            since: now,
            machine: entry.machine.clone(),
            kind: entry.kind.clone(),
            reason: reason.clone(),
            whole: entry.data.len() <= CONTENT_BYTES_MAX,
        };
        (letter, entry)
    }
}

/// From the standard library's own source: it needs to differ, not to be secret.
pub(super) fn random() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::process::id())
}
