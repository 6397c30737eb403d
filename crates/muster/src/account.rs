//! `muster account`: who may log in to the dashboard.

use anyhow::Context as _;
use daemon::hint::WithHint as _;
use model::Grant;

use crate::token::StoresFlags;

/// Say who may log in to the dashboard
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  muster account set admin
  muster account set ann --grant read
  muster account list
  muster account remove ann

Works beside a running server, as `muster token` does. Passwords are made up and shown once, unless \
--password-stdin brings one.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    stores: StoresFlags,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make an account, or give one a new password and log it out everywhere
    Set {
        /// Its name
        name: String,
        /// What it may do: read (look at everything) or admin (change everything too)
        #[arg(long, default_value = "admin", value_parser = grant, value_name = "read|admin")]
        grant: Grant,
        /// Read the password from the standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// List accounts
    List,
    /// Remove an account and log it out everywhere
    Remove {
        /// Its name
        name: String,
    },
}

fn grant(text: &str) -> Result<Grant, String> {
    match text {
        "read" => Ok(Grant::Read),
        "admin" => Ok(Grant::Admin),
        _ => Err("expected read or admin".to_owned()),
    }
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let store = args.stores.open().await?;
    match args.command {
        Command::Set { name, grant, password_stdin } => {
            let password = match password_stdin {
                true => {
                    let text = std::io::read_to_string(std::io::stdin());
                    let text = text.context("failed to read the password")?;
                    Some(text.trim_end_matches(['\r', '\n']).to_owned())
                }
                false => None,
            };
            match access::reset_account(&*store, &name, grant, password).await? {
                Some(made_up) => println!("{name}  {made_up}"),
                None => println!("{name}: set"),
            }
        }
        Command::List => {
            for account in store.accounts().await? {
                println!("{:<24} {}", account.name, account.grant);
            }
        }
        Command::Remove { name } => {
            if !store.remove_account(&name).await? {
                return Err(anyhow::anyhow!("there is no account {name:?}"))
                    .hint("`muster account list` shows them");
            }
            println!("{name}: removed");
        }
    }
    Ok(())
}
