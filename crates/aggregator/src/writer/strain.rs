//! Whether history keeps up with what comes in. It is said when that changes, not for each machine and item.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// When nothing was put off for so long, history keeps up again.
const CALM: Duration = Duration::from_secs(10);
/// A commit that has been going on for so long is what is waited for.
const LONG: Duration = Duration::from_secs(1);

/// Shared by the writer, who commits, and the streams, who wait for it.
#[derive(Debug, Default)]
pub(crate) struct Strain {
    /// Held to look and to change a few numbers.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the commit that is under way began.
    committing: Option<Instant>,
    failing: bool,
    /// How long the last one took.
    took: Duration,
    behind: Option<Behind>,
}

#[derive(Debug)]
struct Behind {
    since: Instant,
    latest: Instant,
    items: u64,
}

/// History keeps up again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Over {
    pub(crate) lasted: Duration,
    /// Put off meanwhile; one that was put off again counts again.
    pub(crate) items: u64,
}

impl Strain {
    pub(super) fn commit_begins(&self, now: Instant) {
        self.lock().committing = Some(now);
    }

    /// `Some` when the strain is over with it.
    pub(super) fn commit_ends(&self, now: Instant, succeeded: bool) -> Option<Over> {
        let mut state = self.lock();
        if let Some(began) = state.committing.take() {
            state.took = now.saturating_duration_since(began);
        }
        state.failing = !succeeded;
        if state.failing {
            return None;
        }
        let over = state.behind.take_if(|behind| now.duration_since(behind.latest) >= CALM)?;
        let lasted = over.latest.saturating_duration_since(over.since);
        Some(Over { lasted, items: over.items })
    }

    /// An item found no room in time. `Some` with the reason when it is the first.
    pub(crate) fn put_off(&self, now: Instant) -> Option<String> {
        let mut state = self.lock();
        if let Some(behind) = &mut state.behind {
            behind.latest = now;
            behind.items += 1;
            return None;
        }
        state.behind = Some(Behind { since: now, latest: now, items: 1 });
        let under_way = state.committing.map(|began| now.saturating_duration_since(began));
        Some(match under_way {
            _ if state.failing => "the store does not take commits".to_owned(),
            Some(so_far) if so_far >= LONG => {
                format!("a commit has been going on for {} ms", so_far.as_millis())
            }
            _ => format!(
                "more comes than is written; the last commit took {} ms",
                state.took.as_millis()
            ),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once_with_its_reason_and_once_when_it_is_over() {
        let (strain, start) = (Strain::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        strain.commit_begins(at(0));
        assert_eq!(strain.commit_ends(at(300), true), None);
        let reason = strain.put_off(at(400)).expect("the first");
        assert_eq!(reason, "more comes than is written; the last commit took 300 ms");
        assert_eq!(strain.put_off(at(500)), None);
        assert_eq!(strain.put_off(at(2_400)), None);
        assert_eq!(strain.commit_ends(at(12_000), true), None, "it may not be over yet");
        let over = Over { lasted: Duration::from_secs(2), items: 3 };
        assert_eq!(strain.commit_ends(at(12_400), true), Some(over));
        assert_eq!(strain.commit_ends(at(30_000), true), None);
    }

    #[test]
    fn a_commit_that_takes_long_or_fails_is_named() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let slow = Strain::default();
        slow.commit_begins(at(0));
        let reason = slow.put_off(at(2_000)).expect("the first");
        assert_eq!(reason, "a commit has been going on for 2000 ms");
        let down = Strain::default();
        down.commit_begins(at(0));
        assert_eq!(down.commit_ends(at(10), false), None);
        let reason = down.put_off(at(2_000)).expect("the first");
        assert_eq!(reason, "the store does not take commits");
        down.commit_begins(at(30_000));
        assert_eq!(down.commit_ends(at(30_010), false), None, "it is still down");
    }
}
