//! A Debian 13 in a directory. Debian 12 and Ubuntu have no package of TimescaleDB; Debian 13 has, and
//! its servers run anywhere by `chroot`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::shell;

const SUITE: &str = "trixie";
const PACKAGES: &str = "postgresql-17-timescaledb,redis-server";
/// Ubuntu has Debian's keys in a package of their own.
const TOOLS: [&str; 2] = ["debootstrap", "debian-archive-keyring"];

/// Installed once, kept under the build directory: some 700 MB.
#[derive(Debug)]
pub struct DebianRoot {
    path: PathBuf,
}

impl DebianRoot {
    /// Finds or makes the root under `cache`. Whoever comes second waits for the first.
    pub fn make_available(cache: &Path) -> Result<Self> {
        fs::create_dir_all(cache)
            .with_context(|| format!("failed to create {}", cache.display()))?;
        let cache = cache.canonicalize()?;
        let lock = File::create(cache.join("lock"))?;
        lock.lock().context("failed to lock the directory of the test servers")?;
        let path = cache.join(SUITE);
        if !path.exists() {
            require_root()?;
            let partial = cache.join(format!("{SUITE}.partial"));
            if partial.exists() {
                fs::remove_dir_all(&partial)
                    .context("failed to remove an interrupted installation")?;
            }
            install(&partial).context("failed to install Redis and TimescaleDB for the tests")?;
            fs::rename(&partial, &path)?;
        }
        require_root()?;
        let root = Self { path };
        root.remove_abandoned()?;
        Ok(root)
    }

    /// The root where it is there already and we may use it.
    ///
    /// # Errors
    /// When it cannot be tidied.
    pub fn find(cache: &Path) -> Result<Option<Self>> {
        match cache.join(SUITE).exists() && require_root().is_ok() {
            true => Self::make_available(cache).map(Some),
            false => Ok(None),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Unpacks further packages of the suite under `/opt/NAME` inside, once. Nothing of them is configured
    /// or started: for programs that need no more than their files.
    pub fn unpack(&self, name: &str, packages: &[&str]) -> Result<String> {
        let inside = format!("/opt/{name}");
        let path = self.path.join(&inside[1..]);
        if !path.exists() {
            let script = format!(
                "set -e; rm -rf {inside}.partial; mkdir -p {inside}.partial; cd {inside}.partial; \
                 apt-get update; apt-get download {}; \
                 for package in *.deb; do dpkg-deb -x \"$package\" .; done; rm *.deb; cd /; \
                 mv {inside}.partial {inside}",
                packages.join(" ")
            );
            let mut command = Command::new("chroot");
            command.arg(&self.path).args(["/bin/sh", "-c", &script]);
            shell::run(command)?;
        }
        Ok(inside)
    }

    /// A program inside, as one of its users, that gets `signal` should we die without stopping it.
    pub fn command(&self, user: &str, signal: &str, program: &str) -> Command {
        let mut command = Command::new("chroot");
        command
            .arg(&self.path)
            .args(["/usr/bin/setpriv", "--reuid", user, "--regid", user, "--clear-groups"])
            .args(["--pdeathsig", signal, "--", program])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C.UTF-8");
        command
    }

    /// Data of servers whose starter was killed before it could tidy up. Names begin with its process id.
    fn remove_abandoned(&self) -> Result<()> {
        for entry in fs::read_dir(self.path.join("tmp"))? {
            let entry = entry?;
            let name = entry.file_name();
            let owner = name.to_str().and_then(|n| n.strip_prefix("muster-")?.split('-').next());
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

fn require_root() -> Result<()> {
    let mut id = Command::new("id");
    id.arg("-u");
    if shell::read(id)?.trim() != "0" || !shell::succeeds(Command::new("apt-get").arg("--version"))
    {
        bail!(
            "private servers need Debian or Ubuntu, and root\nhint: start both by hand and set MUSTER_TEST_REDIS_URL and MUSTER_TEST_TIMESCALE_URL"
        );
    }
    Ok(())
}

fn install(target: &Path) -> Result<()> {
    if !shell::succeeds(Command::new("debootstrap").arg("--version")) {
        apt_get(&["update"])?;
        apt_get(&[["install", "--yes", "--no-install-recommends"].as_slice(), &TOOLS].concat())?;
    }
    let mut sources = Command::new("apt-get");
    sources.args([
        "indextargets",
        "--format",
        "$(ORIGIN)|$(LABEL)|$(REPO_URI)",
        "Created-By: Packages",
    ]);
    let mirror = mirror(&shell::read(sources)?);
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", &format!("--include={PACKAGES}"), SUITE]).arg(target);
    // Without one it takes Debian's own.
    debootstrap.args(mirror);
    shell::run(debootstrap)
}

fn apt_get(args: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(args);
    shell::run(command)
}

/// Where this machine gets Debian from, when it is a Debian.
fn mirror(targets: &str) -> Option<String> {
    targets.lines().find_map(|line| line.strip_prefix("Debian|Debian|")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::mirror;

    #[test]
    fn the_mirror_of_a_debian_is_used_again() {
        fn check(targets: &str, expected: Option<&str>) {
            assert_eq!(mirror(targets).as_deref(), expected, "{targets:?}");
        }
        let security = "Debian|Debian-Security|http://mirror.test/debian-security/\n";
        check("", None);
        check(security, None);
        check("Ubuntu|Ubuntu|http://mirror.test/ubuntu/\n", None);
        let own = "Debian|Debian|http://mirror.test/debian/\n";
        check(&format!("{security}{own}"), Some("http://mirror.test/debian/"));
    }
}
