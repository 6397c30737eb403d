//! `muster machine`: which machines a server knows, and forgetting one.

use anyhow::bail;
use proto::v1;
use proto::v1::state_service_client::StateServiceClient;

use crate::remote;

/// List the machines that a server knows, and remove one for good
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  muster machine list
  muster machine remove old-nas
  muster machine remove 3d1219c7 --url http://10.0.0.5:7070 --token-file admin.token

A machine goes with its values, its logs and its events. One that reports is not removed: stop its collector \
first. Should it report again, it is a new machine.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    server: remote::Flags,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List machines by name
    List,
    /// Forget a machine and everything that was kept of it
    #[command(visible_alias = "rm")]
    Remove {
        /// Its host name, its id, or the beginning of its id
        machine: String,
    },
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let mut state = StateServiceClient::new(args.server.connect().await?)
        .max_decoding_message_size(ANSWER_BYTES_MAX);
    match args.command {
        Command::List => {
            let answer = state.list_machines(v1::ListMachinesRequest::default()).await;
            list(&answer.map_err(|status| remote::refused(&status))?.into_inner().machines)
        }
        Command::Remove { machine } => {
            let answer = state.remove_machine(v1::RemoveMachineRequest { machine }).await;
            let removed = answer.map_err(|status| remote::refused(&status))?.into_inner();
            println!("{} ({}): removed", removed.host_name, removed.machine_id);
            Ok(())
        }
    }
}

/// Tens of thousands of machines.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

fn list(machines: &[v1::Machine]) -> anyhow::Result<()> {
    if machines.is_empty() {
        bail!("there are no machines yet");
    }
    println!("{:<32} {:<8} {:<20} NAME", "ID", "STATUS", "LAST SEEN");
    for machine in machines {
        let status = machine.status().as_str_name().trim_start_matches("MACHINE_STATUS_");
        let seen = machine
            .last_seen
            .map_or_else(|| "never".to_owned(), |time| format!("{:.19}Z", time.to_string()));
        // What a machine calls itself must not command the terminal.
        let name: String = machine.host_name.chars().filter(|c| !c.is_control()).collect();
        println!("{:<32} {:<8} {seen:<20} {name}", machine.id, status.to_lowercase());
    }
    Ok(())
}
