//! A machine's presence as texts, so that `HGETALL` shows it to a person.

use std::collections::HashMap;

use model::{Headline, MachineStatus, UnixMillis};

use crate::live::Presence;

/// All fields, every time: what is absent is written as an empty text, so that nothing old stays.
pub(super) fn to_fields(presence: &Presence) -> Vec<(&'static str, String)> {
    let headline = &presence.headline;
    let mut fields = vec![
        ("status", presence.status.name().to_owned()),
        ("status_since", time_to_text(presence.status_since)),
        ("last_seen", time_to_text(presence.last_seen)),
        ("interval_ms", presence.interval_ms.to_string()),
        ("clock_skew_ms", presence.clock_skew_ms.to_string()),
        ("connected", if presence.connected { "yes" } else { "no" }.to_owned()),
        ("headline_time", time_to_text(headline.time)),
        ("filesystem_mountpoint", headline.filesystem_mountpoint.clone()),
    ];
    for (name, value) in numbers(headline) {
        fields.push((name, value.map(|v| v.to_string()).unwrap_or_default()));
    }
    fields
}

fn numbers(headline: &Headline) -> [(&'static str, Option<f64>); 11] {
    [
        ("cpu_utilization", headline.cpu_utilization),
        ("memory_utilization", headline.memory_utilization),
        ("swap_utilization", headline.swap_utilization),
        ("filesystem_utilization", headline.filesystem_utilization),
        ("network_receive_rate", headline.network_receive_rate),
        ("network_transmit_rate", headline.network_transmit_rate),
        ("disk_read_rate", headline.disk_read_rate),
        ("disk_write_rate", headline.disk_write_rate),
        ("load_1m", headline.load_1m),
        ("temperature", headline.temperature),
        ("uptime", headline.uptime),
    ]
}

/// Fields that an older version did not write are absent; those it does not know are ignored.
pub(super) fn from_fields(fields: &HashMap<String, String>) -> Result<Presence, String> {
    let text = |name: &str| fields.get(name).map_or("", String::as_str);
    let needed = |name: &str| match text(name) {
        "" => Err(format!("{name}: expected a value, found none")),
        text => Ok(text),
    };
    let number = |name: &str| match text(name) {
        "" => Ok(None),
        text => text.parse::<f64>().map(Some).map_err(|_| unexpected(name, "a number", text)),
    };
    let time = |name: &str| {
        let text = needed(name)?;
        time_from_text(text).ok_or_else(|| unexpected(name, "an RFC 3339 time", text))
    };
    let status = needed("status")?;
    Ok(Presence {
        status: MachineStatus::from_name(status)
            .ok_or_else(|| unexpected("status", "a status", status))?,
        status_since: time("status_since")?,
        last_seen: time("last_seen")?,
        interval_ms: integer(needed("interval_ms")?, "interval_ms")?,
        clock_skew_ms: integer(needed("clock_skew_ms")?, "clock_skew_ms")?,
        connected: needed("connected")? == "yes",
        headline: Headline {
            time: time("headline_time")?,
            cpu_utilization: number("cpu_utilization")?,
            memory_utilization: number("memory_utilization")?,
            swap_utilization: number("swap_utilization")?,
            filesystem_utilization: number("filesystem_utilization")?,
            filesystem_mountpoint: text("filesystem_mountpoint").to_owned(),
            network_receive_rate: number("network_receive_rate")?,
            network_transmit_rate: number("network_transmit_rate")?,
            disk_read_rate: number("disk_read_rate")?,
            disk_write_rate: number("disk_write_rate")?,
            load_1m: number("load_1m")?,
            temperature: number("temperature")?,
            uptime: number("uptime")?,
        },
    })
}

fn integer<T: std::str::FromStr>(text: &str, name: &str) -> Result<T, String> {
    text.parse().map_err(|_| unexpected(name, "an integer", text))
}

fn unexpected(name: &str, expected: &str, found: &str) -> String {
    format!("{name}: expected {expected}, found {found:?}")
}

/// RFC 3339, as long as the year has four digits; else the bare milliseconds.
fn time_to_text(time: UnixMillis) -> String {
    match jiff::Timestamp::from_millisecond(time.0) {
        Ok(timestamp) => timestamp.to_string(),
        Err(_) => time.0.to_string(),
    }
}

fn time_from_text(text: &str) -> Option<UnixMillis> {
    if let Ok(ms) = text.parse() {
        return Some(UnixMillis(ms));
    }
    text.parse::<jiff::Timestamp>().ok().map(|t| UnixMillis(t.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number() -> impl Strategy<Value = Option<f64>> {
        prop::option::of(any::<f64>())
    }

    proptest! {
        #[test]
        fn a_presence_comes_back(
            (since, seen, time, skew) in any::<(i64, i64, i64, i64)>(),
            status in prop::sample::select(MachineStatus::ALL.to_vec()),
            (cpu, uptime, load) in (number(), number(), number()),
            (interval_ms, connected, mountpoint) in any::<(u64, bool, String)>(),
        ) {
            let presence = Presence {
                status,
                status_since: UnixMillis(since),
                last_seen: UnixMillis(seen),
                interval_ms,
                clock_skew_ms: skew,
                connected,
                headline: Headline {
                    time: UnixMillis(time),
                    cpu_utilization: cpu,
                    filesystem_mountpoint: mountpoint,
                    load_1m: load,
                    uptime,
                    ..Headline::default()
                },
            };
            let fields: HashMap<String, String> =
                to_fields(&presence).into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
            prop_assert_eq!(from_fields(&fields), Ok(presence));
        }
    }

    #[test]
    fn times_are_readable() {
        assert_eq!(time_to_text(UnixMillis(1_700_000_000_123)), "2023-11-14T22:13:20.123Z");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let mut fields = HashMap::from([("status".to_owned(), "fine".to_owned())]);
        assert_eq!(from_fields(&fields), Err("status: expected a status, found \"fine\"".into()));
        fields.clear();
        assert_eq!(from_fields(&fields), Err("status: expected a value, found none".into()));
    }
}
