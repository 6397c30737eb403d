//! What happened to a machine, and what is missing of it.

use std::collections::BTreeMap;

use proto::v1;
use proto::v1::recorded_event::Kind;
use serde::Serialize;

use super::{When, millis};
use crate::format;

#[derive(Clone, Debug)]
pub(crate) struct EventLine {
    pub(crate) when: Option<When>,
    /// `gap`, `trouble` or `note`.
    pub(crate) weight: &'static str,
    pub(crate) title: &'static str,
    pub(crate) detail: String,
}

impl EventLine {
    pub(crate) fn new(event: v1::RecordedEvent, now_ms: i64) -> Self {
        let when = millis(event.time.as_ref()).map(|ms| When::new(now_ms, ms));
        match event.kind {
            Some(Kind::Event(event)) => {
                let (_, title, weight) = event_words(event.r#type);
                Self { when, weight, title, detail: event.detail }
            }
            Some(Kind::Gap(gap)) => {
                Self { when, weight: "gap", title: "Data missing", detail: gap_words(&gap) }
            }
            None => Self { when, weight: "note", title: "Unknown event", detail: String::new() },
        }
    }
}

/// `120 items, 2 min 5 s of data: the spool was full (bound of 256 MiB reached)`.
fn gap_words(gap: &v1::Gap) -> String {
    let items = gap.last_seq.saturating_sub(gap.first_seq).saturating_add(1);
    let count = if items == 1 {
        "1 item".to_owned()
    } else {
        format!("{} items", format::number(items as f64))
    };
    let length = gap.last_time_unix_ms.saturating_sub(gap.first_time_unix_ms);
    let length = if gap.first_time_unix_ms != 0 && length > 0 {
        format!(", {} of data", format::duration(length as f64 / 1000.0))
    } else {
        String::new()
    };
    let detail = if gap.detail.is_empty() { String::new() } else { format!(" ({})", gap.detail) };
    format!("{count}{length}: {}{detail}", gap_reason(gap.reason).1)
}

fn gap_reason(reason: i32) -> (&'static str, &'static str) {
    use v1::gap::Reason;
    match Reason::try_from(reason) {
        Ok(Reason::SpoolFull) => ("spool_full", "the spool was full"),
        Ok(Reason::SpoolDamaged) => ("spool_damaged", "the spool was damaged"),
        Ok(Reason::Rejected) => ("rejected", "refused by the aggregator"),
        Ok(Reason::Unspecified) | Err(_) => ("unknown", "for an unknown reason"),
    }
}

/// Name for machines, title for people, weight.
fn event_words(kind: i32) -> (&'static str, &'static str, &'static str) {
    use v1::machine_event::Type;
    match Type::try_from(kind) {
        Ok(Type::Suspend) => ("suspend", "Went to sleep", "note"),
        Ok(Type::Resume) => ("resume", "Woke up", "note"),
        Ok(Type::OomKill) => ("oom_kill", "Out of memory: a process was killed", "trouble"),
        Ok(Type::Reboot) => ("reboot", "Rebooted", "note"),
        Ok(Type::ClockStep) => ("clock_step", "The clock jumped", "trouble"),
        Ok(Type::CollectorStart) => ("collector_start", "Collector started", "note"),
        Ok(Type::ProbeFailed) => ("probe_failed", "A probe fails", "trouble"),
        Ok(Type::ProbeRecovered) => ("probe_recovered", "A probe recovered", "note"),
        Ok(Type::ContainerStarted) => ("container_started", "Container started", "note"),
        Ok(Type::ContainerStopped) => ("container_stopped", "Container stopped", "note"),
        Ok(Type::SpoolDamaged) => ("spool_damaged", "The spool was damaged", "trouble"),
        Ok(Type::Unspecified) | Err(_) => ("unknown", "Unknown event", "note"),
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct EventJson {
    time: Option<String>,
    #[serde(flatten)]
    kind: KindJson,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum KindJson {
    Event {
        #[serde(rename = "type")]
        name: &'static str,
        detail: String,
        attributes: BTreeMap<String, String>,
    },
    Gap {
        reason: &'static str,
        first_seq: u64,
        last_seq: u64,
        first_time: Option<String>,
        last_time: Option<String>,
        detail: String,
    },
}

impl EventJson {
    /// `None` for a kind that this version does not know.
    pub(crate) fn new(event: v1::RecordedEvent) -> Option<Self> {
        let known = |ms: i64| (ms != 0).then(|| format::rfc3339(ms));
        let kind = match event.kind? {
            Kind::Event(event) => KindJson::Event {
                name: event_words(event.r#type).0,
                detail: event.detail,
                attributes: event.attributes.into_iter().collect(),
            },
            Kind::Gap(gap) => KindJson::Gap {
                reason: gap_reason(gap.reason).0,
                first_seq: gap.first_seq,
                last_seq: gap.last_seq,
                first_time: known(gap.first_time_unix_ms),
                last_time: known(gap.last_time_unix_ms),
                detail: gap.detail,
            },
        };
        Some(Self { time: millis(event.time.as_ref()).map(format::rfc3339), kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_says_how_much_and_why() {
        let gap = v1::Gap {
            first_seq: 11,
            last_seq: 130,
            first_time_unix_ms: 1_000,
            last_time_unix_ms: 126_000,
            reason: v1::gap::Reason::SpoolFull.into(),
            detail: "bound of 256 MiB reached".to_owned(),
        };
        assert_eq!(
            gap_words(&gap),
            "120 items, 2 min 5 s of data: the spool was full (bound of 256 MiB reached)"
        );
        assert_eq!(gap_words(&v1::Gap::default()), "1 item: for an unknown reason");
    }
}
