//! Developer commands. `cargo xtask test` is the one test command, `cargo xtask ci` is everything that
//! must hold before a change is merged.

use std::process::ExitCode;

use anyhow::{Result, bail};
use xtask::{services, shell};

mod axe;
mod bench;
mod browser;
mod checks;
mod dashboard;
mod footprint;
mod instructions;
mod marks;
mod outage;
mod screenshots;
mod webdriver;

const HELP: &str = "\
Usage: cargo xtask COMMAND

  test [ARGS…]   make available what the tests need, then run every test; ARGS go to `cargo test`
  services [COMMAND…]
                 start a private Redis and TimescaleDB; run COMMAND with them, or keep them until interrupted
  footprint [MINUTES]
                 measure the CPU time and memory of the release executables, write docs/reference/footprint.md
  bench [ROUNDS]
                 the same load on Muster, VictoriaMetrics and Prometheus, side by side; write
                 docs/reference/performance.md
  outage [SECONDS]
                 what people miss when an aggregator is killed, and when Redis or TimescaleDB are away for a
                 minute: the end-to-end tests of that, with their figures
  dashboard [--debug]
                 what the pages cost a browser and the gateway: bytes, times, CPU, memory; write
                 docs/reference/dashboard.md. With --debug: a debug build, the figures are only printed
  instructions   count the instructions of the hottest parts under valgrind
  screenshots    take the pictures of the README from the real pages, into docs/images
  check          formatting, dependency rules, lints, documentation
  ci             check, then test
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<()> {
    let (command, rest) = match args {
        [] => ("help", [].as_slice()),
        [command, rest @ ..] => (command.as_str(), rest),
    };
    match (command, rest) {
        ("test", rest) => test(rest),
        ("services", command) => services::run(command),
        ("bench", rest) => bench::run(rest),
        ("footprint", rest) => footprint::run(rest),
        ("outage", rest) => outage::run(rest),
        ("dashboard", rest) => dashboard::run(rest),
        ("instructions", []) => instructions::run(),
        ("screenshots", []) => screenshots::run(),
        ("check", []) => checks::all(),
        ("ci", []) => checks::all().and_then(|()| test(&[])),
        ("help" | "--help" | "-h", _) => {
            print!("{HELP}");
            Ok(())
        }
        _ => bail!("there is no command {:?}\n\n{HELP}", args.join(" ")),
    }
}

fn test(args: &[String]) -> Result<()> {
    browser::make_available()?;
    let axe = axe::make_available()?;
    let services = services::Services::start()?;
    // The end-to-end tests start this executable; cargo builds by itself only the one of their own package.
    shell::cargo(["build", "--locked", "--package", "collector", "--bins"])?;
    let given = args.iter().map(String::as_str);
    let mut tests = shell::command_cargo(
        ["test", "--locked", "--workspace", "--no-fail-fast"].into_iter().chain(given),
    );
    tests.envs(services.variables().iter().map(|(name, url)| (name, url)));
    tests.envs(axe.map(|script| (axe::VARIABLE, script)));
    shell::run(tests)
}
