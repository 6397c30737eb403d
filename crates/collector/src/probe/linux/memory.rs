//! Memory, swap, page faults, and processes killed for want of memory.

use anyhow::Context;
use model::metric::{
    MEMORY_AVAILABLE, MEMORY_LIMIT, MEMORY_USAGE, MEMORY_UTILIZATION, OOM_KILLS, PAGING_FAULTS,
    PAGING_OPERATIONS, PAGING_USAGE, PAGING_UTILIZATION,
};
use model::{EventKind, Labels, MachineEvent};

use super::source::{Source, number};
use crate::probe::quantise::share;
use crate::probe::{At, Probe, Setup, Sheet};

struct Memory {
    meminfo: Source,
    vmstat: Source,
    oom_kills_before: Option<u64>,
}

pub(super) fn open(setup: &Setup) -> Box<dyn Probe> {
    Box::new(Memory {
        meminfo: Source::new(setup.config.proc_root.join("meminfo")),
        vmstat: Source::new(setup.config.proc_root.join("vmstat")),
        oom_kills_before: None,
    })
}

impl Probe for Memory {
    fn read(&mut self, at: At, sheet: &mut Sheet) -> anyhow::Result<()> {
        let memory = parse_meminfo(&self.meminfo.text()?)?;
        for (state, bytes) in memory.states() {
            sheet.put(&MEMORY_USAGE, [("system.memory.state", state)], bytes as f64);
        }
        let taken = memory.total.saturating_sub(memory.available);
        sheet.put(&MEMORY_UTILIZATION, [], share(taken as f64, memory.total as f64));
        sheet.put(&MEMORY_AVAILABLE, [], memory.available as f64);
        sheet.put(&MEMORY_LIMIT, [], memory.total as f64);
        if memory.swap_total > 0 {
            let used = memory.swap_total.saturating_sub(memory.swap_free);
            sheet.put(&PAGING_USAGE, [("system.paging.state", "used")], used as f64);
            let free = memory.swap_free as f64;
            sheet.put(&PAGING_USAGE, [("system.paging.state", "free")], free);
            sheet.put(&PAGING_UTILIZATION, [], share(used as f64, memory.swap_total as f64));
        }

        let paging = parse_vmstat(&self.vmstat.text()?);
        for (direction, pages) in [("in", paging.swapped_in), ("out", paging.swapped_out)] {
            let labels = [("system.paging.direction", direction)];
            sheet.put(&PAGING_OPERATIONS, labels, optional(pages));
        }
        let minor = paging.faults.map(|all| all.saturating_sub(paging.faults_major.unwrap_or(0)));
        for (kind, faults) in [("major", paging.faults_major), ("minor", minor)] {
            sheet.put(&PAGING_FAULTS, [("system.paging.fault.type", kind)], optional(faults));
        }
        if let Some(kills) = paging.oom_kills {
            sheet.put(&OOM_KILLS, [], kills as f64);
            if let Some(new) = new_kills(self.oom_kills_before.replace(kills), kills) {
                sheet.event(oom_event(at, new));
            }
        }
        Ok(())
    }
}

fn optional(count: Option<u64>) -> f64 {
    count.map_or(f64::NAN, |count| count as f64)
}

fn new_kills(before: Option<u64>, now: u64) -> Option<u64> {
    before.and_then(|before| now.checked_sub(before)).filter(|new| *new > 0)
}

fn oom_event(at: At, kills: u64) -> MachineEvent {
    let processes = if kills == 1 { "process" } else { "processes" };
    MachineEvent {
        time: at.wall,
        kind: EventKind::OomKill,
        detail: format!("the kernel killed {kills} {processes} for want of memory"),
        attributes: Labels::of([("count", kills.to_string().as_str())]),
    }
}

/// Bytes, from `/proc/meminfo`.
#[derive(Debug, Default, PartialEq)]
struct Meminfo {
    total: u64,
    free: u64,
    available: u64,
    buffers: u64,
    /// Page cache and reclaimable slabs, without shared memory: that cannot be dropped.
    cached: u64,
    swap_total: u64,
    swap_free: u64,
}

impl Meminfo {
    /// Adds up to the total.
    fn states(&self) -> [(&'static str, u64); 4] {
        let others = self.free + self.buffers + self.cached;
        let used = self.total.saturating_sub(others);
        [("used", used), ("free", self.free), ("cached", self.cached), ("buffers", self.buffers)]
    }
}

fn parse_meminfo(text: &str) -> anyhow::Result<Meminfo> {
    let mut total = None;
    let mut available = None;
    let mut memory = Meminfo::default();
    let (mut page_cache, mut reclaimable, mut shared) = (0, 0, 0);
    for line in text.lines() {
        let Some((name, rest)) = line.split_once(':') else {
            continue;
        };
        let place: &mut u64 = match name {
            "MemTotal" => total.insert(0),
            "MemFree" => &mut memory.free,
            "MemAvailable" => available.insert(0),
            "Buffers" => &mut memory.buffers,
            "Cached" => &mut page_cache,
            "SReclaimable" => &mut reclaimable,
            "Shmem" => &mut shared,
            "SwapTotal" => &mut memory.swap_total,
            "SwapFree" => &mut memory.swap_free,
            _ => continue,
        };
        let kib: u64 = number(rest.split_ascii_whitespace().next(), name).context("meminfo")?;
        *place = kib.saturating_mul(1024);
    }
    memory.total = total.context("meminfo: MemTotal is missing")?;
    memory.cached = (page_cache + reclaimable).saturating_sub(shared);
    // Kernels before 3.14 do not say; this is what `free` reported then.
    let guess = memory.free + memory.buffers + memory.cached;
    memory.available = available.unwrap_or(guess).min(memory.total);
    Ok(memory)
}

/// Counts since boot, from `/proc/vmstat`.
#[derive(Debug, Default, PartialEq)]
struct Vmstat {
    swapped_in: Option<u64>,
    swapped_out: Option<u64>,
    faults: Option<u64>,
    faults_major: Option<u64>,
    /// Since Linux 4.13.
    oom_kills: Option<u64>,
}

/// What a kernel does not count stays absent, so there is nothing to fail on.
fn parse_vmstat(text: &str) -> Vmstat {
    let mut vmstat = Vmstat::default();
    for line in text.lines() {
        let Some((name, value)) = line.split_once(' ') else {
            continue;
        };
        let place = match name {
            "pswpin" => &mut vmstat.swapped_in,
            "pswpout" => &mut vmstat.swapped_out,
            "pgfault" => &mut vmstat.faults,
            "pgmajfault" => &mut vmstat.faults_major,
            "oom_kill" => &mut vmstat.oom_kills,
            _ => continue,
        };
        *place = value.trim().parse().ok();
    }
    vmstat
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_states_of_recorded_memory_add_up_to_the_total() {
        let recorded = include_str!("../../../fixtures/proc/meminfo");
        let memory = parse_meminfo(recorded).expect("parses");
        assert_eq!(memory.total, 24_684_096 * 1024);
        assert_eq!(memory.states().iter().map(|(_, bytes)| bytes).sum::<u64>(), memory.total);
        assert_eq!(memory.available, 24_320_028 * 1024);
    }

    #[test]
    fn shared_memory_counts_as_used() {
        let text = "MemTotal: 100 kB\nMemFree: 10 kB\nMemAvailable: 50 kB\nBuffers: 5 kB\n\
                    Cached: 40 kB\nSReclaimable: 5 kB\nShmem: 30 kB\n";
        let memory = parse_meminfo(text).expect("parses");
        let states = memory.states().map(|(state, bytes)| (state, bytes / 1024));
        assert_eq!(states, [("used", 70), ("free", 10), ("cached", 15), ("buffers", 5)]);
    }

    #[test]
    fn an_old_kernel_that_does_not_say_what_is_available_gets_an_estimate() {
        let text = "MemTotal: 100 kB\nMemFree: 10 kB\nBuffers: 5 kB\nCached: 40 kB\n";
        assert_eq!(parse_meminfo(text).expect("parses").available, 55 * 1024);
    }

    #[test]
    fn bad_memory_is_named() {
        let error = format!("{:#}", parse_meminfo("MemTotal: many kB").expect_err("accepted"));
        assert_eq!(error, "meminfo: MemTotal: expected a number, found \"many\"");
        assert!(parse_meminfo("MemFree: 1 kB").is_err());
    }

    #[test]
    fn recorded_paging_counts_are_found_and_missing_ones_stay_absent() {
        let vmstat = parse_vmstat(include_str!("../../../fixtures/proc/vmstat"));
        assert_eq!(vmstat.faults, Some(27_655_953));
        assert_eq!(vmstat.faults_major, Some(5_049));
        assert_eq!(vmstat.oom_kills, Some(0));
        assert_eq!(parse_vmstat("nr_free_pages 5\n"), Vmstat::default());
    }

    #[test]
    fn a_kill_is_an_event_only_when_it_is_new() {
        fn check(before: Option<u64>, now: u64, expected: Option<u64>) {
            assert_eq!(new_kills(before, now), expected, "{before:?} then {now}");
        }
        check(None, 7, None);
        check(Some(7), 7, None);
        check(Some(7), 9, Some(2));
        check(Some(7), 0, None);
    }
}
