//! How this aggregator itself is doing.

use std::time::{Duration, SystemTime};

use model::UnixMillis;
use proto::convert::timestamp_to_proto;
use proto::v1;
use storage::{Condition, Conditions};

use super::Desk;
use crate::config::Config;
use crate::pace::{Pace, since};
use crate::timing::quantile;

/// What is asked besides the counts.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) pace: Pace,
    pub(crate) conditions: Conditions,
    pub(crate) started: UnixMillis,
    pub(crate) writer_bytes_max: u64,
    pub(crate) range_queries_max: usize,
}

impl Server {
    pub(crate) fn new(config: &Config, pace: Pace, conditions: Conditions) -> Self {
        Self {
            pace,
            conditions,
            started: SystemTime::now().into(),
            writer_bytes_max: config.writer.queue_bytes_max.0,
            range_queries_max: config.query.concurrency_max,
        }
    }
}

pub(super) fn answer(desk: &Desk) -> v1::GetServerStatusResponse {
    let stretch = desk.server.pace.last_minute();
    let count = |name: &str, before: u64, now: u64| v1::ServerCount {
        name: name.to_owned(),
        total: now,
        per_second: stretch.rate(before, now),
    };
    let flows = stretch.now.flows.iter().zip(&stretch.before.flows);
    let troubles = stretch.now.troubles.iter().zip(&stretch.before.troubles);
    let timings = stretch.now.timings.iter().zip(&stretch.before.timings);
    v1::GetServerStatusResponse {
        time: Some(timestamp_to_proto(SystemTime::now().into())),
        started: Some(timestamp_to_proto(desk.server.started)),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        flows: flows.map(|((name, now), (_, before))| count(name, *before, *now)).collect(),
        troubles: troubles.map(|((name, now), (_, before))| count(name, *before, *now)).collect(),
        queues: queues(desk),
        timings: timings
            .map(|((name, now), (_, before))| {
                let recent = since(before, now);
                v1::ServerTiming {
                    name: (*name).to_owned(),
                    count: recent.iter().sum(),
                    p50: quantile(&recent, 0.5).map(duration),
                    p99: quantile(&recent, 0.99).map(duration),
                }
            })
            .collect(),
        stores: desk.server.conditions.now().into_iter().map(store).collect(),
        streams: whole(desk.metrics.streams.get()),
        readers: whole(desk.metrics.readers.get()),
        history_bytes: desk.usage.get().bytes,
    }
}

fn queues(desk: &Desk) -> Vec<v1::ServerQueue> {
    let writer = v1::ServerQueue {
        name: "writer".to_owned(),
        items: desk.metrics.queue_items.get().max(0) as u64,
        items_max: 0,
        bytes: desk.metrics.queue_bytes.get().max(0) as u64,
        bytes_max: desk.server.writer_bytes_max,
    };
    let max = desk.server.range_queries_max;
    let range_queries = v1::ServerQueue {
        name: "range_queries".to_owned(),
        items: max.saturating_sub(desk.range_slots.available_permits()) as u64,
        items_max: max as u64,
        ..Default::default()
    };
    vec![writer, range_queries]
}

fn store(condition: Condition) -> v1::ServerStore {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let connections = condition.connections;
    v1::ServerStore {
        holds: condition.holds.to_owned(),
        name: condition.store.to_owned(),
        down: condition.down.unwrap_or_default(),
        connections: connections.map_or(0, |c| number(c.open)),
        connections_max: connections.map_or(0, |c| number(c.max)),
        connections_busy: connections.and_then(|c| c.busy).map(number),
    }
}

fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

fn whole(gauge: i64) -> u32 {
    u32::try_from(gauge.max(0)).unwrap_or(u32::MAX)
}
