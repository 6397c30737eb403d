//! Processes, as rows and as JSON.

use std::collections::HashMap;

use proto::v1;
use serde::{Deserialize, Serialize};

use super::arrange::Placed;
use super::{ContainerLine, When};
use crate::format;
use crate::live::Number;

#[derive(Clone, Debug)]
pub(crate) struct ProcessLine {
    pub(crate) pid: u32,
    pub(crate) name: String,
    pub(crate) command_line: String,
    pub(crate) user: String,
    pub(crate) state: String,
    pub(crate) container: String,
    pub(crate) cpu: String,
    /// Whole percent of one CPU, at most 100, for a meter.
    pub(crate) cpu_percent: u8,
    /// Its share of all CPUs together; a dash where their number is not known.
    pub(crate) cpu_of_machine: String,
    pub(crate) memory: String,
    pub(crate) read: String,
    pub(crate) write: String,
    pub(crate) threads: u32,
    pub(crate) started: Option<When>,
    /// Ancestors above it, in a tree.
    pub(crate) depth: usize,
    /// What stands above it: the container that begins here.
    pub(crate) heading: Option<ContainerLine>,
}

impl ProcessLine {
    /// `cpus` is how many the machine has, 0 when that is not known.
    pub(crate) fn new(
        placed: Placed,
        containers: &HashMap<String, String>,
        cpus: u32,
        now_ms: i64,
    ) -> Self {
        let Placed { process, depth, heading } = placed;
        let rate = |v: f64| if v > 0.0 { format::bytes_rate(v) } else { "0".to_owned() };
        let started = process.start_time_unix_ms;
        Self {
            pid: process.pid,
            cpu: format::percent(process.cpu_utilization),
            cpu_percent: (process.cpu_utilization.clamp(0.0, 1.0) * 100.0).round() as u8,
            cpu_of_machine: match cpus {
                0 => "–".to_owned(),
                cpus => format::percent(process.cpu_utilization / f64::from(cpus)),
            },
            memory: format::bytes(process.memory_bytes as f64),
            read: rate(process.disk_read_bytes_per_second),
            write: rate(process.disk_write_bytes_per_second),
            threads: process.threads,
            started: (started > 0).then(|| When::new(now_ms, started)),
            container: match containers.get(&process.container_id) {
                Some(name) => name.clone(),
                None => process.container_id.chars().take(12).collect(),
            },
            depth,
            heading,
            name: process.name,
            command_line: process.command_line,
            user: process.user,
            state: process.state,
        }
    }
}

/// What the table is ordered by; always the most first, but for names and numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProcessSort {
    #[default]
    Cpu,
    Memory,
    Io,
    Name,
    User,
    Pid,
}

impl ProcessSort {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Io => "io",
            Self::Name => "name",
            Self::User => "user",
            Self::Pid => "pid",
        }
    }

    pub(crate) fn sort(self, processes: &mut [v1::Process]) {
        let io = |p: &v1::Process| p.disk_read_bytes_per_second + p.disk_write_bytes_per_second;
        match self {
            Self::Cpu => {
                processes.sort_by(|a, b| b.cpu_utilization.total_cmp(&a.cpu_utilization));
            }
            Self::Memory => processes.sort_by_key(|p| std::cmp::Reverse(p.memory_bytes)),
            Self::Io => processes.sort_by(|a, b| io(b).total_cmp(&io(a))),
            Self::Name => processes.sort_by_cached_key(|p| p.name.to_lowercase()),
            Self::User => processes.sort_by_cached_key(|p| p.user.to_lowercase()),
            Self::Pid => processes.sort_by_key(|p| p.pid),
        }
    }
}

/// Whether every word occurs in the name, the command line, the user, the number or the container.
pub(crate) fn matches(process: &v1::Process, text: &str) -> bool {
    let text = text.to_lowercase();
    let pid = process.pid.to_string();
    let fields = [
        process.name.to_lowercase(),
        process.command_line.to_lowercase(),
        process.user.to_lowercase(),
        process.container_id.to_lowercase(),
    ];
    text.split_whitespace()
        .all(|word| pid == word || fields.iter().any(|field| field.contains(word)))
}

#[derive(Debug, Serialize)]
pub(crate) struct ProcessJson {
    pid: u32,
    parent_pid: u32,
    name: String,
    command_line: String,
    user: String,
    state: String,
    start_time: Option<String>,
    cpu_utilization: Number,
    memory_bytes: u64,
    disk_read_bytes_per_second: Number,
    disk_write_bytes_per_second: Number,
    threads: u32,
    container_id: String,
}

impl From<v1::Process> for ProcessJson {
    fn from(process: v1::Process) -> Self {
        let started = process.start_time_unix_ms;
        Self {
            pid: process.pid,
            parent_pid: process.parent_pid,
            name: process.name,
            command_line: process.command_line,
            user: process.user,
            state: process.state,
            start_time: (started > 0).then(|| format::rfc3339(started)),
            cpu_utilization: Number(process.cpu_utilization),
            memory_bytes: process.memory_bytes,
            disk_read_bytes_per_second: Number(process.disk_read_bytes_per_second),
            disk_write_bytes_per_second: Number(process.disk_write_bytes_per_second),
            threads: process.threads,
            container_id: process.container_id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_by_what_people_remember_of_it() {
        fn check(text: &str, found: bool) {
            let process = v1::Process {
                pid: 4242,
                name: "stress-ng".to_owned(),
                command_line: "stress-ng --cpu 1".to_owned(),
                user: "Build".to_owned(),
                ..Default::default()
            };
            assert_eq!(matches(&process, text), found, "{text:?}");
        }
        check("", true);
        check("STRESS", true);
        check("build --cpu", true);
        check("4242", true);
        check("42", false);
        check("stress nginx", false);
    }

    #[test]
    fn the_busiest_come_first() {
        let process = |pid, cpu, memory_bytes| v1::Process {
            pid,
            cpu_utilization: cpu,
            memory_bytes,
            ..Default::default()
        };
        let mut some = [process(1, 0.1, 9), process(2, 0.9, 1), process(3, f64::NAN, 5)];
        ProcessSort::Memory.sort(&mut some);
        assert_eq!(some.each_ref().map(|p| p.pid), [1, 3, 2]);
        ProcessSort::Pid.sort(&mut some);
        assert_eq!(some.each_ref().map(|p| p.pid), [1, 2, 3]);
    }
}
