//! Containers: what each uses, from its control group; what it is called, from its engine.
//!
//! The control groups alone are enough to find containers and measure them. A Docker-compatible engine
//! adds names, images, restarts and health, when its socket is there and may be used.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use model::metric::{
    CONTAINER_CPU_TIME, CONTAINER_CPU_USAGE, CONTAINER_DISK_IO, CONTAINER_HEALTHY,
    CONTAINER_MEMORY_LIMIT, CONTAINER_MEMORY_USAGE, CONTAINER_NETWORK_IO, CONTAINER_PROCESSES,
    CONTAINER_RESTARTS, CONTAINER_WATCHED,
};
use model::{EventKind, Labels, MachineEvent};

use super::network::parse_totals;
use super::watch::Watch;
use crate::probe::quantise::{ratio, seconds};
use crate::probe::{At, Probe, Setup, Sheet};
use cgroup::{ContainerId, Tree, Usage};
use engine::{Engine, Facts};

pub(super) mod cgroup;
mod engine;

/// More containers than this are left out and counted.
const CONTAINERS_MAX: usize = 300;

struct Container {
    proc_root: PathBuf,
    tree: Tree,
    engine: Engine,
    watch: Watch,
    /// Those of the reading before, by full id. `None` before the first.
    before: Option<HashMap<String, Seen>>,
}

/// What is remembered of a container.
struct Seen {
    name: String,
    /// Its name and image, as the engine last said. While the engine is silent these stand: without them
    /// the same container would have other series.
    called: Option<Facts>,
    init_pid: Option<u32>,
    cpu: Option<(Instant, f64)>,
}

pub(super) fn open(setup: &Setup) -> Box<dyn Probe> {
    Box::new(Container {
        proc_root: setup.config.proc_root.clone(),
        tree: Tree::new(setup.config.sys_root.join("fs/cgroup")),
        engine: Engine::new(setup.config.container_sockets.clone()),
        watch: Watch::new(setup.config.watched_containers.clone()),
        before: None,
    })
}

impl Probe for Container {
    fn read(&mut self, at: At, sheet: &mut Sheet) -> anyhow::Result<()> {
        let mut found = self.tree.find();
        sheet.left_out(found.len().saturating_sub(CONTAINERS_MAX));
        found.truncate(CONTAINERS_MAX);
        let pids: Vec<_> = found.iter().map(|(_, place)| self.tree.first_pid(place)).collect();
        let known = found.iter().zip(&pids).map(|((id, _), pid)| (id.full.as_str(), *pid));
        let facts = self.engine.facts(known.collect());

        let mut watched = self.watch.tally();
        // One without a name may be one that is looked for.
        let mut unsure = false;
        let mut seen = HashMap::with_capacity(found.len());
        let mut short_ids = HashSet::new();
        for ((id, place), pid) in found.iter().zip(&pids) {
            if !short_ids.insert(id.short()) {
                sheet.left_out(1);
                continue;
            }
            let usage = self.tree.usage(place);
            let before = self.before.as_ref().and_then(|all| all.get(&id.full));
            let called = before.and_then(|before| before.called.as_ref());
            let facts = facts.get(&id.full).or(called);
            let cpu_before = before.and_then(|b| b.cpu);
            put(sheet, at, id, &usage, facts, cpu_before);
            if let Some(pid) = pid
                && let Some((received, sent)) = network_of(&self.proc_root, *pid)
            {
                for (direction, bytes) in [("receive", received), ("transmit", sent)] {
                    let labels = labels(id, facts, ("network.io.direction", direction));
                    sheet.put(&CONTAINER_NETWORK_IO, labels, bytes as f64);
                }
            }
            let name = facts.map_or(id.short(), |f| f.name.as_str()).to_owned();
            unsure |= facts.is_none();
            watched.see(&name);
            let cpu = usage.cpu_seconds.map(|cpu| (at.instant, cpu));
            let called = facts.map(Facts::without_state);
            seen.insert(id.full.clone(), Seen { name, called, init_pid: *pid, cpu });
        }
        watched.put(sheet, &CONTAINER_WATCHED, "container.pattern", unsure);
        if let Some(before) = &self.before {
            changes(at, before, &seen).into_iter().for_each(|event| sheet.event(event));
        }
        self.before = Some(seen);
        Ok(())
    }
}

/// The labels of every container series, and one more.
fn labels<'a>(
    id: &'a ContainerId,
    facts: Option<&'a Facts>,
    more: (&'static str, &'a str),
) -> [(&'static str, &'a str); 5] {
    [
        ("container.id", id.short()),
        ("container.image.name", facts.map_or("", |f| &f.image)),
        ("container.name", facts.map_or("", |f| &f.name)),
        ("container.runtime.name", id.runtime),
        more,
    ]
}

fn put(
    sheet: &mut Sheet,
    at: At,
    id: &ContainerId,
    usage: &Usage,
    facts: Option<&Facts>,
    cpu_before: Option<(Instant, f64)>,
) {
    let value = |v: Option<u64>| v.map_or(f64::NAN, |v| v as f64);
    let plain = labels(id, facts, ("unused", ""));
    let cpu = usage.cpu_seconds.unwrap_or(f64::NAN);
    sheet.put(&CONTAINER_CPU_TIME, plain, seconds(cpu));
    sheet.put(&CONTAINER_CPU_USAGE, plain, cpu_usage(cpu_before, (at.instant, cpu)));
    sheet.put(&CONTAINER_MEMORY_USAGE, plain, value(usage.memory));
    if let Some(limit) = usage.memory_limit {
        sheet.put(&CONTAINER_MEMORY_LIMIT, plain, limit as f64);
    }
    if let Some((read, written)) = usage.disk {
        for (direction, bytes) in [("read", read), ("write", written)] {
            let labels = labels(id, facts, ("disk.io.direction", direction));
            sheet.put(&CONTAINER_DISK_IO, labels, bytes as f64);
        }
    }
    if let Some(processes) = usage.processes {
        sheet.put(&CONTAINER_PROCESSES, plain, processes as f64);
    }
    if let Some(restarts) = facts.and_then(|f| f.restarts) {
        sheet.put(&CONTAINER_RESTARTS, plain, restarts as f64);
    }
    if let Some(check) = facts.and_then(|f| f.health) {
        sheet.put(&CONTAINER_HEALTHY, plain, check.value());
    }
}

/// CPUs in use between two readings. A restarted container counts from zero again: unknown then.
fn cpu_usage(before: Option<(Instant, f64)>, now: (Instant, f64)) -> f64 {
    match before {
        Some((then, used)) if now.0 > then && now.1 >= used => {
            ratio((now.1 - used) / (now.0 - then).as_secs_f64())
        }
        _ => f64::NAN,
    }
}

/// Bytes received and sent in the network namespace of a process; `None` when that is the host's own,
/// whose traffic is not the container's, or when it may not be looked at.
fn network_of(proc_root: &Path, pid: u32) -> Option<(u64, u64)> {
    let namespace = |process: &str| fs::read_link(proc_root.join(process).join("ns/net")).ok();
    let process = pid.to_string();
    let own = namespace(&process)?;
    if namespace("1").or_else(|| namespace("self")).is_none_or(|host| host == own) {
        return None;
    }
    let dev = fs::read(proc_root.join(process).join("net/dev")).ok()?;
    Some(parse_totals(&String::from_utf8_lossy(&dev)))
}

fn changes(
    at: At,
    before: &HashMap<String, Seen>,
    now: &HashMap<String, Seen>,
) -> Vec<MachineEvent> {
    let event = |kind, what: &str, id: &str, name: &str| MachineEvent {
        time: at.wall,
        kind,
        detail: format!("container {name} {what}"),
        attributes: Labels::of([("container.id", id), ("container.name", name)]),
    };
    let mut events = Vec::new();
    for (id, seen) in now {
        match before.get(id) {
            None => events.push(event(EventKind::ContainerStarted, "started", id, &seen.name)),
            Some(b)
                if b.init_pid.is_some() && seen.init_pid.is_some_and(|p| b.init_pid != Some(p)) =>
            {
                events.push(event(EventKind::ContainerStarted, "restarted", id, &seen.name));
            }
            Some(_) => {}
        }
    }
    for (id, seen) in before.iter().filter(|(id, _)| !now.contains_key(*id)) {
        events.push(event(EventKind::ContainerStopped, "stopped", id, &seen.name));
    }
    events.sort_by(|a, b| a.detail.cmp(&b.detail));
    events
}

#[cfg(test)]
mod tests;
