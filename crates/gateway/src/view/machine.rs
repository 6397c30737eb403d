//! One machine: as a row of the fleet page, as the head of its own page, as JSON.

use std::collections::BTreeMap;

use proto::v1;
use serde::Serialize;

use super::{When, millis, seconds, status_name};
use crate::format;
use crate::live::{Line, Number, Row, Spark};

/// A machine as templates show it: every value as text, with its number for order and meters.
#[derive(Clone, Debug)]
pub(crate) struct MachineLine {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) status: &'static str,
    pub(crate) since: Option<When>,
    pub(crate) seen: Option<When>,
    /// The beginning of the id, where another machine has the same name.
    pub(crate) twin: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) cpus: u32,
    pub(crate) cpu: Cell,
    pub(crate) memory: Cell,
    pub(crate) disk: Cell,
    pub(crate) mount: String,
    pub(crate) receive: Cell,
    pub(crate) transmit: Cell,
    pub(crate) read: Cell,
    pub(crate) write: Cell,
    /// Load over one minute for each logical CPU.
    pub(crate) load: Cell,
    pub(crate) temperature: Cell,
    pub(crate) uptime: Cell,
    pub(crate) swap: Cell,
    pub(crate) cpu_line: Line,
    pub(crate) network_line: Line,
}

/// A value as text; `number` is NaN where there is none.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) number: f64,
}

impl Cell {
    fn new(value: Option<f64>, format: impl Fn(f64) -> String) -> Self {
        let number = value.unwrap_or(f64::NAN);
        Self { text: format(number), number }
    }

    pub(crate) fn is_absent(&self) -> bool {
        self.number.is_nan()
    }

    /// Whole percent of a ratio, for a meter.
    pub(crate) fn percent(&self) -> u8 {
        (self.number.clamp(0.0, 1.0) * 100.0).round() as u8
    }

    pub(crate) fn level(&self) -> &'static str {
        level_of(self.number)
    }
}

/// How much attention this share wants: nothing, `high` from 80 %, `full` from 92 %.
pub(crate) fn level_of(ratio: f64) -> &'static str {
    match ratio {
        ratio if ratio >= 0.92 => "full",
        ratio if ratio >= 0.80 => "high",
        _ => "",
    }
}

/// Height of the little lines, in units of their view box.
const LINE_HEIGHT: f32 = 20.0;
/// Network lines reach the top at this rate at least, so that idle chatter stays low.
const NETWORK_FULL: f32 = 64.0 * 1024.0;

impl MachineLine {
    pub(crate) fn new(machine: &v1::Machine, now_ms: i64) -> Self {
        let headline = machine.headline.clone().unwrap_or_default();
        let cpus = machine.facts.as_ref().map_or(0, |facts| facts.logical_cpus);
        let load = headline.load_1m.filter(|_| cpus > 0).map(|load| load / f64::from(cpus));
        let labels: BTreeMap<_, _> = machine.labels.clone().into_iter().collect();
        Self {
            id: machine.id.clone(),
            name: machine.host_name.clone(),
            status: status_name(machine.status),
            since: millis(machine.status_since.as_ref()).map(|ms| When::new(now_ms, ms)),
            seen: millis(machine.last_seen.as_ref()).map(|ms| When::new(now_ms, ms)),
            twin: String::new(),
            labels: labels.into_iter().collect(),
            cpus,
            cpu: Cell::new(headline.cpu_utilization, format::percent),
            memory: Cell::new(headline.memory_utilization, format::percent),
            disk: Cell::new(headline.filesystem_utilization, format::percent),
            mount: headline.filesystem_mountpoint,
            receive: Cell::new(headline.network_receive_rate, format::bytes_rate),
            transmit: Cell::new(headline.network_transmit_rate, format::bytes_rate),
            read: Cell::new(headline.disk_read_rate, format::bytes_rate),
            write: Cell::new(headline.disk_write_rate, format::bytes_rate),
            load: Cell::new(load, |v| if v.is_nan() { "–".into() } else { format!("{v:.2}") }),
            temperature: Cell::new(headline.temperature, format::celsius),
            uptime: Cell::new(headline.uptime, format::duration),
            swap: Cell::new(headline.swap_utilization, format::percent),
            cpu_line: Line::default(),
            network_line: Line::default(),
        }
    }

    /// With the lines of the last five minutes.
    pub(crate) fn with_lines(row: &Row, now_ms: i64) -> Self {
        let line = |spark: &Spark, full| spark.line(now_ms, full, LINE_HEIGHT);
        Self {
            cpu_line: line(&row.cpu, 1.0),
            network_line: line(&row.network, NETWORK_FULL),
            ..Self::new(&row.machine, now_ms)
        }
    }

    /// Whether its numbers are of now.
    pub(crate) fn is_heard(&self) -> bool {
        matches!(self.status, "online" | "stale")
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct MachineJson {
    id: String,
    host_name: String,
    labels: BTreeMap<String, String>,
    status: &'static str,
    status_since: Option<String>,
    last_seen: Option<String>,
    first_seen: Option<String>,
    interval_seconds: Option<Number>,
    clock_skew_seconds: Option<Number>,
    facts: Option<FactsJson>,
    headline: Option<HeadlineJson>,
}

#[derive(Debug, Serialize)]
struct FactsJson {
    os_type: String,
    os_description: String,
    kernel_version: String,
    arch: String,
    cpu_model: String,
    logical_cpus: u32,
    physical_cpus: u32,
    memory_bytes: u64,
    swap_bytes: u64,
    boot_time: Option<String>,
    addresses: Vec<String>,
    virtualization: String,
    collector_version: String,
}

#[derive(Debug, Serialize)]
struct HeadlineJson {
    time: Option<String>,
    cpu_utilization: Option<Number>,
    memory_utilization: Option<Number>,
    swap_utilization: Option<Number>,
    filesystem_utilization: Option<Number>,
    filesystem_mountpoint: String,
    network_receive_rate: Option<Number>,
    network_transmit_rate: Option<Number>,
    disk_read_rate: Option<Number>,
    disk_write_rate: Option<Number>,
    load_1m: Option<Number>,
    temperature: Option<Number>,
    uptime: Option<Number>,
}

impl From<v1::Machine> for MachineJson {
    fn from(machine: v1::Machine) -> Self {
        let time = |t: &Option<prost_types::Timestamp>| millis(t.as_ref()).map(format::rfc3339);
        Self {
            status: status_name(machine.status),
            status_since: time(&machine.status_since),
            last_seen: time(&machine.last_seen),
            first_seen: time(&machine.first_seen),
            interval_seconds: seconds(machine.interval.as_ref()).map(Number),
            clock_skew_seconds: seconds(machine.clock_skew.as_ref()).map(Number),
            id: machine.id,
            host_name: machine.host_name,
            labels: machine.labels.into_iter().collect(),
            facts: machine.facts.map(Into::into),
            headline: machine.headline.map(Into::into),
        }
    }
}

impl From<v1::MachineFacts> for FactsJson {
    fn from(facts: v1::MachineFacts) -> Self {
        Self {
            os_type: facts.os_type,
            os_description: facts.os_description,
            kernel_version: facts.kernel_version,
            arch: facts.arch,
            cpu_model: facts.cpu_model,
            logical_cpus: facts.logical_cpus,
            physical_cpus: facts.physical_cpus,
            memory_bytes: facts.memory_bytes,
            swap_bytes: facts.swap_bytes,
            boot_time: (facts.boot_time_unix_ms != 0)
                .then(|| format::rfc3339(facts.boot_time_unix_ms)),
            addresses: facts.addresses,
            virtualization: facts.virtualization,
            collector_version: facts.collector_version,
        }
    }
}

impl From<v1::Headline> for HeadlineJson {
    fn from(headline: v1::Headline) -> Self {
        let number = |v: Option<f64>| v.map(Number);
        Self {
            time: millis(headline.time.as_ref()).map(format::rfc3339),
            cpu_utilization: number(headline.cpu_utilization),
            memory_utilization: number(headline.memory_utilization),
            swap_utilization: number(headline.swap_utilization),
            filesystem_utilization: number(headline.filesystem_utilization),
            filesystem_mountpoint: headline.filesystem_mountpoint,
            network_receive_rate: number(headline.network_receive_rate),
            network_transmit_rate: number(headline.network_transmit_rate),
            disk_read_rate: number(headline.disk_read_rate),
            disk_write_rate: number(headline.disk_write_rate),
            load_1m: number(headline.load_1m),
            temperature: number(headline.temperature),
            uptime: number(headline.uptime),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_machine_does_not_have_is_a_dash() {
        let line = MachineLine::new(&v1::Machine::default(), 0);
        for cell in [&line.cpu, &line.memory, &line.load, &line.temperature, &line.uptime] {
            assert_eq!(cell.text, "–");
            assert!(cell.is_absent());
        }
        assert_eq!(line.status, "unknown");
    }

    #[test]
    fn load_is_for_each_cpu() {
        let machine = v1::Machine {
            facts: Some(v1::MachineFacts { logical_cpus: 4, ..Default::default() }),
            headline: Some(v1::Headline { load_1m: Some(2.0), ..Default::default() }),
            ..Default::default()
        };
        assert_eq!(MachineLine::new(&machine, 0).load.text, "0.50");
    }
}
