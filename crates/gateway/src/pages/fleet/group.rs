//! Machines under headings: by one of their labels, or by their status.

use std::collections::{BTreeMap, BTreeSet};

use crate::format;
use crate::live::Picture;
use crate::view::MachineLine;

/// Labels that are offered to group by.
const KEYS_MAX: usize = 40;
/// Not a label, but grouped by like one.
pub(super) const STATUS: &str = "status";

/// What stands above the machines of one group.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Heading {
    pub(super) value: String,
    /// That fit the filter.
    pub(super) machines: usize,
    /// Mean of those that are heard; empty when none is.
    pub(super) cpu: String,
}

/// What can be grouped by in this fleet.
pub(super) fn keys(picture: &Picture) -> Vec<String> {
    let labels = picture.rows.values().flat_map(|row| row.machine.labels.keys());
    let keys: BTreeSet<&String> = labels.collect();
    keys.into_iter().take(KEYS_MAX).cloned().chain([STATUS.to_owned()]).collect()
}

/// The group of a machine; empty when it has no such label.
pub(super) fn group_of<'a>(machine: &'a MachineLine, key: &str) -> &'a str {
    if key == STATUS {
        return machine.status;
    }
    machine.labels.iter().find(|(k, _)| k == key).map_or("", |(_, value)| value)
}

/// Keeps the order within each group; those without come last.
pub(super) fn sort(machines: &mut [MachineLine], key: &str) {
    if !key.is_empty() {
        machines.sort_by_cached_key(|m| {
            let group = group_of(m, key).to_owned();
            (group.is_empty(), group)
        });
    }
}

/// One for each group, also of those where none fits: a script may show them later.
pub(super) fn headings<'a>(
    machines: impl Iterator<Item = &'a MachineLine>,
    key: &str,
    fits: impl Fn(&MachineLine) -> bool,
) -> BTreeMap<String, Heading> {
    let mut sums: BTreeMap<&str, (usize, f64, usize)> = BTreeMap::new();
    for machine in machines {
        let (count, cpu, heard) = sums.entry(group_of(machine, key)).or_default();
        if !fits(machine) {
            continue;
        }
        *count += 1;
        if machine.is_heard() && !machine.cpu.is_absent() {
            *cpu += machine.cpu.number;
            *heard += 1;
        }
    }
    let heading = |(value, (machines, cpu, heard)): (&str, (usize, f64, usize))| {
        let cpu = if heard > 0 { format::percent(cpu / heard as f64) } else { String::new() };
        (value.to_owned(), Heading { value: value.to_owned(), machines, cpu })
    };
    sums.into_iter().map(heading).collect()
}

#[cfg(test)]
mod tests {
    use proto::v1;

    use super::*;

    fn machine(name: &str, env: Option<&str>, cpu: f64) -> MachineLine {
        let machine = v1::Machine {
            host_name: name.to_owned(),
            labels: env.map(|env| ("env".to_owned(), env.to_owned())).into_iter().collect(),
            status: v1::MachineStatus::Online.into(),
            headline: Some(v1::Headline { cpu_utilization: Some(cpu), ..Default::default() }),
            ..Default::default()
        };
        MachineLine::new(&machine, 0)
    }

    #[test]
    fn groups_keep_the_order_within_and_machines_without_come_last() {
        let mut machines = vec![
            machine("a", None, 0.1),
            machine("b", Some("prod"), 0.2),
            machine("c", Some("dev"), 0.3),
            machine("d", Some("prod"), 0.4),
            machine("x", Some("test"), 0.4),
        ];
        sort(&mut machines, "env");
        let names: Vec<_> = machines.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["c", "b", "d", "x", "a"]);
        let headings = headings(machines.iter(), "env", |m| m.name != "x");
        assert_eq!(headings["prod"].machines, 2);
        assert_eq!(headings["prod"].cpu, "30 %");
        assert_eq!((headings[""].machines, headings["test"].machines), (1, 0));
    }
}
