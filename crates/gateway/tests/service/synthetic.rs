//! A peer to talk to: the whole `StateService` over machines whose values are functions of time, so
//! that the past and the present always agree.

use std::collections::{BTreeSet, HashMap};
use std::f64::consts::TAU;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::Stream;
use model::metric;
use prost_types::Timestamp;
use proto::v1;
use proto::v1::log_service_server::LogServiceServer;
use proto::v1::state_service_server::{StateService, StateServiceServer};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

#[path = "synthetic_logs.rs"]
mod synthetic_logs;

/// Cheap to clone; clones are the same fleet.
#[derive(Clone, Debug)]
pub(crate) struct Synthetic(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    machines: AtomicUsize,
    removed: Mutex<BTreeSet<usize>>,
    /// How many streams were opened, to see that viewers share them.
    watches: AtomicU64,
    metric_streams: AtomicU64,
    /// History does not answer.
    history_hangs: AtomicBool,
    /// Values from then to then have not arrived yet, in milliseconds since 1970.
    missing: Mutex<std::ops::Range<i64>>,
}

type Answer<T> = Result<Response<T>, Status>;
type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub(crate) const HOSTILE: &str = "<img src=x onerror=alert(1)>\"'&";

impl Synthetic {
    pub(crate) fn new(machines: usize) -> Self {
        Self(Arc::new(Inner {
            machines: machines.into(),
            removed: Mutex::default(),
            watches: AtomicU64::new(0),
            metric_streams: AtomicU64::new(0),
            history_hangs: AtomicBool::new(false),
            missing: Mutex::default(),
        }))
    }

    /// A link to it without a socket.
    pub(crate) fn link(&self) -> proto::Link {
        let state = StateServiceServer::new(self.clone());
        let logs = LogServiceServer::new(self.clone());
        proto::Link::new(tower::service_fn(move |request: http::Request<tonic::body::Body>| {
            let (mut state, mut logs) = (state.clone(), logs.clone());
            async move {
                match request.uri().path().starts_with("/muster.v1.LogService/") {
                    true => tower::Service::call(&mut logs, request).await,
                    false => tower::Service::call(&mut state, request).await,
                }
            }
        }))
    }

    pub(crate) fn hang_history(&self) {
        self.0.history_hangs.store(true, Ordering::SeqCst);
    }

    /// From now on nothing of this stretch is known, or what was missing has arrived.
    pub(crate) fn miss(&self, stretch: std::ops::Range<i64>) {
        *self.0.missing.lock().expect("nobody panics with it") = stretch;
    }

    pub(crate) fn add_machine(&self) {
        self.0.machines.fetch_add(1, Ordering::SeqCst);
    }

    /// Fleet and metric streams that were ever opened.
    pub(crate) fn streams(&self) -> (u64, u64) {
        (self.0.watches.load(Ordering::SeqCst), self.0.metric_streams.load(Ordering::SeqCst))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.machines.load(Ordering::SeqCst)
    }

    fn machines(&self) -> Vec<v1::Machine> {
        self.there().map(|i| machine(i, now_ms())).collect()
    }

    fn removed(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.0.removed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn there(&self) -> impl Iterator<Item = usize> {
        let removed = self.removed().clone();
        (0..self.count()).filter(move |i| !removed.contains(i))
    }

    fn find(&self, name: &str) -> Result<usize, Status> {
        self.there()
            .find(|&i| machine_id(i) == name || host_name(i) == name)
            .ok_or_else(|| Status::not_found(format!("no machine fits {name:?}")))
    }
}

pub(crate) fn machine_id(i: usize) -> String {
    format!("{:032x}", 0x3d12_19c7_c4c5_404a_aa1f_6d2a_48ad_0000_u128 + i as u128)
}

fn host_name(i: usize) -> String {
    const NAMES: [&str; 7] =
        ["web-1", "web-2", "db-primary", "build-box", "laptop", "cache", "old-nas"];
    match i {
        _ if i < NAMES.len() => NAMES[i].to_owned(),
        7 => HOSTILE.to_owned(),
        _ => format!("node-{i:04}"),
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

fn timestamp(ms: i64) -> Timestamp {
    Timestamp { seconds: ms.div_euclid(1000), nanos: (ms.rem_euclid(1000) * 1_000_000) as i32 }
}

fn millis(time: &Timestamp) -> i64 {
    time.seconds * 1000 + i64::from(time.nanos) / 1_000_000
}

/// Smooth ups and downs, a little noise, and now and then a spike.
fn wave(seed: usize, ms: i64) -> f64 {
    let t = ms as f64 / 1000.0;
    let seed = seed as f64 * 1.7;
    let slow = ((t / 97.0 + seed) * TAU).sin() * 0.5 + 0.5;
    let fast = ((t / 11.3 + seed * 3.0) * TAU).sin() * 0.5 + 0.5;
    let noise = ((t * 12.9898 + seed * 78.233).sin() * 43_758.545).rem_euclid(1.0);
    let spike = if (t / 61.0 + seed).rem_euclid(1.0) < 0.08 { 0.45 } else { 0.0 };
    (slow * 0.35 + fast * 0.12 + noise * 0.08 + spike).clamp(0.0, 1.0)
}

/// Grows, with a pace that changes.
fn counter(seed: usize, ms: i64, per_second: f64) -> f64 {
    let t = (ms % 100_000_000) as f64 / 1000.0;
    let burst = per_second * 9.0 / TAU * (1.0 - (t / 9.0 * TAU + seed as f64).cos());
    (per_second * t + burst * 0.9).round()
}

type Value = Box<dyn Fn(i64) -> f64>;

/// Every series of a machine, with its value at any time.
fn series(i: usize) -> Vec<(v1::SeriesDescriptor, Value)> {
    let mut all: Vec<(v1::SeriesDescriptor, Value)> = Vec::new();
    let mut put = |metric: &metric::Metric, labels: &[(&str, &str)], value: Value| {
        let kind = match metric.kind {
            model::Kind::Gauge => v1::MetricKind::Gauge,
            model::Kind::Counter => v1::MetricKind::Counter,
        };
        let labels = labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let descriptor = v1::SeriesDescriptor {
            metric: metric.name.to_owned(),
            labels,
            kind: kind.into(),
            unit: metric.unit.to_owned(),
        };
        all.push((descriptor, value));
    };
    let short = |v: f64| (v * 10_000.0).round() / 10_000.0;
    put(&metric::CPU_UTILIZATION, &[], Box::new(move |t| short(wave(i, t))));
    for (mode, share) in
        [("user", 0.62), ("system", 0.2), ("iowait", 0.1), ("softirq", 0.03), ("nice", 0.02)]
    {
        put(
            &metric::CPU_UTILIZATION,
            &[("cpu.mode", mode)],
            Box::new(move |t| short(wave(i, t) * share)),
        );
    }
    let cpus = cpus(i);
    for core in 0..cpus {
        let number = core.to_string();
        put(
            &metric::CPU_UTILIZATION,
            &[("cpu.logical_number", &number)],
            Box::new(move |t| {
                short((wave(i, t) * 0.6 + wave(i * 31 + core as usize, t) * 0.6).min(1.0))
            }),
        );
    }
    for (load, lag) in [(&metric::LOAD_1M, 0), (&metric::LOAD_5M, 30), (&metric::LOAD_15M, 90)] {
        put(load, &[], Box::new(move |t| short(wave(i, t - lag * 1000) * f64::from(cpus))));
    }
    put(&metric::CPU_LOGICAL_COUNT, &[], Box::new(move |_| f64::from(cpus)));
    for (resource, share) in [("cpu", 0.2), ("memory", 0.01), ("io", 0.1)] {
        put(
            &metric::PRESSURE_UTILIZATION,
            &[("system.pressure.resource", resource), ("system.pressure.kind", "some")],
            Box::new(move |t| short(wave(i + 5, t) * share)),
        );
    }
    let memory = memory(i);
    for (state, share) in [("used", 0.55), ("cached", 0.3), ("buffers", 0.03)] {
        put(
            &metric::MEMORY_USAGE,
            &[("system.memory.state", state)],
            Box::new(move |t| (memory * share * (0.95 + 0.1 * wave(i + 9, t / 7))).round()),
        );
    }
    put(
        &metric::MEMORY_UTILIZATION,
        &[],
        Box::new(move |t| short(0.35 + 0.6 * wave(i + 9, t / 7))),
    );
    put(&metric::MEMORY_LIMIT, &[], Box::new(move |_| memory));
    put(
        &metric::PAGING_USAGE,
        &[("system.paging.state", "used")],
        Box::new(move |t| (wave(i + 2, t / 9) * 3e8).round()),
    );
    for (mount, level) in [("/", 0.61), ("/home", 0.34), ("/var/lib/data", 0.83)] {
        put(
            &metric::FILESYSTEM_UTILIZATION,
            &[("system.filesystem.mountpoint", mount)],
            Box::new(move |t| short(level + wave(i, t / 50) * 0.02)),
        );
    }
    let week = 7.0 * 86_400_000.0;
    put(
        &metric::FILESYSTEM_UTILIZATION,
        &[("system.filesystem.mountpoint", "/backups")],
        // Grows all the time; its beginning is a week before whatever is asked last.
        Box::new(move |t| short(0.3 + 0.6 * ((t - now_ms()) as f64 / week + 1.0).clamp(0.0, 1.0))),
    );
    for mount in ["/", "/home", "/var/lib/data", "/backups"] {
        put(
            &metric::FILESYSTEM_LIMIT,
            &[("system.filesystem.mountpoint", mount)],
            Box::new(move |_| 256.0 * 1024f64.powi(3)),
        );
    }
    for device in ["nvme0n1", "sda"] {
        for (direction, pace) in [("read", 2e6), ("write", 6e6)] {
            let pace = if device == "sda" { pace / 5.0 } else { pace };
            put(
                &metric::DISK_IO,
                &[("system.device", device), ("disk.io.direction", direction)],
                Box::new(move |t| counter(i, t, pace)),
            );
        }
        put(
            &metric::DISK_IO_TIME,
            &[("system.device", device)],
            Box::new(move |t| counter(i, t, 200.0) / 1000.0),
        );
    }
    for interface in ["eth0", "wg0", "lo"] {
        for (direction, pace) in [("receive", 3.4e6), ("transmit", 9e5)] {
            let pace = if interface == "wg0" { pace / 20.0 } else { pace };
            put(
                &metric::NETWORK_IO,
                &[("network.interface.name", interface), ("network.io.direction", direction)],
                Box::new(move |t| counter(i + 3, t, pace)),
            );
        }
    }
    for (state, count) in [("established", 140.0), ("time_wait", 35.0), ("listen", 22.0)] {
        put(
            &metric::NETWORK_CONNECTIONS,
            &[("network.transport", "tcp"), ("network.connection.state", state)],
            Box::new(move |t| (count * (0.7 + 0.6 * wave(i, t))).round()),
        );
    }
    for (sensor, base) in [("Package id 0", 48.0), ("nvme Composite", 39.0)] {
        put(
            &metric::TEMPERATURE,
            &[("hw.id", sensor), ("hw.name", sensor)],
            Box::new(move |t| (base + wave(i, t) * 30.0).round()),
        );
    }
    put(
        &metric::PROCESS_COUNT,
        &[("process.state", "running")],
        Box::new(move |t| (wave(i, t) * 9.0).round()),
    );
    for name in ["postgres", "grafana", HOSTILE] {
        let id = if name == "postgres" { "f00dcafe1234beef" } else { name };
        let labels = [("container.id", id), ("container.name", name)];
        put(&metric::CONTAINER_CPU_USAGE, &labels, Box::new(move |t| short(wave(name.len(), t))));
        put(
            &metric::CONTAINER_MEMORY_USAGE,
            &labels,
            Box::new(move |t| (2e8 * (1.0 + wave(name.len(), t / 5))).round()),
        );
    }
    for (service, severity, pace) in [("api", "info", 3e4), ("worker", "error", 500.0)] {
        put(
            &metric::LOG_EVENTS,
            &[("service.name", service), ("severity", severity)],
            Box::new(move |t| (counter(i, t, pace) / 1000.0).round()),
        );
    }
    put(&metric::SPOOL_ITEMS, &[], Box::new(move |t| (wave(i, t) * 4.0).round()));
    put(&metric::ACK_LATENCY, &[], Box::new(move |t| short(0.002 + wave(i, t) * 0.01)));
    put(&metric::COLLECTOR_CPU_TIME, &[], Box::new(move |t| counter(i, t, 4.0) / 1000.0));
    all
}

fn cpus(i: usize) -> u32 {
    [4, 8, 16, 64, 8, 2, 4, 2][i % 8]
}

fn memory(i: usize) -> f64 {
    [8.0, 16.0, 64.0, 256.0, 32.0, 4.0, 8.0, 2.0][i % 8] * 1024f64.powi(3)
}

fn machine(i: usize, now: i64) -> v1::Machine {
    let status = match i {
        4 => v1::MachineStatus::Asleep,
        6 => v1::MachineStatus::Offline,
        _ => v1::MachineStatus::Online,
    };
    let heard = status == v1::MachineStatus::Online;
    // Silent machines keep the numbers of when they were last heard.
    let at = if heard { now / 1000 * 1000 } else { now / 86_400_000 * 86_400_000 };
    let mut labels: HashMap<String, String> = HashMap::new();
    labels.insert("env".into(), if i % 3 == 2 { "prod".into() } else { "dev".into() });
    if i == 7 {
        labels.insert("note".into(), HOSTILE.into());
    }
    let busy = wave(i, at);
    v1::Machine {
        id: machine_id(i),
        host_name: host_name(i),
        labels,
        status: status.into(),
        status_since: Some(timestamp(now - 3_600_000 * (i as i64 + 1))),
        last_seen: Some(timestamp(if heard { now } else { now - 3_600_000 })),
        first_seen: Some(timestamp(now - 86_400_000 * 40)),
        facts: Some(v1::MachineFacts {
            host_name: host_name(i),
            os_type: "linux".into(),
            os_description: "Debian GNU/Linux 13 (trixie)".into(),
            kernel_version: "6.12.48-amd64".into(),
            arch: "x86_64".into(),
            cpu_model: "AMD EPYC 7443P 24-Core Processor".into(),
            logical_cpus: cpus(i),
            physical_cpus: cpus(i) / 2,
            memory_bytes: memory(i) as u64,
            swap_bytes: 2 << 30,
            boot_time_unix_ms: now - 86_400_000 * 3,
            addresses: vec!["192.0.2.17".into(), "2001:db8::17".into()],
            virtualization: "kvm".into(),
            collector_version: "0.1.0".into(),
        }),
        headline: Some(v1::Headline {
            time: Some(timestamp(at)),
            cpu_utilization: Some(busy),
            memory_utilization: Some(0.35 + 0.6 * wave(i + 9, at / 7)),
            filesystem_utilization: Some(0.4 + 0.08 * (i % 8) as f64),
            filesystem_mountpoint: "/var/lib/data".into(),
            network_receive_rate: Some(wave(i + 3, at) * 7e6),
            network_transmit_rate: Some(wave(i + 4, at) * 2e6),
            disk_read_rate: Some(wave(i, at) * 4e6),
            disk_write_rate: Some(wave(i + 1, at) * 9e6),
            load_1m: Some(busy * f64::from(cpus(i))),
            temperature: (i != 2).then_some(42.0 + busy * 35.0),
            uptime: Some(86_400.0 * (i as f64 + 1.0) * 2.3),
            swap_utilization: Some(0.02),
        }),
        clock_skew: Some(prost_types::Duration { seconds: 0, nanos: 4_000_000 }),
        interval: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
    }
}

#[tonic::async_trait]
impl StateService for Synthetic {
    async fn list_machines(
        &self,
        _: Request<v1::ListMachinesRequest>,
    ) -> Answer<v1::ListMachinesResponse> {
        Ok(Response::new(v1::ListMachinesResponse { machines: self.machines() }))
    }

    async fn get_machine(
        &self,
        request: Request<v1::GetMachineRequest>,
    ) -> Answer<v1::GetMachineResponse> {
        let i = self.find(&request.into_inner().machine)?;
        Ok(Response::new(v1::GetMachineResponse { machine: Some(machine(i, now_ms())) }))
    }

    async fn get_current_state(
        &self,
        request: Request<v1::GetCurrentStateRequest>,
    ) -> Answer<v1::GetCurrentStateResponse> {
        let request = request.into_inner();
        let i = self.find(&request.machine)?;
        let now = now_ms();
        let wanted = |m: &str| request.metrics.is_empty() || request.metrics.iter().any(|w| w == m);
        let samples = series(i)
            .into_iter()
            .filter(|(series, _)| wanted(&series.metric))
            .map(|(series, value)| v1::Sample {
                value: value(now),
                metric: series.metric,
                labels: series.labels,
                unit: series.unit,
                time: Some(timestamp(now)),
                rate: None,
            })
            .collect();
        Ok(Response::new(v1::GetCurrentStateResponse { machine: Some(machine(i, now)), samples }))
    }

    async fn query_range(
        &self,
        request: Request<v1::QueryRangeRequest>,
    ) -> Answer<v1::QueryRangeResponse> {
        if self.0.history_hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let request = request.into_inner();
        let (Some(start), Some(end)) = (&request.start, &request.end) else {
            return Err(Status::invalid_argument("start: required"));
        };
        let step = request
            .step
            .as_ref()
            .map_or(10_000, |d| d.seconds * 1000 + i64::from(d.nanos) / 1_000_000);
        if step < 100 {
            return Err(Status::invalid_argument("step: expected at least 100 ms"));
        }
        let start = millis(start).div_euclid(step) * step;
        let windows = (millis(end) - start + step - 1) / step;
        let asked = request.machines.iter().find(|m| m.name == "machine.id").map(|m| &m.value);
        let mut answer = v1::QueryRangeResponse {
            start: Some(timestamp(start)),
            step: Some(prost_types::Duration {
                seconds: step / 1000,
                nanos: (step % 1000 * 1_000_000) as i32,
            }),
            tier: v1::Tier::Raw.into(),
            aggregate: request.aggregate,
            series: Vec::new(),
        };
        for i in (0..self.count()).filter(|&i| asked.is_none_or(|id| *id == machine_id(i))) {
            for (series, value) in series(i) {
                let fits = request.labels.iter().all(|m| {
                    let found = series.labels.get(&m.name).map_or("", String::as_str);
                    (found == m.value) != (m.op() == v1::label_matcher::Op::NotEqual)
                });
                if series.metric != request.metric || !fits {
                    continue;
                }
                let counter = series.kind() == v1::MetricKind::Counter;
                // Half a percent of the range is missing, to be shown as a gap.
                let hole = windows * 3 / 5;
                let values: Vec<f64> = (0..windows)
                    .map(|w| match start + w * step {
                        _ if windows > 20 && (hole..hole + windows / 40).contains(&w) => f64::NAN,
                        t if counter => {
                            (value(t + step) - value(t)).max(0.0) / (step as f64 / 1000.0)
                        }
                        t => value(t),
                    })
                    .collect();
                let band = |up: f64| match request.with_band && !counter {
                    true => values.iter().map(|v| v * up).collect(),
                    false => Vec::new(),
                };
                answer.series.push(v1::RangeSeries {
                    machine_id: machine_id(i),
                    host_name: host_name(i),
                    metric: series.metric.clone(),
                    kind: series.kind,
                    unit: series.unit.clone(),
                    min: band(0.8),
                    max: band(1.15),
                    values,
                    labels: series.labels,
                });
            }
        }
        Ok(Response::new(answer))
    }

    type StreamMetricsStream = Streamed<v1::StreamMetricsResponse>;

    async fn stream_metrics(
        &self,
        request: Request<v1::StreamMetricsRequest>,
    ) -> Answer<Self::StreamMetricsStream> {
        let request = request.into_inner();
        let i = self.find(&request.machine)?;
        self.0.metric_streams.fetch_add(1, Ordering::SeqCst);
        let (sender, receiver) = tokio::sync::mpsc::channel(16);
        let wanted = |m: &str| request.metrics.is_empty() || request.metrics.iter().any(|w| w == m);
        let names: Vec<_> = series(i)
            .into_iter()
            .map(|(series, _)| series)
            .filter(|series| wanted(&series.metric))
            .collect();
        let lookback = request.lookback.map_or(0, |d| d.seconds * 1000);
        let missing = self.0.missing.lock().expect("nobody panics with it").clone();
        tokio::spawn(async move {
            // Two layouts, as if from two probes: CPU alone, and the rest.
            let is_cpu = |s: &v1::SeriesDescriptor| s.metric.starts_with("system.cpu.util");
            let (cpu, rest): (Vec<_>, Vec<_>) = names.into_iter().partition(is_cpu);
            let layouts = [(1, cpu), (2, rest)];
            let mut told = [false; 2];
            let mut at = (now_ms() - lookback) / 1000 * 1000;
            let mut past = lookback > 0;
            loop {
                if missing.contains(&at) {
                    at += 1000;
                    continue;
                }
                if past && at >= now_ms() - 1500 {
                    past = false;
                    let end = v1::StreamMetricsResponse { past: true, ..Default::default() };
                    if sender.send(Ok(end)).await.is_err() {
                        return;
                    }
                }
                if !past {
                    tokio::time::sleep(Duration::from_millis((at - now_ms()).max(0) as u64)).await;
                }
                for (slot, (number, names)) in layouts.iter().enumerate() {
                    let time = at + 20 * slot as i64;
                    let values = values_of(i, names, time);
                    let columns = if std::mem::replace(&mut told[slot], true) {
                        vec![]
                    } else {
                        names.clone()
                    };
                    let message = v1::StreamMetricsResponse {
                        machine_id: machine_id(i),
                        time: Some(timestamp(time)),
                        layout: *number,
                        columns,
                        values,
                        past,
                        ..Default::default()
                    };
                    if sender.send(Ok(message)).await.is_err() {
                        return;
                    }
                }
                at += 1000;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    type WatchStream = Streamed<v1::WatchResponse>;

    async fn watch(&self, _: Request<v1::WatchRequest>) -> Answer<Self::WatchStream> {
        self.0.watches.fetch_add(1, Ordering::SeqCst);
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let fleet = self.clone();
        tokio::spawn(async move {
            let mut known = usize::MAX;
            loop {
                let mut machines = fleet.machines();
                let count = machines.len();
                let snapshot = known == usize::MAX;
                if !snapshot {
                    machines.retain(|m| m.status() == v1::MachineStatus::Online);
                }
                known = count;
                let removed_machine_ids = fleet.removed().iter().copied().map(machine_id).collect();
                let message = v1::WatchResponse { machines, snapshot, removed_machine_ids };
                if sender.send(Ok(message)).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(if snapshot { 200 } else { 1000 })).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn list_processes(
        &self,
        request: Request<v1::ListProcessesRequest>,
    ) -> Answer<v1::ListProcessesResponse> {
        let request = request.into_inner();
        let i = self.find(&request.machine)?;
        let at = request.at.as_ref().map_or_else(now_ms, millis);
        let names = ["postgres", "rustc", "nginx", "stress-ng", "bash", HOSTILE, "sshd", "systemd"];
        let process = |(n, name): (usize, &&str)| v1::Process {
            pid: 400 + n as u32 * 37,
            parent_pid: if n == 3 { 400 } else { 1 },
            name: name.to_string(),
            command_line: format!(
                "/usr/bin/{name} --config /etc/{name}.conf --token *** {HOSTILE}"
            ),
            user: if n % 2 == 0 { "root".into() } else { "build".into() },
            state: if n == 1 { "running".into() } else { "sleeping".into() },
            start_time_unix_ms: 1_700_000_000_000 + n as i64,
            cpu_utilization: wave(i + n, at) * 1.2 / (n as f64 + 1.0),
            memory_bytes: (900_000_000.0 * wave(n, at / 20)) as u64,
            disk_read_bytes_per_second: if n < 2 { wave(n, at) * 1e6 } else { 0.0 },
            disk_write_bytes_per_second: if n < 3 { wave(n, at) * 4e6 } else { 0.0 },
            threads: 4,
            container_id: if n == 0 { "f00dcafe1234beef".into() } else { String::new() },
        };
        Ok(Response::new(v1::ListProcessesResponse {
            time: Some(timestamp(at)),
            processes: names.iter().enumerate().map(process).collect(),
            total: 312,
            running: 2,
            blocked: 0,
            zombie: 1,
        }))
    }

    async fn remove_machine(
        &self,
        request: Request<v1::RemoveMachineRequest>,
    ) -> Answer<v1::RemoveMachineResponse> {
        let i = self.find(&request.into_inner().machine)?;
        if machine(i, now_ms()).status() == v1::MachineStatus::Online {
            return Err(Status::failed_precondition("machine: it reports"));
        }
        self.removed().insert(i);
        let (machine_id, host_name) = (machine_id(i), host_name(i));
        Ok(Response::new(v1::RemoveMachineResponse { machine_id, host_name }))
    }

    async fn get_server_status(
        &self,
        _: Request<v1::GetServerStatusRequest>,
    ) -> Answer<v1::GetServerStatusResponse> {
        let (now, machines) = (now_ms(), self.count() as u64);
        let began = now - now.rem_euclid(86_400_000);
        let seconds = ((now - began) / 1000) as u64;
        let count = |name: &str, per_second: u64| v1::ServerCount {
            name: name.to_owned(),
            total: per_second * seconds,
            per_second: per_second as f64,
        };
        let once = |name: &str, total| v1::ServerCount { total, ..count(name, 0) };
        let store = |holds: &str, name: &str, connections_max: u32| v1::ServerStore {
            holds: holds.to_owned(),
            name: name.to_owned(),
            down: String::new(),
            connections: connections_max.min(2),
            connections_max,
            connections_busy: (connections_max > 0).then_some(1),
        };
        let timing = |name: &str, count, p50: i32, p99: i32| {
            let ms = |ms: i32| Some(prost_types::Duration { seconds: 0, nanos: ms * 1_000_000 });
            v1::ServerTiming { name: name.to_owned(), count, p50: ms(p50), p99: ms(p99) }
        };
        Ok(Response::new(v1::GetServerStatusResponse {
            time: Some(timestamp(now)),
            started: Some(timestamp(began)),
            version: "0.1.0".to_owned(),
            flows: vec![
                count("frames", machines * 9),
                count("samples", machines * 212),
                count("acknowledged_items", machines * 9),
                once("backlog_items", 1_204),
                once("resent_items", 3),
            ],
            troubles: vec![once("late_frames", 17), once("rejected_items.too_old", 0)],
            queues: vec![
                v1::ServerQueue {
                    name: "writer".to_owned(),
                    items: (wave(1, now) * 90.0) as u64,
                    items_max: 0,
                    bytes: (wave(1, now) * 2e5) as u64,
                    bytes_max: 64 << 20,
                },
                v1::ServerQueue {
                    name: "range_queries".to_owned(),
                    items: 0,
                    items_max: 4,
                    ..Default::default()
                },
            ],
            timings: vec![
                timing("acknowledgement", machines * 540, 16, 64),
                timing("commit", 590, 8, 32),
                timing("range_query", 12, 2, 8),
            ],
            stores: vec![
                store("live state", "memory", 0),
                store("event stream", "memory", 0),
                store("history", "SQLite", 5),
                store("registry", "SQLite", 5),
                store("alerts", "SQLite", 5),
            ],
            streams: machines as u32,
            readers: 1,
            history_bytes: 734_003_200,
        }))
    }

    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Answer<v1::ListEventsResponse> {
        let i = self.find(&request.into_inner().machine)?;
        if i % 2 == 1 {
            return Ok(Response::new(v1::ListEventsResponse::default()));
        }
        let now = now_ms();
        let event = v1::MachineEvent {
            time_unix_ms: now - 600_000,
            r#type: v1::machine_event::Type::OomKill.into(),
            detail: format!("killed rustc (4.1 GiB) {HOSTILE}"),
            attributes: HashMap::new(),
        };
        let gap = v1::Gap {
            first_seq: 100,
            last_seq: 399,
            first_time_unix_ms: now - 8_000_000,
            last_time_unix_ms: now - 7_700_000,
            reason: v1::gap::Reason::SpoolFull.into(),
            detail: "spool bound of 256 MiB reached".into(),
        };
        use v1::recorded_event::Kind;
        let events = vec![
            v1::RecordedEvent {
                time: Some(timestamp(now - 600_000)),
                kind: Some(Kind::Event(event)),
            },
            v1::RecordedEvent {
                time: Some(timestamp(now - 7_700_000)),
                kind: Some(Kind::Gap(gap)),
            },
        ];
        Ok(Response::new(v1::ListEventsResponse { events }))
    }
}

fn values_of(i: usize, names: &[v1::SeriesDescriptor], time: i64) -> Vec<f64> {
    let all = series(i);
    names
        .iter()
        .map(|name| {
            all.iter().find(|(series, _)| series == name).map_or(f64::NAN, |(_, value)| value(time))
        })
        .collect()
}
