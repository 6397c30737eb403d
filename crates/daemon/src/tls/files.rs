//! Files that are looked at now and then, to be read again when they changed.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// How often. Certificates are renewed days before they end.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What tells whether a file is another than before.
pub(super) type Look = Vec<Option<(SystemTime, u64)>>;

pub(super) fn look(files: impl IntoIterator<Item = Option<PathBuf>>) -> Look {
    let about = |file: PathBuf| {
        let about = std::fs::metadata(file).ok()?;
        Some((about.modified().ok()?, about.len()))
    };
    files.into_iter().flatten().map(about).collect()
}
