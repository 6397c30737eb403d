//! The promise behind an acknowledgement.

use std::time::Duration;

use aggregator::{Config, WriterConfig};
use daemon::config::{Bytes, Span};
use model::{TimeRange, UnixMillis, metric};
use proto::v1;
use storage::history::{Samples, SeriesSelector};

use crate::cluster::{Cluster, eventually, machine_id, now};
use crate::collector::{layout, wide_layout};

/// What history has of the CPU of all machines.
async fn cpu_in_history(cluster: &Cluster) -> Vec<Samples> {
    let history = &cluster.stores.history;
    let selector =
        SeriesSelector { metric: metric::CPU_UTILIZATION.name.into(), ..Default::default() };
    let series = history.find_series(&selector, 100).await.unwrap();
    history.read_raw(&series, TimeRange::ALL).await.unwrap()
}

#[tokio::test]
async fn an_item_is_acknowledged_only_when_history_has_it() {
    let cluster = Cluster::start().await;
    let mut web = cluster.collector(1, "web-1").await;
    web.layout(&layout()).await;
    cluster.gate.shut();
    let time = now();
    let seq = web.frame_at(&layout(), time, &[0.5, 0.2, 100.0]).await;
    // The present does not wait for the past.
    cluster.becomes("web-1", v1::MachineStatus::Online).await;
    web.hears_nothing_for(Duration::from_millis(500)).await;
    assert!(cpu_in_history(&cluster).await.is_empty());
    cluster.gate.reopen();
    web.acknowledged(seq).await;
    let expected = Samples { times: vec![time], values: vec![0.5] };
    assert_eq!(cpu_in_history(&cluster).await, [expected]);
    cluster.stop().await;
}

#[tokio::test]
async fn a_store_that_is_away_for_a_while_loses_nothing_and_stores_nothing_twice() {
    let cluster = Cluster::start().await;
    let mut collectors = Vec::new();
    for id in 1..=3 {
        let mut collector = cluster.collector(id, &format!("web-{id}")).await;
        collector.layout(&layout()).await;
        collectors.push(collector);
    }
    let start = now() - 100_000;
    for i in 0..100i64 {
        match i {
            20 => cluster.gate.away(),
            70 => {
                eventually("a failed commit", || async {
                    (cluster.metric("muster_aggregator_commit_failures_total") > 0.0).then_some(())
                })
                .await;
                cluster.gate.reopen();
            }
            _ => {}
        }
        for collector in &mut collectors {
            collector.frame_at(&layout(), start + i * 1000, &[i as f64, 0.0, 0.0]).await;
        }
    }
    for collector in &mut collectors {
        for seq in 1..=100 {
            collector.acknowledged(seq).await;
        }
    }
    let times: Vec<UnixMillis> = (0..100).map(|i| start + i * 1000).collect();
    let values: Vec<f64> = (0..100).map(f64::from).collect();
    let expected = Samples { times, values };
    assert_eq!(cpu_in_history(&cluster).await, vec![expected; 3]);
    cluster.stop().await;
}

#[tokio::test]
async fn what_history_has_is_told_at_the_next_hello_and_a_resend_is_recognised() {
    let cluster = Cluster::start().await;
    let mut web = cluster.collector(1, "web-1").await;
    web.layout(&layout()).await;
    let start = now() - 10_000;
    for i in 0..5i64 {
        web.frame_at(&layout(), start + i * 1000, &[i as f64, 0.0, 0.0]).await;
    }
    web.acknowledged(5).await;
    let cluster = cluster.restart().await;
    let mut again = cluster.silent_collector(1, "web-1").await;
    again.hello().await;
    let expected = vec![v1::SeqRange { first: 1, last: 5 }];
    assert_eq!(again.welcome().await.acknowledged, expected);
    again.layout(&layout()).await;
    for i in 0..7i64 {
        again.frame_at(&layout(), start + i * 1000, &[i as f64, 0.0, 0.0]).await;
    }
    for seq in 1..=7 {
        again.acknowledged(seq).await;
    }
    // A second time on the same stream.
    again.seq = 6;
    again.frame_at(&layout(), start + 6000, &[6.0, 0.0, 0.0]).await;
    let last = again.frame_at(&layout(), start + 7000, &[7.0, 0.0, 0.0]).await;
    again.acknowledged(last).await;
    let values: Vec<f64> = (0..8).map(f64::from).collect();
    assert_eq!(cpu_in_history(&cluster).await[0].values, values);
    cluster.stop().await;
}

#[tokio::test]
async fn another_epoch_of_the_spool_is_counted_anew() {
    let cluster = Cluster::start().await;
    let mut web = cluster.collector(1, "web-1").await;
    web.layout(&layout()).await;
    let seq = web.frame(&layout(), &[0.1, 0.0, 0.0]).await;
    web.acknowledged(seq).await;
    let mut afresh = cluster.silent_collector(1, "web-1").await;
    afresh.epoch = 2;
    afresh.hello().await;
    assert_eq!(afresh.welcome().await.acknowledged, []);
    afresh.layout(&layout()).await;
    let seq = afresh.frame_at(&layout(), now() + 1000, &[0.2, 0.0, 0.0]).await;
    afresh.acknowledged(seq).await;
    assert_eq!(cpu_in_history(&cluster).await[0].values, [0.1, 0.2]);
    cluster.stop().await;
}

#[tokio::test]
async fn a_slow_store_slows_the_stream_down_and_what_waits_stays_bounded() {
    const FRAMES: u64 = 1000;
    const BOUND: u64 = 256 << 10;
    let patience = Span(Duration::from_secs(3600));
    let stream_bytes_max = Bytes(BOUND);
    let writer = WriterConfig { stream_bytes_max, patience, ..WriterConfig::default() };
    let cluster = Cluster::start_with(Config { writer, ..Config::default() }).await;
    let mut web = cluster.collector(1, "web-1").await;
    let wide = wide_layout(1000);
    web.layout(&wide).await;
    cluster.gate.shut();
    let (out, start) = (web.out.clone(), now() - 200_000);
    let (layout, values) = (wide.clone(), vec![1.5; 1000]);
    // Eight megabytes, which neither the queue nor the connection's windows can hold.
    let sending = tokio::spawn(async move {
        for i in 1..=FRAMES {
            let frame = crate::collector::frame(&layout, start + i as i64 * 100, &values);
            let kind = Some(v1::collector_message::Kind::Frame(frame));
            out.send(v1::CollectorMessage { seq: i, kind }).await.unwrap();
        }
    });
    let taken_in = || cluster.metric("muster_aggregator_frames_total");
    let mut before = -1.0;
    while taken_in() != before {
        before = taken_in();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(!sending.is_finished(), "everything was taken in: {before}");
    let waiting = cluster.metric("muster_aggregator_queue_bytes");
    assert!(waiting > 0.0 && waiting <= BOUND as f64, "{waiting} bytes wait");
    // Another stream has room of its own.
    let mut db = cluster.collector(2, "db-1").await;
    db.layout(&crate::collector::layout()).await;
    db.frame(&crate::collector::layout(), &[0.5, 0.0, 0.0]).await;
    cluster.becomes("db-1", v1::MachineStatus::Online).await;
    cluster.gate.reopen();
    sending.await.unwrap();
    for seq in 1..=FRAMES {
        web.acknowledged(seq).await;
    }
    db.acknowledged(1).await;
    eventually("an empty queue", || async {
        (cluster.metric("muster_aggregator_queue_bytes") == 0.0).then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_store_that_is_away_for_long_does_not_stop_the_present() {
    const FRAMES: u64 = 300;
    let patience = Span(Duration::from_millis(50));
    let stream_bytes_max = Bytes(64 << 10);
    let writer = WriterConfig { stream_bytes_max, patience, ..WriterConfig::default() };
    let cluster = Cluster::start_with(Config { writer, ..Config::default() }).await;
    cluster.gate.away();
    // Even the hello needs no store.
    let mut web = cluster.collector(1, "web-1").await;
    let wide = wide_layout(1000);
    web.layout(&wide).await;
    web.layout(&layout()).await;
    let mut last = now();
    let mut sent = Vec::new();
    for _ in 0..FRAMES {
        last = now().max(last + 1);
        web.frame_at(&wide, last, &vec![0.5; 1000]).await;
        sent.push(last);
    }
    last = now().max(last + 1);
    web.frame_at(&layout(), last, &[0.75, 0.0, 0.0]).await;
    sent.push(last);
    eventually("the last of them in the present", || async {
        let headline = cluster.machine("web-1").await.headline?;
        (headline.cpu_utilization == Some(0.75)).then_some(())
    })
    .await;
    let waiting = cluster.metric("muster_aggregator_queue_bytes");
    assert!(waiting <= (64 << 10) as f64, "{waiting} bytes wait");
    // Whatever was not kept is asked for again; nothing was acknowledged.
    let reject = web.reject().await;
    assert_eq!((reject.reason(), reject.retry), (v1::reject::Reason::Unavailable, true));
    assert!(web.acknowledged_so_far().is_empty());
    cluster.gate.reopen();
    for (i, time) in sent.iter().enumerate() {
        // As a collector does: until it is taken, since there is no room while much is committed.
        loop {
            web.seq = i as u64;
            match i as u64 {
                FRAMES => web.frame_at(&layout(), *time, &[0.75, 0.0, 0.0]).await,
                _ => web.frame_at(&wide, *time, &vec![0.5; 1000]).await,
            };
            if web.settled(i as u64 + 1).await {
                break;
            }
        }
    }
    let history = &cluster.stores.history;
    let selector = SeriesSelector { metric: "wide".into(), ..Default::default() };
    let series = history.find_series(&selector, 1).await.unwrap();
    let samples = history.read_raw(&series, TimeRange::ALL).await.unwrap();
    assert_eq!(samples[0].times, sent[..FRAMES as usize]);
    cluster.stop().await;
}

#[tokio::test]
async fn items_that_cannot_be_stored_do_not_hold_up_those_of_others() {
    let cluster = Cluster::start().await;
    let mut bad = cluster.collector(1, "bad").await;
    let mut good = cluster.collector(2, "good").await;
    bad.layout(&layout()).await;
    good.layout(&layout()).await;
    cluster.gate.refuse(machine_id(1));
    let time = now();
    bad.frame_at(&layout(), time, &[0.5, 0.0, 0.0]).await;
    for _ in 0..3 {
        let seq = good.frame(&layout(), &[0.5, 0.0, 0.0]).await;
        good.acknowledged(seq).await;
    }
    // Its collector keeps it and may send it again.
    let reject = bad.reject().await;
    assert_eq!((reject.reason(), reject.retry), (v1::reject::Reason::Unavailable, true));
    assert_eq!(reject.ranges, [v1::SeqRange { first: 1, last: 1 }]);
    cluster.gate.reopen();
    bad.seq = 0;
    let seq = bad.frame_at(&layout(), time, &[0.5, 0.0, 0.0]).await;
    bad.acknowledged(seq).await;
    cluster.stop().await;
}
