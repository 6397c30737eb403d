//! What is shown of a machine, in the form that templates and JSON need. Pure.

mod alert;
mod arrange;
mod container;
mod event;
mod forecast;
mod log;
mod machine;
mod measure;
mod process;
mod server;
mod totals;

use prost_types::Timestamp;
use proto::v1;

use crate::format;

pub(crate) use alert::{AlertJson, level_name};
pub(crate) use arrange::{Arrange, ContainerLine};
pub(crate) use container::{ContainerRow, METRICS as CONTAINER_METRICS, container_rows};
pub(crate) use event::{EventJson, EventLine};
pub(crate) use forecast::{Forecast, until_full};
pub(crate) use log::{GroupLine, LogLine, bars, bars_up_to};
pub(crate) use machine::{MachineJson, MachineLine, level_of};
pub(crate) use measure::Measure;
pub(crate) use process::{ProcessJson, ProcessLine, ProcessSort, matches as process_matches};
pub(crate) use server::{ServerLines, words as server_words};
pub(crate) use totals::Totals;

/// An instant for a template: exact for machines, relative for people.
#[derive(Clone, Debug, Default)]
pub(crate) struct When {
    pub(crate) ms: i64,
    pub(crate) iso: String,
    pub(crate) ago: String,
}

impl When {
    pub(crate) fn new(now_ms: i64, ms: i64) -> Self {
        Self { ms, iso: format::rfc3339(ms), ago: format::ago(now_ms, ms) }
    }
}

pub(crate) fn millis(time: Option<&Timestamp>) -> Option<i64> {
    time.map(|t| t.seconds.saturating_mul(1000).saturating_add(i64::from(t.nanos) / 1_000_000))
}

pub(crate) fn seconds(duration: Option<&prost_types::Duration>) -> Option<f64> {
    duration.map(|d| d.seconds as f64 + f64::from(d.nanos) / 1e9)
}

pub(crate) fn status_name(status: i32) -> &'static str {
    match v1::MachineStatus::try_from(status) {
        Ok(v1::MachineStatus::Online) => "online",
        Ok(v1::MachineStatus::Stale) => "stale",
        Ok(v1::MachineStatus::Asleep) => "asleep",
        Ok(v1::MachineStatus::Offline) => "offline",
        Ok(v1::MachineStatus::Stopped) => "stopped",
        Ok(v1::MachineStatus::Unspecified) | Err(_) => "unknown",
    }
}
