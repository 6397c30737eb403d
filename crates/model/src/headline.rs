//! The numbers that people look at first.

use crate::UnixMillis;

/// Latest headline numbers of a machine. `None` where it does not have them (yet). Ratios are 0 to 1,
/// rates bytes per second.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Headline {
    pub time: UnixMillis,
    pub cpu_utilization: Option<f64>,
    pub memory_utilization: Option<f64>,
    pub swap_utilization: Option<f64>,
    /// Fullest filesystem.
    pub filesystem_utilization: Option<f64>,
    pub filesystem_mountpoint: String,
    /// Over all interfaces but loopback.
    pub network_receive_rate: Option<f64>,
    pub network_transmit_rate: Option<f64>,
    /// Over all whole disks.
    pub disk_read_rate: Option<f64>,
    pub disk_write_rate: Option<f64>,
    pub load_1m: Option<f64>,
    /// Hottest sensor, degrees Celsius.
    pub temperature: Option<f64>,
    /// Seconds since boot.
    pub uptime: Option<f64>,
}
