//! What happens to a machine, and what will never arrive from it.

use crate::{Labels, SeqRange, UnixMillis};

/// Something that happened to a machine or to its collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineEvent {
    pub time: UnixMillis,
    pub kind: EventKind,
    /// One line for people.
    pub detail: String,
    pub attributes: Labels,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    Suspend,
    Resume,
    OomKill,
    Reboot,
    ClockStep,
    CollectorStart,
    ProbeFailed,
    ProbeRecovered,
    ContainerStarted,
    ContainerStopped,
    SpoolDamaged,
}

impl EventKind {
    pub const ALL: [Self; 11] = [
        Self::Suspend,
        Self::Resume,
        Self::OomKill,
        Self::Reboot,
        Self::ClockStep,
        Self::CollectorStart,
        Self::ProbeFailed,
        Self::ProbeRecovered,
        Self::ContainerStarted,
        Self::ContainerStopped,
        Self::SpoolDamaged,
    ];

    /// Stable name, for storage and for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::OomKill => "oom_kill",
            Self::Reboot => "reboot",
            Self::ClockStep => "clock_step",
            Self::CollectorStart => "collector_start",
            Self::ProbeFailed => "probe_failed",
            Self::ProbeRecovered => "probe_recovered",
            Self::ContainerStarted => "container_started",
            Self::ContainerStopped => "container_stopped",
            Self::SpoolDamaged => "spool_damaged",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Items that will never arrive, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    pub seqs: SeqRange,
    /// Times of the first and the last lost item, where known.
    pub times: Option<(UnixMillis, UnixMillis)>,
    pub reason: GapReason,
    /// For people.
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// The oldest items made room for newer ones.
    SpoolFull,
    /// A record could not be read back.
    SpoolDamaged,
    /// The aggregator refused them.
    Rejected,
}

impl GapReason {
    pub const ALL: [Self; 3] = [Self::SpoolFull, Self::SpoolDamaged, Self::Rejected];

    pub fn name(self) -> &'static str {
        match self {
            Self::SpoolFull => "spool_full",
            Self::SpoolDamaged => "spool_damaged",
            Self::Rejected => "rejected",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}
