//! What the gateway counts about itself.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) viewers: Gauge,
    pub(crate) messages: Counter,
    pub(crate) frames_missed: Counter,
    pub(crate) viewers_refused: Counter,
    pub(crate) viewers_too_slow: Counter,
    pub(crate) upstream_losses: Counter,
}

impl Metrics {
    pub(crate) fn registered(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let own = registry.sub_registry_with_prefix("muster_gateway");
        own.register("viewers", "Pages that are open and live now", metrics.viewers.clone());
        own.register("messages", "Messages sent to viewers", metrics.messages.clone());
        own.register(
            "frames_missed",
            "Frames that a viewer or the gateway missed because it was too slow",
            metrics.frames_missed.clone(),
        );
        own.register(
            "viewers_refused",
            "WebSockets refused: foreign origin, or too many viewers",
            metrics.viewers_refused.clone(),
        );
        own.register(
            "viewers_too_slow",
            "Viewers that were closed because they could not keep up",
            metrics.viewers_too_slow.clone(),
        );
        own.register(
            "upstream_losses",
            "Times that a stream from the aggregator ended",
            metrics.upstream_losses.clone(),
        );
        metrics
    }
}
