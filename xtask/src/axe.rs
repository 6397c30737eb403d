//! axe-core, the rules that the accessibility test holds the pages against. It is MPL-2.0 and no part of
//! what is shipped, so it is fetched for the test instead of being kept here.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{browser, shell};

/// What the test finds the script by.
pub(crate) const VARIABLE: &str = "MUSTER_TEST_AXE";
const VERSION: &str = "4.14.1";
/// Of `axe.min.js`.
const SHA256: &str = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c";

/// Finds the script, or fetches it once into the build directory by npm. Where that is not possible: an
/// error under `CI=true`, else a line that says what will be skipped.
pub(crate) fn make_available() -> Result<Option<PathBuf>> {
    if let Some(given) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        return Ok(Some(PathBuf::from(given)));
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/axe");
    let script = folder.join(format!("axe-{VERSION}.js"));
    if script.exists() {
        return Ok(Some(script.canonicalize()?));
    }
    match fetch(&folder, &script).context("failed to fetch axe-core for the accessibility test") {
        Ok(()) => Ok(Some(script.canonicalize()?)),
        Err(error) if std::env::var("CI").is_ok_and(|ci| ci == "true") => Err(error),
        Err(error) => {
            eprintln!("note: the accessibility test will be skipped: {error:#}");
            Ok(None)
        }
    }
}

fn fetch(folder: &Path, script: &Path) -> Result<()> {
    if !shell::succeeds(Command::new("npm").arg("--version")) {
        browser::install(&["npm"]).context("failed to install npm")?;
    }
    let partial = folder.join(format!("{}.partial", std::process::id()));
    fs::create_dir_all(&partial)?;
    let mut npm = Command::new("npm");
    npm.current_dir(&partial).args(["pack", "--silent", &format!("axe-core@{VERSION}")]);
    shell::run(npm)?;
    let mut tar = Command::new("tar");
    tar.current_dir(&partial).args(["xzf", &format!("axe-core-{VERSION}.tgz")]);
    shell::run(tar)?;
    let unpacked = partial.join("package/axe.min.js");
    is_the_known_one(&unpacked)?;
    fs::rename(unpacked, script)?;
    Ok(fs::remove_dir_all(partial)?)
}

fn is_the_known_one(script: &Path) -> Result<()> {
    let mut check = Command::new("sha256sum");
    let quiet = check.args(["--check", "--status"]).stdin(Stdio::piped());
    let mut child = quiet.spawn().context("failed to start sha256sum")?;
    let line = format!("{SHA256}  {}\n", script.display());
    child.stdin.take().context("sha256sum reads nothing")?.write_all(line.as_bytes())?;
    if !child.wait()?.success() {
        bail!("{}: expected the SHA-256 {SHA256}, found another", script.display());
    }
    Ok(())
}
