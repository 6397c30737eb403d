//! What a machine is. Read for each hello, so that a new address or name is known after a reconnect.

use std::net::IpAddr;

use model::{MachineFacts, UnixMillis, limits};
use sysinfo::{MemoryRefreshKind, Networks, System};

#[cfg(target_os = "linux")]
mod virtualization;

/// The facts of this machine. What cannot be found out stays empty.
pub fn read() -> MachineFacts {
    let system = System::new().map(|mut system| {
        let what = MemoryRefreshKind::nothing().with_ram().with_swap();
        system.refresh_memory_specifics(what);
        system
    });
    let boot_time_s = System::boot_time().unwrap_or(0);
    let (cpu_model, logical_cpus) = platform::cpus();
    MachineFacts {
        host_name: host_name(),
        os_type: std::env::consts::OS.to_owned(),
        os_description: text(System::long_os_version(), limits::TEXT_BYTES_MAX),
        kernel_version: text(System::kernel_version(), limits::TEXT_BYTES_MAX),
        arch: std::env::consts::ARCH.to_owned(),
        cpu_model,
        logical_cpus,
        physical_cpus: System::physical_core_count().map_or(0, |count| count as u32),
        memory_bytes: system.as_ref().map_or(0, System::total_memory),
        swap_bytes: system.as_ref().map_or(0, System::total_swap),
        boot_time: UnixMillis(i64::try_from(boot_time_s).unwrap_or(0).saturating_mul(1000)),
        addresses: addresses(),
        virtualization: virtualization(),
        collector_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

#[cfg(target_os = "linux")]
fn virtualization() -> String {
    virtualization::detect()
}

#[cfg(not(target_os = "linux"))]
fn virtualization() -> String {
    String::new()
}

/// Never empty: without one the machine could not even say hello.
fn host_name() -> String {
    let name = text(System::host_name(), limits::HOST_NAME_BYTES_MAX);
    if name.is_empty() { "unknown".to_owned() } else { name }
}

fn text<E>(found: Result<String, E>, bytes_max: usize) -> String {
    let mut text = found.unwrap_or_default();
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}

/// Addresses by which others may reach the machine, in order, each once.
fn addresses() -> Vec<String> {
    const ADDRESSES_MAX: usize = 64;
    let Ok(networks) = Networks::new_with_refreshed_list() else {
        return Vec::new();
    };
    let mut addresses: Vec<IpAddr> = networks
        .values()
        .flat_map(|network| network.ip_networks())
        .map(|network| network.addr)
        .filter(|address| is_reachable(*address))
        .collect();
    addresses.sort();
    addresses.dedup();
    addresses.iter().take(ADDRESSES_MAX).map(ToString::to_string).collect()
}

fn is_reachable(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !link_local && !address.is_loopback() && !address.is_unspecified()
}

#[cfg(target_os = "linux")]
use linux as platform;
#[cfg(not(target_os = "linux"))]
use portable as platform;

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::path::Path;

    pub(super) fn cpus() -> (String, u32) {
        let (model, count) = parse_cpuinfo(&read(Path::new("/proc/cpuinfo")));
        // ARM kernels name no model; the device tree names the board.
        let board = || read(Path::new("/proc/device-tree/model"));
        (model.unwrap_or_else(board), count)
    }

    pub(super) fn parse_cpuinfo(text: &str) -> (Option<String>, u32) {
        let field = |line: &str, name: &str| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim().to_owned())
        };
        let model = text.lines().find_map(|line| field(line, "model name"));
        let count = text.lines().filter(|line| field(line, "processor").is_some()).count();
        (model.filter(|model| !model.is_empty()), count as u32)
    }

    fn read(path: &Path) -> String {
        let bytes = fs::read(path).unwrap_or_default();
        String::from_utf8_lossy(&bytes).trim_matches(|c| c == '\n' || c == '\0').to_owned()
    }
}

#[cfg(any(test, not(target_os = "linux")))]
mod portable {
    use sysinfo::{CpuRefreshKind, System};

    pub(super) fn cpus() -> (String, u32) {
        let Ok(mut system) = System::new() else {
            return (String::new(), 0);
        };
        system.refresh_cpu_list(CpuRefreshKind::nothing());
        let brand = system.cpus().first().map_or(String::new(), |cpu| cpu.brand().to_owned());
        (brand, system.cpus().len() as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_name_a_kernel_memory_and_a_boot_time() {
        let facts = read();
        assert!(!facts.host_name.is_empty());
        assert!(!facts.kernel_version.is_empty());
        assert!(facts.memory_bytes > 0);
        assert!(facts.logical_cpus > 0);
        assert!(facts.boot_time > UnixMillis(0));
    }

    #[test]
    fn only_addresses_that_others_can_reach_are_listed() {
        fn check(address: &str, expected: bool) {
            assert_eq!(is_reachable(address.parse().expect("address")), expected, "{address}");
        }
        check("10.0.0.7", true);
        check("2001:db8::1", true);
        check("127.0.0.1", false);
        check("::1", false);
        check("169.254.10.1", false);
        check("fe80::1", false);
        check("0.0.0.0", false);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn cpus_are_counted_and_named() {
        let text = "processor\t: 0\nmodel name\t: AMD EPYC 7763\n\nprocessor\t: 1\nmodel name\t: AMD EPYC 7763\n";
        assert_eq!(linux::parse_cpuinfo(text), (Some("AMD EPYC 7763".to_owned()), 2));
        assert_eq!(linux::parse_cpuinfo("processor: 0\nBogoMIPS: 108\n"), (None, 1));
    }

    #[test]
    fn other_systems_count_their_cpus_too() {
        assert!(portable::cpus().1 > 0);
    }
}
