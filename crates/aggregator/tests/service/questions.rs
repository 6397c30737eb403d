//! Questions about present and past.

use model::{Frame, Item, Payload, SpoolEpoch, UnixMillis, metric};
use proto::v1::collector_message::Kind as Message;
use proto::{convert, v1};
use storage::history::Delivery;
use tonic::Code;

use crate::cluster::{Cluster, machine_id, now};
use crate::collector::{Collector, layout};

fn time(time: UnixMillis) -> Option<prost_types::Timestamp> {
    Some(convert::timestamp_to_proto(time))
}

/// Ten minutes of values at 1 Hz, all in the past: CPU is the second modulo 60, the interface
/// receives 10 bytes a second.
async fn ten_minutes(web: &mut Collector) -> UnixMillis {
    let start = now().floor(600_000) - 600_000;
    web.layout(&layout()).await;
    for i in 0..600 {
        let values = [f64::from(i % 60), 0.5, f64::from(i) * 10.0];
        web.frame_at(&layout(), start + i64::from(i) * 1000, &values).await;
    }
    web.acknowledged(600).await;
    start
}

#[tokio::test]
async fn a_range_is_answered_in_aligned_windows() {
    let cluster = Cluster::start().await;
    let mut web = cluster.collector(1, "web-1").await;
    let start = ten_minutes(&mut web).await;
    let mut state = cluster.state().await;
    let request =
        |metric: &str, step_ms: Option<i64>, aggregate: v1::Aggregate| v1::QueryRangeRequest {
            metric: metric.into(),
            start: time(start),
            end: time(start + 600_000),
            step: step_ms.map(convert::duration_from_ms),
            aggregate: aggregate.into(),
            with_band: true,
            ..Default::default()
        };
    let cpu = metric::CPU_UTILIZATION.name;
    let net = metric::NETWORK_IO.name;
    let mut check = async |request: v1::QueryRangeRequest, tier: v1::Tier, expected: &[f64]| {
        let asked = format!("{request:?}");
        let answer = state.query_range(request).await.unwrap().into_inner();
        assert_eq!(answer.tier(), tier, "{asked}");
        assert_eq!(answer.start, time(start), "{asked}");
        assert_eq!(answer.series.len(), 1, "{asked}");
        assert_eq!(answer.series[0].values, expected, "{asked}");
        answer
    };
    use v1::Aggregate::{Count, Increase, Last, Max, Mean, P95, Rate, Unspecified};
    use v1::Tier::{Raw, Tier1m};
    check(request(cpu, Some(60_000), Mean), Tier1m, &[29.5; 10]).await;
    check(request(cpu, Some(60_000), Max), Tier1m, &[59.0; 10]).await;
    check(request(cpu, Some(300_000), Count), Tier1m, &[300.0; 2]).await;
    check(request(cpu, Some(60_000), P95), Raw, &[56.05; 10]).await;
    let expected: Vec<f64> = (0..20).map(|i| f64::from(i * 30 % 60 + 29)).collect();
    check(request(cpu, Some(30_000), Last), Raw, &expected).await;
    let answer = check(request(net, Some(60_000), Unspecified), Tier1m, &[10.0; 10]).await;
    assert_eq!(answer.aggregate(), Rate);
    assert!(answer.series[0].min.is_empty(), "a counter has no band");
    let mut expected = [600.0; 10];
    expected[0] = 590.0;
    check(request(net, Some(60_000), Increase), Tier1m, &expected).await;
    let expected: Vec<f64> = (0..300).map(|i| f64::from(i * 2 % 60) + 0.5).collect();
    let answer = check(request(cpu, None, Unspecified), Raw, &expected).await;
    assert_eq!(answer.step, Some(convert::duration_from_ms(2000)));
    assert_eq!(answer.series[0].host_name, "web-1");
    assert_eq!(answer.series[0].max[0], 1.0);
    cluster.stop().await;
}

#[tokio::test]
async fn a_range_whose_raw_values_are_all_gone_is_answered_from_roll_ups() {
    const HOUR_MS: i64 = 3_600_000;
    let cluster = Cluster::start().await;
    let start = now().floor(HOUR_MS) - 72 * HOUR_MS;
    let frame = |minute: i64| {
        let time = start + minute * 60_000;
        let values = vec![minute as f64, 0.5, 0.0];
        let frame = Frame { time, layout: layout().id(), values };
        Item { seq: minute as u64 + 1, payload: Payload::Frame(frame) }
    };
    let history = &cluster.stores.history;
    let delivery = Delivery {
        machine: machine_id(1),
        epoch: SpoolEpoch(1),
        received: start,
        layouts: vec![layout()],
        items: (0..60).map(frame).collect(),
    };
    history.append(vec![delivery]).await.unwrap();
    for later in [start + 2 * HOUR_MS, start + 3 * HOUR_MS, now()] {
        while history.maintain(later).await.unwrap() != Default::default() {}
    }
    assert_eq!(history.usage().await.unwrap().raw_since, None);
    let cluster = cluster.restart().await;
    let request = v1::QueryRangeRequest {
        metric: metric::CPU_UTILIZATION.name.into(),
        start: time(start),
        end: time(start + HOUR_MS),
        step: Some(convert::duration_from_ms(HOUR_MS)),
        aggregate: v1::Aggregate::P95.into(),
        ..Default::default()
    };
    let answer = cluster.state().await.query_range(request).await.unwrap().into_inner();
    assert_eq!(answer.tier(), v1::Tier::Tier1h);
    assert_eq!(answer.series[0].values, [29.5]);
    cluster.stop().await;
}

#[tokio::test]
async fn a_range_is_narrowed_to_machines_and_labels() {
    let cluster = Cluster::start().await;
    let mut web = cluster.collector(1, "web-1").await;
    let mut db = cluster.collector(2, "db-1").await;
    let start = ten_minutes(&mut web).await;
    ten_minutes(&mut db).await;
    let mut state = cluster.state().await;
    let mut hosts = async |machines: &[(&str, &str)], labels: &[(&str, &str)]| {
        let matchers = |pairs: &[(&str, &str)]| {
            let one = |&(name, value): &(&str, &str)| v1::LabelMatcher {
                name: name.into(),
                value: value.into(),
                op: v1::label_matcher::Op::Glob.into(),
            };
            pairs.iter().map(one).collect()
        };
        let request = v1::QueryRangeRequest {
            metric: metric::NETWORK_IO.name.into(),
            start: time(start),
            end: time(start + 600_000),
            machines: matchers(machines),
            labels: matchers(labels),
            ..Default::default()
        };
        let answer = state.query_range(request).await.unwrap().into_inner();
        answer.series.into_iter().map(|s| s.host_name).collect::<Vec<_>>()
    };
    assert_eq!(hosts(&[], &[]).await, ["web-1", "db-1"]);
    assert_eq!(hosts(&[("host.name", "db-*")], &[]).await, ["db-1"]);
    assert_eq!(hosts(&[("env", "prod")], &[]).await, [""; 0]);
    assert_eq!(hosts(&[], &[("network.interface.name", "eth?")]).await.len(), 2);
    assert_eq!(hosts(&[], &[("network.interface.name", "wlan0")]).await, [""; 0]);
    cluster.stop().await;
}

#[tokio::test]
async fn the_current_state_has_every_series_with_its_unit_and_rate() {
    let cluster = Cluster::start().await;
    let mut web = cluster.collector(1, "web-1").await;
    web.layout(&layout()).await;
    let start = now();
    web.frame_at(&layout(), start - 1000, &[0.5, 0.25, 1000.0]).await;
    let seq = web.frame_at(&layout(), start, &[0.75, 0.25, 1500.0]).await;
    web.acknowledged(seq).await;
    let mut state = cluster.state().await;
    let mut samples = async |metrics: &[&str]| {
        let metrics = metrics.iter().map(|&m| m.to_owned()).collect();
        let request = v1::GetCurrentStateRequest { machine: "web-1".into(), metrics };
        let answer = state.get_current_state(request).await.unwrap().into_inner();
        let sample = |s: v1::Sample| (s.metric, s.value, s.unit, s.rate);
        answer.samples.into_iter().map(sample).collect::<Vec<_>>()
    };
    let cpu = ("system.cpu.utilization".to_owned(), 0.75, "1".to_owned(), None);
    let memory = ("system.memory.utilization".to_owned(), 0.25, "1".to_owned(), None);
    let net = ("system.network.io".to_owned(), 1500.0, "By".to_owned(), Some(500.0));
    assert_eq!(samples(&[]).await, [cpu.clone(), memory, net.clone()]);
    assert_eq!(samples(&["system.net*", "system.cpu.utilization"]).await, [cpu, net]);
    assert_eq!(samples(&["nothing"]).await, []);
    cluster.stop().await;
}

#[tokio::test]
async fn processes_are_answered_for_now_and_for_a_moment_in_the_past() {
    let cluster = Cluster::start().await;
    let mut web = cluster.collector(1, "web-1").await;
    let start = now() - 60_000;
    let mut last = 0;
    for i in 0..3 {
        let name = format!("burn-{i}");
        let report = v1::ProcessReport {
            time_unix_ms: (start + i * 10_000).0,
            processes: vec![v1::Process { pid: 7, name, ..Default::default() }],
            total: 100,
            ..Default::default()
        };
        last = web.item(Message::ProcessReport(report)).await;
    }
    web.acknowledged(last).await;
    let mut state = cluster.state().await;
    let mut at = async |at: Option<UnixMillis>| {
        let at = at.and_then(time);
        let request = v1::ListProcessesRequest { machine: "web-1".into(), at };
        let answer = state.list_processes(request).await.unwrap().into_inner();
        answer.processes.into_iter().map(|p| p.name).collect::<Vec<_>>()
    };
    assert_eq!(at(None).await, ["burn-2"]);
    assert_eq!(at(Some(start + 15_000)).await, ["burn-1"]);
    assert_eq!(at(Some(start - 1)).await, [""; 0]);
    // After a restart there is only the past to tell.
    let cluster = cluster.restart().await;
    let request = v1::ListProcessesRequest { machine: "web-1".into(), at: None };
    let answer = cluster.state().await.list_processes(request).await.unwrap().into_inner();
    assert_eq!(answer.processes[0].name, "burn-2");
    cluster.stop().await;
}

#[tokio::test]
async fn events_and_gaps_are_answered_newest_first() {
    let cluster = Cluster::start().await;
    let mut web = cluster.collector(1, "web-1").await;
    let reboot = v1::MachineEvent {
        time_unix_ms: (now() - 5000).0,
        r#type: v1::machine_event::Type::Reboot.into(),
        detail: "boot id changed".into(),
        ..Default::default()
    };
    web.item(Message::MachineEvent(reboot)).await;
    let gap = v1::Gap {
        first_seq: 100,
        last_seq: 200,
        first_time_unix_ms: (now() - 4000).0,
        last_time_unix_ms: (now() - 3000).0,
        reason: v1::gap::Reason::SpoolFull.into(),
        detail: "spool bound reached".into(),
    };
    let seq = web.item(Message::Gap(gap)).await;
    web.acknowledged(seq).await;
    let mut state = cluster.state().await;
    let request = v1::ListEventsRequest { machine: "web-1".into(), ..Default::default() };
    let events = state.list_events(request.clone()).await.unwrap().into_inner().events;
    let details: Vec<_> = events
        .into_iter()
        .map(|event| match event.kind.unwrap() {
            v1::recorded_event::Kind::Event(event) => event.detail,
            v1::recorded_event::Kind::Gap(gap) => gap.detail,
        })
        .collect();
    assert_eq!(details, ["spool bound reached", "boot id changed"]);
    let one = v1::ListEventsRequest { limit: 1, ..request };
    assert_eq!(state.list_events(one).await.unwrap().into_inner().events.len(), 1);
    cluster.stop().await;
}

#[tokio::test]
async fn a_question_that_makes_no_sense_is_refused_with_its_field() {
    let cluster = Cluster::start().await;
    let _web = cluster.collector(1, "web-1").await;
    let mut state = cluster.state().await;
    let id = machine_id(1).to_string();
    let refused = |status: Option<tonic::Status>, code: Code, field: &str| {
        let status = status.unwrap_or_else(|| panic!("{field} was accepted"));
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().starts_with(field), "{status}, not {field}");
    };
    for (machine, code) in [("", Code::InvalidArgument), ("nobody", Code::NotFound)] {
        let request = v1::GetMachineRequest { machine: machine.into() };
        refused(state.get_machine(request).await.err(), code, "machine: ");
    }
    let metrics = vec!["a*b".into()];
    let request = v1::GetCurrentStateRequest { machine: id.clone(), metrics };
    refused(state.get_current_state(request).await.err(), Code::InvalidArgument, "metrics[0]: ");

    let matchers = vec![v1::LabelMatcher::default()];
    let request = v1::ListMachinesRequest { matchers };
    refused(state.list_machines(request).await.err(), Code::InvalidArgument, "matchers[0].name: ");
    let lookback = Some(convert::duration_from_ms(300_001));
    let request = v1::StreamMetricsRequest { machine: id.clone(), lookback, ..Default::default() };
    refused(state.stream_metrics(request).await.err(), Code::InvalidArgument, "lookback: ");
    let interval = Some(convert::duration_from_ms(199));
    let request = v1::WatchRequest { interval, ..Default::default() };
    refused(state.watch(request).await.err(), Code::InvalidArgument, "interval: ");
    let request = v1::ListEventsRequest { machine: id, limit: 1001, ..Default::default() };
    refused(state.list_events(request).await.err(), Code::InvalidArgument, "limit: ");

    let good = v1::QueryRangeRequest {
        metric: "m".into(),
        start: time(now() - 3_600_000),
        end: time(now()),
        ..Default::default()
    };
    let step = |ms| Some(convert::duration_from_ms(ms));
    let bad = [
        (v1::QueryRangeRequest { metric: String::new(), ..good.clone() }, "metric: "),
        (v1::QueryRangeRequest { start: None, ..good.clone() }, "start: "),
        (v1::QueryRangeRequest { end: None, ..good.clone() }, "end: "),
        (v1::QueryRangeRequest { end: good.start, ..good.clone() }, "end: "),
        (v1::QueryRangeRequest { step: step(99), ..good.clone() }, "step: "),
        (v1::QueryRangeRequest { step: step(100), ..good.clone() }, "step: "),
        (v1::QueryRangeRequest { aggregate: 99, ..good.clone() }, "aggregate: "),
    ];
    for (request, field) in bad {
        refused(state.query_range(request).await.err(), Code::InvalidArgument, field);
    }
    cluster.stop().await;
}
