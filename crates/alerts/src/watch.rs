//! The one task that owns the engine and the desk: it reads the event stream and the clock, and hands what
//! follows to the keeper.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use model::{MachineId, MachineStatus, UnixMillis};
use storage::alerting::{AlertChanges, Alerting, IncidentFilter};
use storage::events::{Event, EventKind, Received, Subscription};
use storage::registry::{MachineRecord, Registry};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::alert::{Alert, AlertId, Cause, Change, Identity};
use crate::book::{Book, now};
use crate::desk::{self, Acknowledgement, Desk, Open, Route};
use crate::engine::Engine;
use crate::metrics::Metrics;
use crate::notify::{Channel, Directory};
use crate::rule::Rule;

/// What the RPCs ask of the task.
#[derive(Debug)]
pub(crate) enum Command {
    /// Rules, channels or silences changed: read them again.
    Reload(oneshot::Sender<Result<(), storage::StorageError>>),
    Active(oneshot::Sender<Vec<Active>>),
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

/// Names of machines change rarely; they are looked up again at most this often.
const IDENTITIES_EVERY_MS: i64 = 15_000;

#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) engine: Engine,
    pub(crate) desk: Desk,
    pub(crate) book: Book,
    pub(crate) directory: Directory,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) subscription: Box<dyn Subscription>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) keep: mpsc::Sender<AlertChanges>,
    pub(crate) metrics: Metrics,
    /// Machines that changed since their names were looked up.
    pub(crate) changed: HashSet<MachineId>,
    /// Machines that a status was told of, or a frame.
    pub(crate) heard: HashSet<MachineId>,
}

impl Watcher {
    /// Goes on where the service stood: rules, then machines, then alerts.
    pub(crate) async fn restore(&mut self, store: &dyn Alerting) -> anyhow::Result<AlertChanges> {
        let at = now();
        let (mut steps, mut out) = (Vec::new(), AlertChanges::default());
        self.read_settings(at, &mut steps).await.context("failed to read the alert rules")?;
        let machines =
            self.registry.machines().await.context("failed to read the register of machines")?;
        for record in &machines {
            self.engine.set_machine(record.id, identity(record), at, &mut steps);
        }
        let states = store.states().await.context("failed to read the state of alerts")?;
        for state in states {
            let Some((kept, remembered)) = desk::read(&state.document) else {
                tracing::error!(
                    alert.id = state.id,
                    "the state of an alert cannot be read, it is dropped"
                );
                out.forget(state.id);
                continue;
            };
            let restored = self.engine.restore(kept);
            let alert = AlertId::from_text(&state.id).filter(|_| restored);
            match alert.and_then(|id| self.engine.alert(id)) {
                Some(alert) => {
                    if let Some(remembered) = remembered {
                        self.desk.restore(alert.id, remembered.open(alert));
                    }
                }
                None => {
                    out.forget(state.id);
                    if let Some(remembered) = remembered {
                        close(store, &remembered.incident, at, &mut out).await?;
                    }
                }
            }
        }
        // That a machine is there is believed only when it is heard of; that it was away is known.
        for record in machines {
            use MachineStatus::{Asleep, Offline, Online, Stale, Stopped};
            match record.status {
                Asleep | Offline | Stopped => {
                    self.heard.insert(record.id);
                    self.engine.set_status(record.id, record.status, at, &mut steps);
                }
                Online | Stale => {}
            }
        }
        self.settle(&steps, at, &mut out);
        Ok(out)
    }

    async fn read_settings(
        &mut self,
        at: UnixMillis,
        steps: &mut Vec<Change>,
    ) -> Result<(), storage::StorageError> {
        let rules: Vec<_> = self.book.rules().await?.into_iter().map(|entry| entry.rule).collect();
        let silences = self.book.silences().await?;
        let channels = self.directory.reload().await?;
        self.desk.set_routes(channels.iter().filter_map(route).collect());
        self.desk.set_silences(silences);
        self.engine.set_rules(&rules, at, steps);
        Ok(())
    }

    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut last_tick = UnixMillis::MIN;
        let mut steps = Vec::new();
        loop {
            let mut out = AlertChanges::default();
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = second.tick() => {
                    let at = now().floor(1000);
                    // A clock that was set back must not make time run twice.
                    if at > last_tick || last_tick.since(at) > 60_000 {
                        last_tick = at;
                        self.tick(at, &mut steps, &mut out).await;
                    }
                }
                Some(command) = self.commands.recv() => {
                    self.obey(command, &mut steps, &mut out).await;
                }
                received = self.subscription.next() => match received {
                    Some(Received::Event(event)) => self.take(&event, &mut steps).await,
                    Some(Received::Missed(count)) => {
                        self.metrics.events_missed.inc_by(count);
                        tracing::warn!(count, "too slow for the event stream: missed events");
                    }
                    None => return,
                },
            }
            self.settle(&steps, now(), &mut out);
            steps.clear();
            // When the store is down for long this waits: nobody may be told of what is not kept.
            if !out.is_empty() && self.keep.send(out).await.is_err() {
                return;
            }
        }
    }

    async fn take(&mut self, event: &Event, steps: &mut Vec<Change>) {
        let id = event.machine;
        if model::probe::is_probe(id) {
            return;
        }
        let at = now();
        if !matches!(event.kind, EventKind::Removed) && !self.engine.knows(id) {
            self.introduce(id, at, steps).await;
        }
        match &event.kind {
            EventKind::Frame { frame, late } => {
                if !late && self.heard.insert(id) {
                    self.engine.set_status(id, MachineStatus::Online, at, steps);
                }
                self.engine.observe(id, &frame.layout, &frame.frame, *late, at, steps);
            }
            EventKind::Status { status, since } => {
                self.heard.insert(id);
                self.engine.set_status(id, *status, *since, steps);
            }
            EventKind::Changed => _ = self.changed.insert(id),
            EventKind::Removed => {
                self.heard.remove(&id);
                self.engine.remove_machine(id, at, steps);
            }
            EventKind::Processes(_)
            | EventKind::Logs(_)
            | EventKind::Machine(_)
            | EventKind::Gap(_) => {}
        }
    }

    async fn introduce(&mut self, id: MachineId, at: UnixMillis, steps: &mut Vec<Change>) {
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
            self.changed.insert(id);
        }
        self.engine.set_machine(id, identity, at, steps);
    }

    async fn tick(&mut self, at: UnixMillis, steps: &mut Vec<Change>, out: &mut AlertChanges) {
        if at.0 % IDENTITIES_EVERY_MS < 1000 && !self.changed.is_empty() {
            match self.registry.machines().await {
                Ok(records) => {
                    let changed = std::mem::take(&mut self.changed);
                    for record in records.iter().filter(|r| changed.contains(&r.id)) {
                        self.engine.set_machine(record.id, identity(record), at, steps);
                    }
                }
                Err(error) => tracing::warn!(%error, "failed to read the names of machines"),
            }
        }
        self.engine.tick(at, steps);
        self.settle(steps, at, out);
        steps.clear();
        let engine = &self.engine;
        self.desk.tick(at, |id| engine.alert(id), out);
        self.metrics.report(&self.engine, &self.desk);
    }

    async fn obey(&mut self, command: Command, steps: &mut Vec<Change>, out: &mut AlertChanges) {
        // Whoever asked may be gone; that changes nothing.
        match command {
            Command::Reload(reply) => {
                let outcome = self.read_settings(now(), steps).await;
                self.settle(steps, now(), out);
                steps.clear();
                _ = reply.send(outcome);
            }
            Command::Active(reply) => _ = reply.send(self.active()),
            Command::Acknowledge(id, acknowledgement, reply) => {
                _ = reply.send(self.desk.acknowledge(id, acknowledgement, out));
            }
            Command::Reach(rule, reply) => {
                let threshold = rule.spec.threshold();
                let seen =
                    |name: Option<&str>| name.is_none_or(|name| self.engine.has_metric(name));
                _ = reply.send(Reach {
                    series: self.engine.count_matches(&rule, usize::MAX),
                    metric_seen: seen(threshold.map(|t| t.metric.as_str())),
                    divisor_seen: seen(threshold.and_then(|t| t.divide_by.as_deref())),
                });
            }
        }
    }

    fn active(&self) -> Vec<Active> {
        let at = now();
        let view = |alert: Alert| {
            let open = self.desk.open(alert.id).cloned();
            let level = open.as_ref().map(|open| open.level);
            let silenced_by = self.desk.silenced_by(&alert, level, at).unwrap_or("").to_owned();
            Active { alert, open, silenced_by }
        };
        self.engine.active().into_iter().map(view).collect()
    }

    /// Lets the desk draw the consequences.
    fn settle(&mut self, steps: &[Change], at: UnixMillis, out: &mut AlertChanges) {
        for step in steps {
            tracing::debug!(
                rule.id = %step.alert.rule.id,
                machine.id = %step.alert.machine,
                from = step.from.name(),
                to = step.to.name(),
                cause = step.cause.name(),
                "alert step"
            );
            self.desk.step(step, at, out);
        }
    }
}

/// Ends an incident whose alert cannot go on: its machine or its rule went while nobody watched.
async fn close(
    store: &dyn Alerting,
    incident: &str,
    at: UnixMillis,
    out: &mut AlertChanges,
) -> anyhow::Result<()> {
    let filter = IncidentFilter { open_only: true, ..IncidentFilter::default() };
    let open = store.incidents(&filter, usize::from(u16::MAX)).await?;
    if let Some(mut incident) = open.into_iter().find(|i| i.id == incident) {
        incident.resolved = Some(at);
        incident.cause = Cause::Rule.name().to_owned();
        out.incidents.push(incident);
    }
    Ok(())
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
