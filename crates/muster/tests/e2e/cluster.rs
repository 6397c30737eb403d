//! A server and its collectors, as processes of their own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use proto::v1;
use proto::v1::log_service_client::LogServiceClient;
use proto::v1::state_service_client::StateServiceClient;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use crate::eventually::eventually;
use crate::process::{self, Process};

/// Debug executables on a busy machine take their time; nobody waits this long when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A server with a directory of its own, on a port that stays the same across restarts.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) server: Process,
    pub(crate) address: SocketAddr,
    role: &'static str,
    variables: Vec<(String, String)>,
    // Last, so that the processes are gone before their files are.
    dir: TempDir,
}

impl Cluster {
    /// `muster up`, with a collector for this machine inside.
    pub(crate) async fn up() -> Self {
        Self::start("up", &[]).await
    }

    /// `muster aggregator`: only what is connected to it is in it.
    pub(crate) async fn aggregator() -> Self {
        Self::start("aggregator", &[]).await
    }

    pub(crate) async fn start(role: &'static str, variables: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let address = free_address();
        let variables = variables.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let server = Process::start(role, dir.path(), serve(role, address, dir.path(), &variables));
        let mut cluster = Self { server, address, role, variables, dir };
        cluster.is_listening().await;
        cluster
    }

    /// Starts the server again after it was killed or stopped: same port, same data.
    pub(crate) async fn restart(&mut self) {
        let command = serve(self.role, self.address, self.dir.path(), &self.variables);
        self.server = Process::start(self.role, self.dir.path(), command);
        self.is_listening().await;
    }

    async fn is_listening(&mut self) {
        let address = self.address;
        let server = &mut self.server;
        let mut gone = false;
        eventually(PATIENCE, || {
            gone = gone || !server.is_running();
            assert!(!gone, "the server ended instead of listening: {}", server.output());
            async move {
                let connected = tokio::net::TcpStream::connect(address).await;
                connected.map(drop).map_err(|error| error.to_string())
            }
        })
        .await;
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) async fn channel(&self) -> Channel {
        channel(&self.url()).await
    }

    /// A collector of its own machine, connected to `url`.
    pub(crate) fn collector(&self, name: &str, url: &str) -> Process {
        self.collector_every("100ms", name, url)
    }

    pub(crate) fn collector_every(&self, interval: &str, name: &str, url: &str) -> Process {
        self.start_collector(&["--interval", interval], name, url)
    }

    /// With settings of its own; the same file in every life of it.
    pub(crate) fn collector_with(&self, settings: &str, name: &str, url: &str) -> Process {
        let file = self.dir.path().join(format!("{name}.toml"));
        std::fs::write(&file, settings).expect("written");
        let file = file.display().to_string();
        self.start_collector(&["--interval", "100ms", "--config", &file], name, url)
    }

    fn start_collector(&self, arguments: &[&str], name: &str, url: &str) -> Process {
        start_collector(self.dir.path(), arguments, name, url)
    }

    /// GET over HTTP/1.1: status and body.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        get(self.address, path).await
    }
}

/// A collector that keeps its state, and what it says, below the directory.
pub(crate) fn start_collector(dir: &Path, arguments: &[&str], name: &str, urls: &str) -> Process {
    let state_dir = dir.join(name);
    // Separate machines have separate ids; here they share one kernel.
    std::fs::create_dir_all(&state_dir).expect("a state directory");
    let mut command = process::collector();
    command
        .args(["--aggregator", urls, "--label", &format!("name={name}")])
        .args(arguments)
        .arg("--state-dir")
        .arg(&state_dir);
    Process::start(name, dir, command)
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let head = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    ask(address, &head).await.expect("answers")
}

/// POST of JSON over HTTP/1.1: status and body.
///
/// # Errors
/// When nobody listens, or whoever does went away before it answered.
pub(crate) async fn post_json(
    address: SocketAddr,
    path: &str,
    body: &str,
) -> std::io::Result<(u16, String)> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    ask(address, &(head + body)).await
}

/// A form of a page of this server, sent as a browser does: status and body.
pub(crate) async fn post_form(address: SocketAddr, path: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\norigin: http://{address}\r\nconnection: close\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {length}\r\n\r\n"
    );
    ask(address, &(head + body)).await.expect("answers")
}

async fn ask(address: SocketAddr, request: &str) -> std::io::Result<(u16, String)> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.get(9..12).and_then(|code| code.parse().ok());
    let status = status.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
    Ok((status, body))
}

pub(crate) async fn channel(url: &str) -> Channel {
    let endpoint = Endpoint::from_shared(url.to_owned()).expect("a url");
    eventually(PATIENCE, || async { endpoint.connect().await.map_err(|e| e.to_string()) }).await
}

/// Machines as the server lists them.
pub(crate) async fn machines(channel: Channel) -> Vec<v1::Machine> {
    let mut client = StateServiceClient::new(channel);
    let answer = client.list_machines(v1::ListMachinesRequest::default()).await;
    answer.expect("answers").into_inner().machines
}

/// Log events in history that the query finds, the oldest first.
pub(crate) async fn logged(channel: Channel, query: &str) -> Vec<v1::LogEntry> {
    let mut client = LogServiceClient::new(channel);
    let mut entries = Vec::new();
    let mut page_token = String::new();
    loop {
        let page_size = 1_000;
        let query = query.to_owned();
        let request = v1::SearchRequest { query, page_size, page_token, ..Default::default() };
        let answer = client.search(request).await.expect("answers").into_inner();
        entries.extend(answer.entries);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            entries.reverse();
            return entries;
        }
    }
}

fn serve(
    role: &str,
    address: SocketAddr,
    dir: &Path,
    variables: &Vec<(String, String)>,
) -> Command {
    let mut command = process::muster();
    command.args([role, "--listen", &address.to_string()]).arg("--data-dir").arg(dir.join("data"));
    for (name, value) in variables {
        command.env(name, value);
    }
    command
}

/// A port that was free a moment ago. The server must have the same one after each restart, so it cannot
/// choose it itself.
pub(crate) fn free_address() -> SocketAddr {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    taken.local_addr().expect("an address")
}
