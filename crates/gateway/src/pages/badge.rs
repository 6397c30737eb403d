//! What is wrong with each machine, on its row.

use std::collections::HashMap;
use std::time::Duration;

use proto::v1;

use crate::gateway::Shared;

/// The page is worth showing without them; scripts are told anyway.
const PATIENCE: Duration = Duration::from_millis(500);
const SHOWN: usize = 2;

/// One alert that fires.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Badge {
    pub(crate) level: &'static str,
    pub(crate) rule: String,
    pub(crate) summary: String,
}

/// By machine id.
pub(crate) type Badges = HashMap<String, Vec<Badge>>;

pub(crate) async fn badges(shared: &Shared) -> Badges {
    let asked = shared.alerts.list_active(v1::ListActiveRequest::default());
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(answer)) => by_machine(answer.alerts),
        Ok(Err(_)) | Err(_) => Badges::default(),
    }
}

/// Only those that fire and that nobody silenced; `js/badges.js` follows the same rules.
fn by_machine(alerts: Vec<v1::ActiveAlert>) -> Badges {
    let mut badges = Badges::default();
    for alert in alerts {
        if alert.phase() != v1::AlertPhase::Firing || !alert.silenced_by.is_empty() {
            continue;
        }
        let level = match alert.level() {
            v1::AlertLevel::Critical => "critical",
            v1::AlertLevel::Warning | v1::AlertLevel::Unspecified => "warning",
        };
        let badge = Badge { level, rule: alert.rule_name, summary: alert.summary };
        badges.entry(alert.machine_id).or_default().push(badge);
    }
    for some in badges.values_mut() {
        some.sort_by(|a, b| (a.level, &a.rule).cmp(&(b.level, &b.rule)));
        // A rule may fire for many series of one machine.
        some.dedup_by(|a, b| a.rule == b.rule);
        some.truncate(SHOWN);
    }
    badges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_comes_first_and_what_is_silenced_or_not_yet_firing_is_left_out() {
        let alert = |rule: &str, level: v1::AlertLevel, phase: v1::AlertPhase| v1::ActiveAlert {
            machine_id: "m".to_owned(),
            rule_name: rule.to_owned(),
            level: level.into(),
            phase: phase.into(),
            ..Default::default()
        };
        use v1::AlertLevel::{Critical, Warning};
        use v1::AlertPhase::{Firing, Pending};
        let badges = by_machine(vec![
            alert("warm", Warning, Firing),
            alert("warm", Warning, Firing),
            alert("soon", Critical, Pending),
            v1::ActiveAlert { silenced_by: "s".to_owned(), ..alert("quiet", Critical, Firing) },
            alert("hot", Critical, Firing),
        ]);
        let rules: Vec<_> = badges["m"].iter().map(|badge| badge.rule.as_str()).collect();
        assert_eq!(rules, ["hot", "warm"]);
    }
}
