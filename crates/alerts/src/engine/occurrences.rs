//! How often something was found within the latest stretch of time. Bounded: neighbours are counted together.

use std::collections::VecDeque;

use model::UnixMillis;

/// Slots in one window.
const SLOTS: i64 = 600;

#[derive(Clone, Debug)]
pub(super) struct Occurrences {
    window_ms: i64,
    slot_ms: i64,
    /// Time of the latest of each slot, and how many.
    slots: VecDeque<(UnixMillis, u64)>,
    count: u64,
    /// The window ends here.
    end: UnixMillis,
    /// Until then the window reaches back to where nobody looked.
    blind_until: UnixMillis,
}

impl Occurrences {
    pub(super) fn new(window_ms: i64) -> Self {
        Self {
            window_ms,
            slot_ms: (window_ms / SLOTS).max(1),
            slots: VecDeque::new(),
            count: 0,
            end: UnixMillis::MIN,
            blind_until: UnixMillis::MIN,
        }
    }

    /// Nobody looked before this moment: until a whole window later the count is only a part of the truth.
    pub(super) fn begin_blind(&mut self, from: UnixMillis) {
        self.blind_until = from + self.window_ms;
    }

    /// How many, and whether that is all.
    pub(super) fn count(&self) -> (f64, bool) {
        (self.count as f64, self.blind_until <= self.end)
    }

    pub(super) fn end(&self) -> UnixMillis {
        self.end
    }

    /// One more. False when it came too late for the window.
    pub(super) fn add(&mut self, time: UnixMillis) -> bool {
        self.end = self.end.max(time);
        if time + self.window_ms <= self.end {
            return false;
        }
        let slot = |time: UnixMillis| time.0.div_euclid(self.slot_ms);
        let mut at = self.slots.len();
        while at > 0 && slot(self.slots[at - 1].0) > slot(time) {
            at -= 1;
        }
        match at.checked_sub(1).map(|last| &mut self.slots[last]) {
            Some((latest, count)) if slot(*latest) == slot(time) => {
                *latest = time.max(*latest);
                *count += 1;
            }
            _ => self.slots.insert(at, (time, 1)),
        }
        self.count += 1;
        true
    }

    /// Moves the end of the window on to the next moment, `to` at the latest, at which the count changes or
    /// becomes the truth. `None` when there is none: then it ends at `to`.
    pub(super) fn next_change(&mut self, to: UnixMillis) -> Option<UnixMillis> {
        let leaves = self.slots.front().map(|(time, _)| *time + self.window_ms);
        let sees = Some(self.blind_until).filter(|at| *at > self.end);
        let next = leaves.into_iter().chain(sees).min().filter(|at| *at <= to);
        match next {
            None => self.end = self.end.max(to),
            Some(at) => {
                self.end = self.end.max(at);
                if leaves.is_some_and(|leaves| leaves <= at) {
                    self.count -= self.slots.pop_front().map_or(0, |(_, count)| count);
                }
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> UnixMillis {
        UnixMillis(second * 1000)
    }

    #[test]
    fn what_is_older_than_the_window_is_not_counted() {
        let mut found = Occurrences::new(10_000);
        for second in [1, 2, 5] {
            assert!(found.add(at(second)));
        }
        assert_eq!(found.count(), (3.0, true));
        assert_eq!(found.next_change(at(10)), None);
        assert_eq!(found.next_change(at(13)), Some(at(11)));
        assert_eq!(found.next_change(at(13)), Some(at(12)));
        assert_eq!((found.next_change(at(13)), found.count().0), (None, 1.0));
        assert!(!found.add(at(3)), "too late");
        assert!(found.add(at(4)), "out of order, in time");
        assert_eq!((found.next_change(at(14)), found.count().0), (Some(at(14)), 1.0));
    }

    #[test]
    fn after_a_start_a_window_is_whole_only_when_it_was_watched() {
        let mut found = Occurrences::new(10_000);
        found.begin_blind(at(100));
        assert_eq!(found.next_change(at(105)), None);
        assert_eq!(found.count(), (0.0, false));
        assert_eq!(found.next_change(at(200)), Some(at(110)));
        assert_eq!(found.count(), (0.0, true));
        assert_eq!(found.next_change(at(200)), None);
    }

    #[test]
    fn memory_is_bounded_however_many_are_found() {
        let mut found = Occurrences::new(3_600_000);
        for i in 0..200_000 {
            let time = UnixMillis(i * 50);
            while found.next_change(time).is_some() {}
            found.add(time);
        }
        assert!(found.slots.len() <= SLOTS as usize + 1, "{}", found.slots.len());
        assert!((found.count().0 - 72_000.0).abs() < 130.0, "{:?}", found.count());
    }
}
