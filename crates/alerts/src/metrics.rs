//! What the service counts about itself. All names begin with `muster_alerts_`.

use std::collections::BTreeMap;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use storage::alerting::Shard;

use crate::watch::Share;

/// Cheap to clone; all clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    frames: Counter,
    late_frames: Counter,
    late_logs: Counter,
    evaluations: Counter,
    series_over_limit: Counter,
    rules: Gauge,
    alerts: Family<Phase, Gauge>,
    pub(crate) events_missed: Counter,
    /// Events that could not be processed, and those of them that could not be kept.
    pub(crate) events_failed: Counter,
    pub(crate) dead_events_dropped: Counter,
    pub(crate) commit_failures: Counter,
    /// Attempts to send, by what became of them.
    pub(crate) messages: Family<Sent, Counter>,
    pub(crate) notices_dead: Counter,
    shards: Gauge,
    /// Batches that came after somebody else had taken over.
    pub(crate) claims_refused: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Phase {
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Sent {
    pub(crate) kind: &'static str,
    /// delivered, retried or refused.
    pub(crate) outcome: &'static str,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("muster_alerts");
        let m = metrics.clone();
        registry.register("frames", "Frames looked at", m.frames);
        registry.register(
            "late_frames",
            "Frames too late to raise or resolve anything",
            m.late_frames,
        );
        registry.register(
            "late_logs",
            "Log events that a rule asked for, too late to raise or resolve anything",
            m.late_logs,
        );
        registry.register("evaluations", "Values judged by rules", m.evaluations);
        registry.register(
            "series_over_limit",
            "Series left out because their rule watches as many as it may",
            m.series_over_limit,
        );
        registry.register("rules", "Rules in force", m.rules);
        registry.register("alerts", "Alerts by phase", m.alerts);
        registry.register(
            "events_missed",
            "Events this process was too slow to read",
            m.events_missed,
        );
        registry.register(
            "events_failed",
            "Events that could not be processed and were set aside",
            m.events_failed,
        );
        registry.register(
            "dead_events_dropped",
            "Of these, those that are not kept because there was no room or no store",
            m.dead_events_dropped,
        );
        registry.register(
            "commit_failures",
            "Commits of alert state that failed and were tried again",
            m.commit_failures,
        );
        registry.register(
            "messages",
            "Attempts to send a message, by what became of them",
            m.messages,
        );
        registry.register("notices_dead", "Notices that could not be told", m.notices_dead);
        registry.register("shards", "Parts of the machines that this service watches", m.shards);
        registry.register(
            "claims_refused",
            "Batches of changes that were dropped because another service had taken over",
            m.claims_refused,
        );
        metrics
    }

    pub(crate) fn report(&self, shares: &mut BTreeMap<Shard, Share>, rules: usize) {
        let (mut open, mut away) = (0, 0);
        for share in shares.values_mut() {
            let now = share.engine.counters();
            let seen = std::mem::replace(&mut share.reported, now);
            self.frames.inc_by(now.frames - seen.frames);
            self.late_frames.inc_by(now.late_frames - seen.late_frames);
            self.late_logs.inc_by(now.late_logs - seen.late_logs);
            self.evaluations.inc_by(now.evaluations - seen.evaluations);
            self.series_over_limit.inc_by(now.series_over_limit - seen.series_over_limit);
            for alert in share.desk.open_alerts() {
                open += 1;
                away += i64::from(alert.alert.life.phase().name() == "unknown");
            }
        }
        self.rules.set(rules as i64);
        self.shards.set(shares.len() as i64);
        let gauge = |phase| self.alerts.get_or_create(&Phase { phase }).clone();
        gauge("firing").set(open - away);
        gauge("unknown").set(away);
    }
}
