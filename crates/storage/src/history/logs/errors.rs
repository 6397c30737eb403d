//! Errors in groups: what an append adds to them.

use std::collections::{BTreeMap, HashSet};

use model::template::{fingerprint, template};
use model::{Level, MachineId, Severity, UnixMillis};

use super::build::FreshLog;

/// Counts are kept by the minute.
pub(crate) const MINUTE_MS: i64 = 60_000;
/// Groups of a store. What would be one more is counted with all others of its service.
pub(crate) const GROUPS_MAX: usize = 10_000;
/// Of the group for what has none of its own.
pub(crate) const OTHERS: &str = "(errors of further kinds)";
/// Of the example.
const EXAMPLE_BYTES_MAX: usize = 2048;

/// What one append adds to one group.
#[derive(Debug)]
pub(crate) struct GroupDelta {
    pub(crate) service: String,
    pub(crate) template: String,
    pub(crate) example: String,
    pub(crate) severity: Severity,
    pub(crate) first: UnixMillis,
    pub(crate) last: UnixMillis,
    pub(crate) count: u64,
}

/// What one append adds to all.
#[derive(Debug, Default)]
pub(crate) struct ErrorDeltas {
    pub(crate) groups: BTreeMap<u64, GroupDelta>,
    /// By minute, group and machine: in the order of the table.
    pub(crate) counts: BTreeMap<(UnixMillis, u64, MachineId), u64>,
}

impl ErrorDeltas {
    /// `known`: fingerprints of the groups that there are; new ones are added to it.
    pub(crate) fn of(events: &[FreshLog], known: &mut HashSet<u64>) -> Self {
        let mut deltas = Self::default();
        for (machine, event) in events {
            if !Level::of(event.severity).is_error() {
                continue;
            }
            let mut alike = template(&event.body);
            let mut group = fingerprint(&event.service, &alike);
            if !known.contains(&group) {
                if known.len() >= GROUPS_MAX {
                    alike = OTHERS.to_owned();
                    group = fingerprint(&event.service, OTHERS);
                }
                known.insert(group);
            }
            let delta = deltas.groups.entry(group).or_insert_with(|| {
                let end = event.body.floor_char_boundary(EXAMPLE_BYTES_MAX);
                GroupDelta {
                    service: event.service.clone(),
                    template: alike,
                    example: event.body[..end].to_owned(),
                    severity: event.severity,
                    first: event.time,
                    last: event.time,
                    count: 0,
                }
            });
            delta.severity = delta.severity.max(event.severity);
            delta.first = delta.first.min(event.time);
            delta.last = delta.last.max(event.time);
            delta.count += 1;
            *deltas.counts.entry((event.time.floor(MINUTE_MS), group, *machine)).or_default() += 1;
        }
        deltas
    }
}
