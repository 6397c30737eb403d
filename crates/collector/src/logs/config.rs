//! What the machine's owner wants read, and what an aggregator may ask for.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::bail;
use serde::Deserialize;

const PRIORITIES: [&str; 8] =
    ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// The section `[collector.logs]`. Nothing is read by default.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogsConfig {
    /// Of one file, of one service in the journal or in syslog; what comes faster is dropped, counted and told.
    /// 0: no limit.
    pub events_per_second_max: u32,
    pub files: Vec<FilesConfig>,
    pub containers: ContainersConfig,
    pub journald: JournaldConfig,
    pub syslog: SyslogConfig,
    /// By flag alone: a server that is given a file must not end with an input that it does not have.
    #[serde(skip)]
    pub stdin: StdinConfig,
}

/// The section `[collector.logs.containers]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContainersConfig {
    pub enabled: bool,
    /// Globs over the files that engines write: JSON by Docker, prefixed lines by Podman.
    pub include: Vec<String>,
}

/// The section `[collector.logs.syslog]`: what programs on this machine send.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SyslogConfig {
    pub enabled: bool,
    /// For UDP and TCP; an address of this machine alone.
    pub listen: SocketAddr,
}

/// What is piped into the collector, which ends with it.
#[derive(Clone, Debug)]
pub struct StdinConfig {
    pub enabled: bool,
    /// Where the line says none.
    pub service: String,
}

/// Files that are read alike.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) files: FilesConfig,
    /// Their lines are in the envelopes of a container engine.
    pub(super) of_containers: bool,
}

/// The section `[collector.logs.journald]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JournaldConfig {
    pub enabled: bool,
    /// Units, or globs over them; none: all.
    pub units: Vec<String>,
    /// The least important to read, as journalctl has it: "warning", "info"; absent: everything.
    pub priority: Option<String>,
    /// What reads the journal.
    pub program: PathBuf,
}

/// One table of `[[collector.logs.files]]`: files that are read alike.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilesConfig {
    /// Globs over absolute paths: `*` and `?` within one name, `**` for any directories.
    pub include: Vec<String>,
    /// Globs over whole paths; here `*` stands for slashes too.
    pub exclude: Vec<String>,
    /// Absent: what the line says, else a name made from the path.
    pub service: Option<String>,
    /// Where to start in a file that is there when its glob is seen for the first time.
    pub start: Start,
    /// Whether stack traces and indented lines belong to the line before them.
    pub multiline: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// With what is written from now on.
    #[default]
    End,
    Beginning,
}

impl Default for LogsConfig {
    fn default() -> Self {
        Self {
            events_per_second_max: 10_000,
            files: Vec::new(),
            containers: ContainersConfig::default(),
            journald: JournaldConfig::default(),
            syslog: SyslogConfig::default(),
            stdin: StdinConfig::default(),
        }
    }
}

impl Default for SyslogConfig {
    fn default() -> Self {
        Self { enabled: false, listen: SocketAddr::from(([127, 0, 0, 1], 5514)) }
    }
}

impl Default for StdinConfig {
    fn default() -> Self {
        Self { enabled: false, service: "stdin".to_owned() }
    }
}

impl Default for FilesConfig {
    fn default() -> Self {
        Self {
            include: Vec::new(),
            exclude: Vec::new(),
            service: None,
            start: Start::End,
            multiline: true,
        }
    }
}

impl Default for JournaldConfig {
    fn default() -> Self {
        Self { enabled: false, units: Vec::new(), priority: None, program: "journalctl".into() }
    }
}

impl Default for ContainersConfig {
    fn default() -> Self {
        let include = [
            "/var/lib/docker/containers/*/*-json.log",
            "/var/lib/containers/storage/overlay-containers/*/userdata/ctr.log",
        ];
        Self { enabled: false, include: include.map(str::to_owned).into() }
    }
}

impl LogsConfig {
    /// What files to read, containers first: a file belongs to the first section that leads to it.
    pub(super) fn sections(&self) -> Vec<Section> {
        let containers = self.containers.enabled.then(|| {
            let include = self.containers.include.clone();
            Section {
                files: FilesConfig { include, ..FilesConfig::default() },
                of_containers: true,
            }
        });
        let files = self.files.iter().cloned();
        let files = files.map(|files| Section { files, of_containers: false });
        containers.into_iter().chain(files).collect()
    }

    /// # Errors
    /// When a value cannot be used. The message names its key.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        for (i, files) in self.files.iter().enumerate() {
            let key = format!("collector.logs.files[{i}]");
            if files.include.is_empty() {
                bail!("{key}.include: expected globs such as \"/var/log/*.log\", found none");
            }
            for glob in &files.include {
                check_glob(&format!("{key}.include"), glob)?;
            }
            if files.service.as_ref().is_some_and(|name| name.is_empty() || name.len() > 255) {
                bail!("{key}.service: expected 1 to 255 bytes");
            }
        }
        for glob in &self.containers.include {
            check_glob("collector.logs.containers.include", glob)?;
        }
        check_loopback("collector.logs.syslog.listen", self.syslog.listen)?;
        if self.stdin.service.is_empty() || self.stdin.service.len() > 255 {
            bail!("--stdin: expected 1 to 255 bytes");
        }
        if let Some(priority) = &self.journald.priority
            && !PRIORITIES.contains(&priority.as_str())
        {
            let expected = PRIORITIES.join("\", \"");
            bail!(
                "collector.logs.journald.priority: expected one of \"{expected}\", found {priority:?}"
            );
        }
        Ok(())
    }
}

/// Nobody else than this machine is listened to.
pub(crate) fn check_loopback(key: &str, address: SocketAddr) -> anyhow::Result<()> {
    if !address.ip().is_loopback() {
        bail!(
            "{key}: expected an address that only this machine reaches, such as \"127.0.0.1:{}\", found \"{address}\"",
            address.port()
        );
    }
    Ok(())
}

pub(super) fn check_glob(key: &str, glob: &str) -> anyhow::Result<()> {
    let path = Path::new(glob);
    if !path.is_absolute() {
        bail!("{key}: expected an absolute path such as \"/var/log/*.log\", found {glob:?}");
    }
    if path.components().any(|part| part == std::path::Component::ParentDir) {
        bail!("{key}: expected a path without \"..\", found {glob:?}");
    }
    Ok(())
}
