//! What maintenance remembers from round to round, so that nothing is starved and nothing is looked for too often.

use model::{TimeRange, UnixMillis};

#[derive(Debug, Default)]
pub(crate) struct Rounds {
    pub(crate) expiry: Schedule,
    pub(crate) eviction: Schedule,
    /// Log blocks of days that are over.
    pub(crate) days: Schedule,
    /// The machine that was sealed last.
    sealed: i64,
}

/// When something that is rarely there is looked for.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    /// When it was last done to the end.
    done: Option<UnixMillis>,
}

impl Rounds {
    /// Stretches to seal, each machine in its turn: one that always has something must not keep a round from all
    /// that come after it.
    pub(crate) fn in_turn(&self, mut stretches: Vec<(i64, TimeRange)>) -> Vec<(i64, TimeRange)> {
        stretches.sort_by_key(|(machine, _)| *machine);
        let next = stretches.partition_point(|(machine, _)| *machine <= self.sealed);
        stretches.rotate_left(next);
        stretches
    }

    pub(crate) fn sealed(&mut self, machine: i64) {
        self.sealed = machine;
    }
}

impl Schedule {
    /// A clock that was set back does not delay anything.
    pub(crate) fn is_due(&self, now: UnixMillis, every_ms: i64) -> bool {
        self.done.is_none_or(|done| now < done || now.since(done) >= every_ms)
    }

    /// Work that was found may have more behind it, so it is looked for again at once.
    pub(crate) fn looked(&mut self, now: UnixMillis, found: u64) {
        self.done = (found == 0).then_some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_has_its_turn_even_if_a_round_has_time_for_one() {
        let busy = || [3, 1, 7].map(|machine| (machine, TimeRange::ALL)).to_vec();
        let mut rounds = Rounds::default();
        let mut turns = Vec::new();
        for _ in 0..5 {
            let (machine, _) = rounds.in_turn(busy())[0];
            rounds.sealed(machine);
            turns.push(machine);
        }
        assert_eq!(turns, [1, 3, 7, 1, 3]);
    }
}
