//! What the service counts about itself. All names begin with `muster_alerts_`.

use std::sync::{Arc, Mutex};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::desk::Desk;
use crate::engine::{Counters, Engine};

/// Cheap to clone; all clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    frames: Counter,
    late_frames: Counter,
    evaluations: Counter,
    series_over_limit: Counter,
    rules: Gauge,
    alerts: Family<Phase, Gauge>,
    pub(crate) events_missed: Counter,
    pub(crate) commit_failures: Counter,
    /// Attempts to send, by what became of them.
    pub(crate) messages: Family<Sent, Counter>,
    pub(crate) notices_dead: Counter,
    /// What the engine had counted when it was last looked at.
    seen: Arc<Mutex<Counters>>,
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
        metrics
    }

    pub(crate) fn report(&self, engine: &Engine, desk: &Desk) {
        let now = engine.counters();
        // Only this task comes here; the lock is for the type alone.
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.frames.inc_by(now.frames - seen.frames);
        self.late_frames.inc_by(now.late_frames - seen.late_frames);
        self.evaluations.inc_by(now.evaluations - seen.evaluations);
        self.series_over_limit.inc_by(now.series_over_limit - seen.series_over_limit);
        *seen = now;
        self.rules.set(engine.rules().len() as i64);
        let away = desk.open_alerts().filter(|o| o.alert.life.phase().name() == "unknown").count();
        let open = desk.open_alerts().count();
        let gauge = |phase| self.alerts.get_or_create(&Phase { phase }).clone();
        gauge("firing").set((open - away) as i64);
        gauge("unknown").set(away as i64);
    }
}
