//! `docs/reference/metrics.md` is written from the code: a metric cannot be added without it.
//!
//! `BLESS=1 cargo test -p model` writes the page anew.

use std::fmt::Write as _;
use std::path::Path;

use model::{Kind, metric};

/// node_exporter's names for the same thing, for those who bring its queries or boards.
const NODE_EXPORTER: &[(&str, &str)] = &[
    ("system.cpu.load_average.1m", "node_load1"),
    ("system.cpu.load_average.5m", "node_load5"),
    ("system.cpu.load_average.15m", "node_load15"),
    ("system.cpu.utilization", "node_cpu_seconds_total (as a rate)"),
    ("system.disk.io", "node_disk_read_bytes_total, node_disk_written_bytes_total"),
    ("system.disk.io_time", "node_disk_io_time_seconds_total"),
    (
        "system.disk.operation_time",
        "node_disk_read_time_seconds_total, node_disk_write_time_seconds_total",
    ),
    ("system.disk.operations", "node_disk_reads_completed_total, node_disk_writes_completed_total"),
    ("system.filesystem.limit", "node_filesystem_size_bytes"),
    ("system.filesystem.usage", "node_filesystem_free_bytes, node_filesystem_avail_bytes"),
    ("system.memory.limit", "node_memory_MemTotal_bytes"),
    ("system.memory.linux.available", "node_memory_MemAvailable_bytes"),
    ("system.memory.oom_kills", "node_vmstat_oom_kill"),
    (
        "system.memory.usage",
        "node_memory_MemFree_bytes, node_memory_Cached_bytes, node_memory_Buffers_bytes",
    ),
    ("system.network.connection.count", "node_netstat_Tcp_CurrEstab, node_sockstat_TCP_tw"),
    ("system.network.errors", "node_network_receive_errs_total, node_network_transmit_errs_total"),
    ("system.network.io", "node_network_receive_bytes_total, node_network_transmit_bytes_total"),
    (
        "system.network.packet.count",
        "node_network_receive_packets_total, node_network_transmit_packets_total",
    ),
    (
        "system.network.packet.dropped",
        "node_network_receive_drop_total, node_network_transmit_drop_total",
    ),
    ("system.network.tcp.retransmits", "node_netstat_Tcp_RetransSegs"),
    ("system.paging.faults", "node_vmstat_pgmajfault, node_vmstat_pgfault"),
    ("system.paging.operations", "node_vmstat_pswpin, node_vmstat_pswpout"),
    ("system.paging.usage", "node_memory_SwapTotal_bytes, node_memory_SwapFree_bytes"),
    ("system.pressure.time", "node_pressure_cpu_waiting_seconds_total and the like"),
    ("system.process.count", "node_processes_state"),
    ("system.process.created", "node_forks_total"),
    ("system.uptime", "node_time_seconds - node_boot_time_seconds"),
    ("hw.temperature", "node_hwmon_temp_celsius, node_thermal_zone_temp"),
];

fn page() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         What the collector sends. Names and labels follow the OpenTelemetry semantic conventions; what these lack is \
         named in the same style. In Prometheus form every character that is not a letter, digit or underscore becomes \
         an underscore: `system.cpu.utilization` is `system_cpu_utilization`. Ratios go from 0 to 1; counters are \
         cumulative.\n\n\
         This page is written from the code; a test compares the two.\n\n\
         | metric | kind | unit | meaning | node_exporter |\n|---|---|---|---|---|\n",
    );
    for metric in metric::ALL {
        let kind = match metric.kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        let peer = NODE_EXPORTER
            .iter()
            .find(|(name, _)| *name == metric.name)
            .map_or("", |(_, peer)| peer);
        writeln!(
            page,
            "| `{}` | {kind} | `{}` | {} | {peer} |",
            metric.name,
            metric.unit,
            metric.help.trim()
        )
        .expect("writing to a string");
    }
    page
}

#[test]
fn the_reference_page_lists_every_metric() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/metrics.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, page()).expect("docs/reference is writable");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/reference/metrics.md is out of date: BLESS=1 cargo test -p model"
    );
}

#[test]
fn every_translated_name_is_a_metric() {
    for (name, _) in NODE_EXPORTER {
        assert!(metric::ALL.iter().any(|metric| metric.name == *name), "{name}");
    }
}
