//! Marks of the hardware, hashed, and whether two sets of them are of one machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Kinds that vote. `system` (`/etc/machine-id`) only breaks ties.
const VOTING: [&str; 4] = ["board", "serial", "network", "disk"];
const SYSTEM: &str = "system";

/// Hashed marks by kind. Serial numbers themselves are nobody's business.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fingerprint(BTreeMap<String, BTreeSet<String>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Same,
    Other,
}

impl Fingerprint {
    /// What can be read of this machine, as this user.
    pub(super) fn read(sys: &Path, etc: &Path) -> Self {
        let mut fingerprint = Self::default();
        let dmi = sys.join("class/dmi/id");
        fingerprint.add("board", value(&dmi.join("product_uuid")));
        for file in ["product_serial", "board_serial", "chassis_serial"] {
            // Some vendors write the same number in all three: the hash tells them apart by file.
            let serial = value(&dmi.join(file)).map(|serial| format!("{file} {serial}"));
            fingerprint.add("serial", serial);
        }
        // Boards with a device tree (Raspberry Pi) have their serial number there.
        fingerprint.add("serial", value(&sys.join("firmware/devicetree/base/serial-number")));
        for address in entries(&sys.join("class/net")).iter().filter_map(|nic| network_mark(nic)) {
            fingerprint.add("network", Some(address));
        }
        for disk in entries(&sys.join("block")).iter().filter_map(|disk| disk_mark(disk)) {
            fingerprint.add("disk", Some(disk));
        }
        fingerprint.add(SYSTEM, value(&etc.join("machine-id")));
        fingerprint
    }

    fn add(&mut self, kind: &str, mark: Option<String>) {
        if let Some(mark) = mark {
            let digest = Sha256::digest(format!("{kind} {mark}"));
            let hash: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
            self.add_line(kind, &hash);
        }
    }

    /// A line as [`fmt::Display`] writes it.
    pub(super) fn add_line(&mut self, kind: &str, hash: &str) {
        self.0.entry(kind.to_owned()).or_default().insert(hash.to_owned());
    }

    /// Whether the machine that had these marks is the one that has `now`.
    pub(super) fn compare(&self, now: &Self) -> Verdict {
        let (mut same, mut other) = (0, 0);
        for kind in VOTING {
            match self.agrees(now, kind) {
                Some(true) => same += 1,
                Some(false) => other += 1,
                None => {}
            }
        }
        let kept = match same.cmp(&other) {
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => self.agrees(now, SYSTEM).unwrap_or(true),
        };
        if kept { Verdict::Same } else { Verdict::Other }
    }

    /// `None` when one of the two knows nothing of the kind.
    fn agrees(&self, now: &Self, kind: &str) -> Option<bool> {
        let (then, now) = (self.0.get(kind)?, now.0.get(kind)?);
        Some(!then.is_disjoint(now))
    }

    /// What is known now, and what was known of kinds that cannot be read now.
    pub(super) fn updated(&self, now: &Self) -> Self {
        let mut marks = self.0.clone();
        marks.extend(now.0.clone());
        Self(marks)
    }
}

/// One line per mark: its kind and its hash.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, marks) in &self.0 {
            for mark in marks {
                writeln!(f, "{kind} {mark}")?;
            }
        }
        Ok(())
    }
}

/// The address of a network card that belongs to the machine: not virtual, not plugged in from outside,
/// and not made up by software.
fn network_mark(nic: &Path) -> Option<String> {
    let device = fs::canonicalize(nic.join("device")).ok()?;
    if device.to_string_lossy().contains("/usb") {
        return None;
    }
    const PERMANENT: &str = "0";
    let kind = fs::read_to_string(nic.join("addr_assign_type"));
    if kind.is_ok_and(|kind| kind.trim() != PERMANENT) {
        return None;
    }
    value(&nic.join("address")).filter(|address| address.len() >= 17)
}

/// The serial number of a disk that is built in.
fn disk_mark(disk: &Path) -> Option<String> {
    let device = fs::canonicalize(disk).ok()?;
    let device = device.to_string_lossy();
    if device.contains("/virtual/") || device.contains("/usb") {
        return None;
    }
    ["wwid", "device/wwid", "serial", "device/serial"]
        .iter()
        .find_map(|file| value(&disk.join(file)))
}

/// The content of a file, unless it is one of the things that vendors write instead of a number.
fn value(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_lowercase();
    (!is_junk(&text)).then_some(text)
}

fn is_junk(text: &str) -> bool {
    const PHRASES: [&str; 14] = [
        "o.e.m",
        "oem",
        "default string",
        "not specified",
        "not applicable",
        "not available",
        "to be filled",
        "system serial",
        "base board serial",
        "chassis serial",
        "none",
        "unknown",
        "invalid",
        "empty",
    ];
    // Of whole series of boards; of every QEMU disk without a serial of its own.
    const KNOWN: [&str; 5] = [
        "03000200-0400-0500-0006-000700080009",
        "12345678-1234-5678-90ab-cddeefaabbcc",
        "12345678-1234-1234-1234-123456789abc",
        "fefefefe-fefe-fefe-fefe-fefefefefefe",
        "00020003-0004-0005-0006-000700080009",
    ];
    let marks: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    let first = marks.chars().next();
    let counts_up =
        "0123456789abcdef0123456789abcdef".contains(&marks) || "1234567890abcdef".contains(&marks);
    marks.len() < 4
        || marks.chars().all(|c| Some(c) == first)
        || counts_up
        || KNOWN.contains(&text)
        || text.contains("qm0000")
        || PHRASES.iter().any(|phrase| text.contains(phrase))
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    dir.read_dir().map_or(Vec::new(), |all| all.flatten().map(|entry| entry.path()).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// `board=1 network=1,2`: marks by kind.
    fn marks(text: &str) -> Fingerprint {
        let mut fingerprint = Fingerprint::default();
        for word in text.split_whitespace() {
            let (kind, marks) = word.split_once('=').expect("kind=marks");
            marks.split(',').for_each(|mark| fingerprint.add_line(kind, mark));
        }
        fingerprint
    }

    #[test]
    fn the_marks_vote() {
        fn check(then: &str, now: &str, expected: Verdict) {
            assert_eq!(marks(then).compare(&marks(now)), expected, "{then} | {now}");
        }
        use Verdict::{Other, Same};
        let all = "board=1 serial=1 network=1,2 disk=1 system=1";
        check(all, all, Same);
        // A network card, a disk or the board replaced.
        check(all, "board=1 serial=1 network=9 disk=1 system=1", Same);
        check(all, "board=1 serial=1 network=1,2 disk=9 system=1", Same);
        check("board=1 network=1 disk=1", "board=9 network=1 disk=1", Same);
        // The system was installed again.
        check(all, "board=1 serial=1 network=1 disk=1 system=9", Same);
        // One of two network cards is left.
        check("network=1,2", "network=2,3", Same);
        // A cloned image, with /etc/machine-id cloned too.
        check(all, "board=9 serial=9 network=9 disk=9 system=1", Other);
        // A clone on the same model, whose product UUIDs are not unique.
        check(all, "board=1 serial=9 network=9 disk=9 system=1", Other);
        // A virtual machine with nothing but a network card.
        check("network=1 system=1", "network=9 system=1", Other);
        // First as root, then as a user who may not read the board's marks.
        check(all, "network=1,2 disk=1 system=1", Same);
        // A tie: the board says same, the network card says other.
        check("board=1 network=1 system=1", "board=1 network=9 system=1", Same);
        check("board=1 network=1 system=1", "board=1 network=9 system=9", Other);
        check("board=1 network=1", "board=1 network=9", Same);
        // Nothing to compare.
        check("", "", Same);
        check("system=1", "system=9", Other);
        check("board=1", "network=1", Same);
    }

    #[test]
    fn marks_that_cannot_be_read_now_are_kept() {
        let updated = marks("board=1 network=1").updated(&marks("network=2 disk=1"));
        assert_eq!(updated, marks("board=1 network=2 disk=1"));
    }

    #[test]
    fn what_vendors_write_instead_of_a_number_is_no_mark() {
        fn check(text: &str, junk: bool) {
            assert_eq!(is_junk(&text.to_lowercase()), junk, "{text:?}");
        }
        check("", true);
        check("0", true);
        check("To Be Filled By O.E.M.", true);
        check("Default string", true);
        check("00000000-0000-0000-0000-000000000000", true);
        check("FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", true);
        check("03000200-0400-0500-0006-000700080009", true);
        check("0123456789", true);
        check("123456789", true);
        check("QM00001", true);
        check("00:00:00:00:00:00", true);
        check("4c4c4544-0042-3510-8052-b9c04f4d5931", false);
        check("5CD1234ABC", false);
        check("02:fc:00:00:00:01", false);
    }

    #[test]
    fn only_cards_and_disks_of_the_machine_itself_are_marks() {
        let root = tempfile::tempdir().expect("temporary directory");
        let sys = root.path().join("sys");
        let write = |path: &str, content: &str| {
            let path = sys.join(path);
            fs::create_dir_all(path.parent().expect("has a parent")).expect("writable");
            fs::write(path, content).expect("writable");
        };
        let link = |path: &str, to: &str| {
            fs::create_dir_all(sys.join(to)).expect("writable");
            let path = sys.join(path);
            fs::create_dir_all(path.parent().expect("has a parent")).expect("writable");
            symlink(sys.join(to), path).expect("writable");
        };
        link("class/net/eth0/device", "devices/pci0/0000:00:03.0");
        write("class/net/eth0/address", "02:fc:00:00:00:01\n");
        write("class/net/eth0/addr_assign_type", "0\n");
        link("class/net/dock0/device", "devices/pci0/usb1/1-1");
        write("class/net/dock0/address", "aa:bb:cc:dd:ee:01\n");
        link("class/net/wlan0/device", "devices/pci0/0000:00:04.0");
        write("class/net/wlan0/address", "aa:bb:cc:dd:ee:02\n");
        write("class/net/wlan0/addr_assign_type", "3\n");
        write("class/net/veth1/address", "aa:bb:cc:dd:ee:03\n");
        link("block/nvme0n1", "devices/pci0/nvme0n1");
        write("devices/pci0/nvme0n1/wwid", "eui.0025385b21404ed3\n");
        link("block/sdb", "devices/pci0/usb1/sdb");
        write("devices/pci0/usb1/sdb/device/wwid", "naa.5000c500a1b2c3d4\n");
        link("block/loop0", "devices/virtual/block/loop0");
        write("devices/virtual/block/loop0/serial", "abcdef99\n");

        let mut expected = Fingerprint::default();
        expected.add("network", Some("02:fc:00:00:00:01".into()));
        expected.add("disk", Some("eui.0025385b21404ed3".into()));
        assert_eq!(Fingerprint::read(&sys, &root.path().join("etc")), expected);
    }
}
