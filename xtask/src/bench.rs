//! The same load on Muster and on others, in one run on one machine.
//!
//! `cargo xtask bench [ROUNDS]` gives each server, one after the other and then all again, the values of
//! the same made-up fleet: steadily at one frame a second, and as a past that is sent as fast as it is
//! taken. What each used is what `muster bench` reports of it. Then Muster alone gets a fleet of a thousand
//! machines, and as many values of ten, a hundred and a thousand machines. What fails is said at the end. The others come from Debian's packages, and run with the settings they come with.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{footprint, marks, shell};
use xtask::services::{DebianRoot, Server, cache};

const PEERS: [&str; 2] = ["victoria-metrics", "prometheus"];
const LISTEN: &str = "127.0.0.1:17078";
/// What a fleet sends.
struct Load {
    title: &'static str,
    args: &'static [&'static str],
}

const STEADY: Load = Load {
    title: "100 machines with 1,000 series each, one frame a second",
    args: &["--machines", "100", "--series", "1000", "--duration", "60s"],
};
const PAST: Load = Load {
    title: "70 minutes of 10 machines with 500 series each, as fast as they are taken",
    args: &["--machines", "10", "--series", "500", "--backfill", "70m", "--duration", "0s"],
};
const FLEET: Load = Load {
    title: "1,000 machines with 1,000 series each, one frame a second, for 5 minutes",
    args: &["--machines", "1000", "--series", "1000", "--duration", "5m"],
};

/// As many values each: what one costs must not depend on how many machines there are.
const FEW: Load = Load {
    title: "12 million values of 10 machines, as fast as they are taken",
    args: &["--machines", "10", "--series", "1000", "--backfill", "20m", "--duration", "0s"],
};
const SOME: Load = Load {
    title: "12 million values of 100 machines, as fast as they are taken",
    args: &["--machines", "100", "--series", "1000", "--backfill", "2m", "--duration", "0s"],
};
const MANY: Load = Load {
    title: "12 million values of 1,000 machines, as fast as they are taken",
    args: &["--machines", "1000", "--series", "1000", "--backfill", "12s", "--duration", "0s"],
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum System {
    Embedded,
    Timescale,
    VictoriaMetrics,
    Prometheus,
}

impl System {
    const ALL: [Self; 4] =
        [Self::Embedded, Self::Timescale, Self::VictoriaMetrics, Self::Prometheus];

    fn name(self) -> &'static str {
        match self {
            Self::Embedded => "Muster, embedded history",
            Self::Timescale => "Muster, TimescaleDB",
            Self::VictoriaMetrics => "VictoriaMetrics",
            Self::Prometheus => "Prometheus",
        }
    }

    fn protocol(self) -> &'static str {
        match self {
            Self::Embedded | Self::Timescale => "muster",
            Self::VictoriaMetrics | Self::Prometheus => "remote-write",
        }
    }
}

pub(crate) fn run(args: &[String]) -> Result<()> {
    let rounds: usize =
        match args {
            [] => 3,
            [rounds] => rounds.parse().ok().filter(|rounds| *rounds > 0).with_context(|| {
                format!("ROUNDS: expected a number such as 3, found {rounds:?}")
            })?,
            _ => bail!("expected at most one argument, ROUNDS"),
        };
    shell::cargo(["build", "--locked", "--release", "-p", "muster", "--bins"])?;
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(project.join("target"), PathBuf::from);
    let root = DebianRoot::make_available(&cache())?;
    let peers = root.unpack("peers", &PEERS)?;
    let bench = Bench { muster: target.join("release/muster"), root, peers };

    let mut section = format!("{}.\n", footprint::machine());
    let loads = [STEADY, PAST];
    let mut reports: Vec<Vec<Vec<Value>>> = vec![vec![Vec::new(); System::ALL.len()]; loads.len()];
    let mut failed = Vec::new();
    for round in 1..=rounds {
        for (load, of_load) in loads.iter().zip(&mut reports) {
            for (system, of_system) in System::ALL.into_iter().zip(of_load) {
                eprintln!("round {round} of {rounds}: {}: {}", system.name(), load.title);
                // One that fails must not cost the figures of the others.
                match bench.measure(system, load) {
                    Ok(report) => of_system.push(report),
                    Err(error) => {
                        failed.push(format!("{}, {}: {error:#}", system.name(), load.title))
                    }
                }
            }
        }
    }
    for (load, of_load) in loads.iter().zip(&reports) {
        let rows = System::ALL.into_iter().zip(of_load);
        section += &table(load, &rows.map(|(s, r)| (s.name(), r.as_slice())).collect::<Vec<_>>());
    }
    for load in [FLEET, FEW, SOME, MANY] {
        eprintln!("{}", load.title);
        match bench.measure(System::Embedded, &load) {
            Ok(report) => section += &table(&load, &[(System::Embedded.name(), &[report])]),
            Err(error) => failed.push(format!("{}: {error:#}", load.title)),
        }
    }
    section += "\nCPU seconds are those of the server, and of the database where there is one, until it was \
                quiet again: Muster has then rolled up and sealed what it took, and the others have merged what \
                they had to. Memory is taken at the end of the load. An acknowledgement of Muster means that the \
                values are committed to disk; VictoriaMetrics and Prometheus acknowledge what they hold in \
                memory, and sync it within seconds. Those two got Prometheus remote write, a request for each \
                frame, or for ten frames of the past, compressed by snappy.\n";
    marks::write("performance.md", "bench", &section)?;
    print!("{section}");
    if !failed.is_empty() {
        bail!("not everything could be measured:\n{}", failed.join("\n"));
    }
    Ok(())
}

struct Bench {
    muster: PathBuf,
    root: DebianRoot,
    /// Where the other programs are, inside the root.
    peers: String,
}

impl Bench {
    /// Starts a server without data, loads it, stops it.
    fn measure(&self, system: System, load: &Load) -> Result<Value> {
        let running = self.start(system)?;
        let pids: Vec<String> = running.pids().map(|pid| pid.to_string()).collect();
        let mut command = Command::new(&self.muster);
        command
            .args(["bench", "--json", "--protocol", system.protocol()])
            .args(["--target", &running.url(), "--pid", &pids.join(",")])
            .arg("--data-dir")
            .arg(running.data_dir())
            .args(load.args);
        let report = shell::read(command)?;
        // What is measured is seen at once: a run takes half an hour.
        eprintln!("{}", report.trim());
        serde_json::from_str(&report).context("failed to read the report")
    }

    fn start(&self, system: System) -> Result<Running> {
        let program = |name| format!("{}/usr/bin/{name}", self.peers);
        let server = match system {
            System::Embedded => None,
            System::Timescale => Some(Server::timescale(&self.root)?),
            System::VictoriaMetrics => {
                Some(Server::program(&self.root, &program("victoria-metrics"), |port, data| {
                    vec![
                        format!("-httpListenAddr=127.0.0.1:{port}"),
                        format!("-storageDataPath={data}"),
                    ]
                })?)
            }
            System::Prometheus => {
                // Scrapes nothing.
                Some(Server::program(&self.root, &program("prometheus"), |port, data| {
                    vec![
                        "--config.file=/dev/null".into(),
                        "--web.enable-remote-write-receiver".into(),
                        format!("--web.listen-address=127.0.0.1:{port}"),
                        format!("--storage.tsdb.path={data}"),
                    ]
                })?)
            }
        };
        let url = server.as_ref().map(|server| server.url().to_owned());
        let muster = match system {
            System::Embedded => Some(Muster::start(&self.muster, None)?),
            System::Timescale => Some(Muster::start(&self.muster, url.as_deref())?),
            System::VictoriaMetrics | System::Prometheus => None,
        };
        Ok(Running { muster, server })
    }
}

/// A server under load; stopped when dropped, the database last.
struct Running {
    muster: Option<Muster>,
    server: Option<Server>,
}

impl Running {
    fn url(&self) -> String {
        match (&self.muster, &self.server) {
            (None, Some(server)) => server.url().to_owned(),
            _ => format!("http://{LISTEN}"),
        }
    }

    fn pids(&self) -> impl Iterator<Item = u32> {
        let muster = self.muster.iter().map(|muster| muster.process.id());
        muster.chain(self.server.iter().map(Server::pid))
    }

    fn data_dir(&self) -> &Path {
        match (&self.server, &self.muster) {
            (Some(server), _) => server.data_dir(),
            (None, Some(muster)) => &muster.data,
            (None, None) => Path::new("/nonexistent"),
        }
    }
}

struct Muster {
    process: Child,
    data: PathBuf,
}

impl Muster {
    fn start(program: &Path, timescale: Option<&str>) -> Result<Self> {
        let data = std::env::temp_dir().join(format!("muster-bench-{}", std::process::id()));
        std::fs::create_dir_all(&data)?;
        let config = data.join("muster.toml");
        let history =
            timescale.map(|url| format!("[storage.history.kind.timescale]\nurl = \"{url}\"\n"));
        std::fs::write(&config, history.unwrap_or_default())?;
        let mut command = Command::new(program);
        command.args(["up", "--listen", LISTEN, "--config"]).arg(&config);
        command.arg("--data-dir").arg(&data).stdin(Stdio::null()).stdout(Stdio::null());
        let process = command.spawn().context("failed to start muster")?;
        let mut muster = Self { process, data };
        let start = Instant::now();
        while std::net::TcpStream::connect(LISTEN).is_err() {
            if let Some(status) = muster.process.try_wait()? {
                bail!("muster ended at once: {status}");
            }
            if start.elapsed() > Duration::from_secs(60) {
                bail!("muster does not listen after a minute");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(muster)
    }
}

impl Drop for Muster {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
        std::fs::remove_dir_all(&self.data).ok();
    }
}

/// The median of each figure over the rounds.
fn table(load: &Load, rows: &[(&str, &[Value])]) -> String {
    let mut text = format!(
        "\n### {}\n\n```sh\nmuster bench {}\n```\n\n\
         | server | acknowledged a second | lost | put off | samples a CPU-second | memory | bytes a sample on disk | ack p99 | read → page p99 |\n\
         |---|---|---|---|---|---|---|---|---|\n",
        load.title,
        load.args.join(" ")
    );
    for (name, reports) in rows {
        let figure = |key: &str| median(reports.iter().filter_map(|r| r[key].as_f64()).collect());
        let shown = |key: &str, scale: f64, digits: usize, unit: &str| match figure(key) {
            Some(value) => format!("{:.digits$} {unit}", value / scale).trim_end().to_owned(),
            None => "–".to_owned(),
        };
        writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} | {} | {} | {} |",
            shown("acknowledged_samples_per_second", 1e6, 2, "M"),
            shown("lost_samples", 1.0, 0, ""),
            shown("put_off_samples", 1.0, 0, ""),
            shown("samples_per_server_cpu_second", 1e6, 2, "M"),
            shown("server_resident_bytes", 1e6, 0, "MB"),
            shown("disk_bytes_per_sample", 1.0, 2, ""),
            shown("ack_latency_p99_ms", 1.0, 0, "ms"),
            shown("page_latency_p99_ms", 1.0, 0, "ms"),
        )
        .expect("writing to a string");
    }
    text
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len().checked_sub(1)? / 2;
    Some(match values.len() % 2 {
        0 => f64::midpoint(values[middle], values[middle + 1]),
        _ => values[middle],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
    }

    #[test]
    fn a_figure_that_a_server_does_not_have_is_a_dash() {
        let report = serde_json::json!({ "lost_samples": 0, "page_latency_p99_ms": null });
        let text = table(&STEADY, &[("X", &[report])]);
        assert!(text.contains("| X | – | 0 | – | – | – | – | – | – |"), "{text}");
    }
}
