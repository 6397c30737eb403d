//! What can be typed after `muster`.

use clap::{Parser, Subcommand};

use crate::{
    account, aggregator, alerts, bench, check_config, collector, completions, demo, gateway,
    health, logs, machine, migrate, probe, token, top, up,
};

/// Takes the roll call of your machines: what each one does, every second, live in the browser and kept.
#[derive(Debug, Parser)]
#[command(
    name = "muster",
    version,
    arg_required_else_help = true,
    subcommand_help_heading = "Roles and tools",
    disable_help_subcommand = true,
    after_help = "\
Examples:
  muster up                                             this machine, at http://127.0.0.1:7070
  muster demo                                           a made-up fleet, to look around
  muster collector --aggregator http://127.0.0.1:7070   report another machine to it
  muster health                                         is it well? (exit code 0 or 1)

`muster ROLE --help` explains a role. Flags win over the environment, the environment over the file (--config): \
MUSTER_COLLECTOR__INTERVAL=5s sets `interval` in the file's section [collector]."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    Up(up::Args),
    Demo(demo::Args),
    Aggregator(aggregator::Args),
    Alerts(alerts::Args),
    Gateway(gateway::Args),
    Collector(collector::Args),
    Migrate(migrate::Args),
    Health(health::Args),
    Probe(probe::Args),
    Top(top::Args),
    Logs(logs::Args),
    Machine(machine::Args),
    CheckConfig(check_config::Args),
    Token(token::Args),
    Account(account::Args),
    Bench(bench::Args),
    Completions(completions::Args),
}

/// Reads the command line and plays the role.
pub(crate) fn run() -> anyhow::Result<()> {
    match Cli::parse().role {
        Role::Up(args) => wait(up::run(args)),
        Role::Demo(args) => wait(demo::run(args)),
        Role::Aggregator(args) => wait(aggregator::run(args)),
        Role::Alerts(args) => wait(alerts::run(args)),
        Role::Gateway(args) => wait(gateway::run(args)),
        Role::Collector(args) => collector::run(args),
        Role::Migrate(args) => wait(migrate::run(args)),
        Role::Health(args) => wait(health::run(args)),
        Role::Probe(args) => wait(probe::run(args)),
        Role::Top(args) => wait(top::run(args)),
        Role::Logs(args) => wait(logs::run(args)),
        Role::Machine(args) => wait(machine::run(args)),
        Role::CheckConfig(args) => check_config::run(&args),
        Role::Token(args) => wait(token::run(args)),
        Role::Account(args) => wait(account::run(args)),
        Role::Bench(args) => wait(bench::run(args)),
        Role::Completions(args) => completions::run(&args),
    }
}

fn wait(role: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(role);
    // A blocking read of a dead mount would otherwise keep the process from ending.
    runtime.shutdown_background();
    outcome
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// The README's commands are run by the end-to-end tests; these are what the program itself advises.
    #[test]
    fn the_examples_in_the_help_can_be_typed() {
        let mut typed = 0;
        let mut whole = Cli::command();
        let commands =
            std::iter::once(whole.clone()).chain(whole.get_subcommands_mut().map(|c| c.clone()));
        for command in commands {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in after.lines().map(str::trim) {
                // What comes after two blanks explains, what comes after `>` is the shell's.
                let line = line.split("   ").next().unwrap_or_default();
                let line = line.split(" > ").next().unwrap_or_default();
                let Some(at) =
                    line.find("muster ").filter(|at| line[..*at].ends_with(['=', ' ']) || *at == 0)
                else {
                    continue;
                };
                let settings_before = line[..at].split_whitespace().all(|word| word.contains('='));
                if !settings_before || line.contains("$(") {
                    continue;
                }
                let words = line[at..].split_whitespace();
                if let Err(error) = Cli::try_parse_from(words) {
                    panic!("{line}: {error}");
                }
                typed += 1;
            }
        }
        assert!(typed >= 10, "only {typed} examples were found");
    }

    /// A paragraph is one line, which clap breaks where the terminal ends; broken in the source it would be
    /// broken twice.
    #[test]
    fn paragraphs_in_the_help_are_broken_by_the_terminal_alone() {
        let mut whole = Cli::command();
        let commands =
            std::iter::once(whole.clone()).chain(whole.get_subcommands_mut().map(|c| c.clone()));
        for command in commands {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let lines: Vec<_> = after.lines().collect();
            for pair in lines.windows(2) {
                let is_prose = |line: &str| !line.is_empty() && !line.starts_with(' ');
                let broken = pair.iter().all(|line| is_prose(line));
                assert!(!broken, "muster {}: {pair:?}", command.get_name());
            }
        }
    }

    #[test]
    fn every_flag_has_an_environment_variable() {
        for role in Cli::command().get_subcommands() {
            // Tools that a person types are not configured by an environment.
            if matches!(
                role.get_name(),
                "bench" | "check-config" | "completions" | "demo" | "logs" | "probe" | "top"
            ) {
                continue;
            }
            for flag in role.get_arguments().filter(|arg| !arg.is_positional()) {
                let name = format!("muster {} --{}", role.get_name(), flag.get_id());
                assert!(
                    flag.get_env().is_some_and(|v| v.to_string_lossy().starts_with("MUSTER_")),
                    "{name}"
                );
            }
        }
    }
}
