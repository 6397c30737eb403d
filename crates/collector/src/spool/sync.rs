//! When to make the spool durable. Syncing may take long, so it runs on another thread.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use model::Seq;

use super::Spool;
use super::numbers::{Reservation, Reserved};
use super::segment::Active;

/// What to make durable. Runs without the spool; the outcome goes to [`Spool::synced`].
#[derive(Debug)]
pub(crate) struct SyncJob {
    files: Vec<Arc<File>>,
    dir: Option<PathBuf>,
    reservation: Option<Reservation>,
    last: Seq,
}

#[derive(Debug)]
pub(crate) struct Synced {
    files: io::Result<Seq>,
    dir_was_synced: bool,
    numbers: Option<io::Result<Reserved>>,
}

impl SyncJob {
    pub(crate) fn run(self) -> Synced {
        let dir = self.dir.map(|dir| File::open(dir).and_then(|dir| dir.sync_all()));
        Synced {
            files: self.files.iter().try_for_each(|file| file.sync_data()).map(|()| self.last),
            dir_was_synced: dir.is_some_and(|synced| synced.is_ok()),
            numbers: self.reservation.map(|reservation| reservation.write()),
        }
    }
}

impl Spool {
    /// At most one job is to be under way.
    pub(super) fn sync_job(&mut self) -> Option<SyncJob> {
        let reservation = self.numbers.reservation();
        // Only what has waited since the last look: what is acknowledged at once costs no sync.
        let waited = self.oldest_unacknowledged().max(self.synced_to + 1) <= self.marked;
        let last = self.numbers.next().saturating_sub(1);
        self.marked = last;
        if !waited {
            let (files, dir) = (Vec::new(), None);
            return reservation.map(|r| SyncJob {
                files,
                dir,
                reservation: Some(r),
                last: self.synced_to,
            });
        }
        let mut files = std::mem::take(&mut self.unsynced);
        files.extend(self.active.as_ref().map(Active::file));
        let dir = self.dir_is_unsynced.then(|| self.dir.clone());
        Some(SyncJob { files, dir, reservation, last })
    }

    /// Takes in what a job did.
    pub(crate) fn synced(&mut self, synced: Synced) {
        match synced.files {
            Ok(last) => self.synced_to = self.synced_to.max(last),
            Err(error) => {
                // What the failed sync was about may be gone, and syncing the same file again could
                // claim otherwise. Writing goes on in a new file.
                self.seal();
                self.unsynced.clear();
                self.failed("failed to sync the spool; a power cut may cost recent items", &error);
            }
        }
        if synced.dir_was_synced {
            self.dir_is_unsynced = false;
        }
        match synced.numbers {
            Some(Ok(reserved)) => self.numbers.reserved(reserved),
            Some(Err(error)) => self.failed("failed to reserve item numbers", &error),
            None => {}
        }
    }
}
