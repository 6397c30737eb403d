//! `muster top`: the fleet, or what one machine runs, live in a terminal.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use model::UnixMillis;
use proto::v1::state_service_client::StateServiceClient;
use proto::{Link, v1};
use tonic::{Code, Status};

use crate::remote;

mod screen;

use screen::{Picture, Sort, Terminal};

/// Show the fleet live in the terminal, or the processes of one machine
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  muster top                            every machine, the busiest first
  muster top --label env=prod --sort memory
  muster top web-1                      what one machine runs
  muster top --once                     one picture, for a script

Ctrl-C ends it. Where the output is no terminal, one picture is printed.")]
pub(crate) struct Args {
    /// Its host name, its id, or the beginning of its id: show its processes. Absent: all machines
    machine: Option<String>,
    /// What comes first
    #[arg(long, value_enum, default_value_t = Sort::Cpu)]
    sort: Sort,
    /// Only machines with this label
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label, conflicts_with = "machine")]
    labels: Vec<(String, String)>,
    /// Print one picture and end
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    server: remote::Flags,
}

/// Tens of thousands of machines.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Collectors report processes every five seconds.
const PROCESSES_EVERY: Duration = Duration::from_secs(2);
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE, such as env=prod")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(crate) async fn run(args: Args) -> Result<()> {
    let once = args.once || !std::io::stdout().is_terminal();
    let state = StateServiceClient::new(args.server.connect().await?)
        .max_decoding_message_size(ANSWER_BYTES_MAX);
    let look = Look { state, machine: args.machine, labels: args.labels, sort: args.sort };
    if once {
        let picture = look.once().await?;
        let (columns, _) = screen::size();
        // However many there are: a script wants all of them.
        return match std::io::stdout().write_all(picture.plain(columns).as_bytes()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            written => Ok(written?),
        };
    }
    // The first answer tells whether there is anything to look at, before the screen is taken.
    let first = look.once().await?;
    // Whoever ends it, the screen is given back.
    let ended = daemon::shutdown::on_signal();
    let mut terminal = Terminal::take()?;
    terminal.show(&first)?;
    tokio::select! {
        failed = look.live(&mut terminal, first) => failed,
        () = ended.cancelled() => Ok(()),
    }
}

/// What is looked at.
struct Look {
    state: StateServiceClient<Link>,
    machine: Option<String>,
    labels: Vec<(String, String)>,
    sort: Sort,
}

impl Look {
    fn matchers(&self) -> Vec<v1::LabelMatcher> {
        let matcher = |(name, value): &(String, String)| v1::LabelMatcher {
            name: name.clone(),
            op: v1::label_matcher::Op::Equal.into(),
            value: value.clone(),
        };
        self.labels.iter().map(matcher).collect()
    }

    async fn once(&self) -> Result<Picture> {
        let picture = match &self.machine {
            Some(machine) => self.processes(machine).await,
            None => self.fleet().await,
        };
        picture.map_err(|status| remote::refused(&status))
    }

    async fn fleet(&self) -> Result<Picture, Status> {
        let request = v1::ListMachinesRequest { matchers: self.matchers() };
        let answer = self.state.clone().list_machines(request).await?.into_inner();
        Ok(screen::fleet(&answer.machines, self.sort, now()))
    }

    async fn processes(&self, machine: &str) -> Result<Picture, Status> {
        let mut state = self.state.clone();
        let asked = v1::GetMachineRequest { machine: machine.to_owned() };
        let known = state.get_machine(asked).await?.into_inner().machine.unwrap_or_default();
        let asked = v1::ListProcessesRequest { machine: known.id.clone(), at: None };
        let report = state.list_processes(asked).await?.into_inner();
        Ok(screen::processes(&known, &report, self.sort, now()))
    }

    /// Until somebody ends it. What is lost on the way comes back by itself, and what is shown meanwhile says
    /// that it is old.
    async fn live(&self, terminal: &mut Terminal, mut picture: Picture) -> Result<()> {
        loop {
            let ended = match &self.machine {
                Some(machine) => self.poll(machine, terminal, &mut picture).await,
                None => self.watch(terminal, &mut picture).await,
            };
            let status = match ended? {
                Ended::Refused(status) if is_final(&status) => bail!(remote::refused(&status)),
                Ended::Refused(status) => status.message().to_owned(),
                Ended::Stream => "the server ended the stream".to_owned(),
            };
            picture.trouble = Some(status);
            terminal.show(&picture)?;
            tokio::time::sleep(RECONNECT_AFTER).await;
        }
    }

    async fn poll(
        &self,
        machine: &str,
        terminal: &mut Terminal,
        shown: &mut Picture,
    ) -> Result<Ended> {
        loop {
            match self.processes(machine).await {
                Ok(picture) => *shown = picture,
                Err(status) => return Ok(Ended::Refused(status)),
            }
            terminal.show(shown)?;
            tokio::time::sleep(PROCESSES_EVERY).await;
        }
    }

    async fn watch(&self, terminal: &mut Terminal, shown: &mut Picture) -> Result<Ended> {
        let request = v1::WatchRequest { matchers: self.matchers(), interval: None };
        let mut changes = match self.state.clone().watch(request).await {
            Ok(changes) => changes.into_inner(),
            Err(status) => return Ok(Ended::Refused(status)),
        };
        let mut machines: BTreeMap<String, v1::Machine> = BTreeMap::new();
        loop {
            let change = match changes.message().await {
                Ok(Some(change)) => change,
                Ok(None) => return Ok(Ended::Stream),
                Err(status) => return Ok(Ended::Refused(status)),
            };
            if change.snapshot {
                machines.clear();
            }
            for id in &change.removed_machine_ids {
                machines.remove(id);
            }
            machines.extend(change.machines.into_iter().map(|m| (m.id.clone(), m)));
            let all: Vec<v1::Machine> = machines.values().cloned().collect();
            *shown = screen::fleet(&all, self.sort, now());
            terminal.show(shown)?;
        }
    }
}

enum Ended {
    Stream,
    Refused(Status),
}

/// Trying again would be answered alike.
fn is_final(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::NotFound
            | Code::FailedPrecondition
            | Code::InvalidArgument
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
    )
}

fn now() -> i64 {
    UnixMillis::from(SystemTime::now()).0
}
