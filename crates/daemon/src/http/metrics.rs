//! Numbers of the accept loop.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Connections, as `/metrics` shows them. Cheap to clone; clones share their numbers.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    open: Gauge,
    accepted: Counter,
    full: Counter,
    accept_failures: Counter,
    handshake_failures: Counter,
}

impl Metrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("http");
        registry.register("connections", "Open connections", self.open.clone());
        registry.register("connections_accepted", "Connections taken in", self.accepted.clone());
        registry.register(
            "connections_full",
            "Times that a new connection had to wait because as many as allowed were open",
            self.full.clone(),
        );
        registry.register(
            "accept_failures",
            "Accepts that failed for want of descriptors or memory",
            self.accept_failures.clone(),
        );
        registry.register(
            "tls_handshake_failures",
            "Connections that spoke no TLS on a port that does, or did not prove themselves",
            self.handshake_failures.clone(),
        );
    }

    /// Counts a connection as open until the guard is dropped.
    pub(super) fn opened(&self) -> Open {
        self.accepted.inc();
        self.open.inc();
        Open(self.open.clone())
    }

    pub(super) fn full(&self) {
        self.full.inc();
    }

    pub(super) fn handshake_failed(&self) {
        self.handshake_failures.inc();
    }

    pub(super) fn accept_failed(&self) {
        self.accept_failures.inc();
    }
}

pub(super) struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
