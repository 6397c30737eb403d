//! `muster alerts dead`: events that the alert services could not process.

use proto::v1;
use proto::v1::alert_service_client::AlertServiceClient;

use crate::remote;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    server: remote::Flags,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List them, the oldest first, with the reason
    List,
    /// Give them to the alert services again
    Retry {
        /// As the list shows them
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Forget them
    Discard {
        /// As the list shows them
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

/// Most that one answer has, and more than are kept.
const LIST_MAX: u32 = 1_000;

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let mut alerts = AlertServiceClient::new(args.server.connect().await?);
    match args.command {
        Command::List => {
            let request = v1::ListDeadEventsRequest { limit: LIST_MAX };
            let answer = alerts.list_dead_events(request).await;
            let events = answer.map_err(|status| remote::refused(&status))?.into_inner().events;
            list(&events);
        }
        Command::Retry { ids } => {
            for id in ids {
                let request = v1::RetryDeadEventRequest { id: id.clone() };
                let answer = alerts.retry_dead_event(request).await;
                answer.map_err(|status| remote::refused(&status))?;
                println!("{id}: given to the alert services again");
            }
        }
        Command::Discard { ids } => {
            for id in ids {
                let request = v1::DiscardDeadEventRequest { id: id.clone() };
                let answer = alerts.discard_dead_event(request).await;
                answer.map_err(|status| remote::refused(&status))?;
                println!("{id}: discarded");
            }
        }
    }
    Ok(())
}

fn list(events: &[v1::DeadEvent]) {
    if events.is_empty() {
        println!("no events are set aside");
        return;
    }
    println!("{:<32} {:<20} {:<32} {:<13} REASON", "ID", "SINCE", "MACHINE", "KIND");
    // What stands in the stream must not command the terminal.
    let plain = |text: &str| text.chars().filter(|c| !c.is_control()).collect::<String>();
    for event in events {
        let since = event.since.map_or(String::new(), |time| format!("{:.19}Z", time.to_string()));
        let (machine, kind, reason) =
            (plain(&event.machine_id), plain(&event.kind), plain(&event.reason));
        let cut = if event.can_be_retried { "" } else { " (too large to be retried)" };
        println!("{:<32} {since:<20} {machine:<32} {kind:<13} {reason}{cut}", event.id);
    }
}
