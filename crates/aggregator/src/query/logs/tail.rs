//! `Tail`: log events as they arrive.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::Stream;
use model::{LogEvent, LogQuery, MachineId, TimeRange, UnixMillis};
use proto::v1;
use storage::history::LogSearch;
use tokio::sync::broadcast::{self, error::RecvError, error::TryRecvError};
use tonic::Status;

use super::super::hub::LogNews;
use super::super::{Desk, unavailable};
use super::search::PAGE_MAX;

/// Of one message.
const ENTRIES_MAX: usize = 500;
/// What arrives while history is read may be in both: it is left out for this long.
const OVERLAP: Duration = Duration::from_secs(10);
/// The names of machines are looked up again after this.
const NAMES_EVERY: Duration = Duration::from_secs(5);
/// Where to begin to look back.
const LOOKBACK_MS: i64 = 7 * 24 * 60 * 60 * 1000;

pub(super) async fn answers(
    desk: Arc<Desk>,
    request: v1::TailRequest,
) -> Result<impl Stream<Item = Result<v1::TailResponse, Status>> + Send + 'static, Status> {
    let query = super::query(&request.query)?;
    if request.lookback > PAGE_MAX {
        let found = request.lookback;
        return Err(Status::invalid_argument(format!(
            "lookback: expected at most {PAGE_MAX}, found {found}"
        )));
    }
    // First the subscription, then the past: what falls between is in both, and shown once.
    let news = desk.hub.follow_logs();
    let mut past = VecDeque::new();
    let mut known: HashMap<(MachineId, UnixMillis), Vec<LogEvent>> = HashMap::new();
    if request.lookback > 0 {
        let end = UnixMillis::MAX;
        let start = UnixMillis::from(std::time::SystemTime::now()) - LOOKBACK_MS;
        let search = LogSearch {
            query: query.clone(),
            machines: desk.machines_of(&query),
            range: TimeRange::new(start, end),
            before: None,
            limit: request.lookback as usize,
        };
        let page = desk.history.search_logs(search).await.map_err(unavailable)?;
        for found in page.events.into_iter().rev() {
            past.push_back(desk.entry(found.machine, &found.event, String::new()));
            known.entry((found.machine, found.event.time)).or_default().push(found.event);
        }
    }
    let reader = Reader {
        desk,
        query,
        past,
        known,
        known_until: Instant::now() + OVERLAP,
        news,
        machines: HashMap::new(),
        machines_until: Instant::now() + NAMES_EVERY,
        dropped: 0,
        next: None,
    };
    Ok(futures::stream::unfold(reader, |mut reader| async move {
        reader.next().await.map(|response| (Ok(response), reader))
    }))
}

struct Reader {
    desk: Arc<Desk>,
    query: LogQuery,
    past: VecDeque<v1::LogEntry>,
    /// What was sent from history.
    known: HashMap<(MachineId, UnixMillis), Vec<LogEvent>>,
    known_until: Instant,
    news: broadcast::Receiver<LogNews>,
    /// Whether the query is about them.
    machines: HashMap<MachineId, bool>,
    machines_until: Instant,
    dropped: u64,
    /// Number of the event that comes next, when nothing is missed.
    next: Option<u64>,
}

impl Reader {
    async fn next(&mut self) -> Option<v1::TailResponse> {
        if !self.past.is_empty() {
            let entries = std::mem::take(&mut self.past).into();
            return Some(v1::TailResponse { entries, past: true, ..Default::default() });
        }
        let mut entries = Vec::new();
        while entries.is_empty() {
            match self.news.recv().await {
                Ok(news) => self.take(news, &mut entries),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
            // What is there is sent together.
            while entries.len() < ENTRIES_MAX {
                match self.news.try_recv() {
                    Ok(news) => self.take(news, &mut entries),
                    Err(TryRecvError::Lagged(_)) => {}
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
            }
        }
        let dropped_events = std::mem::take(&mut self.dropped);
        self.desk.metrics.reader_logs_dropped.inc_by(dropped_events);
        Some(v1::TailResponse { entries, dropped_events, past: false })
    }

    fn take(&mut self, news: LogNews, entries: &mut Vec<v1::LogEntry>) {
        let LogNews { machine, events, number } = news;
        self.dropped += self.next.map_or(0, |next| number.saturating_sub(next));
        self.next = Some(number + events.len() as u64);
        if !self.accepts_machine(machine) {
            return;
        }
        for event in events.iter() {
            if self.query.accepts_event(event) && !self.was_sent(machine, event) {
                entries.push(self.desk.entry(machine, event, String::new()));
            }
        }
    }

    fn accepts_machine(&mut self, machine: MachineId) -> bool {
        if !self.query.names_machines() {
            return true;
        }
        if Instant::now() > self.machines_until {
            self.machines.clear();
            self.machines_until = Instant::now() + NAMES_EVERY;
        }
        let (desk, query) = (&self.desk, &self.query);
        *self.machines.entry(machine).or_insert_with(|| {
            query.accepts_machine(&desk.host_name(machine), &machine.to_string())
        })
    }

    fn was_sent(&mut self, machine: MachineId, event: &LogEvent) -> bool {
        if self.known.is_empty() {
            return false;
        }
        if Instant::now() > self.known_until {
            self.known = HashMap::new();
            return false;
        }
        let Some(alike) = self.known.get_mut(&(machine, event.time)) else { return false };
        // Each once: equal lines of one moment are lines of their own.
        let Some(at) = alike.iter().position(|known| known == event) else { return false };
        alike.swap_remove(at);
        true
    }
}
