//! The roll call: what is known of every machine, kept in one place and written out by one task.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{Headline, Labels, MachineFacts, MachineId, MachineStatus, UnixMillis, pushed};
use storage::live::Presence;
use storage::registry::MachineRecord;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::pulse::{Goodbye, Patience, Pulse};
use crate::clock::Now;

pub(crate) mod headline;
pub(crate) mod keeper;
pub(crate) mod pulse;
pub(crate) mod registrar;

/// All machines that this aggregator knows. Streams report to it; [`keeper::Keeper`] alone writes its
/// news to live state, and [`registrar::Registrar`] alone to the registry, so that writes about one machine
/// never overtake each other and the present never waits for a database.
#[derive(Debug)]
pub(crate) struct Roll {
    /// Protects the map; held for a few field accesses at a time.
    machines: Mutex<HashMap<MachineId, Entry>>,
    news: Notify,
    /// There is something for the registry.
    records: Notify,
    /// Live state speaks of a machine that this roll has not met.
    strangers: Notify,
    patience: Patience,
    /// Held to write to live state what the roll says, and to the registry, or to learn from that: a machine
    /// that is being removed must not be put back by whoever read of it before.
    pub(crate) keeping: Turn,
    pub(crate) registering: Turn,
}

/// One at a time. Unlike other locks here it is held while a store works, and only by those that wait for it
/// anyway.
pub(crate) type Turn = tokio::sync::Mutex<()>;

struct Entry {
    record: Arc<MachineRecord>,
    pulse: Pulse,
    headline: Headline,
    last_seen: UnixMillis,
    clock_skew_ms: i64,
    stream: Option<OpenStream>,
    /// Another aggregator has or had its stream, and says how it is doing.
    elsewhere: bool,
    news: News,
    /// The registry has not been told of the record as it is.
    unregistered: bool,
}

/// The stream that speaks for a machine.
#[derive(Clone, Debug)]
struct OpenStream {
    token: u64,
    /// Cancelled when another stream takes over.
    fenced: CancellationToken,
}

/// What live state and its watchers have not been told yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct News {
    presence: bool,
    /// The status that watchers were last told differs.
    status: bool,
}

/// What a stream says about itself when it opens.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) machine: MachineId,
    pub(crate) token: u64,
    pub(crate) facts: MachineFacts,
    pub(crate) labels: Labels,
    pub(crate) interval: Duration,
    pub(crate) clock_skew_ms: i64,
}

/// What a stream heard since it last reported.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Frames of the present were among it.
    pub(crate) fresh: bool,
    pub(crate) suspended: bool,
    pub(crate) headline: Option<Headline>,
    pub(crate) clock_skew_ms: i64,
}

/// One machine's news, as the keeper writes them.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) machine: MachineId,
    pub(crate) presence: Presence,
    pub(crate) status_changed: bool,
}

impl Roll {
    pub(crate) fn new(patience: Patience) -> Self {
        Self {
            machines: Mutex::default(),
            news: Notify::new(),
            records: Notify::new(),
            strangers: Notify::new(),
            patience,
            keeping: Turn::default(),
            registering: Turn::default(),
        }
    }

    /// Begins with what the registry knows, and what live state says of machines whose stream another
    /// aggregator has.
    pub(crate) fn restore(
        &self,
        records: Vec<MachineRecord>,
        presences: Vec<(MachineId, Presence)>,
        now: Now,
    ) {
        let here: HashSet<MachineId> = presences.iter().map(|(machine, _)| *machine).collect();
        self.meet(records, now);
        for (machine, entry) in self.lock().iter_mut() {
            entry.elsewhere = here.contains(machine);
            // Of a machine that was there a moment ago another aggregator may be about to say more.
            let away =
                !matches!(entry.pulse.status(), MachineStatus::Online | MachineStatus::Stale);
            entry.news.presence = away && !entry.elsewhere;
        }
        self.observe(&presences, now);
    }

    /// A stream speaks for its machine from now on; the one that did before is fenced. Returns the token
    /// that tells when this one is fenced in turn, and the headline to go on from.
    pub(crate) fn opened(&self, opening: Opening, now: Now) -> (CancellationToken, Headline) {
        let fenced = CancellationToken::new();
        let mut machines = self.lock();
        let entry =
            machines.entry(opening.machine).or_insert_with(|| Entry::new(opening.machine, now));
        let stream = OpenStream { token: opening.token, fenced: fenced.clone() };
        if entry.stream.as_ref().is_some_and(|other| other.token > opening.token) {
            // Another stream took the machine over before this one came to be.
            fenced.cancel();
            return (fenced, entry.headline.clone());
        }
        if let Some(old) = entry.stream.replace(stream) {
            old.fenced.cancel();
        }
        let record = Arc::make_mut(&mut entry.record);
        record.facts = opening.facts;
        record.labels = opening.labels;
        record.last_seen = now.wall;
        entry.last_seen = now.wall;
        entry.clock_skew_ms = opening.clock_skew_ms;
        entry.elsewhere = false;
        entry.pulse.set_interval(opening.interval);
        entry.pulse.opened(now);
        entry.news.presence = true;
        entry.unregistered = true;
        let headline = entry.headline.clone();
        drop(machines);
        self.news.notify_one();
        self.records.notify_one();
        (fenced, headline)
    }

    /// What a stream heard. Ignored when the stream no longer speaks for its machine.
    pub(crate) fn heard(&self, machine: MachineId, token: u64, heard: Heard, now: Now) {
        self.update(machine, token, |entry| {
            if heard.fresh {
                entry.pulse.framed(now);
            } else {
                entry.pulse.heard(now);
            }
            if heard.suspended {
                entry.pulse.suspended(now);
            }
            if let Some(headline) = heard.headline {
                entry.headline = headline;
            }
            entry.clock_skew_ms = heard.clock_skew_ms;
            entry.last_seen = now.wall;
        });
    }

    pub(crate) fn said_goodbye(&self, machine: MachineId, token: u64, goodbye: Goodbye, now: Now) {
        self.update(machine, token, |entry| {
            entry.pulse.said_goodbye(goodbye, now);
            entry.last_seen = now.wall;
        });
    }

    /// The stream's lease was renewed.
    pub(crate) fn renewed(&self, machine: MachineId, old_token: u64, token: u64) {
        self.update(machine, old_token, |entry| {
            if let Some(stream) = &mut entry.stream {
                stream.token = token;
            }
        });
    }

    /// Another interval is in force on the machine.
    pub(crate) fn set_interval(&self, machine: MachineId, token: u64, interval: Duration) {
        self.update(machine, token, |entry| entry.pulse.set_interval(interval));
    }

    pub(crate) fn closed(&self, machine: MachineId, token: u64) {
        self.update(machine, token, |entry| {
            entry.pulse.closed();
            entry.stream = None;
        });
    }

    fn update(&self, machine: MachineId, token: u64, change: impl FnOnce(&mut Entry)) {
        let mut machines = self.lock();
        let Some(entry) = machines.get_mut(&machine) else { return };
        if entry.stream.as_ref().is_none_or(|stream| stream.token != token) {
            return;
        }
        change(entry);
        entry.news.presence = true;
        entry.note_status();
        let unregistered = entry.unregistered;
        drop(machines);
        self.news.notify_one();
        if unregistered {
            self.records.notify_one();
        }
    }

    /// Draws the conclusions of silence.
    fn sweep(&self, now: Now) {
        let mut unregistered = false;
        for entry in self.lock().values_mut() {
            match entry.elsewhere {
                _ if pushed::is_source(entry.record.id) => entry.pulse.sweep_source(now),
                true => entry.pulse.sweep_elsewhere(&self.patience, now),
                false => entry.pulse.sweep(&self.patience, now),
            }
            entry.note_status();
            unregistered |= entry.unregistered;
        }
        if unregistered {
            self.records.notify_one();
        }
    }

    /// Takes what live state has not been told yet.
    fn take_news(&self) -> Vec<Change> {
        let mut machines = self.lock();
        let changed = machines.iter_mut().filter(|(_, entry)| entry.news != News::default());
        changed
            .map(|(machine, entry)| {
                let news = std::mem::take(&mut entry.news);
                Change {
                    machine: *machine,
                    presence: entry.presence(),
                    status_changed: news.status,
                }
            })
            .collect()
    }

    /// Gives back what could not be written, to be tried again.
    fn give_back(&self, change: &Change) {
        if let Some(entry) = self.lock().get_mut(&change.machine) {
            entry.news.presence = true;
            entry.news.status |= change.status_changed;
        }
    }

    /// Takes the records that the registry has not been told of.
    fn take_records(&self) -> Vec<Arc<MachineRecord>> {
        let mut machines = self.lock();
        let unregistered =
            machines.values_mut().filter_map(|e| std::mem::take(&mut e.unregistered).then_some(e));
        unregistered.map(|entry| entry.record.clone()).collect()
    }

    /// This machine's record could not be written.
    fn give_back_record(&self, machine: MachineId) {
        if let Some(entry) = self.lock().get_mut(&machine) {
            entry.unregistered = true;
        }
    }

    /// Forgets a machine that was removed, unless its collector is back. False: it is.
    pub(crate) fn forget(&self, machine: MachineId) -> bool {
        let mut machines = self.lock();
        let gone = machines.get(&machine).is_none_or(|entry| entry.stream.is_none());
        if gone {
            machines.remove(&machine);
        }
        gone
    }

    /// The registry lost a machine that is back: it is told of it as of a new one.
    pub(crate) fn register_again(&self, machine: MachineId) {
        if let Some(entry) = self.lock().get_mut(&machine) {
            let record = Arc::make_mut(&mut entry.record);
            record.first_seen = record.last_seen;
            entry.unregistered = true;
        }
        self.records.notify_one();
    }

    /// Whether the machine's stream is open at this aggregator.
    pub(crate) fn hears(&self, machine: MachineId) -> bool {
        self.lock().get(&machine).is_some_and(|entry| entry.stream.is_some())
    }

    /// Takes in machines that another aggregator registered, and what it learned about them. `records` are
    /// all that the registry has, as of this turn at it: others were removed.
    pub(crate) fn meet(&self, records: Vec<MachineRecord>, now: Now) {
        let mut machines = self.lock();
        let registered: HashSet<MachineId> = records.iter().map(|record| record.id).collect();
        machines.retain(|machine, entry| {
            registered.contains(machine) || entry.stream.is_some() || entry.unregistered
        });
        for record in records {
            if let Some(entry) = machines.get_mut(&record.id) {
                if entry.elsewhere && *entry.record != record {
                    let (status, status_since) = (entry.pulse.status(), entry.pulse.since());
                    entry.record = Arc::new(MachineRecord { status, status_since, ..record });
                }
                continue;
            }
            machines.entry(record.id).or_insert_with(|| {
                let mut entry = Entry::new(record.id, now);
                entry.pulse =
                    Pulse::restored(record.status, record.status_since, &self.patience, now);
                entry.last_seen = record.last_seen;
                entry.elsewhere = true;
                // What a restored pulse assumes is no news: whoever has the stream tells.
                let (status, status_since) = (entry.pulse.status(), entry.pulse.since());
                entry.record = Arc::new(MachineRecord { status, status_since, ..record });
                entry
            });
        }
    }

    /// Takes over what live state says of machines that others hear: these write it, this roll only follows.
    /// True when there is a machine that this roll has not met.
    pub(crate) fn observe(&self, presences: &[(MachineId, Presence)], now: Now) -> bool {
        let mut unknown = false;
        let mut machines = self.lock();
        for (machine, presence) in presences {
            let Some(entry) = machines.get_mut(machine) else {
                unknown = true;
                continue;
            };
            let news = presence.last_seen > entry.last_seen || entry.elsewhere;
            let heard =
                presence.last_seen > entry.last_seen || entry.pulse.status() != presence.status;
            if entry.stream.is_some() || !news || !heard {
                continue;
            }
            entry.elsewhere = true;
            entry.last_seen = presence.last_seen;
            entry.clock_skew_ms = presence.clock_skew_ms;
            entry.headline = presence.headline.clone();
            entry.pulse.set_interval(Duration::from_millis(presence.interval_ms));
            entry.pulse.overheard(presence.status, presence.status_since, now);
            let record = Arc::make_mut(&mut entry.record);
            record.status = presence.status;
            record.status_since = presence.status_since;
        }
        unknown
    }

    pub(crate) fn records(&self) -> Vec<Arc<MachineRecord>> {
        self.lock().values().map(|entry| entry.record.clone()).collect()
    }

    pub(crate) fn record(&self, machine: MachineId) -> Option<Arc<MachineRecord>> {
        self.lock().get(&machine).map(|entry| entry.record.clone())
    }

    /// How many machines have which status.
    fn census(&self) -> Vec<(MachineStatus, usize)> {
        let machines = self.lock();
        let count = |status| machines.values().filter(|e| e.pulse.status() == status).count();
        MachineStatus::ALL.into_iter().map(|status| (status, count(status))).collect()
    }

    /// A panic while the lock was held cannot leave an entry half changed in a way that matters.
    fn lock(&self) -> MutexGuard<'_, HashMap<MachineId, Entry>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn new(machine: MachineId, now: Now) -> Self {
        let pulse = Pulse::new(now);
        let record = MachineRecord {
            id: machine,
            facts: MachineFacts::default(),
            labels: Labels::empty(),
            first_seen: now.wall,
            last_seen: now.wall,
            status: pulse.status(),
            status_since: pulse.since(),
        };
        Self {
            record: Arc::new(record),
            pulse,
            headline: Headline::default(),
            last_seen: now.wall,
            clock_skew_ms: 0,
            stream: None,
            elsewhere: false,
            news: News::default(),
            unregistered: false,
        }
    }

    /// The record follows the pulse, and a change is news to everyone.
    fn note_status(&mut self) {
        if (self.record.status, self.record.status_since)
            == (self.pulse.status(), self.pulse.since())
        {
            return;
        }
        let record = Arc::make_mut(&mut self.record);
        record.status = self.pulse.status();
        record.status_since = self.pulse.since();
        record.last_seen = self.last_seen;
        self.news = News { presence: true, status: true };
        self.unregistered = true;
    }

    fn presence(&self) -> Presence {
        Presence {
            status: self.pulse.status(),
            status_since: self.pulse.since(),
            last_seen: self.last_seen,
            interval_ms: self.pulse.interval().as_millis() as u64,
            clock_skew_ms: self.clock_skew_ms,
            connected: self.pulse.connected(),
            headline: self.headline.clone(),
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("pulse", &self.pulse).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience =
        Patience { offline_after_min: Duration::from_secs(15), grace: Duration::from_secs(60) };

    fn web_1() -> MachineId {
        MachineId::from_u128(1).expect("not zero")
    }

    fn record(status: MachineStatus, now: Now) -> MachineRecord {
        MachineRecord { status, ..MachineRecord::clone(&Entry::new(web_1(), now).record) }
    }

    /// What a roll writes by itself about a machine of which it has read no more than the record.
    #[track_caller]
    fn check(known: MachineStatus, written: Option<MachineStatus>) {
        let now = Now::read();
        let restored = Roll::new(PATIENCE);
        restored.restore(vec![record(known, now)], Vec::new(), now);
        let met = Roll::new(PATIENCE);
        met.meet(vec![record(known, now)], now);
        for (roll, written) in [(restored, written), (met, None)] {
            roll.sweep(now);
            let news = roll.take_news();
            assert_eq!(news.first().map(|change| change.presence.status), written);
            assert!(news.iter().all(|change| !change.status_changed));
            assert!(roll.take_records().is_empty());
        }
    }

    #[test]
    fn nobody_speaks_for_a_machine_that_another_aggregator_may_have() {
        check(MachineStatus::Online, None);
        check(MachineStatus::Stale, None);
        check(MachineStatus::Asleep, Some(MachineStatus::Asleep));
        check(MachineStatus::Offline, Some(MachineStatus::Offline));
        check(MachineStatus::Stopped, Some(MachineStatus::Stopped));
    }

    #[test]
    fn a_machine_that_the_registry_lost_is_forgotten_unless_it_reports_or_is_about_to_be_registered()
     {
        let now = Now::read();
        let known = |roll: &Roll| roll.record(web_1()).is_some();
        let opening = || Opening {
            machine: web_1(),
            token: 1,
            facts: MachineFacts::default(),
            labels: Labels::empty(),
            interval: Duration::from_secs(1),
            clock_skew_ms: 0,
        };
        let roll = Roll::new(PATIENCE);
        roll.meet(vec![record(MachineStatus::Stopped, now)], now);
        roll.meet(Vec::new(), now);
        assert!(!known(&roll), "another aggregator removed it");

        roll.opened(opening(), now);
        roll.take_records();
        roll.meet(Vec::new(), now);
        assert!(known(&roll) && !roll.forget(web_1()), "its stream is open");
        roll.give_back_record(web_1());
        roll.closed(web_1(), 1);
        roll.meet(Vec::new(), now);
        assert!(known(&roll), "the registry has not been told yet");
        roll.take_records();
        roll.meet(Vec::new(), now);
        assert!(!known(&roll) && roll.forget(web_1()));
    }

    #[test]
    fn a_machine_that_nobody_claims_after_a_restart_goes_offline() {
        let mut now = Now::read();
        let roll = Roll::new(PATIENCE);
        roll.restore(vec![record(MachineStatus::Online, now)], Vec::new(), now);
        now = now.plus_ms(61_000);
        roll.sweep(now);
        let news = roll.take_news();
        assert_eq!(news[0].presence.status, MachineStatus::Offline);
        assert!(news[0].status_changed);
        assert_eq!(roll.take_records()[0].status, MachineStatus::Offline);
    }
}
