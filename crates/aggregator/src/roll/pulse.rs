//! How a machine is doing, from what was heard of it: decisions only, no clock and no I/O.

use std::time::{Duration, Instant};

use model::{MachineStatus, UnixMillis};

use crate::clock::Now;

/// When silence means what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Least silence before a machine is offline, whatever its interval.
    pub(crate) offline_after_min: Duration,
    /// After a start of the server, nobody is declared offline before this.
    pub(crate) grace: Duration,
}

/// Intervals without a frame until a machine is stale.
const STALE_INTERVALS: u32 = 3;
/// Least time without a frame until a machine is stale: short intervals must not flap at a hiccup.
const STALE_AFTER_MIN: Duration = Duration::from_secs(1);
/// Intervals of silence until a machine is offline.
const OFFLINE_INTERVALS: u32 = 10;

/// Silence until a source of what programs push counts as stopped.
const SOURCE_QUIET: Duration = Duration::from_secs(15 * 60);

/// Why a collector said goodbye, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goodbye {
    /// The collector or the machine was stopped.
    Stopped,
    /// The machine goes to sleep.
    Suspended,
    /// The collector goes to another aggregator, or did not say why.
    Moving,
}

/// What was heard of one machine, and the status that follows.
#[derive(Clone, Debug)]
pub(crate) struct Pulse {
    status: MachineStatus,
    since: UnixMillis,
    since_mono: Instant,
    interval: Duration,
    /// When the open stream was opened.
    connected: Option<Instant>,
    /// Latest message of any kind.
    heard: Instant,
    /// Latest fresh frame; the opening of the stream before the first.
    framed: Instant,
    /// Not offline before.
    grace_until: Instant,
}

impl Pulse {
    /// A machine that was never seen before; it is about to open its stream.
    pub(crate) fn new(now: Now) -> Self {
        Self {
            status: MachineStatus::Stale,
            since: now.wall,
            since_mono: now.mono,
            interval: Duration::from_secs(1),
            connected: None,
            heard: now.mono,
            framed: now.mono,
            grace_until: now.mono,
        }
    }

    /// A machine as it was before the server started again. What was online is only recently lost: the
    /// server was away, not the machine.
    pub(crate) fn restored(
        status: MachineStatus,
        since: UnixMillis,
        patience: &Patience,
        now: Now,
    ) -> Self {
        let grace_until = now.mono + patience.grace;
        let pulse = Self { grace_until, ..Self::new(now) };
        match status {
            MachineStatus::Online | MachineStatus::Stale => pulse,
            MachineStatus::Asleep | MachineStatus::Offline | MachineStatus::Stopped => {
                Self { status, since, ..pulse }
            }
        }
    }

    /// What another aggregator, which has the machine's stream, says of it.
    pub(crate) fn overheard(&mut self, status: MachineStatus, since: UnixMillis, now: Now) {
        self.heard = now.mono;
        self.framed = now.mono;
        if (self.status, self.since) != (status, since) {
            self.status = status;
            self.since = since;
            self.since_mono = now.mono;
        }
    }

    /// Draws the conclusions of silence about a machine whose stream another aggregator has, or had before
    /// it died: with twice the patience, since that one decides first.
    pub(crate) fn sweep_elsewhere(&mut self, patience: &Patience, now: Now) {
        let lost = matches!(self.status, MachineStatus::Online | MachineStatus::Stale);
        let silent = now.since(self.heard) >= 2 * self.offline_after(patience);
        if lost && silent && now.mono >= self.grace_until {
            self.become_(MachineStatus::Offline, now);
        }
    }

    pub(crate) fn status(&self) -> MachineStatus {
        self.status
    }

    pub(crate) fn since(&self) -> UnixMillis {
        self.since
    }

    pub(crate) fn connected(&self) -> bool {
        self.connected.is_some()
    }

    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }

    pub(crate) fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
    }

    /// Its stream opened. That alone does not bring a machine online: frames do.
    pub(crate) fn opened(&mut self, now: Now) {
        self.connected = Some(now.mono);
        self.heard = now.mono;
        self.framed = now.mono;
    }

    /// A message came, of whatever age: somebody is there.
    pub(crate) fn heard(&mut self, now: Now) {
        self.heard = now.mono;
    }

    /// A frame of the present came.
    pub(crate) fn framed(&mut self, now: Now) {
        self.heard = now.mono;
        self.framed = now.mono;
        self.become_(MachineStatus::Online, now);
    }

    /// It said that it is about to sleep, and keeps its stream.
    pub(crate) fn suspended(&mut self, now: Now) {
        self.heard = now.mono;
        self.become_(MachineStatus::Asleep, now);
    }

    pub(crate) fn said_goodbye(&mut self, goodbye: Goodbye, now: Now) {
        self.heard = now.mono;
        match goodbye {
            Goodbye::Stopped => self.become_(MachineStatus::Stopped, now),
            Goodbye::Suspended => self.become_(MachineStatus::Asleep, now),
            Goodbye::Moving => {}
        }
    }

    /// Its stream ended, for whatever reason.
    pub(crate) fn closed(&mut self) {
        self.connected = None;
    }

    /// Draws the conclusions of silence. Called every now and then.
    pub(crate) fn sweep(&mut self, patience: &Patience, now: Now) {
        let stale_after = (self.interval * STALE_INTERVALS).max(STALE_AFTER_MIN);
        let silent = now.since(self.heard) >= self.offline_after(patience);
        match self.status {
            MachineStatus::Online if now.since(self.framed) >= stale_after => {
                self.become_(MachineStatus::Stale, now);
            }
            MachineStatus::Stale if silent && now.mono >= self.grace_until => {
                self.become_(MachineStatus::Offline, now);
            }
            MachineStatus::Asleep | MachineStatus::Offline | MachineStatus::Stopped => {
                // It came back since and talks, but sends nothing of the present.
                let back = self.connected.is_some_and(|opened| {
                    opened > self.since_mono && now.since(opened) >= stale_after
                });
                if back && !silent {
                    self.become_(MachineStatus::Stale, now);
                }
            }
            MachineStatus::Online | MachineStatus::Stale => {}
        }
    }

    /// Programs push when they have something to say: a source that says nothing for long has stopped, which is
    /// nothing to tell anybody.
    pub(crate) fn sweep_source(&mut self, now: Now) {
        if self.status != MachineStatus::Stopped && now.since(self.heard) >= SOURCE_QUIET {
            self.become_(MachineStatus::Stopped, now);
        }
    }

    fn offline_after(&self, patience: &Patience) -> Duration {
        (self.interval * OFFLINE_INTERVALS).max(patience.offline_after_min)
    }

    fn become_(&mut self, status: MachineStatus, now: Now) {
        if self.status != status {
            self.status = status;
            self.since = now.wall;
            self.since_mono = now.mono;
        }
    }
}

#[cfg(test)]
mod tests {
    use MachineStatus::{Asleep, Offline, Online, Stale, Stopped};

    use super::*;

    const PATIENCE: Patience =
        Patience { offline_after_min: Duration::from_secs(15), grace: Duration::from_secs(60) };

    /// A pulse and a clock that is moved by hand, with the sweeps in between.
    struct Story {
        pulse: Pulse,
        now: Now,
    }

    impl Story {
        fn begins() -> Self {
            let now = Now::read();
            Self { pulse: Pulse::new(now), now }
        }

        fn restored(status: MachineStatus) -> Self {
            let now = Now::read();
            let since = now.wall - 1_000_000;
            Self { pulse: Pulse::restored(status, since, &PATIENCE, now), now }
        }

        fn online() -> Self {
            Self::begins().then(|p, now| p.opened(now)).then(|p, now| p.framed(now))
        }

        fn then(mut self, happens: impl FnOnce(&mut Pulse, Now)) -> Self {
            happens(&mut self.pulse, self.now);
            self
        }

        fn after_ms(mut self, ms: u64) -> Self {
            let end = self.now.plus_ms(ms);
            while self.now.mono < end.mono {
                self.now = self.now.plus_ms(ms.min(500));
                self.pulse.sweep(&PATIENCE, self.now);
            }
            self
        }

        #[track_caller]
        fn is(self, status: MachineStatus) -> Self {
            assert_eq!(self.pulse.status(), status);
            self
        }
    }

    #[test]
    fn frames_bring_a_machine_online_and_a_hello_alone_does_not() {
        Story::begins()
            .then(|p, now| p.opened(now))
            .is(Stale)
            .then(|p, now| p.framed(now))
            .is(Online);
    }

    #[test]
    fn a_machine_without_a_frame_for_three_intervals_is_stale() {
        Story::online().after_ms(2_500).is(Online).after_ms(500).is(Stale);
        let slow = |p: &mut Pulse, _| p.set_interval(Duration::from_secs(10));
        Story::online().then(slow).after_ms(29_500).is(Online).after_ms(500).is(Stale);
        let quick = |p: &mut Pulse, _| p.set_interval(Duration::from_millis(100));
        Story::online().then(quick).after_ms(500).is(Online).after_ms(500).is(Stale);
    }

    #[test]
    fn a_quiet_machine_is_offline_after_fifteen_seconds_or_ten_intervals() {
        Story::online().after_ms(14_500).is(Stale).after_ms(500).is(Offline);
        let slow = |p: &mut Pulse, _| p.set_interval(Duration::from_secs(10));
        Story::online().then(slow).after_ms(99_500).is(Stale).after_ms(500).is(Offline);
    }

    #[test]
    fn a_broken_stream_that_returns_in_time_is_never_offline() {
        Story::online()
            .then(|p, _| p.closed())
            .after_ms(10_000)
            .is(Stale)
            .then(|p, now| p.opened(now))
            .after_ms(10_000)
            .is(Stale)
            .then(|p, now| p.framed(now))
            .is(Online);
    }

    #[test]
    fn a_machine_that_only_drains_its_backlog_is_stale_and_not_offline() {
        let mut story = Story::online();
        for _ in 0..60 {
            story = story.then(|p, now| p.heard(now)).after_ms(1_000);
        }
        story.is(Stale);
    }

    #[test]
    fn an_offline_machine_that_comes_back_without_frames_is_stale() {
        Story::online()
            .then(|p, _| p.closed())
            .after_ms(20_000)
            .is(Offline)
            .then(|p, now| p.opened(now))
            .is(Offline)
            .after_ms(3_000)
            .is(Stale);
    }

    #[test]
    fn a_machine_that_said_goodbye_stays_stopped() {
        Story::online()
            .then(|p, now| p.said_goodbye(Goodbye::Stopped, now))
            .then(|p, _| p.closed())
            .after_ms(100_000)
            .is(Stopped)
            .then(|p, now| p.opened(now))
            .then(|p, now| p.framed(now))
            .is(Online);
    }

    #[test]
    fn a_suspended_laptop_is_not_down() {
        // With a goodbye, and with an event on a stream that then freezes.
        Story::online()
            .then(|p, now| p.said_goodbye(Goodbye::Suspended, now))
            .then(|p, _| p.closed())
            .after_ms(1_000_000)
            .is(Asleep);
        Story::online()
            .then(|p, now| p.suspended(now))
            .after_ms(1_000_000)
            .is(Asleep)
            .then(|p, now| p.framed(now))
            .is(Online);
    }

    #[test]
    fn a_collector_that_moves_is_not_stopped() {
        Story::online()
            .then(|p, now| p.said_goodbye(Goodbye::Moving, now))
            .is(Online)
            .then(|p, _| p.closed())
            .after_ms(20_000)
            .is(Offline);
    }

    #[test]
    fn nobody_is_declared_offline_before_the_grace_after_a_start() {
        Story::restored(Online).is(Stale).after_ms(59_500).is(Stale).after_ms(500).is(Offline);
        Story::restored(Stopped).after_ms(100_000).is(Stopped);
        Story::restored(Asleep).after_ms(100_000).is(Asleep);
        Story::restored(Offline).after_ms(100_000).is(Offline);
    }

    #[test]
    fn a_machine_of_an_aggregator_that_died_is_offline_after_twice_the_time() {
        let since = UnixMillis(7);
        let mut story = Story::begins().then(|p, now| p.overheard(Online, since, now)).is(Online);
        let sweep = |mut story: Story, ms: u64| {
            story.now = story.now.plus_ms(ms);
            story.pulse.sweep_elsewhere(&PATIENCE, story.now);
            story
        };
        story = sweep(story, 29_999).is(Online);
        assert_eq!(story.pulse.since(), since);
        sweep(story, 1).is(Offline);
        let stopped = Story::begins().then(|p, now| p.overheard(Stopped, since, now));
        sweep(stopped, 100_000).is(Stopped);
    }

    #[test]
    fn a_status_remembers_when_it_began() {
        let story = Story::online().after_ms(3_000).is(Stale);
        let began = story.now.wall;
        assert_eq!(story.after_ms(3_000).pulse.since(), began);
    }
}
