//! The contract of [`LiveState`](crate::LiveState). Every function takes a closure that opens an empty one.

use std::sync::Arc;

use model::{
    Frame, Headline, Labels, Layout, MachineId, MachineStatus, ProcessReport, Series, UnixMillis,
    limits,
};

use crate::live::{LiveFrame, LiveState, Presence};

/// Runs the whole suite: `live_contract!(async || -> Arc<dyn LiveState> { … })`.
#[macro_export]
macro_rules! live_contract {
    ($($open:tt)+) => {
        $crate::contract_tests!(live, { $($open)+ },
            a_newer_lease_ends_an_older_one
            presence_comes_back_for_each_machine
            the_latest_frame_of_each_layout_is_kept
            a_frame_that_is_not_newer_joins_the_recent_ones
            recent_frames_come_by_time_for_five_minutes
            the_latest_process_report_is_the_newest_by_time
            a_removed_machine_is_forgotten
        );
    };
}

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

fn machine(id: u128) -> MachineId {
    MachineId::from_u128(id).expect("not zero")
}

fn layout(metric: &str) -> Layout {
    Layout::new(vec![Series::gauge(metric, "1", Labels::empty())]).expect("a valid layout")
}

fn frame(metric: &str, seconds: i64, value: f64) -> LiveFrame {
    let layout = layout(metric);
    let frame = Frame { time: NOW + seconds * 1000, layout: layout.id(), values: vec![value] };
    LiveFrame { layout, frame: Arc::new(frame) }
}

fn presence(seen: i64) -> Presence {
    Presence {
        status: MachineStatus::Online,
        status_since: NOW,
        last_seen: NOW + seen,
        interval_ms: 1000,
        clock_skew_ms: -3,
        connected: true,
        headline: Headline { cpu_utilization: Some(0.5), ..Headline::default() },
    }
}

async fn recent(live: &Arc<dyn LiveState>, since: UnixMillis) -> Vec<(i64, f64)> {
    let frames = live.recent(machine(1), since).await.expect("read");
    frames.iter().map(|f| (f.frame.time.since(NOW) / 1000, f.frame.values[0])).collect()
}

async fn latest(live: &Arc<dyn LiveState>) -> Vec<(String, f64)> {
    let frames = live.latest(machine(1)).await.expect("read");
    frames.iter().map(|f| (f.layout.series()[0].metric.to_string(), f.frame.values[0])).collect()
}

pub async fn a_newer_lease_ends_an_older_one(open: impl AsyncFn() -> Arc<dyn LiveState>) {
    let live = open().await;
    let first = live.acquire(machine(1)).await.expect("acquired");
    let other = live.acquire(machine(2)).await.expect("acquired");
    assert!(live.is_current(&first).await.expect("read"));
    let second = live.acquire(machine(1)).await.expect("acquired");
    assert!(second.token > first.token);
    assert!(!live.is_current(&first).await.expect("read"));
    assert!(live.is_current(&second).await.expect("read"));
    assert!(live.is_current(&other).await.expect("read"));
}

pub async fn presence_comes_back_for_each_machine(open: impl AsyncFn() -> Arc<dyn LiveState>) {
    let live = open().await;
    assert_eq!(live.presence(machine(1)).await.expect("read"), None);
    for id in [1, 2] {
        live.put_presence(machine(id), presence(id as i64)).await.expect("kept");
    }
    live.put_presence(machine(1), presence(50)).await.expect("kept");
    assert_eq!(live.presence(machine(1)).await.expect("read"), Some(presence(50)));
    let mut all = live.presences().await.expect("read");
    all.sort_by_key(|(machine, _)| *machine);
    assert_eq!(all, [(machine(1), presence(50)), (machine(2), presence(2))]);
}

pub async fn the_latest_frame_of_each_layout_is_kept(open: impl AsyncFn() -> Arc<dyn LiveState>) {
    let live = open().await;
    for (metric, seconds, value) in [("a", 0, 1.0), ("b", 0, 2.0), ("a", 1, 3.0)] {
        live.put_frame(machine(1), frame(metric, seconds, value)).await.expect("kept");
    }
    assert_eq!(latest(&live).await, [("b".into(), 2.0), ("a".into(), 3.0)]);
    // A layout that is no longer sent leaves after five minutes.
    let later = limits::LIVE_WINDOW_MS / 1000 + 10;
    live.put_frame(machine(1), frame("a", later, 4.0)).await.expect("kept");
    assert_eq!(latest(&live).await, [("a".into(), 4.0)]);
}

pub async fn a_frame_that_is_not_newer_joins_the_recent_ones(
    open: impl AsyncFn() -> Arc<dyn LiveState>,
) {
    let live = open().await;
    for (seconds, value) in [(10, 1.0), (12, 2.0), (11, 3.0)] {
        live.put_frame(machine(1), frame("a", seconds, value)).await.expect("kept");
    }
    assert_eq!(latest(&live).await, [("a".into(), 2.0)]);
    assert_eq!(recent(&live, UnixMillis::MIN).await, [(10, 1.0), (11, 3.0), (12, 2.0)]);
    let too_old = -limits::LIVE_WINDOW_MS / 1000 - 60;
    live.put_frame(machine(1), frame("a", too_old, 4.0)).await.expect("ignored");
    assert_eq!(recent(&live, UnixMillis::MIN).await, [(10, 1.0), (11, 3.0), (12, 2.0)]);
}

pub async fn recent_frames_come_by_time_for_five_minutes(
    open: impl AsyncFn() -> Arc<dyn LiveState>,
) {
    let live = open().await;
    for seconds in 0..600 {
        let metric = if seconds % 2 == 0 { "a" } else { "b" };
        live.put_frame(machine(1), frame(metric, seconds, seconds as f64)).await.expect("kept");
    }
    let all = recent(&live, UnixMillis::MIN).await;
    assert!(all.is_sorted_by_key(|(seconds, _)| *seconds));
    assert!(all.iter().all(|(seconds, value)| *seconds as f64 == *value));
    assert_eq!(all.last(), Some(&(599, 599.0)));
    // Five minutes, whether the edge is included or not.
    assert!((299..=302).contains(&all.len()), "{}", all.len());
    assert_eq!(recent(&live, NOW + 598_000).await, [(598, 598.0), (599, 599.0)]);
    assert_eq!(live.recent(machine(2), UnixMillis::MIN).await.expect("read").len(), 0);
}

pub async fn the_latest_process_report_is_the_newest_by_time(
    open: impl AsyncFn() -> Arc<dyn LiveState>,
) {
    let live = open().await;
    let report = |seconds: i64| {
        Arc::new(ProcessReport { time: NOW + seconds, total: 7, ..ProcessReport::default() })
    };
    assert_eq!(live.processes(machine(1)).await.expect("read"), None);
    for seconds in [1, 3, 2] {
        live.put_processes(machine(1), report(seconds)).await.expect("kept");
    }
    assert_eq!(live.processes(machine(1)).await.expect("read"), Some(report(3)));
}

pub async fn a_removed_machine_is_forgotten(open: impl AsyncFn() -> Arc<dyn LiveState>) {
    let live = open().await;
    for id in [1, 2] {
        live.put_presence(machine(id), presence(0)).await.expect("kept");
        live.put_frame(machine(id), frame("a", 0, 1.0)).await.expect("kept");
    }
    live.remove(machine(1)).await.expect("removed");
    assert_eq!(live.presence(machine(1)).await.expect("read"), None);
    assert!(latest(&live).await.is_empty());
    assert!(recent(&live, UnixMillis::MIN).await.is_empty());
    assert!(live.presence(machine(2)).await.expect("read").is_some());
    // It may come back, and a lease is still newer than those before.
    let lease = live.acquire(machine(1)).await.expect("acquired");
    assert!(live.is_current(&lease).await.expect("read"));
}
