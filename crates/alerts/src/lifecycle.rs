//! The life of one alert: inactive, pending, firing, resolved, and unknown while its machine is away.
//!
//! Driven by event time alone. A deadline that passes without a value (`for` of a machine that is
//! offline, a series without data) takes effect at the deadline itself, whenever it is noticed, so that
//! the same data give the same life whether they are watched live or replayed.

use model::UnixMillis;

use crate::rule::{Level, Timing, Verdict};

/// Where an alert stands, for people and for the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    Inactive,
    /// Trouble, but not for long enough.
    Pending,
    Firing,
    Resolved,
    /// The machine is away: nothing is known.
    Unknown,
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
            Self::Unknown => "unknown",
        }
    }

    /// The steps there are. `Firing` to `Firing` is a rise to a higher level.
    pub fn may_become(self, next: Self) -> bool {
        use Phase::{Firing, Inactive, Pending, Resolved, Unknown};
        matches!(
            (self, next),
            (Inactive | Resolved, Pending)
                | (Pending, Inactive | Firing | Unknown)
                | (Firing, Firing | Resolved | Unknown)
                | (Unknown, Pending | Firing)
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Start of the trouble.
    pub since: UnixMillis,
    /// Start of the trouble at the critical level, while it lasts.
    pub critical_since: Option<UnixMillis>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Firing {
    pub since: UnixMillis,
    /// The highest level since it fires: it never falls, so that it cannot saw.
    pub level: Level,
    pub critical_since: Option<UnixMillis>,
    /// Start of the calm, while it lasts.
    pub fine_since: Option<UnixMillis>,
}

/// What an alert was when its machine went away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    Pending(Pending),
    Firing(Firing),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lifecycle {
    #[default]
    Inactive,
    Pending(Pending),
    Firing(Firing),
    Resolved,
    Unknown(Held),
}

/// One step of a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub from: Phase,
    pub to: Phase,
    pub at: UnixMillis,
    /// Of the alert as it fires or fired.
    pub level: Option<Level>,
}

impl Lifecycle {
    pub fn phase(&self) -> Phase {
        match self {
            Self::Inactive => Phase::Inactive,
            Self::Pending(_) => Phase::Pending,
            Self::Firing(_) => Phase::Firing,
            Self::Resolved => Phase::Resolved,
            Self::Unknown(_) => Phase::Unknown,
        }
    }

    /// Inactive or resolved: nothing to remember.
    pub fn is_calm(&self) -> bool {
        matches!(self, Self::Inactive | Self::Resolved)
    }

    /// While it fires, or did when its machine went away.
    pub fn firing(&self) -> Option<&Firing> {
        match self {
            Self::Firing(firing) | Self::Unknown(Held::Firing(firing)) => Some(firing),
            _ => None,
        }
    }

    /// Takes in what a value at `at` says.
    pub fn judge(
        &mut self,
        at: UnixMillis,
        verdict: Verdict,
        timing: Timing,
        emit: &mut dyn FnMut(Step),
    ) {
        self.come_back(at, emit);
        if let (Self::Inactive | Self::Resolved, Verdict::Trouble(level)) = (&self, verdict) {
            let critical_since = (level == Level::Critical).then_some(at);
            let pending = Pending { since: at, critical_since };
            self.go(Self::Pending(pending), at, emit);
        }
        match self {
            Self::Pending(pending) => match verdict {
                Verdict::Trouble(level) => {
                    note_critical(&mut pending.critical_since, level, at);
                    let pending = *pending;
                    if at.since(pending.since) >= timing.for_ms {
                        self.fire(pending, at, level, timing, emit);
                    }
                }
                Verdict::Between | Verdict::Fine => self.go(Self::Inactive, at, emit),
            },
            Self::Firing(firing) => match verdict {
                Verdict::Trouble(level) => {
                    firing.fine_since = None;
                    note_critical(&mut firing.critical_since, level, at);
                    let rises = firing.level < level
                        && firing.critical_since.is_some_and(|c| at.since(c) >= timing.for_ms);
                    if rises {
                        let higher = Firing { level, ..*firing };
                        self.go(Self::Firing(higher), at, emit);
                    }
                }
                Verdict::Between => {
                    firing.fine_since = None;
                    firing.critical_since = None;
                }
                Verdict::Fine => {
                    firing.critical_since = None;
                    let fine_since = *firing.fine_since.get_or_insert(at);
                    if at.since(fine_since) >= timing.keep_firing_ms {
                        self.go(Self::Resolved, at, emit);
                    }
                }
            },
            Self::Inactive | Self::Resolved | Self::Unknown(_) => {}
        }
    }

    /// Lets time pass up to `to` while `standing` goes on without a value that says so. Deadlines take
    /// effect at their own time.
    pub fn pass(
        &mut self,
        to: UnixMillis,
        standing: Verdict,
        timing: Timing,
        emit: &mut dyn FnMut(Step),
    ) {
        let deadline = match (&self, standing) {
            (Self::Pending(pending), Verdict::Trouble(_)) => pending.since + timing.for_ms,
            (Self::Firing(firing), Verdict::Fine) => match firing.fine_since {
                Some(fine_since) => fine_since + timing.keep_firing_ms,
                None => return,
            },
            _ => return,
        };
        if deadline <= to {
            self.judge(deadline, standing, timing, emit);
        }
    }

    /// The machine went away.
    pub fn lose_sight(&mut self, at: UnixMillis, emit: &mut dyn FnMut(Step)) {
        match *self {
            Self::Pending(pending) => self.go(Self::Unknown(Held::Pending(pending)), at, emit),
            Self::Firing(firing) => self.go(Self::Unknown(Held::Firing(firing)), at, emit),
            Self::Inactive | Self::Resolved | Self::Unknown(_) => {}
        }
    }

    /// There is nothing left to watch: its rule, its series or its machine is gone for good.
    pub fn withdraw(&mut self, at: UnixMillis, emit: &mut dyn FnMut(Step)) {
        self.come_back(at, emit);
        match self {
            Self::Pending(_) => self.go(Self::Inactive, at, emit),
            Self::Firing(_) => self.go(Self::Resolved, at, emit),
            Self::Inactive | Self::Resolved | Self::Unknown(_) => {}
        }
    }

    fn come_back(&mut self, at: UnixMillis, emit: &mut dyn FnMut(Step)) {
        // Time away proves nothing: neither trouble that lasts nor calm that lasts.
        match *self {
            Self::Unknown(Held::Pending(_)) => {
                let pending = Pending { since: at, critical_since: None };
                self.go(Self::Pending(pending), at, emit);
            }
            Self::Unknown(Held::Firing(firing)) => {
                let firing = Firing { critical_since: None, fine_since: None, ..firing };
                self.go(Self::Firing(firing), at, emit);
            }
            Self::Inactive | Self::Pending(_) | Self::Firing(_) | Self::Resolved => {}
        }
    }

    fn fire(
        &mut self,
        pending: Pending,
        at: UnixMillis,
        level: Level,
        timing: Timing,
        emit: &mut dyn FnMut(Step),
    ) {
        // Critical now, but critical for too short: the level below it, when the rule has one, is true.
        let long_critical = pending.critical_since.is_some_and(|c| at.since(c) >= timing.for_ms);
        let always_critical = pending.critical_since == Some(pending.since);
        let level = match level {
            Level::Critical if !long_critical && !always_critical => Level::Warning,
            level => level,
        };
        let firing =
            Firing { since: at, level, critical_since: pending.critical_since, fine_since: None };
        self.go(Self::Firing(firing), at, emit);
    }

    fn go(&mut self, next: Self, at: UnixMillis, emit: &mut dyn FnMut(Step)) {
        let from = self.phase();
        let level = next.firing().or(self.firing()).map(|firing| firing.level);
        *self = next;
        emit(Step { from, to: next.phase(), at, level });
    }
}

fn note_critical(since: &mut Option<UnixMillis>, level: Level, at: UnixMillis) {
    match level {
        Level::Critical => _ = since.get_or_insert(at),
        Level::Warning => *since = None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rule::{Limit, Side};

    const LIMIT: Limit =
        Limit { side: Side::Above, warning: Some(0.8), critical: Some(0.9), recover: Some(0.7) };

    /// Runs values a second apart; the story reads `P2 F4 R9`.
    fn story(values: &[f64], timing: Timing) -> String {
        let mut life = Lifecycle::default();
        let mut told = Vec::new();
        for (i, value) in values.iter().enumerate() {
            let at = UnixMillis(i as i64 * 1000);
            life.judge(at, LIMIT.verdict(*value), timing, &mut |step| {
                let letter = match (step.from, step.to, step.level) {
                    (Phase::Firing, Phase::Firing, _) => "^",
                    (_, Phase::Firing, Some(Level::Critical)) => "C",
                    (_, Phase::Firing, _) => "F",
                    (_, Phase::Pending, _) => "P",
                    (_, Phase::Resolved, _) => "R",
                    (_, Phase::Inactive, _) => "I",
                    (_, Phase::Unknown, _) => "U",
                };
                told.push(format!("{letter}{i}"));
            });
        }
        told.join(" ")
    }

    #[test]
    fn a_life_goes_step_by_step() {
        let check = |values: &[f64], for_s: i64, keep_s: i64, expected: &str| {
            let timing = Timing { for_ms: for_s * 1000, keep_firing_ms: keep_s * 1000 };
            assert_eq!(story(values, timing), expected, "{values:?}");
        };
        check(&[0.5, 0.85, 0.5], 0, 0, "P1 F1 R2");
        check(&[0.5, 0.85, 0.85, 0.85, 0.5], 2, 0, "P1 F3 R4");
        check(&[0.85, 0.75, 0.85, 0.85], 2, 0, "P0 I1 P2");
        check(&[0.85, 0.75, 0.85, 0.7], 0, 0, "P0 F0 R3");
        check(&[0.85, 0.5, 0.85, 0.5, 0.5, 0.5], 0, 2, "P0 F0 R5");
        // A rise to critical is told once, and only when it lasts.
        check(&[0.85, 0.95, 0.85, 0.95], 0, 0, "P0 F0 ^1");
        check(&[0.85, 0.85, 0.95, 0.95, 0.95], 1, 0, "P0 F1 ^3");
        check(&[0.95, 0.95], 1, 0, "P0 C1");
        check(&[0.85, 0.95], 1, 0, "P0 F1");
    }

    #[test]
    fn an_hour_of_sawing_across_the_threshold_is_one_alert_with_a_recover_threshold() {
        let saw: Vec<f64> =
            (0..3600).map(|i| if i % 2 == 0 { 0.85 } else { 0.75 }).chain([0.1]).collect();
        assert_eq!(story(&saw, Timing::default()), "P0 F0 R3600");
    }

    #[test]
    fn a_deadline_takes_effect_at_its_own_time_whenever_it_is_noticed() {
        let timing = Timing { for_ms: 60_000, keep_firing_ms: 0 };
        let trouble = Verdict::Trouble(Level::Critical);
        for noticed in [60_000, 61_000, 300_000] {
            let mut life = Lifecycle::default();
            let mut last = None;
            life.judge(UnixMillis(0), trouble, timing, &mut |s| last = Some(s));
            life.pass(UnixMillis(59_999), trouble, timing, &mut |s| last = Some(s));
            assert_eq!(life.phase(), Phase::Pending);
            life.pass(UnixMillis(noticed), trouble, timing, &mut |s| last = Some(s));
            assert_eq!(last.map(|s| (s.to, s.at)), Some((Phase::Firing, UnixMillis(60_000))));
        }
    }

    #[test]
    fn time_away_counts_neither_as_trouble_nor_as_calm() {
        let timing = Timing { for_ms: 10_000, keep_firing_ms: 0 };
        let mut life = Lifecycle::default();
        let warning = Verdict::Trouble(Level::Warning);
        life.judge(UnixMillis(0), warning, timing, &mut |_| {});
        life.lose_sight(UnixMillis(1000), &mut |_| {});
        assert_eq!(life.phase(), Phase::Unknown);
        life.judge(UnixMillis(60_000), warning, timing, &mut |_| {});
        assert_eq!(life.phase(), Phase::Pending, "sixty seconds away are not ten of trouble");
        life.judge(UnixMillis(70_000), warning, timing, &mut |_| {});
        assert_eq!(life.phase(), Phase::Firing);
        life.lose_sight(UnixMillis(71_000), &mut |_| {});
        let mut steps = Vec::new();
        life.judge(UnixMillis(80_000), Verdict::Fine, timing, &mut |s| steps.push(s.to));
        assert_eq!(steps, [Phase::Firing, Phase::Resolved]);
    }

    #[derive(Clone, Debug)]
    enum Happening {
        Value(f64),
        Silence(i64),
        Away,
        Withdrawn,
    }

    fn happening() -> impl Strategy<Value = Happening> {
        prop_oneof![
            8 => (0.5..1.0f64).prop_map(Happening::Value),
            2 => (0..20_000i64).prop_map(Happening::Silence),
            1 => Just(Happening::Away),
            1 => Just(Happening::Withdrawn),
        ]
    }

    proptest! {
        #[test]
        fn a_life_never_skips_a_state_and_never_goes_back_in_time(
            happenings in prop::collection::vec((0..5000i64, happening()), 0..200),
            for_ms in 0..10_000i64,
            keep_firing_ms in 0..10_000i64,
        ) {
            let timing = Timing { for_ms, keep_firing_ms };
            let mut life = Lifecycle::default();
            let mut steps: Vec<Step> = Vec::new();
            let mut now = UnixMillis(0);
            let mut standing = Verdict::Fine;
            for (pause, happening) in happenings {
                now = now + pause;
                let emit = &mut |step| steps.push(step);
                match happening {
                    Happening::Value(value) => {
                        life.pass(now, standing, timing, emit);
                        standing = LIMIT.verdict(value);
                        life.judge(now, standing, timing, emit);
                    }
                    Happening::Silence(ms) => {
                        now = now + ms;
                        life.pass(now, standing, timing, emit);
                    }
                    Happening::Away => life.lose_sight(now, emit),
                    Happening::Withdrawn => life.withdraw(now, emit),
                }
            }
            let mut phase = Phase::Inactive;
            let mut at = UnixMillis(0);
            for step in &steps {
                prop_assert_eq!(step.from, phase);
                prop_assert!(step.from.may_become(step.to), "{:?}", step);
                prop_assert!(step.at >= at, "{:?} after {}", step, at);
                phase = step.to;
                at = step.at;
            }
            prop_assert_eq!(phase, life.phase());
        }

        #[test]
        fn firing_and_resolved_alternate_whatever_the_values(
            values in prop::collection::vec(0.0..1.0f64, 0..500),
        ) {
            let mut life = Lifecycle::default();
            let mut open = false;
            for (i, value) in values.iter().enumerate() {
                let at = UnixMillis(i as i64);
                life.judge(at, LIMIT.verdict(*value), Timing::default(), &mut |step| {
                    match (step.from, step.to) {
                        (Phase::Pending, Phase::Firing) => { assert!(!open); open = true; }
                        (_, Phase::Resolved) => { assert!(open); open = false; }
                        _ => {}
                    }
                });
            }
        }
    }
}
