//! The directory that one collector keeps to itself.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use daemon::hint::WithHint as _;

/// Holds the directory until it is dropped, or the process ends in whatever way.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Creates the directory where needed and takes hold of it.
    ///
    /// # Errors
    /// When it cannot be written, or another collector holds it.
    pub(crate) fn open(path: PathBuf) -> anyhow::Result<Self> {
        const WRITABLE: &str = "choose a directory that this user can write with --state-dir";
        let shown = path.display().to_string();
        create_private(&path)
            .with_context(|| format!("failed to create the state directory {shown}"))
            .hint(WRITABLE)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join("lock"))
            .with_context(|| format!("failed to write in the state directory {shown}"))
            .hint(WRITABLE)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                Err(anyhow!("another collector uses the state directory {shown}"))
                    .hint("stop it, or give this one its own directory with --state-dir")
            }
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("failed to lock {shown}")).hint(WRITABLE)
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Command lines and logs wait in the spool: nobody else may read them.
fn create_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_collector_uses_a_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a/b");
        let first = StateDir::open(path.clone()).expect("free");
        let error = StateDir::open(path.clone()).expect_err("held");
        assert!(error.to_string().contains("another collector"), "{error}");
        assert!(daemon::hint::of(&error).is_some());
        drop(first);
        StateDir::open(path).expect("free again");
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_told_with_a_hint() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let error = StateDir::open(file.path().join("x")).expect_err("below a file");
        assert!(daemon::hint::of(&error).is_some_and(|hint| hint.contains("--state-dir")));
    }
}
