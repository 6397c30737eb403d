//! Which mounts there are, and which of them are worth measuring.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::probe::Filter;

/// One line of `/proc/self/mountinfo`. The path is kept as bytes, because that is what it is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mount {
    pub(super) device: (u32, u32),
    /// Which part of the filesystem is mounted; "/" unless it is a bind mount.
    pub(super) root: String,
    pub(super) path: PathBuf,
    pub(super) kind: String,
    pub(super) source: String,
}

/// Local filesystems that hold people's files. Anything else is in memory, made by the kernel, read-only
/// by nature, or on another machine.
const LOCAL: [&str; 23] = [
    "apfs", "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "fuseblk", "hfsplus",
    "jfs", "msdos", "nilfs2", "ntfs", "ntfs3", "overlay", "reiserfs", "rootfs", "ubifs", "ufs",
    "vfat", "xfs", "zfs",
];

/// Asking these would mount something, or cannot have an answer, whatever the configuration says.
const NEVER: [&str; 1] = ["autofs"];

/// All mounts, lines that make no sense left out.
pub(super) fn parse(mountinfo: &[u8]) -> Vec<Mount> {
    mountinfo.split(|&b| b == b'\n').filter_map(parse_line).collect()
}

/// `36 35 98:0 /root /mnt/point rw,noatime master:1 - ext3 /dev/sda1 rw`: any number of optional fields
/// before the dash.
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&b| b == b' ').filter(|field| !field.is_empty());
    let device = std::str::from_utf8(fields.nth(2)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    let root = unescape(fields.next()?);
    let path = unescape(fields.next()?);
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let kind = unescape(fields.next()?);
    let source = unescape(fields.next()?);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Some(Mount {
        device,
        root: text(root),
        path: PathBuf::from(OsString::from_vec(path)),
        kind: text(kind),
        source: text(source),
    })
}

/// The kernel writes space, tab, newline and backslash as `\040` and so on.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, others)) = rest.split_first() {
        let octal = |digit: &u8| (b'0'..=b'7').contains(digit).then(|| u32::from(digit - b'0'));
        let code = match others {
            [a, b, c, ..] if first == b'\\' => octal(a)
                .zip(octal(b))
                .zip(octal(c))
                .and_then(|((a, b), c)| u8::try_from(a * 64 + b * 8 + c).ok()),
            _ => None,
        };
        match code {
            Some(byte) => {
                plain.push(byte);
                rest = &others[3..];
            }
            None => {
                plain.push(first);
                rest = others;
            }
        }
    }
    plain
}

/// The mounts to measure: each filesystem once, at its shortest path, in the order of the paths.
pub(super) fn choose(mut mounts: Vec<Mount>, filter: &Filter) -> Vec<Mount> {
    // What was mounted later at the same place hides what was there before.
    let mut places = HashSet::new();
    mounts.reverse();
    mounts.retain(|mount| places.insert(mount.path.clone()));
    mounts.retain(|mount| {
        let path = mount.path.to_string_lossy();
        !NEVER.contains(&mount.kind.as_str()) && filter.allows(&path, by_default(mount, &path))
    });
    // Whole filesystems before bind mounts of their parts, short paths before long ones.
    mounts.sort_by_key(|m| (m.root != "/", m.path.as_os_str().len(), m.path.clone()));
    let mut filesystems = HashSet::new();
    let mut labels = HashSet::new();
    mounts.retain(|mount| {
        // Subvolumes of one btrfs have device numbers of their own, but one block device.
        let by_source = mount.source.starts_with("/dev/") && mount.source != "/dev/root";
        let filesystem = match by_source {
            true => mount.source.clone(),
            false => format!("{}:{}", mount.device.0, mount.device.1),
        };
        // Paths with bytes that are no text may look the same once these are replaced.
        filesystems.insert(filesystem) && labels.insert(mount.path.to_string_lossy().into_owned())
    });
    mounts.sort_by(|a, b| a.path.cmp(&b.path));
    mounts
}

fn by_default(mount: &Mount, path: &str) -> bool {
    // Inside a container the root is an overlay; below it overlays are those of other containers.
    let local = match mount.kind.as_str() {
        "overlay" | "rootfs" => path == "/",
        kind => LOCAL.contains(&kind),
    };
    local && !is_inner(path)
}

/// Mounts that are of no use by themselves: of the kernel, of containers seen from outside, and the
/// single files that engines mount into a container.
fn is_inner(path: &str) -> bool {
    const WITHIN: [&str; 6] = [
        "/proc/",
        "/sys/",
        "/dev/",
        "/var/lib/docker/",
        "/var/lib/containers/",
        "/var/lib/kubelet/pods/",
    ];
    const FILES: [&str; 3] = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];
    WITHIN.iter().any(|dir| path.starts_with(dir)) || FILES.contains(&path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn chosen(mountinfo: &[u8], filter: &Filter) -> Vec<String> {
        let mounts = choose(parse(mountinfo), filter);
        mounts.iter().map(|m| m.path.to_string_lossy().into_owned()).collect()
    }

    const SERVER: &[u8] = include_bytes!("../../../../fixtures/proc/mountinfo-server");
    const CONTAINER: &[u8] = include_bytes!("../../../../fixtures/proc/mountinfo-container");
    const RECORDED: &[u8] = include_bytes!("../../../../fixtures/proc/mountinfo");

    #[test]
    fn a_server_shows_its_disks_and_no_pseudo_or_network_filesystem() {
        let paths = chosen(SERVER, &Filter::default());
        assert_eq!(paths, ["/", "/boot/efi", "/home", "/media/My Disk", "/srv/data"]);
    }

    #[test]
    fn the_first_machine_shows_its_root() {
        assert_eq!(chosen(RECORDED, &Filter::default()), ["/"]);
    }

    #[test]
    fn a_container_shows_its_root_and_its_volume_once() {
        assert_eq!(chosen(CONTAINER, &Filter::default()), ["/", "/data"]);
    }

    #[test]
    fn configuration_adds_a_network_mount_and_takes_a_disk_away() {
        let filter = Filter {
            include: vec!["/mnt/nfs".into(), "/misc".into()],
            exclude: vec!["/boot/*".into(), "/media/*".into()],
        };
        let paths = chosen(SERVER, &filter);
        assert_eq!(paths, ["/", "/home", "/mnt/nfs", "/srv/data"], "autofs is never asked");
    }

    #[test]
    fn escapes_are_undone_and_broken_ones_kept() {
        fn check(escaped: &str, plain: &str) {
            assert_eq!(unescape(escaped.as_bytes()), plain.as_bytes(), "{escaped}");
        }
        check(r"/a\040b", "/a b");
        check(r"/a\134040", r"/a\040");
        check(r"/tab\011", "/tab\t");
        check(r"/end\04", r"/end\04");
        check(r"/not\999octal", r"/not\999octal");
        check(r"/big\777", r"/big\777");
    }

    #[test]
    fn a_path_that_is_no_text_can_still_be_asked() {
        let line = b"36 35 98:0 / /mnt/\xff\\040x rw - ext4 /dev/sdc1 rw\n";
        let mounts = parse(line);
        assert_eq!(mounts[0].path.as_os_str().as_bytes(), b"/mnt/\xff x");
    }

    #[test]
    fn lines_without_sense_are_left_out() {
        assert!(parse(b"\n1 2\nx x x x x - y\n36 35 98:0 / /mnt rw no dash ext4\n").is_empty());
    }
}
