//! How long pages and fragments take to make, without a network: `cargo bench -p gateway`.

#[path = "../tests/service/synthetic.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod synthetic;

use axum::Router;
use axum::body::Body;
use criterion::{Criterion, criterion_group, criterion_main};
use http::Request;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// A gateway that knows the whole fleet.
async fn gateway(machines: usize, stop: CancellationToken) -> Router {
    let fleet = synthetic::Synthetic::new(machines);
    let mut metrics = prometheus_client::registry::Registry::default();
    let gateway = gateway::Gateway::new(gateway::Config::default(), fleet.link(), &mut metrics)
        .expect("a gateway");
    let router = gateway.router();
    tokio::spawn(gateway.run(stop));
    // A page begins with a hundred rows.
    let rows = |page: &[u8]| page.windows(15).filter(|w| w == b"data-machine-id").count();
    while rows(&get(&router, "/").await) < machines.min(100) {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    router
}

async fn get(router: &Router, path: &str) -> Vec<u8> {
    let request = Request::get(path).header("host", "127.0.0.1").body(Body::empty());
    let response = router.clone().oneshot(request.expect("a request")).await.expect("infallible");
    assert!(response.status().is_success(), "{path}: {}", response.status());
    axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("read").to_vec()
}

fn pages(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let stop = CancellationToken::new();
    let mut group = c.benchmark_group("pages");
    group.sample_size(20);
    for machines in [10, 1000] {
        let router = runtime.block_on(gateway(machines, stop.clone()));
        group.bench_function(format!("the fleet, {machines} machines"), |b| {
            b.to_async(&runtime).iter(|| get(&router, "/"));
        });
    }
    group.finish();
    stop.cancel();
}

criterion_group!(benches, pages);
criterion_main!(benches);
