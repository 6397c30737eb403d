//! Where events of programs that tell them come in, ready made.

use std::sync::Mutex;
use std::time::{Instant, SystemTime};

use model::{LogEvent, Severity, UnixMillis, limits};
use tokio::sync::{mpsc, oneshot};

use super::limit::Limits;
use super::outbox::{Closed, Outbox};
use super::parse::{self, Known, Parser, safe, severity};
use super::{LogBatch, Room};

/// What a program says happened.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) time: Option<UnixMillis>,
    pub(crate) severity: Severity,
    /// Where there is no number.
    pub(crate) severity_text: String,
    pub(crate) service: String,
    pub(crate) body: String,
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) source: &'static str,
}

/// What became of what was told.
#[derive(Debug)]
pub(crate) struct Taken {
    /// Events that came faster than they may.
    pub(crate) dropped: u64,
    kept: Option<oneshot::Receiver<()>>,
}

#[derive(Debug)]
pub(crate) struct Inlet {
    sender: mpsc::Sender<LogBatch>,
    parser: Parser,
    /// Held for as long as it takes to count the events of one request.
    limits: Mutex<Limits>,
    began: Instant,
    room: Room,
}

impl Taken {
    /// Waits until the events are in the spool.
    ///
    /// # Errors
    /// When the delivery is gone.
    pub(crate) async fn until_kept(self) -> Result<(), Closed> {
        match self.kept {
            Some(kept) => kept.await.map_err(|_| Closed),
            None => Ok(()),
        }
    }
}

impl Inlet {
    pub(super) fn new(
        sender: mpsc::Sender<LogBatch>,
        parser: Parser,
        limits: Limits,
        room: Room,
    ) -> Self {
        Self { sender, parser, limits: Mutex::new(limits), began: Instant::now(), room }
    }

    #[cfg(test)]
    pub(crate) fn for_tests(
        sender: mpsc::Sender<LogBatch>,
        spool_bytes_max: u64,
        events_per_second_max: u32,
        stats: std::sync::Arc<crate::CollectorStats>,
    ) -> Self {
        let parser = Parser::new(jiff::tz::TimeZone::UTC);
        let limits = Limits::new(events_per_second_max);
        Self::new(sender, parser, limits, Room { spool_bytes_max, stats })
    }

    /// Whether there is room in the spool.
    pub(crate) fn is_open(&self) -> bool {
        self.room.is_there()
    }

    /// Takes events in; what comes faster than it may is left out, counted and told.
    ///
    /// # Errors
    /// When the delivery is gone.
    pub(crate) async fn take_in(
        &self,
        told: impl Iterator<Item = Told> + Send,
    ) -> Result<Taken, Closed> {
        let now = UnixMillis::from(SystemTime::now());
        let mut outbox = Outbox::new(self.sender.clone(), self.room.stats.clone());
        let mut told = told.peekable();
        let Some(source) = told.peek().map(|told| told.source) else {
            return Ok(Taken { dropped: 0, kept: None });
        };
        let mut dropped = 0;
        for told in told {
            let event = self.event(told, now);
            if !self.admits(&event) {
                dropped += 1;
            } else if outbox.add(&mut vec![event]) {
                outbox.send().await?;
            }
        }
        let mut notices = match self.limits.lock() {
            Ok(mut limits) => limits.notices(source, (Instant::now(), now), &outbox),
            Err(_) => Vec::new(),
        };
        outbox.add(&mut notices);
        Ok(Taken { dropped, kept: Some(outbox.send_kept().await?) })
    }

    fn admits(&self, event: &LogEvent) -> bool {
        // How fast events come is no matter of their own times.
        let clock = UnixMillis(self.began.elapsed().as_millis() as i64);
        self.limits.lock().is_ok_and(|mut limits| limits.admits(&event.service, clock))
    }

    fn event(&self, told: Told, now: UnixMillis) -> LogEvent {
        let severity = match told.severity {
            Severity::UNKNOWN => severity::from_word(&told.severity_text).unwrap_or_default(),
            severity => severity,
        };
        let mut known = Known {
            service: Some(told.service),
            time: told.time,
            severity,
            source: told.source,
            ..Known::default()
        };
        for (name, value) in &told.attributes {
            let is_new = known.attributes.iter().all(|(other, _)| other != name);
            let fits = known.attributes.len() < parse::ATTRIBUTES_MAX - 1;
            if is_new && fits && parse::is_label_name(name) && !value.is_empty() {
                known.attributes.push((name.clone(), secretless(name, value)));
            }
        }
        self.parser.told(&told.body, &known, now)
    }
}

/// The value as it may leave the machine: what is secret is so by its name too.
fn secretless(name: &str, value: &str) -> String {
    let pair = format!("{name}={value}");
    let pair = safe(&pair);
    let value = pair.strip_prefix(name).and_then(|rest| rest.strip_prefix('='));
    let value = value.unwrap_or("***");
    value[..value.floor_char_boundary(limits::LABEL_VALUE_BYTES_MAX)].to_owned()
}
