//! The metrics that Muster's own collector sends, by name.
//!
//! Names follow the OpenTelemetry semantic conventions for system, process and container metrics. What
//! these lack (load, pressure, the collector's own cost) is named in the same style. `Display` form maps
//! one to one to Prometheus: [`prometheus_name`].

/// A metric: name, unit, kind and what it means, for probes, documentation and the dashboard alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    pub name: &'static str,
    pub unit: &'static str,
    pub kind: crate::Kind,
    pub help: &'static str,
}

impl Metric {
    /// The series of this metric with these labels.
    pub fn with(&self, labels: crate::Labels) -> crate::Series {
        crate::Series { metric: self.name.into(), labels, kind: self.kind, unit: self.unit.into() }
    }

    /// The series of this metric without labels.
    pub fn alone(&self) -> crate::Series {
        self.with(crate::Labels::empty())
    }
}

/// `system.cpu.utilization` becomes `system_cpu_utilization`.
pub fn prometheus_name(name: &str) -> String {
    name.replace(['.', '-', '/'], "_")
}

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $id:ident = $kind:ident $name:literal $unit:literal;)+) => {
        $(
            $(#[doc = $help])+
            pub const $id: Metric = Metric {
                name: $name,
                unit: $unit,
                kind: crate::Kind::$kind,
                help: concat!($($help),+),
            };
        )+
        /// Every metric above.
        pub const ALL: &[Metric] = &[$($id),+];
    };
}

metrics! {
    /// Share of CPU time in use. Without labels: all CPUs, idle and waiting left out. With `cpu.mode`: all CPUs in that mode. With `cpu.logical_number`: one CPU, idle and waiting left out.
    CPU_UTILIZATION = Gauge "system.cpu.utilization" "1";
    /// Load average over one minute.
    LOAD_1M = Gauge "system.cpu.load_average.1m" "{thread}";
    /// Load average over five minutes.
    LOAD_5M = Gauge "system.cpu.load_average.5m" "{thread}";
    /// Load average over fifteen minutes.
    LOAD_15M = Gauge "system.cpu.load_average.15m" "{thread}";
    /// Logical CPUs that are on line.
    CPU_LOGICAL_COUNT = Gauge "system.cpu.logical.count" "{cpu}";
    /// Share of the last ten seconds in which tasks waited for `system.pressure.resource`; `some` or `full` of them by `system.pressure.kind`.
    PRESSURE_UTILIZATION = Gauge "system.pressure.utilization" "1";
    /// Time in which tasks waited for a resource.
    PRESSURE_TIME = Counter "system.pressure.time" "s";
    /// Memory by `system.memory.state`: used, free, cached, buffers.
    MEMORY_USAGE = Gauge "system.memory.usage" "By";
    /// Share of memory that is not available to new programs.
    MEMORY_UTILIZATION = Gauge "system.memory.utilization" "1";
    /// Memory that new programs can have without swapping.
    MEMORY_AVAILABLE = Gauge "system.memory.linux.available" "By";
    /// Installed memory.
    MEMORY_LIMIT = Gauge "system.memory.limit" "By";
    /// Swap by `system.paging.state`: used, free.
    PAGING_USAGE = Gauge "system.paging.usage" "By";
    /// Share of swap in use.
    PAGING_UTILIZATION = Gauge "system.paging.utilization" "1";
    /// Pages moved by `system.paging.direction` (in, out) from and to swap.
    PAGING_OPERATIONS = Counter "system.paging.operations" "{operation}";
    /// Page faults by `system.paging.fault.type`: major, minor.
    PAGING_FAULTS = Counter "system.paging.faults" "{fault}";
    /// Space of a filesystem by `system.filesystem.state`: used, free (for everyone), reserved.
    FILESYSTEM_USAGE = Gauge "system.filesystem.usage" "By";
    /// Share of a filesystem's space, without what is reserved, that is in use.
    FILESYSTEM_UTILIZATION = Gauge "system.filesystem.utilization" "1";
    /// Size of a filesystem.
    FILESYSTEM_LIMIT = Gauge "system.filesystem.limit" "By";
    /// Share of a filesystem's inodes in use.
    FILESYSTEM_INODES_UTILIZATION = Gauge "system.filesystem.inodes.utilization" "1";
    /// Bytes moved by `system.device` and `disk.io.direction` (read, write).
    DISK_IO = Counter "system.disk.io" "By";
    /// Operations by `system.device` and `disk.io.direction`.
    DISK_OPERATIONS = Counter "system.disk.operations" "{operation}";
    /// Time in which the device had work.
    DISK_IO_TIME = Counter "system.disk.io_time" "s";
    /// Time spent on operations by direction, summed over those in flight.
    DISK_OPERATION_TIME = Counter "system.disk.operation_time" "s";
    /// Bytes by `network.interface.name` and `network.io.direction` (receive, transmit).
    NETWORK_IO = Counter "system.network.io" "By";
    /// Packets by interface and direction.
    NETWORK_PACKETS = Counter "system.network.packet.count" "{packet}";
    /// Packets lost for want of room, by interface and direction.
    NETWORK_DROPPED = Counter "system.network.packet.dropped" "{packet}";
    /// Packets with errors, by interface and direction.
    NETWORK_ERRORS = Counter "system.network.errors" "{error}";
    /// Connections by `network.transport` (tcp) and `network.connection.state`.
    NETWORK_CONNECTIONS = Gauge "system.network.connection.count" "{connection}";
    /// TCP segments sent again.
    NETWORK_TCP_RETRANSMITS = Counter "system.network.tcp.retransmits" "{segment}";
    /// Temperature by `hw.id` and `hw.name`.
    TEMPERATURE = Gauge "hw.temperature" "Cel";
    /// Time since boot.
    UPTIME = Gauge "system.uptime" "s";
    /// Processes by `process.state`: running, sleeping, blocked, zombie, stopped.
    PROCESS_COUNT = Gauge "system.process.count" "{process}";
    /// Processes that run, by `process.pattern`: each of `collector.probes.watched_processes`, also when none does.
    PROCESS_WATCHED = Gauge "process.watched.count" "{process}";
    /// Processes started since boot.
    PROCESS_CREATED = Counter "system.process.created" "{process}";
    /// Processes that the kernel killed for want of memory.
    OOM_KILLS = Counter "system.memory.oom_kills" "{process}";
    /// CPU time of a container. Labels of all container metrics: `container.id`, `container.name`, `container.image.name`, `container.runtime.name`.
    CONTAINER_CPU_TIME = Counter "container.cpu.time" "s";
    /// CPUs in use by a container: 1 is one CPU fully used.
    CONTAINER_CPU_USAGE = Gauge "container.cpu.usage" "{cpu}";
    /// Memory in use by a container, without reclaimable file cache.
    CONTAINER_MEMORY_USAGE = Gauge "container.memory.usage" "By";
    /// Memory a container may use. Absent: no limit.
    CONTAINER_MEMORY_LIMIT = Gauge "container.memory.limit" "By";
    /// Bytes moved by a container, by `disk.io.direction`.
    CONTAINER_DISK_IO = Counter "container.disk.io" "By";
    /// Bytes of a container by `network.io.direction`.
    CONTAINER_NETWORK_IO = Counter "container.network.io" "By";
    /// Times a container was restarted by its engine.
    CONTAINER_RESTARTS = Gauge "container.restarts" "{restart}";
    /// Health check of a container: 1 healthy, 0 unhealthy, absent without a check or before its first result.
    CONTAINER_HEALTHY = Gauge "container.healthy" "1";
    /// Processes of a container.
    CONTAINER_PROCESSES = Gauge "container.process.count" "{process}";
    /// Containers that run, by `container.pattern`: each of `collector.probes.watched_containers`, also when none does.
    CONTAINER_WATCHED = Gauge "container.watched.count" "{container}";
    /// CPU time that the collector itself used.
    COLLECTOR_CPU_TIME = Counter "muster.collector.cpu.time" "s";
    /// Resident memory of the collector's process.
    COLLECTOR_MEMORY_USAGE = Gauge "muster.collector.memory.usage" "By";
    /// Time that the latest reading of all due probes took.
    COLLECTOR_TICK_DURATION = Gauge "muster.collector.tick.duration" "s";
    /// Ticks that were left out because the one before was not done.
    COLLECTOR_TICKS_MISSED = Counter "muster.collector.ticks_missed" "{tick}";
    /// Bytes in the spool, acknowledged segments not counted.
    SPOOL_USAGE = Gauge "muster.collector.spool.usage" "By";
    /// Items in the spool that are not acknowledged.
    SPOOL_ITEMS = Gauge "muster.collector.spool.items" "{item}";
    /// Items that the spool's bound pushed out.
    SPOOL_DROPPED = Counter "muster.collector.spool.dropped" "{item}";
    /// Items that the aggregator refused.
    ITEMS_REJECTED = Counter "muster.collector.items_rejected" "{item}";
    /// Time from sending an item to its acknowledgement, latest.
    ACK_LATENCY = Gauge "muster.collector.ack.latency" "s";
    /// Log events that were read.
    LOG_EVENTS_READ = Counter "muster.collector.log.events" "{event}";
    /// Log events that were dropped because they came faster than they may, or as datagrams for which there was no room.
    LOG_EVENTS_DROPPED = Counter "muster.collector.log.dropped" "{event}";
    /// Log files that are followed.
    LOG_FILES = Gauge "muster.collector.log.files" "{file}";
    /// Log sources that the server asks for and the machine's owner does not allow.
    LOG_SOURCES_REFUSED = Gauge "muster.collector.log.sources_refused" "{source}";
    /// Series that programs on the machine send: by StatsD or OTLP.
    PUSH_SERIES = Gauge "muster.collector.push.series" "{series}";
    /// Values of programs that were refused: not understood, or of more series than there may be.
    PUSH_REFUSED = Counter "muster.collector.push.refused" "{value}";
    /// Time until the certificate expires that the collector shows to aggregators, in whole hours. Of collectors that have one.
    CERTIFICATE_REMAINING = Gauge "muster.collector.certificate.remaining" "s";
    /// Probes by `muster.probe` that fail now: 1 while failing, 0 otherwise.
    PROBE_FAILING = Gauge "muster.collector.probe.failing" "1";
    /// Samples that the server's probe has sent. In no machine's list.
    PROBE_SAMPLES = Counter "muster.probe.samples" "{sample}";
    /// Time that the sample before took, by `muster.probe.stage`: until it was stored, streamed, shown on a page.
    PROBE_LATENCY = Gauge "muster.probe.latency" "s";
    /// Log events that the server took in, by `service.name` and `severity` (trace, debug, info, warn, error, fatal, unknown). Made by the server for every machine that logs.
    LOG_EVENTS = Counter "muster.log.events" "{event}";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_distinct_in_prometheus_form_too() {
        let names: HashSet<_> = ALL.iter().map(|m| prometheus_name(m.name)).collect();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn every_metric_makes_a_valid_series() {
        let series = ALL.iter().map(Metric::alone).collect();
        crate::Layout::new(series).expect("valid layout");
    }
}
