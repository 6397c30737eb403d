//! Settings of collectors change while everything runs.

use std::time::Duration;

use std::io::Write as _;
use std::path::Path;

use crate::cluster::{Cluster, PATIENCE, logged, machines};
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

#[tokio::test(flavor = "multi_thread")]
async fn log_sources_are_switched_by_the_server_within_what_the_owner_allows() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    // As the kernel names it: what is allowed is held against where files truly are.
    let root = dir.path().canonicalize().expect("a place");
    let file = root.join("muster.toml");
    let ask = |selectors: &[&Path]| {
        let source = |path: &&Path| format!("{{ kind = \"file\", selector = {path:?} }}");
        let sources: Vec<String> = selectors.iter().map(source).collect();
        let text = format!("[aggregator.collectors]\nlog_sources = [{}]\n", sources.join(", "));
        std::fs::write(&file, text).expect("written");
    };
    let (shop, secret) = (root.join("logs/shop.log"), root.join("secret.log"));
    std::fs::create_dir(root.join("logs")).expect("made");
    let say = |path: &Path, text: &str| {
        let log = std::fs::File::options().create(true).append(true).open(path);
        writeln!(log.expect("opens"), "{text}").expect("written");
    };
    say(&shop, "before anybody asked");
    say(&secret, "a secret");
    ask(&[]);
    let path = file.display().to_string();
    let mut cluster = Cluster::start("aggregator", &[("MUSTER_CONFIG", path.as_str())]).await;
    let settings = format!("[collector.logs.allow]\nfiles = [\"{}/logs/*.log\"]\n", root.display());
    let mut collector = cluster.collector_with(&settings, "web-1", &cluster.url());
    let found = async |cluster: &Cluster, query: &str, text: &str| {
        let channel = cluster.channel().await;
        eventually(PATIENCE, || {
            let channel = channel.clone();
            async move {
                let bodies = logged(channel, query).await.into_iter().map(|entry| entry.body);
                let bodies: Vec<String> = bodies.collect();
                let is_there = bodies.iter().any(|body| body.contains(text));
                is_there.then_some(()).ok_or_else(|| format!("{text:?} is not among {bodies:?}"))
            }
        })
        .await;
    };

    // The one is allowed; the other is refused, and that is told where logs are searched.
    ask(&[&shop, &secret]);
    found(&cluster, "service:muster-collector", "secret.log").await;
    eventually(PATIENCE, || async {
        let is_followed = std::fs::read_to_string(cluster.dir().join("web-1/bookmarks.json"));
        let is_followed = is_followed.is_ok_and(|text| text.contains("shop.log"));
        is_followed.then_some(()).ok_or_else(|| "the log is not followed".to_owned())
    })
    .await;
    say(&shop, "order one");
    found(&cluster, "order", "order one").await;

    // The server is away and the collector begins anew: what was asked for goes on, every line once.
    cluster.server.kill();
    collector.kill();
    say(&shop, "order two");
    let _collector = cluster.collector_with(&settings, "web-1", &cluster.url());
    say(&shop, "order three");
    cluster.restart().await;
    found(&cluster, "order", "order three").await;

    // No longer asked for. The server says what it refused now, so it has heard of the rest before.
    ask(&[&root.join("other.log")]);
    found(&cluster, "service:muster-collector", "other.log").await;
    eventually(PATIENCE, || async {
        let places = std::fs::read_to_string(cluster.dir().join("web-1/bookmarks.json"));
        let is_forgotten = places.is_ok_and(|text| !text.contains("file:"));
        is_forgotten.then_some(()).ok_or_else(|| "the log is still followed".to_owned())
    })
    .await;
    say(&shop, "order four");
    ask(&[&shop]);
    eventually(PATIENCE, || async {
        let places = std::fs::read_to_string(cluster.dir().join("web-1/bookmarks.json"));
        let is_followed = places.is_ok_and(|text| text.contains("file:"));
        is_followed.then_some(()).ok_or_else(|| "the log is not followed again".to_owned())
    })
    .await;
    say(&shop, "order five");
    found(&cluster, "order", "order five").await;
    let entries = logged(cluster.channel().await, "-service:muster-collector").await;
    let mut bodies: Vec<String> = entries.into_iter().map(|entry| entry.body).collect();
    bodies.sort();
    assert_eq!(bodies, ["order five", "order one", "order three", "order two"]);
}
