//! One rule on one series of one machine, with what it remembers.

use std::sync::Arc;

use model::{Layout, MachineId, Series, UnixMillis};

use super::occurrences::Occurrences;
use super::points::{Points, Reading, grows_worse};
use super::{Alert, AlertId, Cause, Change, Identity, Lifecycle, Phase, Rule};
use crate::rule::{Aggregate, Condition, Level, NoData, Side, Verdict};

#[derive(Debug)]
pub(super) struct Instance {
    pub(super) id: AlertId,
    pub(super) rule: Arc<Rule>,
    /// The layout that the series was seen in, and its column. Absent for rules about the machine itself.
    pub(super) place: Option<(Layout, u32)>,
    pub(super) life: Lifecycle,
    points: Option<Box<Points>>,
    /// Of rules about logs.
    found: Option<Box<Occurrences>>,
    /// Where the machine keeps the value to divide by, once it is known.
    pub(super) divisor: Option<u32>,
    /// Time of the latest value, or of the moment from which one was expected.
    newest: UnixMillis,
    /// What holds until a value says otherwise: the machine is offline, the series has no data.
    standing: Option<Verdict>,
    value: f64,
    peak: f64,
}

/// Whose instance it is: what every change needs to tell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner<'a> {
    pub(super) machine: MachineId,
    pub(super) identity: &'a Arc<Identity>,
}

impl Instance {
    pub(super) fn new(
        machine: MachineId,
        rule: Arc<Rule>,
        place: Option<(Layout, u32)>,
        from: UnixMillis,
    ) -> Self {
        let series = place.as_ref().map(|(layout, column)| &layout.series()[*column as usize]);
        Self {
            id: AlertId::of(&rule.id, machine, series),
            points: points(&rule),
            found: found(&rule),
            rule,
            place,
            life: Lifecycle::default(),
            divisor: None,
            newest: from,
            standing: None,
            value: f64::NAN,
            peak: f64::NAN,
        }
    }

    pub(super) fn resume(&mut self, life: Lifecycle, value: f64, peak: f64, since: UnixMillis) {
        self.life = life;
        self.value = value;
        self.peak = peak;
        if let Some(found) = &mut self.found {
            found.begin_blind(since);
        }
        let Condition::Offline { level } = self.rule.spec.condition else { return };
        // A machine that was offline is so until it is heard of. But it gets the whole time again to be
        // heard of: while we were down it could not be.
        if let Lifecycle::Pending(pending) = &mut self.life {
            pending.since = pending.since.max(since);
        }
        if !self.life.is_calm() {
            self.standing = Some(Verdict::Trouble(level));
        }
    }

    pub(super) fn series(&self) -> Option<&Series> {
        self.place.as_ref().map(|(layout, column)| &layout.series()[*column as usize])
    }

    pub(super) fn newest(&self) -> UnixMillis {
        self.newest
    }

    pub(super) fn is_tumbling(&self) -> bool {
        self.points.as_ref().is_some_and(|points| points.is_tumbling())
    }

    /// Goes on under a new revision of its rule. Values that were gathered for another signal go.
    pub(super) fn follow(&mut self, owner: Owner<'_>, rule: &Arc<Rule>, out: &mut Vec<Change>) {
        let signal = |rule: &Rule| {
            rule.spec.threshold().map(|t| (t.aggregate, t.window, t.divide_by.clone()))
        };
        if signal(&self.rule) != signal(rule) {
            self.points = points(rule);
            self.divisor = None;
        }
        let asked = |rule: &Rule| rule.spec.log().map(|log| (log.query.clone(), log.window_ms));
        if asked(&self.rule) != asked(rule) {
            let before = self.found.take();
            self.found = found(rule);
            if let (Some(found), Some(before)) = (&mut self.found, before) {
                found.begin_blind(before.end());
            }
        }
        let limit = |rule: &Rule| rule.spec.log().map(|log| log.limit);
        let judged = |rule: &Rule| (asked(rule), limit(rule));
        let anew = self.found.is_some() && judged(&self.rule) != judged(rule);
        self.rule = Arc::clone(rule);
        if anew {
            // What stood was said of another count, or by other limits.
            self.standing = None;
            self.judge_found(owner, out);
        }
    }

    /// A fresh value. `watermark` is that of its machine with this frame.
    pub(super) fn take(
        &mut self,
        owner: Owner<'_>,
        time: UnixMillis,
        value: f64,
        watermark: UnixMillis,
        out: &mut Vec<Change>,
    ) {
        self.expire(owner, time, out);
        self.close(owner, watermark, out);
        self.standing = None;
        self.newest = time;
        let Some(points) = &mut self.points else {
            let reading = Reading { at: time, value, complete: true };
            return self.judge(owner, reading, out);
        };
        points.add(time, value);
        if let Some(reading) = points.latest() {
            self.judge(owner, reading, out);
        }
    }

    /// A log event that the rule asks for. False when it came too late for the window.
    pub(super) fn take_log(
        &mut self,
        owner: Owner<'_>,
        time: UnixMillis,
        out: &mut Vec<Change>,
    ) -> bool {
        self.expire(owner, time, out);
        self.newest = self.newest.max(time);
        let counts = self.found.as_mut().is_some_and(|found| found.add(time));
        if counts {
            self.judge_found(owner, out);
        }
        counts
    }

    /// Judges the count wherever it changed up to `to`.
    fn pass_found(&mut self, owner: Owner<'_>, to: UnixMillis, out: &mut Vec<Change>) {
        while let Some(at) = self.found.as_mut().and_then(|found| found.next_change(to)) {
            self.stand(owner, at, out);
            self.judge_found(owner, out);
        }
    }

    fn judge_found(&mut self, owner: Owner<'_>, out: &mut Vec<Change>) {
        let (Some(found), Some(limit)) = (&self.found, self.rule.spec.limit()) else { return };
        let (value, complete) = found.count();
        let verdict = limit.verdict(value);
        let reading = Reading { at: found.end(), value, complete };
        // It holds until the count changes.
        let holds = complete || matches!(verdict, Verdict::Trouble(_));
        self.standing = holds.then_some(verdict);
        self.judge(owner, reading, out);
    }

    /// A value that is not the newest, for a window that may still be open. False when it came too late.
    pub(super) fn take_older(&mut self, time: UnixMillis, value: f64) -> bool {
        match &mut self.points {
            Some(points) if points.is_tumbling() => points.add(time, value),
            _ => false,
        }
    }

    /// Judges every tumbling window that is closed at the watermark.
    pub(super) fn close(&mut self, owner: Owner<'_>, watermark: UnixMillis, out: &mut Vec<Change>) {
        while let Some(reading) = self.points.as_mut().and_then(|points| points.close(watermark)) {
            self.judge(owner, reading, out);
        }
    }

    /// Lets time pass up to `to`: a series may have no data by then, and what stands may have stood for
    /// long enough.
    pub(super) fn expire(&mut self, owner: Owner<'_>, to: UnixMillis, out: &mut Vec<Change>) {
        self.pass_found(owner, to, out);
        if let Some(threshold) = self.rule.spec.threshold() {
            let gone_at = self.newest + self.rule.spec.no_data_after_ms;
            if self.standing.is_none() && gone_at <= to {
                let verdict = match self.rule.spec.no_data {
                    NoData::Fine => Verdict::Fine,
                    NoData::Trouble => Verdict::Trouble(threshold.limit.nearest().1),
                    NoData::Keep => return,
                };
                self.standing = Some(verdict);
                self.value = f64::NAN;
                if self.life.is_calm() {
                    self.peak = f64::NAN;
                }
                self.step(owner, Cause::NoData, out, |life, timing, emit| {
                    life.judge(gone_at, verdict, timing, emit);
                });
            }
        }
        self.stand(owner, to, out);
    }

    /// What stands may have stood for long enough at `to`.
    fn stand(&mut self, owner: Owner<'_>, to: UnixMillis, out: &mut Vec<Change>) {
        if let Some(standing) = self.standing {
            let cause = match self.rule.spec.condition {
                Condition::Threshold(_) => Cause::NoData,
                Condition::Offline { .. } => Cause::MachineStatus,
                Condition::Log(_) => Cause::Value,
            };
            self.step(owner, cause, out, |life, timing, emit| {
                life.pass(to, standing, timing, emit);
            });
        }
    }

    /// For rules about the machine itself: it is offline since then, or is not.
    pub(super) fn set_offline(
        &mut self,
        owner: Owner<'_>,
        offline: Option<Level>,
        at: UnixMillis,
        out: &mut Vec<Change>,
    ) {
        let verdict = offline.map_or(Verdict::Fine, Verdict::Trouble);
        if self.standing == Some(verdict) {
            return;
        }
        // What stood until now may have lasted long enough before it changed.
        self.expire(owner, at, out);
        self.standing = Some(verdict);
        self.newest = at;
        self.step(owner, Cause::MachineStatus, out, |life, timing, emit| {
            life.judge(at, verdict, timing, emit);
        });
    }

    pub(super) fn lose_sight(&mut self, owner: Owner<'_>, at: UnixMillis, out: &mut Vec<Change>) {
        self.expire(owner, at, out);
        let at = at.max(self.newest);
        self.step(owner, Cause::MachineStatus, out, |life, _, emit| life.lose_sight(at, emit));
    }

    /// Its machine is back: a value is expected from now on.
    pub(super) fn expect(&mut self, owner: Owner<'_>, from: UnixMillis, out: &mut Vec<Change>) {
        self.newest = self.newest.max(from);
        self.standing = None;
        if self.found.is_some() {
            // What was logged meanwhile is known, or was never logged: the count is the truth.
            self.pass_found(owner, from, out);
            self.judge_found(owner, out);
        }
    }

    pub(super) fn withdraw(
        &mut self,
        owner: Owner<'_>,
        at: UnixMillis,
        cause: Cause,
        out: &mut Vec<Change>,
    ) {
        self.step(owner, cause, out, |life, _, emit| life.withdraw(at, emit));
    }

    fn judge(&mut self, owner: Owner<'_>, reading: Reading, out: &mut Vec<Change>) {
        let (limit, aggregate) = match &self.rule.spec.condition {
            Condition::Threshold(threshold) => (threshold.limit, threshold.aggregate),
            Condition::Log(log) => (log.limit, Aggregate::Count),
            Condition::Offline { .. } => return,
        };
        let verdict = limit.verdict(reading.value);
        self.value = reading.value;
        let trouble = matches!(verdict, Verdict::Trouble(_));
        // A part of the window is enough only where more values cannot make it better.
        let enough = reading.complete || trouble && grows_worse(aggregate, limit.side);
        if !enough {
            return;
        }
        if trouble || !self.life.is_calm() {
            let worse = match limit.side {
                Side::Above => self.peak.max(reading.value),
                Side::Below => self.peak.min(reading.value),
            };
            self.peak = if self.life.is_calm() { reading.value } else { worse };
        } else if verdict == Verdict::Fine {
            // The common case, and nothing changes.
            return;
        }
        self.step(owner, Cause::Value, out, |life, timing, emit| {
            life.judge(reading.at, verdict, timing, emit);
        });
    }

    fn step(
        &mut self,
        owner: Owner<'_>,
        cause: Cause,
        out: &mut Vec<Change>,
        act: impl FnOnce(&mut Lifecycle, crate::rule::Timing, &mut dyn FnMut(crate::lifecycle::Step)),
    ) {
        let mut life = self.life;
        let first = out.len();
        let mut steps = Vec::new();
        act(&mut life, self.rule.spec.timing, &mut |step| steps.push(step));
        self.life = life;
        for step in steps {
            out.push(Change {
                at: step.at,
                from: step.from,
                to: step.to,
                level: step.level,
                cause,
                alert: self.alert(owner),
            });
        }
        debug_assert!(out[first..].iter().all(|change| change.from.may_become(change.to)));
    }

    pub(super) fn alert(&self, owner: Owner<'_>) -> Alert {
        Alert {
            id: self.id,
            rule: Arc::clone(&self.rule),
            machine: owner.machine,
            identity: Arc::clone(owner.identity),
            series: self.series().cloned(),
            life: self.life,
            value: self.value,
            peak: self.peak,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.life.phase()
    }
}

fn found(rule: &Rule) -> Option<Box<Occurrences>> {
    rule.spec.log().map(|log| Box::new(Occurrences::new(log.window_ms)))
}

fn points(rule: &Rule) -> Option<Box<Points>> {
    let threshold = rule.spec.threshold()?;
    Points::of(threshold, rule.spec.no_data_after_ms).map(Box::new)
}
