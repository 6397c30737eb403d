//! Where reading goes on in whatever must be read once and only once, such as a log file.
//!
//! A bookmark is kept in the record of the item that was read before it: after a kill both are there or
//! neither, so nothing is read twice and nothing is left out. Before a segment goes, the bookmarks that
//! it held are in a file of their own. What is marked without an item goes with the next one: a source that
//! was marked later than another never has its mark before it. That file lies beside the spool, not in it: it outlives a spool
//! that is put aside.
//!
//! The file is not synced: a power cut may cost its latest state, and then what was read in the last
//! seconds is read once more.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use model::{Seq, SpoolEpoch};
use serde::{Deserialize, Serialize};

/// Where to go on in one source. What `place` says is the source's own business.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bookmark {
    pub(crate) source: String,
    /// `None`: the source is gone, forget it.
    pub(crate) place: Option<String>,
}

/// The latest bookmark of every source.
#[derive(Debug)]
pub(super) struct Bookmarks {
    path: PathBuf,
    epoch: SpoolEpoch,
    places: BTreeMap<String, String>,
    /// Marked without an item, and neither in the file nor in a record yet.
    loose: Vec<Bookmark>,
    /// Number of the last item whose bookmarks are among them.
    through: Seq,
    is_stale: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct File {
    epoch: u64,
    through: Seq,
    places: BTreeMap<String, String>,
}

impl Bookmarks {
    /// As the file has them; none when there is no file, or it cannot be read.
    pub(super) fn open(state_dir: &Path, epoch: SpoolEpoch) -> Self {
        let path = state_dir.join("bookmarks.json");
        let file: File = match std::fs::read(&path).map(|bytes| serde_json::from_slice(&bytes)) {
            Ok(Ok(file)) => file,
            Ok(Err(error)) => {
                tracing::error!(%error, path = %path.display(), "failed to read where logs go on; they are read as if for the first time");
                File::default()
            }
            Err(_) => File::default(),
        };
        // Numbers of another epoch say nothing about items of this one.
        let through = if file.epoch == epoch.0 { file.through } else { 0 };
        Self { path, epoch, places: file.places, loose: Vec::new(), through, is_stale: false }
    }

    /// Takes over what was found in the record of item `seq`, unless the file had it already.
    pub(super) fn found(&mut self, seq: Seq, encoded: &[u8]) {
        if seq > self.through
            && let Ok(bookmarks) = serde_json::from_slice::<Vec<Bookmark>>(encoded)
        {
            self.kept(seq, &bookmarks);
        }
    }

    /// These were kept with item `seq`, and those that waited for one.
    pub(super) fn kept(&mut self, seq: Seq, bookmarks: &[Bookmark]) {
        self.take_in(bookmarks);
        self.loose.clear();
        self.through = self.through.max(seq);
    }

    /// Sets those for which there is no item.
    pub(super) fn set(&mut self, bookmarks: &[Bookmark]) {
        self.take_in(bookmarks);
        for bookmark in bookmarks {
            self.loose.retain(|loose| loose.source != bookmark.source);
            self.loose.push(bookmark.clone());
        }
    }

    fn take_in(&mut self, bookmarks: &[Bookmark]) {
        for Bookmark { source, place } in bookmarks {
            match place {
                Some(place) => drop(self.places.insert(source.clone(), place.clone())),
                None => drop(self.places.remove(source)),
            }
            self.is_stale = true;
        }
    }

    /// As they stand in the record of the next item, those before them that wait for one; empty when there are none.
    pub(super) fn encode(&self, bookmarks: &[Bookmark]) -> Bytes {
        let is_newer =
            |loose: &Bookmark| bookmarks.iter().any(|newer| newer.source == loose.source);
        let loose = self.loose.iter().filter(|loose| !is_newer(loose));
        let all: Vec<&Bookmark> = loose.chain(bookmarks).collect();
        match &*all {
            [] => Bytes::new(),
            some => serde_json::to_vec(some).map_or_else(|_| Bytes::new(), Bytes::from),
        }
    }

    pub(super) fn places(&self) -> &BTreeMap<String, String> {
        &self.places
    }

    /// Replaces the file when it is behind.
    pub(super) fn write(&mut self) -> io::Result<()> {
        if !self.is_stale {
            return Ok(());
        }
        let file = File { epoch: self.epoch.0, through: self.through, places: self.places.clone() };
        let new = self.path.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(&file)?)?;
        std::fs::rename(&new, &self.path)?;
        self.loose.clear();
        self.is_stale = false;
        Ok(())
    }
}
