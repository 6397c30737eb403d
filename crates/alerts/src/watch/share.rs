//! What is watched under one claim: the machines of a shard, their alerts, and who was told.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::Context as _;
use model::{MachineId, MachineStatus, UnixMillis};
use storage::alerting::{
    AlertChanges, AlertState, Alerting, Claim, Incident, IncidentFilter, Shard,
};
use storage::events::{Event, EventKind};
use storage::registry::MachineRecord;

use super::{Active, Settings, identity};
use crate::alert::{Alert, AlertId, Cause, Change};
use crate::desk::{self, Desk, Pace};
use crate::engine::{Counters, Engine};

#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) claim: Claim,
    pub(crate) engine: Engine,
    pub(crate) desk: Desk,
    /// Machines that a status was told of, or a frame.
    heard: HashSet<MachineId>,
    /// What the engine had counted when it was last looked at.
    pub(crate) reported: Counters,
}

/// What was kept of all machines, read once for all shares that are opened together.
#[derive(Debug)]
pub(super) struct Past {
    shards: u16,
    machines: Vec<MachineRecord>,
    states: Vec<AlertState>,
}

impl Past {
    pub(super) async fn read(
        store: &dyn Alerting,
        registry: &dyn storage::Registry,
    ) -> anyhow::Result<Self> {
        let machines =
            registry.machines().await.context("failed to read the register of machines")?;
        let states = store.states().await.context("failed to read the state of alerts")?;
        Ok(Self { shards: store.shards(), machines, states })
    }

    pub(super) fn machines(&self) -> &[MachineRecord] {
        &self.machines
    }

    /// Why an alert is over that cannot go on: its machine went while nobody watched, or its rule changed.
    fn why_over(&self, machine: MachineId) -> Cause {
        match self.machines.iter().any(|record| record.id == machine) {
            true => Cause::Rule,
            false => Cause::MachineRemoved,
        }
    }

    fn of(&self, shard: Shard) -> impl Iterator<Item = &MachineRecord> {
        self.machines.iter().filter(move |record| Shard::of(record.id, self.shards) == shard)
    }
}

impl Share {
    /// Goes on where whoever watched before stood: rules, then machines, then alerts.
    pub(super) async fn open(
        claim: Claim,
        (engine, pace): (Engine, Pace),
        settings: &Settings,
        past: &Past,
        store: &dyn Alerting,
        at: UnixMillis,
    ) -> anyhow::Result<(Self, AlertChanges)> {
        let mut share = Self {
            claim,
            engine,
            desk: Desk::new(pace),
            heard: HashSet::new(),
            reported: Counters::default(),
        };
        let (mut steps, mut out) = (Vec::new(), AlertChanges::default());
        share.follow(settings, at, &mut out);
        for record in past.of(claim.shard) {
            share.engine.set_machine(record.id, identity(record), at, &mut steps);
        }
        for state in &past.states {
            let Some((kept, remembered)) = desk::read(&state.document) else {
                // Whose it is stands in what cannot be read: it is nobody's, so the first shard's.
                if claim.shard == Shard(0) {
                    tracing::error!(
                        alert.id = state.id,
                        "the state of an alert cannot be read, it is dropped"
                    );
                    out.forget(state.id.clone());
                }
                continue;
            };
            if Shard::of(kept.machine, past.shards) != claim.shard {
                continue;
            }
            let machine = kept.machine;
            let restored = share.engine.restore(kept);
            let alert = AlertId::from_text(&state.id).filter(|_| restored);
            match alert.and_then(|id| share.engine.alert(id)) {
                Some(alert) => {
                    if let Some(remembered) = remembered {
                        share.desk.restore(alert.id, remembered.open(alert));
                    }
                }
                None => {
                    out.forget(state.id.clone());
                    if let Some(remembered) = remembered {
                        let why = past.why_over(machine);
                        let incident = close(store, &remembered.incident, why, at).await?;
                        if let Some(incident) = incident {
                            share.desk.tell_over(&incident, &remembered.told, at, &mut out);
                            out.incidents.push(incident);
                        }
                    }
                }
            }
        }
        // That a machine is there is believed only when it is heard of; that it was away is known.
        for record in past.of(claim.shard) {
            use MachineStatus::{Asleep, Offline, Online, Stale, Stopped};
            match record.status {
                Asleep | Offline | Stopped => {
                    share.heard.insert(record.id);
                    share.engine.set_status(record.id, record.status, at, &mut steps);
                }
                Online | Stale => {}
            }
        }
        share.settle(&steps, at, &mut out);
        Ok((share, out))
    }

    /// Puts rules, silences and channels in force.
    pub(super) fn follow(&mut self, settings: &Settings, at: UnixMillis, out: &mut AlertChanges) {
        let mut steps = Vec::new();
        self.desk.set_routes(settings.routes.clone());
        self.desk.set_silences(settings.silences.clone());
        self.engine.set_rules(&settings.rules, at, &mut steps);
        self.settle(&steps, at, out);
    }

    /// Takes in what a machine that the engine knows sent or did. An event that contradicts itself changes nothing
    /// and is told with the reason.
    pub(super) fn take(
        &mut self,
        event: &Event,
        at: UnixMillis,
        steps: &mut Vec<Change>,
    ) -> Result<(), String> {
        let id = event.machine;
        match &event.kind {
            EventKind::Frame { frame, late } => {
                let (values, series) = (frame.frame.values.len(), frame.layout.len());
                if values != series {
                    return Err(format!(
                        "a frame of {values} values, and a layout of {series} series"
                    ));
                }
                if !late && self.heard.insert(id) {
                    self.engine.set_status(id, MachineStatus::Online, at, steps);
                }
                self.engine.observe(id, &frame.layout, &frame.frame, *late, at, steps);
            }
            EventKind::Status { status, since } => {
                self.heard.insert(id);
                self.engine.set_status(id, *status, *since, steps);
            }
            EventKind::Removed => {
                self.heard.remove(&id);
                self.engine.remove_machine(id, at, steps);
            }
            EventKind::Logs(events) => self.engine.observe_logs(id, events, at, steps),
            EventKind::Changed
            | EventKind::Processes(_)
            | EventKind::Machine(_)
            | EventKind::Gap(_) => {}
        }
        Ok(())
    }

    pub(super) fn tick(&mut self, at: UnixMillis, out: &mut AlertChanges) {
        let mut steps = Vec::new();
        self.engine.tick(at, &mut steps);
        self.settle(&steps, at, out);
        let engine = &self.engine;
        self.desk.tick(at, |id| engine.alert(id), out);
    }

    /// Lets the desk draw the consequences.
    pub(super) fn settle(&mut self, steps: &[Change], at: UnixMillis, out: &mut AlertChanges) {
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

    pub(super) fn active(&self, at: UnixMillis) -> impl Iterator<Item = Active> {
        let view = move |alert: Alert| {
            let open = self.desk.open(alert.id).cloned();
            let level = open.as_ref().map(|open| open.level);
            let silenced_by = self.desk.silenced_by(&alert, level, at).unwrap_or("").to_owned();
            Active { alert, open, silenced_by }
        };
        self.engine.active().into_iter().map(view)
    }
}

/// Ends an incident whose alert cannot go on: its machine or its rule went while nobody watched.
async fn close(
    store: &dyn Alerting,
    incident: &str,
    why: Cause,
    at: UnixMillis,
) -> anyhow::Result<Option<Incident>> {
    let filter = IncidentFilter { open_only: true, ..IncidentFilter::default() };
    let open = store.incidents(&filter, usize::from(u16::MAX)).await?;
    let found = open.into_iter().find(|i| i.id == incident);
    Ok(found.map(|incident| Incident {
        resolved: Some(at),
        cause: why.name().to_owned(),
        ..incident
    }))
}

/// Alerts that other services watch, as they were kept at their latest step.
pub(super) fn elsewhere(
    states: &[AlertState],
    settings: &Settings,
    others: &Engine,
    at: UnixMillis,
) -> Vec<Active> {
    let mut desk = Desk::new(Pace { group_wait_ms: 0, repeat_ms: 0 });
    desk.set_silences(settings.silences.clone());
    let view = |state: &AlertState| {
        let (kept, remembered) = desk::read(&state.document)?;
        let rule = settings.rules.iter().find(|rule| rule.id == kept.rule)?;
        let alert = Alert {
            id: AlertId::from_text(&state.id)?,
            rule: rule.clone(),
            machine: kept.machine,
            // Known to another shard of this process: then it is shown from there.
            identity: Arc::new(others.identity(kept.machine)?.clone()),
            series: kept.series,
            life: kept.life,
            value: kept.value,
            peak: kept.peak,
        };
        let open = remembered.map(|remembered| remembered.open(alert.clone()));
        let level = open.as_ref().map(|open| open.level);
        let silenced_by = desk.silenced_by(&alert, level, at).unwrap_or("").to_owned();
        Some(Active { alert, open, silenced_by })
    };
    states.iter().filter_map(view).collect()
}

#[cfg(test)]
mod tests {
    use model::{Labels, MachineFacts};

    use super::*;

    #[test]
    fn an_incident_that_ends_at_a_start_says_whether_its_machine_is_gone() {
        let id = |n| MachineId::from_u128(n).expect("not zero");
        let there = MachineRecord {
            id: id(1),
            facts: MachineFacts::default(),
            labels: Labels::empty(),
            first_seen: UnixMillis(0),
            last_seen: UnixMillis(0),
            status: MachineStatus::Online,
            status_since: UnixMillis(0),
        };
        let past = Past { shards: 1, machines: vec![there], states: Vec::new() };
        assert_eq!(past.why_over(id(1)), Cause::Rule);
        assert_eq!(past.why_over(id(2)), Cause::MachineRemoved);
    }
}
