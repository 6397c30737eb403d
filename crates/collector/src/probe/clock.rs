//! Notices when the wall clock steps and when the machine slept.

use model::{EventKind, Labels, MachineEvent, UnixMillis};

/// A smaller disagreement of clocks is drift and slewing.
const STEP_MS: i64 = 2_000;

/// Compares three clocks from tick to tick.
#[derive(Debug, Default)]
pub(super) struct ClockWatch {
    before: Option<Clocks>,
}

/// One look at the clocks, in milliseconds. `boot` runs on while the machine sleeps, `monotonic` does
/// not, `wall` may be set.
#[derive(Clone, Copy, Debug)]
struct Clocks {
    wall: i64,
    monotonic: i64,
    boot: i64,
}

impl ClockWatch {
    /// What happened since the look before. `now` is when the events are said to have happened.
    pub(super) fn look(&mut self, now: UnixMillis) -> Vec<MachineEvent> {
        match read_clocks() {
            Some(clocks) => self.compare(now, clocks),
            None => Vec::new(),
        }
    }

    fn compare(&mut self, now: UnixMillis, clocks: Clocks) -> Vec<MachineEvent> {
        let Some(before) = self.before.replace(clocks) else {
            return Vec::new();
        };
        let asleep = (clocks.boot - before.boot) - (clocks.monotonic - before.monotonic);
        let step = (clocks.wall - before.wall) - (clocks.boot - before.boot);
        let event = |time, kind, detail: String, ms: i64| MachineEvent {
            time,
            kind,
            detail,
            attributes: Labels::of([("duration_ms", ms.to_string().as_str())]),
        };
        let mut events = Vec::new();
        if asleep > STEP_MS {
            let detail = format!("resumed after {} s asleep", asleep / 1000);
            events.push(event(now, EventKind::Resume, detail, asleep));
        }
        if step.abs() > STEP_MS {
            let way = if step > 0 { "forward" } else { "back" };
            let seconds = step.abs() as f64 / 1000.0;
            let detail = format!("the clock was set {way} by {seconds:.1} s");
            events.push(event(now, EventKind::ClockStep, detail, step));
        }
        events
    }
}

#[cfg(target_os = "linux")]
fn read_clocks() -> Option<Clocks> {
    use rustix::time::{ClockId, clock_gettime};
    let ms = |id| {
        let time = clock_gettime(id);
        time.tv_sec * 1000 + time.tv_nsec / 1_000_000
    };
    Some(Clocks {
        wall: ms(ClockId::Realtime),
        monotonic: ms(ClockId::Monotonic),
        boot: ms(ClockId::Boottime),
    })
}

#[cfg(not(target_os = "linux"))]
fn read_clocks() -> Option<Clocks> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events between two looks, given how far each clock went.
    fn check(wall: i64, monotonic: i64, boot: i64, expected: &[(EventKind, &str)]) {
        let mut watch = ClockWatch::default();
        let start = Clocks { wall: 1_700_000_000_000, monotonic: 5_000, boot: 9_000 };
        assert!(watch.compare(UnixMillis(0), start).is_empty(), "nothing to compare with yet");
        let then = Clocks {
            wall: start.wall + wall,
            monotonic: start.monotonic + monotonic,
            boot: start.boot + boot,
        };
        let events = watch.compare(UnixMillis(1), then);
        let got: Vec<_> = events.iter().map(|e| (e.kind, e.detail.as_str())).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn a_steady_second_is_no_event() {
        check(1_000, 1_000, 1_000, &[]);
        check(1_900, 1_000, 1_000, &[]);
        check(60_000, 60_000, 60_000, &[]);
    }

    #[test]
    fn a_sleep_is_a_resume_and_not_a_clock_step() {
        check(3_601_000, 1_000, 3_601_000, &[(EventKind::Resume, "resumed after 3600 s asleep")]);
    }

    #[test]
    fn setting_the_clock_is_told_with_its_direction() {
        check(6_000, 1_000, 1_000, &[(EventKind::ClockStep, "the clock was set forward by 5.0 s")]);
        check(-2_500, 1_000, 1_000, &[(EventKind::ClockStep, "the clock was set back by 3.5 s")]);
    }

    #[test]
    fn the_real_clocks_agree_with_each_other() {
        let mut watch = ClockWatch::default();
        assert!(watch.look(UnixMillis(0)).is_empty());
        assert!(watch.look(UnixMillis(0)).is_empty());
    }
}
