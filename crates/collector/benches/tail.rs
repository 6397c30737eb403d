//! What it costs to read a log file: the real `muster-collector` on a real file, delivering to a server in
//! this process that acknowledges everything.
//!
//! `cargo bench -p collector --bench tail -- [MEBIBYTES]`

use std::io::{BufWriter, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use proto::v1::collector_message::Kind;

#[path = "../tests/acknowledging/server.rs"]
mod server;

const MEBIBYTE: u64 = 1024 * 1024;

/// About 200 bytes, as web services write them now: a time of long ago would be kept beside that of its reading.
fn line(number: u64, minute: &str) -> String {
    let (user, ms, bytes) = (number % 50_021, number % 397, number % 100_003);
    let second = number / 1_000 % 60;
    format!(
        "{minute}:{second:02}.{:03}Z INFO http.server GET /api/v2/orders/{user}/details?page={}&size=50 status=200 duration={ms}ms bytes={bytes} agent=\"muster-bench/1.0 (linux; x86_64)\" remote=192.168.1.{} n={number}\n",
        number % 1_000,
        number % 40,
        number % 250,
    )
}

/// User and system time of a process.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}

#[tokio::main]
async fn main() {
    let mebibytes = std::env::args().filter_map(|arg| arg.parse::<u64>().ok()).next();
    let bytes_wanted = mebibytes.unwrap_or(512) * MEBIBYTE;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = dir.path().join("app.log");
    let mut file = BufWriter::new(std::fs::File::create(&log).expect("created"));
    let (mut bytes, mut lines) = (0u64, 0u64);
    let minute = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M").to_string();
    while bytes < bytes_wanted {
        let line = line(lines, &minute);
        file.write_all(line.as_bytes()).expect("written");
        bytes += line.len() as u64;
        lines += 1;
    }
    file.flush().expect("written");
    let config = format!(
        "[collector.logs]\nevents_per_second_max = 0\n[[collector.logs.files]]\ninclude = [{log:?}]\nstart = \"beginning\"\n[log]\nfilter = \"warn\"\n"
    );
    std::fs::write(dir.path().join("muster.toml"), config).expect("written");

    let counter = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&counter);
    let count = move |_, kind| {
        if let Kind::LogBatch(batch) = kind {
            counted.fetch_add(batch.events.len() as u64, Relaxed);
        }
    };
    let (address, _) = server::serve(([127, 0, 0, 1], 0).into(), count).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster-collector"));
    command.args(["--aggregator", &format!("http://{address}")]);
    command.arg("--config").arg(dir.path().join("muster.toml"));
    command.arg("--state-dir").arg(dir.path().join("state"));
    let mut collector = command.stdin(Stdio::null()).spawn().expect("starts");
    let began = Instant::now();
    while counter.load(Relaxed) < lines {
        assert!(began.elapsed() < Duration::from_secs(900), "{} of {lines}", counter.load(Relaxed));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (elapsed, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds(collector.id()));
    collector.kill().expect("is ours to kill");
    collector.wait().expect("is ours to wait for");
    let mib = bytes as f64 / MEBIBYTE as f64;
    println!(
        "{lines} lines of {:.0} bytes: {elapsed:.1} s, {:.0} MiB/s, {:.0} k events/s; the collector used {cpu:.1} CPU s: {:.0} MiB and {:.0} k events for each",
        bytes as f64 / lines as f64,
        mib / elapsed,
        lines as f64 / elapsed / 1e3,
        mib / cpu,
        lines as f64 / cpu / 1e3,
    );
}
