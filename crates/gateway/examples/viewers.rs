//! What many open dashboards cost one server: `cargo run --release -p gateway --example viewers --
//! [VIEWERS] [SECONDS] [MACHINES]`.
//!
//! The server and its viewers are two processes, so that only the server is measured. Each viewer watches
//! one machine in full and the rows of all, as a machine's page and the fleet page together do, and says
//! how old each frame was when it came. The machines are made up in the server's process; what they cost
//! there is in the figures for one viewer for each machine, which are measured first.

#[path = "../tests/service/synthetic.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod synthetic;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

/// Before this, streams open and layouts travel.
const WARM_UP: Duration = Duration::from_secs(4);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "as-viewers") {
        return view(&args[1..]).await;
    }
    let number = |i: usize, default: usize| -> anyhow::Result<usize> {
        args.get(i).map_or(Ok(default), |text| text.parse().context("expected a number"))
    };
    let (viewers, seconds, machines) = (number(0, 200)?, number(1, 30)?, number(2, 10)?);
    let fleet = synthetic::Synthetic::new(machines);
    let mut metrics = prometheus_client::registry::Registry::default();
    let gateway = gateway::Gateway::new(gateway::Config::default(), fleet.link(), &mut metrics)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let router = gateway.router();
    tokio::spawn(gateway.run(CancellationToken::new()));
    tokio::spawn(async move { axum::serve(listener, router).await });

    println!("viewers   CPU of one core   resident   frames/s   age p50   age p99");
    for count in [machines, viewers] {
        let child = Command::new(std::env::current_exe()?)
            .args(["as-viewers", &address, &count.to_string(), &seconds.to_string()])
            .args([&machines.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        tokio::time::sleep(WARM_UP).await;
        let (began, before) = (Instant::now(), cpu_seconds()?);
        tokio::time::sleep(Duration::from_secs(seconds as u64)).await;
        let cpu = (cpu_seconds()? - before) / began.elapsed().as_secs_f64();
        let resident = resident_mib()?;
        let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await??;
        anyhow::ensure!(output.status.success(), "the viewers failed");
        let said: Value = serde_json::from_slice(&output.stdout)?;
        let ms = |name: &str| said[name].as_f64().unwrap_or(f64::NAN);
        println!(
            "{count:>7}   {:>13.1} %   {resident:>4.0} MiB   {:>8.0}   {:>4.0} ms   {:>4.0} ms",
            cpu * 100.0,
            ms("frames") / seconds as f64,
            ms("p50"),
            ms("p99"),
        );
    }
    Ok(())
}

/// The other process: so many viewers for so long; prints what they saw.
async fn view(args: &[String]) -> anyhow::Result<()> {
    let [address, count, seconds, machines] = args else { anyhow::bail!("four arguments") };
    let (count, machines): (usize, usize) = (count.parse()?, machines.parse()?);
    let from = Instant::now() + WARM_UP;
    let until = from + Duration::from_secs(seconds.parse()?);
    let viewers = (0..count).map(|i| {
        let address = format!("ws://{address}/ws");
        tokio::spawn(async move { one_viewer(&address, i % machines, from, until).await })
    });
    let mut ages = Vec::new();
    for viewer in viewers.collect::<Vec<_>>() {
        ages.extend(viewer.await??);
    }
    ages.sort_by(f64::total_cmp);
    let at = |share: f64| ages.get(((ages.len() - 1) as f64 * share) as usize).copied();
    anyhow::ensure!(!ages.is_empty(), "no frame came");
    println!("{}", json!({ "frames": ages.len(), "p50": at(0.5), "p99": at(0.99) }));
    Ok(())
}

/// How old each frame was when it came, in milliseconds.
async fn one_viewer(
    address: &str,
    machine: usize,
    from: Instant,
    until: Instant,
) -> anyhow::Result<Vec<f64>> {
    let (mut socket, _) = tokio_tungstenite::connect_async(address).await?;
    let id = synthetic::machine_id(machine);
    let show = json!({ "machine": id, "rows": [], "all": true });
    socket.send(Message::text(show.to_string())).await?;
    let mut ages = Vec::new();
    // What a page gets of the past when it opens is old by intention.
    let first = unix_ms()? + from.saturating_duration_since(Instant::now()).as_secs_f64() * 1000.0;
    loop {
        let message = tokio::time::timeout_at(until.into(), socket.next()).await;
        let Ok(Some(message)) = message else { return Ok(ages) };
        let Message::Text(text) = message? else { continue };
        let now = unix_ms()?;
        if now < first || !text.starts_with(r#"{"t":"frames""#) {
            continue;
        }
        let frames: Value = serde_json::from_str(&text)?;
        for frame in frames["frames"].as_array().into_iter().flatten() {
            let time = frame[0].as_f64().context("a frame without its time")?;
            if time >= first {
                ages.push(now - time);
            }
        }
    }
}

fn unix_ms() -> anyhow::Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64() * 1000.0)
}

/// User and system time of this process.
fn cpu_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let rest = stat.rsplit_once(')').context("a strange /proc/self/stat")?.1;
    let ticks: Vec<f64> = rest.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    // State is no number, so user and system time are the eleventh and twelfth that are.
    Ok((ticks[10] + ticks[11]) / 100.0)
}

fn resident_mib() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kib / 1024.0)
}
