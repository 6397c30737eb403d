//! Whether the stores answer: for `/readyz`, and as metrics.

use std::fmt;
use std::time::Duration;

use daemon::health::Readiness;
use model::MachineId;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use storage::{Condition, Conditions, Stores};
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(1);

/// Keeps `readiness` true until the process stops. Each look is also a call, so that a server that is back
/// is noticed when nobody else calls.
pub(crate) async fn watch(
    stores: Stores,
    readiness: Readiness,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
        let down = look(&stores).await;
        match down.is_empty() {
            true => readiness.ready(),
            false => readiness.not_ready(down.join(", ")),
        }
    }
    Ok(())
}

async fn look(stores: &Stores) -> Vec<String> {
    let anybody = MachineId::from_u128(1).expect("1 is not 0");
    let (_, known, _) = tokio::join!(
        stores.live.presence(anybody),
        stores.registry.machine(anybody),
        stores.alerting.queue_len(""),
    );
    let down = |breaker: &storage::Breaker| {
        Some(format!("{} does not answer: {}", breaker.store(), breaker.open_reason()?))
    };
    let mut down: Vec<String> =
        stores.breakers.iter().filter_map(|breaker| down(breaker)).collect();
    // What is embedded has no breaker; one call that fails is news enough.
    let embedded = |c: &Condition| c.holds == "registry" && c.store == "SQLite";
    let embedded = stores.conditions.now().iter().any(embedded);
    if let (true, Err(error)) = (embedded, known) {
        down.push(error.to_string());
    }
    down
}

/// Shows on `/metrics` which stores are left alone by their circuit breaker, and how many connections are in use.
pub(crate) fn register(metrics: &mut Registry, conditions: &Conditions) {
    metrics.register_collector(Box::new(Seen(conditions.clone())));
}

#[derive(Debug)]
struct Seen(Conditions);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kept {
    holds: String,
    store: &'static str,
}

impl Collector for Seen {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let conditions = self.0.now();
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        type Read<'a> = &'a dyn Fn(&Condition) -> Option<i64>;
        let gauges: [(&str, &str, Read<'_>); 4] = [
            (
                "circuit_open",
                "1 while calls to the store are not made because it does not answer",
                &|c| Some(c.down.is_some().into()),
            ),
            ("connections", "Connections to the store that are open", &|c| {
                Some(number(c.connections?.open))
            }),
            ("connections_busy", "Of these, those in use", &|c| Some(number(c.connections?.busy?))),
            ("connections_max", "Most connections that there may be", &|c| {
                Some(number(c.connections?.max))
            }),
        ];
        for (name, help, read) in gauges {
            let name = format!("muster_store_{name}");
            let mut family = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
            for condition in &conditions {
                let Some(value) = read(condition) else { continue };
                let kept =
                    Kept { holds: condition.holds.replace(' ', "_"), store: condition.store };
                ConstGauge::new(value).encode(family.encode_family(&kept)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stores_are_seen_in_the_metrics_with_what_they_hold() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let stores = storage::open(&storage::Config::default(), folder.path()).await;
        let stores = stores.expect("embedded stores need nothing");
        let mut metrics = Registry::default();
        register(&mut metrics, &stores.conditions);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &metrics).expect("is text");
        for line in [
            "# TYPE muster_store_circuit_open gauge",
            "muster_store_circuit_open{holds=\"live_state\",store=\"memory\"} 0",
            "muster_store_circuit_open{holds=\"history\",store=\"SQLite\"} 0",
            "muster_store_connections_max{holds=\"history\",store=\"SQLite\"} ",
        ] {
            assert!(text.lines().any(|found| found.starts_with(line)), "no {line:?} in\n{text}");
        }
        assert!(!text.contains("muster_store_connections{holds=\"live_state\""), "{text}");
        assert_eq!(look(&stores).await, Vec::<String>::new());
    }
}
