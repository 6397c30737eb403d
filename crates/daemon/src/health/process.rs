//! What the process itself costs, read from `/proc/self` when somebody asks.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// Linux reports times to user space in this unit, whatever the kernel's own tick.
const TICKS_PER_SECOND: f64 = 100.0;

pub(super) fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(Process));
}

#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(usage) = read() else { return Ok(()) };
        let cpu = ConstCounter::new(usage.cpu_seconds);
        cpu.encode(encoder.encode_descriptor(
            "process_cpu_seconds",
            "User and system CPU time",
            None,
            prometheus_client::metrics::MetricType::Counter,
        )?)?;
        let gauges = [
            ("process_resident_memory_bytes", "Resident memory", usage.resident_bytes),
            ("process_threads", "Threads", usage.threads),
            ("process_open_fds", "Open file descriptors", usage.open_fds),
        ];
        for (name, help, value) in gauges {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            ConstGauge::new(value).encode(encoder.encode_descriptor(
                name,
                help,
                None,
                prometheus_client::metrics::MetricType::Gauge,
            )?)?;
        }
        Ok(())
    }
}

#[derive(Debug, PartialEq)]
struct Usage {
    cpu_seconds: f64,
    resident_bytes: u64,
    threads: u64,
    open_fds: u64,
}

fn read() -> Option<Usage> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let open_fds = std::fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    parse(&stat, &status, open_fds)
}

/// Formats: proc(5). Memory comes from `status`, where it does not depend on the size of a page.
fn parse(stat: &str, status: &str, open_fds: u64) -> Option<Usage> {
    // The name before the last parenthesis may hold anything, also blanks and parentheses.
    let (_, after_name) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    // Numbered as the manual does, from 1; the state, after the name, is 3.
    let ticks = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    Some(Usage {
        cpu_seconds: (ticks(14)? + ticks(15)?) as f64 / TICKS_PER_SECOND,
        resident_bytes: value("VmRSS:")? * 1024,
        threads: value("Threads:")?,
        open_fds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_with_a_hostile_name_is_read() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 7 0 123 1000000";
        let status = "Name:\ta) b (c\nVmHWM:\t   12000 kB\nVmRSS:\t   10000 kB\nThreads:\t7\n";
        let expected =
            Usage { cpu_seconds: 2.0, resident_bytes: 10_000 * 1024, threads: 7, open_fds: 9 };
        assert_eq!(parse(stat, status, 9), Some(expected));
        assert_eq!(parse("42 (a", status, 9), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn our_own_usage_can_be_read() {
        let usage = read().expect("this is Linux");
        assert!(usage.resident_bytes > 1 << 20 && usage.threads > 0, "{usage:?}");
    }
}
