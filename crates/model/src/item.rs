//! What a collector delivers and history keeps.

use crate::{Frame, Gap, LogEvent, MachineEvent, ProcessReport, UnixMillis};

/// Number of an item within its spool epoch, from 1.
pub type Seq = u64;

/// One life of a collector's spool. Item numbers start again with each. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpoolEpoch(pub u64);

/// The unit of delivery: numbered, acknowledged, stored once.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub seq: Seq,
    pub payload: Payload,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    Frame(Frame),
    Logs(Vec<LogEvent>),
    Processes(ProcessReport),
    Event(MachineEvent),
    Gap(Gap),
}

impl Payload {
    /// When it happened, by the collector's clock. For a batch of logs, its newest event.
    pub fn time(&self) -> Option<UnixMillis> {
        match self {
            Self::Frame(frame) => Some(frame.time),
            Self::Logs(events) => events.iter().map(|e| e.time).max(),
            Self::Processes(report) => Some(report.time),
            Self::Event(event) => Some(event.time),
            Self::Gap(gap) => gap.times.map(|(_, last)| last),
        }
    }
}
