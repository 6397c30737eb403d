//! The real Redis and TimescaleDB that the tests of the server stores talk to.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

pub use self::root::DebianRoot;
pub use self::server::Server;
use crate::shell;

mod root;
mod server;

const REDIS: &str = "MUSTER_TEST_REDIS_URL";
const TIMESCALE: &str = "MUSTER_TEST_TIMESCALE_URL";

/// Servers for tests: those that the environment names, else private ones on free loopback ports, which
/// are stopped, and their data deleted, when this is dropped.
#[derive(Debug)]
pub struct Services {
    variables: Vec<(&'static str, String)>,
    servers: Vec<Server>,
}

impl Services {
    /// Where private servers are needed and cannot be had, an error under `CI=true`, else a line that says
    /// what will be skipped.
    pub fn start() -> Result<Self> {
        let given = |name| std::env::var(name).ok().filter(|url| !url.is_empty());
        let mut services = Self { variables: Vec::new(), servers: Vec::new() };
        let mut missing = Vec::new();
        for name in [REDIS, TIMESCALE] {
            match given(name) {
                Some(url) => services.variables.push((name, url)),
                None => missing.push(name),
            }
        }
        if missing.is_empty() {
            return Ok(services);
        }
        if let Err(error) = services.start_private(&missing) {
            if std::env::var("CI").is_ok_and(|ci| ci == "true") {
                return Err(error);
            }
            eprintln!("note: what needs {} will be skipped: {error:#}", missing.join(" and "));
        }
        Ok(services)
    }

    /// What the tests find the servers by.
    pub fn variables(&self) -> &[(&'static str, String)] {
        &self.variables
    }

    fn start_private(&mut self, names: &[&'static str]) -> Result<()> {
        let root = DebianRoot::make_available(&cache())?;
        for &name in names {
            let server = match name {
                REDIS => Server::redis(&root),
                _ => Server::timescale(&root),
            };
            let server = server.with_context(|| format!("failed to start a server for {name}"))?;
            self.variables.push((name, server.url().to_owned()));
            self.servers.push(server);
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<()> {
        match self.servers.first_mut() {
            Some(server) => server.wait(),
            None => bail!("there is nothing to wait for: the environment names both servers"),
        }
    }
}

/// `cargo xtask services [COMMAND…]`: runs a command with the servers, or keeps them until it is
/// interrupted.
pub fn run(command: &[String]) -> Result<()> {
    let mut services = Services::start()?;
    let Some((program, args)) = command.split_first() else {
        for (name, url) in services.variables() {
            println!("export {name}='{url}'");
        }
        eprintln!("note: the servers run until this is interrupted");
        return services.wait();
    };
    let mut command = Command::new(program);
    command.args(args).envs(services.variables().iter().map(|(name, url)| (name, url)));
    shell::run(command)
}

/// Where the root is kept.
pub fn cache() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/services")
}
