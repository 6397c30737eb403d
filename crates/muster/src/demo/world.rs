//! One made-up machine, moved on tick by tick. Pure: the same seed and the same times make the same machine.

use std::f64::consts::TAU;

use model::metric::{self, Metric};
use model::{
    EventKind, Frame, Item, Labels, Layout, MachineEvent, MachineFacts, MachineId, Payload,
    Process, ProcessReport, ProcessState, Series, UnixMillis,
};

use super::chance::{Dice, mix, noise};
use super::incident::{Incident, Kind};
use super::lines::Lines;
use super::role::Role;

const DAY_S: f64 = 86_400.0;
const PROCESSES_EVERY_MS: i64 = 10_000;
const REGIONS: [&str; 3] = ["eu-west", "us-east", "ap-south"];

/// What a machine is, for good.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) seed: u64,
    pub(super) index: usize,
    pub(super) machines: usize,
    pub(super) role: Role,
    pub(super) layout: Layout,
    booted: UnixMillis,
    /// What only grows, by its place in the layout.
    totals: Vec<f64>,
    last: Option<UnixMillis>,
    reported: UnixMillis,
    lines: Lines,
    dice: Dice,
    /// Of the disk for data, from 0 to 1: grows, and is tidied up.
    disk: f64,
    trouble: Option<Incident>,
}

/// What there is to send at an instant.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Tick {
    /// The machine is there. Otherwise there is nothing.
    pub(super) is_online: bool,
    pub(super) payloads: Vec<Payload>,
}

/// How the machine is doing.
struct Condition {
    cpu: f64,
    memory: f64,
    disk: f64,
    /// Requests a second.
    requests: f64,
    /// Share of them that fail.
    failing: f64,
    trouble: Option<Kind>,
}

impl Machine {
    /// `events_per_second`: log events of this machine.
    pub(super) fn new(
        seed: u64,
        index: usize,
        machines: usize,
        events_per_second: f64,
        begins: UnixMillis,
    ) -> Self {
        let role = Role::of(index);
        let own = mix(seed ^ (index as u64) << 32);
        let layout = Layout::new(series(role)).expect("distinct series with valid names");
        let mut dice = Dice::new(own);
        Self {
            seed,
            index,
            machines,
            role,
            booted: begins - 86_400_000 * (1 + dice.below(60) as i64),
            totals: layout.series().iter().map(|_| dice.below(1 << 30) as f64).collect(),
            layout,
            last: None,
            reported: UnixMillis(0),
            lines: Lines::new(role, events_per_second),
            disk: 0.3 + 0.3 * dice.share(),
            dice,
            trouble: None,
        }
    }

    pub(super) fn id(&self) -> MachineId {
        let id = u128::from(mix(self.seed ^ 0xde_30)) << 64 | (self.index as u128 + 1);
        MachineId::from_u128(id).expect("its second half is not zero")
    }

    pub(super) fn name(&self) -> String {
        let same = (0..=self.index).filter(|i| Role::of(*i) == self.role).count();
        format!("demo-{}-{same}", self.role.name())
    }

    pub(super) fn labels(&self) -> Labels {
        let env = if self.index % 5 == 4 { "staging" } else { "prod" };
        let region = REGIONS[self.index / 2 % REGIONS.len()];
        Labels::of([("env", env), ("region", region), ("role", self.role.name()), ("made", "up")])
    }

    pub(super) fn facts(&self) -> MachineFacts {
        MachineFacts {
            host_name: self.name(),
            os_type: "linux".into(),
            os_description: "Debian GNU/Linux 13 (trixie), made up".into(),
            kernel_version: "6.12.48".into(),
            arch: if self.index % 3 == 2 { "aarch64" } else { "x86_64" }.into(),
            cpu_model: "Made-up CPU".into(),
            logical_cpus: self.role.cpus(),
            physical_cpus: self.role.cpus() / 2,
            memory_bytes: self.role.memory_bytes() as u64,
            swap_bytes: 2_000_000_000,
            boot_time: self.booted,
            // For documentation (RFC 5737).
            addresses: vec![format!("192.0.2.{}", self.index % 250 + 1)],
            virtualization: "kvm".into(),
            collector_version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    /// Moves on to `time`, later than all before.
    pub(super) fn advance(&mut self, time: UnixMillis) -> Tick {
        let dt = self.last.map_or(1.0, |last| time.since(last) as f64 / 1000.0);
        self.last = Some(time);
        let incident = Incident::at(self.seed, self.machines, time);
        let own = incident.filter(|incident| incident.machine == self.index);
        let before = std::mem::replace(&mut self.trouble, own);
        if own.is_some_and(|incident| incident.kind == Kind::Offline) {
            return Tick::default();
        }
        let condition = self.condition(time, dt, own);
        let mut payloads = vec![Payload::Frame(self.frame(time, dt, &condition))];
        payloads.extend(self.event(time, before, own).map(Payload::Event));
        let logs = self.lines.due(time, dt, condition.failing, &mut self.dice);
        if !logs.is_empty() {
            payloads.push(Payload::Logs(logs));
        }
        if time.since(self.reported) >= PROCESSES_EVERY_MS {
            self.reported = time;
            payloads.push(Payload::Processes(self.processes(time, &condition)));
        }
        Tick { is_online: true, payloads }
    }

    fn condition(&mut self, time: UnixMillis, dt: f64, own: Option<Incident>) -> Condition {
        let seconds = time.0 as f64 / 1000.0;
        // Most people are there in the afternoon.
        let day = 0.5 - 0.5 * (TAU * (seconds / DAY_S + 0.4)).cos();
        let all = noise(self.seed, seconds, 240.0) * 0.12;
        let seed = mix(self.seed ^ self.index as u64);
        let alone = noise(seed, seconds, 45.0) * 0.08 + noise(seed ^ 1, seconds, 4.0) * 0.05;
        let traffic = (0.3 + 0.7 * day + all).clamp(0.05, 1.2);
        let mut cpu = (self.role.load() * traffic + alone).clamp(0.01, 0.92);
        let mut memory =
            self.role.memory() + 0.05 * traffic + 0.02 * noise(seed ^ 2, seconds, 600.0);
        let mut failing = 0.003;
        // A few per cent a day; somebody tidies up before it is full.
        self.disk += 0.04 * dt / DAY_S;
        if self.disk > 0.85 {
            self.disk = 0.35;
        }
        let mut disk = self.disk;
        if let Some(incident) = own {
            let progress = incident.progress(time);
            match incident.kind {
                Kind::Errors => failing = 0.35,
                Kind::Busy => cpu = 0.97 + alone.clamp(-0.02, 0.02),
                Kind::MemoryLeak => memory += (0.985 - memory) * progress,
                Kind::DiskFills => disk += (0.985 - disk) * (2.0 * progress).min(1.0),
                Kind::Offline => {}
            }
        }
        Condition {
            cpu,
            memory: memory.clamp(0.05, 0.99),
            disk,
            requests: 40.0 * traffic,
            failing,
            trouble: own.map(|incident| incident.kind),
        }
    }

    fn frame(&mut self, time: UnixMillis, dt: f64, now: &Condition) -> Frame {
        let round = |value: f64| (value * 10_000.0).round() / 10_000.0;
        let (cpus, memory) = (f64::from(self.role.cpus()), self.role.memory_bytes());
        let containers = self.role.containers().len().max(1) as f64;
        let seconds = time.0 as f64 / 1000.0;
        let seed = mix(self.seed ^ self.index as u64);
        let mut values = Vec::with_capacity(self.layout.len());
        for (i, series) in self.layout.series().iter().enumerate() {
            let label = |name: &str| series.labels.get(name);
            let is = |metric: &Metric| *series.metric == *metric.name;
            // What grows, by how much a second; or what it is now.
            let value = if is(&metric::CPU_UTILIZATION) {
                match (label("cpu.mode"), label("cpu.logical_number").parse::<u64>()) {
                    (_, Ok(number)) => round(
                        (now.cpu + 0.15 * noise(seed ^ number << 9, seconds, 6.0)).clamp(0.0, 1.0),
                    ),
                    ("user", _) => round(now.cpu * 0.7),
                    ("system", _) => round(now.cpu * 0.25),
                    ("iowait", _) => round(0.01 + now.cpu * 0.03),
                    _ => round(now.cpu),
                }
            } else if is(&metric::LOAD_1M) || is(&metric::LOAD_5M) || is(&metric::LOAD_15M) {
                round(now.cpu * cpus * 1.1)
            } else if is(&metric::CPU_LOGICAL_COUNT) {
                cpus
            } else if is(&metric::PRESSURE_UTILIZATION) {
                round((now.cpu - 0.7).max(0.0))
            } else if is(&metric::MEMORY_UTILIZATION) {
                round(now.memory)
            } else if is(&metric::MEMORY_LIMIT) {
                memory
            } else if is(&metric::MEMORY_AVAILABLE) {
                (memory * (1.0 - now.memory)).round()
            } else if is(&metric::MEMORY_USAGE) {
                let share = match label("system.memory.state") {
                    "used" => now.memory,
                    "cached" => (1.0 - now.memory) * 0.7,
                    "buffers" => (1.0 - now.memory) * 0.1,
                    _ => (1.0 - now.memory) * 0.2,
                };
                (memory * share).round()
            } else if is(&metric::PAGING_UTILIZATION) {
                round((now.memory - 0.85).max(0.0) * 4.0)
            } else if is(&metric::UPTIME) {
                (time.since(self.booted) / 1000) as f64
            } else if is(&metric::TEMPERATURE) {
                (42.0 + 35.0 * now.cpu).round()
            } else if is(&metric::PROCESS_COUNT) {
                if label("process.state") == "running" { (now.cpu * cpus).ceil() } else { 140.0 }
            } else if is(&metric::FILESYSTEM_UTILIZATION) {
                round(self.disk_of(label("system.filesystem.mountpoint"), now))
            } else if is(&metric::FILESYSTEM_LIMIT) {
                size_of(label("system.filesystem.mountpoint"))
            } else if is(&metric::FILESYSTEM_USAGE) {
                let mount = label("system.filesystem.mountpoint");
                let used = self.disk_of(mount, now);
                let share =
                    if label("system.filesystem.state") == "used" { used } else { 1.0 - used };
                (size_of(mount) * share).round()
            } else if is(&metric::CONTAINER_CPU_USAGE) {
                round(now.cpu * cpus / containers)
            } else if is(&metric::CONTAINER_MEMORY_USAGE) {
                (memory * now.memory * 0.6 / containers).round()
            } else if is(&metric::CONTAINER_HEALTHY) {
                f64::from(now.trouble != Some(Kind::Errors))
            } else if *series.metric == *"shop.queue.length" {
                (200.0 * now.cpu * now.cpu + 4_000.0 * (now.failing - 0.003)).round()
            } else {
                let failed = now.requests * now.failing;
                let rate = if is(&metric::NETWORK_IO) {
                    now.requests
                        * if label("network.io.direction") == "receive" { 4e3 } else { 3e4 }
                } else if is(&metric::NETWORK_PACKETS) {
                    now.requests * 30.0
                } else if is(&metric::DISK_IO) {
                    let fills = if now.trouble == Some(Kind::DiskFills) { 8e7 } else { 0.0 };
                    now.cpu * if label("disk.io.direction") == "read" { 6e6 } else { 1.2e7 + fills }
                } else if is(&metric::DISK_OPERATIONS) {
                    now.cpu * 300.0
                } else if is(&metric::DISK_IO_TIME) || is(&metric::PRESSURE_TIME) {
                    now.cpu * 0.2
                } else if is(&metric::PROCESS_CREATED) {
                    2.0
                } else if is(&metric::CONTAINER_CPU_TIME) {
                    now.cpu * cpus / containers
                } else {
                    match (&*series.metric, label("http.response.status_class")) {
                        ("shop.http.requests", "5xx") => failed,
                        ("shop.http.requests", _) => now.requests - failed,
                        ("shop.orders", _) => (now.requests - failed) / 25.0,
                        _ => 0.0,
                    }
                };
                self.totals[i] += rate * dt;
                let whole = *series.unit != *"s";
                if whole { self.totals[i].floor() } else { round(self.totals[i]) }
            };
            values.push(value);
        }
        Frame { time, layout: self.layout.id(), values }
    }

    fn disk_of(&self, mount: &str, now: &Condition) -> f64 {
        if mount == "/" { 0.31 } else { now.disk }
    }

    /// What the beginning or the end of an incident tells.
    fn event(
        &mut self,
        time: UnixMillis,
        before: Option<Incident>,
        own: Option<Incident>,
    ) -> Option<MachineEvent> {
        let ended = before.filter(|before| own.is_none_or(|own| own.begins != before.begins))?;
        let (kind, detail) = match ended.kind {
            Kind::Offline => {
                self.booted = time - 20_000;
                (EventKind::Reboot, "the machine was started again")
            }
            Kind::MemoryLeak => (EventKind::OomKill, "the kernel killed report-builder (made up)"),
            Kind::Errors => (EventKind::ContainerStarted, "shop-api: started again"),
            Kind::DiskFills | Kind::Busy => return None,
        };
        Some(MachineEvent { time, kind, detail: detail.into(), attributes: Labels::empty() })
    }

    fn processes(&self, time: UnixMillis, now: &Condition) -> ProcessReport {
        let cpus = f64::from(self.role.cpus());
        let memory = self.role.memory_bytes();
        let culprit = match now.trouble {
            Some(Kind::Busy) => Some(("video-encode", "video-encode --all --made-up", 0.6, 0.05)),
            Some(Kind::MemoryLeak) => Some(("report-builder", "report-builder --year", 0.1, 0.5)),
            Some(Kind::DiskFills) => Some(("pg_dump", "pg_dump shop > /var/dump.sql", 0.1, 0.02)),
            _ => None,
        };
        let known = self.role.processes().iter().copied().chain(culprit);
        let processes = known.enumerate().map(|(i, (name, command, cpu, share))| Process {
            pid: 700 + 13 * i as u32,
            parent_pid: 1,
            name: name.into(),
            command_line: command.into(),
            user: if name == "postgres" { "postgres" } else { "shop" }.into(),
            state: if cpu > 0.1 { ProcessState::Running } else { ProcessState::Sleeping },
            start_time: self.booted + 30_000,
            cpu_utilization: (cpu * now.cpu * cpus * 100.0).round() / 100.0,
            memory_bytes: (share * now.memory * memory) as u64,
            disk_write_rate: if name == "pg_dump" { 8e7 } else { (cpu * 1e6).round() },
            threads: 8,
            ..Process::default()
        });
        let processes = processes.collect();
        let running = (now.cpu * cpus).ceil() as u32;
        ProcessReport { time, processes, total: 140 + running, running, blocked: 0, zombie: 0 }
    }
}

fn size_of(mount: &str) -> f64 {
    if mount == "/" { 4e10 } else { 5e11 }
}

/// The series of a machine: what a collector would read there, and what its service counts.
fn series(role: Role) -> Vec<Series> {
    let mut list = Vec::new();
    let mut put = |metric: &Metric, labels: &[(&str, &str)]| {
        list.push(metric.with(Labels::new(labels.iter().copied()).expect("valid labels")));
    };
    put(&metric::CPU_UTILIZATION, &[]);
    for mode in ["user", "system", "iowait"] {
        put(&metric::CPU_UTILIZATION, &[("cpu.mode", mode)]);
    }
    for number in 0..role.cpus() {
        put(&metric::CPU_UTILIZATION, &[("cpu.logical_number", &number.to_string())]);
    }
    for alone in [
        metric::CPU_LOGICAL_COUNT,
        metric::LOAD_1M,
        metric::LOAD_5M,
        metric::LOAD_15M,
        metric::MEMORY_UTILIZATION,
        metric::MEMORY_LIMIT,
        metric::MEMORY_AVAILABLE,
        metric::PAGING_UTILIZATION,
        metric::UPTIME,
        metric::PROCESS_CREATED,
    ] {
        put(&alone, &[]);
    }
    for state in ["used", "free", "cached", "buffers"] {
        put(&metric::MEMORY_USAGE, &[("system.memory.state", state)]);
    }
    for state in ["running", "sleeping"] {
        put(&metric::PROCESS_COUNT, &[("process.state", state)]);
    }
    put(&metric::TEMPERATURE, &[("hw.id", "cpu"), ("hw.name", "Package")]);
    let waits = [("system.pressure.resource", "cpu"), ("system.pressure.kind", "some")];
    put(&metric::PRESSURE_UTILIZATION, &waits);
    put(&metric::PRESSURE_TIME, &waits);
    for (device, mount) in [("vda1", "/"), ("vdb1", "/var")] {
        let filesystem = [
            ("system.device", device),
            ("system.filesystem.mountpoint", mount),
            ("system.filesystem.type", "ext4"),
        ];
        put(&metric::FILESYSTEM_UTILIZATION, &filesystem);
        put(&metric::FILESYSTEM_LIMIT, &filesystem);
        for state in ["used", "free"] {
            let state = ("system.filesystem.state", state);
            put(&metric::FILESYSTEM_USAGE, &[&filesystem[..], &[state]].concat());
        }
    }
    for direction in ["read", "write"] {
        let labels = [("system.device", "vdb"), ("disk.io.direction", direction)];
        put(&metric::DISK_IO, &labels);
        put(&metric::DISK_OPERATIONS, &labels);
    }
    put(&metric::DISK_IO_TIME, &[("system.device", "vdb")]);
    for direction in ["receive", "transmit"] {
        let labels = [("network.interface.name", "eth0"), ("network.io.direction", direction)];
        put(&metric::NETWORK_IO, &labels);
        put(&metric::NETWORK_PACKETS, &labels);
    }
    for (number, (name, image)) in role.containers().iter().enumerate() {
        let id = format!("{:012x}", mix(number as u64 ^ (role as u64) << 8) >> 16);
        let container = [
            ("container.id", id.as_str()),
            ("container.name", name),
            ("container.image.name", image),
            ("container.runtime.name", "docker"),
        ];
        for metric in [
            metric::CONTAINER_CPU_USAGE,
            metric::CONTAINER_CPU_TIME,
            metric::CONTAINER_MEMORY_USAGE,
            metric::CONTAINER_HEALTHY,
        ] {
            put(&metric, &container);
        }
    }
    let service = |service: &str, more: &[(&str, &str)]| {
        let pairs = [&[("service.name", service)], more].concat();
        Labels::new(pairs).expect("valid labels")
    };
    match role {
        Role::Api => {
            for class in ["2xx", "5xx"] {
                let labels = service("shop-api", &[("http.response.status_class", class)]);
                list.push(Series::counter("shop.http.requests", "{request}", labels));
            }
            list.push(Series::counter("shop.orders", "{order}", service("shop-api", &[])));
        }
        Role::Worker => {
            list.push(Series::gauge("shop.queue.length", "{job}", service("shop-worker", &[])));
        }
        Role::Web | Role::Database | Role::Cache => {}
    }
    list
}

/// For those who speak the protocol.
pub(super) fn items(payloads: Vec<Payload>, seq: &mut u64) -> Vec<Item> {
    let number = |payload| {
        *seq += 1;
        Item { seq: *seq, payload }
    };
    payloads.into_iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use model::{Kind as SeriesKind, Level, LogEvent};

    use super::*;

    const BEGINS: UnixMillis = UnixMillis(1_795_208_400_000);

    /// Log events of a payload.
    fn logs(tick: &Tick) -> Vec<LogEvent> {
        let logs = tick.payloads.iter().filter_map(|payload| match payload {
            Payload::Logs(events) => Some(events.clone()),
            _ => None,
        });
        logs.flatten().collect()
    }

    fn day(index: usize) -> Vec<Tick> {
        let mut machine = Machine::new(7, index, 12, 0.5, BEGINS);
        (0..8_640).map(|i| machine.advance(BEGINS + i * 10_000)).collect()
    }

    #[test]
    fn the_same_seed_makes_the_same_day() {
        assert_eq!(day(1), day(1));
        assert_ne!(day(1), day(5));
    }

    #[test]
    fn counters_only_grow_shares_are_shares_and_every_frame_fits() {
        for index in 0..5 {
            let machine = Machine::new(7, index, 12, 0.5, BEGINS);
            let series = machine.layout.series();
            let mut before = vec![0.0; series.len()];
            for tick in day(index) {
                let Some(Payload::Frame(frame)) = tick.payloads.first() else {
                    assert!(!tick.is_online);
                    continue;
                };
                assert_eq!(frame.values.len(), series.len());
                for ((series, value), before) in series.iter().zip(&frame.values).zip(&mut before) {
                    assert!(value.is_finite() && *value >= 0.0, "{series} is {value}");
                    match series.kind {
                        SeriesKind::Counter => assert!(value >= before, "{series}"),
                        SeriesKind::Gauge => {
                            let is_share = series.metric.ends_with(".utilization");
                            assert!(!is_share || *value <= 1.0, "{series} is {value}");
                        }
                    }
                    *before = *value;
                }
            }
        }
    }

    #[test]
    fn a_day_of_the_fleet_has_calm_errors_and_a_machine_that_is_gone_for_a_while() {
        let (mut gone, mut errors, mut lines, mut events) = (0, 0, 0, 0);
        for index in 0..12 {
            for tick in day(index) {
                gone += usize::from(!tick.is_online);
                lines += logs(&tick).len();
                errors += logs(&tick).iter().filter(|e| Level::of(e.severity).is_error()).count();
                let is_event = |payload: &&Payload| matches!(payload, Payload::Event(_));
                events += tick.payloads.iter().filter(is_event).count();
            }
        }
        assert!(gone > 10, "{gone} ticks without a machine");
        assert!(events > 5, "{events} events");
        assert!((lines / 500..lines / 4).contains(&errors), "{errors} errors in {lines} lines");
    }

    #[test]
    fn every_machine_says_that_it_is_made_up() {
        let names: Vec<String> =
            (0..12).map(|i| Machine::new(7, i, 12, 1.0, BEGINS).name()).collect();
        assert!(names.iter().all(|name| name.starts_with("demo-")), "{names:?}");
        let distinct: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
    }
}
