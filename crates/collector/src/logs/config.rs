//! What the machine's owner wants read, and what an aggregator may ask for.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::bail;
use serde::Deserialize;

use super::asked::{Asked, Gate};

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
    pub allow: AllowConfig,
    /// By flag alone: a server that is given a file must not end with an input that it does not have.
    #[serde(skip)]
    pub stdin: StdinConfig,
}

/// The section `[collector.logs.allow]`: what an aggregator may ask to be read besides. Nothing by default.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AllowConfig {
    /// Globs over absolute paths, as in `include`.
    pub files: Vec<String>,
    /// Units of the journal, or globs over them; `*` is all of it.
    pub units: Vec<String>,
    /// Containers by name, or globs over names.
    pub containers: Vec<String>,
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
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Section {
    pub(super) files: FilesConfig,
    /// Their lines are in the envelopes of a container engine.
    pub(super) of_containers: bool,
    pub(super) gate: Gate,
}

/// What is to be read of what can be switched while the collector runs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) sections: Vec<Section>,
    /// `None`: not at all.
    pub(super) journald: Option<JournaldConfig>,
}

/// The section `[collector.logs.journald]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Deserialize)]
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
            allow: AllowConfig::default(),
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
    /// What to read: what the owner wants, then what is asked for. A file belongs to the first section that leads
    /// to it, containers first.
    pub(super) fn plan(&self, asked: &Asked) -> Plan {
        let files_of = |include: &[String]| {
            let include = include.to_vec();
            FilesConfig { include, ..FilesConfig::default() }
        };
        let containers = |gate: Gate| Section {
            files: files_of(&self.containers.include),
            of_containers: true,
            gate,
        };
        let own_containers = self.containers.enabled.then(|| containers(Gate::Open));
        let own_files = self.files.iter().cloned();
        let own_files =
            own_files.map(|files| Section { files, of_containers: false, gate: Gate::Open });
        let asked_containers = asked.containers.iter().map(|name| {
            let allowed = self.allow.containers.clone();
            containers(Gate::Containers { asked: name.clone(), allowed })
        });
        let asked_files = asked.files.iter().map(|glob| {
            let gate = Gate::Paths(self.allow.files.clone());
            Section { files: files_of(std::slice::from_ref(glob)), of_containers: false, gate }
        });
        let sections = own_containers.into_iter().chain(own_files);
        let sections = sections.chain(asked_containers).chain(asked_files).collect();
        Plan { sections, journald: self.journal(asked) }
    }

    fn journal(&self, asked: &Asked) -> Option<JournaldConfig> {
        let mut journald = self.journald.clone();
        match journald.enabled {
            true if journald.units.is_empty() => {}
            true => journald.units.extend(asked.units.iter().cloned()),
            false => journald.units.clone_from(&asked.units),
        }
        // One that asks for all makes the others needless.
        if journald.units.iter().any(|unit| unit == "*") {
            journald.units.clear();
        } else if !journald.enabled && journald.units.is_empty() {
            return None;
        }
        journald.enabled = true;
        Some(journald)
    }

    /// Whether files may have to be read, now or when they are asked for.
    pub(super) fn may_read_files(&self) -> bool {
        let asked = !self.allow.files.is_empty() || !self.allow.containers.is_empty();
        asked || self.containers.enabled || !self.files.is_empty()
    }

    pub(super) fn may_read_journal(&self) -> bool {
        self.journald.enabled || !self.allow.units.is_empty()
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
        for glob in &self.allow.files {
            check_glob("collector.logs.allow.files", glob)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_joins_what_the_owner_wants_of_the_journal() {
        fn check(enabled: bool, own: &[&str], asked: &[&str], expected: Option<&[&str]>) {
            let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
            let journald = JournaldConfig { enabled, units: texts(own), ..Default::default() };
            let config = LogsConfig { journald, ..LogsConfig::default() };
            let asked = Asked { units: texts(asked), ..Asked::default() };
            let got = config.plan(&asked).journald.map(|journald| journald.units);
            assert_eq!(got, expected.map(texts), "{enabled} {own:?}");
        }
        check(false, &["ignored"], &[], None);
        check(false, &[], &["a", "b"], Some(&["a", "b"]));
        check(false, &[], &["a", "*"], Some(&[]));
        check(true, &[], &["a"], Some(&[]));
        check(true, &["own"], &[], Some(&["own"]));
        check(true, &["own"], &["a"], Some(&["own", "a"]));
    }
}
