//! Processes as a list, as a tree, or by the container they run in.

use std::collections::{BTreeMap, HashMap, HashSet};

use proto::v1;

use crate::format;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Arrange {
    #[default]
    List,
    Tree,
    Containers,
}

/// A process at its place.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) process: v1::Process,
    /// How many of its ancestors stand above it.
    pub(crate) depth: usize,
    /// On the first of each container.
    pub(crate) heading: Option<ContainerLine>,
}

/// What the processes of one container take together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ContainerLine {
    /// Empty: of no container.
    pub(crate) name: String,
    pub(crate) processes: usize,
    pub(crate) cpu: String,
    pub(crate) memory: String,
}

/// Deeper trees are indented no further.
const DEPTH_MAX: usize = 8;

impl Arrange {
    pub(crate) fn named(name: Option<&str>) -> Self {
        match name {
            Some("tree") => Self::Tree,
            Some("containers") => Self::Containers,
            _ => Self::List,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::List => "",
            Self::Tree => "tree",
            Self::Containers => "containers",
        }
    }

    /// Keeps the order that they have among those of one parent, or of one container; `names` are those
    /// of the containers, by id.
    pub(crate) fn place(
        self,
        processes: Vec<v1::Process>,
        names: &HashMap<String, String>,
    ) -> Vec<Placed> {
        match self {
            Self::List => processes.into_iter().map(|p| placed(p, 0)).collect(),
            Self::Tree => tree(processes),
            Self::Containers => by_container(processes, names),
        }
    }
}

fn placed(process: v1::Process, depth: usize) -> Placed {
    Placed { process, depth, heading: None }
}

fn tree(processes: Vec<v1::Process>) -> Vec<Placed> {
    let known: HashSet<u32> = processes.iter().map(|p| p.pid).collect();
    let mut children: HashMap<u32, Vec<usize>> = HashMap::new();
    let mut stack = Vec::new();
    for (i, process) in processes.iter().enumerate().rev() {
        let parent = process.parent_pid;
        if known.contains(&parent) && parent != process.pid {
            children.entry(parent).or_default().push(i);
        } else {
            stack.push((i, 0));
        }
    }
    let mut processes: Vec<_> = processes.into_iter().map(Some).collect();
    let mut out = Vec::with_capacity(processes.len());
    while let Some((i, depth)) = stack.pop() {
        let Some(process) = processes[i].take() else { continue };
        let below = children.remove(&process.pid).unwrap_or_default();
        stack.extend(below.into_iter().map(|child| (child, (depth + 1).min(DEPTH_MAX))));
        out.push(placed(process, depth));
    }
    // Numbers come from the machine: a circle of parents is possible, and hides nobody.
    out.extend(processes.into_iter().flatten().map(|process| placed(process, 0)));
    out
}

fn by_container(processes: Vec<v1::Process>, names: &HashMap<String, String>) -> Vec<Placed> {
    let mut groups: BTreeMap<String, (usize, Vec<v1::Process>)> = BTreeMap::new();
    for (i, process) in processes.into_iter().enumerate() {
        let group = groups.entry(process.container_id.clone()).or_insert((i, Vec::new()));
        group.1.push(process);
    }
    // In the order of their first process; those of no container last.
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(id, (first, _))| (id.is_empty(), *first));
    let mut out = Vec::new();
    for (id, (_, members)) in groups {
        let heading = ContainerLine {
            name: names.get(&id).cloned().unwrap_or_else(|| id.chars().take(12).collect()),
            processes: members.len(),
            cpu: format::percent(members.iter().map(|p| p.cpu_utilization).sum()),
            memory: format::bytes(members.iter().map(|p| p.memory_bytes as f64).sum()),
        };
        let mut heading = Some(heading);
        out.extend(members.into_iter().map(|process| Placed {
            process,
            depth: 0,
            heading: heading.take(),
        }));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, parent_pid: u32, container: &str) -> v1::Process {
        v1::Process {
            pid,
            parent_pid,
            container_id: container.to_owned(),
            cpu_utilization: 0.2,
            ..Default::default()
        }
    }

    fn places(arrange: Arrange, processes: Vec<v1::Process>) -> Vec<(u32, usize)> {
        let placed = arrange.place(processes, &HashMap::new());
        placed.iter().map(|p| (p.process.pid, p.depth)).collect()
    }

    #[test]
    fn children_stand_below_their_parents_in_the_order_they_had() {
        let some = vec![process(5, 2, ""), process(2, 1, ""), process(9, 7, ""), process(4, 2, "")];
        assert_eq!(places(Arrange::Tree, some), [(2, 0), (5, 1), (4, 1), (9, 0)]);
    }

    #[test]
    fn a_circle_of_parents_hides_nobody() {
        let some = vec![process(1, 2, ""), process(2, 1, ""), process(3, 3, "")];
        let mut found = places(Arrange::Tree, some);
        found.sort_unstable();
        assert_eq!(found, [(1, 0), (2, 0), (3, 0)]);
    }

    #[test]
    fn each_container_has_its_sum_above_its_processes() {
        let names = HashMap::from([("abc".to_owned(), "web".to_owned())]);
        let some = vec![process(1, 0, ""), process(2, 0, "abc"), process(3, 0, "abc")];
        let placed = Arrange::Containers.place(some, &names);
        let pids: Vec<_> = placed.iter().map(|p| p.process.pid).collect();
        assert_eq!(pids, [2, 3, 1]);
        let web = placed[0].heading.as_ref().expect("a heading");
        assert_eq!((web.name.as_str(), web.processes, web.cpu.as_str()), ("web", 2, "40 %"));
        assert!(placed[1].heading.is_none() && placed[2].heading.is_some());
    }
}
