//! A thread on which probes read, one after the other.
//!
//! Plain threads and not the runtime's blocking pool: a runtime waits for its blocking tasks when it
//! ends, and a read from a dead mount may never end.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};
use std::{io, thread};

use tokio::sync::mpsc;

use super::sheet::Read;
use super::{At, Entry, Probe, Setup, Sheet};

/// Enough for every probe; threads are many on small machines.
const STACK_BYTES: usize = 512 * 1024;

/// Which of the lane's probes to read.
pub(super) struct Job {
    pub(super) due: Vec<usize>,
    pub(super) at: At,
}

/// What came of a job.
pub(super) struct Answer {
    pub(super) lane: usize,
    pub(super) outcomes: Vec<Outcome>,
}

pub(super) struct Outcome {
    pub(super) slot: usize,
    pub(super) at: At,
    pub(super) cpu: Duration,
    /// The reading, or the reason why there is none.
    pub(super) result: Result<Read, String>,
}

/// The prober's end of a lane. Has at most one job at a time.
pub(super) struct Lane {
    index: usize,
    stations: Vec<(usize, &'static Entry)>,
    setup: Arc<Setup>,
    answers: mpsc::Sender<Answer>,
    /// Absent until the first job, and after the thread died.
    jobs: Option<SyncSender<Job>>,
    /// The slot being read.
    current: Arc<AtomicUsize>,
    busy_since: Option<Instant>,
    hung: bool,
}

impl Lane {
    pub(super) fn new(
        index: usize,
        stations: Vec<(usize, &'static Entry)>,
        setup: Arc<Setup>,
        answers: mpsc::Sender<Answer>,
    ) -> Self {
        let current = Arc::new(AtomicUsize::new(0));
        Self { index, stations, setup, answers, jobs: None, current, busy_since: None, hung: false }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy_since.is_some()
    }

    /// Whether its job was given at this instant.
    pub(super) fn asked_at(&self, instant: Instant) -> bool {
        self.busy_since == Some(instant)
    }

    pub(super) fn set_idle(&mut self) {
        self.busy_since = None;
        self.hung = false;
    }

    /// The slot that holds the lane up, once, when that has taken longer than `limit`.
    pub(super) fn newly_hung(&mut self, now: Instant, limit: Duration) -> Option<usize> {
        let since = self.busy_since?;
        if self.hung || now.saturating_duration_since(since) < limit {
            return None;
        }
        self.hung = true;
        Some(self.current.load(Relaxed))
    }

    /// Gives an idle lane a job, starting its thread when there is none.
    pub(super) fn start(&mut self, job: Job) -> io::Result<()> {
        let instant = job.at.instant;
        if let Some(first) = job.due.first() {
            self.current.store(*first, Relaxed);
        }
        let jobs = match &self.jobs {
            Some(jobs) => jobs,
            None => self.jobs.insert(self.spawn()?),
        };
        match jobs.try_send(job) {
            Ok(()) => {
                self.busy_since = Some(instant);
                Ok(())
            }
            Err(TrySendError::Full(_)) => Err(io::Error::other("still busy")),
            Err(TrySendError::Disconnected(_)) => {
                self.jobs = None;
                Err(io::Error::other("its thread ended; a new one starts next time"))
            }
        }
    }

    fn spawn(&self) -> io::Result<SyncSender<Job>> {
        let (jobs, inbox) = sync_channel(1);
        let stations = self
            .stations
            .iter()
            .map(|&(slot, entry)| Station { slot, entry, probe: None, sheet: Sheet::default() })
            .collect();
        let name = match self.stations.as_slice() {
            [(_, only)] => only.name,
            _ => "probes",
        };
        let worker = Worker {
            lane: self.index,
            stations,
            setup: Arc::clone(&self.setup),
            answers: self.answers.clone(),
            current: Arc::clone(&self.current),
        };
        thread::Builder::new()
            .name(format!("probe-{name}"))
            .stack_size(STACK_BYTES)
            .spawn(move || worker.run(&inbox))?;
        Ok(jobs)
    }
}

/// The thread's end. Ends when the prober is gone.
struct Worker {
    lane: usize,
    stations: Vec<Station>,
    setup: Arc<Setup>,
    answers: mpsc::Sender<Answer>,
    current: Arc<AtomicUsize>,
}

struct Station {
    slot: usize,
    entry: &'static Entry,
    /// Opened at its first reading, and anew after a panic left it in an unknown state.
    probe: Option<Box<dyn Probe>>,
    sheet: Sheet,
}

impl Worker {
    fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            let mut outcomes = Vec::with_capacity(job.due.len());
            for station in self.stations.iter_mut().filter(|s| job.due.contains(&s.slot)) {
                self.current.store(station.slot, Relaxed);
                let before = thread_cpu();
                let result = station.read(&self.setup, job.at);
                let cpu = thread_cpu().saturating_sub(before);
                outcomes.push(Outcome { slot: station.slot, at: job.at, cpu, result });
            }
            if self.answers.blocking_send(Answer { lane: self.lane, outcomes }).is_err() {
                return;
            }
        }
    }
}

impl Station {
    fn read(&mut self, setup: &Setup, at: At) -> Result<Read, String> {
        // The sheet is discarded and the probe dropped when the reading unwinds.
        let read = catch_unwind(AssertUnwindSafe(|| {
            let probe = self.probe.get_or_insert_with(|| (self.entry.open)(setup));
            probe.read(at, &mut self.sheet)?;
            self.sheet.finish()
        }));
        match read {
            Ok(Ok(read)) => Ok(read),
            Ok(Err(error)) => {
                self.sheet.discard();
                Err(format!("{error:#}"))
            }
            Err(panic) => {
                self.sheet.discard();
                self.probe = None;
                Err(format!("panicked: {}", panic_text(&*panic)))
            }
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

#[cfg(target_os = "linux")]
fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.max(0) as u64, time.tv_nsec as u32)
}

#[cfg(not(target_os = "linux"))]
fn thread_cpu() -> Duration {
    Duration::ZERO
}
