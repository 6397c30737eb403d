//! What the measured server used, read from `/proc` when it runs on this machine.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// CPU time and memory of a process, at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: u64,
    pub(super) resident_peak_bytes: u64,
}

pub(super) fn used(pid: u32) -> Result<Used> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let stat = std::fs::read_to_string(proc.join("stat")).with_context(|| {
        format!("failed to read process {pid}: is it the server's, on this machine?")
    })?;
    let status = std::fs::read_to_string(proc.join("status"))?;
    parse(&stat, &status).with_context(|| format!("failed to understand /proc/{pid}"))
}

fn parse(stat: &str, status: &str) -> Option<Used> {
    // The name stands in parentheses and may hold anything, so fields are counted from the last one.
    let after_name = &stat[stat.rfind(')')? + 2..];
    let ticks = |field: usize| after_name.split(' ').nth(field - 3)?.parse::<u64>().ok();
    let kib = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key))?;
        line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
    };
    Some(Used {
        // utime and stime of proc_pid_stat(5), in ticks of 1/100 s on every Linux that runs Muster.
        cpu_seconds: (ticks(14)? + ticks(15)?) as f64 / 100.0,
        resident_bytes: kib("VmRSS:")? * 1024,
        resident_peak_bytes: kib("VmHWM:")? * 1024,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 150 0 0 20 0 1 0 99 0 0";
        let used = parse(stat, "VmHWM:\t 2048 kB\nVmRSS:\t 1024 kB\n").expect("parses");
        assert_eq!(used.cpu_seconds, 4.0);
        assert_eq!((used.resident_bytes, used.resident_peak_bytes), (1 << 20, 2 << 20));
    }
}
