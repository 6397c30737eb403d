//! When certificates expire, on `/metrics`.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// Shows when a certificate expires, named by its section of the settings; nothing while that is not known. It is
/// asked at each look, as the certificate may have been renewed.
pub fn show_expiry(
    registry: &mut Registry,
    section: &'static str,
    expires: impl Fn() -> Option<SystemTime> + Send + Sync + 'static,
) {
    registry.register_collector(Box::new(Expiry { section, expires }));
}

struct Expiry<F> {
    section: &'static str,
    expires: F,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Section {
    section: &'static str,
}

impl<F> fmt::Debug for Expiry<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expiry").field("section", &self.section).finish_non_exhaustive()
    }
}

impl<F: Fn() -> Option<SystemTime> + Send + Sync + 'static> Collector for Expiry<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(expires) = (self.expires)() else { return Ok(()) };
        let seconds = expires.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let (name, help) = (
            "muster_tls_certificate_expires_seconds",
            "When the certificate expires, in seconds since 1970",
        );
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        let value = ConstGauge::new(i64::try_from(seconds).unwrap_or(i64::MAX));
        value.encode(family.encode_family(&Section { section: self.section })?)
    }
}
