//! What the machine and its services log.
//!
//! Each source is one file of this module. A source turns what it reads into events and says with every
//! batch how far it read; both go into the spool as one, so after a kill nothing is read twice and nothing
//! is left out. What lies between is pure: `lines` (bytes to lines), `join` (several lines that are one
//! event), `mask` (secrets), `parse` (a text to an event).
//!
//! Logs never get in the way of metrics: they have a queue of their own, half of the spool at most, and
//! on the stream whatever else is fresh goes first.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use model::LogEvent;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::CollectorStats;
use crate::settings::Settings;
use crate::spool::Bookmark;

mod asked;
mod config;
mod envelope;
mod file;
mod inlet;
mod join;
mod journald;
mod limit;
mod lines;
mod outbox;
mod parse;
mod planner;
mod reader;
mod stdin;
mod syslog;

pub(crate) use config::check_loopback;
pub use config::{
    AllowConfig, ContainersConfig, FilesConfig, JournaldConfig, LogsConfig, Start, StdinConfig,
    SyslogConfig,
};
pub(crate) use inlet::{Inlet, Told};

/// Batches that wait for the disk. When there are more, sources wait.
const BATCHES_MAX: usize = 4;

/// Events, and where their sources go on after them.
#[derive(Debug, Default)]
pub(crate) struct LogBatch {
    pub(crate) events: Vec<LogEvent>,
    pub(crate) bookmarks: Vec<Bookmark>,
    /// Who waits until this and all before it is in the spool.
    pub(crate) kept: Option<oneshot::Sender<()>>,
}

/// The sources that are to be read, before they are.
#[derive(Debug)]
pub(crate) struct Logs {
    pub(crate) config: LogsConfig,
    /// Where reading goes on, by source.
    pub(crate) places: BTreeMap<String, String>,
    /// While the spool holds more than this, sources wait.
    pub(crate) spool_bytes_max: u64,
    pub(crate) stats: Arc<CollectorStats>,
}

/// Whether there is room in the spool for more logs.
#[derive(Clone, Debug)]
struct Room {
    /// While the spool holds more than this, sources wait.
    spool_bytes_max: u64,
    stats: Arc<CollectorStats>,
}

impl Room {
    fn is_there(&self) -> bool {
        self.stats.spool_bytes() <= self.spool_bytes_max
    }

    async fn wait(&self) {
        while !self.is_there() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// The members of a JSON object.
fn fields_of(line: &[u8]) -> Option<BTreeMap<String, Value>> {
    serde_json::from_slice(line).ok()
}

impl Logs {
    /// For what comes in by other ways. What is taken in waits for `sender`'s other side.
    pub(crate) fn inlet(&self, sender: mpsc::Sender<LogBatch>) -> Inlet {
        let room = Room { spool_bytes_max: self.spool_bytes_max, stats: Arc::clone(&self.stats) };
        let parser = parse::Parser::new(TimeZone::system());
        Inlet::new(sender, parser, limit::Limits::new(self.config.events_per_second_max), room)
    }

    /// A way to the delivery.
    pub(crate) fn channel() -> (mpsc::Sender<LogBatch>, mpsc::Receiver<LogBatch>) {
        mpsc::channel(BATCHES_MAX)
    }

    /// Starts reading until `stop` is cancelled; cancels it when standard input ends. What was read goes
    /// into the channel, which every source lets go of at its end.
    ///
    /// # Errors
    /// When no thread can be started, or an address cannot be listened on.
    pub(crate) fn start(
        self,
        settings: watch::Receiver<Settings>,
        sender: mpsc::Sender<LogBatch>,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let events_per_second_max = self.config.events_per_second_max;
        let limits = || limit::Limits::new(events_per_second_max);
        let outbox = || outbox::Outbox::new(sender.clone(), Arc::clone(&self.stats));
        let parser = parse::Parser::new(TimeZone::system());
        let room = Room { spool_bytes_max: self.spool_bytes_max, stats: Arc::clone(&self.stats) };
        let planner =
            planner::Planner::new(self.config.clone(), &self.places, Arc::clone(&self.stats));
        if self.config.may_read_journal() {
            let journald = journald::Journald {
                cursor: self.places.get(journald::SOURCE).cloned(),
                room: room.clone(),
                parser: parser.clone(),
                limits: limits(),
            };
            tokio::spawn(journald.run(planner.plans(), outbox(), stop.clone()));
        }
        if self.config.syslog.enabled {
            let listen = self.config.syslog.listen;
            let syslog = syslog::Syslog::bind(listen, parser.clone(), limits(), room.clone())?;
            tokio::spawn(syslog.run(outbox(), stop.clone()));
        }
        if self.config.stdin.enabled {
            let stdin = stdin::Stdin {
                service: self.config.stdin.service.clone(),
                events_per_second_max,
                room: room.clone(),
                parser: parser.clone(),
            };
            let input: Box<dyn Read + Send> = Box::new(std::io::stdin());
            tokio::spawn(stdin.run(stdin::chunks(input)?, outbox(), stop.clone()));
        }
        if self.config.may_read_files() {
            let (plans, outbox, stop) = (planner.plans(), outbox(), stop.clone());
            let files = plans.borrow().sections.clone();
            let setup = file::Setup { files, places: self.places, room, events_per_second_max };
            let files = file::Files::new(setup, parser);
            let reading = move || files.run(plans, outbox, &stop);
            std::thread::Builder::new().name("log-files".to_owned()).spawn(reading)?;
        }
        tokio::spawn(planner.run(settings, sender, stop.clone()));
        Ok(())
    }
}
