//! A service without an agent says what happened to it, over REST.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::cluster::{Cluster, PATIENCE};
use crate::eventually::eventually;
use crate::process;

/// One POST over HTTP/1.1: status, head and body of the answer.
async fn post(address: SocketAddr, path: &str, headers: &str, body: &str) -> (u16, String, Value) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connects");
    let length = body.len();
    let text = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await.expect("sends");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("answers");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.get(9..12).and_then(|code| code.parse().ok()).expect("a status line");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (status, head.to_lowercase(), serde_json::from_str(body).unwrap_or(Value::Null))
}

const JSON: &str = "content-type: application/json\r\n";

/// Values of a metric that are there, by time.
async fn values(cluster: &Cluster, query: &str) -> Vec<f64> {
    let path = format!("/api/v1/query_range?start=-5m&step=1s&{query}");
    let (status, body) = cluster.get(&path).await;
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    let series = answer["series"].as_array().expect("series").iter();
    series.flat_map(|s| s["values"].as_array().expect("values")).filter_map(Value::as_f64).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_pushes_metrics_and_events_and_each_is_found_once() {
    let cluster = Cluster::start("up", &[]).await;
    let metrics = json!([
        { "name": "orders", "type": "counter", "temporality": "delta", "value": 3,
          "labels": { "country": "de" } },
        { "name": "queue.depth", "type": "gauge", "value": 17 },
        { "name": "checkout.duration", "type": "histogram", "unit": "s", "sum": 4.5,
          "bounds": [0.1, 1.0], "counts": [2, 1, 3] },
    ]);
    let headers = format!("{JSON}idempotency-key: first\r\n");
    let path = "/api/v1/push/metrics?source=web-shop&service=shop";
    for duplicate in [false, true] {
        let answer = post(cluster.address, path, &headers, &metrics.to_string()).await;
        assert_eq!((answer.0, answer.2), (200, json!({ "accepted": 3, "duplicate": duplicate })));
    }
    // Answered means durable: it is there at once.
    let increase = "metric=orders&aggregate=increase&machine=web-shop&label=country%3Dde";
    let increases = values(&cluster, increase).await;
    assert_eq!(increases.iter().sum::<f64>(), 3.0, "{increases:?}");
    assert_eq!(values(&cluster, "metric=queue.depth&aggregate=last").await, [17.0]);
    let bucket = "metric=checkout.duration.bucket&label=le%3D1&aggregate=last";
    assert_eq!(values(&cluster, bucket).await, [3.0]);

    let events = "{\"name\":\"order.placed\",\"attributes\":{\"order\":{\"id\":7}}}\n\
                  {\"message\":\"order 7 failed: no stock\",\"severity\":\"error\"}\n";
    let headers = "content-type: application/x-ndjson\r\nidempotency-key: second\r\n";
    let path = "/api/v1/push/events?source=web-shop&service=shop";
    for duplicate in [false, true] {
        let answer = post(cluster.address, path, headers, events).await;
        assert_eq!((answer.0, answer.2), (200, json!({ "accepted": 2, "duplicate": duplicate })));
    }
    let (_, found) = cluster.get("/api/v1/logs?query=order.id%3A7").await;
    let found: Value = serde_json::from_str(&found).expect("JSON");
    assert_eq!(found["entries"].as_array().map(Vec::len), Some(1), "{found}");
    eventually(PATIENCE, || async {
        let (_, page) = cluster.get("/logs/errors").await;
        let shown = page.contains("order &#60;number&#62; failed: no stock");
        shown.then_some(()).ok_or(page)
    })
    .await;

    let bad = json!([{ "name": "orders", "type": "counter", "value": "many" }]);
    let path = "/api/v1/push/metrics";
    let (status, _, body) = post(cluster.address, path, JSON, &bad.to_string()).await;
    assert_eq!(status, 400);
    assert_eq!(body["error"]["field"], "[0].value");
    let form = "content-type: text/plain\r\norigin: http://evil.example\r\n";
    let (status, ..) = post(cluster.address, path, form, &metrics.to_string()).await;
    assert_eq!(status, 403, "a page elsewhere cannot push");
    let (status, ..) = post(cluster.address, path, "", &metrics.to_string()).await;
    assert_eq!(status, 415);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_callers_are_asked_a_program_pushes_with_a_token_and_under_its_name_alone() {
    let cluster = Cluster::start("up", &[("MUSTER_ACCESS__AUTH", "required")]).await;
    let token = |grant: &'static str| {
        let mut command = process::muster();
        command.args(["token", "create", "shop", "--grant", grant]);
        command.arg("--data-dir").arg(cluster.data_dir());
        async move {
            let made = tokio::task::spawn_blocking(move || command.output().expect("runs"));
            let made = made.await.expect("no panic");
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            String::from_utf8(made.stdout).expect("text").trim().to_owned()
        }
    };
    let (push, read) = (token("push").await, token("read").await);
    let event = json!({ "name": "order.placed" }).to_string();
    let path = "/api/v1/push/events";
    let asked = |token: &str| format!("{JSON}authorization: Bearer {token}\r\n");
    assert_eq!(post(cluster.address, path, JSON, &event).await.0, 401);
    assert_eq!(post(cluster.address, path, &asked(&read), &event).await.0, 403);
    let (status, _, body) = post(cluster.address, path, &asked(&push), &event).await;
    assert_eq!(status, 200, "{body}");
    let other = "/api/v1/push/events?source=bank";
    let (status, _, body) = post(cluster.address, other, &asked(&push), &event).await;
    assert_eq!((status, &body["error"]["field"]), (403, &json!("source")));
    // It may push, and nothing else.
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(cluster.address).await.expect("connects");
    let head = format!(
        "GET /api/v1/machines HTTP/1.1\r\nhost: {}\r\nconnection: close\r\nauthorization: Bearer {push}\r\n\r\n",
        cluster.address
    );
    stream.write_all(head.as_bytes()).await.expect("sends");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answers");
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
}
