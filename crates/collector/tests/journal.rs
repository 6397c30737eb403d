//! The real `systemd-journald` of this machine in a mount namespace of its own, the real `journalctl`, the real
//! collector: what programs say to the journal arrives, each entry once, also when the collector is killed.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proto::v1;
use proto::v1::collector_message::Kind;

#[path = "acknowledging/server.rs"]
mod server;

const PATIENCE: Duration = Duration::from_secs(60);
const JOURNALD: &str = "/usr/lib/systemd/systemd-journald";

/// Ended when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A journal that lives in `dir`: its sockets in `run/systemd/journal`, its files in `run/log/journal`.
fn journald(dir: &Path) -> Option<Process> {
    let has = |program: &str| Path::new(program).exists();
    let is_root = rustix::process::geteuid().is_root();
    if !is_root || !has(JOURNALD) || !has("/usr/bin/journalctl") || !has("/usr/bin/unshare") {
        eprintln!("skipped: needs to be root, with systemd-journald, journalctl and unshare");
        return None;
    }
    let run = dir.join("run");
    std::fs::create_dir_all(run.join("log/journal")).expect("made");
    // Volatile storage under /run, which is ours alone; kernel messages are the machine's.
    let script = format!(
        "set -e; mount --bind {run} /run; mkdir -p /run/systemd /run/conf; \
         printf '[Journal]\\nStorage=volatile\\nReadKMsg=no\\nRateLimitIntervalSec=0\\n' > /run/conf/journald.conf; \
         mount --bind /run/conf/journald.conf /etc/systemd/journald.conf; exec {JOURNALD}",
        run = run.display()
    );
    let mut command = Command::new("/usr/bin/unshare");
    command.args(["--mount", "/bin/sh", "-c", &script]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    Some(Process(child.expect("starts")))
}

/// An entry in the native protocol; binary values have their length before them.
fn entry(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.extend_from_slice(name.as_bytes());
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
        out.extend_from_slice(value);
        out.push(b'\n');
    }
    out
}

fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn collector(dir: &Path, server: std::net::SocketAddr) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster-collector"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MUSTER_") {
            command.env_remove(name);
        }
    }
    command.args(["--aggregator", &format!("http://{server}"), "--config"]);
    command.arg(dir.join("muster.toml")).arg("--state-dir").arg(dir.join("state"));
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    Process(child.expect("starts"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_programs_say_to_a_real_journal_arrives_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let Some(_journald) = journald(dir) else { return };
    let socket = dir.join("run/systemd/journal/socket");
    eventually("journald listens", || socket.exists().then_some(()));
    let journal = UnixDatagram::unbound().expect("a socket");
    eventually("journald takes entries", || journal.connect(&socket).ok());
    let say = |service: &str, priority: u8, message: &[u8]| {
        let priority = priority.to_string();
        let fields: [(&str, &[u8]); 3] = [
            ("SYSLOG_IDENTIFIER", service.as_bytes()),
            ("PRIORITY", priority.as_bytes()),
            ("MESSAGE", message),
        ];
        journal.send(&entry(&fields)).expect("sent");
    };
    say("shop", 6, b"before anybody listened");
    let files = dir.join("run/log/journal");
    let program = dir.join("journalctl");
    let script =
        format!("#!/bin/sh\nexec /usr/bin/journalctl --directory={} \"$@\"\n", files.display());
    std::fs::write(&program, script).expect("written");
    std::fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("set");
    // The journal has a directory for the machine when something is in it.
    eventually("the journal is written", || files.read_dir().ok()?.next().map(drop));
    let mut config = std::fs::File::create(dir.join("muster.toml")).expect("made");
    writeln!(config, "[collector.logs.journald]\nenabled = true\nprogram = {program:?}")
        .expect("written");

    type Items = BTreeMap<server::Name, Vec<v1::LogEvent>>;
    let items = Arc::new(Mutex::new(Items::new()));
    let kept = Arc::clone(&items);
    let keep = move |name, kind| {
        if let Kind::LogBatch(batch) = kind {
            kept.lock().expect("not poisoned").insert(name, batch.events);
        }
    };
    let (address, server) = server::serve(([127, 0, 0, 1], 0).into(), keep).await;
    let found = || -> Vec<v1::LogEvent> {
        let items = items.lock().expect("not poisoned");
        items
            .values()
            .flatten()
            .filter(|event| event.service != "systemd-journald")
            .cloned()
            .collect()
    };
    let mut running = collector(dir, address);
    // The latest entry comes first, and with it the place to go on from.
    eventually("the journal is followed", || {
        found().iter().any(|event| event.body == "before anybody listened").then_some(())
    });
    say("shop", 3, br#"{"level":"warn","msg":"payment failed","order":17,"password":"hunter2"}"#);
    say(
        "shop",
        3,
        b"Traceback (most recent call last):\n  File \"a.py\", line 7\nValueError: no stock",
    );
    say("raw", 4, b"bytes \xff\xfe and nul \0 here");
    say("page", 2, b"\x1b[31mred\x1b[0m <script>alert(1)</script>");
    say("long", 6, "x".repeat(100_000).as_bytes());
    for number in 0..500 {
        say("count", 6, format!("entry {number}").as_bytes());
        if number % 125 == 60 {
            drop(running);
            running = collector(dir, address);
        }
    }
    let last = || found().iter().any(|event| event.body == "entry 499").then_some(());
    eventually("the last entry arrives", last);
    let events = found();
    let of = |service: &str| -> Vec<(u32, String)> {
        let events = events.iter().filter(|event| event.service == service);
        events.map(|event| (event.severity_number, event.body.clone())).collect()
    };
    let count: Vec<String> = of("count").into_iter().map(|(_, body)| body).collect();
    let expected: Vec<String> = (0..500).map(|number| format!("entry {number}")).collect();
    assert!(count == expected, "{} entries: {count:?}", count.len());
    assert_eq!(
        of("shop"),
        [
            (9, "before anybody listened".to_owned()),
            (13, "payment failed".to_owned()),
            (
                17,
                "Traceback (most recent call last):\n  File \"a.py\", line 7\nValueError: no stock"
                    .to_owned()
            ),
        ]
    );
    assert_eq!(of("raw"), [(13, "bytes \u{fffd}\u{fffd} and nul ␀ here".to_owned())]);
    assert_eq!(of("page"), [(18, "red <script>alert(1)</script>".to_owned())]);
    let long: Vec<_> = events.iter().filter(|event| event.service == "long").collect();
    assert!(long.len() == 1 && long[0].body_truncated && long[0].body.len() == 64 * 1024);
    drop(running);
    server.abort();
}
