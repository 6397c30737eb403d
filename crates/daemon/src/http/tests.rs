use std::sync::Mutex;

use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::*;
use crate::health::Health;

const LOOPBACK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn bind() -> Server {
    Server::bind(LOOPBACK).expect("a free port").with_grace(Duration::from_millis(300))
}

fn pages() -> Router {
    Router::new().route("/", get(async || "hello")).route(
        "/slow",
        get(async || {
            tokio::time::sleep(Duration::from_millis(150)).await;
            "done"
        }),
    )
}

struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

fn run(server: Server, router: Router) -> Running {
    let (address, stop) = (server.local_addr(), CancellationToken::new());
    let task = tokio::spawn(server.serve(router, stop.clone()));
    Running { address, stop, task }
}

impl Running {
    async fn send(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.expect("connects");
        stream.write_all(text.as_bytes()).await.expect("sends");
        stream
    }

    async fn get(&self, path: &str) -> String {
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        rest(self.send(&head).await).await
    }
}

/// What the server still says until it closes.
async fn rest(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut text).await;
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn a_port_in_use_is_one_clear_line_with_a_hint() {
    let first = bind();
    let error = Server::bind(first.local_addr()).expect_err("is in use");
    let report = crate::hint::report(&error);
    let expected =
        format!("error: failed to listen on {}: the port is in use\nhint: ", first.local_addr());
    assert!(report.starts_with(&expected), "{report}");
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_head_is_cut() {
    let server = run(bind().with_head_timeout(Duration::from_millis(100)), pages());
    let silent = server.send("").await;
    let half = server.send("GET / HTTP/1.1\r\nhost:").await;
    let half_preface = server.send("PRI * HT").await;
    let ended = async { (rest(silent).await, rest(half).await, rest(half_preface).await) };
    tokio::time::timeout(Duration::from_secs(5), ended).await.expect("all three are closed");
    assert!(server.get("/").await.ends_with("hello"), "others are served");
}

#[tokio::test]
async fn as_many_connections_as_allowed_are_served_and_the_next_one_waits() {
    let server = bind().with_connections_max(1);
    let mut registry = Registry::default();
    server.register(&mut registry);
    let server = run(server, pages());
    let first = server.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut byte = [0];
    assert_eq!(first.peek(&mut byte).await.expect("answers"), 1);
    let second = server.get("/");
    let mut second = pin!(second);
    let early = tokio::time::timeout(Duration::from_millis(100), second.as_mut()).await;
    assert!(early.is_err(), "the second is served while the first is open");
    drop(first);
    assert!(second.await.ends_with("hello"));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
    assert!(text.contains("http_connections_accepted_total 2"), "{text}");
}

#[tokio::test]
async fn a_call_in_progress_ends_well_and_an_endless_one_is_cut_after_the_grace_period() {
    let endless = Router::new().route("/endless", get(async || std::future::pending::<()>().await));
    let server = run(bind(), pages().merge(endless));
    let slow = server.send("GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let endless = server.send("GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await;
    // Both heads are read before the stop: an answered third call proves that the loop came past them.
    server.get("/").await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    server.stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(5), server.task).await;
    ended.expect("ends in time").expect("does not panic").expect("ends well");
    assert!(rest(slow).await.ends_with("done"));
    assert_eq!(rest(endless).await, "");
    assert!(TcpStream::connect(server.address).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn pages_health_and_grpc_share_one_port() {
    let health = Health::new("test");
    let store = health.component("store");
    let grpc = crate::grpc::services(
        tonic::service::Routes::default(),
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        &["test.Service"],
        &health,
    );
    let metrics = Arc::new(Mutex::new(Registry::default()));
    let server = run(bind(), pages().merge(health.router(metrics)).merge(grpc));

    assert!(server.get("/readyz").await.ends_with("not ready: store: starting\n"));
    assert!(server.get("/health").await.starts_with("HTTP/1.1 503"));
    store.ready();
    assert!(server.get("/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(server.get("/healthz").await.ends_with("ok\n"));
    let health_json = server.get("/health").await;
    assert!(health_json.ends_with(r#"{"status":"healthy","service":"test"}"#), "{health_json}");
    let metrics = server.get("/metrics").await;
    assert!(metrics.contains("process_resident_memory_bytes"), "{metrics}");
    assert!(metrics.contains("# EOF"), "{metrics}");
    assert!(server.get("/nowhere").await.starts_with("HTTP/1.1 404"));

    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", server.address));
    let channel = endpoint.expect("a url").connect().await.expect("connects");
    let mut client = HealthClient::new(channel);
    let ask = |service: &str| HealthCheckRequest { service: service.to_owned() };
    let status = client.check(ask("test.Service")).await.expect("answers").into_inner().status();
    assert_eq!(status, ServingStatus::Serving);
    let unknown = client.check(ask("other")).await.expect_err("is unknown");
    assert_eq!(unknown.code(), tonic::Code::NotFound);

    let mut watch = client.watch(ask("")).await.expect("answers").into_inner();
    let next = watch.message().await.expect("a status").expect("a status");
    assert_eq!(next.status(), ServingStatus::Serving);
    store.not_ready("gone");
    let next = watch.message().await.expect("a status").expect("a status");
    assert_eq!(next.status(), ServingStatus::NotServing);
    health.stop();
    assert!(watch.message().await.expect("ends well").is_none(), "a watch ends when we stop");
}
