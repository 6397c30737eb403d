//! Log events: taken in, searched, followed, counted.

use aggregator::{Config, LevelMin, LogsConfig};
use model::{LogEvent, Severity, UnixMillis};
use proto::v1;
use proto::v1::collector_message::Kind as Message;
use proto::v1::log_service_client::LogServiceClient;
use tonic::Code;
use tonic::transport::Channel;

use crate::cluster::{Cluster, eventually, now};
use crate::collector::Collector;

fn event(time: UnixMillis, severity: u32, service: &str, body: &str) -> LogEvent {
    LogEvent {
        time,
        severity: Severity::new(severity).unwrap(),
        service: service.into(),
        body: body.into(),
        body_truncated: false,
        attributes: model::Labels::of([("http.status", "500")]),
        source: "file".into(),
    }
}

fn batch(events: &[LogEvent]) -> Message {
    Message::LogBatch(proto::convert::logs_to_proto(events))
}

async fn logs(cluster: &Cluster) -> LogServiceClient<Channel> {
    LogServiceClient::new(cluster.channel().await)
}

async fn bodies(client: &mut LogServiceClient<Channel>, query: &str) -> Vec<String> {
    let request = v1::SearchRequest { query: query.into(), ..Default::default() };
    let answer = client.search(request).await.unwrap().into_inner();
    answer.entries.into_iter().map(|entry| entry.body).collect()
}

async fn send(collector: &mut Collector, events: &[LogEvent]) {
    let seq = collector.item(batch(events)).await;
    collector.acknowledged(seq).await;
}

#[tokio::test]
async fn what_was_acknowledged_is_found_by_machine_service_level_and_word() {
    let cluster = Cluster::start().await;
    let mut web = cluster.collector(1, "web-1").await;
    let mut db = cluster.collector(2, "db-1").await;
    let start = now() - 5000;
    let refused = event(start, 17, "api", "Connection refused by 10.0.0.7");
    send(&mut web, &[refused.clone(), event(start + 1, 9, "api", "listening")]).await;
    send(&mut db, &[event(start + 2, 21, "postgres", "out of memory")]).await;
    let mut client = logs(&cluster).await;
    let all = ["out of memory", "listening", "Connection refused by 10.0.0.7"];
    assert_eq!(bodies(&mut client, "").await, all);
    assert_eq!(bodies(&mut client, "level:>=error").await, [all[0], all[2]]);
    assert_eq!(bodies(&mut client, "machine:web-*").await, [all[1], all[2]]);
    assert_eq!(bodies(&mut client, "-machine:web-1").await, [all[0]]);
    assert_eq!(bodies(&mut client, "machine:nowhere").await, [""; 0]);
    assert_eq!(bodies(&mut client, "service:api \"connection refused\"").await, [all[2]]);
    assert_eq!(bodies(&mut client, "http.status:5* -refused").await, [all[0], all[1]]);

    // The same item again, as after a lost acknowledgement, changes nothing.
    web.say(1, batch(&[refused.clone(), event(start + 1, 9, "api", "listening")])).await;
    send(&mut web, &[event(start + 3, 9, "api", "done")]).await;
    assert_eq!(bodies(&mut client, "").await.len(), 4);

    let first = v1::SearchRequest { page_size: 3, ..Default::default() };
    let page = client.search(first.clone()).await.unwrap().into_inner();
    assert_eq!(page.entries.len(), 3);
    let last = &page.entries[2];
    assert_eq!((last.host_name.as_str(), last.level.as_str()), ("web-1", "info"));
    assert_eq!(last.attributes["http.status"], "500");
    let token = page.next_page_token;
    assert_eq!(token, last.position);
    let second = v1::SearchRequest { page_token: token, ..first };
    let page = client.search(second).await.unwrap().into_inner();
    assert_eq!((page.entries.len(), page.next_page_token.as_str()), (1, ""));
    cluster.stop().await;
}

#[tokio::test]
async fn a_question_that_cannot_be_answered_is_refused_with_its_place() {
    let cluster = Cluster::start().await;
    let mut client = logs(&cluster).await;
    let mut check = async |request: v1::SearchRequest, expected: &str| {
        let status = client.search(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(expected), "{status}");
    };
    let query = |query: &str| v1::SearchRequest { query: query.into(), ..Default::default() };
    check(query("a level:eror"), "query, character 9: expected a level").await;
    check(v1::SearchRequest { page_size: 1001, ..query("") }, "page_size").await;
    check(v1::SearchRequest { page_token: "x".into(), ..query("") }, "page_token").await;
    let status =
        client.tail(v1::TailRequest { query: "\"".into(), lookback: 0 }).await.unwrap_err();
    assert!(status.message().contains("character 1"), "{status}");
    cluster.stop().await;
}

#[tokio::test]
async fn a_tail_shows_the_past_and_what_arrives_each_once() {
    let cluster = Cluster::start().await;
    let mut web = cluster.collector(1, "web-1").await;
    let mut db = cluster.collector(2, "db-1").await;
    let start = now() - 5000;
    let same = event(start, 17, "api", "same");
    send(&mut web, &[same.clone(), same.clone(), event(start, 9, "api", "left out")]).await;
    let request = v1::TailRequest { query: "level:error machine:web-1".into(), lookback: 10 };
    let mut tail = logs(&cluster).await.tail(request).await.unwrap().into_inner();
    let past = tail.message().await.unwrap().unwrap();
    assert!(past.past);
    assert_eq!(past.entries.len(), 2);
    send(&mut db, &[event(now(), 17, "api", "of another machine")]).await;
    let mut bodies = Vec::new();
    for i in 0..20 {
        send(
            &mut web,
            &[event(now(), 17, "api", &format!("new {i}")), event(now(), 5, "api", "x")],
        )
        .await;
    }
    while bodies.len() < 20 {
        let next = tail.message().await.unwrap().unwrap();
        assert_eq!((next.past, next.dropped_events), (false, 0));
        bodies.extend(next.entries.into_iter().map(|entry| entry.body));
    }
    assert_eq!(bodies, (0..20).map(|i| format!("new {i}")).collect::<Vec<_>>());
    cluster.stop().await;
}

#[tokio::test]
async fn errors_are_grouped_by_what_they_have_in_common() {
    let cluster = Cluster::start().await;
    let mut web = cluster.collector(1, "web-1").await;
    let mut db = cluster.collector(2, "db-1").await;
    for i in 0..3 {
        send(&mut web, &[event(now(), 17, "api", &format!("order {i} failed"))]).await;
    }
    send(&mut db, &[event(now(), 18, "api", "order 9 failed"), event(now(), 21, "pg", "panic")])
        .await;
    let mut client = logs(&cluster).await;
    let answer = client.error_breakdown(v1::ErrorBreakdownRequest::default()).await.unwrap();
    let answer = answer.into_inner();
    let services: Vec<_> = answer.services.iter().map(|s| (s.service.as_str(), s.count)).collect();
    assert_eq!(services, [("api", 4), ("pg", 1)]);
    let group = &answer.groups[0];
    assert_eq!((group.template.as_str(), group.count), ("order <number> failed", 4));
    assert_eq!(group.machines, ["web-1", "db-1"]);
    assert_eq!(group.counts.iter().sum::<u64>(), 4);
    assert_eq!(answer.groups[1].level, "fatal");
    let request = v1::ErrorBreakdownRequest {
        machine: "db-1".into(),
        service: "API".into(),
        ..Default::default()
    };
    let answer = client.error_breakdown(request).await.unwrap().into_inner();
    assert_eq!(
        answer.groups.iter().map(|g| (g.count, g.count_total)).collect::<Vec<_>>(),
        [(1, 4)]
    );
    cluster.stop().await;
}

#[tokio::test]
async fn log_events_are_counted_as_series_like_any_other() {
    let cluster = Cluster::start().await;
    let mut web = cluster.collector(1, "web-1").await;
    send(&mut web, &[event(now(), 17, "api", "a"), event(now(), 18, "api", "b")]).await;
    send(&mut web, &[event(now(), 9, "api", "c"), event(now(), 17, "cron", "d")]).await;
    let state = cluster.state().await;
    let counted = async || {
        let request = v1::GetCurrentStateRequest {
            machine: "web-1".into(),
            metrics: vec!["muster.log.events".into()],
        };
        let answer = state.clone().get_current_state(request).await.unwrap().into_inner();
        let of = |service: &str, severity: &str| {
            let mut samples = answer.samples.iter();
            let sample = samples
                .find(|s| s.labels["service.name"] == service && s.labels["severity"] == severity);
            sample.map(|sample| sample.value)
        };
        [of("api", "error"), of("api", "info"), of("cron", "error"), of("cron", "fatal")]
    };
    eventually("the counts are told", async || {
        (counted().await == [Some(2.0), Some(1.0), Some(1.0), Some(0.0)]).then_some(())
    })
    .await;
    // In history too, where charts find them.
    eventually("the rise is in history", async || {
        let request = v1::QueryRangeRequest {
            metric: "muster.log.events".into(),
            start: Some(proto::convert::timestamp_to_proto(now() - 60_000)),
            end: Some(proto::convert::timestamp_to_proto(now() + 60_000)),
            step: Some(proto::convert::duration_from_ms(120_000)),
            ..Default::default()
        };
        let answer = state.clone().query_range(request).await.unwrap().into_inner();
        let errors = answer.series.iter().find(|series| {
            series.labels["service.name"] == "api" && series.labels["severity"] == "error"
        });
        // A rate, so the rise from 0 is in it.
        errors.filter(|series| series.values.iter().any(|&value| value > 0.0)).map(|_| ())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test]
async fn what_is_below_the_lowest_level_is_shown_and_counted_and_not_kept() {
    let services = [("loud-*".to_owned(), LevelMin::Fatal)].into();
    let logs_config = LogsConfig { level_min: LevelMin::Info, services };
    let cluster = Cluster::start_with(Config { logs: logs_config, ..Config::default() }).await;
    let mut web = cluster.collector(1, "web-1").await;
    let mut client = logs(&cluster).await;
    let request = v1::TailRequest { query: String::new(), lookback: 0 };
    let mut tail = client.tail(request).await.unwrap().into_inner();
    // A batch of which nothing is kept is acknowledged like any other.
    send(&mut web, &[event(now(), 5, "api", "debugging")]).await;
    let events = [
        event(now(), 8, "api", "debugging still"),
        event(now(), 9, "api", "listening"),
        event(now(), 17, "loud-1", "shown, not kept"),
        event(now(), 21, "loud-1", "the end"),
        event(now(), 0, "api", "who knows"),
    ];
    send(&mut web, &events).await;
    let mut kept = bodies(&mut client, "").await;
    kept.sort();
    assert_eq!(kept, ["listening", "the end", "who knows"]);
    let mut shown = Vec::new();
    while shown.len() < 6 {
        let next = tail.message().await.unwrap().unwrap();
        shown.extend(next.entries.into_iter().map(|entry| entry.body));
    }
    shown.sort();
    let all =
        ["debugging", "debugging still", "listening", "shown, not kept", "the end", "who knows"];
    assert_eq!(shown, all);
    let state = cluster.state().await;
    let status = state.clone().get_server_status(v1::GetServerStatusRequest {}).await.unwrap();
    let flows = status.into_inner().flows;
    let filtered = flows.iter().find(|flow| flow.name == "log_events_filtered").unwrap();
    assert_eq!(filtered.total, 3);
    eventually("what is not kept is counted too", async || {
        let request = v1::GetCurrentStateRequest {
            machine: "web-1".into(),
            metrics: vec!["muster.log.events".into()],
        };
        let answer = state.clone().get_current_state(request).await.unwrap().into_inner();
        let count = |severity: &str| {
            let of_severity = answer.samples.iter().filter(|s| s.labels["severity"] == severity);
            of_severity.map(|sample| sample.value).sum::<f64>()
        };
        (count("debug") == 2.0 && count("error") == 1.0).then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test]
async fn hostile_lines_are_kept_and_change_nothing() {
    let cluster = Cluster::start().await;
    let mut web = cluster.collector(1, "web-1").await;
    let lines = [
        "nul \0 and \u{1b}[31mred\u{1b}[0m",
        "<script>alert(1)</script>",
        "{\"level\":\"fatal\",\"service\":\"forged\"}",
        "\u{202e}right to left, \u{feff} marks",
        "",
    ];
    let events: Vec<LogEvent> = lines.iter().map(|line| event(now(), 17, "api", line)).collect();
    send(&mut web, &events).await;
    // A clock ten years off, in the middle of a batch.
    let years = 10 * 365 * 24 * 3_600_000;
    send(&mut web, &[event(now() + years, 17, "api", "ahead"), event(now(), 17, "api", "right")])
        .await;
    let mut client = logs(&cluster).await;
    let mut found = bodies(&mut client, "").await;
    found.sort();
    let mut expected: Vec<&str> = lines.iter().copied().chain(["ahead", "right"]).collect();
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(bodies(&mut client, "level:fatal").await, [""; 0]);
    assert_eq!(bodies(&mut client, "muster.time.original:*").await, ["ahead"]);
    cluster.stop().await;
}
