//! What an aggregator counts about itself. All names begin with `muster_aggregator_`.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use model::probe::Stage;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};

use crate::timing::Timing;

/// Cheap to clone; all clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) streams: Gauge,
    pub(crate) frames: Counter,
    pub(crate) samples: Counter,
    pub(crate) items: Family<Kind, Counter>,
    pub(crate) rejected: Family<Reason, Counter>,
    pub(crate) pushes: Family<Outcome, Counter>,
    pub(crate) refused_streams: Counter,
    pub(crate) fenced_streams: Counter,
    pub(crate) late_frames: Counter,
    pub(crate) backlog_items: Counter,
    pub(crate) resent_items: Counter,
    pub(crate) acknowledged: Counter,
    pub(crate) ack_latency: Timing,
    pub(crate) commit_duration: Timing,
    pub(crate) commit_failures: Counter,
    pub(crate) queue_items: Gauge,
    pub(crate) queue_bytes: Gauge,
    pub(crate) abandoned: Counter,
    pub(crate) live_failures: Counter,
    pub(crate) registry_failures: Counter,
    pub(crate) events_missed: Counter,
    pub(crate) reader_frames_dropped: Counter,
    pub(crate) reader_logs_dropped: Counter,
    pub(crate) log_events: Counter,
    pub(crate) log_times_replaced: Counter,
    pub(crate) log_events_filtered: Counter,
    pub(crate) readers: Gauge,
    pub(crate) machines: Family<Status, Gauge>,
    pub(crate) history_bytes: Gauge,
    pub(crate) maintenance_failures: Counter,
    pub(crate) query_duration: Timing,
    /// By stage, in the order of [`Stage::ALL`].
    pub(crate) probe_latency: [Timing; Stage::ALL.len()],
    /// What others count of this process, by name.
    elsewhere: Arc<[(&'static str, Counter)]>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Kind {
    pub(crate) kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Reason {
    pub(crate) reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Outcome {
    pub(crate) outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Status {
    pub(crate) status: &'static str,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("muster_aggregator");
        let mut seconds = |name: &str, help: &str| {
            let timing = Timing::default();
            registry.register(name, help, timing.histogram());
            timing
        };
        let ack_latency =
            seconds("ack_latency_seconds", "From the receipt of an item to its acknowledgement");
        let commit_duration = seconds("commit_duration_seconds", "Time that a commit took");
        let query_duration =
            seconds("range_query_duration_seconds", "Time that a range query took");
        let probe_latency = [
            ("probe_stored_seconds", "From a probe's sample to its acknowledgement"),
            ("probe_streamed_seconds", "From a probe's sample to a reader of StreamMetrics"),
            ("probe_watched_seconds", "From a probe's sample to the alert service"),
            ("probe_shown_seconds", "From a probe's sample to an open page"),
        ];
        let probe_latency = probe_latency.map(|(name, help)| seconds(name, help));
        let mut r = |name: &str, help: &str| {
            add(registry, name, help, Counter::<u64, AtomicU64>::default())
        };
        let frames = r("frames", "Frames taken in");
        let samples = r("samples", "Values taken in with frames");
        let refused_streams =
            r("refused_streams", "Streams ended for a bad hello or a broken contract");
        let fenced_streams =
            r("fenced_streams", "Streams ended because another took over their machine");
        let late_frames =
            r("late_frames", "Fresh frames that came out of order or after the watermark");
        let backlog_items =
            r("backlog_items", "Items that are older than the present, sent after an outage");
        let resent_items = r("resent_items", "Items that history had already when they came");
        let acknowledged = r("acknowledged_items", "Items acknowledged after their commit");
        let commit_failures = r("commit_failures", "Commits that failed and were tried again");
        let abandoned =
            r("abandoned_items", "Items not committed before the end; their collectors keep them");
        let live_failures =
            r("live_failures", "Writes to live state or the event stream that failed");
        let registry_failures =
            r("registry_failures", "Writes to the register of machines that failed");
        let events_missed = r("events_missed", "Events this process was too slow to read");
        let reader_frames_dropped =
            r("reader_frames_dropped", "Frames that slow readers of StreamMetrics missed");
        let reader_logs_dropped =
            r("reader_logs_dropped", "Log events that slow readers of Tail missed");
        let log_events = r("log_events", "Log events taken in");
        let log_times_replaced = r(
            "log_times_replaced",
            "Log events with an impossible time, which got that of their receipt",
        );
        let log_events_filtered =
            r("log_events_filtered", "Log events below the lowest level that is kept");
        let maintenance_failures =
            r("maintenance_failures", "Rounds of history maintenance that failed");
        let mut g = |name: &str, help: &str| add(registry, name, help, Gauge::<i64, _>::default());
        let streams = g("streams", "Collector streams open");
        let queue_items = g("queue_items", "Items waiting for their commit");
        let queue_bytes = g("queue_bytes", "Bytes waiting for their commit");
        let readers = g("readers", "StreamMetrics and Watch streams open");
        let history_bytes = g("history_bytes", "Size of history");
        Self {
            streams,
            frames,
            samples,
            refused_streams,
            fenced_streams,
            late_frames,
            backlog_items,
            resent_items,
            acknowledged,
            commit_failures,
            abandoned,
            live_failures,
            registry_failures,
            events_missed,
            reader_frames_dropped,
            reader_logs_dropped,
            log_events,
            log_times_replaced,
            log_events_filtered,
            maintenance_failures,
            queue_items,
            queue_bytes,
            readers,
            history_bytes,
            items: add(registry, "items", "Items taken in, by kind", Family::default()),
            rejected: add(
                registry,
                "rejected_items",
                "Items and layouts refused, by reason",
                Family::default(),
            ),
            pushes: add(
                registry,
                "push_requests",
                "Requests of programs that push, by outcome",
                Family::default(),
            ),
            machines: add(registry, "machines", "Machines known, by status", Family::default()),
            ack_latency,
            commit_duration,
            query_duration,
            probe_latency,
            elsewhere: Arc::default(),
        }
    }

    /// With what others count of the process.
    pub(crate) fn telling(self, counts: &[(&'static str, Counter)]) -> Self {
        Self { elsewhere: counts.into(), ..self }
    }
}

/// Why items are refused, as `rejected_items` names it.
const REJECTIONS: [&str; 6] =
    ["invalid", "unknown_layout", "too_old", "too_new", "limit", "unavailable"];

impl Metrics {
    /// What goes in and through, by name.
    pub(crate) fn flows(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("frames", self.frames.get()),
            ("samples", self.samples.get()),
            ("acknowledged_items", self.acknowledged.get()),
            ("backlog_items", self.backlog_items.get()),
            ("resent_items", self.resent_items.get()),
            ("log_events_filtered", self.log_events_filtered.get()),
        ]
    }

    /// What was refused, dropped or failed, by name; also what never occurred.
    pub(crate) fn troubles(&self) -> Vec<(String, u64)> {
        let rejected = REJECTIONS.map(|reason| {
            let count = self.rejected.get(&Reason { reason }).map_or(0, |count| count.get());
            (format!("rejected_items.{reason}"), count)
        });
        let others = [
            ("late_frames", &self.late_frames),
            ("commit_failures", &self.commit_failures),
            ("abandoned_items", &self.abandoned),
            ("reader_frames_dropped", &self.reader_frames_dropped),
            ("events_missed", &self.events_missed),
            ("live_failures", &self.live_failures),
            ("maintenance_failures", &self.maintenance_failures),
            ("refused_streams", &self.refused_streams),
            ("fenced_streams", &self.fenced_streams),
        ];
        let others = others.map(|(name, count)| (name.to_owned(), count.get()));
        let elsewhere =
            self.elsewhere.iter().map(|(name, count)| ((*name).to_owned(), count.get()));
        rejected.into_iter().chain(others).chain(elsewhere).collect()
    }
}

fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}
