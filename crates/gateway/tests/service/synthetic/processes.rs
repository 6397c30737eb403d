//! The processes of a machine at a moment.

use proto::v1;

use super::values::wave;
use super::{HOSTILE, timestamp};

pub(super) fn answer(i: usize, at: i64) -> v1::ListProcessesResponse {
    let names = ["postgres", "rustc", "nginx", "stress-ng", "bash", HOSTILE, "sshd", "systemd"];
    let process = |(n, name): (usize, &&str)| v1::Process {
        pid: 400 + n as u32 * 37,
        parent_pid: if n == 3 { 400 } else { 1 },
        name: name.to_string(),
        command_line: format!("/usr/bin/{name} --config /etc/{name}.conf --token *** {HOSTILE}"),
        user: if n % 2 == 0 { "root".into() } else { "build".into() },
        state: if n == 1 { "running".into() } else { "sleeping".into() },
        start_time_unix_ms: 1_700_000_000_000 + n as i64,
        cpu_utilization: wave(i + n, at) * 1.2 / (n as f64 + 1.0),
        memory_bytes: (900_000_000.0 * wave(n, at / 20)) as u64,
        disk_read_bytes_per_second: if n < 2 { wave(n, at) * 1e6 } else { 0.0 },
        disk_write_bytes_per_second: if n < 3 { wave(n, at) * 4e6 } else { 0.0 },
        threads: 4,
        container_id: if n == 0 { "f00dcafe1234beef".into() } else { String::new() },
    };
    v1::ListProcessesResponse {
        time: Some(timestamp(at)),
        processes: names.iter().enumerate().map(process).collect(),
        total: 312,
        running: 2,
        blocked: 0,
        zombie: 1,
    }
}
