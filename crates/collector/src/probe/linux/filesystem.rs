//! Space and inodes of mounted filesystems.
//!
//! Asking a filesystem whose server is gone blocks for ever, so network filesystems are left out by
//! default and each question is asked on a thread that may be given up (see `filesystem/asker.rs`).

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use model::metric::{
    FILESYSTEM_INODES_UTILIZATION, FILESYSTEM_LIMIT, FILESYSTEM_USAGE, FILESYSTEM_UTILIZATION,
};
use model::{EventKind, Labels, MachineEvent};

use super::source::Source;
use crate::probe::quantise::share;
use crate::probe::{At, Filter, Probe, Setup, Sheet};
use asker::{Answer, Asker};
use mounts::Mount;

mod asker;
mod mounts;

/// More filesystems than this are left out and counted.
const FILESYSTEMS_MAX: usize = 200;
/// How long one filesystem may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

struct Filesystem {
    mountinfo: Source,
    /// Where mount points are found: the machine's root, as it is seen from here.
    root: PathBuf,
    filter: Filter,
    asker: Asker,
    /// Mount points that did not answer, to tell it once.
    silent: BTreeSet<PathBuf>,
}

pub(super) fn open(setup: &Setup) -> Box<dyn Probe> {
    Box::new(Filesystem {
        mountinfo: Source::new(setup.config.vantage().join("mountinfo")),
        root: match setup.config.is_own_procfs() {
            true => "/".into(),
            false => setup.config.vantage().join("root"),
        },
        filter: setup.config.filesystems.clone(),
        asker: Asker::new(usage),
        silent: BTreeSet::new(),
    })
}

impl Probe for Filesystem {
    fn read(&mut self, at: At, sheet: &mut Sheet) -> anyhow::Result<()> {
        let mut mounts = mounts::choose(mounts::parse(self.mountinfo.bytes()?), &self.filter);
        sheet.left_out(mounts.len().saturating_sub(FILESYSTEMS_MAX));
        mounts.truncate(FILESYSTEMS_MAX);
        self.silent.retain(|path| mounts.iter().any(|mount| mount.path == *path));
        for mount in &mounts {
            let path = self.root.join(mount.path.strip_prefix("/").unwrap_or(&mount.path));
            match self.asker.ask(&path, ANSWER_WITHIN) {
                Answer::Usage(usage) => {
                    if self.silent.remove(&mount.path) {
                        sheet.event(mount_event(at, EventKind::ProbeRecovered, mount));
                    }
                    put(sheet, mount, &usage);
                }
                // Mounted over, private to a user, or just gone: nothing to say about it.
                Answer::Refused => put(sheet, mount, &Usage::UNKNOWN),
                Answer::Silent => {
                    if self.silent.insert(mount.path.clone()) {
                        sheet.event(mount_event(at, EventKind::ProbeFailed, mount));
                    }
                    put(sheet, mount, &Usage::UNKNOWN);
                }
            }
        }
        Ok(())
    }
}

/// Bytes and inodes of one filesystem. NaN: not known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Usage {
    size: f64,
    used: f64,
    /// Left for everyone; the rest of what is free is reserved for root.
    free: f64,
    reserved: f64,
    inodes: f64,
    inodes_free: f64,
}

impl Usage {
    const UNKNOWN: Self = Self {
        size: f64::NAN,
        used: f64::NAN,
        free: f64::NAN,
        reserved: f64::NAN,
        inodes: f64::NAN,
        inodes_free: f64::NAN,
    };
}

fn usage(path: &std::path::Path) -> std::io::Result<Usage> {
    let stat = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks as f64 * stat.f_frsize as f64;
    Ok(Usage {
        size: bytes(stat.f_blocks),
        used: bytes(stat.f_blocks.saturating_sub(stat.f_bfree)),
        free: bytes(stat.f_bavail),
        reserved: bytes(stat.f_bfree.saturating_sub(stat.f_bavail)),
        inodes: stat.f_files as f64,
        inodes_free: stat.f_ffree as f64,
    })
}

fn put(sheet: &mut Sheet, mount: &Mount, usage: &Usage) {
    let mountpoint = String::from_utf8_lossy(mount.path.as_os_str().as_bytes());
    let device = ("system.device", mount.source.as_str());
    let mountpoint = ("system.filesystem.mountpoint", &*mountpoint);
    let kind = ("system.filesystem.type", mount.kind.as_str());
    for (state, bytes) in [("used", usage.used), ("free", usage.free), ("reserved", usage.reserved)]
    {
        let state = ("system.filesystem.state", state);
        sheet.put(&FILESYSTEM_USAGE, [device, mountpoint, state, kind], bytes);
    }
    let labels = [device, mountpoint, kind];
    sheet.put(&FILESYSTEM_UTILIZATION, labels, share(usage.used, usage.used + usage.free));
    sheet.put(&FILESYSTEM_LIMIT, labels, usage.size);
    // Filesystems without a fixed number of inodes say 0: no value then.
    let inodes_used = usage.inodes - usage.inodes_free;
    sheet.put(&FILESYSTEM_INODES_UTILIZATION, labels, share(inodes_used, usage.inodes));
}

fn mount_event(at: At, kind: EventKind, mount: &Mount) -> MachineEvent {
    let what = match kind {
        EventKind::ProbeRecovered => "answers again",
        _ => "does not answer",
    };
    let path = mount.path.to_string_lossy();
    MachineEvent {
        time: at.wall,
        kind,
        detail: format!("filesystem {} on {path} {what}", mount.kind),
        attributes: Labels::of([
            ("muster.probe", "filesystem"),
            ("system.filesystem.mountpoint", &path),
        ]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_this_machine_has_a_size_and_its_parts_add_up() {
        let usage = usage(std::path::Path::new("/")).expect("there is a root");
        assert!(usage.size > 0.0);
        assert_eq!(usage.used + usage.free + usage.reserved, usage.size);
    }

    #[test]
    fn from_within_a_container_the_filesystems_of_the_machine_are_asked_and_not_its_own() {
        let machine = tempfile::tempdir().expect("a directory");
        let procfs = tempfile::tempdir().expect("a directory");
        // A mount point that is there on the machine alone.
        std::fs::create_dir(machine.path().join("data-of-the-machine")).expect("made");
        std::fs::create_dir(procfs.path().join("1")).expect("made");
        std::os::unix::fs::symlink(machine.path(), procfs.path().join("1/root")).expect("linked");
        let mounts = "36 1 8:1 / /data-of-the-machine rw - ext4 /dev/sdz1 rw\n";
        std::fs::write(procfs.path().join("1/mountinfo"), mounts).expect("written");
        let config = crate::probe::ProberConfig {
            proc_root: procfs.path().to_owned(),
            ..Default::default()
        };
        let (layout, values) = crate::probe::tests::read_once(open, config);
        let at = layout.series().iter().position(|s| &*s.metric == FILESYSTEM_LIMIT.name);
        let at = at.expect("measured");
        let mountpoint = layout.series()[at].labels.get("system.filesystem.mountpoint");
        assert_eq!(mountpoint, "/data-of-the-machine");
        assert!(values[at] > 0.0, "{}", values[at]);
    }

    #[test]
    fn a_filesystem_without_inodes_has_no_share_of_them() {
        let mount = Mount {
            device: (0, 1),
            path: "/data".into(),
            kind: "btrfs".into(),
            source: "/dev/sda1".into(),
            root: "/".into(),
        };
        let usage = Usage {
            size: 100.0,
            used: 30.0,
            free: 60.0,
            reserved: 10.0,
            inodes: 0.0,
            inodes_free: 0.0,
        };
        let mut sheet = Sheet::default();
        put(&mut sheet, &mount, &usage);
        let (layout, values) = sheet.finish().expect("valid").filled.expect("filled");
        let value = |metric: &str| {
            values[layout.series().iter().position(|s| &*s.metric == metric).expect("there")]
        };
        assert_eq!(value("system.filesystem.utilization"), 0.3333);
        assert!(value("system.filesystem.inodes.utilization").is_nan());
    }
}
