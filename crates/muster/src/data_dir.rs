//! Where a process keeps what must survive it: found, made, and held by one process at a time.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use daemon::hint::WithHint as _;

/// Flag of the roles that store.
#[derive(Debug, clap::Args)]
pub(crate) struct Flag {
    /// Where data is kept [default: /var/lib/muster as root, else ~/.local/share/muster]
    #[arg(long, global = true, value_name = "DIR", env = "MUSTER_DATA_DIR")]
    data_dir: Option<PathBuf>,
}

impl Flag {
    /// Where it is, held or not.
    pub(crate) fn path(self) -> anyhow::Result<PathBuf> {
        match self.data_dir {
            Some(path) => Ok(path),
            None => default_path(is_root(), |name| std::env::var_os(name).map(PathBuf::from)),
        }
    }
}

/// A directory that no other process of ours uses, as long as this lives.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    // Held, not read: the lock goes with the file, also when the process is killed.
    _lock: File,
}

impl DataDir {
    pub(crate) fn open(flag: Flag) -> anyhow::Result<Self> {
        Self::hold(flag.path()?)
    }

    pub(crate) fn hold(path: PathBuf) -> anyhow::Result<Self> {
        let advice = "choose a directory that this user may write to with --data-dir";
        if path.is_file() {
            return Err(anyhow!("the data directory {} is a file", path.display())).hint(advice);
        }
        create_private(&path)
            .with_context(|| format!("failed to make the data directory {}", path.display()))
            .hint(advice)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))
            .with_context(|| format!("failed to write to the data directory {}", path.display()))
            .hint(advice)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                Err(anyhow!("the data directory {} is in use by another process", path.display()))
                    .hint(
                        "stop the other muster, or give this one its own directory with --data-dir",
                    )
            }
            Err(TryLockError::Error(error)) => Err(error)
                .with_context(|| format!("failed to lock the data directory {}", path.display())),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Command lines and logs of every machine are kept here: nobody else may read them. A directory that is
/// there already is left as its owner made it.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)
}

fn is_root() -> bool {
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::uid(&match std::fs::metadata("/proc/self") {
        Ok(own) => own,
        Err(_) => return false,
    }) == 0;
    #[cfg(not(unix))]
    false
}

fn default_path(root: bool, variable: impl Fn(&str) -> Option<PathBuf>) -> anyhow::Result<PathBuf> {
    // The specification of XDG says to ignore what is not absolute.
    let absolute = |name: &str| variable(name).filter(|path| path.is_absolute());
    if let Some(data) = absolute("XDG_DATA_HOME") {
        return Ok(data.join("muster"));
    }
    if root {
        return Ok(PathBuf::from("/var/lib/muster"));
    }
    absolute("HOME")
        .map(|home| home.join(".local/share/muster"))
        .context("there is no place for data: HOME is not set")
        .hint("choose a directory with --data-dir")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_place_follows_the_user() {
        fn check(root: bool, variables: &[(&str, &str)], expected: Option<&str>) {
            let found = default_path(root, |name| {
                variables.iter().find(|(n, _)| *n == name).map(|(_, path)| PathBuf::from(path))
            });
            assert_eq!(found.ok(), expected.map(PathBuf::from), "{root} {variables:?}");
        }
        check(false, &[("HOME", "/home/a")], Some("/home/a/.local/share/muster"));
        check(false, &[("HOME", "/home/a"), ("XDG_DATA_HOME", "/d")], Some("/d/muster"));
        check(
            false,
            &[("HOME", "/home/a"), ("XDG_DATA_HOME", "d")],
            Some("/home/a/.local/share/muster"),
        );
        check(true, &[("HOME", "/root")], Some("/var/lib/muster"));
        check(true, &[("XDG_DATA_HOME", "/d")], Some("/d/muster"));
        check(false, &[], None);
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_that_is_made_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("data");
        DataDir::hold(path.clone()).expect("is made");
        let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{mode:o}");
    }

    #[test]
    fn a_file_is_no_directory() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let error = DataDir::hold(file.path().to_owned()).expect_err("is a file");
        assert!(error.to_string().ends_with(" is a file"), "{error}");
    }

    #[test]
    fn one_process_at_a_time_holds_a_directory() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let first = DataDir::hold(dir.path().to_owned()).expect("is free");
        let error = DataDir::hold(dir.path().to_owned()).expect_err("is held");
        assert!(error.to_string().ends_with("is in use by another process"), "{error}");
        drop(first);
        DataDir::hold(dir.path().to_owned()).expect("is free again");
    }
}
