//! REST: what the pages show, as JSON.

mod alerts;
mod dead_events;
mod error;
mod events;
mod incidents;
pub(crate) mod logs;
mod machines;
mod metrics;
mod params;
mod processes;
mod query;
mod window;

pub(crate) use alerts::{alerts, thresholds};
pub(crate) use dead_events::{dead_event_discard, dead_event_retry, dead_events};
pub(crate) use error::{ApiError, not_found};
pub(crate) use events::events;
pub(crate) use incidents::incidents;
pub(crate) use machines::{machine, machine_remove, machines, state};
pub(crate) use metrics::metrics;
pub(crate) use params::{Params, now_ms};
pub(crate) use processes::processes;
pub(crate) use query::query_range;
pub(crate) use window::window;
