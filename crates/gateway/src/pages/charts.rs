//! The charts of the machine page, one entry each. The scripts read them from the page.

use model::metric;

/// How the series of a chart are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Draw {
    /// One line each.
    Lines,
    /// On top of each other.
    Stack,
    /// One row each, darker is more.
    Heat,
    /// One direction above the axis, the other below.
    Mirror,
}

#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// One line that explains it, for who hovers.
    pub(crate) about: &'static str,
    pub(crate) draw: Draw,
    /// `ratio`, `bytes`, `bytes/s`, `celsius`, `number`, `number/s`, `cpus`.
    pub(crate) unit: &'static str,
    pub(crate) metrics: &'static [&'static str],
    /// Labels that name a series; the metric's own name when empty.
    pub(crate) by: &'static [&'static str],
    /// Only series that match: `label=value`, `label!=value`, or `label` for any value.
    pub(crate) only: &'static [&'static str],
    /// In `Mirror`, the label value that goes below.
    pub(crate) below: &'static str,
    /// In `Mirror`, what stands before the value above and the one below.
    pub(crate) sides: [&'static str; 2],
    /// In `Stack`, what picks the series of the whole: its highest values are a line above the means of the past.
    pub(crate) peak: &'static [&'static str],
    /// Order and choice of names where it matters; other series follow.
    pub(crate) order: &'static [&'static str],
    /// Value at the top of the axis, at least; 0: as the data have it.
    pub(crate) full: f64,
    pub(crate) wide: bool,
}

impl Chart {
    pub(crate) fn draw_name(&self) -> &'static str {
        match self.draw {
            Draw::Lines => "lines",
            Draw::Stack => "stack",
            Draw::Heat => "heat",
            Draw::Mirror => "mirror",
        }
    }
}

impl Chart {
    /// A label that all its series have.
    pub(crate) fn having(&self) -> Option<&'static str> {
        self.only.iter().copied().find(|condition| !condition.contains('='))
    }
}

const PLAIN: Chart = Chart {
    id: "",
    title: "",
    about: "",
    draw: Draw::Lines,
    unit: "number",
    metrics: &[],
    by: &[],
    only: &[],
    below: "",
    sides: ["", ""],
    peak: &[],
    order: &[],
    full: 0.0,
    wide: false,
};

/// In the order of the page.
pub(crate) const CHARTS: &[Chart] = &[
    Chart {
        id: "cpu",
        title: "CPU",
        about: "Share of all CPUs by what they do; idle is what is left.",
        draw: Draw::Stack,
        unit: "ratio",
        metrics: &[metric::CPU_UTILIZATION.name],
        by: &["cpu.mode"],
        only: &["cpu.mode", "cpu.mode!=idle"],
        peak: &["cpu.mode=", "cpu.logical_number="],
        order: &["user", "system", "nice", "iowait", "interrupt", "irq", "softirq", "steal"],
        full: 1.0,
        wide: true,
        ..PLAIN
    },
    Chart {
        id: "memory",
        title: "Memory",
        about: "What memory holds; what is not coloured is free.",
        draw: Draw::Stack,
        unit: "bytes",
        metrics: &[metric::MEMORY_USAGE.name, metric::MEMORY_LIMIT.name],
        by: &["system.memory.state"],
        only: &["system.memory.state!=free"],
        order: &["used", "buffers", "cached"],
        ..PLAIN
    },
    Chart {
        id: "network",
        title: "Network",
        about: "Bytes per second by interface: received above, sent below.",
        draw: Draw::Mirror,
        unit: "bytes/s",
        metrics: &[metric::NETWORK_IO.name],
        by: &["network.interface.name"],
        only: &["network.interface.name!=lo"],
        below: "network.io.direction=transmit",
        sides: ["↓", "↑"],
        ..PLAIN
    },
    Chart {
        id: "disk",
        title: "Disk I/O",
        about: "Bytes per second by device: read above, written below.",
        draw: Draw::Mirror,
        unit: "bytes/s",
        metrics: &[metric::DISK_IO.name],
        by: &["system.device"],
        below: "disk.io.direction=write",
        sides: ["R", "W"],
        ..PLAIN
    },
    Chart {
        id: "cores",
        title: "CPU by core",
        about: "One row for each logical CPU; stronger is busier.",
        draw: Draw::Heat,
        unit: "ratio",
        metrics: &[metric::CPU_UTILIZATION.name],
        by: &["cpu.logical_number"],
        only: &["cpu.logical_number"],
        full: 1.0,
        ..PLAIN
    },
    Chart {
        id: "pressure",
        title: "Pressure",
        about: "Share of time in which some task had to wait for CPU, memory or storage.",
        unit: "ratio",
        metrics: &[metric::PRESSURE_UTILIZATION.name],
        by: &["system.pressure.resource"],
        only: &["system.pressure.kind=some"],
        full: 0.1,
        ..PLAIN
    },
    Chart {
        id: "load",
        title: "Load",
        about: "Tasks that run or wait, averaged over 1, 5 and 15 minutes; the dashed line is the number of CPUs.",
        metrics: &[
            metric::LOAD_1M.name,
            metric::LOAD_5M.name,
            metric::LOAD_15M.name,
            metric::CPU_LOGICAL_COUNT.name,
        ],
        ..PLAIN
    },
    Chart {
        id: "swap",
        title: "Swap",
        about: "Swap in use.",
        draw: Draw::Stack,
        unit: "bytes",
        metrics: &[metric::PAGING_USAGE.name],
        by: &["system.paging.state"],
        only: &["system.paging.state=used"],
        ..PLAIN
    },
    Chart {
        id: "filesystems",
        title: "Filesystems",
        about: "Share of each filesystem's space in use.",
        unit: "ratio",
        metrics: &[metric::FILESYSTEM_UTILIZATION.name],
        by: &["system.filesystem.mountpoint"],
        full: 1.0,
        ..PLAIN
    },
    Chart {
        id: "disk-busy",
        title: "Disk busy",
        about: "Share of time in which a device had work.",
        unit: "ratio",
        metrics: &[metric::DISK_IO_TIME.name],
        by: &["system.device"],
        full: 0.1,
        ..PLAIN
    },
    Chart {
        id: "disk-operations",
        title: "Disk operations",
        about: "Operations per second by device: read above, written below.",
        draw: Draw::Mirror,
        unit: "number/s",
        metrics: &[metric::DISK_OPERATIONS.name],
        by: &["system.device"],
        below: "disk.io.direction=write",
        sides: ["R", "W"],
        ..PLAIN
    },
    Chart {
        id: "inodes",
        title: "Inodes",
        about: "Share of each filesystem's inodes in use: without one, no file can be made.",
        unit: "ratio",
        metrics: &[metric::FILESYSTEM_INODES_UTILIZATION.name],
        by: &["system.filesystem.mountpoint"],
        full: 1.0,
        ..PLAIN
    },
    Chart {
        id: "connections",
        title: "TCP connections",
        about: "Connections by state.",
        metrics: &[metric::NETWORK_CONNECTIONS.name],
        by: &["network.connection.state"],
        ..PLAIN
    },
    Chart {
        id: "network-trouble",
        title: "Network errors and drops",
        about: "Packets per second that were lost or damaged, by interface.",
        unit: "number/s",
        metrics: &[metric::NETWORK_ERRORS.name, metric::NETWORK_DROPPED.name],
        by: &["network.interface.name", "network.io.direction"],
        only: &["network.interface.name!=lo"],
        ..PLAIN
    },
    Chart {
        id: "temperature",
        title: "Temperatures",
        about: "Every sensor that the machine has.",
        unit: "celsius",
        metrics: &[metric::TEMPERATURE.name],
        by: &["hw.name", "hw.id"],
        ..PLAIN
    },
    Chart {
        id: "processes",
        title: "Process counts",
        about: "Processes by state; sleeping ones left out.",
        metrics: &[metric::PROCESS_COUNT.name],
        by: &["process.state"],
        only: &["process.state!=sleeping"],
        ..PLAIN
    },
    Chart {
        id: "container-cpu",
        title: "Containers: CPU",
        about: "CPUs in use by each container: 1 is one CPU fully used.",
        unit: "cpus",
        metrics: &[metric::CONTAINER_CPU_USAGE.name],
        by: &["container.name"],
        ..PLAIN
    },
    Chart {
        id: "container-memory",
        title: "Containers: memory",
        about: "Memory in use by each container, without reclaimable cache.",
        unit: "bytes",
        metrics: &[metric::CONTAINER_MEMORY_USAGE.name],
        by: &["container.name"],
        ..PLAIN
    },
    Chart {
        id: "container-network",
        title: "Containers: network",
        about: "Bytes per second of each container: received above, sent below.",
        draw: Draw::Mirror,
        unit: "bytes/s",
        metrics: &[metric::CONTAINER_NETWORK_IO.name],
        by: &["container.name"],
        below: "network.io.direction=transmit",
        sides: ["↓", "↑"],
        ..PLAIN
    },
    Chart {
        id: "container-disk",
        title: "Containers: disk I/O",
        about: "Bytes per second of each container: read above, written below.",
        draw: Draw::Mirror,
        unit: "bytes/s",
        metrics: &[metric::CONTAINER_DISK_IO.name],
        by: &["container.name"],
        below: "disk.io.direction=write",
        sides: ["R", "W"],
        ..PLAIN
    },
];

/// Every metric that some chart shows, each once.
pub(crate) fn metrics() -> Vec<String> {
    let mut names: Vec<_> = CHARTS.iter().flat_map(|chart| chart.metrics).copied().collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn charts_have_names_of_their_own_and_known_metrics() {
        let ids: HashSet<_> = CHARTS.iter().map(|chart| chart.id).collect();
        assert_eq!(ids.len(), CHARTS.len());
        for name in metrics() {
            assert!(metric::ALL.iter().any(|m| m.name == name), "{name}");
        }
    }
}
