//! The probes of machines other than Linux: what `sysinfo` gives everywhere.

use std::time::Duration;

use model::metric::{
    CPU_LOGICAL_COUNT, CPU_UTILIZATION, FILESYSTEM_LIMIT, FILESYSTEM_USAGE, FILESYSTEM_UTILIZATION,
    LOAD_1M, LOAD_5M, LOAD_15M, MEMORY_AVAILABLE, MEMORY_LIMIT, MEMORY_USAGE, MEMORY_UTILIZATION,
    NETWORK_ERRORS, NETWORK_IO, NETWORK_PACKETS, PAGING_USAGE, PAGING_UTILIZATION, TEMPERATURE,
    UPTIME,
};
use sysinfo::{Components, DiskRefreshKind, Disks, MemoryRefreshKind, Networks, System};

use super::quantise::{degrees, ratio, share};
use super::{At, Entry, LaneKind, Pace, Probe, Setup, Sheet, collector_self};

const SLOW: Pace = Pace::Every(Duration::from_secs(10));

pub(super) const PROBES: &[Entry] = &[
    Entry { name: "cpu", lane: LaneKind::Shared, pace: Pace::Tick, open: open::<Cpu> },
    Entry { name: "load", lane: LaneKind::Shared, pace: Pace::Tick, open: open::<Load> },
    Entry { name: "memory", lane: LaneKind::Shared, pace: Pace::Tick, open: open::<Memory> },
    Entry { name: "network", lane: LaneKind::Shared, pace: Pace::Tick, open: open::<Network> },
    Entry { name: "filesystem", lane: LaneKind::Own, pace: SLOW, open: open::<Filesystem> },
    Entry { name: "temperature", lane: LaneKind::Own, pace: SLOW, open: open::<Temperature> },
    Entry {
        name: "collector",
        lane: LaneKind::Shared,
        pace: Pace::Tick,
        open: collector_self::open,
    },
];

fn open<P: Probe + Default + 'static>(_: &Setup) -> Box<dyn Probe> {
    Box::new(P::default())
}

#[derive(Default)]
struct Cpu {
    system: Option<System>,
}

impl Probe for Cpu {
    fn read(&mut self, _: At, sheet: &mut Sheet) -> anyhow::Result<()> {
        let known = self.system.is_some();
        let system = system(&mut self.system)?;
        system.refresh_cpu_usage();
        // Usage is of the time since the refresh before.
        let value = |percent: f32| if known { ratio(f64::from(percent) / 100.0) } else { f64::NAN };
        sheet.put(&CPU_UTILIZATION, [], value(system.global_cpu_usage()));
        for (number, cpu) in system.cpus().iter().enumerate() {
            let labels = [("cpu.logical_number", &*number.to_string())];
            sheet.put(&CPU_UTILIZATION, labels, value(cpu.usage()));
        }
        sheet.put(&CPU_LOGICAL_COUNT, [], system.cpus().len() as f64);
        Ok(())
    }
}

#[derive(Default)]
struct Load;

impl Probe for Load {
    fn read(&mut self, _: At, sheet: &mut Sheet) -> anyhow::Result<()> {
        // Not every system knows a load.
        if let Ok(load) = System::load_average() {
            sheet.put(&LOAD_1M, [], load.one);
            sheet.put(&LOAD_5M, [], load.five);
            sheet.put(&LOAD_15M, [], load.fifteen);
        }
        if let Ok(uptime) = System::uptime() {
            sheet.put(&UPTIME, [], uptime as f64);
        }
        Ok(())
    }
}

#[derive(Default)]
struct Memory {
    system: Option<System>,
}

impl Probe for Memory {
    fn read(&mut self, _: At, sheet: &mut Sheet) -> anyhow::Result<()> {
        let system = system(&mut self.system)?;
        system.refresh_memory_specifics(MemoryRefreshKind::everything());
        let total = system.total_memory() as f64;
        let available = system.available_memory() as f64;
        let used = ("used", system.used_memory());
        for (state, bytes) in [used, ("free", system.free_memory())] {
            sheet.put(&MEMORY_USAGE, [("system.memory.state", state)], bytes as f64);
        }
        sheet.put(&MEMORY_UTILIZATION, [], share(total - available, total));
        sheet.put(&MEMORY_AVAILABLE, [], available);
        sheet.put(&MEMORY_LIMIT, [], total);
        let (swap, used) = (system.total_swap() as f64, system.used_swap() as f64);
        if swap > 0.0 {
            for (state, bytes) in [("used", used), ("free", swap - used)] {
                sheet.put(&PAGING_USAGE, [("system.paging.state", state)], bytes);
            }
            sheet.put(&PAGING_UTILIZATION, [], share(used, swap));
        }
        Ok(())
    }
}

#[derive(Default)]
struct Network {
    networks: Option<Networks>,
}

impl Probe for Network {
    fn read(&mut self, _: At, sheet: &mut Sheet) -> anyhow::Result<()> {
        let networks = match &mut self.networks {
            Some(networks) => {
                networks.refresh(true);
                networks
            }
            None => self.networks.insert(Networks::new_with_refreshed_list().map_err(failed)?),
        };
        let mut all: Vec<_> = networks.iter().collect();
        all.sort_by_key(|(name, _)| *name);
        for (name, one) in all {
            let name = name.to_string_lossy();
            let received = (
                one.total_received(),
                one.total_packets_received(),
                one.total_errors_on_received(),
            );
            let sent = (
                one.total_transmitted(),
                one.total_packets_transmitted(),
                one.total_errors_on_transmitted(),
            );
            for (direction, (bytes, packets, errors)) in [("receive", received), ("transmit", sent)]
            {
                let labels =
                    [("network.interface.name", &*name), ("network.io.direction", direction)];
                sheet.put(&NETWORK_IO, labels, bytes as f64);
                sheet.put(&NETWORK_PACKETS, labels, packets as f64);
                sheet.put(&NETWORK_ERRORS, labels, errors as f64);
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Filesystem;

impl Probe for Filesystem {
    fn read(&mut self, _: At, sheet: &mut Sheet) -> anyhow::Result<()> {
        let what = DiskRefreshKind::nothing().with_storage();
        let disks = Disks::new_with_refreshed_list_specifics(what).map_err(failed)?;
        let mut disks: Vec<_> = disks.iter().collect();
        disks.sort_by_key(|disk| disk.mount_point());
        disks.dedup_by_key(|disk| disk.mount_point());
        for disk in disks {
            let mountpoint = disk.mount_point().to_string_lossy();
            let kind = disk.file_system().to_string_lossy();
            let labels = [
                ("system.filesystem.mountpoint", &*mountpoint),
                ("system.filesystem.type", &*kind),
            ];
            let (size, free) = (disk.total_space() as f64, disk.available_space() as f64);
            for (state, bytes) in [("used", size - free), ("free", free)] {
                let labels = [labels[0], ("system.filesystem.state", state), labels[1]];
                sheet.put(&FILESYSTEM_USAGE, labels, bytes);
            }
            sheet.put(&FILESYSTEM_UTILIZATION, labels, share(size - free, size));
            sheet.put(&FILESYSTEM_LIMIT, labels, size);
        }
        Ok(())
    }
}

#[derive(Default)]
struct Temperature;

impl Probe for Temperature {
    fn read(&mut self, _: At, sheet: &mut Sheet) -> anyhow::Result<()> {
        let components = Components::new_with_refreshed_list().map_err(failed)?;
        for (number, component) in components.iter().enumerate() {
            let number = number.to_string();
            let id = component.id().unwrap_or(&number);
            let celsius = component.temperature().map_or(f64::NAN, f64::from);
            let labels = [("hw.id", id), ("hw.name", component.label())];
            sheet.put(&TEMPERATURE, labels, degrees(celsius));
        }
        Ok(())
    }
}

fn system(place: &mut Option<System>) -> anyhow::Result<&mut System> {
    match place {
        Some(system) => Ok(system),
        None => Ok(place.insert(System::new().map_err(failed)?)),
    }
}

fn failed(error: sysinfo::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:?}")
}
