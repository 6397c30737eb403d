//! The small collector executable: the same as `muster collector`, without everything else.

use std::process::ExitCode;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "muster-collector", version)]
struct Cli {
    #[command(flatten)]
    args: collector::cli::Args,
}

fn main() -> ExitCode {
    match collector::cli::run(Cli::parse().args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", daemon::hint::report(&error));
            ExitCode::FAILURE
        }
    }
}
