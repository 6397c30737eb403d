//! Whether the servers behind the stores answer, for `/readyz`.

use std::time::Duration;

use daemon::health::Readiness;
use model::MachineId;
use storage::Stores;
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
    // Only whether they answer matters, and that the breakers know.
    let _ = tokio::join!(stores.live.presence(anybody), stores.registry.machine(anybody));
    let down = |breaker: &storage::Breaker| {
        Some(format!("{} does not answer: {}", breaker.store(), breaker.open_reason()?))
    };
    stores.breakers.iter().filter_map(|breaker| down(breaker)).collect()
}
