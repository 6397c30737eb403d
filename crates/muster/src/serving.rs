//! What every role that serves shares: its port, its health, its own metrics.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use daemon::health::Health;
use daemon::http::Server;
use daemon::tls::Listener;
use prometheus_client::registry::Registry;

use crate::config::Config;
use crate::exposure;
use crate::guard::{self, Guard, Hosts};
use crate::overload::{self, Overload};

/// How long each stage of stopping may take.
pub(crate) const GRACE: Duration = Duration::from_secs(15);

/// Names of the aggregator's services, as reflection and `grpc.health.v1` know them.
pub(crate) const AGGREGATOR_SERVICES: [&str; 4] = [
    "muster.v1.CollectorService",
    "muster.v1.PushService",
    "muster.v1.StateService",
    "muster.v1.LogService",
];
/// And those of the alert service.
pub(crate) const ALERTS_SERVICES: [&str; 2] =
    ["muster.v1.AlertConfigService", "muster.v1.AlertService"];

/// And that which says who may do what.
pub(crate) const ACCESS_SERVICES: [&str; 1] = ["muster.v1.AccessService"];

/// A bound port, with what the process tells about itself.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) server: Server,
    pub(crate) health: Health,
    /// Filled by the services as they are made; served once all are.
    pub(crate) metrics: Registry,
    pub(crate) overload: Overload,
    /// Whether callers must prove who they are.
    pub(crate) guarded: bool,
    /// Names under which it answers.
    pub(crate) hosts: Hosts,
}

impl Serving {
    /// Binds before anything else is started: a port in use must not cost a recovery of the store.
    pub(crate) fn bind(
        service: &'static str,
        listen: SocketAddr,
        config: &Config,
        insecure: bool,
    ) -> anyhow::Result<Self> {
        config.access.check()?;
        config.check_stores()?;
        config.probe.check()?;
        let tls = Listener::open(&config.tls)?;
        let server = Server::bind(listen)?.with_tls(tls);
        let mut metrics = Registry::default();
        server.register(&mut metrics);
        let guarded = exposure::is_guarded(listen, config.access.auth, insecure);
        exposure::warn_in_clear(listen, server.speaks_tls());
        let (names, origins) = (&config.access.allowed_hosts, &config.gateway.allowed_origins);
        let hosts = Hosts::new(listen, guarded, names, origins);
        let overload = Overload::new(overload::REQUESTS_MAX, &mut metrics);
        Ok(Self { server, health: Health::new(service), metrics, overload, guarded, hosts })
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.server.speaks_tls() { "https" } else { "http" };
        format!("{scheme}://{}", self.server.local_addr())
    }

    /// The server, and `router` within its bounds with health and metrics beside it, all behind the guard.
    pub(crate) fn finish(self, router: Router, guard: Guard) -> (Server, Router, Health) {
        let about = self.health.router(Arc::new(Mutex::new(self.metrics)));
        // Whoever is refused takes no room from others, and health is told whatever the load.
        let router = router.layer(from_fn_with_state(self.overload, overload::check));
        let router = router.merge(about).layer(from_fn_with_state(guard, guard::check));
        (self.server, router, self.health)
    }
}

/// Reads `--listen`.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix("localhost:").or(text.strip_prefix(':')).unwrap_or(text);
    let port: u16 = port.parse().unwrap_or(7070);
    let expected = || format!("expected an address and a port, such as 127.0.0.1:{port}");
    text.parse().map_err(|_| expected())
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_address_that_is_none_is_answered_with_one() {
        fn check(text: &str, expected: &str) {
            let said = super::address(text).expect_err(text);
            assert!(said.ends_with(&format!("such as {expected}")), "{text}: {said}");
        }
        check("22071", "127.0.0.1:22071");
        check(":22071", "127.0.0.1:22071");
        check("localhost:22071", "127.0.0.1:22071");
        check("nonsense", "127.0.0.1:7070");
        assert!(super::address("[::1]:0").is_ok());
    }
}
