//! When a machine's frames are due, and what times they carry.

use std::time::{Duration, Instant, SystemTime};

use model::UnixMillis;
use tokio::time::MissedTickBehavior;

/// First the frames of the past as fast as they are taken, then one at each interval (or, with `max`, as
/// fast as they are taken) for the time asked for. Times only grow, by a millisecond at least.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    past: u64,
    max: bool,
    duration: Duration,
    latest: UnixMillis,
    live: Option<Live>,
}

#[derive(Debug)]
struct Live {
    ticks: tokio::time::Interval,
    deadline: Instant,
}

impl Pace {
    /// `phase` (0 to 1) spreads the machines of a fleet over the interval.
    pub(super) fn new(plan: &super::Plan, phase: f64) -> Self {
        let interval_ms = (plan.interval.as_millis() as i64).max(1);
        let past = plan.backfill.as_millis() as i64 / interval_ms;
        let offset = (interval_ms as f64 * phase) as i64;
        Self {
            interval: plan.interval,
            past: past.unsigned_abs(),
            max: plan.max,
            duration: plan.duration,
            latest: plan.start - (past + 1) * interval_ms + offset,
            live: None,
        }
    }

    /// Time of the next frame, once it is due; `None` when there is no more. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<UnixMillis> {
        if self.past > 0 {
            self.past -= 1;
            self.latest = self.latest + self.interval.as_millis() as i64;
            return Some(self.latest);
        }
        let phase = Duration::from_millis(self.latest.0.unsigned_abs()).as_secs_f64()
            % self.interval.as_secs_f64();
        let live = self.live.get_or_insert_with(|| {
            let first = Instant::now() + Duration::from_secs_f64(phase);
            let mut ticks = tokio::time::interval_at(first.into(), self.interval);
            // A late frame is sent late, not left out: what is measured is the server.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            Live { ticks, deadline: Instant::now() + self.duration }
        });
        if !self.max && live.deadline > Instant::now() {
            live.ticks.tick().await;
        }
        if Instant::now() >= live.deadline {
            return None;
        }
        self.latest = UnixMillis::from(SystemTime::now()).max(self.latest + 1);
        Some(self.latest)
    }

    /// Frames of the past may be sent together.
    pub(super) fn in_bulk(&self) -> bool {
        self.past > 0 || self.max
    }
}

#[cfg(test)]
mod tests {
    use super::super::Plan;
    use super::*;

    async fn times(plan: &Plan) -> Vec<i64> {
        let mut pace = Pace::new(plan, 0.0);
        let mut times = Vec::new();
        while let Some(time) = pace.next().await {
            times.push(time.0 - plan.start.0);
        }
        times
    }

    #[tokio::test]
    async fn the_past_ends_where_the_present_begins() {
        let plan = Plan {
            interval: Duration::from_secs(1),
            backfill: Duration::from_secs(3),
            ..Plan::default()
        };
        assert_eq!(times(&plan).await, [-3000, -2000, -1000]);
    }

    #[tokio::test]
    async fn as_fast_as_possible_no_two_frames_have_the_same_time() {
        let plan = Plan {
            interval: Duration::from_secs(1),
            duration: Duration::from_millis(5),
            max: true,
            start: SystemTime::now().into(),
            ..Plan::default()
        };
        let times = times(&plan).await;
        assert!(!times.is_empty());
        assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
    }
}
