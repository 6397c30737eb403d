//! One made-up machine that speaks Prometheus remote write (version 1.0), so that other servers can be
//! given the same values.
//!
//! The messages are those of `prometheus/prompb`: `WriteRequest { repeated TimeSeries timeseries = 1 }`,
//! `TimeSeries { repeated Label labels = 1; repeated Sample samples = 2 }`, compressed as one snappy block.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use model::{Layout, UnixMillis};
use tokio::net::TcpStream;

use super::fleet::{Fleet, Outcome, name};
use super::pace::Pace;
use super::values::{MARKER, Values, layout};

/// Frames in one request when many are due: some 10,000 samples, as agents send after an outage.
const BULK: usize = 10;

/// How long the last samples may take to be visible to queries.
const VISIBLE_AFTER_MAX: Duration = Duration::from_secs(60);

impl Fleet {
    pub(super) async fn write_remotely(&self, index: usize) -> Result<Outcome> {
        let plan = &self.plan;
        let mut client = Client::connect(self.target.uri()).await?;
        self.connected.fetch_add(1, Ordering::Relaxed);
        let mut generation = 0;
        let mut labels = labels_of(&layout(plan.series, generation), index);
        let mut values = Values::new(plan.seed ^ index as u64, labels.len());
        let mut pace = Pace::new(plan, index as f64 * 0.618 % 1.0);
        let mut outcome = Outcome::default();
        while let Some(time) = pace.next().await {
            let wanted = plan.generation(outcome.frames_sent);
            if wanted != generation {
                generation = wanted;
                labels = labels_of(&layout(plan.series, generation), index);
            }
            let mut frames = vec![(time, values.advance().to_vec())];
            while frames.len() < BULK && pace.in_bulk() {
                let Some(time) = pace.next().await else { break };
                frames.push((time, values.advance().to_vec()));
            }
            let count = frames.len() as u64;
            outcome.frames_sent += count;
            let sent = Instant::now();
            client.write(&write_request(&labels, &frames)).await?;
            outcome.latency.record(sent.elapsed());
            outcome.frames_acknowledged += count;
            self.frames_acknowledged.fetch_add(count, Ordering::Relaxed);
        }
        Ok(outcome)
    }

    /// How many frames the server finds, once it finds `expected` or waiting is over.
    pub(super) async fn frames_found_remotely(&self, expected: u64) -> Result<u64> {
        let mut client = Client::connect(self.target.uri()).await?;
        let asked = Instant::now();
        loop {
            let now = UnixMillis::from(std::time::SystemTime::now());
            let seconds = now.since(self.plan.start) / 1000 + self.plan.backfill.as_secs() as i64;
            // Bench machines of earlier runs on the same server have other times.
            let query = format!(
                "sum(count_over_time({}%7Benv%3D%22bench%22%7D[{}s]))",
                prometheus_name(MARKER),
                seconds + 60
            );
            let time = now.0 as f64 / 1000.0;
            // The last parameter lets VictoriaMetrics look at the newest samples too.
            let answer =
                client.get(&format!("/api/v1/query?query={query}&time={time}&nocache=1")).await?;
            let found = answer["data"]["result"][0]["value"][1].as_str();
            let found = found.and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0) as u64;
            if found >= expected || asked.elapsed() > VISIBLE_AFTER_MAX {
                return Ok(found);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

struct Client {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Client {
    async fn connect(target: &http::Uri) -> Result<Self> {
        ensure!(
            target.scheme_str() == Some("http"),
            "--target: remote write goes over http:// only"
        );
        let host = target.host().context("--target: expected a host")?;
        let port = target.port_u16().unwrap_or(80);
        let stream = TcpStream::connect((host, port))
            .await
            .with_context(|| format!("failed to reach {target}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, host: format!("{host}:{port}") })
    }

    async fn write(&mut self, message: &[u8]) -> Result<()> {
        let body = snap::raw::Encoder::new().compress_vec(message)?;
        let request = Request::post("/api/v1/write")
            .header("host", &self.host)
            .header("content-type", "application/x-protobuf")
            .header("content-encoding", "snappy")
            .header("x-prometheus-remote-write-version", "0.1.0")
            .body(Full::new(Bytes::from(body)))?;
        self.send(request).await.map(drop)
    }

    async fn get(&mut self, path: &str) -> Result<serde_json::Value> {
        let request =
            Request::get(path).header("host", &self.host).body(Full::new(Bytes::new()))?;
        Ok(serde_json::from_slice(&self.send(request).await?)?)
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Bytes> {
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        let fine = matches!(status, StatusCode::OK | StatusCode::NO_CONTENT);
        ensure!(fine, "the server answered {status}: {}", String::from_utf8_lossy(&body));
        Ok(body)
    }
}

/// The encoded labels of each series, sorted by name as the specification asks.
fn labels_of(layout: &Layout, index: usize) -> Vec<Vec<u8>> {
    let of_machine = [("env".to_owned(), "bench".to_owned()), ("instance".to_owned(), name(index))];
    let encoded = |series: &model::Series| {
        let own = series.labels.iter().map(|(k, v)| (prometheus_name(k), v.to_owned()));
        let mut labels = vec![("__name__".to_owned(), prometheus_name(&series.metric))];
        labels.extend(of_machine.iter().cloned().chain(own));
        labels.sort();
        let mut out = Vec::new();
        for (name, value) in labels {
            let mut label = Vec::new();
            put_bytes(&mut label, 1, name.as_bytes());
            put_bytes(&mut label, 2, value.as_bytes());
            put_bytes(&mut out, 1, &label);
        }
        out
    };
    layout.series().iter().map(encoded).collect()
}

fn write_request(labels: &[Vec<u8>], frames: &[(UnixMillis, Vec<f64>)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(labels.len() * (frames.len() * 20 + 96));
    let mut series = Vec::new();
    for (column, labels) in labels.iter().enumerate() {
        series.clear();
        series.extend_from_slice(labels);
        for (time, values) in frames {
            let mut sample = Vec::with_capacity(20);
            sample.push(1 << 3 | 1);
            sample.extend_from_slice(&values[column].to_le_bytes());
            sample.push(2 << 3);
            put_varint(&mut sample, time.0.cast_unsigned());
            put_bytes(&mut series, 2, &sample);
        }
        put_bytes(&mut out, 1, &series);
    }
    out
}

/// A length-delimited field of a protobuf message.
fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn prometheus_name(name: &str) -> String {
    name.replace('.', "_")
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[derive(prost::Message)]
    struct WriteRequest {
        #[prost(message, repeated, tag = "1")]
        timeseries: Vec<TimeSeries>,
    }

    #[derive(prost::Message)]
    struct TimeSeries {
        #[prost(message, repeated, tag = "1")]
        labels: Vec<Label>,
        #[prost(message, repeated, tag = "2")]
        samples: Vec<Sample>,
    }

    #[derive(prost::Message)]
    struct Label {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(string, tag = "2")]
        value: String,
    }

    #[derive(prost::Message)]
    struct Sample {
        #[prost(double, tag = "1")]
        value: f64,
        #[prost(int64, tag = "2")]
        timestamp: i64,
    }

    #[test]
    fn a_request_is_what_the_specification_says() {
        let layout = layout(20, 0);
        let frames: Vec<_> =
            (0..3).map(|t| (UnixMillis(t * 1000), vec![t as f64 + 0.5; 20])).collect();
        let bytes = write_request(&labels_of(&layout, 7), &frames);
        let request = WriteRequest::decode(bytes.as_slice()).expect("decodes");
        assert_eq!(request.timeseries.len(), 20);
        let net = &request.timeseries[4];
        let labels: Vec<_> = net.labels.iter().map(|l| (&*l.name, &*l.value)).collect();
        assert_eq!(
            labels,
            [
                ("__name__", "system_network_io"),
                ("env", "bench"),
                ("instance", "bench-0007"),
                ("network_interface_name", "eth0"),
                ("network_io_direction", "receive"),
            ]
        );
        let samples: Vec<_> = net.samples.iter().map(|s| (s.timestamp, s.value)).collect();
        assert_eq!(samples, [(0, 0.5), (1000, 1.5), (2000, 2.5)]);
    }
}
