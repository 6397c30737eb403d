//! How a collector is configured. Everything has a default: zero configuration works.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use daemon::config::{Bytes, Span};
use model::{Labels, limits};
use serde::Deserialize;

use crate::logs::LogsConfig;
use crate::probe::{Filter, ProberConfig};
use crate::push::PushConfig;
use crate::uplink::{Target, Token};

/// A report holds the top by CPU, by memory and by disk I/O, and no more than the wire allows.
const PROCESSES_TOP_MAX: usize = limits::PROCESSES_PER_REPORT_MAX / 3;
const WATCHED_MAX: usize = 64;
/// A smaller spool would drop single frames of a large machine.
const SPOOL_SIZE_MIN: u64 = 1024 * 1024;

/// The section `[collector]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the machine id and the spool are kept. Absent: `/var/lib/muster-collector` for root, else
    /// `muster-collector` in the user's state directory.
    pub state_dir: Option<PathBuf>,
    /// Time between frames, unless the aggregator asks for another.
    pub interval: Span,
    /// Labels of this machine.
    pub labels: BTreeMap<String, String>,
    /// Addresses of aggregators. One is used at a time.
    pub aggregators: Vec<String>,
    /// What this collector proves itself with.
    pub token: Option<Secret>,
    pub token_file: Option<PathBuf>,
    /// How to know an aggregator at `https://`.
    pub tls: daemon::tls::ClientConfig,
    pub spool: SpoolConfig,
    pub probes: ProbesConfig,
    pub logs: LogsConfig,
    pub push: PushConfig,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpoolConfig {
    /// What is not acknowledged takes at most this much disk.
    pub size_max: Bytes,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProbesConfig {
    /// Names of probes that stay off.
    pub disabled: Vec<String>,
    /// Time between process reports, unless the aggregator asks for another.
    pub process_interval: Span,
    /// Processes that a report lists for each of CPU, memory and disk I/O.
    pub processes_top: usize,
    /// Where procfs and sysfs are mounted; elsewhere when the host's are mounted into a container.
    pub proc_root: PathBuf,
    pub sys_root: PathBuf,
    /// Globs over mount points.
    pub filesystems: FilterConfig,
    /// Globs over device names.
    pub disks: FilterConfig,
    /// Globs over interface names.
    pub interfaces: FilterConfig,
    /// Sockets of Docker-compatible engines; the first that exists is used.
    pub container_sockets: Vec<PathBuf>,
    /// Globs over names of processes, and of containers: how many run is told of each, also when it is none.
    pub watched_processes: Vec<String>,
    pub watched_containers: Vec<String>,
}

/// What is included wins, then what is excluded, then the probe's own defaults.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilterConfig {
    pub include: Vec<String>,
    pub exclude: Vec<String>,
}

/// A text that is never shown.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: None,
            interval: Span::from_secs(1),
            labels: BTreeMap::new(),
            aggregators: Vec::new(),
            token: None,
            token_file: None,
            tls: daemon::tls::ClientConfig::default(),
            spool: SpoolConfig::default(),
            probes: ProbesConfig::default(),
            logs: LogsConfig::default(),
            push: PushConfig::default(),
        }
    }
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self { size_max: Bytes(256 * 1024 * 1024) }
    }
}

impl Default for ProbesConfig {
    fn default() -> Self {
        let prober = ProberConfig::default();
        Self {
            disabled: prober.disabled,
            process_interval: Span(prober.process_interval),
            processes_top: prober.processes_top,
            proc_root: prober.proc_root,
            sys_root: prober.sys_root,
            filesystems: FilterConfig::default(),
            disks: FilterConfig::default(),
            interfaces: FilterConfig::default(),
            container_sockets: prober.container_sockets,
            watched_processes: prober.watched_processes,
            watched_containers: prober.watched_containers,
        }
    }
}

impl Config {
    /// Where this collector keeps what must survive a restart.
    ///
    /// # Errors
    /// When none is configured and there is no home directory either.
    pub fn state_dir(&self) -> anyhow::Result<PathBuf> {
        if let Some(dir) = &self.state_dir {
            return Ok(dir.clone());
        }
        if rustix::process::geteuid().is_root() {
            return Ok("/var/lib/muster-collector".into());
        }
        let absolute =
            |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
        let base = absolute("XDG_STATE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
            .context("collector.state_dir: not given, and there is no home directory")?;
        Ok(base.join("muster-collector"))
    }

    /// Where to deliver when this collector runs alone.
    ///
    /// # Errors
    /// When no aggregator is configured, or an address or the token cannot be used.
    pub fn target(&self) -> anyhow::Result<Target> {
        let token = match (&self.token, &self.token_file) {
            (Some(_), Some(_)) => {
                bail!("collector.token and collector.token_file: expected one of them, found both")
            }
            (Some(token), None) => Some(Token::new(&token.0).context("collector.token")?),
            (None, Some(path)) => Some(read_token(path)?),
            (None, None) => None,
        };
        let target = Target::urls(&self.aggregators, token)?;
        match target.needs_tls() {
            true => Ok(target.with_tls(daemon::tls::Client::open("collector.tls", &self.tls)?)),
            false => Ok(target),
        }
    }

    /// # Errors
    /// When a value is out of bounds. The message names its key.
    pub fn check(&self) -> anyhow::Result<Labels> {
        check_interval("collector.interval", self.interval)?;
        check_interval("collector.probes.process_interval", self.probes.process_interval)?;
        if self.probes.processes_top > PROCESSES_TOP_MAX {
            let found = self.probes.processes_top;
            bail!(
                "collector.probes.processes_top: expected at most {PROCESSES_TOP_MAX}, found {found}"
            );
        }
        if let Some(unknown) = self.probes.disabled.iter().find(|name| !is_probe(name)) {
            let known = crate::probe::names().collect::<Vec<_>>().join(", ");
            bail!(
                "collector.probes.disabled: there is no probe {unknown:?}; expected some of {known}"
            );
        }
        check_watched("watched_processes", &self.probes.watched_processes)?;
        check_watched("watched_containers", &self.probes.watched_containers)?;
        if self.spool.size_max.0 < SPOOL_SIZE_MIN {
            let (found, min) = (self.spool.size_max, Bytes(SPOOL_SIZE_MIN));
            bail!("collector.spool.size_max: expected at least \"{min}\", found \"{found}\"");
        }
        self.logs.check()?;
        self.push.check()?;
        Labels::new(self.labels.clone()).context("collector.labels")
    }

    pub(crate) fn prober(&self, state_dir: &Path) -> ProberConfig {
        let probes = self.probes.clone();
        ProberConfig {
            proc_root: probes.proc_root,
            sys_root: probes.sys_root,
            state_dir: Some(state_dir.to_owned()),
            disabled: probes.disabled,
            process_interval: probes.process_interval.get(),
            processes_top: probes.processes_top,
            filesystems: probes.filesystems.into(),
            disks: probes.disks.into(),
            interfaces: probes.interfaces.into(),
            container_sockets: probes.container_sockets,
            watched_processes: probes.watched_processes,
            watched_containers: probes.watched_containers,
        }
    }
}

impl From<FilterConfig> for Filter {
    fn from(config: FilterConfig) -> Self {
        Self { include: config.include, exclude: config.exclude }
    }
}

fn check_watched(key: &str, patterns: &[String]) -> anyhow::Result<()> {
    if patterns.len() > WATCHED_MAX {
        let found = patterns.len();
        bail!("collector.probes.{key}: expected at most {WATCHED_MAX} patterns, found {found}");
    }
    for (i, pattern) in patterns.iter().enumerate() {
        let known = patterns[..i].contains(pattern);
        let fits = (1..=model::limits::LABEL_VALUE_BYTES_MAX).contains(&pattern.len());
        if known || !fits || pattern.chars().any(char::is_control) {
            bail!(
                "collector.probes.{key}[{i}]: expected a name or a glob that stands there once, found {pattern:?}"
            );
        }
    }
    Ok(())
}

fn is_probe(name: &str) -> bool {
    crate::probe::names().any(|known| known == name)
}

fn check_interval(key: &str, found: Span) -> anyhow::Result<()> {
    let least = Duration::from_millis(limits::INTERVAL_MS_MIN);
    let most = Duration::from_millis(limits::INTERVAL_MS_MAX);
    if found.get() < least || found.get() > most {
        bail!("{key}: expected \"{}\" to \"{}\", found \"{found}\"", Span(least), Span(most));
    }
    Ok(())
}

fn read_token(path: &Path) -> anyhow::Result<Token> {
    let place = || format!("collector.token_file: {}", path.display());
    let text = std::fs::read_to_string(path).with_context(place)?;
    Token::new(&text).with_context(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_bounds_are_refused_by_key() {
        fn check(change: impl FnOnce(&mut Config), expected: &str) {
            let mut config = Config::default();
            change(&mut config);
            let error = format!("{:#}", config.check().expect_err("accepted"));
            assert!(error.contains(expected), "{error}");
        }
        assert!(Config::default().check().is_ok());
        check(
            |c| c.interval = Span::from_millis(99),
            "collector.interval: expected \"100ms\" to \"1h\", found \"99ms\"",
        );
        check(|c| c.probes.process_interval = Span::from_secs(4000), "process_interval");
        check(
            |c| c.probes.watched_processes = vec!["a".into(), String::new()],
            "collector.probes.watched_processes[1]: expected a name or a glob",
        );
        check(
            |c| c.probes.watched_containers = vec!["a".into(), "a".into()],
            "collector.probes.watched_containers[1]: ",
        );
        check(
            |c| c.probes.processes_top = 334,
            "collector.probes.processes_top: expected at most 333, found 334",
        );
        check(
            |c| c.probes.disabled.push("containers".into()),
            "collector.probes.disabled: there is no probe \"containers\"; expected some of ",
        );
        check(
            |c| c.spool.size_max = Bytes(10),
            "collector.spool.size_max: expected at least \"1MiB\"",
        );
        check(
            |c| drop(c.labels.insert("a b".into(), "x".into())),
            "collector.labels: label name \"a b\"",
        );
    }

    #[test]
    fn a_token_comes_from_one_place_and_is_not_shown() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "from-file\n").expect("written");
        let mut config = Config {
            aggregators: vec!["hub:7071".into()],
            token_file: Some(file.path().to_owned()),
            ..Config::default()
        };
        assert!(config.target().is_ok());
        config.token = Some(Secret::new("s3cret"));
        assert!(config.target().is_err());
        assert!(!format!("{config:?}").contains("s3cret"));
        config.token_file = Some("/nonexistent/token".into());
        config.token = None;
        let error = format!("{:#}", config.target().expect_err("read"));
        assert!(error.contains("collector.token_file: /nonexistent/token"), "{error}");
    }

    #[test]
    fn without_an_aggregator_there_is_a_hint() {
        let error = Config::default().target().expect_err("no aggregator");
        assert!(daemon::hint::of(&error).is_some_and(|hint| hint.contains("--aggregator")));
    }
}
