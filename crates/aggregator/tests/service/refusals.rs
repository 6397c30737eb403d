//! What breaks the contract is refused by name, and disturbs nobody.

use model::limits;
use proto::v1::collector_message::Kind as Message;
use proto::v1::reject::Reason;
use proto::{convert, v1};
use tonic::Code;

use crate::cluster::{Cluster, now};
use crate::collector::{Collector, frame, layout, wide_layout};

#[tokio::test]
async fn a_bad_item_is_refused_with_its_field_and_the_stream_goes_on() {
    let cluster = Cluster::start().await;
    let mut web = cluster.collector(1, "web-1").await;
    let mut other = cluster.collector(2, "web-2").await;
    let known = layout();
    web.layout(&known).await;
    other.layout(&known).await;

    let fine = || frame(&known, now(), &[0.5, 0.5, 1.0]);
    let day_ms = 24 * 60 * 60 * 1000;
    let log = |count: usize| v1::LogBatch {
        events: vec![v1::LogEvent { time_unix_ms: now().0, ..Default::default() }; count],
    };
    let event = v1::MachineEvent { time_unix_ms: now().0, ..Default::default() };
    let gap = v1::Gap { first_seq: 9, last_seq: 3, reason: 1, ..Default::default() };
    let report =
        |processes| v1::ProcessReport { time_unix_ms: now().0, processes, ..Default::default() };
    let long = v1::Process { command_line: "x".repeat(1025), ..Default::default() };
    let bad = [
        (Message::Frame(frame(&known, now(), &[0.5])), Reason::Invalid, "frame.values: expected 3"),
        (
            Message::Frame(v1::Frame { layout_id: vec![1; 16], ..fine() }),
            Reason::UnknownLayout,
            "frame.layout_id: ",
        ),
        (
            Message::Frame(v1::Frame { layout_id: vec![1; 3], ..fine() }),
            Reason::Invalid,
            "frame.layout_id: expected 16 bytes, found 3",
        ),
        (
            Message::Frame(v1::Frame { time_unix_ms: now().0 - 8 * day_ms, ..fine() }),
            Reason::TooOld,
            "frame.time_unix_ms: ",
        ),
        (
            Message::Frame(v1::Frame { time_unix_ms: now().0 + 700_000, ..fine() }),
            Reason::TooNew,
            "frame.time_unix_ms: ",
        ),
        (Message::LogBatch(log(0)), Reason::Invalid, "log_batch.events: expected 1 to"),
        (
            Message::LogBatch(v1::LogBatch {
                events: vec![v1::LogEvent { severity_number: 25, ..Default::default() }],
            }),
            Reason::Invalid,
            "log_batch.events[0].severity_number: ",
        ),
        (Message::MachineEvent(event), Reason::Invalid, "machine_event.type: "),
        (Message::Gap(gap), Reason::Invalid, "gap.last_seq: "),
        (
            Message::ProcessReport(report(vec![long])),
            Reason::Invalid,
            "process_report.processes[0].command_line: ",
        ),
        (
            Message::ProcessReport(v1::ProcessReport { time_unix_ms: 0, ..report(vec![]) }),
            Reason::TooOld,
            "process_report.time_unix_ms: ",
        ),
    ];
    for (message, reason, field) in bad {
        let seq = web.item(message).await;
        let reject = web.reject().await;
        assert_eq!(reject.reason(), reason, "{reject:?}");
        assert!(reject.message.starts_with(field), "{reject:?}, not {field}");
        assert_eq!(reject.retry, reason == Reason::UnknownLayout, "{reject:?}");
        assert_eq!(reject.ranges, [v1::SeqRange { first: seq, last: seq }]);
        let seq = other.frame(&known, &[0.1, 0.1, 1.0]).await;
        other.acknowledged(seq).await;
    }
    web.say(0, Message::Frame(fine())).await;
    let reject = web.reject().await;
    assert_eq!((reject.message.starts_with("seq: "), reject.ranges), (true, vec![]));

    let seq = web.item(Message::Frame(fine())).await;
    web.acknowledged(seq).await;
    let refused = r#"muster_aggregator_rejected_items_total{reason="invalid"}"#;
    assert_eq!(cluster.metric(refused), 8.0);
    cluster.stop().await;
}

#[tokio::test]
async fn a_bad_layout_is_refused_with_its_place() {
    let cluster = Cluster::start().await;
    let mut web = cluster.collector(1, "web-1").await;
    let good = convert::layout_to_proto(&layout());
    let twice =
        v1::Layout { series: vec![good.series[0].clone(), good.series[0].clone()], ..good.clone() };
    let unnamed = v1::Layout {
        series: vec![v1::SeriesDescriptor { metric: "a b".into(), ..good.series[0].clone() }],
        ..good.clone()
    };
    let kindless = v1::Layout {
        series: vec![v1::SeriesDescriptor { kind: 0, ..good.series[0].clone() }],
        ..good.clone()
    };
    let bad = [
        (v1::Layout { id: vec![0; 16], ..good.clone() }, "layout.id: expected "),
        (v1::Layout { id: vec![], ..good.clone() }, "layout.id: expected 16 bytes"),
        (twice, "layout.series: series[1]: "),
        (unnamed, "layout.series: series[0].metric: "),
        (kindless, "layout.series[0].kind: "),
        (v1::Layout { series: vec![], ..good.clone() }, "layout.series: a layout needs"),
    ];
    for (layout, field) in bad {
        web.say(0, Message::Layout(layout)).await;
        let reject = web.reject().await;
        assert_eq!(reject.reason(), Reason::Invalid);
        assert!(reject.message.starts_with(field), "{reject:?}, not {field}");
        assert_eq!(reject.ranges, []);
    }
    web.say(0, Message::Layout(good)).await;
    let seq = web.frame(&layout(), &[0.5, 0.5, 1.0]).await;
    web.acknowledged(seq).await;
    cluster.stop().await;
}

#[tokio::test]
async fn the_series_of_one_machine_are_limited() {
    let cluster = Cluster::start().await;
    let mut web = cluster.collector(1, "web-1").await;
    web.layout(&wide_layout(limits::SERIES_PER_MACHINE_MAX)).await;
    web.layout(&layout()).await;
    let reject = web.reject().await;
    assert_eq!(reject.reason(), Reason::Limit, "{reject:?}");
    assert!(reject.message.starts_with("layout.series: "), "{reject:?}");
    // Another machine has its own limit.
    let mut other = cluster.collector(2, "web-2").await;
    other.layout(&layout()).await;
    let seq = other.frame(&layout(), &[0.5, 0.5, 1.0]).await;
    other.acknowledged(seq).await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_stream_that_does_not_begin_with_a_good_hello_is_ended_with_the_reason() {
    let cluster = Cluster::start().await;
    type Case = (fn(&Collector) -> Message, Code, &'static str);
    let cases: [Case; 4] = [
        (
            |_| Message::Frame(frame(&layout(), now(), &[0.0; 3])),
            Code::InvalidArgument,
            "kind: expected hello",
        ),
        (
            |c| Message::Hello(v1::Hello { protocol_version: 9, ..c.greeting() }),
            Code::FailedPrecondition,
            "hello.protocol_version: ",
        ),
        (
            |c| Message::Hello(v1::Hello { machine_id: "web".into(), ..c.greeting() }),
            Code::InvalidArgument,
            "hello.machine_id: ",
        ),
        (
            |c| {
                let labels = [("env".to_owned(), "x".repeat(1025))].into();
                Message::Hello(v1::Hello { labels, ..c.greeting() })
            },
            Code::InvalidArgument,
            "hello.labels: ",
        ),
    ];
    for (message, code, field) in cases {
        let mut collector = cluster.silent_collector(1, "web-1").await;
        let message = message(&collector);
        collector.say(1, message).await;
        let status = collector.end().await.expect("not a good end");
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().starts_with(field), "{status}");
    }
    let mut twice = cluster.collector(1, "web-1").await;
    twice.hello().await;
    let status = twice.end().await.expect("not a good end");
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    cluster.stop().await;
}

#[tokio::test]
async fn a_message_over_the_limit_ends_only_its_own_stream() {
    let cluster = Cluster::start().await;
    let mut web = cluster.collector(1, "web-1").await;
    let mut other = cluster.collector(2, "web-2").await;
    let values = vec![0.25; limits::MESSAGE_BYTES_MAX / 8 + 1];
    let huge = v1::Frame { time_unix_ms: now().0, layout_id: vec![0; 16], values };
    web.item(Message::Frame(huge)).await;
    let status = web.end().await.expect("not a good end");
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    other.layout(&layout()).await;
    let seq = other.frame(&layout(), &[0.5, 0.5, 1.0]).await;
    other.acknowledged(seq).await;
    cluster.stop().await;
}
