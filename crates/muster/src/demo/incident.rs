//! What goes wrong in the made-up fleet, and when: read off the clock, so that the past has its troubles too.

use model::UnixMillis;

use super::chance::Dice;
use super::role::Role;

/// One thing goes wrong in each stretch of this length, or nothing does.
const STRETCH_MS: i64 = 10 * 60 * 1000;
/// It begins this long after the stretch did.
const BEGINS_MS: i64 = 60 * 1000;

/// What goes wrong now, and since when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Incident {
    pub(super) kind: Kind,
    /// Of the machine that it happens to.
    pub(super) machine: usize,
    pub(super) begins: UnixMillis,
    pub(super) ends: UnixMillis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its service answers with errors.
    Errors,
    /// It is gone without a word.
    Offline,
    /// Its disk fills up, until somebody tidies up.
    DiskFills,
    /// A process takes all memory, until the kernel kills it.
    MemoryLeak,
    /// A job uses all CPUs.
    Busy,
}

const KINDS: [Kind; 6] =
    [Kind::Errors, Kind::Errors, Kind::Busy, Kind::DiskFills, Kind::MemoryLeak, Kind::Offline];

impl Incident {
    /// What goes wrong at this time, if anything.
    pub(super) fn at(seed: u64, machines: usize, time: UnixMillis) -> Option<Self> {
        let stretch = time.0.div_euclid(STRETCH_MS);
        let mut dice = Dice::new(seed ^ (stretch as u64) << 8);
        if machines == 0 || dice.below(4) == 0 {
            return None;
        }
        let kind = dice.one_of(&KINDS);
        let machine = match kind {
            Kind::Errors => {
                let apis: Vec<usize> =
                    (0..machines).filter(|i| Role::of(*i) == Role::Api).collect();
                if apis.is_empty() { 0 } else { dice.one_of(&apis) }
            }
            _ => dice.below(machines as u64) as usize,
        };
        let begins = UnixMillis(stretch * STRETCH_MS + BEGINS_MS);
        let ends = begins + 120_000 + dice.below(240_000) as i64;
        let now = Self { kind, machine, begins, ends };
        (begins..ends).contains(&time).then_some(now)
    }

    /// From 0 to 1: how far it got.
    pub(super) fn progress(&self, time: UnixMillis) -> f64 {
        time.since(self.begins) as f64 / self.ends.since(self.begins) as f64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn everything_goes_wrong_within_a_day_and_most_of_the_time_nothing_does() {
        let times = (0..24 * 360).map(|i| UnixMillis(1_795_208_400_000 + i * 10_000));
        let found: Vec<Option<Incident>> = times.map(|at| Incident::at(1, 12, at)).collect();
        let kinds: HashSet<String> =
            found.iter().flatten().map(|incident| format!("{:?}", incident.kind)).collect();
        assert_eq!(kinds.len(), 5, "{kinds:?}");
        let calm = found.iter().filter(|incident| incident.is_none()).count();
        assert!((found.len() / 2..found.len() * 9 / 10).contains(&calm), "{calm}");
        for incident in found.into_iter().flatten() {
            assert!(incident.machine < 12);
            assert!(incident.kind != Kind::Errors || Role::of(incident.machine) == Role::Api);
        }
        assert_eq!(Incident::at(1, 0, UnixMillis(0)), None);
    }
}
