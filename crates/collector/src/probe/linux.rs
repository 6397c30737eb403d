//! The probes of a Linux machine.
//!
//! Each file has a pure `parse` for every format it reads, tested on recorded files, and a probe that
//! reads, parses and puts.

use std::time::Duration;

use super::{Entry, LaneKind, Pace, collector_self};

mod container;
mod cpu;
mod disk;
mod filesystem;
mod load;
mod memory;
mod network;
mod pressure;
mod processes;
pub(super) mod source;
mod temperature;
mod uptime;
mod watch;

/// Every probe. Those that read only tables in the kernel's memory share a lane.
pub(super) const PROBES: &[Entry] = &[
    Entry { name: "cpu", lane: LaneKind::Shared, pace: Pace::Tick, open: cpu::open },
    Entry { name: "load", lane: LaneKind::Shared, pace: Pace::Tick, open: load::open },
    Entry { name: "pressure", lane: LaneKind::Shared, pace: Pace::Tick, open: pressure::open },
    Entry { name: "memory", lane: LaneKind::Shared, pace: Pace::Tick, open: memory::open },
    Entry { name: "disk", lane: LaneKind::Shared, pace: Pace::Tick, open: disk::open },
    Entry { name: "network", lane: LaneKind::Shared, pace: Pace::Tick, open: network::open },
    Entry { name: "uptime", lane: LaneKind::Shared, pace: Pace::Tick, open: uptime::open },
    Entry {
        name: "filesystem",
        lane: LaneKind::Own,
        pace: Pace::Every(Duration::from_secs(10)),
        open: filesystem::open,
    },
    Entry {
        name: "temperature",
        lane: LaneKind::Own,
        pace: Pace::Every(Duration::from_secs(5)),
        open: temperature::open,
    },
    // The command line of a process waits for its memory map, which a stuck process may hold.
    Entry { name: "processes", lane: LaneKind::Own, pace: Pace::Processes, open: processes::open },
    Entry {
        name: "container",
        lane: LaneKind::Own,
        pace: Pace::Every(Duration::from_secs(5)),
        open: container::open,
    },
    Entry {
        name: "collector",
        lane: LaneKind::Shared,
        pace: Pace::Tick,
        open: collector_self::open,
    },
];
