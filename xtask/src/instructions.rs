//! Instruction counts of the hottest parts: `cargo xtask instructions`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::shell;

/// Reads what callgrind counts. It must be of the version that the benchmark was built with.
const RUNNER: &str = "gungraun-runner";

pub(crate) fn run() -> Result<()> {
    ensure!(
        shell::succeeds(Command::new("valgrind").arg("--version")),
        "valgrind is not there\nhint: on Debian: apt-get install valgrind"
    );
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let version = locked_version(&std::fs::read_to_string(project.join("Cargo.lock"))?)?;
    let tools = project.join("target/tools");
    let runner = tools.join("bin").join(RUNNER);
    let there = Command::new(&runner).arg("--version").output();
    if !there.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(&version)) {
        let mut install = shell::command_cargo(["install", "--locked", RUNNER, "--version"]);
        install.arg(&version).arg("--root").arg(&tools);
        shell::run(install)?;
    }
    let mut bench =
        shell::command_cargo(["bench", "--locked", "-p", "aggregator", "--bench", "instructions"]);
    bench.env("GUNGRAUN_RUNNER", runner);
    shell::run(bench)
}

fn locked_version(lock: &str) -> Result<String> {
    let name = format!("name = \"{RUNNER}\"");
    let after = lock.lines().skip_while(|line| *line != name).nth(1);
    let version =
        after.and_then(|line| line.strip_prefix("version = ")).map(|v| v.trim_matches('"'));
    version.map(str::to_owned).with_context(|| format!("Cargo.lock does not tell of {RUNNER}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runner_has_the_version_of_the_lock_file() {
        let lock = include_str!("../../Cargo.lock");
        let version = locked_version(lock).expect("it is there");
        assert!(version.starts_with("0."), "{version}");
        assert!(locked_version("name = \"other\"").is_err());
    }
}
