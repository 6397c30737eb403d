//! One monitored computer.

use std::fmt;
use std::str::FromStr;

use crate::UnixMillis;

/// Stable id of a machine: survives restarts and renames, differs between a disk and its clone.
/// Written as 32 lower-case hexadecimal digits. Never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MachineId(u128);

/// Fits after "failed to read machine id:".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 32 lower-case hexadecimal digits that are not all zero, found {found:?}")]
pub struct MachineIdError {
    pub found: String,
}

impl MachineId {
    /// `None` for zero.
    pub fn from_u128(id: u128) -> Option<Self> {
        (id != 0).then_some(Self(id))
    }

    pub fn as_u128(self) -> u128 {
        self.0
    }
}

impl FromStr for MachineId {
    type Err = MachineIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        let id = (text.len() == 32 && digits).then(|| u128::from_str_radix(text, 16).ok());
        id.flatten()
            .and_then(Self::from_u128)
            .ok_or_else(|| MachineIdError { found: text.chars().take(64).collect() })
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MachineId({self})")
    }
}

/// What does not change from second to second. Absent text is empty, absent numbers are 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineFacts {
    pub host_name: String,
    pub os_type: String,
    pub os_description: String,
    pub kernel_version: String,
    pub arch: String,
    pub cpu_model: String,
    pub logical_cpus: u32,
    pub physical_cpus: u32,
    pub memory_bytes: u64,
    pub swap_bytes: u64,
    pub boot_time: UnixMillis,
    pub addresses: Vec<String>,
    pub virtualization: String,
    pub collector_version: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MachineStatus {
    /// Frames arrive.
    Online,
    /// No frame for three intervals; may be a hiccup.
    Stale,
    /// Said that it suspends.
    Asleep,
    /// Went silent without a goodbye.
    Offline,
    /// Its collector said goodbye.
    Stopped,
}

impl MachineStatus {
    pub const ALL: [Self; 5] =
        [Self::Online, Self::Stale, Self::Asleep, Self::Offline, Self::Stopped];

    pub fn name(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Stale => "stale",
            Self::Asleep => "asleep",
            Self::Offline => "offline",
            Self::Stopped => "stopped",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_exactly_32_lower_case_digits_and_not_zero() {
        fn check(text: &str, valid: bool) {
            assert_eq!(text.parse::<MachineId>().is_ok(), valid, "{text:?}");
        }
        check("3d1219c7c4c5404aaa1f6d2a48adfda4", true);
        check("3D1219c7c4c5404aaa1f6d2a48adfda4", false);
        check("3d1219c7c4c5404aaa1f6d2a48adfda", false);
        check("+d1219c7c4c5404aaa1f6d2a48adfda4", false);
        check("00000000000000000000000000000000", false);
        check("", false);
    }
}
