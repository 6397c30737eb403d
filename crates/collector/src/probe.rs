//! Reads the machine: what is due now, each probe apart from the others.
//!
//! A [`Probe`] writes what it read on a [`Sheet`]. The [`Prober`] decides which probes are due, lets
//! them read on their lanes (see `lane.rs`), and turns sheets into frames. A probe that fails, panics
//! or hangs delays only itself: the tick takes what came in time and picks the rest up later.
//!
//! Adding a probe is one file under `linux/` and one line in the list of `linux.rs`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{EventKind, Frame, Labels, Layout, MachineEvent, ProcessReport, UnixMillis};
use tokio::sync::mpsc;

use crate::CollectorStats;
use clock::ClockWatch;
use health::{Health, Turn};
use lane::{Answer, Job, Lane, Outcome};
use vitals::Vitals;

pub use filter::Filter;
pub(crate) use sheet::Sheet;

mod boot;
mod clock;
mod collector_self;
mod filter;
mod health;
mod lane;
mod quantise;
mod sheet;
mod vitals;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux::PROBES;

// Compiled into the tests everywhere, so that it cannot rot unseen.
#[cfg(any(test, not(target_os = "linux")))]
mod portable;
#[cfg(not(target_os = "linux"))]
use portable::PROBES;

/// How long a tick waits for its readings. What comes later is delivered by the next tick.
const GRACE: Duration = Duration::from_millis(250);
/// A probe with a pace of its own is read less often when it takes more than one part in this many of a
/// CPU: a machine with thousands of processes is not made slower by listing them.
const CPU_SHARE: u32 = 300;
/// A reading that takes longer than this has hung.
const HUNG_AFTER: Duration = Duration::from_secs(10);

/// What one tick read.
#[derive(Debug, Default)]
pub struct Readings {
    /// Every layout that the frames below use.
    pub layouts: Vec<Layout>,
    pub frames: Vec<Frame>,
    pub processes: Option<ProcessReport>,
    pub events: Vec<MachineEvent>,
}

/// What is read, from where, and how often.
#[derive(Clone, Debug)]
pub struct ProberConfig {
    /// Where procfs is mounted. Another place when the host's is mounted into a container.
    pub proc_root: PathBuf,
    pub sys_root: PathBuf,
    /// Keeps the boot id, to notice a reboot. Without it reboots are not reported.
    pub state_dir: Option<PathBuf>,
    /// Names of probes that stay off.
    pub disabled: Vec<String>,
    pub process_interval: Duration,
    /// Processes that a report lists for each of CPU, memory and disk I/O.
    pub processes_top: usize,
    /// By mount point. What is included explicitly is read even when its type is left out by default.
    pub filesystems: Filter,
    /// By device name.
    pub disks: Filter,
    /// By interface name.
    pub interfaces: Filter,
    /// Sockets of Docker-compatible engines; the first that exists is used.
    pub container_sockets: Vec<PathBuf>,
    /// Globs over names: how many run is told of each, also when it is none.
    pub watched_processes: Vec<String>,
    pub watched_containers: Vec<String>,
}

impl Default for ProberConfig {
    fn default() -> Self {
        Self {
            proc_root: "/proc".into(),
            sys_root: "/sys".into(),
            state_dir: None,
            disabled: Vec::new(),
            process_interval: Duration::from_secs(5),
            processes_top: 20,
            filesystems: Filter::default(),
            disks: Filter::default(),
            interfaces: Filter::default(),
            container_sockets: vec![
                "/var/run/docker.sock".into(),
                "/run/docker.sock".into(),
                "/run/podman/podman.sock".into(),
            ],
            watched_processes: Vec::new(),
            watched_containers: Vec::new(),
        }
    }
}

impl ProberConfig {
    /// The procfs directory of a process that sees the machine's own mounts and network. From within a
    /// container, that is the first process of the procfs that was mounted into it.
    pub(crate) fn vantage(&self) -> PathBuf {
        self.proc_root.join(if self.is_own_procfs() { "self" } else { "1" })
    }

    pub(crate) fn is_own_procfs(&self) -> bool {
        self.proc_root.as_os_str() == "/proc"
    }
}

/// When a reading began, by both clocks. Rates use the monotonic one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) wall: UnixMillis,
    pub(crate) instant: Instant,
}

/// One kind of measurement.
///
/// A probe that finds nothing to measure on this machine writes nothing and succeeds. Deltas need a
/// reading before: until then the value is NaN.
pub(crate) trait Probe: Send {
    fn read(&mut self, at: At, sheet: &mut Sheet) -> anyhow::Result<()>;
}

/// What probes are made from.
pub(crate) struct Setup {
    pub(crate) config: ProberConfig,
    pub(crate) stats: Arc<CollectorStats>,
    pub(crate) vitals: Arc<Vitals>,
}

/// A line in the list of probes.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) lane: LaneKind,
    pub(crate) pace: Pace,
    pub(crate) open: fn(&Setup) -> Box<dyn Probe>,
}

/// Where a probe reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LaneKind {
    /// One thread for all that only read tables which the kernel keeps in memory.
    Shared,
    /// Its own thread, because what it reads can hang.
    Own,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    Tick,
    Every(Duration),
    /// [`ProberConfig::process_interval`].
    Processes,
}

/// CPU time that a probe has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeCost {
    pub readings: u64,
    pub cpu: Duration,
}

/// Names of all probes, as [`ProberConfig::disabled`] knows them.
pub fn names() -> impl Iterator<Item = &'static str> {
    PROBES.iter().map(|entry| entry.name)
}

/// Owns the probes and their threads.
pub struct Prober {
    slots: Vec<Slot>,
    lanes: Vec<Lane>,
    answers: mpsc::Receiver<Answer>,
    clocks: ClockWatch,
    vitals: Arc<Vitals>,
    process_interval: Duration,
    grace: Duration,
    /// Kept here and not in `tick`, so that a tick that is cancelled loses nothing.
    pending: Readings,
}

/// What the prober knows of one probe.
struct Slot {
    name: &'static str,
    lane: usize,
    pace: Pace,
    enabled: bool,
    health: Health,
    due: Option<Instant>,
    /// Of its latest frame.
    layout: Option<Layout>,
    left_out: usize,
    cost: ProbeCost,
}

impl Prober {
    /// Starts nothing yet; threads start when their first probe is due.
    pub fn new(config: ProberConfig, stats: Arc<CollectorStats>) -> Self {
        Self::with_probes(PROBES, config, stats)
    }

    fn with_probes(
        probes: &'static [Entry],
        config: ProberConfig,
        stats: Arc<CollectorStats>,
    ) -> Self {
        let vitals = Arc::new(Vitals::new(probes.iter().map(|p| p.name)));
        let process_interval = config.process_interval;
        let disabled = config.disabled.clone();
        let mut pending = Readings::default();
        pending.events.extend(boot::reboot_event(&config));

        let setup = Arc::new(Setup { config, stats, vitals: Arc::clone(&vitals) });
        let mut members: Vec<Vec<usize>> = vec![Vec::new()];
        let mut slots = Vec::with_capacity(probes.len());
        for (index, entry) in probes.iter().enumerate() {
            let lane = match entry.lane {
                LaneKind::Shared => 0,
                LaneKind::Own => {
                    members.push(Vec::new());
                    members.len() - 1
                }
            };
            members[lane].push(index);
            slots.push(Slot {
                name: entry.name,
                lane,
                pace: entry.pace,
                enabled: true,
                health: Health::default(),
                due: None,
                layout: None,
                left_out: 0,
                cost: ProbeCost::default(),
            });
        }
        // A lane has at most one answer under way, so sending one never waits.
        let (answer, answers) = mpsc::channel(members.len());
        let lanes = members
            .into_iter()
            .enumerate()
            .map(|(index, members)| {
                let stations = members.into_iter().map(|slot| (slot, &probes[slot])).collect();
                Lane::new(index, stations, Arc::clone(&setup), answer.clone())
            })
            .collect();
        let mut prober = Self {
            slots,
            lanes,
            answers,
            clocks: ClockWatch::default(),
            vitals,
            process_interval,
            grace: GRACE,
            pending,
        };
        prober.set_disabled(disabled);
        prober
    }

    /// Switches exactly these probes off and all others on. Unknown names are logged.
    pub fn set_disabled(&mut self, names: Vec<String>) {
        let names: BTreeSet<String> = names.into_iter().collect();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let enabled = !names.contains(slot.name);
            if enabled != slot.enabled {
                slot.enabled = enabled;
                slot.health = Health::default();
                slot.due = None;
                self.vitals.set_failing(index, false);
            }
        }
        for name in names.iter().filter(|name| self.slots.iter().all(|s| s.name != *name)) {
            tracing::warn!(probe = %name, "there is no probe of this name to switch off");
        }
    }

    pub fn set_process_interval(&mut self, interval: Duration) {
        self.process_interval = interval;
        for slot in self.slots.iter_mut().filter(|s| s.pace == Pace::Processes) {
            slot.due = None;
        }
    }

    /// CPU time of every probe so far, for measuring.
    pub fn costs(&self) -> impl Iterator<Item = (&'static str, ProbeCost)> {
        self.slots.iter().map(|slot| (slot.name, slot.cost))
    }

    /// Reads what is due. `now` becomes the time of the frames.
    ///
    /// Takes at most [`GRACE`]; readings that are not done by then come with a later tick, under the
    /// time at which they began. Cancellation safe.
    pub async fn tick(&mut self, now: UnixMillis) -> Readings {
        let at = At { wall: now, instant: Instant::now() };
        self.pending.events.extend(self.clocks.look(now));
        let mut awaited = self.start_due(at);
        let deadline = tokio::time::Instant::now() + self.grace;
        while awaited > 0 {
            let Ok(Some(answer)) = tokio::time::timeout_at(deadline, self.answers.recv()).await
            else {
                break;
            };
            awaited -= usize::from(self.lanes[answer.lane].asked_at(at.instant));
            self.take(answer);
        }
        // What earlier ticks did not wait for.
        while let Ok(answer) = self.answers.try_recv() {
            self.take(answer);
        }
        self.report_hung(at);
        self.vitals.set_tick_duration(at.instant.elapsed());
        std::mem::take(&mut self.pending)
    }

    /// Hands every idle lane what is due on it; returns how many lanes are at work now.
    fn start_due(&mut self, at: At) -> usize {
        let mut started = 0;
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].is_busy() {
                continue;
            }
            let due: Vec<usize> = (0..self.slots.len())
                .filter(|&i| self.slots[i].lane == lane && self.slots[i].is_due(at.instant))
                .collect();
            if due.is_empty() {
                continue;
            }
            match self.lanes[lane].start(Job { due: due.clone(), at }) {
                Ok(()) => started += 1,
                Err(error) => {
                    for slot in due {
                        self.fail(slot, at, &format!("cannot start its thread: {error}"));
                    }
                }
            }
        }
        started
    }

    fn take(&mut self, answer: Answer) {
        self.lanes[answer.lane].set_idle();
        for outcome in answer.outcomes {
            self.take_outcome(outcome);
        }
    }

    fn take_outcome(&mut self, outcome: Outcome) {
        let Outcome { slot: index, at, cpu, result } = outcome;
        let interval = self.process_interval;
        let slot = &mut self.slots[index];
        slot.cost.readings += 1;
        slot.cost.cpu += cpu;
        if !slot.enabled {
            return;
        }
        let read = match result {
            Ok(read) => read,
            Err(reason) => return self.fail(index, at, &reason),
        };
        slot.plan(at.instant, interval, cpu, read.again_soon);
        if slot.health.record(true) == Turn::Recovered {
            tracing::info!(probe = slot.name, "probe reads again");
            let detail = format!("probe {} reads again", slot.name);
            self.pending.events.push(probe_event(
                at.wall,
                EventKind::ProbeRecovered,
                slot.name,
                detail,
            ));
            self.vitals.set_failing(index, false);
        }
        if slot.left_out != read.left_out {
            if read.left_out > 0 {
                let detail =
                    format!("probe {} leaves {} out: too many of them", slot.name, read.left_out);
                tracing::warn!(probe = slot.name, left_out = read.left_out, "{detail}");
                self.pending.events.push(probe_event(
                    at.wall,
                    EventKind::ProbeFailed,
                    slot.name,
                    detail,
                ));
            }
            slot.left_out = read.left_out;
        }
        self.pending.events.extend(read.events);
        if let Some(processes) = read.processes {
            self.pending.processes = Some(processes);
        }
        if let Some((layout, values)) = read.filled {
            slot.layout = Some(layout.clone());
            self.pending.push_frame(at.wall, layout, values);
        }
    }

    /// One event and one frame of NaN when the failure is new; then quiet until it recovers.
    fn fail(&mut self, index: usize, at: At, reason: &str) {
        let interval = self.process_interval;
        let slot = &mut self.slots[index];
        let turn = slot.health.record(false);
        slot.plan(at.instant, interval, Duration::ZERO, false);
        if turn != Turn::Failed {
            return;
        }
        let detail = format!("probe {} failed: {reason}", slot.name);
        tracing::warn!(probe = slot.name, error = %reason, "probe failed");
        self.vitals.set_failing(index, true);
        self.pending.events.push(probe_event(at.wall, EventKind::ProbeFailed, slot.name, detail));
        if let Some(layout) = slot.layout.clone() {
            let values = vec![f64::NAN; layout.len()];
            self.pending.push_frame(at.wall, layout, values);
        }
    }

    fn report_hung(&mut self, at: At) {
        for lane in 0..self.lanes.len() {
            if let Some(slot) = self.lanes[lane].newly_hung(at.instant, HUNG_AFTER)
                && self.slots[slot].enabled
            {
                self.fail(slot, at, &format!("no answer for {} s", HUNG_AFTER.as_secs()));
            }
        }
    }
}

impl std::fmt::Debug for Prober {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prober").field("probes", &self.slots.len()).finish_non_exhaustive()
    }
}

impl Slot {
    /// Ticks come a little early or late; a reading that is due within this is due now.
    const SLACK: Duration = Duration::from_millis(50);

    fn is_due(&self, now: Instant) -> bool {
        self.enabled && self.due.is_none_or(|due| now + Self::SLACK >= due)
    }

    /// Sets when it is read next, counted from its latest reading.
    fn plan(
        &mut self,
        read_at: Instant,
        process_interval: Duration,
        cpu: Duration,
        again_soon: bool,
    ) {
        let costly = cpu.saturating_mul(CPU_SHARE);
        let pace = match self.pace {
            _ if again_soon => Duration::ZERO,
            Pace::Tick => Duration::ZERO,
            Pace::Every(span) => span.max(costly),
            Pace::Processes => process_interval.max(costly),
        };
        self.due = Some(read_at + self.health.pause(pace));
    }
}

impl Readings {
    fn push_frame(&mut self, time: UnixMillis, layout: Layout, values: Vec<f64>) {
        let id = layout.id();
        if self.layouts.iter().all(|known| known.id() != id) {
            self.layouts.push(layout);
        }
        self.frames.push(Frame { time, layout: id, values });
    }
}

fn probe_event(
    time: UnixMillis,
    kind: EventKind,
    probe: &'static str,
    detail: String,
) -> MachineEvent {
    let detail = detail.chars().take(1000).collect();
    MachineEvent { time, kind, detail, attributes: Labels::of([("muster.probe", probe)]) }
}

#[cfg(test)]
mod tests;
