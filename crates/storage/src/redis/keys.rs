//! The names of all keys, and how long they live. `docs/reference/redis.md` describes what is in them.

use model::{LayoutId, MachineId, UnixMillis};

/// A machine that nothing was heard of for a week is no longer of the present.
pub(crate) const MACHINE_TTL_S: i64 = 7 * 24 * 3600;
/// The last five minutes, and some time to read them.
pub(crate) const FRAMES_TTL_S: i64 = 7 * 60;
/// Renewed by every frame that uses the layout.
pub(crate) const LAYOUT_TTL_S: i64 = 3600;
/// Renewed by every event.
pub(crate) const EVENTS_TTL_S: i64 = 3600;
pub(crate) const DEAD_TTL_S: i64 = 30 * 24 * 3600;

/// Frames of one minute share a key, which expires as a whole.
pub(crate) const MINUTE_MS: i64 = 60_000;

#[derive(Clone, Debug)]
pub(crate) struct Keys {
    prefix: Box<str>,
}

impl Keys {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    /// Sorted set: every machine, by when it was last seen.
    pub(crate) fn machines(&self) -> String {
        format!("{}:machines", self.prefix)
    }

    /// Hash: how the machine is doing, as text.
    pub(crate) fn machine(&self, machine: MachineId) -> String {
        format!("{}:machine:{machine}", self.prefix)
    }

    /// Number: who may write the machine's present.
    pub(crate) fn lease(&self, machine: MachineId) -> String {
        format!("{}:machine:{machine}:lease", self.prefix)
    }

    /// Sorted set: layouts in use, by the time of their latest frame.
    pub(crate) fn latest(&self, machine: MachineId) -> String {
        format!("{}:machine:{machine}:latest", self.prefix)
    }

    /// Hash: the frames of the minute that contains `time`.
    pub(crate) fn frames(&self, machine: MachineId, time: UnixMillis) -> String {
        let minute = time.0.div_euclid(MINUTE_MS);
        format!("{}:machine:{machine}:frames:{minute}", self.prefix)
    }

    /// Sorted set with one member: the latest process report, by its time.
    pub(crate) fn processes(&self, machine: MachineId) -> String {
        format!("{}:machine:{machine}:processes", self.prefix)
    }

    /// JSON: the series of a layout.
    pub(crate) fn layout(&self, layout: LayoutId) -> String {
        format!("{}:layout:{layout}", self.prefix)
    }

    /// Stream: what just happened.
    pub(crate) fn events(&self) -> String {
        format!("{}:events", self.prefix)
    }

    /// Hash: events that could not be processed, by their id, as JSON.
    pub(crate) fn dead(&self) -> String {
        format!("{}:events:dead", self.prefix)
    }

    /// Hash: what is in them.
    pub(crate) fn dead_content(&self) -> String {
        format!("{}:events:dead:content", self.prefix)
    }
}
