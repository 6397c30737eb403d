//! Who has to be told what. Pure: takes the engine's steps, returns what to keep and what to tell.
//!
//! What is to be told is part of the same changes as the step that causes it, so the store keeps both or
//! neither. Only the channels that were told of an alert are told that it is over.

use std::collections::HashMap;

use model::UnixMillis;
use storage::alerting::{AlertChanges, AlertState, Incident, Notice as StoredNotice};

use crate::alert::{Alert, AlertId, Change};
use crate::lifecycle::Phase;
use crate::notice::{Kind, Notice};
use crate::rule::Level;
use crate::silence::Silence;

mod document;

pub use document::{Document, read};

/// How telling is paced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// A message waits this long for others to join it, but no longer than a quarter of its rule's `for`.
    pub group_wait_ms: i64,
    /// What still fires and is not acknowledged is told again after this long.
    pub repeat_ms: i64,
}

/// A channel, as far as the desk cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub id: String,
    pub name: String,
    pub repeat_ms: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    pub time: UnixMillis,
    pub author: String,
    pub comment: String,
}

/// An alert that fires, or did when its machine went away.
#[derive(Clone, Debug, PartialEq)]
pub struct Open {
    pub incident: String,
    pub started: UnixMillis,
    pub level: Level,
    /// The channels that were told, and when each is to be told again.
    pub told: Vec<(String, UnixMillis)>,
    pub acknowledged: Option<Acknowledgement>,
    /// As of its latest step.
    pub alert: Alert,
}

#[derive(Debug)]
pub struct Desk {
    pace: Pace,
    /// Enabled channels.
    routes: Vec<Route>,
    silences: Vec<Silence>,
    open: HashMap<AlertId, Open>,
}

impl Desk {
    pub fn new(pace: Pace) -> Self {
        Self { pace, routes: Vec::new(), silences: Vec::new(), open: HashMap::new() }
    }

    pub fn set_routes(&mut self, routes: Vec<Route>) {
        self.routes = routes;
    }

    pub fn set_silences(&mut self, silences: Vec<Silence>) {
        self.silences = silences;
    }

    pub fn open(&self, alert: AlertId) -> Option<&Open> {
        self.open.get(&alert)
    }

    pub fn open_alerts(&self) -> impl Iterator<Item = &Open> {
        self.open.values()
    }

    /// Goes on with an alert from before a restart.
    pub fn restore(&mut self, id: AlertId, open: Open) {
        self.open.insert(id, open);
    }

    /// The silence that keeps this alert quiet.
    pub fn silenced_by(
        &self,
        alert: &Alert,
        level: Option<Level>,
        now: UnixMillis,
    ) -> Option<&str> {
        let mut silences = self.silences.iter();
        silences.find(|s| s.is_in_force(now) && s.covers(alert, level)).map(|s| s.id.as_str())
    }

    /// Takes in a step of an alert.
    pub fn step(&mut self, change: &Change, now: UnixMillis, out: &mut AlertChanges) {
        let id = change.alert.id;
        match (change.from, change.to) {
            (Phase::Pending, Phase::Firing) => {
                let level = change.level.unwrap_or(Level::Critical);
                let open = Open {
                    incident: incident_id(id, change.at),
                    started: change.at,
                    level,
                    told: Vec::new(),
                    acknowledged: None,
                    alert: change.alert.clone(),
                };
                self.open.insert(id, open);
                self.tell(id, Kind::Firing, now, out);
            }
            (Phase::Firing, Phase::Firing) => {
                if let Some(open) = self.open.get_mut(&id) {
                    open.level = change.level.unwrap_or(open.level);
                    open.alert = change.alert.clone();
                    let kind = if open.told.is_empty() { Kind::Firing } else { Kind::Escalated };
                    self.tell(id, kind, now, out);
                }
            }
            (_, Phase::Resolved) => return self.resolve(change, now, out),
            (_, Phase::Inactive) => return out.forget(id.to_string()),
            _ => {
                if let Some(open) = self.open.get_mut(&id) {
                    open.alert = change.alert.clone();
                }
            }
        }
        let open = self.open.get(&id);
        out.incidents.extend(open.map(|open| incident(open, None, "")));
        out.keep(AlertState { id: id.to_string(), document: document::write(&change.alert, open) });
    }

    fn resolve(&mut self, change: &Change, now: UnixMillis, out: &mut AlertChanges) {
        let id = change.alert.id;
        out.forget(id.to_string());
        let Some(mut open) = self.open.remove(&id) else { return };
        open.alert = change.alert.clone();
        out.incidents.push(incident(&open, Some(change.at), change.cause.name()));
        let told = open.told.iter().map(|(channel, _)| channel.as_str());
        let told = told.filter(|channel| self.routes.iter().any(|route| route.id == *channel));
        let notice = Notice::of(
            Kind::Resolved,
            &open.alert,
            &open.incident,
            open.level,
            open.started,
            Some(change.at),
        );
        out.notices.extend(told.map(|channel| self.stored(channel, &notice, &open.alert, now)));
    }

    /// Tells those who were told of an incident that it is over, where nothing but its record is left.
    pub fn tell_over(
        &self,
        incident: &Incident,
        told: &[(String, UnixMillis)],
        now: UnixMillis,
        out: &mut AlertChanges,
    ) {
        let notice = Notice::over(incident);
        let told = told.iter().map(|(channel, _)| channel);
        let told = told.filter(|channel| self.routes.iter().any(|route| route.id == **channel));
        out.notices.extend(told.map(|channel| stored(channel, &notice, now, now)));
    }

    /// Tells what became due by time alone: a silence ended, a repeat is due.
    pub fn tick(
        &mut self,
        now: UnixMillis,
        latest: impl Fn(AlertId) -> Option<Alert>,
        out: &mut AlertChanges,
    ) {
        let due: Vec<(AlertId, Kind)> = self
            .open
            .iter()
            .filter(|(_, open)| open.alert.life.phase() == Phase::Firing)
            .filter(|(_, open)| open.acknowledged.is_none())
            .filter_map(|(id, open)| {
                let kind = match open.told.is_empty() {
                    true if self.has_routes(&open.alert) => Kind::Firing,
                    false if self.is_repeat_due(open, now) => Kind::Repeated,
                    _ => return None,
                };
                self.silenced_by(&open.alert, Some(open.level), now)
                    .is_none()
                    .then_some((*id, kind))
            })
            .collect();
        for (id, kind) in due {
            if let (Some(open), Some(alert)) = (self.open.get_mut(&id), latest(id)) {
                open.alert = alert;
            }
            self.tell(id, kind, now, out);
            self.keep(id, out);
        }
    }

    /// Somebody is on it. False when it does not fire.
    pub fn acknowledge(
        &mut self,
        id: AlertId,
        acknowledgement: Acknowledgement,
        out: &mut AlertChanges,
    ) -> bool {
        let Some(open) = self.open.get_mut(&id) else { return false };
        open.acknowledged = Some(acknowledgement);
        out.incidents.push(incident(open, None, ""));
        self.keep(id, out);
        true
    }

    fn keep(&self, id: AlertId, out: &mut AlertChanges) {
        if let Some(open) = self.open.get(&id) {
            let document = document::write(&open.alert, Some(open));
            out.keep(AlertState { id: id.to_string(), document });
        }
    }

    fn has_routes(&self, alert: &Alert) -> bool {
        self.routes.iter().any(|route| goes_to(alert, route))
    }

    fn is_repeat_due(&self, open: &Open, now: UnixMillis) -> bool {
        let due = |route: &&Route| {
            open.told.iter().any(|(channel, again)| *channel == route.id && *again <= now)
        };
        self.routes.iter().filter(due).any(|route| goes_to(&open.alert, route))
    }

    /// Puts a notice into the queue of every channel that it concerns, unless a silence keeps it quiet.
    fn tell(&mut self, id: AlertId, kind: Kind, now: UnixMillis, out: &mut AlertChanges) {
        let Some(open) = self.open.get(&id) else { return };
        if self.silenced_by(&open.alert, Some(open.level), now).is_some() {
            return;
        }
        let notice = Notice::of(kind, &open.alert, &open.incident, open.level, open.started, None);
        let mut told = open.told.clone();
        for route in self.routes.iter().filter(|route| goes_to(&open.alert, route)) {
            let again = now + route.repeat_ms.unwrap_or(self.pace.repeat_ms);
            let known = told.iter_mut().find(|(channel, _)| *channel == route.id);
            match (known, kind) {
                (Some((_, due)), Kind::Repeated) if *due > now => continue,
                (Some((_, due)), _) => *due = again,
                // A channel that is new to an alert learns of it as if it had just begun.
                (None, _) => told.push((route.id.clone(), again)),
            }
            out.notices.push(self.stored(&route.id, &notice, &open.alert, now));
        }
        if let Some(open) = self.open.get_mut(&id) {
            open.told = told;
        }
    }

    fn stored(
        &self,
        channel: &str,
        notice: &Notice,
        alert: &Alert,
        now: UnixMillis,
    ) -> StoredNotice {
        let wait = self.pace.group_wait_ms.min(alert.rule.spec.timing.for_ms / 4);
        stored(channel, notice, now, now + wait)
    }
}

fn stored(channel: &str, notice: &Notice, now: UnixMillis, due: UnixMillis) -> StoredNotice {
    StoredNotice {
        channel: channel.to_owned(),
        grouping: notice.rule_id.clone(),
        incident: notice.incident_id.clone(),
        kind: notice.kind.name().to_owned(),
        document: serde_json::to_string(notice).expect("texts and numbers are always JSON"),
        created: now,
        due,
    }
}

fn goes_to(alert: &Alert, route: &Route) -> bool {
    let channels = &alert.rule.spec.channels;
    channels.is_empty() || channels.contains(&route.name)
}

/// The same incident has the same id, also when the step is taken again after a crash.
fn incident_id(alert: AlertId, started: UnixMillis) -> String {
    format!("{alert}-{:x}", started.0)
}

fn incident(open: &Open, resolved: Option<UnixMillis>, cause: &str) -> Incident {
    let alert = &open.alert;
    let acknowledged = open.acknowledged.as_ref();
    Incident {
        id: open.incident.clone(),
        alert: alert.id.to_string(),
        rule: alert.rule.id.to_string(),
        rule_name: alert.rule.spec.name.clone(),
        machine: alert.machine,
        host_name: alert.identity.host_name.clone(),
        metric: alert.series.as_ref().map_or(String::new(), |s| s.metric.to_string()),
        labels: alert.series.as_ref().map_or_else(Default::default, |s| s.labels.clone()),
        level: open.level.name().to_owned(),
        started: open.started,
        resolved,
        peak: (!alert.peak.is_nan()).then_some(alert.peak),
        summary: alert.summary(open.level),
        cause: cause.to_owned(),
        acknowledged: acknowledged.map(|a| a.time),
        acknowledged_by: acknowledged.map_or(String::new(), |a| a.author.clone()),
        comment: acknowledged.map_or(String::new(), |a| a.comment.clone()),
    }
}

#[cfg(test)]
mod tests;
