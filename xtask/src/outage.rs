//! What an outage costs: the end-to-end tests of processes apart, with outages of full length.

use anyhow::{Context as _, Result, bail};
use xtask::services::{DebianRoot, cache};

use crate::shell;

/// Seconds that Redis and TimescaleDB are away in the tests.
const VARIABLE: &str = "MUSTER_TEST_OUTAGE_SECONDS";

pub(crate) fn run(args: &[String]) -> Result<()> {
    let seconds: u32 = match args {
        [] => 60,
        [seconds] => seconds
            .parse()
            .with_context(|| format!("SECONDS: expected a number such as 60, found {seconds:?}"))?,
        _ => bail!("expected at most one argument, SECONDS"),
    };
    DebianRoot::make_available(&cache())?;
    shell::cargo(["build", "--locked", "--package", "collector", "--bins"])?;
    let args = ["test", "--locked", "--package", "muster", "--test", "e2e", "apart::"];
    // One after the other: each has the machine to itself.
    let mut tests =
        shell::command_cargo(args.into_iter().chain(["--", "--nocapture", "--test-threads=1"]));
    tests.env(VARIABLE, seconds.to_string());
    shell::run(tests)
}
