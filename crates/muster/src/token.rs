//! `muster token`: makes, lists and revokes tokens, in the stores themselves: whoever can write there may.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::bail;
use daemon::config::Span;
use daemon::hint::WithHint as _;
use model::{Grant, UnixMillis};
use storage::Credentials;
use storage::credentials::CredentialKind;

use crate::{config, data_dir};

/// Make, list and revoke tokens: for collectors, scripts and gateways
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  muster token create web-1
  muster token create fleet --grant report:any
  muster token create shop --grant push
  muster token create grafana --grant read --expires-in 90d
  muster token list
  muster token revoke k3v9x2mq7a

Works beside a running server, which knows of it within seconds, on the machine that has its data \
directory or with the settings that name its stores. A token is shown once, when it is made.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    stores: StoresFlags,
}

/// Where the server keeps its tokens.
#[derive(Debug, clap::Args)]
pub(crate) struct StoresFlags {
    #[command(flatten)]
    data_dir: data_dir::Flag,
    /// Settings file of the server (TOML)
    #[arg(long, global = true, value_name = "FILE", env = "MUSTER_CONFIG")]
    config: Option<PathBuf>,
}

impl StoresFlags {
    pub(crate) async fn open(self) -> anyhow::Result<Arc<dyn Credentials>> {
        let config = config::read(self.config.as_deref())?;
        let data_dir = self.data_dir.path()?;
        if !data_dir.is_dir() && config.storage.history.kind == storage::config::HistoryKind::Sqlite
        {
            return Err(anyhow::anyhow!("there is no data directory {}", data_dir.display()))
                .hint("name the server's with --data-dir, or start the server first");
        }
        Ok(storage::open_credentials(&config.storage, &data_dir).await?)
    }
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a token and print it
    Create {
        /// What to call it
        name: String,
        /// What its bearer may do: read, admin, push (events and metrics of programs, under the token's name), report:any, report:first (the first machine that uses it), or report: and a machine's id
        #[arg(long, default_value = "report:first", value_name = "GRANT")]
        grant: Grant,
        /// Stop accepting it after this time: 12h, 90d
        #[arg(long, value_name = "TIME")]
        expires_in: Option<Span>,
    },
    /// List tokens, without their secrets
    List,
    /// Stop accepting a token; what its bearer has open is cut
    Revoke {
        /// Its id, as `muster token list` shows it
        id: String,
    },
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let store = args.stores.open().await?;
    match args.command {
        Command::Create { name, grant, expires_in } => {
            let expires = expires_in
                .map(|span| now() + i64::try_from(span.get().as_millis()).unwrap_or(i64::MAX / 2));
            let made = access::create_token(&*store, &name, grant, expires, "command line").await?;
            println!("{made}");
        }
        Command::List => list(&*store).await?,
        Command::Revoke { id } => {
            if !store.remove(&id).await? {
                return Err(anyhow::anyhow!("there is no token {id:?}"))
                    .hint("`muster token list` shows them with their ids");
            }
            println!("{id}: revoked");
        }
    }
    Ok(())
}

async fn list(store: &dyn Credentials) -> anyhow::Result<()> {
    let all = store.all().await?;
    let tokens: Vec<_> = all.iter().filter(|c| c.kind == CredentialKind::Token).collect();
    if tokens.is_empty() {
        bail!("there are no tokens yet");
    }
    println!("{:<12} {:<44} {:<20} {:<20} NAME", "ID", "GRANT", "CREATED", "USED");
    for token in tokens {
        let used = token.used.map_or("never".to_owned(), |time| time.to_string());
        let created = token.created.to_string();
        println!(
            "{:<12} {:<44} {created:<20.19} {used:<20.19} {}",
            token.id,
            token.grant.to_string(),
            token.name
        );
    }
    Ok(())
}

fn now() -> UnixMillis {
    SystemTime::now().into()
}
