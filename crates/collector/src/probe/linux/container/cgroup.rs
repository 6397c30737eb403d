//! Control groups: which of them are containers, and what these use. Versions 1 and 2.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

/// Groups that are looked at for containers, and how deep.
const GROUPS_MAX: usize = 8192;
const DEPTH_MAX: usize = 9;

/// A container as its control group names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::probe::linux) struct ContainerId {
    /// 64 hexadecimal digits, or a name where the runtime uses names.
    pub(in crate::probe::linux) full: String,
    /// Empty when the group does not tell.
    pub(in crate::probe::linux) runtime: &'static str,
}

impl ContainerId {
    /// As engines abbreviate it: 12 digits, or the whole name.
    pub(in crate::probe::linux) fn short(&self) -> &str {
        if is_hex_id(&self.full) { &self.full[..12] } else { &self.full }
    }
}

/// The container of a process, from its `/proc/<pid>/cgroup`. The outermost, when they are nested.
pub(in crate::probe::linux) fn container_of(cgroup: &str) -> Option<ContainerId> {
    cgroup.lines().find_map(|line| {
        let mut parent = "";
        let path = line.splitn(3, ':').nth(2)?;
        path.split('/').filter(|one| !one.is_empty()).find_map(|name| {
            let id = container_named(parent, name);
            parent = name;
            id
        })
    })
}

fn is_hex_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The container that a group of this name is, if it is one.
fn container_named(parent: &str, name: &str) -> Option<ContainerId> {
    const BY_PREFIX: [(&str, &str); 5] = [
        ("docker-", "docker"),
        ("libpod-", "podman"),
        ("cri-containerd-", "containerd"),
        ("crio-", "cri-o"),
        ("nerdctl-", "containerd"),
    ];
    let id = |full: &str, runtime| Some(ContainerId { full: full.to_owned(), runtime });
    let bare = name.strip_suffix(".scope").unwrap_or(name);
    for (prefix, runtime) in BY_PREFIX {
        if let Some(rest) = bare.strip_prefix(prefix).filter(|rest| is_hex_id(rest)) {
            return id(rest, runtime);
        }
    }
    if let Some(container) = bare.strip_prefix("lxc.payload.") {
        return id(container, "lxc");
    }
    match parent {
        "lxc" if !name.starts_with("lxc.") => id(name, "lxc"),
        "docker" if is_hex_id(bare) => id(bare, "docker"),
        "default" | "moby" | "k8s.io" if is_hex_id(bare) => id(bare, "containerd"),
        // Kubernetes: which runtime it uses is not in the path.
        _ if is_hex_id(bare) && parent.contains("pod") => id(bare, ""),
        _ => None,
    }
}

/// What a container uses. `None` where the kernel does not count it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Usage {
    pub(super) cpu_seconds: Option<f64>,
    /// Without file cache that the kernel would give back first.
    pub(super) memory: Option<u64>,
    pub(super) memory_limit: Option<u64>,
    /// Bytes read and written.
    pub(super) disk: Option<(u64, u64)>,
    pub(super) processes: Option<u64>,
}

/// The mounted control groups.
pub(super) struct Tree {
    root: PathBuf,
}

impl Tree {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Every container with its path below the root, in the order of their ids. None when no control
    /// groups are mounted here.
    pub(super) fn find(&self) -> Vec<(ContainerId, PathBuf)> {
        let Some(top) = self.walked() else {
            return Vec::new();
        };
        let mut found = Vec::new();
        let mut left = GROUPS_MAX;
        let mut queue = VecDeque::from([(PathBuf::new(), 0)]);
        while let Some((group, depth)) = queue.pop_front() {
            let Ok(entries) = fs::read_dir(top.join(&group)) else {
                continue;
            };
            let parent = group.file_name().map_or("".into(), |name| name.to_string_lossy());
            let groups = entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
            for entry in groups {
                let Some(less) = left.checked_sub(1) else {
                    break;
                };
                left = less;
                let path = group.join(entry.file_name());
                match container_named(&parent, &entry.file_name().to_string_lossy()) {
                    Some(id) => found.push((id, path)),
                    None if depth < DEPTH_MAX => queue.push_back((path, depth + 1)),
                    None => {}
                }
            }
        }
        found.sort_by(|(a, _), (b, _)| a.full.cmp(&b.full));
        found.dedup_by(|(a, _), (b, _)| a.full == b.full);
        found
    }

    pub(super) fn usage(&self, group: &Path) -> Usage {
        if self.is_v2() { self.usage_v2(group) } else { self.usage_v1(group) }
    }

    /// The first process of a container: of its group, or of a group right below.
    pub(super) fn first_pid(&self, group: &Path) -> Option<u32> {
        let dir = self.walked()?.join(group);
        let first = |dir: &Path| first_number(&fs::read_to_string(dir.join("cgroup.procs")).ok()?);
        first(&dir).or_else(|| {
            let mut below: Vec<_> = fs::read_dir(&dir).ok()?.flatten().map(|e| e.path()).collect();
            below.sort();
            below.iter().filter(|path| path.is_dir()).find_map(|path| first(path))
        })
    }

    fn is_v2(&self) -> bool {
        self.root.join("cgroup.controllers").exists()
    }

    /// The hierarchy that is searched. With version 1 each controller has its own, with the same paths.
    fn walked(&self) -> Option<PathBuf> {
        if self.is_v2() {
            return Some(self.root.clone());
        }
        let controllers = ["memory", "cpuacct", "cpu,cpuacct", "pids"].map(|c| self.root.join(c));
        controllers.into_iter().find(|dir| dir.is_dir())
    }

    fn usage_v2(&self, group: &Path) -> Usage {
        let dir = self.root.join(group);
        let read = |file: &str| fs::read_to_string(dir.join(file)).ok();
        let cache = read("memory.stat").and_then(|text| keyed(&text, "inactive_file"));
        let used = read("memory.current").and_then(|text| first_number(&text));
        Usage {
            cpu_seconds: read("cpu.stat")
                .and_then(|text| keyed(&text, "usage_usec"))
                .map(|us| us as f64 / 1e6),
            memory: used.map(|used: u64| used.saturating_sub(cache.unwrap_or(0))),
            // "max" is no number, and no limit.
            memory_limit: read("memory.max").and_then(|text| first_number(&text)),
            disk: read("io.stat").map(|text| parse_io_v2(&text)),
            processes: read("pids.current").and_then(|text| first_number(&text)),
        }
    }

    fn usage_v1(&self, group: &Path) -> Usage {
        let read = |controllers: &[&str], file: &str| {
            controllers
                .iter()
                .find_map(|c| fs::read_to_string(self.root.join(c).join(group).join(file)).ok())
        };
        let cache = read(&["memory"], "memory.stat").and_then(|t| keyed(&t, "total_inactive_file"));
        let used = read(&["memory"], "memory.usage_in_bytes").and_then(|t| first_number(&t));
        let limit = read(&["memory"], "memory.limit_in_bytes").and_then(|t| first_number(&t));
        Usage {
            cpu_seconds: read(&["cpuacct", "cpu,cpuacct"], "cpuacct.usage")
                .and_then(|text| first_number::<u64>(&text))
                .map(|ns| ns as f64 / 1e9),
            memory: used.map(|used: u64| used.saturating_sub(cache.unwrap_or(0))),
            // "No limit" is the largest number of pages.
            memory_limit: limit.filter(|limit: &u64| *limit < 1 << 60),
            disk: read(&["blkio"], "blkio.throttle.io_service_bytes").map(|t| parse_io_v1(&t)),
            processes: read(&["pids"], "pids.current").and_then(|text| first_number(&text)),
        }
    }
}

fn first_number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// The value of a `key value` line.
fn keyed(text: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// `8:0 rbytes=1 wbytes=2 rios=3 …`, a line per device. Bytes read and written, of all devices.
fn parse_io_v2(text: &str) -> (u64, u64) {
    let sum = |key: &str| {
        let fields = text.split_ascii_whitespace();
        let values = fields.filter_map(|f| f.strip_prefix(key)?.parse::<u64>().ok());
        values.fold(0, u64::saturating_add)
    };
    (sum("rbytes="), sum("wbytes="))
}

/// `8:0 Read 1`, a line per device and operation, and a total.
fn parse_io_v1(text: &str) -> (u64, u64) {
    let sum = |operation: &str| {
        let values = text.lines().filter_map(|line| {
            let mut fields = line.split_ascii_whitespace().skip(1);
            (fields.next()? == operation).then(|| fields.next()?.parse::<u64>().ok())?
        });
        values.fold(0, u64::saturating_add)
    };
    (sum("Read"), sum("Write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "4f0c8d2e7b1a9c3f5e6d7a8b9c0d1e2f3a4b5c6d7e8f9a0b1c2d3e4f5a6b7c8d";

    #[test]
    fn a_process_names_its_container_whatever_the_runtime_and_version() {
        fn check(cgroup: &str, expected: Option<(&str, &str)>) {
            let cgroup = cgroup.replace("HEX", HEX);
            let got = container_of(&cgroup);
            let got = got.as_ref().map(|id| (id.short(), id.runtime));
            assert_eq!(got, expected, "{cgroup}");
        }
        let short = &HEX[..12];
        check("0::/system.slice/docker-HEX.scope\n", Some((short, "docker")));
        check("12:memory:/docker/HEX\n0::/\n", Some((short, "docker")));
        check("0::/machine.slice/libpod-HEX.scope/container\n", Some((short, "podman")));
        check(
            "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-HEX.scope",
            Some((short, "podman")),
        );
        check("0::/machine.slice/libpod-conmon-HEX.scope\n", None);
        check(
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-HEX.scope",
            Some((short, "containerd")),
        );
        check("4:cpu:/kubepods/besteffort/pod8d0f/HEX\n", Some((short, "")));
        check("0::/kubepods.slice/crio-HEX.scope\n", Some((short, "cri-o")));
        check("0::/lxc.payload.web-1/system.slice/ssh.service\n", Some(("web-1", "lxc")));
        check("0::/lxc/web-2/init.scope\n", Some(("web-2", "lxc")));
        check("0::/docker/HEX/docker/HEX\n", Some((short, "docker")));
        check("0::/user.slice/user-1000.slice/session-2.scope\n", None);
        check("0::/system.slice/docker.service\n", None);
        check("0::/\n", None);
        check("", None);
    }

    #[test]
    fn io_is_summed_over_devices() {
        let v2 =
            "254:0 rbytes=4096 wbytes=100 rios=1 wios=1 dbytes=0 dios=0\n8:0 rbytes=4 wbytes=5\n";
        assert_eq!(parse_io_v2(v2), (4100, 105));
        let v1 = "8:0 Read 10\n8:0 Write 20\n8:0 Sync 30\n8:16 Read 1\n8:16 Write 2\nTotal 33\n";
        assert_eq!(parse_io_v1(v1), (11, 22));
        assert_eq!(parse_io_v1(""), (0, 0));
    }
}
