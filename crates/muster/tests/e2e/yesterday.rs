//! What caused yesterday's spike: asked by somebody who has never seen the dashboard.

use std::time::SystemTime;

use model::{Frame, Labels, Layout, UnixMillis, metric};
use proto::v1::aggregator_message::Kind as Answer;
use proto::v1::collector_message::Kind as Message;
use proto::v1::collector_service_client::CollectorServiceClient;
use proto::{convert, v1};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::browser::Browser;
use crate::cluster::{Cluster, PATIENCE};

const NAME: &str = "build-7";
const MACHINE: &str = "00000000000000000000000000000b07";
const CULPRIT: &str = "thumbnailer";
const DAY_MS: i64 = 24 * 3_600_000;
/// How long the culprit ran.
const BUSY_MS: i64 = 20_000;
/// Pace of what is told of a quiet time, and around the spike.
const QUIET_MS: i64 = 15_000;
const BUSY_PACE_MS: i64 = 1_000;
const REPORT_MS: i64 = 5_000;
/// As much of the day around the spike is told in full.
const AROUND_MS: i64 = 5 * 60_000;

/// A machine's last day: quiet, but for 20 s.
struct Day {
    layout: Layout,
    begins: i64,
    spike: i64,
}

impl Day {
    fn ending_at(now: i64) -> Self {
        let mode = |mode: &str| metric::CPU_UTILIZATION.with(Labels::of([("cpu.mode", mode)]));
        let series = vec![metric::CPU_UTILIZATION.alone(), mode("user"), mode("system")];
        let layout = Layout::new(series).expect("a layout");
        // A day ago and a little less: it is near the edge of the range, as yesterday is.
        Self { layout, begins: now - DAY_MS, spike: now - DAY_MS + 40 * 60_000 }
    }

    fn is_busy(&self, time: i64) -> bool {
        (self.spike..self.spike + BUSY_MS).contains(&time)
    }

    fn frame(&self, time: i64) -> Message {
        // Now a little more, now a little less.
        let quiet = 0.06 + 0.04 * ((time / 60_000) as f64).sin().abs();
        let user = if self.is_busy(time) { 0.93 } else { quiet };
        let values = vec![user + 0.02, user, 0.02];
        let frame = Frame { time: UnixMillis(time), layout: self.layout.id(), values };
        Message::Frame(convert::frame_to_proto(&frame))
    }

    fn report(&self, time: i64) -> Message {
        let process = |pid: u32, name: &str, cpu: f64| v1::Process {
            pid,
            name: name.to_owned(),
            command_line: format!("/usr/bin/{name}"),
            user: "ci".to_owned(),
            state: "running".to_owned(),
            start_time_unix_ms: self.begins,
            cpu_utilization: cpu,
            memory_bytes: 80 << 20,
            ..Default::default()
        };
        let mut processes = vec![process(10, "postgres", 0.12), process(11, "sshd", 0.01)];
        // A report tells of the seconds before it.
        if self.is_busy(time - REPORT_MS) {
            processes[0].cpu_utilization = 0.2;
            processes.push(process(12, CULPRIT, 3.6));
        }
        let total = processes.len() as u32;
        Message::ProcessReport(v1::ProcessReport {
            time_unix_ms: time,
            processes,
            total,
            ..Default::default()
        })
    }

    fn items(&self, now: i64) -> Vec<Message> {
        let mut items = Vec::new();
        let mut time = self.begins;
        while time < now {
            items.push(self.frame(time));
            let is_near = (time - self.spike).abs() < AROUND_MS;
            if !is_near || time % REPORT_MS < BUSY_PACE_MS {
                items.push(self.report(time));
            }
            time += if is_near { BUSY_PACE_MS } else { QUIET_MS };
        }
        items
    }
}

/// Tells a server of a machine's day; returns when all of it is durable.
async fn tell(cluster: &Cluster, day: &Day, now: i64) {
    let (out, messages) = mpsc::channel(64);
    let mut client = CollectorServiceClient::new(cluster.channel().await);
    let hello = v1::Hello {
        protocol_version: proto::PROTOCOL_VERSION,
        machine_id: MACHINE.to_owned(),
        facts: Some(v1::MachineFacts {
            host_name: NAME.to_owned(),
            os_type: "linux".to_owned(),
            logical_cpus: 4,
            ..Default::default()
        }),
        spool_epoch: 1,
        oldest_unacknowledged_seq: 1,
        time_unix_ms: now,
        interval: Some(convert::duration_from_ms(1000)),
        ..Default::default()
    };
    let items = day.items(now);
    let last = items.len() as u64;
    let layout = Message::Layout(convert::layout_to_proto(&day.layout));
    let sent = async {
        let heads = [Message::Hello(hello), layout].map(|kind| (0, kind));
        let items = items.into_iter().enumerate().map(|(i, kind)| (i as u64 + 1, kind));
        for (seq, kind) in heads.into_iter().chain(items) {
            let message = v1::CollectorMessage { seq, kind: Some(kind) };
            out.send(message).await.expect("the server listens");
        }
    };
    let acknowledged = async {
        let mut answers =
            client.connect(ReceiverStream::new(messages)).await.expect("answers").into_inner();
        let mut left: Vec<u64> = (1..=last).collect();
        while !left.is_empty() {
            let answer = answers.message().await.expect("answers").expect("goes on").kind;
            match answer.expect("a known kind") {
                Answer::Ack(ack) => {
                    let ranges = convert::ranges_from_proto("ranges", &ack.ranges).expect("ranges");
                    left.retain(|seq| !ranges.contains(*seq));
                }
                Answer::Reject(reject) => panic!("refused: {reject:?}"),
                _ => {}
            }
        }
    };
    let both = async { tokio::join!(sent, acknowledged) };
    tokio::time::timeout(4 * PATIENCE, both).await.expect("a day is told in time");
}

/// Where on the first chart something stands out, found as an eye finds it: by what is painted highest.
/// Rows that are painted all along are lines of the grid, and what ends soon below is writing. The answer is in
/// pixels from the left of the plot.
const HIGHEST: &str = "
    const { plot } = document.querySelector('.chart').chart;
    const { left, top, width, height } = plot.bbox;
    const copy = new OffscreenCanvas(plot.ctx.canvas.width, plot.ctx.canvas.height);
    const context = copy.getContext('2d', { willReadFrequently: true });
    context.drawImage(plot.ctx.canvas, 0, 0);
    const { data } = context.getImageData(left, top, width, height);
    const painted = (x, y) => data[(y * Math.round(width) + x) * 4 + 3] > 120;
    const goesOn = (x, y) => [-2, -1, 0, 1, 2].some((aside) => painted(x + aside, y + 25));
    for (let y = 0; y < height / 2; y += 1) {
        const columns = [];
        for (let x = 0; x < width; x += 1) if (painted(x, y) && goesOn(x, y)) columns.push(x);
        if (columns.length > 0 && columns.length < width / 10) return columns[0] / devicePixelRatio;
    }
    return null;";

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_finds_what_caused_yesterdays_spike() {
    let Some(browser) = Browser::open().await else { return };
    let cluster = Cluster::up().await;
    let now = UnixMillis::from(SystemTime::now()).0;
    let day = Day::ending_at(now);
    tell(&cluster, &day, now).await;

    browser.width(1440).await;
    browser.driver.goto(cluster.url()).await.expect("the fleet page");
    let open = format!(
        "[...document.querySelectorAll('[data-machine-id] .name')].find(a => a.innerText.includes('{NAME}'))?.click();
        return location.pathname.includes('/machines/')"
    );
    browser.until("its page", &open).await;
    browser.until("the ranges", "return document.querySelector('[data-range=\"24h\"]')").await;
    browser.run("document.querySelector('[data-range=\"24h\"]').click()").await;
    let drawn = "return Number(document.querySelector('.chart').dataset.points) > 100";
    browser.until("a day", drawn).await;
    let spike = browser.until("something that stands out", HIGHEST).await;

    // A hand is not exact: a few pixels beside it.
    let spike = spike.as_f64().expect("pixels");
    let click = format!(
        "const over = document.querySelector('.u-over');
        const {{ left, top }} = over.getBoundingClientRect();
        const at = {{ bubbles: true, clientX: left + {}, clientY: top + 60 }};
        for (const type of ['mousedown', 'mouseup', 'click']) over.dispatchEvent(new MouseEvent(type, at));",
        spike + 4.0,
    );
    browser.run(&click).await;
    let said = "const who = document.getElementById('who');
        return !who.hidden && who.querySelector('.culprit')?.innerText";
    let said = browser.until("an answer", said).await;
    assert_eq!(said, json!(format!("{CULPRIT} made 98 % of the rise in CPU.")));
    // The chart that was clicked stays in sight.
    let covered = "const who = document.getElementById('who').getBoundingClientRect();
        const { left, width } = document.querySelector('.u-over').getBoundingClientRect();
        return who.left < left + width / 4";
    assert_eq!(browser.run(covered).await, json!(false));
    let moment = "return Number(document.querySelector('#process-choice [name=at]').value)";
    let moment = browser.run(moment).await.as_i64().expect("a moment");
    let within = day.spike..=day.spike + BUSY_MS + REPORT_MS;
    assert!(within.contains(&moment), "{moment} is not within {within:?}");
    browser.until("its line", "return document.querySelector('.moment') !== null").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.close().await;
}
