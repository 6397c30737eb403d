//! What a machine and its services log.

use crate::{Labels, UnixMillis};

/// OpenTelemetry severity number: 1 (TRACE) to 24 (FATAL4); 0 when unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Severity(u8);

impl Severity {
    pub const UNKNOWN: Self = Self(0);

    /// `None` above 24.
    pub fn new(number: u32) -> Option<Self> {
        (number <= 24).then_some(Self(number as u8))
    }

    pub fn number(self) -> u8 {
        self.0
    }

    /// The short name of its range: "ERROR" for 17 to 20; "" when unknown.
    pub fn name(self) -> &'static str {
        match self.0 {
            0 => "",
            1..=4 => "TRACE",
            5..=8 => "DEBUG",
            9..=12 => "INFO",
            13..=16 => "WARN",
            17..=20 => "ERROR",
            _ => "FATAL",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvent {
    pub time: UnixMillis,
    pub severity: Severity,
    pub service: String,
    pub body: String,
    /// The body was longer than [`crate::limits::LOG_BODY_BYTES_MAX`] and was cut.
    pub body_truncated: bool,
    pub attributes: Labels,
    /// Kind of the source: "journald", "file", …
    pub source: String,
}
