//! Made-up control groups and an engine that answers with recorded JSON.

use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use model::UnixMillis;

use super::*;
use crate::probe::ProberConfig;
use crate::probe::vitals::Vitals;

const WEB: &str = "4f0c8d2e7b1a9c3f5e6d7a8b9c0d1e2f3a4b5c6d7e8f9a0b1c2d3e4f5a6b7c8d";
const DB: &str = "d0b5aa11c0ffee00d0b5aa11c0ffee00d0b5aa11c0ffee00d0b5aa11c0ffee00";

/// A machine made of files.
struct Machine(tempfile::TempDir, Vec<String>);

impl Machine {
    fn new() -> Self {
        let machine = Self(tempfile::tempdir().expect("temporary directory"), Vec::new());
        machine.namespace(1, "net:[host]");
        machine
    }

    fn file(&self, path: &str, content: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("has a parent")).expect("writable");
        fs::write(path, content).expect("writable");
    }

    fn namespace(&self, pid: u32, target: &str) {
        let path = self.0.path().join(format!("proc/{pid}/ns/net"));
        fs::create_dir_all(path.parent().expect("has a parent")).expect("writable");
        symlink(target, path).expect("writable");
    }

    fn v2_container(&self, group: &str, pid: u32, cpu_us: u64) {
        let dir = format!("sys/fs/cgroup/{group}");
        self.file("sys/fs/cgroup/cgroup.controllers", "cpu io memory pids\n");
        self.file(&format!("{dir}/cgroup.procs"), &format!("{pid}\n{}\n", pid + 1));
        self.file(&format!("{dir}/cpu.stat"), &format!("usage_usec {cpu_us}\nuser_usec 1\n"));
        self.file(&format!("{dir}/memory.current"), "1000000\n");
        self.file(&format!("{dir}/memory.stat"), "anon 5\ninactive_file 400000\n");
        self.file(&format!("{dir}/memory.max"), "max\n");
        self.file(&format!("{dir}/io.stat"), "8:0 rbytes=10 wbytes=20 rios=1 wios=1\n");
        self.file(&format!("{dir}/pids.current"), "2\n");
    }

    fn remove(&self, group: &str) {
        fs::remove_dir_all(self.0.path().join("sys/fs/cgroup").join(group)).expect("there");
    }

    fn probe(&self) -> Box<dyn Probe> {
        let config = ProberConfig {
            proc_root: self.0.path().join("proc"),
            sys_root: self.0.path().join("sys"),
            container_sockets: vec![self.0.path().join("engine.sock")],
            watched_containers: self.1.clone(),
            ..ProberConfig::default()
        };
        let vitals = Arc::new(Vitals::new(std::iter::empty()));
        open(&Setup { config, stats: Arc::default(), vitals })
    }

    /// Answers every request for the list, and for one container, with recorded JSON.
    fn engine(&self) {
        let listener = UnixListener::bind(self.0.path().join("engine.sock")).expect("bindable");
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut request = [0; 1024];
                let Ok(len) = stream.read(&mut request) else { continue };
                let body = match request[..len].starts_with(b"GET /containers/json ") {
                    true => include_str!("../../../../fixtures/docker/containers.json"),
                    false => include_str!("../../../../fixtures/docker/inspect.json"),
                };
                // In two chunks, as Docker sends it.
                let (a, b) = body.split_at(body.len() / 2);
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
                let chunks = format!("{:x}\r\n{a}\r\n{:x}\r\n{b}\r\n0\r\n\r\n", a.len(), b.len());
                let _ = stream
                    .write_all(head.as_bytes())
                    .and_then(|()| stream.write_all(chunks.as_bytes()));
            }
        });
    }
}

struct Reading {
    series: Vec<(String, f64)>,
    events: Vec<String>,
}

impl Reading {
    /// The value of the series whose text contains every part.
    fn value(&self, parts: &[&str]) -> Option<f64> {
        let mut found = self.series.iter().filter(|(s, _)| parts.iter().all(|p| s.contains(p)));
        let first = found.next().map(|(_, value)| *value);
        assert!(found.next().is_none(), "{parts:?} is ambiguous");
        first
    }
}

fn read(probe: &mut dyn Probe, start: Instant, second: u64) -> Reading {
    let mut sheet = Sheet::default();
    let at = At { wall: UnixMillis(0), instant: start + Duration::from_secs(second) };
    probe.read(at, &mut sheet).expect("readable");
    let read = sheet.finish().expect("valid");
    let series = read.filled.map_or(Vec::new(), |(layout, values)| {
        layout.series().iter().map(ToString::to_string).zip(values).collect()
    });
    Reading { series, events: read.events.into_iter().map(|e| e.detail).collect() }
}

#[test]
fn containers_of_version_2_are_measured_by_their_groups_alone() {
    let machine = Machine::new();
    let group = format!("system.slice/docker-{WEB}.scope");
    machine.v2_container(&group, 100, 1_000_000);
    machine.namespace(100, "net:[web]");
    machine.file("proc/100/net/dev", include_str!("../../../../fixtures/proc/net/dev"));
    let mut probe = machine.probe();
    let start = Instant::now();
    let first = read(&mut *probe, start, 0);
    assert_eq!(first.value(&["container.cpu.time", &WEB[..12], "docker"]), Some(1.0));
    assert!(first.value(&["container.cpu.usage"]).expect("there").is_nan(), "no base yet");
    assert_eq!(first.value(&["container.memory.usage"]), Some(600_000.0));
    assert_eq!(first.value(&["container.memory.limit"]), None);
    assert_eq!(first.value(&["container.disk.io", "write"]), Some(20.0));
    assert_eq!(first.value(&["container.network.io", "receive"]), Some(303_179_501.0));
    assert_eq!(first.value(&["container.process.count"]), Some(2.0));

    machine.v2_container(&group, 100, 6_000_000);
    let second = read(&mut *probe, start, 10);
    assert_eq!(second.value(&["container.cpu.usage"]), Some(0.5));
    machine.v2_container(&group, 100, 10);
    let restarted = read(&mut *probe, start, 20);
    assert!(restarted.value(&["container.cpu.usage"]).expect("there").is_nan(), "went backwards");
}

#[test]
fn containers_of_version_1_are_measured_too() {
    let machine = Machine::new();
    let file = |controller: &str, file: &str, content: &str| {
        machine.file(&format!("sys/fs/cgroup/{controller}/docker/{DB}/{file}"), content);
    };
    file("memory", "cgroup.procs", "7\n");
    file("memory", "memory.usage_in_bytes", "5000\n");
    file("memory", "memory.stat", "cache 10\ninactive_file 1\ntotal_inactive_file 1000\n");
    file("memory", "memory.limit_in_bytes", "9223372036854771712\n");
    file("cpu,cpuacct", "cpuacct.usage", "2500000000\n");
    file("blkio", "blkio.throttle.io_service_bytes", "8:0 Read 10\n8:0 Write 20\nTotal 30\n");
    file("pids", "pids.current", "4\n");
    let reading = read(&mut *machine.probe(), Instant::now(), 0);
    assert_eq!(reading.value(&["container.cpu.time"]), Some(2.5));
    assert_eq!(reading.value(&["container.memory.usage"]), Some(4000.0));
    assert_eq!(reading.value(&["container.memory.limit"]), None);
    assert_eq!(reading.value(&["container.disk.io", "read"]), Some(10.0));
    assert_eq!(reading.value(&["container.process.count"]), Some(4.0));
    assert_eq!(reading.value(&["container.network.io", "receive"]), None);
}

#[test]
fn the_engine_adds_names_restarts_and_health() {
    let machine = Machine::new();
    machine.engine();
    machine.v2_container(&format!("system.slice/docker-{WEB}.scope"), 100, 1);
    let reading = read(&mut *machine.probe(), Instant::now(), 0);
    let named = ["container.name=\"web\"", "container.image.name=\"nginx:1.27\""];
    assert_eq!(reading.value(&[&["container.healthy"], &named[..]].concat()), Some(1.0));
    assert_eq!(reading.value(&[&["container.restarts"], &named[..]].concat()), Some(3.0));
}

#[test]
fn an_engine_that_is_gone_takes_only_the_names_away() {
    let machine = Machine::new();
    // A socket file that nobody listens on.
    drop(UnixListener::bind(machine.0.path().join("engine.sock")).expect("bindable"));
    machine.v2_container(&format!("system.slice/docker-{WEB}.scope"), 100, 1);
    let reading = read(&mut *machine.probe(), Instant::now(), 0);
    assert!(reading.value(&["container.memory.usage"]).is_some());
}

#[test]
fn a_container_keeps_its_name_while_the_engine_is_silent() {
    let machine = Machine::new();
    machine.engine();
    let group = format!("system.slice/docker-{WEB}.scope");
    machine.v2_container(&group, 100, 1);
    let (mut probe, start) = (machine.probe(), Instant::now());
    let named = ["container.memory.usage", "container.name=\"web\"", "nginx:1.27"];
    assert!(read(&mut *probe, start, 0).value(&named).is_some());
    fs::remove_file(machine.0.path().join("engine.sock")).expect("there");
    for second in [5, 10] {
        let reading = read(&mut *probe, start, second);
        assert!(reading.value(&named).is_some(), "it is the same container");
        // What only the engine knows is not known now.
        assert_eq!(reading.value(&["container.healthy"]), None);
        assert_eq!(reading.value(&["container.restarts"]), None);
    }
    machine.remove(&group);
    assert_eq!(read(&mut *probe, start, 15).events, ["container web stopped"]);
}

#[test]
fn starts_stops_and_restarts_are_events_after_the_first_reading() {
    let machine = Machine::new();
    let web = format!("system.slice/docker-{WEB}.scope");
    let db = format!("machine.slice/libpod-{DB}.scope");
    machine.v2_container(&web, 100, 1);
    let mut probe = machine.probe();
    let start = Instant::now();
    assert!(read(&mut *probe, start, 0).events.is_empty());
    machine.v2_container(&db, 200, 1);
    assert_eq!(read(&mut *probe, start, 5).events, [format!("container {} started", &DB[..12])]);
    machine.v2_container(&db, 300, 1);
    assert_eq!(read(&mut *probe, start, 10).events, [format!("container {} restarted", &DB[..12])]);
    machine.remove(&web);
    assert_eq!(read(&mut *probe, start, 15).events, [format!("container {} stopped", &WEB[..12])]);
}

#[test]
fn watched_containers_are_counted_by_name_also_when_none_runs() {
    let mut machine = Machine::new();
    machine.1 = vec!["we*".to_owned(), "db".to_owned()];
    let web = format!("system.slice/docker-{WEB}.scope");
    machine.v2_container(&web, 100, 1);
    let start = Instant::now();
    let counts = |reading: Reading| {
        ["we*", "db"].map(|pattern| {
            let label = format!("container.pattern=\"{pattern}\"");
            reading.value(&["container.watched.count", &label]).expect("always there")
        })
    };
    let unnamed = counts(read(&mut *machine.probe(), start, 0));
    assert!(unnamed.iter().all(|count| count.is_nan()), "it may be either of them");
    machine.engine();
    let mut probe = machine.probe();
    assert_eq!(counts(read(&mut *probe, start, 0)), [1.0, 0.0]);
    machine.remove(&web);
    assert_eq!(counts(read(&mut *probe, start, 5)), [0.0, 0.0]);
}

#[test]
fn a_machine_without_control_groups_has_no_containers() {
    let machine = Machine::new();
    let reading = read(&mut *machine.probe(), Instant::now(), 0);
    assert!(reading.series.is_empty());
}
