//! How collectors work is changed while they run.

use std::time::Duration;

use aggregator::{Config, Settings};
use daemon::config::Span;
use proto::convert;

use crate::cluster::{Cluster, eventually, machine_id};

fn every(ms: u64) -> Settings {
    Settings { interval: Some(Span(Duration::from_millis(ms))), ..Settings::default() }
}

#[tokio::test]
async fn changed_settings_reach_the_collectors_that_they_concern() {
    let config = Config { collectors: every(2000), ..Config::default() };
    let cluster = Cluster::start_with(config).await;
    let mut web = cluster.silent_collector(1, "web-1").await;
    web.hello().await;
    let welcome = web.welcome().await.settings.unwrap();
    assert_eq!(welcome.interval, Some(convert::duration_from_ms(2000)));
    let mut db = cluster.collector(2, "db-1").await;

    cluster.settings.set(machine_id(1), Some(every(500))).unwrap();
    assert_eq!(web.settings().await.interval, Some(convert::duration_from_ms(500)));
    eventually("the interval of web-1", || async {
        let interval = cluster.machine("web-1").await.interval;
        (interval == Some(convert::duration_from_ms(500))).then_some(())
    })
    .await;
    db.hears_nothing_for(Duration::from_millis(200)).await;

    let without_probe =
        Settings { disabled_probes: vec!["container".into()], ..Settings::default() };
    cluster.settings.set_default(without_probe).unwrap();
    assert_eq!(db.settings().await.disabled_probes, ["container"]);
    web.hears_nothing_for(Duration::from_millis(200)).await;
    cluster.settings.set(machine_id(1), None).unwrap();
    let settings = web.settings().await;
    assert_eq!(settings.disabled_probes, ["container"]);
    // Nobody asks for an interval any more, so the collector's own is in force again.
    assert_eq!(settings.interval, None);
    eventually("the own interval of web-1", || async {
        let interval = cluster.machine("web-1").await.interval;
        (interval == Some(convert::duration_from_ms(1_000))).then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test]
async fn settings_out_of_bounds_change_nothing() {
    let cluster = Cluster::start().await;
    let problem = cluster.settings.set_default(every(10)).expect_err("accepted");
    assert!(problem.starts_with("interval: expected 100ms to 1h"), "{problem}");
    let mut web = cluster.silent_collector(1, "web-1").await;
    web.hello().await;
    assert_eq!(web.welcome().await.settings.unwrap().interval, None);
    cluster.stop().await;
}
