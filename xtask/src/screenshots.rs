//! The README's pictures, from the real pages over machines that are made up.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::webdriver::{Driver, Running, first_line};
use crate::{browser, shell};

/// Up to the first whose name is hostile: a test of the pages, and no picture for a first impression.
const MACHINES: &str = "7";
/// After everything is there: what moves has moved, what was drawn twice is drawn.
const SETTLE: Duration = Duration::from_secs(4);

/// File, path, width and height in pixels, dark, and what must hold before it is taken.
const PICTURES: [(&str, &str, u32, u32, bool, &str); 4] = [
    ("fleet.png", "/?sort=cpu&order=desc", 1440, 700, true, LIVE),
    ("machine.png", "/machines/db-primary", 1440, 900, true, CHARTS),
    ("compare.png", "/?compare=memory&group=env", 1440, 900, true, CHARTS),
    ("health.png", "/about/health", 1440, 900, false, LIVE),
];
const LIVE: &str = "return document.getElementById('link').dataset.state === 'live'";
const CHARTS: &str = "return document.getElementById('link').dataset.state === 'live'
    && [...document.querySelectorAll('.chart')]
        .filter(c => c.checkVisibility() && c.getBoundingClientRect().top < innerHeight)
        .every(c => Number(c.dataset.points) > 50)";

pub(crate) fn run() -> Result<()> {
    browser::make_available()?;
    let example = ["--locked", "--package", "gateway", "--example", "dashboard"];
    shell::cargo(["build"].into_iter().chain(example))?;
    let mut dashboard = shell::command_cargo(
        ["run", "--quiet"].into_iter().chain(example).chain(["--", MACHINES, "0"]),
    );
    let mut dashboard = Running(dashboard.stdout(Stdio::piped()).spawn()?);
    let url = first_line(&mut dashboard.0)?;
    let driver = Driver::start()?;
    for (file, path, width, height, dark, ready) in PICTURES {
        let browser = driver.open(width, height, dark)?;
        browser.go(&format!("{url}{path}"))?;
        browser.until(ready)?;
        std::thread::sleep(SETTLE);
        let target = images().join(file);
        std::fs::write(&target, browser.picture()?)
            .with_context(|| format!("failed to write {}", target.display()))?;
        println!("wrote docs/images/{file}");
    }
    Ok(())
}

fn images() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/images")).to_owned()
}
