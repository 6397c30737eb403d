//! What is wrong now: asked for once for all open pages, kept as a picture that is replaced at each change.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use proto::v1;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::wire;
use crate::upstream;
use crate::view::AlertJson;

/// How soon a page knows of an alert.
const EVERY: Duration = Duration::from_secs(1);
/// While no page is open: for the number that the next one begins with.
const EVERY_UNSEEN: Duration = Duration::from_secs(10);
/// Where there is no alert service.
const EVERY_ABSENT: Duration = Duration::from_secs(60);
/// A message with a moving value is not worth telling each second.
const SUMMARY_EVERY: Duration = Duration::from_secs(10);
/// Alerts that pages get, the most urgent ones; beyond, they get the number.
const ALERTS_MAX: usize = 500;

/// All alerts at one moment. Replaced, never changed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alerts {
    /// Grows with each change; 0 until something is known.
    pub(crate) revision: u64,
    pub(crate) heard: Heard,
    pub(crate) firing: u32,
    pub(crate) critical: u32,
    /// How many of those that there are pages do not get.
    left_out: usize,
    /// By id.
    alerts: BTreeMap<String, Told>,
}

/// Whether the alert service is heard.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Heard {
    #[default]
    NotYet,
    Well,
    /// It is no part of this server.
    Absent,
    /// What is shown is what was last heard.
    Lost(String),
}

#[derive(Clone, Debug)]
struct Told {
    alert: AlertJson,
    /// The revision at which it changed last, and when that was.
    revision: u64,
    since: Instant,
    /// As pages get it, written once for all of them.
    json: Arc<str>,
}

impl Alerts {
    /// The picture after this answer; `None` when nothing worth telling has changed.
    fn after(&self, answer: v1::ListActiveResponse, now: Instant) -> Option<Self> {
        let revision = self.revision + 1;
        let left_out = answer.alerts.len().saturating_sub(ALERTS_MAX);
        let mut changed = self.heard != Heard::Well
            || (self.firing, self.critical) != (answer.firing, answer.critical)
            || self.left_out != left_out;
        let mut alerts = BTreeMap::new();
        // The most urgent ones come first.
        for alert in answer.alerts.into_iter().take(ALERTS_MAX).map(AlertJson::from) {
            let told = match self.alerts.get(&alert.id) {
                Some(before) if before.is_as_good_as(&alert, now) => before.clone(),
                _ => {
                    changed = true;
                    let json = serde_json::to_string(&alert).unwrap_or_default().into();
                    Told { revision, since: now, json, alert: alert.clone() }
                }
            };
            alerts.insert(alert.id, told);
        }
        // None came that was not there before, so fewer means that some went.
        changed |= alerts.len() != self.alerts.len();
        let (firing, critical) = (answer.firing, answer.critical);
        let heard = Heard::Well;
        changed.then_some(Self { revision, heard, firing, critical, left_out, alerts })
    }

    fn unheard(&self, status: &tonic::Status) -> Option<Self> {
        let heard = match status.code() {
            tonic::Code::Unimplemented => Heard::Absent,
            _ => Heard::Lost(status.message().to_owned()),
        };
        if heard == self.heard {
            return None;
        }
        let revision = self.revision + 1;
        match heard {
            Heard::Absent => Some(Self { revision, heard, ..Self::default() }),
            _ => Some(Self { revision, heard, ..self.clone() }),
        }
    }
}

impl Told {
    /// Whether what was told says as much as this does, or almost.
    fn is_as_good_as(&self, alert: &AlertJson, now: Instant) -> bool {
        if now.duration_since(self.since) >= SUMMARY_EVERY {
            return *alert == self.alert;
        }
        alert.is_but_for_its_summary(&self.alert)
    }
}

/// How far a viewer has read.
#[derive(Debug, Default)]
pub(crate) struct Read {
    /// `None` before the first message, which has all of it.
    revision: Option<u64>,
    ids: HashSet<String>,
}

impl Read {
    /// What this viewer does not know yet; `None` when that is nothing.
    pub(crate) fn news(&mut self, alerts: &Alerts) -> Option<String> {
        if alerts.heard == Heard::NotYet || self.revision == Some(alerts.revision) {
            return None;
        }
        let known = self.revision.unwrap_or(0);
        let all = alerts.alerts.values();
        let changed: Vec<&str> =
            all.filter(|told| told.revision > known).map(|told| &*told.json).collect();
        let gone: Vec<&str> = self
            .ids
            .iter()
            .map(String::as_str)
            .filter(|&id| !alerts.alerts.contains_key(id))
            .collect();
        let heard = wire::AlertsHeard {
            available: alerts.heard != Heard::Absent,
            trouble: match &alerts.heard {
                Heard::Lost(reason) => reason,
                _ => "",
            },
            firing: alerts.firing,
            critical: alerts.critical,
            left_out: alerts.left_out,
        };
        let text = wire::alerts(self.revision.is_none(), &heard, &changed, &gone);
        self.revision = Some(alerts.revision);
        self.ids = alerts.alerts.keys().cloned().collect();
        Some(text)
    }
}

/// Keeps the picture.
pub(crate) struct Follower {
    pub(crate) service: upstream::Alerts,
    pub(crate) alerts: watch::Sender<Arc<Alerts>>,
    /// Somebody began to look.
    pub(crate) wanted: Arc<Notify>,
}

impl Follower {
    /// Never gives up.
    pub(crate) async fn run(self) {
        loop {
            let pause = self.ask().await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // Not for each of many: the pace is that of one page.
                () = self.wanted.notified(), if pause > EVERY => tokio::time::sleep(EVERY).await,
            }
        }
    }

    /// How long to wait before the next time.
    async fn ask(&self) -> Duration {
        let answer = self.service.list_active(v1::ListActiveRequest::default()).await;
        let seen = self.alerts.receiver_count() > 0;
        let next = match answer {
            Ok(answer) => self.alerts.borrow().after(answer, Instant::now()),
            Err(status) => self.alerts.borrow().unheard(&status),
        };
        if let Some(next) = next {
            if let Heard::Lost(reason) = &next.heard {
                tracing::warn!(%reason, "the alert service is not heard; trying again");
            }
            self.alerts.send_replace(Arc::new(next));
        }
        match (&self.alerts.borrow().heard, seen) {
            (Heard::Absent, _) => EVERY_ABSENT,
            (_, true) => EVERY,
            (_, false) => EVERY_UNSEEN,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn alert(id: &str, summary: &str, level: v1::AlertLevel) -> v1::ActiveAlert {
        v1::ActiveAlert {
            id: id.to_owned(),
            summary: summary.to_owned(),
            level: level.into(),
            phase: v1::AlertPhase::Firing.into(),
            ..Default::default()
        }
    }

    fn answer(alerts: Vec<v1::ActiveAlert>) -> v1::ListActiveResponse {
        let firing = alerts.len() as u32;
        v1::ListActiveResponse { alerts, firing, critical: 0 }
    }

    fn news(read: &mut Read, alerts: &Alerts) -> Value {
        read.news(alerts).map_or(Value::Null, |text| serde_json::from_str(&text).expect(&text))
    }

    fn ids(message: &Value) -> Vec<&str> {
        let alerts = message["alerts"].as_array().expect("alerts");
        alerts.iter().map(|alert| alert["id"].as_str().expect("an id")).collect()
    }

    use v1::AlertLevel::{Critical, Warning};

    #[test]
    fn a_viewer_gets_all_of_it_first_and_then_what_changes() {
        let now = Instant::now();
        let mut read = Read::default();
        assert_eq!(news(&mut read, &Alerts::default()), Value::Null, "nothing is known yet");
        let two = vec![alert("a", "", Warning), alert("b", "", Warning)];
        let first = Alerts::default().after(answer(two.clone()), now).expect("news");
        let message = news(&mut read, &first);
        assert_eq!((ids(&message), &message["all"]), (vec!["a", "b"], &json!(true)));
        assert_eq!(message["firing"], 2);
        assert_eq!(news(&mut read, &first), Value::Null, "told once");
        assert!(first.after(answer(two), now).is_none(), "the same is no news");

        let worse = vec![alert("b", "", Critical), alert("c", "", Warning)];
        let second = first.after(answer(worse), now).expect("news");
        let message = news(&mut read, &second);
        assert_eq!((ids(&message), &message["gone"]), (vec!["b", "c"], &json!(["a"])));
        assert_eq!(message["all"], false);
        let none = second.after(answer(Vec::new()), now).expect("news");
        assert_eq!(news(&mut read, &none)["gone"].as_array().map(Vec::len), Some(2));
        // Who comes late gets what there is.
        assert_eq!(ids(&news(&mut Read::default(), &second)), ["b", "c"]);
    }

    #[test]
    fn a_message_with_a_moving_value_is_told_now_and_then() {
        let now = Instant::now();
        let first = Alerts::default().after(answer(vec![alert("a", "91 %", Warning)]), now);
        let first = first.expect("news");
        let moved = || answer(vec![alert("a", "92 %", Warning)]);
        assert!(first.after(moved(), now + SUMMARY_EVERY / 2).is_none());
        let later = first.after(moved(), now + SUMMARY_EVERY).expect("news");
        assert!(later.alerts["a"].json.contains("92 %"));
        let worse = answer(vec![alert("a", "99 %", Critical)]);
        assert!(first.after(worse, now).is_some(), "its level is news at once");
    }

    #[test]
    fn more_alerts_than_a_page_gets_are_counted() {
        let many = (0..ALERTS_MAX + 7).map(|i| alert(&format!("{i:04}"), "", Warning)).collect();
        let alerts = Alerts::default().after(answer(many), Instant::now()).expect("news");
        let message = news(&mut Read::default(), &alerts);
        assert_eq!(ids(&message).len(), ALERTS_MAX);
        assert_eq!((&message["left_out"], &message["firing"]), (&json!(7), &json!(ALERTS_MAX + 7)));
    }

    #[test]
    fn a_service_that_is_not_heard_takes_nothing_back_and_one_that_is_absent_does() {
        let first = Alerts::default().after(answer(vec![alert("a", "", Warning)]), Instant::now());
        let first = first.expect("news");
        let mut read = Read::default();
        news(&mut read, &first);
        let lost = tonic::Status::unavailable("it is away");
        let away = first.unheard(&lost).expect("news");
        let message = news(&mut read, &away);
        assert_eq!((&message["trouble"], &message["gone"]), (&json!("it is away"), &json!([])));
        assert!(away.unheard(&lost).is_none());
        let absent = away.unheard(&tonic::Status::unimplemented("")).expect("news");
        assert_eq!(news(&mut read, &absent)["available"], false);
    }

    #[test]
    fn a_hostile_name_stays_a_string() {
        let hostile = "</script>\"\n";
        let alerts =
            Alerts::default().after(answer(vec![alert(hostile, hostile, Warning)]), Instant::now());
        let mut read = Read::default();
        let message = news(&mut read, &alerts.expect("news"));
        assert_eq!(message["alerts"][0]["summary"], hostile);
        let gone = Alerts { revision: 9, heard: Heard::Well, ..Alerts::default() };
        assert_eq!(news(&mut read, &gone)["gone"], json!([hostile]));
    }
}
