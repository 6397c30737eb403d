//! What each whole disk reads and writes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use model::metric::{DISK_IO, DISK_IO_TIME, DISK_OPERATION_TIME, DISK_OPERATIONS};

use super::source::{Source, number};
use crate::probe::quantise::seconds;
use crate::probe::{At, Filter, Probe, Setup, Sheet};

/// More disks than this are left out and counted.
const DISKS_MAX: usize = 256;
/// Device names that are remembered; beyond, something makes up names.
const NAMES_MAX: usize = 4096;
/// `/proc/diskstats` counts in these, whatever the disk's own sectors are.
const SECTOR_BYTES: u64 = 512;

struct Disk {
    diskstats: Source,
    block: PathBuf,
    filter: Filter,
    /// Whether to read a device: asked of sysfs once per name.
    wanted: HashMap<String, bool>,
}

pub(super) fn open(setup: &Setup) -> Box<dyn Probe> {
    Box::new(Disk {
        diskstats: Source::new(setup.config.proc_root.join("diskstats")),
        block: setup.config.sys_root.join("class/block"),
        filter: setup.config.disks.clone(),
        wanted: HashMap::new(),
    })
}

impl Probe for Disk {
    fn read(&mut self, _: At, sheet: &mut Sheet) -> anyhow::Result<()> {
        let text = self.diskstats.text()?;
        if self.wanted.len() > NAMES_MAX {
            self.wanted.clear();
        }
        let mut put = 0;
        for line in text.lines() {
            let Some(name) = line.split_ascii_whitespace().nth(2) else {
                continue;
            };
            let wanted = match self.wanted.get(name) {
                Some(&wanted) => wanted,
                None => {
                    let wanted = self.filter.allows(name, is_whole_disk(name, &self.block));
                    self.wanted.insert(name.to_owned(), wanted);
                    wanted
                }
            };
            if !wanted {
                continue;
            }
            if put == DISKS_MAX {
                sheet.left_out(1);
                continue;
            }
            put += 1;
            let counts = parse_line(line).with_context(|| format!("diskstats: {name}"))?;
            for (direction, one) in [("read", counts.read), ("write", counts.write)] {
                let labels = [("disk.io.direction", direction), ("system.device", name)];
                sheet.put(&DISK_IO, labels, one.sectors.saturating_mul(SECTOR_BYTES) as f64);
                sheet.put(&DISK_OPERATIONS, labels, one.operations as f64);
                sheet.put(&DISK_OPERATION_TIME, labels, seconds(one.ms as f64 / 1000.0));
            }
            let busy = seconds(counts.busy_ms as f64 / 1000.0);
            sheet.put(&DISK_IO_TIME, [("system.device", name)], busy);
        }
        Ok(())
    }
}

/// Whether a device is a disk of its own: no partition, nothing made of other disks (LVM, RAID, dm-crypt
/// would count the same bytes again), nothing in memory or in a file, no drive with removable media.
fn is_whole_disk(name: &str, block: &Path) -> bool {
    const VIRTUAL: [&str; 8] = ["loop", "ram", "zram", "fd", "sr", "dm-", "md", "nbd"];
    if VIRTUAL.iter().any(|prefix| name.starts_with(prefix)) {
        return false;
    }
    // In sysfs the slash of a name such as cciss/c0d0 is an exclamation mark.
    let device = block.join(name.replace('/', "!"));
    if !device.exists() {
        return !is_partition_name(name);
    }
    let has_slaves =
        || device.join("slaves").read_dir().is_ok_and(|mut slaves| slaves.next().is_some());
    !device.join("partition").exists() && !has_slaves()
}

/// By its name alone, where sysfs is not there: `sda1`, `vdb12`, `nvme0n1p2`, `mmcblk0p1`.
fn is_partition_name(name: &str) -> bool {
    let base = name.trim_end_matches(|c: char| c.is_ascii_digit());
    if base.len() == name.len() {
        return false;
    }
    match base.strip_suffix('p') {
        Some(disk) => disk.ends_with(|c: char| c.is_ascii_digit()),
        None => ["sd", "vd", "hd", "xvd"].iter().any(|disk| base.starts_with(disk)),
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Direction {
    operations: u64,
    sectors: u64,
    ms: u64,
}

#[derive(Debug, PartialEq)]
struct Counts {
    read: Direction,
    write: Direction,
    busy_ms: u64,
}

/// One line of `/proc/diskstats`, as Documentation/admin-guide/iostats.rst of the kernel numbers it.
fn parse_line(line: &str) -> anyhow::Result<Counts> {
    let mut fields = line.split_ascii_whitespace().skip(3);
    let mut next = |what| number::<u64>(fields.next(), what);
    let mut direction = |operations, merged, sectors, ms| {
        let operations = next(operations)?;
        next(merged)?;
        anyhow::Ok(Direction { operations, sectors: next(sectors)?, ms: next(ms)? })
    };
    let read = direction("reads", "reads merged", "sectors read", "ms reading")?;
    let write = direction("writes", "writes merged", "sectors written", "ms writing")?;
    next("in flight")?;
    Ok(Counts { read, write, busy_ms: next("ms busy")? })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_recorded_line_gives_its_counts() {
        let line = " 254       0 vda 63817 10702 7377722 135482 11358 44636 7222032 37638 0 14288 \
                    174506 8354 20 1389648 1361 964 23";
        let counts = parse_line(line).expect("parses");
        assert_eq!(counts.read, Direction { operations: 63817, sectors: 7377722, ms: 135482 });
        assert_eq!(counts.write, Direction { operations: 11358, sectors: 7222032, ms: 37638 });
        assert_eq!(counts.busy_ms, 14288);
    }

    #[test]
    fn a_short_line_names_what_is_missing() {
        let error = parse_line("8 0 sda 1 2 3").expect_err("accepted");
        assert_eq!(error.to_string(), "ms reading is missing");
    }

    #[test]
    fn partitions_are_known_by_name_where_there_is_no_sysfs() {
        fn check(name: &str, whole: bool) {
            assert_eq!(is_whole_disk(name, Path::new("/nowhere")), whole, "{name}");
        }
        check("sda", true);
        check("sda1", false);
        check("sdaa12", false);
        check("vda", true);
        check("xvda1", false);
        check("nvme0n1", true);
        check("nvme0n1p2", false);
        check("mmcblk0", true);
        check("mmcblk0p1", false);
        check("mmcblk0boot0", true);
        check("loop3", false);
        check("ram0", false);
        check("zram0", false);
        check("sr0", false);
        check("dm-0", false);
        check("md127", false);
    }

    #[test]
    fn only_whole_disks_of_a_recorded_server_are_read() {
        let block = tempfile::tempdir().expect("temporary directory");
        let entry = |path: &str| fs::create_dir_all(block.path().join(path)).expect("writable");
        for disk in ["sda", "nvme0n1", "bcache0/slaves/sda", "cciss!c0d0"] {
            entry(disk);
        }
        for partition in ["sda1/partition", "nvme0n1p1/partition", "cciss!c0d0p1/partition"] {
            entry(partition);
        }
        let recorded = include_str!("../../../fixtures/proc/diskstats-server");
        let whole: Vec<&str> = recorded
            .lines()
            .filter_map(|line| line.split_ascii_whitespace().nth(2))
            .filter(|name| is_whole_disk(name, block.path()))
            .collect();
        assert_eq!(whole, ["nvme0n1", "sda", "cciss/c0d0"]);
        assert!(recorded.lines().all(|line| parse_line(line).is_ok()));
    }
}
