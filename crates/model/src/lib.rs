//! The words of the domain: machines, series, layouts, frames, and what may be asked of them.
//!
//! Everything here is plain data and plain functions. This crate knows nothing of sockets, clocks,
//! databases or wire formats, and never will: `proto` speaks the wire, `storage` speaks rows, and both
//! translate to these types at their border.
//!
//! Start with [`Series`], [`Layout`] and [`Frame`]; then [`Item`], which is what a collector delivers
//! and history keeps; then [`SeqRanges`], which says what was acknowledged.

pub mod glob;
pub mod limits;
pub mod log_query;
pub mod metric;
pub mod probe;
pub mod pushed;
pub mod secrets;
pub mod template;
pub mod words;

mod access;
mod event;
mod frame;
mod headline;
mod item;
mod labels;
mod layout;
mod log;
mod machine;
mod matcher;
mod process;
mod seq_ranges;
mod series;
mod time;

pub use access::{Caller, Claim, Grant, GrantError};
pub use event::{EventKind, Gap, GapReason, MachineEvent};
pub use frame::Frame;
pub use headline::Headline;
pub use item::{Item, Payload, Seq, SpoolEpoch};
pub use labels::{Labels, LabelsError};
pub use layout::{Layout, LayoutError, LayoutId, LayoutPool};
pub use log::{LogEvent, Severity};
pub use log_query::{Level, LogQuery};
pub use machine::{MachineFacts, MachineId, MachineIdError, MachineStatus};
pub use matcher::{MatchOp, Matcher};
pub use process::{Process, ProcessReport, ProcessState};
pub use seq_ranges::{SeqRange, SeqRanges};
pub use series::{Kind, Series};
pub use time::{TimeRange, UnixMillis};
