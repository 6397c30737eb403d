//! How collectors should work, and how that changes while they run.

use std::collections::HashMap;
use std::sync::Arc;

use daemon::config::Span;
use model::{MachineId, limits};
use proto::{convert, v1};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// What a collector is asked to do. What is absent is the collector's own to choose.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Time between frames; from 100 ms to 1 h.
    pub interval: Option<Span>,
    /// Time between process reports; from 100 ms to 1 h.
    pub process_interval: Option<Span>,
    /// Probes to leave out, by name.
    pub disabled_probes: Vec<String>,
    /// Log sources to read, within what the machine's owner allows.
    pub log_sources: Vec<LogSource>,
}

/// Collectors refuse further ones.
const LOG_SOURCES_MAX: usize = 64;
const SELECTOR_BYTES_MAX: usize = 1024;

/// A place where a machine logs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSource {
    /// "file", "journald" or "container".
    pub kind: String,
    /// A glob over absolute paths; a unit, or a glob over units; the name of a container, or a glob over names.
    pub selector: String,
}

impl LogSource {
    fn check(&self) -> Result<(), String> {
        let Self { kind, selector } = self;
        if !["file", "journald", "container"].contains(&kind.as_str()) {
            return Err(format!(
                "kind: expected \"file\", \"journald\" or \"container\", found {kind:?}"
            ));
        }
        if selector.is_empty() || selector.len() > SELECTOR_BYTES_MAX {
            return Err(format!("selector: expected 1 to {SELECTOR_BYTES_MAX} bytes"));
        }
        if kind == "file" && !selector.starts_with('/') {
            return Err(format!(
                "selector: expected an absolute path such as \"/var/log/*.log\", found {selector:?}"
            ));
        }
        Ok(())
    }
}

impl Settings {
    /// Fits after the path of the settings and a dot.
    pub fn check(&self) -> Result<(), String> {
        let spans = [("interval", self.interval), ("process_interval", self.process_interval)];
        for (name, span) in spans {
            let Some(span) = span else { continue };
            let ms = span.0.as_millis();
            if !(u128::from(limits::INTERVAL_MS_MIN)..=u128::from(limits::INTERVAL_MS_MAX))
                .contains(&ms)
            {
                return Err(format!("{name}: expected 100ms to 1h, found {span}"));
            }
        }
        if self.log_sources.len() > LOG_SOURCES_MAX {
            let found = self.log_sources.len();
            return Err(format!("log_sources: expected at most {LOG_SOURCES_MAX}, found {found}"));
        }
        for (at, source) in self.log_sources.iter().enumerate() {
            source.check().map_err(|problem| format!("log_sources[{at}].{problem}"))?;
        }
        Ok(())
    }

    pub(crate) fn interval_ms(&self) -> Option<u64> {
        self.interval.map(|span| span.0.as_millis() as u64)
    }

    pub(crate) fn to_proto(&self) -> v1::Settings {
        let duration = |span: Span| convert::duration_from_ms(span.0.as_millis() as i64);
        let source =
            |s: &LogSource| v1::LogSource { kind: s.kind.clone(), selector: s.selector.clone() };
        v1::Settings {
            interval: self.interval.map(duration),
            process_interval: self.process_interval.map(duration),
            disabled_probes: self.disabled_probes.clone(),
            log_sources: self.log_sources.iter().map(source).collect(),
        }
    }
}

/// Settings for all machines and for single ones, changeable while streams are open: every stream sends
/// its collector what changed for it. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct SettingsBoard {
    board: Arc<watch::Sender<Board>>,
}

#[derive(Debug, Default)]
struct Board {
    default: Settings,
    machines: HashMap<MachineId, Settings>,
}

impl SettingsBoard {
    pub(crate) fn new(default: Settings) -> Self {
        Self { board: Arc::new(watch::Sender::new(Board { default, machines: HashMap::new() })) }
    }

    /// Replaces what holds for machines without settings of their own.
    ///
    /// # Errors
    /// Settings that are out of bounds; nothing changed then.
    pub fn set_default(&self, settings: Settings) -> Result<(), String> {
        settings.check()?;
        self.board.send_modify(|board| board.default = settings);
        Ok(())
    }

    /// Gives one machine settings of its own, or takes them away.
    ///
    /// # Errors
    /// Settings that are out of bounds; nothing changed then.
    pub fn set(&self, machine: MachineId, settings: Option<Settings>) -> Result<(), String> {
        settings.as_ref().map_or(Ok(()), Settings::check)?;
        self.board.send_modify(|board| {
            match settings {
                Some(settings) => board.machines.insert(machine, settings),
                None => board.machines.remove(&machine),
            };
        });
        Ok(())
    }

    pub(crate) fn follow(&self, machine: MachineId) -> Followed {
        let mut receiver = self.board.subscribe();
        let current = receiver.borrow_and_update().of(machine).clone();
        Followed { machine, receiver, current }
    }
}

impl Board {
    fn of(&self, machine: MachineId) -> &Settings {
        self.machines.get(&machine).unwrap_or(&self.default)
    }
}

/// The settings of one machine, as they change.
pub(crate) struct Followed {
    machine: MachineId,
    receiver: watch::Receiver<Board>,
    current: Settings,
}

impl Followed {
    pub(crate) fn current(&self) -> &Settings {
        &self.current
    }

    /// Waits until they differ from `current`. Never ends when they never do. Safe to cancel.
    pub(crate) async fn changed(&mut self) -> &Settings {
        loop {
            if self.receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            let settings = self.receiver.borrow_and_update().of(self.machine).clone();
            if settings != self.current {
                self.current = settings;
                return &self.current;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_that_no_collector_could_read_are_refused_by_key() {
        fn check(kind: &str, selector: &str, expected: Result<(), &str>) {
            let source = LogSource { kind: kind.to_owned(), selector: selector.to_owned() };
            let settings = Settings { log_sources: vec![source], ..Settings::default() };
            let found = settings.check();
            match expected {
                Ok(()) => assert_eq!(found, Ok(()), "{kind} {selector}"),
                Err(expected) => {
                    let error = found.expect_err(kind);
                    assert!(error.contains(expected), "{error}");
                }
            }
        }
        check("file", "/var/log/*.log", Ok(()));
        check("journald", "nginx*", Ok(()));
        check("container", "web", Ok(()));
        check("syslog", "127.0.0.1:514", Err("log_sources[0].kind: expected \"file\""));
        check("file", "var/log/a", Err("log_sources[0].selector: expected an absolute path"));
        check("journald", "", Err("log_sources[0].selector: expected 1 to 1024 bytes"));
    }
}
