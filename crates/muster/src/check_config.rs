//! `muster check-config`: says what is wrong with a settings file before a service is restarted with it.

use std::path::PathBuf;

use crate::config;

/// Check a settings file, together with the environment, without starting anything
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  muster check-config /etc/muster/muster.toml")]
pub(crate) struct Args {
    /// Settings file (TOML)
    file: PathBuf,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    config::read(Some(&args.file))?;
    println!("{}: ok", args.file.display());
    Ok(())
}
