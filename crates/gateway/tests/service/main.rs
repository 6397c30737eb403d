//! The gateway as a browser and a script see it, before a scripted aggregator.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]

mod synthetic;

mod alerts;
mod budget;
mod live;
mod logs;
mod pages;
mod prefix;
mod removal;
mod rest;

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use synthetic::Synthetic;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A gateway on a port of its own, with its aggregator.
struct Dashboard {
    address: SocketAddr,
    fleet: Synthetic,
    shutdown: CancellationToken,
    run: JoinHandle<anyhow::Result<()>>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Dashboard {
    async fn with_machines(machines: usize) -> Self {
        let fleet = Synthetic::new(machines);
        Self::start(gateway::Config::default(), fleet.clone(), fleet.link()).await
    }

    async fn start(config: gateway::Config, fleet: Synthetic, link: proto::Link) -> Self {
        let (shed, timed_out) = (Counter::<u64>::default(), Counter::<u64>::default());
        shed.inc_by(3);
        let gateway = gateway::Gateway::new(config, link, &mut Registry::default())
            .unwrap()
            .showing([("requests_shed", shed), ("requests_timed_out", timed_out)]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = gateway.router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let shutdown = CancellationToken::new();
        let run = tokio::spawn(gateway.run(shutdown.clone()));
        let dashboard = Self { address, fleet, shutdown, run };
        if machines_expected(&dashboard.fleet) {
            dashboard.eventually("/", |page| page.contains("data-machine-id")).await;
        }
        dashboard
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }

    /// One request on a connection of its own, with these header lines.
    async fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        self.send(method, path, headers, "").await
    }

    /// A form of a page of this dashboard.
    async fn submit(&self, path: &str, fields: &str) -> Answer {
        let length = fields.len();
        let headers = format!("origin: http://{}\r\ncontent-length: {length}\r\n", self.address);
        self.send("POST", path, &headers, fields).await
    }

    async fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{headers}\r\n{body}",
            self.address
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        Answer::parse(&bytes)
    }

    /// The page once it says so; fails after ten seconds.
    async fn eventually(&self, path: &str, says: impl Fn(&str) -> bool) -> Answer {
        let mut answer = self.get(path).await;
        for _ in 0..200 {
            if says(&answer.body) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            answer = self.get(path).await;
        }
        panic!("{path} never said it; last: {} {}", answer.status, answer.body);
    }
}

fn machines_expected(fleet: &Synthetic) -> bool {
    fleet.count() > 0
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: HeaderMap = lines
            .map(|line| {
                let (name, value) = line.split_once(": ").unwrap();
                (name.parse::<axum::http::HeaderName>().unwrap(), value.parse().unwrap())
            })
            .collect();
        let body = &bytes[end + 4..];
        let chunked = headers.get("transfer-encoding").is_some_and(|v| v == "chunked");
        let body = if chunked { unchunk(body) } else { body.to_vec() };
        Self { status, headers, body: String::from_utf8_lossy(&body).into_owned() }
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = bytes.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            break;
        }
        whole.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[end + 4 + size..];
    }
    whole
}
