//! What Muster itself costs: CPU time and memory of the release executables while they watch this machine.
//!
//! `cargo xtask footprint [MINUTES]` starts `muster up` and a separate `muster-collector` that reports to
//! it, both at one reading a second with every probe on, looks at them every ten seconds, and writes
//! `docs/reference/footprint.md`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::shell;

const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Left out of the figures: the start reads what never changes, and fills caches.
const WARM_UP: Duration = Duration::from_secs(30);
const LISTEN: &str = "127.0.0.1:17079";

pub(crate) fn run(args: &[String]) -> Result<()> {
    let minutes: u64 = match args {
        [] => 30,
        [minutes] => minutes
            .parse()
            .with_context(|| format!("MINUTES: expected a number such as 30, found {minutes:?}"))?,
        _ => bail!("expected at most one argument, MINUTES"),
    };
    shell::cargo(["build", "--locked", "--release", "-p", "muster", "-p", "collector", "--bins"])?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let bin = target.join("release");
    let data = std::env::temp_dir().join(format!("muster-footprint-{}", std::process::id()));

    let mut up = Command::new(bin.join("muster"));
    up.args(["up", "--listen", LISTEN, "--data-dir"]).arg(data.join("up"));
    let up = Watched::start("muster up", up)?;
    std::thread::sleep(Duration::from_secs(2));
    let mut collector = Command::new(bin.join("muster-collector"));
    collector.args(["--aggregator", &format!("http://{LISTEN}"), "--state-dir"]);
    collector.arg(data.join("collector"));
    let collector = Watched::start("muster-collector", collector)?;
    let mut watched = [up, collector];

    std::thread::sleep(WARM_UP);
    watched.iter_mut().try_for_each(Watched::begin)?;
    let end = Instant::now() + Duration::from_secs(minutes * 60);
    while Instant::now() < end {
        std::thread::sleep(LOOK_EVERY.min(end.saturating_duration_since(Instant::now())));
        watched.iter_mut().try_for_each(Watched::look)?;
    }
    let page = page(minutes, &watched);
    print!("{page}");
    std::fs::write(root.join("docs/reference/footprint.md"), page)?;
    drop(watched);
    std::fs::remove_dir_all(&data).ok();
    Ok(())
}

/// A process under observation; killed when dropped.
pub(crate) struct Watched {
    name: &'static str,
    child: Child,
    looks: Vec<Look>,
}

/// A process at one moment.
struct Look {
    at: Instant,
    cpu_ticks: u64,
    resident_kib: u64,
}

impl Watched {
    pub(crate) fn start(name: &'static str, mut command: Command) -> Result<Self> {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = quiet.spawn().with_context(|| format!("failed to start {name}"))?;
        Ok(Self { name, child, looks: Vec::new() })
    }

    pub(crate) fn begin(&mut self) -> Result<()> {
        self.looks.clear();
        self.look()
    }

    pub(crate) fn look(&mut self) -> Result<()> {
        let proc = PathBuf::from(format!("/proc/{}", self.child.id()));
        let stat = std::fs::read_to_string(proc.join("stat"))
            .with_context(|| format!("{} has ended", self.name))?;
        let status = std::fs::read_to_string(proc.join("status"))?;
        let look = parse(&stat, &status)
            .with_context(|| format!("failed to understand /proc/{}", self.child.id()))?;
        self.looks.push(look);
        Ok(())
    }

    /// CPU milliseconds a second between two looks.
    pub(crate) fn cpu_ms(&self, from: usize, to: usize) -> f64 {
        let (from, to) = (&self.looks[from], &self.looks[to]);
        let seconds = to.at.duration_since(from.at).as_secs_f64();
        // Ticks of 1/100 s, on every Linux that runs Muster.
        (to.cpu_ticks - from.cpu_ticks) as f64 * 10.0 / seconds.max(1e-9)
    }

    fn resident_mb(&self, look: usize) -> f64 {
        self.looks[look].resident_kib as f64 * 1024.0 / 1e6
    }

    pub(crate) fn resident_mb_max(&self) -> f64 {
        (0..self.looks.len()).map(|look| self.resident_mb(look)).fold(0.0, f64::max)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn parse(stat: &str, status: &str) -> Option<Look> {
    // The name stands in parentheses and may hold anything, so fields are counted from the last one.
    let after_name = stat.get(stat.rfind(')')? + 2..)?;
    let ticks = |field: usize| after_name.split(' ').nth(field - 3)?.parse::<u64>().ok();
    let resident = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    Some(Look {
        at: Instant::now(),
        cpu_ticks: ticks(14)? + ticks(15)?,
        resident_kib: resident.split_ascii_whitespace().nth(1)?.parse().ok()?,
    })
}

fn page(minutes: u64, watched: &[Watched]) -> String {
    let mut page = format!(
        "# Footprint\n\n\
         What Muster itself costs on the machine it watches, at one reading a second with every probe on. Written by\n\n\
         ```sh\ncargo xtask footprint {minutes}\n```\n\n\
         which runs the release executables for {minutes} minutes and reads their CPU time and resident memory from \
         `/proc`. {}.\n\n\
         | process | CPU a second | memory at the start | memory at the end | memory at most |\n|---|---|---|---|---|\n",
        machine()
    );
    for one in watched {
        let last = one.looks.len() - 1;
        writeln!(
            page,
            "| `{}` | {:.1} ms | {:.1} MB | {:.1} MB | {:.1} MB |",
            one.name,
            one.cpu_ms(0, last),
            one.resident_mb(0),
            one.resident_mb(last),
            one.resident_mb_max(),
        )
        .expect("writing to a string");
    }
    page.push_str(
        "\n`muster up` is the collector, the aggregator, the embedded history and the gateway in one process; here it \
         also takes in what the other collector sends. Both read the same machine, whose other load is part of what \
         they read.\n",
    );
    page
}

pub(crate) fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let processes = std::fs::read_dir("/proc").map_or(0, |dir| {
        let is_process = |name: &str| name.bytes().all(|c| c.is_ascii_digit());
        dir.flatten().filter(|e| e.file_name().to_str().is_some_and(is_process)).count()
    });
    format!(
        "Measured on Linux {} with {count} CPUs ({}) and {processes} processes",
        read("/proc/sys/kernel/osrelease").trim(),
        model.map_or("unknown", |(_, model)| model.trim()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 150 0 0 20 0 1 0 99 0 0";
        let look = parse(stat, "VmHWM:\t 2048 kB\nVmRSS:\t 1024 kB\n").expect("parses");
        assert_eq!((look.cpu_ticks, look.resident_kib), (400, 1024));
    }
}
