//! Which notices go out together, and when. Pure.

use std::collections::{HashMap, HashSet};

use model::UnixMillis;
use storage::alerting::Queued;

/// Notices in one message.
const TOGETHER_MAX: usize = 100;

/// What to do now.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Each is one message, by the places of its notices in what was planned.
    pub(super) messages: Vec<Vec<usize>>,
    /// When to plan again at the latest, if nothing new comes.
    pub(super) wake: Option<UnixMillis>,
}

/// Groups what waits, oldest first. A message holds at most one notice of each incident, its oldest: that an
/// alert is over is never told before, or together with, that it fires.
pub(super) fn plan(
    waiting: &[Queued],
    sent: &HashMap<String, UnixMillis>,
    interval_ms: i64,
    now: UnixMillis,
) -> Plan {
    let mut order: Vec<&str> = Vec::new();
    let mut groups: HashMap<&str, Vec<usize>> = HashMap::new();
    for (place, queued) in waiting.iter().enumerate() {
        let group = groups.entry(&queued.notice.grouping).or_insert_with(|| {
            order.push(&queued.notice.grouping);
            Vec::new()
        });
        group.push(place);
    }
    let mut plan = Plan::default();
    for grouping in order {
        let places = &groups[grouping];
        let due = places.iter().map(|p| waiting[*p].notice.due).min().unwrap_or(now);
        let paced = sent.get(grouping).map_or(UnixMillis::MIN, |last| *last + interval_ms);
        let ready = due.max(paced);
        if ready > now {
            plan.wake = Some(plan.wake.map_or(ready, |wake| wake.min(ready)));
            continue;
        }
        let mut incidents = HashSet::new();
        let first = places.iter().filter(|p| incidents.insert(&waiting[**p].notice.incident));
        plan.messages.push(first.take(TOGETHER_MAX).copied().collect());
    }
    plan
}

#[cfg(test)]
mod tests {
    use storage::alerting::Notice;

    use super::*;

    fn queued(grouping: &str, incident: &str, due: i64) -> Queued {
        Queued {
            id: 0,
            notice: Notice {
                channel: "c".into(),
                grouping: grouping.into(),
                incident: incident.into(),
                kind: "firing".into(),
                document: "{}".into(),
                created: UnixMillis(0),
                due: UnixMillis(due),
            },
        }
    }

    fn check(
        waiting: &[Queued],
        sent: &[(&str, i64)],
        now: i64,
        messages: &[&[usize]],
        wake: Option<i64>,
    ) {
        let sent = sent.iter().map(|(g, at)| ((*g).to_owned(), UnixMillis(*at))).collect();
        let plan = plan(waiting, &sent, 10, UnixMillis(now));
        assert_eq!(plan.messages, messages);
        assert_eq!(plan.wake, wake.map(UnixMillis));
    }

    #[test]
    fn a_hundred_machines_that_go_offline_are_one_message() {
        let many: Vec<_> = (0..100).map(|i| queued("off", &i.to_string(), 100 + i)).collect();
        check(&many, &[], 99, &[], Some(100));
        check(&many, &[], 100, &[&(0..100).collect::<Vec<_>>()], None);
    }

    #[test]
    fn rules_are_told_apart_and_paced() {
        let waiting = [queued("a", "1", 5), queued("b", "2", 5), queued("a", "3", 50)];
        check(&waiting, &[], 6, &[&[0, 2], &[1]], None);
        check(&waiting, &[("a", 0)], 6, &[&[1]], Some(10));
    }

    #[test]
    fn an_end_is_never_told_with_its_beginning() {
        let waiting = [queued("a", "1", 0), queued("a", "1", 0), queued("a", "2", 0)];
        check(&waiting, &[], 0, &[&[0, 2]], None);
        check(&waiting[1..], &[("a", 0)], 5, &[], Some(10));
        check(&waiting[1..2], &[("a", 0)], 10, &[&[0]], None);
    }
}
