//! The machine's id: made once, kept in the state directory, and made anew on a cloned disk.
//!
//! # The rule
//!
//! The id is random. Beside it the state directory keeps a fingerprint of the hardware it was made on.
//! A disk image that was cloned brings the file along, but finds other hardware.
//!
//! No single mark is enough: `/etc/machine-id` is cloned with the image, product UUIDs are the same on
//! whole series of boards, network cards are swapped, and most marks can be read by root alone. So the
//! marks vote, one vote each for *board*, *serial*, *network* and *disk* (see `identity/hardware.rs`):
//!
//! - A kind votes only when it was known then and is known now. What cannot be read (another user, a
//!   driver that is late) has no vote and is kept as it was.
//! - It votes *same* when any of its marks then is among those of now, else *other*.
//! - More *same* than *other*: the same machine. The id stays, the fingerprint takes in what is new, so
//!   parts may be swapped one after the other.
//! - More *other* than *same*: a clone. A new id.
//! - As many, none included: `/etc/machine-id` decides; where it is unknown too, the id stays.
//!
//! What this cannot tell: a clone on hardware with the same marks throughout, and a machine of which
//! most parts were replaced while the collector was off (it becomes a new machine).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use model::MachineId;

use hardware::{Fingerprint, Verdict};

mod hardware;

const FILE: &str = "machine";

/// The id of this machine, kept in `state_dir`, which is made when it is not there.
///
/// A kept id that cannot be read is put aside, and the machine starts anew: refusing to start would
/// leave it unwatched. Fails only when the directory cannot be read or written.
pub fn machine_id(state_dir: &Path) -> anyhow::Result<MachineId> {
    machine_id_on(state_dir, &Fingerprint::read(Path::new("/sys"), Path::new("/etc")))
}

fn machine_id_on(state_dir: &Path, now: &Fingerprint) -> anyhow::Result<MachineId> {
    let path = state_dir.join(FILE);
    fs::create_dir_all(state_dir)
        .with_context(|| format!("cannot make the state directory {}", state_dir.display()))?;
    let kept = match fs::read(&path) {
        Ok(bytes) => parse(&String::from_utf8_lossy(&bytes)).or_else(|| {
            put_aside(&path);
            None
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
    };
    let (id, fingerprint) = match &kept {
        Some((id, then)) => match then.compare(now) {
            Verdict::Same => (*id, then.updated(now)),
            Verdict::Other => {
                let id = random_id()?;
                tracing::warn!(
                    machine.id = %id,
                    before = %kept.as_ref().map_or(id, |(id, _)| *id),
                    "other hardware than the machine id was made for: this is a clone and gets its own id"
                );
                (id, now.clone())
            }
        },
        None => (random_id()?, now.clone()),
    };
    if kept.as_ref() != Some(&(id, fingerprint.clone())) {
        write_atomically(&path, render(id, &fingerprint).as_bytes())
            .with_context(|| format!("cannot keep the machine id in {}", path.display()))?;
    }
    Ok(id)
}

fn random_id() -> anyhow::Result<MachineId> {
    loop {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        if let Some(id) = MachineId::from_u128(u128::from_be_bytes(bytes)) {
            return Ok(id);
        }
    }
}

fn put_aside(path: &Path) {
    let aside = path.with_extension("damaged");
    tracing::warn!(path = %path.display(), aside = %aside.display(), "the kept machine id cannot be read");
    if let Err(error) = fs::rename(path, &aside) {
        tracing::warn!(%error, "cannot put the damaged machine id aside");
    }
}

fn render(id: MachineId, fingerprint: &Fingerprint) -> String {
    format!(
        "# The id of this machine and hashes of its hardware. Delete it to become a new machine.\n\
         id {id}\n{fingerprint}"
    )
}

fn parse(text: &str) -> Option<(MachineId, Fingerprint)> {
    let mut id = None;
    let mut fingerprint = Fingerprint::default();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match line.split_once(' ')? {
            ("id", value) => id = Some(value.parse().ok()?),
            (kind, mark) => fingerprint.add_line(kind, mark),
        }
    }
    Some((id?, fingerprint))
}

/// Writes a small file so that a crash leaves either the old or the new content.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    // The rename itself must survive too.
    match path.parent() {
        Some(dir) if cfg!(unix) => File::open(dir)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(marks: &[(&str, &str)]) -> Fingerprint {
        let mut fingerprint = Fingerprint::default();
        marks.iter().for_each(|(kind, mark)| fingerprint.add_line(kind, mark));
        fingerprint
    }

    #[test]
    fn the_id_survives_restarts_and_differs_between_machines() {
        let (one, two) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
        let hardware = fingerprint(&[("board", "b1")]);
        let id = |dir: &Path| machine_id_on(&dir.join("state"), &hardware).expect("writable");
        assert_eq!(id(one.path()), id(one.path()));
        assert_ne!(id(one.path()), id(two.path()));
    }

    #[test]
    fn a_clone_becomes_a_new_machine_and_stays_one() {
        let dir = tempfile::tempdir().expect("dir");
        let on = |marks: &[(&str, &str)]| {
            machine_id_on(dir.path(), &fingerprint(marks)).expect("writable")
        };
        let original = on(&[("board", "b1"), ("network", "n1"), ("system", "s")]);
        let clone = on(&[("board", "b2"), ("network", "n2"), ("system", "s")]);
        assert_ne!(original, clone);
        assert_eq!(clone, on(&[("board", "b2"), ("network", "n2"), ("system", "s")]));
    }

    #[test]
    fn parts_may_be_swapped_one_after_the_other() {
        let dir = tempfile::tempdir().expect("dir");
        let on = |board, network, disk| {
            let marks = [("board", board), ("network", network), ("disk", disk)];
            machine_id_on(dir.path(), &fingerprint(&marks)).expect("writable")
        };
        let id = on("b1", "n1", "d1");
        assert_eq!(on("b1", "n2", "d1"), id);
        assert_eq!(on("b1", "n2", "d2"), id);
        assert_eq!(on("b2", "n2", "d2"), id);
    }

    #[test]
    fn a_damaged_file_is_put_aside() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join(FILE);
        for damaged in ["", "id x\n", "\u{0}\u{0}", "board 12\n"] {
            fs::write(&path, damaged).expect("writable");
            let id = machine_id_on(dir.path(), &Fingerprint::default()).expect("writable");
            assert_eq!(machine_id_on(dir.path(), &Fingerprint::default()).expect("ok"), id);
            let aside = fs::read(dir.path().join("machine.damaged")).expect("put aside");
            assert_eq!(aside, damaged.as_bytes());
        }
    }

    #[test]
    fn this_machine_keeps_its_id() {
        let dir = tempfile::tempdir().expect("dir");
        assert_eq!(machine_id(dir.path()).expect("ok"), machine_id(dir.path()).expect("ok"));
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("file");
        fs::write(&file, "").expect("writable");
        let error = machine_id(&file.join("state")).expect_err("not a directory");
        assert!(error.to_string().contains("file/state"), "{error}");
    }
}
