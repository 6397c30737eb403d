//! An aggregator's account of itself, in words.

use proto::v1;

use super::{When, millis, seconds};
use crate::format;

/// What templates show of it.
#[derive(Debug, Default)]
pub(crate) struct ServerLines {
    pub(crate) version: String,
    pub(crate) started: Option<When>,
    pub(crate) facts: Vec<(&'static str, String)>,
    pub(crate) flows: Vec<CountLine>,
    /// Only those that ever occurred.
    pub(crate) troubles: Vec<CountLine>,
    pub(crate) queues: Vec<QueueLine>,
    pub(crate) timings: Vec<TimingLine>,
    pub(crate) stores: Vec<StoreLine>,
    /// Why nothing is known; empty when something is.
    pub(crate) problem: String,
}

#[derive(Debug)]
pub(crate) struct CountLine {
    pub(crate) name: String,
    pub(crate) about: &'static str,
    pub(crate) rate: String,
    pub(crate) total: String,
    /// Data are lost, and not merely late or to be sent again.
    pub(crate) loss: bool,
}

#[derive(Debug)]
pub(crate) struct QueueLine {
    pub(crate) name: String,
    pub(crate) items: String,
    pub(crate) bytes: String,
    /// The fuller of both bounds, whole percent.
    pub(crate) percent: u8,
    pub(crate) level: &'static str,
}

#[derive(Debug)]
pub(crate) struct TimingLine {
    pub(crate) name: String,
    pub(crate) half: String,
    pub(crate) most: String,
    pub(crate) count: String,
}

#[derive(Debug)]
pub(crate) struct StoreLine {
    pub(crate) holds: String,
    pub(crate) name: String,
    pub(crate) down: String,
    pub(crate) connections: String,
}

/// Name on the wire, words, explanation, and whether it means that something is lost.
const WORDS: [(&str, &str, &str, bool); 23] = [
    ("frames", "Frames in", "one instant's values of one probe", false),
    ("samples", "Values in", "single values within frames", false),
    ("acknowledged_items", "Acknowledged", "durable in history, and told so", false),
    ("backlog_items", "From a backlog", "sent late, after an outage", false),
    ("resent_items", "Sent again", "history had them already; stored once", false),
    ("log_events_filtered", "Log events not kept", "below the lowest level that is", false),
    ("rejected_items.invalid", "Refused: malformed", "the collector counts them as refused", true),
    ("rejected_items.unknown_layout", "Refused: unknown layout", "sent again with it", false),
    ("rejected_items.too_old", "Refused: too old", "older than 7 days", true),
    ("rejected_items.too_new", "Refused: too new", "more than 10 minutes ahead", true),
    ("rejected_items.limit", "Refused: over a limit", "too many series, or too large", true),
    ("rejected_items.unavailable", "Put off", "history was busy; sent again later", false),
    ("late_frames", "Out of order", "shown late, kept all the same", false),
    ("commit_failures", "Commits that failed", "tried again until they succeed", false),
    ("abandoned_items", "Not committed at a stop", "their collectors keep them", false),
    ("reader_frames_dropped", "Dropped for slow readers", "live only; history has them", false),
    ("events_missed", "Events read too late", "live only; history has them", false),
    ("live_failures", "Live state not written", "live only; history has them", false),
    ("maintenance_failures", "Maintenance that failed", "tried again", false),
    ("refused_streams", "Streams refused", "a bad hello, or a broken contract", false),
    ("fenced_streams", "Streams taken over", "another stream came for the machine", false),
    (
        "requests_shed",
        "Requests refused: too many",
        "told to come again; streams are not among them",
        false,
    ),
    ("requests_timed_out", "Requests ended: too slow", "they took longer than they may", false),
];

impl ServerLines {
    pub(crate) fn new(answer: v1::GetServerStatusResponse, now_ms: i64) -> Self {
        let number = |n: u64| format::number(n as f64);
        let mut facts = vec![
            ("Collector streams", number(answer.streams.into())),
            ("Live readers", number(answer.readers.into())),
        ];
        if answer.history_bytes > 0 {
            facts.push(("History", format::bytes(answer.history_bytes as f64)));
        }
        Self {
            started: millis(answer.started.as_ref()).map(|ms| When::new(now_ms, ms)),
            facts,
            flows: answer.flows.into_iter().map(CountLine::new).collect(),
            troubles: (answer.troubles.into_iter())
                .filter(|count| count.total > 0)
                .map(CountLine::new)
                .collect(),
            queues: answer.queues.iter().map(QueueLine::new).collect(),
            timings: answer.timings.iter().map(TimingLine::new).collect(),
            stores: answer.stores.into_iter().map(StoreLine::new).collect(),
            version: answer.version,
            problem: String::new(),
        }
    }

    pub(crate) fn unknown(status: &tonic::Status) -> Self {
        let problem = match status.code() {
            tonic::Code::Unimplemented => {
                "The aggregator is of an older version, which does not tell.".to_owned()
            }
            _ => format!("The aggregator does not tell: {}", status.message()),
        };
        Self { problem, ..Default::default() }
    }
}

/// What a count is called on the page.
pub(crate) fn words(name: &'static str) -> &'static str {
    WORDS.iter().find(|(known, ..)| *known == name).map_or(name, |(_, words, ..)| words)
}

impl CountLine {
    fn new(count: v1::ServerCount) -> Self {
        let known = WORDS.iter().find(|(name, ..)| *name == count.name);
        let (name, about, loss) = match known {
            Some(&(_, words, about, loss)) => (words.to_owned(), about, loss),
            // A newer aggregator counts more than this gateway has words for.
            None => (count.name.replace(['_', '.'], " "), "", false),
        };
        let rate = format!("{}/s", format::number(round(count.per_second)));
        Self { name, about, rate, total: format::number(count.total as f64), loss }
    }
}

/// To what is worth reading.
fn round(rate: f64) -> f64 {
    if rate >= 10.0 { rate.round() } else { (rate * 100.0).round() / 100.0 }
}

impl QueueLine {
    fn new(queue: &v1::ServerQueue) -> Self {
        let name = match queue.name.as_str() {
            "writer" => "Waiting for a commit".to_owned(),
            "range_queries" => "Range queries at work".to_owned(),
            other => other.replace('_', " "),
        };
        let of = |value: u64, max: u64, words: fn(f64) -> String| match max {
            0 if value == 0 => String::new(),
            0 => words(value as f64),
            max => format!("{} of {}", words(value as f64), words(max as f64)),
        };
        let share = |value: u64, max: u64| match max {
            0 => 0.0,
            max => value as f64 / max as f64,
        };
        let fullest = share(queue.items, queue.items_max).max(share(queue.bytes, queue.bytes_max));
        Self {
            name,
            items: of(queue.items, queue.items_max, format::number),
            bytes: of(queue.bytes, queue.bytes_max, format::bytes),
            percent: (fullest.clamp(0.0, 1.0) * 100.0).round() as u8,
            level: if fullest >= 0.8 { "full" } else { "" },
        }
    }
}

impl TimingLine {
    fn new(timing: &v1::ServerTiming) -> Self {
        let name = match timing.name.as_str() {
            "acknowledgement" => "From receipt to acknowledgement".to_owned(),
            "commit" => "A commit".to_owned(),
            "range_query" => "A range query".to_owned(),
            "probe_stored" => "Probe: from sample to durable".to_owned(),
            "probe_streamed" => "Probe: from sample to a stream".to_owned(),
            "probe_watched" => "Probe: from sample to the alert service".to_owned(),
            "probe_shown" => "Probe: from sample to a page".to_owned(),
            other => other.replace('_', " "),
        };
        let words = |duration: Option<&prost_types::Duration>| match seconds(duration) {
            Some(seconds) => format!("≤ {}", format::duration(seconds)),
            None => "–".to_owned(),
        };
        Self {
            name,
            half: words(timing.p50.as_ref()),
            most: words(timing.p99.as_ref()),
            count: format::number(timing.count as f64),
        }
    }
}

impl StoreLine {
    fn new(store: v1::ServerStore) -> Self {
        let connections = match (store.connections_max, store.connections_busy) {
            (0, _) => String::new(),
            (max, Some(busy)) => format!("{busy} busy, {} open of {max}", store.connections),
            (max, None) => format!("{} of {max}", store.connections),
        };
        Self { holds: store.holds, name: store.name, down: store.down, connections }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(name: &str, total: u64) -> v1::ServerCount {
        v1::ServerCount { name: name.to_owned(), total, per_second: 12.34 }
    }

    #[test]
    fn only_what_occurred_is_a_trouble_and_what_has_no_words_keeps_its_name() {
        let answer = v1::GetServerStatusResponse {
            troubles: vec![
                count("rejected_items.too_old", 3),
                count("late_frames", 0),
                count("new_kind.of_trouble", 1),
            ],
            ..Default::default()
        };
        let lines = ServerLines::new(answer, 0);
        let names: Vec<_> = lines.troubles.iter().map(|t| (t.name.as_str(), t.loss)).collect();
        assert_eq!(names, [("Refused: too old", true), ("new kind of trouble", false)]);
        assert_eq!(lines.troubles[0].rate, "12/s");
    }

    #[test]
    fn a_queue_is_as_full_as_its_fuller_bound() {
        let queue = v1::ServerQueue {
            name: "writer".to_owned(),
            items: 10,
            items_max: 100,
            bytes: 90,
            bytes_max: 100,
        };
        let line = QueueLine::new(&queue);
        assert_eq!((line.percent, line.level), (90, "full"));
        let unbounded = v1::ServerQueue { items: 1, items_max: 4, ..Default::default() };
        assert_eq!(QueueLine::new(&unbounded).bytes, "");
    }
}
