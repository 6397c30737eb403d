//! Notices that the machine was rebooted since the collector last ran.

use std::path::Path;
use std::time::SystemTime;
use std::{fs, io};

use model::{EventKind, Labels, MachineEvent, UnixMillis};

use super::ProberConfig;
use crate::identity::write_atomically;

/// File in the state directory that keeps the boot id.
const FILE: &str = "boot-id";

/// An event when the kernel's boot id is another than the one kept from the last run. Keeps the new
/// one. A first run is not a reboot.
pub(super) fn reboot_event(config: &ProberConfig) -> Option<MachineEvent> {
    let state_dir = config.state_dir.as_deref()?;
    let boot_id = fs::read_to_string(config.proc_root.join("sys/kernel/random/boot_id")).ok()?;
    match changed(state_dir, boot_id.trim()) {
        Ok(rebooted) => rebooted.then(|| MachineEvent {
            time: UnixMillis::from(SystemTime::now()),
            kind: EventKind::Reboot,
            detail: "the machine was rebooted since the collector last ran".to_owned(),
            attributes: Labels::of([("boot.id", boot_id.trim())]),
        }),
        Err(error) => {
            tracing::warn!(%error, path = %state_dir.join(FILE).display(), "cannot keep the boot id");
            None
        }
    }
}

fn changed(state_dir: &Path, boot_id: &str) -> io::Result<bool> {
    let path = state_dir.join(FILE);
    let kept = match fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    match kept.as_deref().map(str::trim) {
        Some(kept) if kept == boot_id => Ok(false),
        kept => {
            write_atomically(&path, format!("{boot_id}\n").as_bytes())?;
            Ok(kept.is_some_and(|kept| !kept.is_empty()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reboot_is_told_once_and_a_first_run_is_none() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let seen = |id: &str| changed(dir.path(), id).expect("writable");
        assert!(!seen("a"), "first run");
        assert!(!seen("a"), "restart without reboot");
        assert!(seen("b"), "reboot");
        assert!(!seen("b"));
    }

    #[test]
    fn a_truncated_file_is_not_a_reboot() {
        let dir = tempfile::tempdir().expect("temporary directory");
        fs::write(dir.path().join(FILE), "").expect("writable");
        assert!(!changed(dir.path(), "a").expect("writable"));
        assert!(changed(dir.path(), "b").expect("writable"));
    }
}
