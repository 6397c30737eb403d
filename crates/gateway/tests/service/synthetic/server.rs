//! How the made-up aggregator is.

use proto::v1;

use super::values::wave;
use super::{now_ms, timestamp};

pub(super) fn answer(machines: u64) -> v1::GetServerStatusResponse {
    let now = now_ms();
    let began = now - now.rem_euclid(86_400_000);
    let seconds = ((now - began) / 1000) as u64;
    let count = |name: &str, per_second: u64| v1::ServerCount {
        name: name.to_owned(),
        total: per_second * seconds,
        per_second: per_second as f64,
    };
    let once = |name: &str, total| v1::ServerCount { total, ..count(name, 0) };
    let store = |holds: &str, name: &str, connections_max: u32| v1::ServerStore {
        holds: holds.to_owned(),
        name: name.to_owned(),
        down: String::new(),
        connections: connections_max.min(2),
        connections_max,
        connections_busy: (connections_max > 0).then_some(1),
    };
    let timing = |name: &str, count, p50: i32, p99: i32| {
        let ms = |ms: i32| Some(prost_types::Duration { seconds: 0, nanos: ms * 1_000_000 });
        v1::ServerTiming { name: name.to_owned(), count, p50: ms(p50), p99: ms(p99) }
    };
    v1::GetServerStatusResponse {
        time: Some(timestamp(now)),
        started: Some(timestamp(began)),
        version: "0.1.0".to_owned(),
        flows: vec![
            count("frames", machines * 9),
            count("samples", machines * 212),
            count("acknowledged_items", machines * 9),
            once("backlog_items", 1_204),
            once("resent_items", 3),
        ],
        troubles: vec![once("late_frames", 17), once("rejected_items.too_old", 0)],
        queues: vec![
            v1::ServerQueue {
                name: "writer".to_owned(),
                items: (wave(1, now) * 90.0) as u64,
                items_max: 0,
                bytes: (wave(1, now) * 2e5) as u64,
                bytes_max: 64 << 20,
            },
            v1::ServerQueue {
                name: "range_queries".to_owned(),
                items: 0,
                items_max: 4,
                ..Default::default()
            },
        ],
        timings: vec![
            timing("acknowledgement", machines * 540, 16, 64),
            timing("commit", 590, 8, 32),
            timing("range_query", 12, 2, 8),
        ],
        stores: vec![
            store("live state", "memory", 0),
            store("event stream", "memory", 0),
            store("history", "SQLite", 5),
            store("registry", "SQLite", 5),
            store("alerts", "SQLite", 5),
        ],
        streams: machines as u32,
        readers: 1,
        history_bytes: 734_003_200,
    }
}
