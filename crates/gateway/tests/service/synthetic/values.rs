//! Every series of a machine, with its value at any time.

use std::f64::consts::TAU;

use model::metric;
use proto::v1;

use super::machines::{cpus, memory};
use super::{HOSTILE, now_ms};

/// Smooth ups and downs, a little noise, and now and then a spike.
pub(super) fn wave(seed: usize, ms: i64) -> f64 {
    let t = ms as f64 / 1000.0;
    let seed = seed as f64 * 1.7;
    let slow = ((t / 97.0 + seed) * TAU).sin() * 0.5 + 0.5;
    let fast = ((t / 11.3 + seed * 3.0) * TAU).sin() * 0.5 + 0.5;
    let noise = ((t * 12.9898 + seed * 78.233).sin() * 43_758.545).rem_euclid(1.0);
    let spike = if (t / 61.0 + seed).rem_euclid(1.0) < 0.08 { 0.45 } else { 0.0 };
    (slow * 0.35 + fast * 0.12 + noise * 0.08 + spike).clamp(0.0, 1.0)
}

/// Grows, with a pace that changes.
pub(super) fn counter(seed: usize, ms: i64, per_second: f64) -> f64 {
    let t = (ms % 100_000_000) as f64 / 1000.0;
    let burst = per_second * 9.0 / TAU * (1.0 - (t / 9.0 * TAU + seed as f64).cos());
    (per_second * t + burst * 0.9).round()
}

type Value = Box<dyn Fn(i64) -> f64>;

/// Every series of a machine, with its value at any time.
pub(super) fn series(i: usize) -> Vec<(v1::SeriesDescriptor, Value)> {
    let mut all: Vec<(v1::SeriesDescriptor, Value)> = Vec::new();
    let mut put = |metric: &metric::Metric, labels: &[(&str, &str)], value: Value| {
        let kind = match metric.kind {
            model::Kind::Gauge => v1::MetricKind::Gauge,
            model::Kind::Counter => v1::MetricKind::Counter,
        };
        let labels = labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let descriptor = v1::SeriesDescriptor {
            metric: metric.name.to_owned(),
            labels,
            kind: kind.into(),
            unit: metric.unit.to_owned(),
        };
        all.push((descriptor, value));
    };
    let short = |v: f64| (v * 10_000.0).round() / 10_000.0;
    put(&metric::CPU_UTILIZATION, &[], Box::new(move |t| short(wave(i, t))));
    for (mode, share) in
        [("user", 0.62), ("system", 0.2), ("iowait", 0.1), ("softirq", 0.03), ("nice", 0.02)]
    {
        put(
            &metric::CPU_UTILIZATION,
            &[("cpu.mode", mode)],
            Box::new(move |t| short(wave(i, t) * share)),
        );
    }
    let cpus = cpus(i);
    for core in 0..cpus {
        let number = core.to_string();
        put(
            &metric::CPU_UTILIZATION,
            &[("cpu.logical_number", &number)],
            Box::new(move |t| {
                short((wave(i, t) * 0.6 + wave(i * 31 + core as usize, t) * 0.6).min(1.0))
            }),
        );
    }
    for (load, lag) in [(&metric::LOAD_1M, 0), (&metric::LOAD_5M, 30), (&metric::LOAD_15M, 90)] {
        put(load, &[], Box::new(move |t| short(wave(i, t - lag * 1000) * f64::from(cpus))));
    }
    put(&metric::CPU_LOGICAL_COUNT, &[], Box::new(move |_| f64::from(cpus)));
    for (resource, share) in [("cpu", 0.2), ("memory", 0.01), ("io", 0.1)] {
        put(
            &metric::PRESSURE_UTILIZATION,
            &[("system.pressure.resource", resource), ("system.pressure.kind", "some")],
            Box::new(move |t| short(wave(i + 5, t) * share)),
        );
    }
    let memory = memory(i);
    for (state, share) in [("used", 0.55), ("cached", 0.3), ("buffers", 0.03)] {
        put(
            &metric::MEMORY_USAGE,
            &[("system.memory.state", state)],
            Box::new(move |t| (memory * share * (0.95 + 0.1 * wave(i + 9, t / 7))).round()),
        );
    }
    put(
        &metric::MEMORY_UTILIZATION,
        &[],
        Box::new(move |t| short(0.35 + 0.6 * wave(i + 9, t / 7))),
    );
    put(&metric::MEMORY_LIMIT, &[], Box::new(move |_| memory));
    put(
        &metric::PAGING_USAGE,
        &[("system.paging.state", "used")],
        Box::new(move |t| (wave(i + 2, t / 9) * 3e8).round()),
    );
    for (mount, level) in [("/", 0.61), ("/home", 0.34), ("/var/lib/data", 0.83)] {
        put(
            &metric::FILESYSTEM_UTILIZATION,
            &[("system.filesystem.mountpoint", mount)],
            Box::new(move |t| short(level + wave(i, t / 50) * 0.02)),
        );
    }
    let week = 7.0 * 86_400_000.0;
    put(
        &metric::FILESYSTEM_UTILIZATION,
        &[("system.filesystem.mountpoint", "/backups")],
        // Grows all the time; its beginning is a week before whatever is asked last.
        Box::new(move |t| short(0.3 + 0.6 * ((t - now_ms()) as f64 / week + 1.0).clamp(0.0, 1.0))),
    );
    for mount in ["/", "/home", "/var/lib/data", "/backups"] {
        put(
            &metric::FILESYSTEM_LIMIT,
            &[("system.filesystem.mountpoint", mount)],
            Box::new(move |_| 256.0 * 1024f64.powi(3)),
        );
    }
    for device in ["nvme0n1", "sda"] {
        for (direction, pace) in [("read", 2e6), ("write", 6e6)] {
            let pace = if device == "sda" { pace / 5.0 } else { pace };
            put(
                &metric::DISK_IO,
                &[("system.device", device), ("disk.io.direction", direction)],
                Box::new(move |t| counter(i, t, pace)),
            );
        }
        for (direction, pace) in [("read", 90.0), ("write", 240.0)] {
            put(
                &metric::DISK_OPERATIONS,
                &[("system.device", device), ("disk.io.direction", direction)],
                Box::new(move |t| counter(i, t, pace)),
            );
        }
        put(
            &metric::DISK_IO_TIME,
            &[("system.device", device)],
            Box::new(move |t| counter(i, t, 200.0) / 1000.0),
        );
    }
    for interface in ["eth0", "wg0", "lo"] {
        for (direction, pace) in [("receive", 3.4e6), ("transmit", 9e5)] {
            let pace = if interface == "wg0" { pace / 20.0 } else { pace };
            put(
                &metric::NETWORK_IO,
                &[("network.interface.name", interface), ("network.io.direction", direction)],
                Box::new(move |t| counter(i + 3, t, pace)),
            );
        }
    }
    put(
        &metric::NETWORK_DROPPED,
        &[("network.interface.name", "wg0"), ("network.io.direction", "receive")],
        Box::new(move |t| counter(i, t, 0.8)),
    );
    for (mount, level) in [("/", 0.22), ("/home", 0.07)] {
        put(
            &metric::FILESYSTEM_INODES_UTILIZATION,
            &[("system.filesystem.mountpoint", mount)],
            Box::new(move |t| short(level + wave(i, t / 80) * 0.01)),
        );
    }
    for (state, count) in [("established", 140.0), ("time_wait", 35.0), ("listen", 22.0)] {
        put(
            &metric::NETWORK_CONNECTIONS,
            &[("network.transport", "tcp"), ("network.connection.state", state)],
            Box::new(move |t| (count * (0.7 + 0.6 * wave(i, t))).round()),
        );
    }
    for (sensor, base) in [("Package id 0", 48.0), ("nvme Composite", 39.0)] {
        put(
            &metric::TEMPERATURE,
            &[("hw.id", sensor), ("hw.name", sensor)],
            Box::new(move |t| (base + wave(i, t) * 30.0).round()),
        );
    }
    put(
        &metric::PROCESS_COUNT,
        &[("process.state", "running")],
        Box::new(move |t| (wave(i, t) * 9.0).round()),
    );
    containers(&mut put);
    for (service, severity, pace) in [("api", "info", 3e4), ("worker", "error", 500.0)] {
        put(
            &metric::LOG_EVENTS,
            &[("service.name", service), ("severity", severity)],
            Box::new(move |t| (counter(i, t, pace) / 1000.0).round()),
        );
    }
    put(&metric::SPOOL_ITEMS, &[], Box::new(move |t| (wave(i, t) * 4.0).round()));
    put(&metric::ACK_LATENCY, &[], Box::new(move |t| short(0.002 + wave(i, t) * 0.01)));
    put(&metric::SPOOL_USAGE, &[], Box::new(move |t| (wave(i, t) * 9e3).round()));
    put(&metric::COLLECTOR_CPU_TIME, &[], Box::new(move |t| counter(i, t, 4.0) / 1000.0));
    put(&metric::COLLECTOR_MEMORY_USAGE, &[], Box::new(|_| 13.6 * 1024.0 * 1024.0));
    all
}

/// One that is well, one that is not, and one with a hostile name and no check.
fn containers(put: &mut impl FnMut(&metric::Metric, &[(&str, &str)], Value)) {
    let short = |v: f64| (v * 10_000.0).round() / 10_000.0;
    let all = [
        ("postgres", "f00dcafe1234beef", "docker.io/library/postgres:17", Some(1.0), 0.0),
        ("grafana", "grafana", "docker.io/grafana/grafana:12.0", Some(0.0), 3.0),
        (HOSTILE, HOSTILE, "", None, 0.0),
    ];
    for (name, id, image, healthy, restarts) in all {
        let labels =
            [("container.id", id), ("container.name", name), ("container.image.name", image)];
        let labels = if image.is_empty() { &labels[..2] } else { &labels[..] };
        put(&metric::CONTAINER_CPU_USAGE, labels, Box::new(move |t| short(wave(name.len(), t))));
        put(
            &metric::CONTAINER_MEMORY_USAGE,
            labels,
            Box::new(move |t| (2e8 * (1.0 + wave(name.len(), t / 5))).round()),
        );
        put(&metric::CONTAINER_RESTARTS, labels, Box::new(move |_| restarts));
        put(
            &metric::CONTAINER_PROCESSES,
            labels,
            Box::new(move |t| 4.0 + (wave(3, t) * 5.0).round()),
        );
        if let Some(healthy) = healthy {
            put(&metric::CONTAINER_HEALTHY, labels, Box::new(move |_| healthy));
            put(&metric::CONTAINER_MEMORY_LIMIT, labels, Box::new(|_| 512.0 * 1024.0 * 1024.0));
        }
        for (direction, pace) in [("receive", 4e5), ("transmit", 9e4)] {
            let with = [labels, &[("network.io.direction", direction)]].concat();
            let seed = name.len();
            put(&metric::CONTAINER_NETWORK_IO, &with, Box::new(move |t| counter(seed, t, pace)));
        }
        for (direction, pace) in [("read", 7e4), ("write", 3e5)] {
            let with = [labels, &[("disk.io.direction", direction)]].concat();
            let seed = name.len();
            put(&metric::CONTAINER_DISK_IO, &with, Box::new(move |t| counter(seed, t, pace)));
        }
    }
}

pub(super) fn values_of(i: usize, names: &[v1::SeriesDescriptor], time: i64) -> Vec<f64> {
    let all = series(i);
    names
        .iter()
        .map(|name| {
            all.iter().find(|(series, _)| series == name).map_or(f64::NAN, |(_, value)| value(time))
        })
        .collect()
}
