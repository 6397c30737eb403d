//! What happened to a machine: on every second one a process was killed and data are missing; on all of
//! them containers came and went.

use std::collections::HashMap;

use proto::v1;
use proto::v1::machine_event::Type;
use proto::v1::recorded_event::Kind;

use super::{HOSTILE, now_ms, timestamp};

pub(super) fn answer(i: usize) -> v1::ListEventsResponse {
    let now = now_ms();
    let mut events = if i.is_multiple_of(2) { trouble(now).to_vec() } else { Vec::new() };
    events.extend([
        container(now - 7_200_000, "f00dcafe1234beef", "postgres", Type::ContainerStarted),
        container(now - 9_000_000, "0123456789abcdef", "migrate", Type::ContainerStopped),
    ]);
    v1::ListEventsResponse { events }
}

fn trouble(now: i64) -> [v1::RecordedEvent; 2] {
    let event = v1::MachineEvent {
        time_unix_ms: now - 600_000,
        r#type: Type::OomKill.into(),
        detail: format!("killed rustc (4.1 GiB) {HOSTILE}"),
        attributes: HashMap::new(),
    };
    let gap = v1::Gap {
        first_seq: 100,
        last_seq: 399,
        first_time_unix_ms: now - 8_000_000,
        last_time_unix_ms: now - 7_700_000,
        reason: v1::gap::Reason::SpoolFull.into(),
        detail: "spool bound of 256 MiB reached".into(),
    };
    [recorded(now - 600_000, Kind::Event(event)), recorded(now - 7_700_000, Kind::Gap(gap))]
}

fn container(at: i64, id: &str, name: &str, kind: Type) -> v1::RecordedEvent {
    let what = if kind == Type::ContainerStarted { "started" } else { "stopped" };
    let event = v1::MachineEvent {
        time_unix_ms: at,
        r#type: kind.into(),
        detail: format!("container {name} {what}"),
        attributes: [("container.id", id), ("container.name", name)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
    };
    recorded(at, Kind::Event(event))
}

fn recorded(at: i64, kind: Kind) -> v1::RecordedEvent {
    v1::RecordedEvent { time: Some(timestamp(at)), kind: Some(kind) }
}
