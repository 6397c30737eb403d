//! How many events a second one source may give. What is more is left out, counted, and told in a line of
//! its own among those that were kept, so that nobody takes the rest for the whole.
//!
//! What counts is how fast a source is written, not how fast it is read: a file that waited while the
//! server was away is read at once, and all of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use model::{Labels, LogEvent, Severity, UnixMillis};

use super::outbox::Outbox;
use super::parse::Known;

/// A source that was quiet may give as many events at once as in this time.
const BURST: Duration = Duration::from_secs(10);
/// Between two lines about what was dropped, unless a source ends.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Services of one source that have a limit each; further ones share one.
const SERVICES_MAX: usize = 1_000;
const OTHERS: &str = "(others)";
/// Times that go back further than this go back because the clock was set.
const CLOCK_STEP_MS: i64 = 60_000;

/// Of one source. Pure: it is told how much time has passed.
#[derive(Clone, Debug)]
pub(super) struct Limit {
    /// 0: none.
    per_second: u32,
    /// Events that may come now.
    room: f64,
    dropped: u64,
}

impl Limit {
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second, room: Self::burst(per_second), dropped: 0 }
    }

    /// As this one is now, for what is written in its place.
    pub(super) fn passed_on(&self) -> Self {
        Self { dropped: 0, ..*self }
    }

    /// Time has passed. While not all was read that is there, room grows without bound: what was written
    /// in that time is still to come.
    pub(super) fn refill(&mut self, elapsed: Duration, is_caught_up: bool) {
        self.room += elapsed.as_secs_f64() * f64::from(self.per_second);
        if is_caught_up {
            self.room = self.room.min(Self::burst(self.per_second));
        }
    }

    /// Whether one more event may come; counts it as dropped when not.
    pub(super) fn admits(&mut self) -> bool {
        if self.per_second == 0 {
            return true;
        }
        if self.room < 1.0 {
            self.dropped += 1;
            return false;
        }
        self.room -= 1.0;
        true
    }

    /// Whether something was dropped that is not told yet.
    pub(super) fn is_exceeded(&self) -> bool {
        self.dropped > 0
    }

    /// What was dropped and is not told yet.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Why something is dropped.
    pub(super) fn why(&self) -> String {
        format!("they came faster than {} a second", self.per_second)
    }

    fn burst(per_second: u32) -> f64 {
        f64::from(per_second) * BURST.as_secs_f64()
    }
}

/// When it is time to tell again what was dropped.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Teller {
    told_at: Option<Instant>,
}

impl Teller {
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.told_at.is_none_or(|at| now.saturating_duration_since(at) >= TELL_EVERY);
        if due {
            self.told_at = Some(now);
        }
        due
    }
}

/// Of a source that has the events of many services.
#[derive(Debug)]
pub(super) struct Limits {
    per_second: u32,
    services: BTreeMap<String, (UnixMillis, Limit)>,
    teller: Teller,
}

impl Limits {
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second, services: BTreeMap::new(), teller: Teller::default() }
    }

    /// Whether one more event of the service may come, written at `time`.
    pub(super) fn admits(&mut self, service: &str, time: UnixMillis) -> bool {
        if self.per_second == 0 {
            return true;
        }
        if self.services.len() >= SERVICES_MAX && !self.services.contains_key(service) {
            self.forget(time);
        }
        let is_room = self.services.len() < SERVICES_MAX || self.services.contains_key(service);
        let key = if is_room { service } else { OTHERS };
        if !self.services.contains_key(key) {
            self.services.insert(key.to_owned(), (time, Limit::new(self.per_second)));
        }
        let Some((at, limit)) = self.services.get_mut(key) else { return true };
        // The time of events may go back a little; no room comes of that. When the clock was set, it goes
        // on from there.
        let elapsed = u64::try_from(time.0.saturating_sub(at.0)).unwrap_or(0);
        let was_set = at.0.saturating_sub(time.0) > CLOCK_STEP_MS;
        *at = if was_set { time } else { (*at).max(time) };
        limit.refill(Duration::from_millis(elapsed), true);
        limit.admits()
    }

    /// Lets go of services that were quiet for so long that they may give a whole burst again.
    fn forget(&mut self, time: UnixMillis) {
        let burst_ms = BURST.as_millis() as i64;
        self.services.retain(|_, (at, limit)| {
            limit.is_exceeded() || time.0.saturating_sub(at.0).abs() < burst_ms
        });
    }

    /// Whether something was dropped that is not told yet.
    pub(super) fn is_exceeded(&self) -> bool {
        self.services.values().any(|(_, limit)| limit.is_exceeded())
    }

    /// What was dropped and is not told yet, of each service; now and then. Gives a line for each.
    pub(super) fn notices(
        &mut self,
        source: &'static str,
        now: (Instant, UnixMillis),
        outbox: &Outbox,
    ) -> Vec<LogEvent> {
        match self.is_exceeded() && self.teller.is_due(now.0) {
            true => self.last_notices(source, now.1, outbox),
            false => Vec::new(),
        }
    }

    /// As [`Limits::notices`], for when there is no later.
    pub(super) fn last_notices(
        &mut self,
        source: &'static str,
        now: UnixMillis,
        outbox: &Outbox,
    ) -> Vec<LogEvent> {
        let why = Limit::new(self.per_second).why();
        let notice = |(service, dropped): (String, u64)| {
            outbox.add_dropped(dropped);
            let known = Known { service: Some(service), source, ..Known::default() };
            notice(&known, dropped, &why, now)
        };
        self.take_dropped().into_iter().map(notice).collect()
    }

    fn take_dropped(&mut self) -> Vec<(String, u64)> {
        let services = self.services.iter_mut();
        let dropped = services.map(|(name, (_, limit))| (name.clone(), limit.take_dropped()));
        dropped.filter(|(_, dropped)| *dropped > 0).collect()
    }
}

/// The line that tells what was dropped of a source.
pub(super) fn notice(known: &Known, dropped: u64, why: &str, now: UnixMillis) -> LogEvent {
    let number = ("muster.log.dropped".to_owned(), dropped.to_string());
    let attributes = known.attributes().into_iter().chain([number]);
    let service = known.service.clone().unwrap_or_else(|| known.service_otherwise.clone());
    let events = if dropped == 1 { "log event was" } else { "log events were" };
    LogEvent {
        time: now,
        severity: Severity::new(13).unwrap_or_default(),
        service,
        body: format!("{dropped} {events} dropped here: {why}"),
        body_truncated: false,
        attributes: Labels::new(attributes).unwrap_or_default(),
        source: known.source.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn admitted(limit: &mut Limit, events: u32) -> u32 {
        (0..events).filter(|_| limit.admits()).count() as u32
    }

    #[test]
    fn a_burst_is_let_through_and_what_goes_on_is_limited() {
        let mut limit = Limit::new(100);
        assert_eq!(admitted(&mut limit, 5_000), 1_000, "ten seconds at once");
        assert_eq!(limit.take_dropped(), 4_000);
        limit.refill(Duration::from_secs(1), true);
        assert_eq!(admitted(&mut limit, 5_000), 100);
        assert_eq!(limit.take_dropped(), 4_900);
        assert_eq!(limit.take_dropped(), 0, "told once");
    }

    #[test]
    fn what_waited_is_not_a_burst() {
        let mut limit = Limit::new(100);
        limit.refill(Duration::from_secs(3_600), false);
        assert_eq!(admitted(&mut limit, 361_000), 361_000);
        limit.refill(Duration::from_secs(3_600), true);
        assert_eq!(admitted(&mut limit, 361_000), 1_000, "read to its end, quiet for an hour");
    }

    #[test]
    fn zero_is_no_limit() {
        assert_eq!(admitted(&mut Limit::new(0), 50_000), 50_000);
        let mut limits = Limits::new(0);
        assert!((0..50_000).all(|_| limits.admits("a", UnixMillis(0))));
    }

    #[test]
    fn one_service_does_not_use_up_the_room_of_another() {
        let mut limits = Limits::new(1);
        let at = |ms: i64| UnixMillis(1_000_000 + ms);
        assert_eq!((0..50).filter(|_| limits.admits("loud", at(0))).count(), 10);
        assert!(limits.admits("quiet", at(0)));
        assert!(!limits.admits("loud", at(-5_000)), "time that goes back makes no room");
        assert!(limits.admits("loud", at(1_000)));
        assert!(limits.admits("set back", at(0)));
        assert!((0..9).all(|_| limits.admits("set back", at(-600_000))));
        assert!(!limits.admits("set back", at(-600_000)));
        assert!(limits.admits("set back", at(-599_000)), "the clock goes on from where it was set");
        let now = Instant::now();
        assert!(limits.services.remove("set back").is_some());
        let outbox = Outbox::new(tokio::sync::mpsc::channel(1).0, Arc::default());
        let mut told = |now: Instant| -> Vec<String> {
            let notices = limits.notices("test", (now, at(0)), &outbox);
            assert!(limits.admits("quiet", at(0)));
            assert!(!limits.admits("loud", at(1_000)));
            notices.into_iter().map(|event| event.body).collect()
        };
        let why = "dropped here: they came faster than 1 a second";
        assert_eq!(told(now), [format!("41 log events were {why}")]);
        assert_eq!(told(now), Vec::<String>::new(), "not each time");
        assert_eq!(told(now + TELL_EVERY), [format!("2 log events were {why}")]);
        let last = limits.last_notices("test", at(0), &outbox);
        assert_eq!(last[0].body, format!("1 log event was {why}"), "at the end, at once");
    }

    #[test]
    fn services_without_end_share_a_limit() {
        let mut limits = Limits::new(1);
        for service in 0..SERVICES_MAX {
            assert!(limits.admits(&service.to_string(), UnixMillis(0)));
        }
        let admitted = (0..500).filter(|i| limits.admits(&format!("more-{i}"), UnixMillis(0)));
        assert_eq!(admitted.count(), 10);
        assert_eq!(limits.services.len(), SERVICES_MAX + 1);
        // Those were quiet for a while.
        assert!((0..500).all(|i| limits.admits(&format!("later-{i}"), UnixMillis(20_000))));
        assert_eq!(limits.services.len(), 501, "and what the rest lost is still to be told");
    }
}
