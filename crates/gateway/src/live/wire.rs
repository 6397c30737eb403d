//! What goes over the WebSocket, both ways. JSON, one message per line of thought; `t` names its kind.
//!
//! The viewer says what it shows, always in full, so that saying it again after a reconnect is enough.

use std::fmt::Write as _;

use proto::v1;
use serde::{Deserialize, Serialize, Serializer};

use crate::view::{Totals, millis, status_name};

/// From the viewer.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Show {
    /// Machines whose rows are on the screen. Absent: no rows, no totals.
    #[serde(default)]
    pub(crate) rows: Option<Vec<String>>,
    /// All rows, on the screen or not: for a fleet so small that the page orders it by itself.
    #[serde(default)]
    pub(crate) all: bool,
    /// Machine whose every value is wanted.
    #[serde(default)]
    pub(crate) machine: Option<String>,
    /// The latest value that the viewer already has, milliseconds since 1970; what came after it is
    /// sent at once, as far as it is kept. 0: what comes from a moment ago on.
    #[serde(default)]
    pub(crate) after: i64,
    /// Whether alerts are wanted.
    #[serde(default)]
    pub(crate) alerts: bool,
}

/// A number as short as it can be: whole ones without a fraction, and null for none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Number(pub(crate) f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match whole(self.0) {
            Some(whole) => serializer.serialize_i64(whole),
            None => serializer.serialize_f64(self.0),
        }
    }
}

fn whole(value: f64) -> Option<i64> {
    // 2^53: beyond it, a double is no longer exact in the browser either.
    (value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0).then_some(value as i64)
}

#[derive(Debug, Serialize)]
#[serde(tag = "t", rename_all = "lowercase")]
pub(crate) enum Message<'a> {
    /// First of all. `version` is that of the assets: a page from before an update can say so.
    Hello { version: &'a str, now: i64 },
    /// Every now and then: who hears nothing for long is cut off. `now` is the server's clock.
    Tick { now: i64 },
    /// Whether the aggregator is heard; what is shown meanwhile is old.
    Link { up: bool, since: i64, reason: &'a str },
    /// These frames will not be sent; the viewer may ask for the window again.
    Missed { frames: u64 },
    /// What was asked for cannot be shown.
    Problem { message: &'a str },
}

impl Message<'_> {
    pub(crate) fn text(&self) -> String {
        // Strings and integers only: there is nothing that could fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[derive(Serialize)]
struct RowJson<'a> {
    id: &'a str,
    name: &'a str,
    status: &'static str,
    since: Option<i64>,
    seen: Option<i64>,
    cpu: Option<Number>,
    mem: Option<Number>,
    disk: Option<Number>,
    mount: &'a str,
    rx: Option<Number>,
    tx: Option<Number>,
    rd: Option<Number>,
    wr: Option<Number>,
    load: Option<Number>,
    cpus: u32,
    temp: Option<Number>,
    up: Option<Number>,
    swap: Option<Number>,
}

pub(crate) fn row(machine: &v1::Machine) -> String {
    let headline = machine.headline.clone().unwrap_or_default();
    let short = |v: Option<f64>| v.map(|v| Number((v * 10_000.0).round() / 10_000.0));
    let row = RowJson {
        id: &machine.id,
        name: &machine.host_name,
        status: status_name(machine.status),
        since: millis(machine.status_since.as_ref()),
        seen: millis(machine.last_seen.as_ref()),
        cpu: short(headline.cpu_utilization),
        mem: short(headline.memory_utilization),
        disk: short(headline.filesystem_utilization),
        mount: &headline.filesystem_mountpoint,
        rx: short(headline.network_receive_rate.map(f64::round)),
        tx: short(headline.network_transmit_rate.map(f64::round)),
        rd: short(headline.disk_read_rate.map(f64::round)),
        wr: short(headline.disk_write_rate.map(f64::round)),
        load: short(headline.load_1m),
        cpus: machine.facts.as_ref().map_or(0, |facts| facts.logical_cpus),
        temp: short(headline.temperature),
        up: short(headline.uptime.map(f64::round)),
        swap: short(headline.swap_utilization),
    };
    serde_json::to_string(&row).unwrap_or_default()
}

/// What there is to say of the alert service beside its alerts.
#[derive(Debug, Serialize)]
pub(crate) struct AlertsHeard<'a> {
    pub(crate) available: bool,
    /// Why it is not heard; empty when it is.
    pub(crate) trouble: &'a str,
    pub(crate) firing: u32,
    pub(crate) critical: u32,
    pub(crate) left_out: usize,
}

/// Alerts that changed and those that are over; `all`: there are no others.
pub(crate) fn alerts(
    all: bool,
    heard: &AlertsHeard<'_>,
    changed: &[&str],
    gone: &[&str],
) -> String {
    let heard = serde_json::to_string(heard).unwrap_or_default();
    let heard = heard.trim_matches(['{', '}']);
    let gone = serde_json::to_string(gone).unwrap_or_default();
    let changed = changed.join(",");
    format!(r#"{{"t":"alerts","all":{all},{heard},"gone":{gone},"alerts":[{changed}]}}"#)
}

/// Rows that changed, whether machines came or went, and the totals.
pub(crate) fn fleet(rows: &[&str], came_or_went: bool, totals: &Totals) -> String {
    let totals = serde_json::to_string(totals).unwrap_or_default();
    let mut text = String::with_capacity(rows.iter().map(|r| r.len() + 1).sum::<usize>() + 256);
    let _ = write!(text, r#"{{"t":"fleet","changed":{came_or_went},"totals":{totals},"rows":["#);
    for (i, row) in rows.iter().enumerate() {
        text.push_str(if i == 0 { "" } else { "," });
        text.push_str(row);
    }
    text.push_str("]}");
    text
}

#[derive(Serialize)]
struct SeriesJson<'a> {
    metric: &'a str,
    labels: std::collections::BTreeMap<&'a str, &'a str>,
    counter: bool,
}

pub(crate) fn layout(machine_id: &str, number: u32, columns: &[v1::SeriesDescriptor]) -> String {
    let series: Vec<_> = columns
        .iter()
        .map(|c| SeriesJson {
            metric: &c.metric,
            labels: c.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect(),
            counter: c.kind == i32::from(v1::MetricKind::Counter),
        })
        .collect();
    let series = serde_json::to_string(&series).unwrap_or_default();
    let id = serde_json::to_string(machine_id).unwrap_or_default();
    format!(r#"{{"t":"layout","machine":{id},"layout":{number},"series":{series}}}"#)
}

/// `[time, layout, [values]]`.
pub(crate) fn frame(time_ms: i64, layout: u32, values: &[f64]) -> String {
    let mut text = String::with_capacity(24 + values.len() * 8);
    let _ = write!(text, "[{time_ms},{layout},[");
    for (i, &value) in values.iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        let _ = match whole(value) {
            Some(whole) => write!(text, "{whole}"),
            None if value.is_finite() => write!(text, "{value}"),
            None => write!(text, "null"),
        };
    }
    text.push_str("]]");
    text
}

/// `late`: newer ones of the same layouts came before these.
pub(crate) fn frames<'a>(
    machine_id: &str,
    late: bool,
    frames: impl Iterator<Item = &'a str>,
) -> String {
    let id = serde_json::to_string(machine_id).unwrap_or_default();
    let late = if late { r#","late":true"# } else { "" };
    let mut text = format!(r#"{{"t":"frames","machine":{id}{late},"frames":["#);
    for (i, frame) in frames.enumerate() {
        text.push_str(if i == 0 { "" } else { "," });
        text.push_str(frame);
    }
    text.push_str("]}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_short_as_they_can_be() {
        assert_eq!(frame(5, 1, &[1.0, 0.25, f64::NAN, -3.0, 1e300]), {
            let big = 1e300;
            format!("[5,1,[1,0.25,null,-3,{big}]]")
        });
        assert_eq!(serde_json::to_string(&Number(12.0)).ok().as_deref(), Some("12"));
        assert_eq!(serde_json::to_string(&Number(f64::NAN)).ok().as_deref(), Some("null"));
    }

    #[test]
    fn a_hostile_name_stays_a_string() {
        let machine = v1::Machine { host_name: "</script>\"\n".to_owned(), ..Default::default() };
        let json: serde_json::Value = serde_json::from_str(&row(&machine)).expect("json");
        assert_eq!(json["name"], "</script>\"\n");
    }

    #[test]
    fn what_the_viewer_says_is_checked() {
        fn check(text: &str, valid: bool) {
            assert_eq!(serde_json::from_str::<Show>(text).is_ok(), valid, "{text}");
        }
        check("{}", true);
        check(r#"{"rows":["a"],"machine":null}"#, true);
        check(r#"{"machine":"a","after":12}"#, true);
        check(r#"{"alerts":true}"#, true);
        check(r#"{"row":["a"]}"#, false);
        check("5", false);
    }
}
