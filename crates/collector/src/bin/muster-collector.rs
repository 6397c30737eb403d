//! The small collector executable: the same as `muster collector`, without everything else.

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser};

#[derive(Debug, Parser)]
#[command(name = "muster-collector", version)]
struct Cli {
    #[command(flatten)]
    args: collector::cli::Args,
}

fn main() -> ExitCode {
    let examples = collector::cli::EXAMPLES.replace("muster collector", "muster-collector");
    let matches = Cli::command().after_help(examples).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match collector::cli::run(cli.args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", daemon::hint::report(&error));
            ExitCode::FAILURE
        }
    }
}
