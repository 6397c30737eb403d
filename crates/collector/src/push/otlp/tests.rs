//! The real SDK of OpenTelemetry as the client, over real sockets.

use std::collections::BTreeMap;

use opentelemetry::KeyValue;
use opentelemetry::logs::{AnyValue, LogRecord as _, Logger as _, LoggerProvider as _, Severity};
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_otlp::{Compression, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::{SdkMeterProvider, Temporality};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::CollectorStats;
use crate::logs::LogBatch;

const PATIENCE: Duration = Duration::from_secs(60);

struct Desk {
    address: SocketAddr,
    metrics: mpsc::Receiver<Metrics>,
    logs: mpsc::Receiver<LogBatch>,
    stats: Arc<CollectorStats>,
    _stop: tokio_util::sync::DropGuard,
}

/// At a desk where everything is kept at once.
fn start() -> Desk {
    let mut desk = start_unkept();
    let (sender, kept) = mpsc::channel(4);
    let mut logs = std::mem::replace(&mut desk.logs, kept);
    tokio::spawn(async move {
        while let Some(mut batch) = logs.recv().await {
            if let Some(kept) = batch.kept.take() {
                kept.send(()).expect("waited for");
            }
            sender.send(batch).await.expect("a test that reads");
        }
    });
    desk
}

fn start_unkept() -> Desk {
    start_with(0)
}

fn start_with(events_per_second_max: u32) -> Desk {
    let listener = bind("otlp", ([127, 0, 0, 1], 0).into()).expect("bound");
    let address = listener.local_addr().expect("an address");
    let stats = Arc::new(CollectorStats::default());
    let (sender, logs) = mpsc::channel(4);
    let inlet = Inlet::for_tests(sender, 100, events_per_second_max, Arc::clone(&stats));
    let (metrics_sender, metrics) = mpsc::channel(REQUESTS_MAX);
    let stop = CancellationToken::new();
    let turns = Arc::new(tokio::sync::Semaphore::new(AT_ONCE_MAX));
    let otlp = Otlp { metrics: metrics_sender, logs: Arc::new(inlet), turns };
    tokio::spawn(otlp.run(listener, stop.clone()));
    Desk { address, metrics, logs, stats, _stop: stop.drop_guard() }
}

fn resource() -> Resource {
    Resource::builder().with_service_name("shop").build()
}

impl Desk {
    fn meters(&self, temporality: Temporality, packed: bool) -> SdkMeterProvider {
        let exporter = opentelemetry_otlp::MetricExporter::builder()
            .with_tonic()
            .with_endpoint(format!("http://{}", self.address))
            .with_temporality(temporality);
        let exporter = match packed {
            true => exporter.with_compression(Compression::Gzip),
            false => exporter,
        };
        let exporter = exporter.build().expect("an exporter");
        SdkMeterProvider::builder()
            .with_periodic_exporter(exporter)
            .with_resource(resource())
            .build()
    }

    /// Takes the next request in, and gives the series as a server would see them at the second frame.
    async fn values(&mut self, tally: &mut Tally) -> BTreeMap<String, f64> {
        let request = tokio::time::timeout(PATIENCE, self.metrics.recv()).await;
        let now = Instant::now();
        let unanswered = request.expect("in time").expect("it runs").take_in(tally, now);
        let mut values = BTreeMap::new();
        for _ in 0..2 {
            let batch = tally.frames(model::UnixMillis(1_795_208_400_000), now);
            for (payload, layout) in batch.payloads.iter().zip(&batch.layouts) {
                let model::Payload::Frame(frame) = payload else { panic!("{payload:?}") };
                let series = layout.series().iter().map(ToString::to_string);
                values.extend(series.zip(frame.values.clone()));
            }
        }
        unanswered.answer();
        values
    }

    /// Status and body.
    async fn post(&self, path: &str, headers: &str, body: &[u8]) -> (u16, String) {
        post(self.address, path, headers, body).await
    }
}

pub(in crate::push) async fn post(
    address: SocketAddr,
    path: &str,
    headers: &str,
    body: &[u8],
) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).await.expect("sent");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.get(9..12).and_then(|code| code.parse().ok()).expect("a status line");
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_of_the_real_sdk_become_series() {
    for (temporality, packed) in [(Temporality::Cumulative, false), (Temporality::Delta, true)] {
        let mut desk = start();
        let provider = desk.meters(temporality, packed);
        let meter = provider.meter("checkout");
        let paid = [KeyValue::new("currency", "EUR")];
        let orders = meter.u64_counter("shop.orders").with_unit("{order}").build();
        orders.add(3, &paid);
        orders.add(2, &paid);
        meter.i64_up_down_counter("shop.carts").build().add(-4, &[]);
        meter.f64_gauge("shop.queue-depth").build().record(1.5, &[]);
        let histogram = meter.f64_histogram("shop.latency").with_unit("s");
        let histogram = histogram.with_boundaries(vec![0.1, 1.0]).build();
        [0.05, 0.5, 0.7, 3.0].into_iter().for_each(|value| histogram.record(value, &[]));
        let flushing = tokio::task::spawn_blocking(move || provider.force_flush());
        let mut tally = Tally::new(100, Instant::now());
        let values = desk.values(&mut tally).await;
        flushing.await.expect("no panic").expect("exported");
        let of = |name: &str| *values.get(name).unwrap_or_else(|| panic!("{name}: {values:?}"));
        assert_eq!(of(r#"shop.orders{currency="EUR", service.name="shop"}"#), 5.0);
        assert_eq!(of(r#"shop.carts{service.name="shop"}"#), -4.0);
        assert_eq!(of(r#"shop.queue_depth{service.name="shop"}"#), 1.5);
        assert_eq!(of(r#"shop.latency.count{service.name="shop"}"#), 4.0);
        assert_eq!(of(r#"shop.latency.sum{service.name="shop"}"#), 4.25);
        assert_eq!(of(r#"shop.latency.bucket{le="0.1", service.name="shop"}"#), 1.0);
        assert_eq!(of(r#"shop.latency.bucket{le="1", service.name="shop"}"#), 3.0);
        assert_eq!(of(r#"shop.latency.bucket{le="+Inf", service.name="shop"}"#), 4.0);
        assert_eq!(tally.take_refused(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_of_the_real_sdk_become_events() {
    let mut desk = start();
    let exporter = opentelemetry_otlp::LogExporter::builder()
        .with_tonic()
        .with_endpoint(format!("http://{}", desk.address))
        .with_compression(Compression::Gzip)
        .build()
        .expect("an exporter");
    let provider = SdkLoggerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource())
        .build();
    let logger = provider.logger("shop.checkout");
    let mut record = logger.create_log_record();
    record.set_severity_number(Severity::Error2);
    record.set_severity_text("ERROR");
    record.set_body(AnyValue::from("INFO order 17 lost, password=hunter2 \u{1b}[31m!"));
    record.add_attribute("order.id", 17);
    record.add_attribute("password", "hunter2");
    logger.emit(record);
    let flushing = tokio::task::spawn_blocking(move || provider.force_flush());
    let batch = tokio::time::timeout(PATIENCE, desk.logs.recv()).await;
    let events = batch.expect("in time").expect("it runs").events;
    flushing.await.expect("no panic").expect("exported");
    let [event] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((&*event.service, event.severity.number()), ("shop", 18), "as it was told");
    assert_eq!(event.body, "INFO order 17 lost, password=*** !");
    assert_eq!(event.attributes.get("order.id"), "17");
    assert_eq!(event.attributes.get("password"), "***");
    assert_eq!(event.attributes.get("otel.scope.name"), "shop.checkout");
    assert_eq!(event.source, "otlp");
}

fn one_log() -> Vec<u8> {
    let body = wire::AnyValue { value: Some(wire::Any::Text("hello".to_owned())) };
    let record = wire::LogRecord { body: Some(body), ..Default::default() };
    let scope = wire::ScopeLogs { scope: None, log_records: vec![record.encode_to_vec().into()] };
    let resource = wire::ResourceLogs { resource: None, scope_logs: vec![scope] };
    ExportLogsRequest { resource_logs: vec![resource] }.encode_to_vec()
}

#[tokio::test]
async fn http_takes_protobuf_packed_or_not_and_says_what_is_wrong_otherwise() {
    const KIND: &str = "content-type: application/x-protobuf\r\n";
    let mut desk = start();
    assert_eq!(desk.post("/v1/logs", KIND, &one_log()).await.0, 200);
    let batch = desk.logs.recv().await.expect("it runs");
    assert_eq!((&*batch.events[0].body, &*batch.events[0].service), ("hello", "unknown_service"));
    let gzip = format!("{KIND}content-encoding: gzip\r\n");
    assert_eq!(desk.post("/v1/logs", &gzip, &packed(&one_log())).await.0, 200);
    desk.logs.recv().await.expect("it runs");

    let refused = async |path: &str, headers: &str, body: &[u8], code: u16, why: &str| {
        let (status, said) = desk.post(path, headers, body).await;
        assert!(status == code && said.contains(why), "{path} {headers:?}: {status} {said}");
    };
    refused("/v1/logs", KIND, b"\xff\xff\xff", 400, "a message of OTLP").await;
    refused("/v1/logs", "content-type: text/plain\r\n", b"{}", 415, "application/json").await;
    refused("/v1/logs", &gzip, b"no gzip", 400, "gzip").await;
    // Four kilobytes that would be four megabytes and more.
    refused("/v1/logs", &gzip, &packed(&vec![0; REQUEST_BYTES_MAX + 1]), 400, "4 MiB").await;
    refused("/v1/logs", KIND, &vec![0; REQUEST_BYTES_MAX + 1], 413, "4 MiB").await;
    refused("/v1/traces", KIND, b"", 404, "logs and metrics").await;
    let page = format!("{KIND}origin: http://evil.example\r\n");
    refused("/v1/logs", &page, &one_log(), 403, "pages").await;
    // The server is away and the spool half full.
    desk.stats.set_spool_bytes(101);
    refused("/v1/logs", KIND, &one_log(), 503, "try again later").await;
    assert!(desk.logs.try_recv().is_err(), "nothing of these was taken");
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("packed");
    encoder.finish().expect("packed")
}

#[tokio::test]
async fn http_takes_json_and_answers_in_it() {
    const KIND: &str = "content-type: application/json; charset=utf-8\r\n";
    let mut desk = start();
    let log = br#"{"resourceLogs": [{"resource": {"attributes": [{"key": "service.name",
        "value": {"stringValue": "shop"}}]}, "scopeLogs": [{"logRecords": [{"severityNumber": 17,
        "timeUnixNano": "1795208400000000000", "body": {"stringValue": "lost <b>"},
        "traceId": "5b8efff798038103d269b633813fc60c"}]}]}]}"#;
    assert_eq!(desk.post("/v1/logs", KIND, log).await, (200, "{}".to_owned()));
    let gzip = format!("{KIND}content-encoding: gzip\r\n");
    assert_eq!(desk.post("/v1/logs", &gzip, &packed(log)).await.0, 200);
    for _ in 0..2 {
        let batch = desk.logs.recv().await.expect("it runs");
        let [event] = batch.events.as_slice() else { panic!("{batch:?}") };
        assert_eq!((&*event.service, &*event.body), ("shop", "lost <b>"));
        assert_eq!(event.severity.number(), 17);
        let trace = event.attributes.get("trace_id");
        assert_eq!(trace, "5b8efff798038103d269b633813fc60c");
    }

    let metric = br#"{"resourceMetrics": [{"scopeMetrics": [{"metrics": [
        {"name": "muster.forged", "gauge": {"dataPoints": [{"asInt": "1"}]}},
        {"name": "jobs", "gauge": {"dataPoints": [{"asInt": "7"}]}}]}]}]}"#;
    let mut tally = Tally::new(100, Instant::now());
    let mut metrics = std::mem::replace(&mut desk.metrics, mpsc::channel(1).1);
    let taking = tokio::spawn(async move {
        let request = metrics.recv().await.expect("it runs");
        request.take_in(&mut tally, Instant::now()).answer();
        tally.series()
    });
    let (status, said) = desk.post("/v1/metrics", KIND, metric).await;
    assert_eq!((status, taking.await.expect("no panic")), (200, 1));
    assert!(
        said.contains(r#""rejectedDataPoints":"1""#) && said.contains("muster.forged"),
        "{said}"
    );

    let refused = async |headers: &str, body: &[u8], code: u16, why: &str| {
        let (status, said) = desk.post("/v1/logs", headers, body).await;
        let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        let message = said["message"].as_str().expect("a message");
        assert!(status == code && message.contains(why), "{status} {message}");
    };
    refused(KIND, br#"{"resourceLogs": 7}"#, 400, "a message of OTLP").await;
    refused(KIND, b"\x00", 400, "a message of OTLP").await;
    refused(KIND, &b"[".repeat(100_000), 400, "a message of OTLP").await;
    refused(&gzip, &packed(&vec![b' '; REQUEST_BYTES_MAX + 1]), 400, "4 MiB").await;
    desk.stats.set_spool_bytes(101);
    refused(KIND, log, 503, "try again later").await;
    assert!(desk.logs.try_recv().is_err(), "nothing of these was taken");
}

#[tokio::test]
async fn what_is_packed_by_grpc_is_bounded_unpacked() {
    let desk = start();
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", desk.address));
    let channel = channel.expect("an address").connect().await.expect("connects");
    let mut client = tonic::client::Grpc::new(channel).send_compressed(CompressionEncoding::Gzip);
    client.ready().await.expect("ready");
    let scope =
        wire::ScopeLogs { scope: None, log_records: vec![vec![0; REQUEST_BYTES_MAX].into()] };
    let resource = wire::ResourceLogs { resource: None, scope_logs: vec![scope] };
    let request = ExportLogsRequest { resource_logs: vec![resource] };
    let codec = ProstCodec::<ExportLogsRequest, ExportResponse>::default();
    let path = http::uri::PathAndQuery::from_static(LOGS_CALL);
    let answer = client.unary(tonic::Request::new(request), path, codec).await;
    let status = answer.expect_err("more than 4 MiB unpacked");
    assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status}");
}

#[tokio::test]
async fn logs_are_answered_when_they_are_in_the_spool() {
    const KIND: &str = "content-type: application/json\r\n";
    let mut desk = start_unkept();
    let record = format!(r#"{{"body":{{"stringValue":"{}"}}}}"#, "x".repeat(1_000));
    // More than fits into one batch.
    let records = vec![record; 1_000].join(",");
    let request = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{records}]}}]}}]}}"#);
    for is_kept in [true, false] {
        let logs = &mut desk.logs;
        let asking = post(desk.address, "/v1/logs", KIND, request.as_bytes());
        let keeping = async {
            let mut events = 0;
            loop {
                let batch = logs.recv().await.expect("it runs");
                events += batch.events.len();
                if let Some(kept) = batch.kept {
                    return (events, kept);
                }
            }
        };
        tokio::pin!(asking, keeping);
        let (events, kept) = tokio::select! {
            answer = &mut asking => panic!("answered before it was kept: {answer:?}"),
            kept = &mut keeping => kept,
        };
        assert_eq!(events, 1_000);
        match is_kept {
            true => kept.send(()).expect("waited for"),
            false => drop(kept),
        }
        assert_eq!(asking.await.0, if is_kept { 200 } else { 503 });
    }
}

#[tokio::test]
async fn what_came_faster_than_it_may_is_told_in_the_answer() {
    let mut desk = start_with(1);
    let records = vec![r#"{"body":{"stringValue":"again"}}"#; 15].join(",");
    let request = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{records}]}}]}}]}}"#);
    let kind = "content-type: application/json\r\n";
    let asking = post(desk.address, "/v1/logs", kind, request.as_bytes());
    let keeping = async {
        let batch = desk.logs.recv().await.expect("it runs");
        batch.kept.expect("waited for").send(()).expect("waited for");
        batch.events.len()
    };
    let ((status, said), events) = tokio::join!(asking, keeping);
    assert_eq!(
        (status, events),
        (200, 11),
        "ten seconds' worth, and a line that tells of the rest"
    );
    assert!(
        said.contains(r#""rejectedLogRecords":"5""#) && said.contains("events_per_second_max"),
        "{said}"
    );
}

#[test]
fn no_request_makes_it_panic_and_what_is_refused_is_told() {
    let number = |value| wire::NumberPoint { value, ..Default::default() };
    let metric =
        |name: &str, points| wire::Metric { name: name.to_owned(), unit: String::new(), points };
    let sum = |points| wire::Sum { data_points: points, temporality: 1, is_monotonic: true };
    let backwards = sum(vec![number(Some(wire::Number::Double(-1.0))), number(None)]);
    let odd = wire::HistogramPoint {
        bucket_counts: vec![u64::MAX, u64::MAX],
        explicit_bounds: vec![f64::NAN],
        ..Default::default()
    };
    let histogram = wire::Histogram { data_points: vec![odd], temporality: 0 };
    let metrics = vec![
        metric("muster.forged", None),
        metric("none", None),
        metric("backwards", Some(wire::Points::Sum(backwards))),
        metric("odd", Some(wire::Points::Histogram(histogram))),
    ];
    let scope = wire::ScopeMetrics { metrics };
    let resource = wire::ResourceMetrics { resource: None, scope_metrics: vec![scope] };
    let request = ExportMetricsRequest { resource_metrics: vec![resource] };
    let now = Instant::now();
    let mut tally = Tally::new(100, now);
    let (refused, problem) = super::metrics::take_in(&request, &mut tally, now);
    assert_eq!(refused, 3);
    assert!(problem.is_some_and(|problem| problem.contains("muster.forged")));
    tally.frames(model::UnixMillis(0), now);
}
