//! What systemd is told by the processes that it starts.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, PATIENCE, free_address};
use crate::process::{self, Process};

/// The socket that systemd would listen on.
struct Manager(UnixDatagram);

impl Manager {
    fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a time-out");
        Self(socket)
    }

    /// Waits for a message with this line; returns the lines that came before it.
    fn hears(&self, expected: &str, process: &Process) -> Vec<String> {
        let (since, mut before) = (Instant::now(), Vec::new());
        let mut buffer = [0; 4096];
        while since.elapsed() < PATIENCE {
            let Ok(n) = self.0.recv(&mut buffer) else { continue };
            for line in String::from_utf8_lossy(&buffer[..n]).lines() {
                if line == expected {
                    return before;
                }
                before.push(line.to_owned());
            }
        }
        panic!("{expected} was not heard, but {before:?}; the process said: {}", process.output());
    }
}

fn is_told_all(name: &str, dir: &Path, mut command: Command) {
    let path = dir.join(format!("{name}.sock"));
    let manager = Manager::listen(&path);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "300000").env_remove("WATCHDOG_PID");
    let mut process = Process::start(name, dir, command);
    let before = manager.hears("READY=1", &process);
    assert!(!before.contains(&"STOPPING=1".to_owned()), "{before:?}");
    manager.hears("WATCHDOG=1", &process);
    manager.hears("WATCHDOG=1", &process);
    assert!(process.stop(PATIENCE).success(), "{}", process.output());
    manager.hears("STOPPING=1", &process);
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_told_of_the_start_the_life_and_the_end() {
    let cluster = Cluster::aggregator().await;
    let dir = cluster.dir();
    let mut up = process::muster();
    up.args(["up", "--listen", &free_address().to_string(), "--data-dir"]).arg(dir.join("up"));
    let mut collector = process::collector();
    collector.args(["--aggregator", &cluster.url(), "--state-dir"]).arg(dir.join("collector"));
    let mut gateway = process::muster();
    gateway.args(["gateway", "--listen", &free_address().to_string()]);
    gateway.args(["--aggregator", &cluster.url()]);
    std::thread::scope(|scope| {
        for (name, command) in [("up-1", up), ("collector-1", collector), ("gateway-1", gateway)] {
            scope.spawn(move || is_told_all(name, dir, command));
        }
    });
}

/// Without a service manager, or with one that is gone, everything works as it does otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_manager_that_is_gone_stops_nobody() {
    let cluster = Cluster::start(
        "up",
        &[("NOTIFY_SOCKET", "/nonexistent/notify"), ("WATCHDOG_USEC", "300000")],
    )
    .await;
    let (status, _) = cluster.get("/healthz").await;
    assert_eq!(status, 200);
}
