//! The one task that owns engines and desks: it reads the event stream and the clock, and hands what
//! follows to the keeper.
//!
//! There is one engine with its desk for each shard of the machines that this service holds. The machines
//! of others are followed just so far that questions about all of them can be answered.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use model::{MachineId, UnixMillis};
use storage::alerting::{AlertChanges, AlertState, Alerting, Claim, Errand, Shard};
use storage::events::{Event, EventKind, Received, Subscription, Unprocessed};
use storage::registry::{MachineRecord, Registry};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::alert::{Alert, AlertId, Identity};
use crate::attendant::Rolls;
use crate::book::{Book, now};
use crate::desk::{Acknowledgement, Open, Pace, Route};
use crate::engine::{Engine, Tally};
use crate::keeper::Keep;
use crate::letters::Letterbox;
use crate::metrics::Metrics;
use crate::notify::{Channel, Directory};
use crate::rule::Rule;
use crate::silence::Silence;

mod share;

use share::Past;
pub(crate) use share::Share;

/// What the RPCs ask of the task.
#[derive(Debug)]
pub(crate) enum Command {
    /// Rules, channels or silences changed: read them again.
    Reload(oneshot::Sender<Result<(), storage::StorageError>>),
    /// All alerts. Those that other services watch are taken from what is stored.
    Active(Vec<AlertState>, oneshot::Sender<Vec<Active>>),
    /// Answers false when the alert does not fire here.
    Acknowledge(AlertId, Acknowledgement, oneshot::Sender<bool>),
    /// Series that the rule would watch, and whether its metric is sent by some machine.
    Reach(Arc<Rule>, oneshot::Sender<Reach>),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    pub(crate) series: usize,
    pub(crate) metric_seen: bool,
    pub(crate) divisor_seen: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Active {
    pub(crate) alert: Alert,
    pub(crate) open: Option<Open>,
    pub(crate) silenced_by: String,
}

/// What people asked for, as it was read last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    rules: Vec<Arc<Rule>>,
    silences: Vec<Silence>,
    routes: Vec<Route>,
}

/// Names of machines change rarely; they are looked up again at most this often.
const IDENTITIES_EVERY_MS: i64 = 15_000;

#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) store: Arc<dyn Alerting>,
    pub(crate) book: Book,
    pub(crate) directory: Directory,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) subscription: Box<dyn Subscription>,
    pub(crate) letterbox: Letterbox,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) keep: mpsc::Sender<Keep>,
    pub(crate) rolls: Rolls,
    pub(crate) metrics: Metrics,
    pub(crate) pace: Pace,
    pub(crate) series_per_rule_max: usize,
    /// Who follows a probe, and the time of its sample.
    pub(crate) probes: broadcast::Sender<(MachineId, UnixMillis)>,
    pub(crate) state: State,
}

/// What the task has in memory.
#[derive(Debug)]
pub(crate) struct State {
    settings: Settings,
    /// Of the settings that were read.
    edition: i64,
    shares: BTreeMap<Shard, Share>,
    tally: Tally,
    /// Machines that other services watch. Without rules: it knows what they send, and decides nothing.
    others: Engine,
    /// Given up, but not yet by the store's account.
    leaving: HashSet<Claim>,
    /// Machines that changed since their names were looked up.
    changed: HashSet<MachineId>,
    /// Decided, not yet handed to the keeper.
    out: Decided,
}

impl Default for State {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            edition: 0,
            shares: BTreeMap::new(),
            tally: Tally::default(),
            others: Engine::new(usize::MAX, now()),
            leaving: HashSet::new(),
            changed: HashSet::new(),
            out: Decided::default(),
        }
    }
}

/// Changes by the claim under which they were decided.
pub(crate) type Decided = BTreeMap<Claim, AlertChanges>;

impl Watcher {
    /// Goes on where the service stood.
    pub(crate) async fn restore(&mut self) -> anyhow::Result<()> {
        self.read_settings().await?;
        let roll = self.rolls.latest();
        self.state.edition = roll.attendance.edition;
        let claims: Vec<Claim> = roll.attendance.claims.clone();
        let past = self.open_shares(&claims).await?;
        let mut steps = Vec::new();
        let shards = self.store.shards();
        for record in past.machines() {
            if !self.state.shares.contains_key(&Shard::of(record.id, shards)) {
                self.state.others.set_machine(record.id, identity(record), now(), &mut steps);
            }
        }
        Ok(())
    }

    async fn read_settings(&mut self) -> Result<(), storage::StorageError> {
        let rules: Vec<_> = self.book.rules().await?.into_iter().map(|entry| entry.rule).collect();
        let silences = self.book.silences().await?;
        let channels = self.directory.reload().await?;
        let routes = channels.iter().filter_map(route).collect();
        self.state.settings = Settings { rules, silences, routes };
        let (settings, at) = (&self.state.settings, now());
        for share in self.state.shares.values_mut() {
            share.follow(settings, at, self.state.out.entry(share.claim).or_default());
        }
        Ok(())
    }

    async fn open_shares(&mut self, claims: &[Claim]) -> anyhow::Result<Past> {
        let past = Past::read(&*self.store, &*self.registry).await?;
        for claim in claims {
            let at = now();
            let tally = self.state.tally.clone();
            let engine = Engine::beside(tally, self.series_per_rule_max, at);
            let settings = &self.state.settings;
            let (share, changes) =
                Share::open(*claim, (engine, self.pace), settings, &past, &*self.store, at).await?;
            let mut steps = Vec::new();
            for (machine, _) in share.engine.identities() {
                self.state.others.remove_machine(machine, at, &mut steps);
            }
            self.state.out.entry(*claim).or_default().append(changes);
            self.state.shares.insert(claim.shard, share);
        }
        Ok(past)
    }

    /// Nothing follows: whoever watches them now goes on with what is stored.
    fn close_share(&mut self, shard: Shard) -> Option<Claim> {
        let share = self.state.shares.remove(&shard)?;
        let mut steps = Vec::new();
        for (machine, identity) in share.engine.identities() {
            self.state.others.set_machine(machine, identity.clone(), now(), &mut steps);
        }
        Some(share.claim)
    }

    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut last_tick = UnixMillis::MIN;
        loop {
            if !self.hand_over().await {
                return;
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = second.tick() => {
                    let at = now().floor(1000);
                    // A clock that was set back must not make time run twice.
                    if at > last_tick || last_tick.since(at) > 60_000 {
                        last_tick = at;
                        self.tick(at).await;
                    }
                }
                Some(command) = self.commands.recv() => self.obey(command).await,
                () = self.rolls.changed() => {
                    if !self.answer_the_roll().await {
                        return;
                    }
                }
                received = self.subscription.next() => match received {
                    Some(Received::Event(event)) => self.take(&event).await,
                    Some(Received::Again(event)) => self.take_again(&event).await,
                    Some(Received::Unreadable(unreadable)) => {
                        self.letterbox.put(Unprocessed::Unreadable(unreadable));
                    }
                    Some(Received::Missed(count)) => {
                        self.metrics.events_missed.inc_by(count);
                        tracing::warn!(count, "too slow for the event stream: missed events");
                    }
                    None => return,
                },
            }
        }
        // Whoever takes them next need not wait until this one is missed.
        let claims: Vec<Claim> = self.state.shares.values().map(|share| share.claim).collect();
        _ = self.keep.send(Keep::Release(claims)).await;
    }

    /// When the store is down for long this waits: nobody may be told of what is not kept.
    async fn hand_over(&mut self) -> bool {
        self.state.out.retain(|_, changes| !changes.is_empty());
        match self.state.out.is_empty() {
            true => true,
            false => {
                let out = std::mem::take(&mut self.state.out);
                self.keep.send(Keep::Changes(out)).await.is_ok()
            }
        }
    }

    /// Lets go of what went to others, takes what is new, does what others asked for.
    async fn answer_the_roll(&mut self) -> bool {
        let roll = self.rolls.latest();
        let attendance = &roll.attendance;
        let held: HashSet<Claim> = attendance.claims.iter().copied().collect();
        self.state.leaving.retain(|claim| held.contains(claim));
        let lost = self.state.shares.values().filter(|share| !held.contains(&share.claim));
        let lost: Vec<Shard> = lost.map(|share| share.claim.shard).collect();
        for shard in &lost {
            self.close_share(*shard);
        }
        if !lost.is_empty() {
            tracing::info!(shards = lost.len(), "other alert services watch these machines now");
        }
        let new: Vec<Claim> = attendance
            .claims
            .iter()
            .filter(|claim| !self.state.shares.contains_key(&claim.shard))
            .filter(|claim| !self.state.leaving.contains(claim))
            .copied()
            .collect();
        if !new.is_empty() {
            match self.open_shares(&new).await {
                Ok(_) => tracing::info!(shards = new.len(), "watches more machines"),
                Err(error) => tracing::warn!(
                    error = format!("{error:#}"),
                    "failed to take over machines, trying again"
                ),
            }
        }
        let over = attendance.surplus.saturating_sub(self.state.leaving.len());
        let given: Vec<Shard> = self.state.shares.keys().rev().take(over).copied().collect();
        if !given.is_empty() {
            let given: Vec<Claim> = given.iter().filter_map(|s| self.close_share(*s)).collect();
            tracing::info!(shards = given.len(), "gives machines to other alert services");
            self.state.leaving.extend(&given);
            // What was decided of them comes first.
            if !self.hand_over().await || self.keep.send(Keep::Release(given)).await.is_err() {
                return false;
            }
        }
        if attendance.edition != self.state.edition {
            match self.read_settings().await {
                Ok(()) => self.state.edition = attendance.edition,
                Err(error) => tracing::warn!(%error, "failed to read the settings of alerts"),
            }
        }
        for errand in &attendance.errands {
            self.run_errand(errand);
        }
        true
    }

    fn run_errand(&mut self, errand: &Errand) {
        let Some(share) = self.state.shares.get_mut(&errand.shard) else { return };
        let out = self.state.out.entry(share.claim).or_default();
        match Acknowledgement::read(&errand.document) {
            // It may have ended meanwhile, which changes nothing.
            Some((alert, acknowledgement)) => {
                _ = share.desk.acknowledge(alert, acknowledgement, out)
            }
            None => tracing::error!("what another alert service asks for cannot be read"),
        }
        out.done.push(errand.id);
    }

    /// It is of the past. Of what happened since, the register knows.
    async fn take_again(&mut self, event: &Arc<Event>) {
        let machine = event.machine;
        let kind = match &event.kind {
            EventKind::Frame { frame, .. } => EventKind::Frame { frame: frame.clone(), late: true },
            EventKind::Status { .. } | EventKind::Removed => {
                match self.registry.machine(machine).await {
                    Ok(Some(MachineRecord { status, status_since: since, .. })) => {
                        EventKind::Status { status, since }
                    }
                    Ok(None) => EventKind::Removed,
                    Err(error) => {
                        let reason =
                            format!("the register could not be asked what is true now: {error}");
                        return self.letterbox.put(Unprocessed::Event(event.clone(), reason));
                    }
                }
            }
            // They are counted as they come; the time in which these did is over.
            EventKind::Logs(_) => return,
            other => other.clone(),
        };
        self.take(&Arc::new(Event { machine, kind })).await;
    }

    async fn take(&mut self, event: &Arc<Event>) {
        let (id, at) = (event.machine, now());
        if model::probe::is_probe(id) {
            if let EventKind::Frame { frame, .. } = &event.kind {
                // Most of the time nobody follows.
                _ = self.probes.send((id, frame.frame.time));
            }
            return;
        }
        let shard = Shard::of(id, self.store.shards());
        if matches!(event.kind, EventKind::Changed) {
            self.state.changed.insert(id);
        }
        let removed = matches!(event.kind, EventKind::Removed);
        let knows = match self.state.shares.get(&shard) {
            Some(share) => share.engine.knows(id),
            None => self.state.others.knows(id),
        };
        let introduced = match removed || knows {
            true => None,
            false => Some(self.introduce(id).await),
        };
        let mut steps = Vec::new();
        let Some(share) = self.state.shares.get_mut(&shard) else {
            let others = &mut self.state.others;
            if let Some(identity) = introduced {
                others.set_machine(id, identity, at, &mut steps);
            }
            match &event.kind {
                EventKind::Frame { frame, late } => {
                    others.observe(id, &frame.layout, &frame.frame, *late, at, &mut steps);
                }
                EventKind::Removed => others.remove_machine(id, at, &mut steps),
                _ => {}
            }
            return;
        };
        if let Some(identity) = introduced {
            share.engine.set_machine(id, identity, at, &mut steps);
        }
        if let Err(reason) = share.take(event, at, &mut steps) {
            self.letterbox.put(Unprocessed::Event(event.clone(), reason));
        }
        if !steps.is_empty() {
            let out = self.state.out.entry(share.claim).or_default();
            share.settle(&steps, now(), out);
        }
    }

    async fn introduce(&mut self, id: MachineId) -> Identity {
        let identity = match self.registry.machine(id).await {
            Ok(Some(record)) => identity(&record),
            // It is watched under its id until the register knows it.
            Ok(None) => Identity::default(),
            Err(error) => {
                tracing::warn!(machine.id = %id, %error, "failed to read the name of a machine");
                Identity::default()
            }
        };
        if identity == Identity::default() {
            self.state.changed.insert(id);
        }
        identity
    }

    async fn tick(&mut self, at: UnixMillis) {
        if at.0 % IDENTITIES_EVERY_MS < 1000 && !self.state.changed.is_empty() {
            match self.registry.machines().await {
                Ok(records) => {
                    let changed = std::mem::take(&mut self.state.changed);
                    for record in records.iter().filter(|r| changed.contains(&r.id)) {
                        self.rename(record, at);
                    }
                }
                Err(error) => tracing::warn!(%error, "failed to read the names of machines"),
            }
        }
        for share in self.state.shares.values_mut() {
            share.tick(at, self.state.out.entry(share.claim).or_default());
        }
        self.state.others.tick(at, &mut Vec::new());
        self.metrics.report(&mut self.state.shares, self.state.settings.rules.len());
    }

    fn rename(&mut self, record: &MachineRecord, at: UnixMillis) {
        let mut steps = Vec::new();
        let shard = Shard::of(record.id, self.store.shards());
        let Some(share) = self.state.shares.get_mut(&shard) else {
            self.state.others.set_machine(record.id, identity(record), at, &mut steps);
            return;
        };
        share.engine.set_machine(record.id, identity(record), at, &mut steps);
        share.settle(&steps, at, self.state.out.entry(share.claim).or_default());
    }

    async fn obey(&mut self, command: Command) {
        // Whoever asked may be gone; that changes nothing.
        match command {
            Command::Reload(reply) => _ = reply.send(self.read_settings().await),
            Command::Active(states, reply) => {
                let at = now();
                let State { shares, others, settings, .. } = &self.state;
                let mut active: Vec<Active> =
                    shares.values().flat_map(|share| share.active(at)).collect();
                active.extend(share::elsewhere(&states, settings, others, at));
                _ = reply.send(active);
            }
            Command::Acknowledge(id, acknowledgement, reply) => {
                let share = self.state.shares.values_mut().find(|s| s.desk.open(id).is_some());
                let done = share.is_some_and(|share| {
                    let out = self.state.out.entry(share.claim).or_default();
                    share.desk.acknowledge(id, acknowledgement, out)
                });
                _ = reply.send(done);
            }
            Command::Reach(rule, reply) => {
                let threshold = rule.spec.threshold();
                let own = self.state.shares.values().map(|share| &share.engine);
                let engines: Vec<&Engine> = own.chain([&self.state.others]).collect();
                let seen = |name: Option<&str>| {
                    name.is_none_or(|name| engines.iter().any(|engine| engine.has_metric(name)))
                };
                _ = reply.send(Reach {
                    series: engines.iter().map(|e| e.count_matches(&rule, usize::MAX)).sum(),
                    metric_seen: seen(threshold.map(|t| t.metric.as_str())),
                    divisor_seen: seen(threshold.and_then(|t| t.divide_by.as_deref())),
                });
            }
        }
    }
}

fn identity(record: &MachineRecord) -> Identity {
    Identity { host_name: record.facts.host_name.clone(), labels: record.labels.clone() }
}

fn route(channel: &Channel) -> Option<Route> {
    channel.enabled.then(|| Route {
        id: channel.id.clone(),
        name: channel.name.clone(),
        repeat_ms: channel.repeat_ms,
    })
}
