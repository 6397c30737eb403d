//! Values and machines as they change.

use std::collections::BTreeMap;

use model::metric;
use proto::v1::MachineStatus::{Online, Stopped};
use proto::v1::stream_metrics_request::Format;
use proto::{convert, v1};

use crate::cluster::{Cluster, eventually, machine_id, now};
use crate::collector::layout;

fn ms(response: &v1::StreamMetricsResponse) -> i64 {
    convert::timestamp_from_proto("time", response.time.as_ref().unwrap()).unwrap().0
}

#[tokio::test]
async fn the_last_minutes_and_the_present_join_without_gap_or_duplicate() {
    let cluster = Cluster::start().await;
    let mut web = cluster.collector(1, "web-1").await;
    web.layout(&layout()).await;
    let start = now() - 240_000;
    let mut sent = Vec::new();
    for i in 0..200 {
        let time = start + i * 1000;
        web.frame_at(&layout(), time, &[0.5, 0.5, i as f64]).await;
        sent.push(time.0);
    }
    web.acknowledged(200).await;
    // Frames go on arriving while the reader joins.
    let arriving = tokio::spawn(async move {
        let mut sent = Vec::new();
        for i in 0..100 {
            let time = now();
            if sent.last() != Some(&time.0) {
                web.frame_at(&layout(), time, &[0.5, 0.5, f64::from(i)]).await;
                sent.push(time.0);
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        (sent, web)
    });
    let request = v1::StreamMetricsRequest {
        machine: "web-1".into(),
        metrics: vec!["system.network.*".into()],
        lookback: Some(convert::duration_from_ms(300_000)),
        format: Format::Columns.into(),
    };
    let mut state = cluster.state().await;
    let mut stream = state.stream_metrics(request).await.unwrap().into_inner();
    let mut seen = Vec::new();
    let (mut past, mut ends) = (0, 0);
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!((first.columns.len(), first.layout), (1, 1));
    assert_eq!(first.columns[0].metric, metric::NETWORK_IO.name);
    assert!(first.past);
    seen.push(ms(&first));
    let (later, _web) = arriving.await.unwrap();
    sent.extend(later);
    while seen.len() < sent.len() {
        let next = stream.message().await.unwrap().unwrap();
        if next.time.is_none() {
            ends += 1;
            assert!(next.past && next.values.is_empty());
            continue;
        }
        assert_eq!((next.columns.len(), next.values.len(), next.dropped_frames), (0, 1, 0));
        assert_eq!(next.past, ends == 0, "the end of the past follows the last of it");
        past += u32::from(next.past);
        seen.push(ms(&next));
    }
    assert_eq!(seen, sent);
    assert!(past >= 199, "{past} of the past");
    assert_eq!(ends, 1);
    cluster.stop().await;
}

#[tokio::test]
async fn the_last_minutes_are_there_after_a_restart_and_hold_what_came_late() {
    let cluster = Cluster::start().await;
    let mut web = cluster.collector(1, "web-1").await;
    web.layout(&layout()).await;
    let start = now() - 240_000;
    let seconds = |range: std::ops::Range<i64>| range.map(move |i| (i, start + i * 1000));
    for (i, time) in seconds(0..60).chain(seconds(90..120)) {
        web.frame_at(&layout(), time, &[0.5, 0.5, i as f64]).await;
    }
    // From a spool, after a time without a connection.
    let mut last = 0;
    for (i, time) in seconds(60..90) {
        last = web.frame_at(&layout(), time, &[0.5, 0.5, i as f64]).await;
    }
    web.acknowledged(last).await;
    let seen = async |cluster: &Cluster, frames: usize| {
        let request = v1::StreamMetricsRequest {
            machine: "web-1".into(),
            lookback: Some(convert::duration_from_ms(300_000)),
            format: Format::Columns.into(),
            ..Default::default()
        };
        let mut state = cluster.state().await;
        let mut stream = state.stream_metrics(request).await.unwrap().into_inner();
        let mut seen = Vec::new();
        while seen.len() < frames {
            let next = stream.message().await.unwrap().unwrap();
            assert!(next.past);
            seen.push((ms(&next), next.values[2]));
        }
        seen
    };
    let expected: Vec<_> = seconds(0..120).map(|(i, time)| (time.0, i as f64)).collect();
    assert_eq!(seen(&cluster, 120).await, expected);
    let cluster = cluster.restart().await;
    assert_eq!(seen(&cluster, 120).await, expected, "before its collector is back");
    let mut web = cluster.collector(1, "web-1").await;
    web.seq = last + 1;
    web.layout(&layout()).await;
    let time = start + 120_000;
    let last = web.frame_at(&layout(), time, &[0.5, 0.5, 120.0]).await;
    web.acknowledged(last).await;
    assert_eq!(seen(&cluster, 121).await.last(), Some(&(time.0, 120.0)));
    cluster.stop().await;
}

#[tokio::test]
async fn the_present_does_not_wait_for_a_history_that_does_not_answer() {
    let cluster = Cluster::start().await;
    let mut web = cluster.collector(1, "web-1").await;
    web.layout(&layout()).await;
    cluster.gate.shut();
    let time = now();
    web.frame_at(&layout(), time, &[0.5, 0.5, 1.0]).await;
    cluster.becomes("web-1", Online).await;
    let request = v1::StreamMetricsRequest {
        machine: "web-1".into(),
        lookback: Some(convert::duration_from_ms(300_000)),
        format: Format::Columns.into(),
        ..Default::default()
    };
    let mut state = cluster.state().await;
    let mut stream = state.stream_metrics(request).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!((ms(&first), first.past), (time.0, true));
    let end = stream.message().await.unwrap().unwrap();
    assert_eq!((end.time, end.past), (None, true), "here the past ends");
    web.frame_at(&layout(), time + 1000, &[0.5, 0.5, 2.0]).await;
    let second = stream.message().await.unwrap().unwrap();
    assert_eq!((ms(&second), second.past), (time.0 + 1000, false));
    cluster.gate.reopen();
    cluster.stop().await;
}

#[tokio::test]
async fn samples_are_spelled_out_with_rates_for_people() {
    let cluster = Cluster::start().await;
    let mut web = cluster.collector(1, "web-1").await;
    web.layout(&layout()).await;
    let mut state = cluster.state().await;
    let id = machine_id(1).to_string();
    let request = v1::StreamMetricsRequest { machine: id.clone(), ..Default::default() };
    let mut stream = state.stream_metrics(request).await.unwrap().into_inner();
    let start = now();
    web.frame_at(&layout(), start - 1000, &[0.5, f64::NAN, 1000.0]).await;
    web.frame_at(&layout(), start, &[0.6, f64::NAN, 3000.0]).await;
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!((first.machine_id, first.past), (id, false));
    let second = stream.message().await.unwrap().unwrap();
    let samples: Vec<_> =
        second.samples.iter().map(|s| (s.metric.as_str(), s.value, s.rate)).collect();
    let expected =
        [("system.cpu.utilization", 0.6, None), ("system.network.io", 3000.0, Some(2000.0))];
    assert_eq!(samples, expected);
    assert_eq!(second.samples[1].labels["network.interface.name"], "eth0");
    cluster.stop().await;
}

#[tokio::test]
async fn a_slow_reader_is_told_how_many_frames_it_missed() {
    const FRAMES: i64 = 3000;
    let cluster = Cluster::start().await;
    let mut web = cluster.collector(1, "web-1").await;
    let wide = crate::collector::wide_layout(1000);
    web.layout(&wide).await;
    let mut state = cluster.state().await;
    let request = v1::StreamMetricsRequest { machine: "web-1".into(), ..Default::default() };
    let mut stream = state.stream_metrics(request).await.unwrap().into_inner();
    let values = vec![0.5; 1000];
    let mut last = now();
    for _ in 0..FRAMES {
        last = now().max(last + 1);
        web.frame_at(&wide, last, &values).await;
    }
    web.acknowledged(FRAMES as u64).await;
    let (mut seen, mut dropped) = (0, 0);
    loop {
        let next = stream.message().await.unwrap().unwrap();
        seen += 1;
        dropped += next.dropped_frames;
        if ms(&next) == last.0 {
            break;
        }
    }
    assert!(dropped > 0, "nothing was dropped");
    assert_eq!(seen + dropped, FRAMES as u64);
    assert_eq!(cluster.metric("muster_aggregator_reader_frames_dropped_total"), dropped as f64);
    cluster.stop().await;
}

#[tokio::test]
async fn watch_begins_with_everything_and_goes_on_with_what_changed() {
    let cluster = Cluster::start().await;
    let mut web = cluster.collector(1, "web-1").await;
    let mut db = cluster.collector(2, "db-1").await;
    for collector in [&mut web, &mut db] {
        collector.layout(&layout()).await;
        collector.frame(&layout(), &[0.5, 0.5, 0.0]).await;
    }
    cluster.becomes("web-1", Online).await;
    cluster.becomes("db-1", Online).await;
    let matchers = vec![v1::LabelMatcher {
        name: "status".into(),
        op: v1::label_matcher::Op::NotEqual.into(),
        value: "stopped".into(),
    }];
    let interval = Some(convert::duration_from_ms(200));
    let mut state = cluster.state().await;
    let mut fleet =
        state.watch(v1::WatchRequest { matchers, interval }).await.unwrap().into_inner();
    let first = fleet.message().await.unwrap().unwrap();
    assert!(first.snapshot);
    let names: Vec<_> = first.machines.iter().map(|m| m.host_name.as_str()).collect();
    assert_eq!(names, ["db-1", "web-1"]);

    web.frame(&layout(), &[0.9, 0.5, 0.0]).await;
    let mut cpu = BTreeMap::new();
    while cpu.get("web-1") != Some(&0.9) {
        let next = fleet.message().await.unwrap().unwrap();
        assert!(!next.snapshot);
        for machine in next.machines {
            cpu.insert(machine.host_name, machine.headline.unwrap().cpu_utilization());
        }
    }
    db.goodbye(v1::goodbye::Reason::Stopped).await;
    let removed = loop {
        let next = fleet.message().await.unwrap().unwrap();
        if !next.removed_machine_ids.is_empty() {
            break next.removed_machine_ids;
        }
    };
    assert_eq!(removed, [machine_id(2).to_string()]);
    cluster.becomes("db-1", Stopped).await;
    drop((fleet, state));
    eventually("the reader to be gone", || async {
        (cluster.metric("muster_aggregator_readers") == 0.0).then_some(())
    })
    .await;
    cluster.stop().await;
}
