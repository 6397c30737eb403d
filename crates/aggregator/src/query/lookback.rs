//! The last minutes of one machine: out of the present, and out of history where the present has a hole,
//! because it began anew or because frames came late.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use model::{TimeRange, UnixMillis};
use storage::live::LiveFrame;
use tonic::Status;

use super::directory::Known;
use super::filter::MetricFilter;
use super::{Desk, unavailable};

/// A hole is longer than this many intervals: a tick that was late is none.
const HOLE_INTERVALS: i64 = 3;
const HOLE_MS_MIN: i64 = 1_000;
/// How long the present waits for history.
const PATIENCE: Duration = Duration::from_secs(2);

/// Frames of the last `lookback_ms`, by time. Those beside a hole may be there twice. When history does not
/// answer soon, those of the present.
pub(super) async fn frames(
    desk: &Desk,
    known: &Known,
    filter: &MetricFilter,
    lookback_ms: i64,
) -> Result<VecDeque<LiveFrame>, Status> {
    let machine = known.record.id;
    let presence = known.presence.as_ref();
    let now = UnixMillis::from(SystemTime::now()) + presence.map_or(0, |p| p.clock_skew_ms);
    let asked = TimeRange::new(now - lookback_ms, now);
    let recent = desk.live.recent(machine, asked.start).await.map_err(unavailable)?;
    let interval_ms = presence.map_or(0, |p| p.interval_ms as i64);
    let times = recent.iter().map(|live| live.frame.time);
    let Some(hole) = hole(times, asked, (interval_ms * HOLE_INTERVALS).max(HOLE_MS_MIN)) else {
        return Ok(recent.into());
    };
    let wanted = |metric: &str| filter.accepts(metric);
    let read = async {
        // Beside range queries, which take as much memory.
        let _slot = desk.range_slots.acquire().await.ok();
        desk.history.read_frames(machine, &wanted, hole).await
    };
    let problem = match tokio::time::timeout(PATIENCE, read).await {
        Ok(Ok(frames)) => return Ok(joined(frames, recent)),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
    };
    // What is there now is worth more than nothing.
    tracing::warn!(machine.id = %machine, problem, "failed to read the last minutes from history");
    Ok(recent.into())
}

fn joined(mut frames: Vec<LiveFrame>, recent: Vec<LiveFrame>) -> VecDeque<LiveFrame> {
    frames.extend(recent);
    frames.sort_by_key(|live| live.frame.time);
    frames.into()
}

/// From the beginning of the first stretch without any time that is longer than `hole_ms`, to the end of the
/// last.
fn hole(
    times: impl Iterator<Item = UnixMillis>,
    asked: TimeRange,
    hole_ms: i64,
) -> Option<TimeRange> {
    let mut found: Option<TimeRange> = None;
    let mut before = asked.start;
    for time in times.chain([asked.end]) {
        if time.since(before) > hole_ms {
            let start = found.map_or(before, |hole| hole.start);
            found = Some(TimeRange::new(start, time));
        }
        before = before.max(time);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_reaches_from_its_first_to_its_last_moment() {
        let asked = TimeRange::new(UnixMillis(10), UnixMillis(100));
        let hole = |times: &[i64]| {
            let found = hole(times.iter().copied().map(UnixMillis), asked, 10);
            found.map(|hole| (hole.start.0, hole.end.0))
        };
        let whole: Vec<i64> = (1..=10).map(|i| i * 10).collect();
        assert_eq!(hole(&whole), None);
        assert_eq!(hole(&[]), Some((10, 100)));
        assert_eq!(hole(&[80, 90, 100]), Some((10, 80)));
        assert_eq!(hole(&[15, 25, 60, 70, 95, 96]), Some((25, 95)));
        assert_eq!(hole(&whole[..7]), Some((70, 100)));
    }
}
