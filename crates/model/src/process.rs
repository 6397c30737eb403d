//! The top processes at one instant.

use crate::UnixMillis;

/// The union of the highest processes by CPU, by memory and by disk I/O.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessReport {
    pub time: UnixMillis,
    pub processes: Vec<Process>,
    /// All processes on the machine, listed here or not.
    pub total: u32,
    pub running: u32,
    pub blocked: u32,
    pub zombie: u32,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Process {
    pub pid: u32,
    pub parent_pid: u32,
    pub name: String,
    /// Secrets are replaced by `***` before they leave the machine.
    pub command_line: String,
    pub user: String,
    pub state: ProcessState,
    pub start_time: UnixMillis,
    /// Share of one logical CPU since the report before: 1.0 is one CPU fully used.
    pub cpu_utilization: f64,
    /// Resident set.
    pub memory_bytes: u64,
    /// Bytes per second to and from storage since the report before.
    pub disk_read_rate: f64,
    pub disk_write_rate: f64,
    pub threads: u32,
    /// Empty outside a container.
    pub container_id: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ProcessState {
    #[default]
    Unknown,
    Running,
    Sleeping,
    /// Waits for a disk, uninterruptibly.
    Blocked,
    Zombie,
    Stopped,
    Idle,
}

impl ProcessState {
    pub const ALL: [Self; 7] = [
        Self::Unknown,
        Self::Running,
        Self::Sleeping,
        Self::Blocked,
        Self::Zombie,
        Self::Stopped,
        Self::Idle,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "",
            Self::Running => "running",
            Self::Sleeping => "sleeping",
            Self::Blocked => "blocked",
            Self::Zombie => "zombie",
            Self::Stopped => "stopped",
            Self::Idle => "idle",
        }
    }

    /// `Unknown` for a name this version does not know.
    pub fn from_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|state| state.name() == name).unwrap_or_default()
    }
}
