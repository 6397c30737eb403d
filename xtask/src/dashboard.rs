//! What the dashboard costs: bytes and times until a person sees something, the CPU time of a page that is
//! left open, and what the gateway needs for a large fleet and for many viewers.
//!
//! The pages are the real ones; the machines are made up in the gateway's process by its examples, so what
//! they cost is in the gateway's figures.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::webdriver::{Browser, Driver, Running, first_line};
use crate::{browser, footprint, marks, shell};

/// Each page is opened so often, by a browser without a cache; the figure is the median.
const OPENED: usize = 7;
const MACHINES: usize = 10;
const FLEET: usize = 1_000;
const VIEWERS: usize = 200;
const WATCHED_FOR: Duration = Duration::from_secs(30);
/// After a page has opened: what is loaded later is loaded, what is compiled when it is hot is compiled.
const SETTLE: Duration = Duration::from_secs(10);
/// A person's browser has long started when a page is opened.
const REST: Duration = Duration::from_secs(2);
const WINDOW: (u32, u32) = (1440, 900);

/// When the page set this mark, and what it had fetched by then, in bytes as they travel.
const REACHED: &str = "const [mark] = performance.getEntriesByName('MARK');
    if (!mark) return null;
    const fetched = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
        .filter(one => one.startTime <= mark.startTime);
    return { ms: mark.startTime, bytes: fetched.reduce((sum, one) => sum + one.encodedBodySize, 0) };";
const CHARTS: &str =
    "return [...document.querySelectorAll('.chart')].filter(c => !c.hidden && c.chart.plot).length";
const HEIGHT: &str = "return document.documentElement.scrollHeight";
const IDS: &str =
    "return [...document.querySelectorAll('[data-machine-id]')].map(row => row.dataset.machineId)";
/// Keeps the longest stretch in which the page could not answer, in milliseconds.
const WATCH_TASKS: &str = "window.longest = 0;
    new PerformanceObserver(list => {
        for (const task of list.getEntries()) window.longest = Math.max(window.longest, task.duration);
    }).observe({ type: 'longtask' });";

pub(crate) fn run(args: &[String]) -> Result<()> {
    let debug = match args {
        [] => false,
        [flag] if flag == "--debug" => true,
        _ => bail!("expected nothing or --debug"),
    };
    browser::make_available()?;
    let examples = Examples::build(debug)?;
    let driver = Driver::start()?;
    let mut rows = Vec::new();
    page_of_a_machine(&examples, &driver, &mut rows)?;
    page_of_the_fleet(&examples, &driver, &mut rows)?;
    viewers(&examples, &mut rows)?;

    let mut section =
        format!("{}.\n\n| what | measured | wanted |\n|---|---|---|\n", footprint::machine());
    for Row { what, measured, wanted } in rows {
        writeln!(section, "| {what} | {measured} | {wanted} |")?;
    }
    print!("{section}");
    if debug {
        eprintln!("note: these are figures of a debug build, which no page should have");
        return Ok(());
    }
    marks::write("dashboard.md", "dashboard", &section)
}

struct Row {
    what: String,
    measured: String,
    wanted: &'static str,
}

fn row(what: impl Into<String>, measured: String, wanted: &'static str) -> Row {
    eprintln!("{measured}");
    Row { what: what.into(), measured, wanted }
}

fn page_of_a_machine(examples: &Examples, driver: &Driver, rows: &mut Vec<Row>) -> Result<()> {
    let served = examples.serve(MACHINES)?;
    let ids = machine_ids(&served, driver)?;
    // Another machine each time: nothing of it is at hand in the gateway yet.
    let opened = ids.iter().take(OPENED).map(|id| {
        let page = format!("{}/machines/{id}", served.url);
        opened(driver, &page, "muster:chart")
    });
    let opened = opened.collect::<Result<Vec<_>>>()?;
    let bytes = opened.iter().map(|one| one.bytes).fold(0.0, f64::max);
    let kilobytes = format!("{:.1} KB", bytes / 1e3);
    rows.push(row(
        "a machine's page: bytes until the first live chart, compressed",
        kilobytes,
        "≤ 100 KB",
    ));
    let times = opened.iter().map(|one| one.ms).collect();
    rows.push(row("… the first live chart after the navigation", spread(times), "≤ 300 ms"));

    let window = driver.open(WINDOW.0, WINDOW.1, true)?;
    window.go(&format!("{}/machines/{}", served.url, ids[0]))?;
    reached(&window, "muster:chart")?;
    let cpu = watched(driver, None)?.0;
    rows.push(row("… left open at 1440 × 900: CPU of the browser, of one core", percent(cpu), ""));
    window.run("scrollTo(0, document.documentElement.scrollHeight)")?;
    let cpu = watched(driver, None)?.0;
    rows.push(row(
        "… scrolled to its end, where no chart is: CPU of the browser",
        percent(cpu),
        "",
    ));
    window.run("scrollTo(0, 0)")?;
    let height = window.run(HEIGHT)?.as_u64().context("a page without a height")?;
    window.resize(WINDOW.0, u32::try_from(height)?)?;
    let cpu = watched(driver, None)?.0;
    let charts = window.run(CHARTS)?.as_u64().context("a page without charts")?;
    let what =
        format!("… all {charts} charts on the screen at once: CPU of the browser, of one core");
    rows.push(row(what, percent(cpu), "≤ 5 % for 20 charts"));
    Ok(())
}

fn page_of_the_fleet(examples: &Examples, driver: &Driver, rows: &mut Vec<Row>) -> Result<()> {
    let served = examples.serve(FLEET)?;
    machine_ids(&served, driver)?;
    let opened = (0..OPENED)
        .map(|_| opened(driver, &served.url, "muster:fleet"))
        .collect::<Result<Vec<_>>>()?;
    let what = format!("the fleet page of {FLEET} machines: rows that move, after the navigation");
    let times = opened.iter().map(|one| one.ms).collect();
    rows.push(row(what, spread(times), "≤ 500 ms"));

    let window = driver.open(WINDOW.0, WINDOW.1, true)?;
    window.go(&served.url)?;
    reached(&window, "muster:fleet")?;
    std::thread::sleep(SETTLE);
    window.run(WATCH_TASKS)?;
    let (cpu, gateway) = watched(driver, Some(&served))?;
    let longest = window.run("return window.longest")?.as_f64().unwrap_or(f64::NAN);
    let longest =
        if longest == 0.0 { "under 50 ms".to_owned() } else { format!("{longest:.0} ms") };
    rows.push(row("… left open: the longest stretch in which it does not answer", longest, ""));
    rows.push(row("… left open: CPU of the browser, of one core", percent(cpu), ""));
    rows.push(row("… the gateway meanwhile: CPU, of one core", percent(gateway), ""));
    let what = format!("… the gateway meanwhile: memory with {FLEET} machines");
    rows.push(row(what, format!("{:.0} MB", served.resident_mb()?), "bounded"));
    Ok(())
}

fn viewers(examples: &Examples, rows: &mut Vec<Row>) -> Result<()> {
    let mut command = Command::new(examples.folder.join("viewers"));
    let seconds = WATCHED_FOR.as_secs();
    command.args([VIEWERS, seconds as usize, MACHINES].map(|number| number.to_string()));
    let said = shell::read(command)?;
    eprint!("{said}");
    // Its last line: viewers, CPU, resident memory, frames a second, and the ages.
    let line = said.lines().last().context("the viewers said nothing")?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, cpu, _, resident, _, frames, p50, _, p99, _] = words[..] else {
        bail!("the viewers said something else than expected: {line}");
    };
    let what = format!(
        "{VIEWERS} viewers, each of all series of a machine: age of a frame when it comes, p99"
    );
    rows.push(row(
        what,
        format!("{p99} ms (median {p50} ms, {frames} frames a second)"),
        "≤ 250 ms",
    ));
    let cost = format!("{cpu} % of one core, {resident} MiB");
    rows.push(row("… the gateway meanwhile: CPU and memory", cost, ""));
    Ok(())
}

/// How a page came to where a person sees something live.
struct Opened {
    ms: f64,
    bytes: f64,
}

fn opened(driver: &Driver, address: &str, mark: &str) -> Result<Opened> {
    let window = driver.open(WINDOW.0, WINDOW.1, true)?;
    std::thread::sleep(REST);
    window.go(address)?;
    let opened = reached(&window, mark)?;
    eprintln!("{address}: {:.0} ms, {:.0} bytes", opened.ms, opened.bytes);
    Ok(opened)
}

fn reached(window: &Browser, mark: &str) -> Result<Opened> {
    let script = REACHED.replace("MARK", mark);
    window.until(&format!("return performance.getEntriesByName('{mark}').length > 0"))?;
    let reached = window.run(&script)?;
    let number =
        |name: &str| reached[name].as_f64().with_context(|| format!("{mark} without {name}"));
    Ok(Opened { ms: number("ms")?, bytes: number("bytes")? })
}

/// Waits for all machines to be known, and names them.
fn machine_ids(served: &Served, driver: &Driver) -> Result<Vec<String>> {
    let window = driver.open(WINDOW.0, WINDOW.1, true)?;
    window.go(&served.url)?;
    reached(&window, "muster:fleet")?;
    let ids = window.run(IDS)?;
    let ids = ids.as_array().into_iter().flatten().filter_map(Value::as_str);
    Ok(ids.map(str::to_owned).collect())
}

/// Shares of one core that the browser and the gateway use while nobody touches anything.
fn watched(driver: &Driver, served: Option<&Served>) -> Result<(f64, f64)> {
    std::thread::sleep(SETTLE);
    let pid = served.map(|served| served.process.0.id());
    let ticks = || -> Result<(u64, u64)> {
        let known = processes()?;
        let of_gateway = pid.and_then(|pid| known.get(&pid)).map_or(0, |process| process.ticks);
        Ok((ticks_below(&known, driver.pid()), of_gateway))
    };
    let (began, before) = (Instant::now(), ticks()?);
    std::thread::sleep(WATCHED_FOR);
    let (seconds, after) = (began.elapsed().as_secs_f64(), ticks()?);
    // Ticks of 1/100 s, on every Linux that runs Muster.
    let share = |before: u64, after: u64| after.saturating_sub(before) as f64 / 100.0 / seconds;
    Ok((share(before.0, after.0), share(before.1, after.1)))
}

struct Process {
    parent: u32,
    ticks: u64,
}

fn processes() -> Result<HashMap<u32, Process>> {
    let pids = std::fs::read_dir("/proc")?.flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let known = pids.filter_map(|pid| {
        // It may have ended since it was listed.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, process(&stat)?))
    });
    Ok(known.collect())
}

fn process(stat: &str) -> Option<Process> {
    // The name stands in parentheses and may hold anything, so fields are counted from the last one.
    let after_name = stat.get(stat.rfind(')')? + 2..)?;
    let field = |number: usize| after_name.split(' ').nth(number - 3);
    let ticks = |number| field(number)?.parse::<u64>().ok();
    Some(Process { parent: field(4)?.parse().ok()?, ticks: ticks(14)? + ticks(15)? })
}

/// CPU time of everything that this process started, and what that started.
fn ticks_below(known: &HashMap<u32, Process>, root: u32) -> u64 {
    let below = known.iter().filter(|(_, process)| process.parent == root);
    below.map(|(pid, process)| process.ticks + ticks_below(known, *pid)).sum()
}

/// The gateway's examples, built.
struct Examples {
    folder: PathBuf,
}

impl Examples {
    fn build(debug: bool) -> Result<Self> {
        let examples = ["--example", "dashboard", "--example", "viewers"];
        let profile = if debug { "dev" } else { "release" };
        let build = ["build", "--locked", "--package", "gateway", "--profile", profile];
        shell::cargo(build.into_iter().chain(examples))?;
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or(project.join("target"), PathBuf::from);
        let folder = target.join(if debug { "debug" } else { "release" }).join("examples");
        Ok(Self { folder })
    }

    /// The pages over so many machines that do not exist, on a free port of loopback.
    fn serve(&self, machines: usize) -> Result<Served> {
        let mut command = Command::new(self.folder.join("dashboard"));
        command.args([machines.to_string().as_str(), "0"]).stdout(Stdio::piped());
        let mut process = Running(command.spawn().context("failed to start the dashboard")?);
        let url = first_line(&mut process.0)?;
        Ok(Served { process, url })
    }
}

struct Served {
    process: Running,
    url: String,
}

impl Served {
    fn resident_mb(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.0.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
        let kib: f64 = line.split_whitespace().nth(1).context("VmRSS without a number")?.parse()?;
        Ok(kib * 1024.0 / 1e6)
    }
}

/// The median, and from where to where the values go.
fn spread(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    match values[..] {
        [] => "–".to_owned(),
        [first, .., last] => {
            format!(
                "{:.0} ms (of {}: {first:.0} to {last:.0} ms)",
                values[values.len() / 2],
                values.len()
            )
        }
        [one] => format!("{one:.0} ms"),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_counted_for_a_process_and_all_that_it_started() {
        let line = |pid: u32, parent: u32, user: u32| {
            let stat = format!("{pid} (a) b) S {parent} 2 3 4 5 6 7 8 9 10 {user} 5 0 0 20 0 1 0");
            (pid, process(&stat).expect("parses"))
        };
        let known =
            HashMap::from([line(1, 0, 1000), line(10, 1, 10), line(11, 10, 20), line(12, 1, 0)]);
        assert_eq!(ticks_below(&known, 1), 15 + 25 + 5);
        assert_eq!(ticks_below(&known, 11), 0);
    }

    #[test]
    fn the_median_stands_first() {
        assert_eq!(spread(vec![30.0, 10.0, 20.0]), "20 ms (of 3: 10 to 30 ms)");
        assert_eq!(spread(vec![10.4]), "10 ms");
    }
}
