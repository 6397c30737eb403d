//! Settings of collectors change while everything runs.

use std::time::Duration;

use crate::cluster::{Cluster, PATIENCE, machines};
use crate::eventually::eventually;

#[tokio::test]
async fn collectors_follow_the_settings_file_of_a_server_that_goes_on_running() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("muster.toml");
    let say = |text: &str| std::fs::write(&file, text).expect("written");
    say("");
    let path = file.display().to_string();
    let cluster = Cluster::start("aggregator", &[("MUSTER_CONFIG", path.as_str())]).await;
    let collector = cluster.collector_every("300ms", "web-1", &cluster.url());
    let interval_is = async |expected: Duration| {
        let channel = cluster.channel().await;
        eventually(PATIENCE, || {
            let channel = channel.clone();
            async move {
                let machines = machines(channel).await;
                let found = machines.first().and_then(|machine| machine.interval);
                let expected = prost_types::Duration::try_from(expected).expect("in range");
                (found == Some(expected)).then_some(()).ok_or(format!("{found:?}"))
            }
        })
        .await;
    };
    interval_is(Duration::from_millis(300)).await;

    say("[aggregator.collectors]\ninterval = \"700ms\"\ndisabled_probes = [\"load\"]\n");
    interval_is(Duration::from_millis(700)).await;
    eventually(PATIENCE, || async {
        let output = collector.output();
        output.contains("disabled_probes: [\"load\"]").then_some(()).ok_or(output)
    })
    .await;

    // A mistake changes nothing, and is told with its place.
    say("[aggregator.collectors]\ninterval = \"5ms\"\n");
    eventually(PATIENCE, || async {
        let output = cluster.server.output();
        let told = output.contains("aggregator.collectors.interval: expected 100ms to 1h");
        told.then_some(()).ok_or(output)
    })
    .await;
    interval_is(Duration::from_millis(700)).await;

    // What is no longer asked for is the collector's own to choose again.
    say("");
    interval_is(Duration::from_millis(300)).await;
}
