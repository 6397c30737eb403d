//! One server in the Debian root: its own port on the loopback, its own password, its own data.

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::root::DebianRoot;
use crate::shell;

const POSTGRES: &str = "/usr/lib/postgresql/17/bin";
const START_MAX: Duration = Duration::from_secs(60);
const STOP_MAX: Duration = Duration::from_secs(20);

/// Stopped when dropped. It can be stopped and started again before, on the same port.
#[derive(Debug)]
pub struct Server {
    process: Child,
    /// How it is started, and what succeeds once it is ready.
    command: Command,
    ready: Command,
    signal: Signal,
    url: String,
    data: Data,
}

impl Server {
    /// Keeps nothing on disk: started again it is empty.
    ///
    /// # Errors
    /// When it does not start.
    pub fn redis(root: &DebianRoot) -> Result<Self> {
        let data = Data::new(root, "redis")?;
        let (port, password) = (free_port()?, password()?);
        // Not on the command line, where every user of this machine could read it.
        data.write("redis.conf", &format!("requirepass {password}\n"))?;
        let mut command = root.command("redis", "TERM", "/usr/bin/redis-server");
        command
            .arg(data.inside("redis.conf"))
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir", &data.inside("")])
            .args(["--save", "", "--appendonly", "no"]);
        let url = format!("redis://:{password}@127.0.0.1:{port}/0");
        let mut ping = root.command("redis", "TERM", "/usr/bin/redis-cli");
        ping.args(["-p", &port.to_string(), "ping"]).env("REDISCLI_AUTH", &password);
        Self::launch(command, ping, Signal::TERM, url, data)
    }

    /// # Errors
    /// When it does not start.
    pub fn timescale(root: &DebianRoot) -> Result<Self> {
        let data = Data::new(root, "postgres")?;
        let (port, password) = (free_port()?, password()?);
        data.write("password", &password)?;
        let mut initdb = root.command("postgres", "TERM", &format!("{POSTGRES}/initdb"));
        initdb
            .args([
                "--no-sync",
                "--username=muster",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
            ])
            .args([format!("--pwfile={}", data.inside("password")), data.inside("cluster")])
            .stdout(Stdio::null());
        shell::run(initdb)?;
        let mut command = root.command("postgres", "INT", &format!("{POSTGRES}/postgres"));
        command.args(["-D", &data.inside("cluster"), "-p", &port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            // The root has no /dev/shm of its own.
            "dynamic_shared_memory_type=mmap",
            "shared_preload_libraries=timescaledb",
            "timescaledb.telemetry_level=off",
            "shared_buffers=256MB",
            "max_wal_size=4GB",
            "max_connections=200",
        ] {
            command.args(["-c", setting]);
        }
        let url = format!("postgres://muster:{password}@127.0.0.1:{port}/postgres");
        let mut ready = root.command("postgres", "TERM", &format!("{POSTGRES}/pg_isready"));
        ready.args(["--quiet", "--host=127.0.0.1", &format!("--port={port}")]);
        Self::launch(command, ready, Signal::INT, url, data)
    }

    /// Another program of the root that serves on a port of the loopback; `args` are made from the port
    /// and the data directory as the program sees it.
    ///
    /// # Errors
    /// When it does not start.
    pub fn program(
        root: &DebianRoot,
        program: &str,
        args: impl FnOnce(u16, &str) -> Vec<String>,
    ) -> Result<Self> {
        // Any account without rights does.
        const USER: &str = "redis";
        let data = Data::new(root, USER)?;
        let port = free_port()?;
        let mut command = root.command(USER, "TERM", program);
        command.args(args(port, &data.inside("data")));
        let mut listens = Command::new("bash");
        listens.args(["-c", &format!(": < /dev/tcp/127.0.0.1/{port}")]);
        let url = format!("http://127.0.0.1:{port}");
        Self::launch(command, listens, Signal::TERM, url, data)
    }

    /// What the database answers to a statement, as `psql` prints it without any ornament.
    ///
    /// # Errors
    /// When it is refused.
    pub fn sql(&self, root: &DebianRoot, statement: &str) -> Result<String> {
        let address = self.url.strip_prefix("postgres://muster:").and_then(|rest| {
            let (password, rest) = rest.split_once("@127.0.0.1:")?;
            Some((password, rest.split_once('/')?.0))
        });
        let (password, port) = address.context("this server is no database")?;
        let mut psql = root.command("postgres", "TERM", "/usr/bin/psql");
        psql.args(["--host=127.0.0.1", "--username=muster", "--dbname=postgres", "--port", port])
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--command", statement])
            // Not on the command line, as above.
            .env("PGPASSWORD", password);
        Ok(shell::read(psql)?.trim().to_owned())
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Where it keeps what it stores.
    pub fn data_dir(&self) -> &Path {
        &self.data.path
    }

    pub(super) fn wait(&mut self) -> Result<()> {
        let status = self.process.wait()?;
        bail!("a server ended: {status}\n{}", self.data.log_tail())
    }

    fn launch(
        mut command: Command,
        ready: Command,
        signal: Signal,
        url: String,
        data: Data,
    ) -> Result<Self> {
        let log = fs::File::create(data.outside("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = command.spawn().context("failed to start chroot")?;
        let mut server = Self { process, command, ready, signal, url, data };
        server.until_ready()?;
        Ok(server)
    }

    /// Starts it again after it was [stopped](Self::stop).
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(&mut self) -> Result<()> {
        self.process = self.command.spawn().context("failed to start chroot")?;
        self.until_ready()
    }

    fn until_ready(&mut self) -> Result<()> {
        let start = Instant::now();
        while !shell::succeeds(&mut self.ready) {
            if let Some(status) = self.process.try_wait()? {
                bail!("it ended at once: {status}\n{}", self.data.log_tail());
            }
            if start.elapsed() > START_MAX {
                bail!("it is not ready after {START_MAX:?}\n{}", self.data.log_tail());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Asks it to stop and waits.
    ///
    /// # Errors
    /// When it had to be killed.
    pub fn stop(&mut self) -> Result<()> {
        if self.process.try_wait()?.is_some() {
            return Ok(());
        }
        kill_process(Pid::from_child(&self.process), self.signal)?;
        let asked = Instant::now();
        while asked.elapsed() < STOP_MAX {
            if self.process.try_wait()?.is_some() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.process.kill()?;
        self.process.wait()?;
        bail!("it had to be killed")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("note: failed to stop a test server: {error}");
        }
    }
}

/// A directory inside the root that belongs to one of its users and goes when this is dropped.
#[derive(Debug)]
struct Data {
    name: String,
    path: PathBuf,
    owner: (u32, u32),
}

impl Data {
    fn new(root: &DebianRoot, user: &str) -> Result<Self> {
        let owner = owner(root.path(), user)?;
        // Several servers may have the same user.
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("/tmp/muster-{}-{user}-{number}", std::process::id());
        let path = root.path().join(&name[1..]);
        fs::create_dir(&path)?;
        let data = Self { name, path, owner };
        fs::set_permissions(&data.path, fs::Permissions::from_mode(0o700))?;
        chown(&data.path, Some(owner.0), Some(owner.1))?;
        Ok(data)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.outside(name);
        fs::write(&path, text)?;
        Ok(chown(&path, Some(self.owner.0), Some(self.owner.1))?)
    }

    fn outside(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// As the server sees it.
    fn inside(&self, name: &str) -> String {
        format!("{}/{name}", self.name)
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.outside("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("note: failed to remove {}: {error}", self.path.display());
        }
    }
}

fn owner(root: &Path, user: &str) -> Result<(u32, u32)> {
    let users = fs::read_to_string(root.join("etc/passwd"))?;
    users
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            let found = fields.next() == Some(user);
            let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            found.then_some((uid, gid))
        })
        .with_context(|| format!("there is no user {user} in {}", root.display()))
}

/// Free a moment ago; another program could take it before the server does, which then says so.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn password() -> Result<String> {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
