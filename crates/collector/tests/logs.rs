//! The real collector on real files that are written and rotated all the time, killed again and again,
//! with a server that is away now and then: every line arrives, once, in its order.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proto::v1;
use proto::v1::collector_message::Kind;

#[path = "acknowledging/server.rs"]
mod server;

const PATIENCE: Duration = Duration::from_secs(120);

/// What history would hold: items by epoch and number, so each once.
type Items = BTreeMap<server::Name, Vec<v1::LogEvent>>;

/// Keeps what comes.
#[derive(Clone, Default)]
struct Recorder {
    items: Arc<Mutex<Items>>,
    frames: Arc<Mutex<u64>>,
}

impl Recorder {
    async fn serve(&self, address: SocketAddr) -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let Self { items, frames } = self.clone();
        let each = move |name, kind| match kind {
            Kind::LogBatch(batch) => {
                items.lock().expect("not poisoned").insert(name, batch.events);
            }
            Kind::Frame(_) => *frames.lock().expect("not poisoned") += 1,
            _ => {}
        };
        server::serve(address, each).await
    }

    /// Bodies by service, in the order of their items.
    fn lines(&self) -> BTreeMap<String, Vec<String>> {
        let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for event in self.items.lock().expect("not poisoned").values().flatten() {
            lines.entry(event.service.clone()).or_default().push(event.body.clone());
        }
        lines
    }
}

/// The collector's process; killed when dropped.
struct Collector(Child);

impl Collector {
    fn start(dir: &Path, server: SocketAddr) -> Self {
        Self(Self::command(dir, server).stdin(Stdio::null()).spawn().expect("starts"))
    }

    fn command(dir: &Path, server: SocketAddr) -> Command {
        let log = File::options().create(true).append(true).open(dir.join("collector.out"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_muster-collector"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MUSTER_") {
                command.env_remove(name);
            }
        }
        command
            .args(["--aggregator", &format!("http://{server}"), "--config"])
            .arg(dir.join("muster.toml"))
            .arg("--state-dir")
            .arg(dir.join("state"))
            .stdout(Stdio::null())
            .stderr(log.expect("a log file"));
        command
    }
}

impl Drop for Collector {
    /// SIGKILL: no chance to tidy up.
    fn drop(&mut self) {
        // Unless it ended by itself.
        let _ = self.0.kill();
        self.0.wait().expect("is ours to wait for");
    }
}

/// A log that is written and rotated.
struct Log {
    path: PathBuf,
    written: u32,
    rotated: u32,
}

impl Log {
    fn new(dir: &Path, name: &str) -> Self {
        Self { path: dir.join(name), written: 0, rotated: 0 }
    }

    fn write(&mut self, count: u32) {
        let file = File::options().append(true).create(true).open(&self.path);
        let mut file = file.expect("opens");
        for _ in 0..count {
            let line = format!("line {}\n", self.written);
            // In two pieces, as a busy program's lines come.
            let (one, other) = line.split_at(line.len() / 2);
            file.write_all(one.as_bytes()).expect("written");
            file.write_all(other.as_bytes()).expect("written");
            self.written += 1;
        }
    }

    fn next_name(&mut self) -> PathBuf {
        self.rotated += 1;
        self.path.with_extension(format!("log.{}", self.rotated))
    }

    fn rename(&mut self) {
        let to = self.next_name();
        fs::rename(&self.path, to).expect("renamed");
    }

    fn copy_and_truncate(&mut self) {
        let to = self.next_name();
        fs::copy(&self.path, to).expect("copied");
        File::options().write(true).open(&self.path).expect("opens").set_len(0).expect("cut");
    }
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn configure(dir: &Path, logs: &str) {
    let text = format!("[collector]\ninterval = \"250ms\"\n{logs}\n[log]\nfilter = \"info\"\n");
    fs::write(dir.join("muster.toml"), text).expect("written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_of_rotated_files_arrives_once_whatever_is_killed() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let section = |service: &str| {
        let include = dir.join(format!("{service}.log"));
        format!("[[collector.logs.files]]\ninclude = [{include:?}]\nservice = \"{service}\"\n")
    };
    configure(dir, &format!("{}{}", section("renamed"), section("copied")));
    let recorder = Recorder::default();
    let (address, mut server) = recorder.serve(([127, 0, 0, 1], 0).into()).await;
    let mut collector = Collector::start(dir, address);
    // From now on its globs are in use.
    let bookmarks = dir.join("state/bookmarks.json");
    eventually("the globs are in use", || {
        fs::read_to_string(&bookmarks).is_ok_and(|text| text.contains("copied.log"))
    })
    .await;

    let (mut renamed, mut copied) = (Log::new(dir, "renamed.log"), Log::new(dir, "copied.log"));
    for round in 0..12 {
        for log in [&mut renamed, &mut copied] {
            log.write(400);
        }
        let arrived = || recorder.lines();
        match round % 4 {
            // Killed in the middle of it, but not before anything of it was seen.
            0 => {
                let before = arrived().values().map(Vec::len).sum::<usize>();
                eventually("some arrives", || {
                    let lines = arrived();
                    lines.len() == 2 && lines.values().map(Vec::len).sum::<usize>() > before
                })
                .await;
            }
            // Killed while it reads what was rotated.
            1 => {
                renamed.rename();
                copied.copy_and_truncate();
            }
            // The server goes and comes.
            2 => {
                server.abort();
                let _ = (&mut server).await;
                renamed.rename();
                renamed.write(400);
                copied.write(400);
                (_, server) = recorder.serve(address).await;
            }
            // Killed when all was read, then rotated while nobody looks.
            _ => {
                let whole = (renamed.written as usize, copied.written as usize);
                eventually("what was written arrives", || {
                    let lines = arrived();
                    let count = |name: &str| lines.get(name).map_or(0, Vec::len);
                    (count("renamed"), count("copied")) == whole
                })
                .await;
                drop(collector);
                renamed.write(400);
                renamed.rename();
                copied.write(400);
                copied.copy_and_truncate();
                collector = Collector::start(dir, address);
                continue;
            }
        }
        drop(collector);
        collector = Collector::start(dir, address);
    }
    let whole = (renamed.written as usize, copied.written as usize);
    eventually("everything arrives", || {
        let lines = recorder.lines();
        let count = |name: &str| lines.get(name).map_or(0, Vec::len);
        count("renamed") >= whole.0 && count("copied") >= whole.1
    })
    .await;
    // Time for what must not come.
    let frames = *recorder.frames.lock().expect("not poisoned");
    eventually("frames go on", || *recorder.frames.lock().expect("not poisoned") > frames + 8)
        .await;
    let lines = recorder.lines();
    for (name, log) in [("renamed", &renamed), ("copied", &copied)] {
        let expected: Vec<String> = (0..log.written).map(|i| format!("line {i}")).collect();
        let found = &lines[name];
        let same = found.iter().zip(&expected).take_while(|(a, b)| a == b).count();
        let around = &found[same.saturating_sub(2)..found.len().min(same + 5)];
        assert!(*found == expected, "{name}: {same} of {} lines, then {around:?}", expected.len());
    }
    drop(collector);
    server.abort();
}

/// A port that was free a moment ago.
fn free_address() -> SocketAddr {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    taken.local_addr().expect("an address")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_piped_in_and_what_is_sent_as_syslog_arrives_and_the_collector_ends_with_its_input()
{
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let syslog = free_address();
    configure(dir, &format!("[collector.logs.syslog]\nenabled = true\nlisten = \"{syslog}\"\n"));
    let recorder = Recorder::default();
    let (address, server) = recorder.serve(([127, 0, 0, 1], 0).into()).await;
    let mut command = Collector::command(dir, address);
    let child = command.args(["--stdin", "shop"]).stdin(Stdio::piped()).spawn().expect("starts");
    let mut collector = Collector(child);
    let mut pipe = collector.0.stdin.take().expect("a pipe");
    writeln!(pipe, "first").expect("written");
    let has = |service: &str, body: &str| {
        let lines = recorder.lines();
        lines.get(service).is_some_and(|bodies| bodies.iter().any(|line| line == body))
    };
    eventually("what is piped arrives while the pipe is open", || has("shop", "first")).await;

    // What was sent to UDP before anybody listened is lost; now somebody does.
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    datagrams.send_to(b"<27>Nov 20 20:59:59 db postgres[7]: gone", syslog).expect("sent");
    eventually("a datagram arrives", || has("postgres", "gone")).await;
    let mut stream = std::net::TcpStream::connect(syslog).expect("connects");
    stream.write_all(b"25 <14>1 - - api - - - hello").expect("sent");
    eventually("a message over a stream arrives", || has("api", "hello")).await;

    // The last lines of a program, and its end.
    write!(pipe, "ERROR it broke\n\tat a.B(C.java:1)\nthe last words").expect("written");
    drop(pipe);
    eventually("it ends", || collector.0.try_wait().expect("ours").is_some()).await;
    assert!(collector.0.wait().expect("ours").success());
    let lines = recorder.lines();
    assert_eq!(lines["shop"], ["first", "ERROR it broke\n\tat a.B(C.java:1)", "the last words"]);
    drop(collector);
    server.abort();
}
