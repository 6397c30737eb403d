//! Who there is: names, hardware, headlines.

use std::collections::HashMap;

use proto::v1;

use super::values::wave;
use super::{HOSTILE, timestamp};

pub(crate) fn machine_id(i: usize) -> String {
    format!("{:032x}", 0x3d12_19c7_c4c5_404a_aa1f_6d2a_48ad_0000_u128 + i as u128)
}

pub(super) fn host_name(i: usize) -> String {
    const NAMES: [&str; 7] =
        ["web-1", "web-2", "db-primary", "build-box", "laptop", "cache", "old-nas"];
    match i {
        _ if i < NAMES.len() => NAMES[i].to_owned(),
        7 => HOSTILE.to_owned(),
        _ => format!("node-{i:04}"),
    }
}

pub(super) fn cpus(i: usize) -> u32 {
    [4, 8, 16, 64, 8, 2, 4, 2][i % 8]
}

pub(super) fn memory(i: usize) -> f64 {
    [8.0, 16.0, 64.0, 256.0, 32.0, 4.0, 8.0, 2.0][i % 8] * 1024f64.powi(3)
}

pub(super) fn machine(i: usize, now: i64) -> v1::Machine {
    let status = match i {
        4 => v1::MachineStatus::Asleep,
        6 => v1::MachineStatus::Offline,
        _ => v1::MachineStatus::Online,
    };
    let heard = status == v1::MachineStatus::Online;
    // Silent machines keep the numbers of when they were last heard.
    let at = if heard { now / 1000 * 1000 } else { now / 86_400_000 * 86_400_000 };
    let mut labels: HashMap<String, String> = HashMap::new();
    labels.insert("env".into(), if i % 3 == 2 { "prod".into() } else { "dev".into() });
    if i == 7 {
        labels.insert("note".into(), HOSTILE.into());
    }
    let busy = wave(i, at);
    v1::Machine {
        id: machine_id(i),
        host_name: host_name(i),
        labels,
        status: status.into(),
        status_since: Some(timestamp(now - 3_600_000 * (i as i64 + 1))),
        last_seen: Some(timestamp(if heard { now } else { now - 3_600_000 })),
        first_seen: Some(timestamp(now - 86_400_000 * 40)),
        facts: Some(v1::MachineFacts {
            host_name: host_name(i),
            os_type: "linux".into(),
            os_description: "Debian GNU/Linux 13 (trixie)".into(),
            kernel_version: "6.12.48-amd64".into(),
            arch: "x86_64".into(),
            cpu_model: "AMD EPYC 7443P 24-Core Processor".into(),
            logical_cpus: cpus(i),
            physical_cpus: cpus(i) / 2,
            memory_bytes: memory(i) as u64,
            swap_bytes: 2 << 30,
            boot_time_unix_ms: now - 86_400_000 * 3,
            addresses: vec!["192.0.2.17".into(), "2001:db8::17".into()],
            virtualization: "kvm".into(),
            collector_version: "0.1.0".into(),
        }),
        headline: Some(v1::Headline {
            time: Some(timestamp(at)),
            cpu_utilization: Some(busy),
            memory_utilization: Some(0.35 + 0.6 * wave(i + 9, at / 7)),
            filesystem_utilization: Some(0.4 + 0.08 * (i % 8) as f64),
            filesystem_mountpoint: "/var/lib/data".into(),
            network_receive_rate: Some(wave(i + 3, at) * 7e6),
            network_transmit_rate: Some(wave(i + 4, at) * 2e6),
            disk_read_rate: Some(wave(i, at) * 4e6),
            disk_write_rate: Some(wave(i + 1, at) * 9e6),
            load_1m: Some(busy * f64::from(cpus(i))),
            temperature: (i != 2).then_some(42.0 + busy * 35.0),
            uptime: Some(86_400.0 * (i as f64 + 1.0) * 2.3),
            swap_utilization: Some(0.02),
        }),
        clock_skew: Some(prost_types::Duration { seconds: 0, nanos: 4_000_000 }),
        interval: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
    }
}
