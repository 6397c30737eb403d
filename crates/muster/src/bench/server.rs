//! What the measured server used, read from `/proc` when it runs on this machine.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::Protocol;

/// CPU time and memory of a server, at one moment: its processes and all that they started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    pub(super) cpu_seconds: f64,
    /// Memory that several processes share counts once.
    pub(super) resident_bytes: u64,
}

/// Share of a core below which a server counts as quiet, and how long it must be, looked at in steps: what a server
/// puts off it may take up a while after the load. Muster closes an hour that something came late into half a minute
/// later, and looks for work every quarter of a minute.
const QUIET_SHARE: f64 = 0.05;
const QUIET_FOR: Duration = Duration::from_secs(50);
/// Other servers merge as they go.
const OTHERS_QUIET_FOR: Duration = Duration::from_secs(15);
const QUIET_STEP: Duration = Duration::from_secs(5);
const QUIET_AFTER_MAX: Duration = Duration::from_secs(240);

/// Waits until the server has done what it put off, as far as it ever is idle.
pub(super) async fn quiet(pids: &[u32], protocol: Protocol) -> Result<Used> {
    let quiet_for = match protocol {
        Protocol::Muster => QUIET_FOR,
        Protocol::RemoteWrite => OTHERS_QUIET_FOR,
    };
    let asked = Instant::now();
    let mut before = used(pids)?;
    let mut quiet = Duration::ZERO;
    loop {
        tokio::time::sleep(QUIET_STEP).await;
        let now = used(pids)?;
        let share = (now.cpu_seconds - before.cpu_seconds) / QUIET_STEP.as_secs_f64();
        quiet = if share < QUIET_SHARE { quiet + QUIET_STEP } else { Duration::ZERO };
        if quiet >= quiet_for || asked.elapsed() > QUIET_AFTER_MAX {
            return Ok(now);
        }
        before = now;
    }
}

/// Bytes of the files under a directory, as far as they can be seen.
pub(super) fn bytes_under(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_under(&entry.path()),
        // What is allocated: some stores reserve, others leave holes.
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(size).sum()
}

pub(super) fn used(pids: &[u32]) -> Result<Used> {
    for pid in pids {
        stat(*pid).with_context(|| {
            format!("failed to read process {pid}: is it the server's, on this machine?")
        })?;
    }
    // A process may end while it is looked at; its time is then in its parent's.
    let all: HashMap<u32, Stat> = std::fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid).ok()?)))
        .collect();
    let mut used = Used { cpu_seconds: 0.0, resident_bytes: 0 };
    for pid in family(pids, &all) {
        // Ticks of 1/100 s on every Linux that runs Muster.
        used.cpu_seconds += all[&pid].ticks as f64 / 100.0;
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
        used.resident_bytes += rollup.ok().and_then(|text| proportional_bytes(&text)).unwrap_or(0);
    }
    Ok(used)
}

/// These processes and their descendants, each once.
fn family(pids: &[u32], all: &HashMap<u32, Stat>) -> HashSet<u32> {
    let mut found: HashSet<u32> =
        pids.iter().copied().filter(|pid| all.contains_key(pid)).collect();
    loop {
        let known = found.len();
        let children = all.iter().filter(|(_, stat)| found.contains(&stat.parent));
        let children: Vec<u32> = children.map(|(pid, _)| *pid).collect();
        found.extend(children);
        if found.len() == known {
            return found;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// User and system time, with that of children that have ended and were waited for.
    ticks: u64,
}

fn stat(pid: u32) -> Result<Stat> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path)?;
    parse(&text).with_context(|| format!("failed to understand {path}"))
}

/// See proc_pid_stat(5).
fn parse(text: &str) -> Option<Stat> {
    // The name stands in parentheses and may hold anything, so fields are counted from the last one.
    let after_name = text.get(text.rfind(')')? + 2..)?;
    let field = |number: usize| after_name.split(' ').nth(number - 3)?.parse::<u64>().ok();
    let ticks = field(14)? + field(15)? + field(16)? + field(17)?;
    Some(Stat { parent: u32::try_from(field(4)?).ok()?, ticks })
}

fn proportional_bytes(smaps_rollup: &str) -> Option<u64> {
    let line = smaps_rollup.lines().find(|line| line.starts_with("Pss:"))?;
    Some(line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 150 20 30 20 0 1 0 99 0 0";
        assert_eq!(parse(stat), Some(Stat { parent: 1, ticks: 450 }));
        assert_eq!(parse("12 (a"), None);
        assert_eq!(proportional_bytes("00-ff ---p [rollup]\nRss: 9 kB\nPss:   2 kB\n"), Some(2048));
    }

    #[test]
    fn a_server_is_its_processes_and_all_that_they_started() {
        let stat = |parent| Stat { parent, ticks: 0 };
        let all = [(1, 0), (10, 1), (11, 10), (12, 11), (20, 1)];
        let all = all.into_iter().map(|(pid, parent)| (pid, stat(parent))).collect();
        assert_eq!(family(&[10, 99], &all), HashSet::from([10, 11, 12]));
    }

    #[test]
    fn this_very_process_can_be_measured() {
        let used = used(&[std::process::id()]).expect("reads");
        assert!(used.resident_bytes > 100_000, "{used:?}");
    }
}
