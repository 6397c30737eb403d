//! Messages to words of the domain, and back. A message that breaks the contract is refused with the
//! path of the field, its value and what was expected; nothing here panics on any input.

mod collector;
mod machine;
mod metric;
mod process;
mod time;
mod unnumbered;

pub use collector::{
    event_from_proto, event_to_proto, frame_from_proto, frame_to_proto, gap_from_proto,
    gap_to_proto, item_from_proto, item_to_proto, layout_from_proto, layout_to_proto,
    logs_from_proto, logs_to_proto, ranges_from_proto, ranges_to_proto,
};
pub use machine::{
    facts_from_proto, facts_to_proto, headline_to_proto, labels_from_proto, labels_to_proto,
    status_to_proto,
};
pub use metric::{kind_from_proto, kind_to_proto, matcher_from_proto, series_to_proto};
pub use process::{process_to_proto, report_from_proto, report_to_proto};
pub use time::{duration_from_ms, duration_to_ms, timestamp_from_proto, timestamp_to_proto};
pub use unnumbered::Unnumbered;

/// A field that breaks the contract. Reads `layout.series[3].labels: label name is empty`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct FieldError {
    pub field: String,
    pub problem: String,
}

impl FieldError {
    pub fn new(field: impl Into<String>, problem: impl std::fmt::Display) -> Self {
        Self { field: field.into(), problem: problem.to_string() }
    }

    /// The same error seen from the message around it.
    pub fn within(self, outer: &str) -> Self {
        Self { field: format!("{outer}.{}", self.field), problem: self.problem }
    }
}

impl From<FieldError> for tonic::Status {
    fn from(error: FieldError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}
