//! The browser that the end-to-end tests open pages in.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::shell;

/// Debian's names, for the programs and for the packages that have them.
const PROGRAMS: [&str; 2] = ["chromium", "chromedriver"];
const PACKAGES: [&str; 2] = ["chromium", "chromium-driver"];

/// Installs Chromium where that is possible without asking. Where it is not: an error under `CI=true`, else
/// a line that says what will be skipped.
pub(crate) fn make_available() -> Result<()> {
    if present() {
        return Ok(());
    }
    if can_install() {
        install(&PACKAGES).context("failed to install Chromium for the browser tests")?;
        if present() {
            return Ok(());
        }
    }
    let wanted = format!("the browser tests need {}", PROGRAMS.join(" and "));
    let advice = format!("on Debian: apt-get install {}", PACKAGES.join(" "));
    if std::env::var("CI").is_ok_and(|ci| ci == "true") {
        bail!("{wanted}\nhint: {advice}");
    }
    eprintln!("note: {wanted}, and will be skipped\nhint: {advice}");
    Ok(())
}

fn present() -> bool {
    PROGRAMS.iter().all(|program| shell::succeeds(Command::new(program).arg("--version")))
}

fn is_root() -> bool {
    shell::read({
        let mut id = Command::new("id");
        id.arg("-u");
        id
    })
    .is_ok_and(|uid| uid.trim() == "0")
}

fn can_install() -> bool {
    is_root() && shell::succeeds(Command::new("apt-get").arg("--version"))
}

/// Installs packages of Debian or Ubuntu, as root.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    if !can_install() {
        bail!("packages are installed only as root\nhint: apt-get install {}", packages.join(" "));
    }
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(args);
        shell::run(command)
    };
    apt(&["update"])?;
    let install = ["install", "--yes", "--no-install-recommends"];
    apt(&[install.as_slice(), packages].concat())
}
