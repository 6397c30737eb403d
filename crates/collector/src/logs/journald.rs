//! The journal of systemd, read by its own program: `journalctl --output=json --follow`.
//!
//! Where to go on is the cursor of the last entry, kept with the entries as with any source. The program
//! is started again when it ends. While the spool is half full nothing is read of it: it waits, and the
//! journal keeps what it has.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use model::{LogEvent, UnixMillis};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::config::{JournaldConfig, Plan};
use super::limit::Limits;
use super::lines::Lines;
use super::outbox::{Closed, Outbox};
use super::parse::{Known, Parser, severity};
use super::{Room, fields_of};
use crate::backoff::Backoff;
use crate::spool::Bookmark;

/// Name of its bookmark.
pub(super) const SOURCE: &str = "journald";
/// A batch is closed when nothing came for this long.
const SETTLE_AFTER: Duration = Duration::from_millis(100);
const CHUNK_BYTES: usize = 16 * 1024;
/// A cursor with which the program ended at once so often is given up: the journal it is of is gone.
const FAILURES_MAX: u32 = 3;

/// Fields that become attributes, by the names that OpenTelemetry has for them.
const ATTRIBUTES: [(&str, &str); 6] = [
    ("_SYSTEMD_UNIT", "systemd.unit"),
    ("SYSLOG_IDENTIFIER", "syslog.identifier"),
    ("_PID", "process.pid"),
    ("_COMM", "process.executable.name"),
    ("CONTAINER_ID_FULL", "container.id"),
    ("CODE_FILE", "code.file.path"),
];

#[derive(Debug)]
pub(super) struct Journald {
    pub(super) cursor: Option<String>,
    pub(super) room: Room,
    pub(super) parser: Parser,
    /// By the time of entries, so that what waited in the journal is no burst.
    pub(super) limits: Limits,
}

/// One entry.
#[derive(Debug, PartialEq)]
struct Entry {
    event: LogEvent,
    /// By the journal, whatever the message says.
    time: UnixMillis,
    cursor: String,
}

impl Journald {
    /// Reads what the plans say until `stop` is cancelled or the delivery is gone.
    pub(super) async fn run(
        mut self,
        mut plans: watch::Receiver<Plan>,
        mut outbox: Outbox,
        stop: CancellationToken,
    ) {
        loop {
            let wanted = plans.borrow_and_update().journald.clone();
            let is_changed = async {
                // Without one who plans, it stays as it is.
                if plans.wait_for(|plan| plan.journald != wanted).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = is_changed => {}
                () = self.follow(wanted.as_ref(), &mut outbox), if wanted.is_some() => return,
            }
            if plans.borrow().journald.is_none() && self.cursor.take().is_some() {
                // What is asked for anew begins anew.
                outbox.mark(Bookmark { source: SOURCE.to_owned(), place: None });
                if outbox.send().await.is_err() {
                    return;
                }
            }
        }
        let now = UnixMillis::from(SystemTime::now());
        outbox.add(&mut self.limits.last_notices(SOURCE, now, &outbox));
        let _ = outbox.send().await;
    }

    /// Returns when the delivery is gone. What it holds when it is dropped is in `outbox`.
    async fn follow(&mut self, wanted: Option<&JournaldConfig>, outbox: &mut Outbox) {
        let Some(config) = wanted else { return };
        let mut retry = Backoff::doubling(Duration::from_secs(1), Duration::from_secs(60));
        let mut failures = 0;
        loop {
            let before = self.cursor.clone();
            let error = match self.start(config) {
                Ok(child) => match self.read(config, child, outbox).await {
                    Ok(error) => error,
                    Err(Closed) => return,
                },
                Err(error) => error,
            };
            if self.cursor == before {
                failures += 1;
            } else {
                failures = 0;
                retry.reset();
            }
            // Once: a machine without a journal is no news every minute.
            if failures == 1 {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the journal is not read; it is tried again"
                );
            }
            // Anything else than the cursor may be better at the next try.
            let is_lost = failures >= FAILURES_MAX && error.to_string().contains("cursor");
            if is_lost && self.cursor.take().is_some() {
                tracing::warn!(
                    "where the journal goes on is not found in it; it is read from now on"
                );
            }
            tokio::time::sleep(retry.next()).await;
        }
    }

    fn start(&self, config: &JournaldConfig) -> anyhow::Result<Child> {
        let program = &config.program;
        Command::new(program)
            .args(arguments(config, self.cursor.as_deref()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("failed to start {}", program.display()))
    }

    /// Reads until the program ends; then says why.
    async fn read(
        &mut self,
        config: &JournaldConfig,
        mut child: Child,
        outbox: &mut Outbox,
    ) -> Result<anyhow::Error, Closed> {
        let Some(mut stdout) = child.stdout.take() else {
            return Ok(anyhow::anyhow!("no output"));
        };
        let mut lines = Lines::new(0);
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut events = Vec::new();
        loop {
            self.room.wait().await;
            let read = tokio::time::timeout(SETTLE_AFTER, stdout.read(&mut chunk)).await;
            let length = match read {
                // Quiet: what there is goes.
                Err(_) => {
                    let now = (Instant::now(), UnixMillis::from(SystemTime::now()));
                    outbox.add(&mut self.limits.notices(SOURCE, now, outbox));
                    outbox.send().await?;
                    // Told in a moment.
                    if self.limits.is_exceeded() {
                        continue;
                    }
                    stdout.read(&mut chunk).await.unwrap_or(0)
                }
                Ok(read) => read.unwrap_or(0),
            };
            if length == 0 {
                break;
            }
            let now = UnixMillis::from(SystemTime::now());
            let Self { parser, cursor, limits, .. } = self;
            let parser = &*parser;
            lines.feed(&chunk[..length], |line| {
                match entry(line.text, parser, now) {
                    Some(entry) => {
                        if limits.admits(&entry.event.service, entry.time) {
                            events.push(entry.event);
                        }
                        *cursor = Some(entry.cursor);
                    }
                    // Too long to be read whole: as much of it as there is.
                    None => {
                        let known = Known { source: SOURCE, ..Known::default() };
                        let text = String::from_utf8_lossy(line.text);
                        events.push(parser.event(text, line.cut, &known, now));
                    }
                }
            });
            events.extend(self.limits.notices(SOURCE, (Instant::now(), now), outbox));
            if !events.is_empty() {
                let bookmark = Bookmark { source: SOURCE.to_owned(), place: self.cursor.clone() };
                if outbox.take_in(&mut events, bookmark) {
                    outbox.send().await?;
                }
            }
        }
        outbox.send().await?;
        let mut said = String::new();
        if let Some(stderr) = child.stderr.take() {
            let _ = stderr.take(4096).read_to_string(&mut said).await;
        }
        let status = child.wait().await;
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        Ok(anyhow::anyhow!("{} ended with {status}: {}", config.program.display(), said.trim()))
    }
}

fn arguments(config: &JournaldConfig, cursor: Option<&str>) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["--output=json", "--follow", "--all", "--quiet"].map(str::to_owned).into();
    match cursor {
        Some(cursor) => {
            arguments.extend(["--no-tail".to_owned(), format!("--after-cursor={cursor}")]);
        }
        // The latest entry has a cursor, so that a kill before the next one leaves out nothing.
        None => arguments.push("--lines=1".to_owned()),
    }
    arguments.extend(config.units.iter().map(|unit| format!("--unit={unit}")));
    arguments.extend(config.priority.as_ref().map(|priority| format!("--priority={priority}")));
    arguments
}

/// One line of `journalctl --output=json`; `None` when it is none.
fn entry(line: &[u8], parser: &Parser, now: UnixMillis) -> Option<Entry> {
    let fields = fields_of(line)?;
    let cursor = text(&fields, "__CURSOR")?;
    let message = text(&fields, "MESSAGE").unwrap_or_default();
    let level = text(&fields, "PRIORITY").and_then(|level| level.parse().ok());
    let time = text(&fields, "_SOURCE_REALTIME_TIMESTAMP")
        .or_else(|| text(&fields, "__REALTIME_TIMESTAMP"))
        .and_then(|us| us.parse::<i64>().ok())
        .map(|us| UnixMillis(us / 1000));
    let attribute = |(field, name): (&str, &str)| {
        let value = text(&fields, field)?;
        (value.len() <= model::limits::LABEL_VALUE_BYTES_MAX).then(|| (name.to_owned(), value))
    };
    let known = Known {
        service: None,
        service_otherwise: service(&fields),
        time,
        severity: level.and_then(severity::from_syslog).unwrap_or_default(),
        attributes: ATTRIBUTES.into_iter().filter_map(attribute).collect(),
        source: "journald",
        ..Known::default()
    };
    let event = parser.event(message.trim_end(), false, &known, now);
    Some(Entry { event, time: time.unwrap_or(now), cursor })
}

/// Container, unit, or whatever called itself so.
fn service(fields: &BTreeMap<String, Value>) -> String {
    if text(fields, "_TRANSPORT").as_deref() == Some("kernel") {
        return "kernel".to_owned();
    }
    let names = ["CONTAINER_NAME", "_SYSTEMD_USER_UNIT", "_SYSTEMD_UNIT", "UNIT"];
    let unit = names.into_iter().find_map(|name| text(fields, name));
    let unit = unit.filter(|unit| !unit.starts_with("session-") && !unit.starts_with("user@"));
    let name = unit.or_else(|| text(fields, "SYSLOG_IDENTIFIER")).or_else(|| text(fields, "_COMM"));
    let name = name.unwrap_or_default();
    name.strip_suffix(".service").unwrap_or(&name).to_owned()
}

/// A field that is text; bytes that are no text come as an array of numbers, repeated fields as one of
/// texts.
fn text(fields: &BTreeMap<String, Value>, name: &str) -> Option<String> {
    match fields.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Array(values) if values.iter().all(Value::is_u64) => {
            let bytes: Vec<u8> = values.iter().map(|v| v.as_u64().unwrap_or(0) as u8).collect();
            Some(String::from_utf8_lossy(&bytes).into_owned())
        }
        Value::Array(values) => values.iter().rev().find_map(|v| v.as_str().map(str::to_owned)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::tz::TimeZone;
    use proptest::prelude::*;
    use tokio::sync::mpsc;

    use super::*;
    use crate::CollectorStats;

    const NOW: UnixMillis = UnixMillis(1_795_208_400_000);

    /// As `journalctl --output=json` of a Debian machine writes them, shortened.
    const EXPORT: &str = r#"{"__CURSOR":"s=a;i=1","__REALTIME_TIMESTAMP":"1795208399000000","PRIORITY":"6","_SYSTEMD_UNIT":"ssh.service","SYSLOG_IDENTIFIER":"sshd","_PID":"812","_COMM":"sshd","MESSAGE":"Accepted publickey for root","_TRANSPORT":"syslog"}
{"__CURSOR":"s=a;i=2","__REALTIME_TIMESTAMP":"1795208399500000","PRIORITY":"3","_TRANSPORT":"kernel","SYSLOG_IDENTIFIER":"kernel","MESSAGE":"EXT4-fs error (device sda1)"}
{"__CURSOR":"s=a;i=3","__REALTIME_TIMESTAMP":"1795208399600000","PRIORITY":"6","_SYSTEMD_UNIT":"session-2.scope","SYSLOG_IDENTIFIER":"CRON","MESSAGE":[112,97,115,255]}
{"__CURSOR":"s=a;i=4","__REALTIME_TIMESTAMP":"1795208399700000","PRIORITY":"6","_SYSTEMD_UNIT":"api.service","MESSAGE":"{\"level\":\"error\",\"msg\":\"no\",\"password\":\"x1\"}"}
{"__CURSOR":"s=a;i=5","__REALTIME_TIMESTAMP":"1795208399800000","PRIORITY":["4","4"],"CONTAINER_NAME":"web","_SYSTEMD_UNIT":"docker.service","MESSAGE":"slow"}
"#;

    fn parser() -> Parser {
        Parser::new(TimeZone::UTC)
    }

    fn shown(event: &LogEvent) -> String {
        let age = NOW.0 - event.time.0;
        format!("{age} {} {} {}", event.severity.number(), event.service, event.body)
    }

    #[test]
    fn entries_have_their_unit_severity_and_time() {
        let entries: Vec<_> =
            EXPORT.lines().filter_map(|line| entry(line.as_bytes(), &parser(), NOW)).collect();
        let events: Vec<_> = entries.iter().map(|entry| shown(&entry.event)).collect();
        assert_eq!(
            events,
            [
                "1000 9 ssh Accepted publickey for root",
                "500 17 kernel EXT4-fs error (device sda1)",
                "400 9 CRON pas\u{fffd}",
                "300 17 api no",
                "200 13 web slow",
            ]
        );
        assert_eq!(entries[4].cursor, "s=a;i=5");
        assert_eq!(entries[0].event.attributes.get("process.pid"), "812");
        assert_eq!(entries[3].event.attributes.get("password"), "***");
    }

    /// Entries of systemd 252 on Debian 12, as its `journalctl` wrote them.
    #[test]
    fn what_the_journal_of_debian_holds_is_understood() {
        let recorded = include_str!("../../tests/fixtures/journal.jsonl");
        let now = UnixMillis(1_795_845_150_000);
        let entries = recorded.lines().map(|line| entry(line.as_bytes(), &parser(), now));
        let entries: Vec<_> = entries.map(|entry| entry.expect("whole")).collect();
        let shown = entries.iter().map(|Entry { event, .. }| {
            let age = now.0 - event.time.0;
            format!("{age} {} {} | {}", event.severity.number(), event.service, event.body)
        });
        let shown: Vec<_> = shown.collect();
        assert_eq!(
            shown,
            [
                "7180 9 kernel | EXT4-fs (vda): mounted filesystem 00000000-0000-0000-0000-000000000000 r/w without journal. Quota mode: none.",
                "5233 9 sshd | Accepted publickey for deploy from 10.1.2.3 port 50512 ssh2",
                "5232 17 postgres | could not open file \"base/1\": No space left on device",
                "4729 17 shop | payment failed",
                "4729 17 python3 | Traceback (most recent call last):\n  File \"/srv/app.py\", line 7, in <module>\n    main()\nValueError: no stock",
                "4729 13 raw | bytes \u{fffd}\u{fffd} and nul ␀ here",
                "4729 13 web-1 | container says warn",
                "4729 18 page | red <script>alert(1)</script>",
                "4729 9 empty | ",
                "4729 9 none | ",
            ]
        );
        assert_eq!(entries[3].event.attributes.get("order"), "17");
        assert_eq!(entries[3].event.attributes.get("password"), "***");
        assert_eq!(entries[6].event.attributes.get("container.id").len(), 64);
        assert!(entries.iter().all(|entry| entry.cursor.starts_with("s=")));
    }

    #[test]
    fn the_cursor_decides_where_it_starts() {
        let config = JournaldConfig {
            units: vec!["ssh.service".to_owned()],
            priority: Some("warning".to_owned()),
            ..JournaldConfig::default()
        };
        let common = "--output=json --follow --all --quiet";
        let rest = "--unit=ssh.service --priority=warning";
        assert_eq!(arguments(&config, None).join(" "), format!("{common} --lines=1 {rest}"));
        assert_eq!(
            arguments(&config, Some("s=a;i=1")).join(" "),
            format!("{common} --no-tail --after-cursor=s=a;i=1 {rest}")
        );
    }

    /// A program in place of `journalctl` that writes what comes after the cursor, then ends.
    fn program(dir: &std::path::Path) -> std::path::PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(dir.join("export"), EXPORT).expect("written");
        let path = dir.join("journalctl");
        let script = "#!/bin/sh\nafter=0\nfor a in \"$@\"; do case $a in --after-cursor=*) after=${a##*i=};; esac; done\n\
            tail -n +$((after + 1)) \"$(dirname \"$0\")/export\" | head -n 2\n";
        std::fs::write(&path, script).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("set");
        path
    }

    #[tokio::test]
    async fn a_program_that_ends_is_started_again_where_it_stopped() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = JournaldConfig { program: program(dir.path()), ..JournaldConfig::default() };
        let stats = Arc::new(CollectorStats::default());
        let room = Room { spool_bytes_max: u64::MAX, stats: Arc::clone(&stats) };
        let (sender, mut batches) = mpsc::channel(4);
        let (_plans, planned) = watch::channel(Plan { sections: vec![], journald: Some(config) });
        let journald = Journald {
            cursor: Some("s=a;i=0".to_owned()),
            room,
            parser: parser(),
            limits: Limits::new(0),
        };
        let stop = CancellationToken::new();
        let running = tokio::spawn(journald.run(planned, Outbox::new(sender, stats), stop.clone()));
        let (mut bodies, mut place) = (Vec::new(), None);
        while bodies.len() < 5 {
            let batch = tokio::time::timeout(Duration::from_secs(60), batches.recv()).await;
            let batch = batch.expect("in time").expect("it runs");
            bodies.extend(batch.events.into_iter().map(|event| event.body));
            place = batch.bookmarks.into_iter().next_back();
        }
        assert_eq!(bodies.last().map(String::as_str), Some("slow"));
        assert_eq!(bodies.len(), 5, "each entry once");
        let expected =
            Bookmark { source: "journald".to_owned(), place: Some("s=a;i=5".to_owned()) };
        assert_eq!(place, Some(expected));
        stop.cancel();
        running.await.expect("it ends");
    }

    #[tokio::test]
    async fn what_was_dropped_in_the_last_second_is_told_at_the_end() {
        let stats = Arc::new(CollectorStats::default());
        let room = Room { spool_bytes_max: u64::MAX, stats: Arc::clone(&stats) };
        let (sender, mut batches) = mpsc::channel(4);
        let outbox = Outbox::new(sender, Arc::clone(&stats));
        let mut limits = Limits::new(1);
        let mut loud = |events| (0..events).filter(|_| !limits.admits("loud", NOW)).count();
        assert_eq!(loud(15), 5);
        let told = limits.notices(SOURCE, (Instant::now(), NOW), &outbox);
        assert_eq!(told.len(), 1);
        let mut loud = |events| (0..events).filter(|_| !limits.admits("loud", NOW)).count();
        assert_eq!(loud(7), 7);
        let (_plans, planned) = watch::channel(Plan { sections: vec![], journald: None });
        let journald = Journald { cursor: None, room, parser: parser(), limits };
        let stop = CancellationToken::new();
        stop.cancel();
        journald.run(planned, outbox, stop).await;
        let events = batches.recv().await.expect("told").events;
        assert!(events[0].body.starts_with("7 log events were dropped here"), "{events:?}");
        assert_eq!(stats.log_dropped(), 12);
    }

    #[tokio::test]
    async fn units_change_while_it_runs() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = |units: &[&str]| JournaldConfig {
            program: program(dir.path()),
            units: units.iter().map(|unit| (*unit).to_owned()).collect(),
            ..JournaldConfig::default()
        };
        let stats = Arc::new(CollectorStats::default());
        let room = Room { spool_bytes_max: u64::MAX, stats: Arc::clone(&stats) };
        let (sender, mut batches) = mpsc::channel(64);
        let plan = |journald| Plan { sections: vec![], journald };
        let (plans, planned) = watch::channel(plan(None));
        let journald = Journald {
            cursor: Some("s=a;i=0".to_owned()),
            room,
            parser: parser(),
            limits: Limits::new(0),
        };
        let stop = CancellationToken::new();
        let running = tokio::spawn(journald.run(planned, Outbox::new(sender, stats), stop.clone()));
        plans.send_replace(plan(Some(config(&["ssh.service"]))));
        let mut bodies = Vec::new();
        while bodies.len() < 5 {
            let batch = tokio::time::timeout(Duration::from_secs(60), batches.recv()).await;
            let batch = batch.expect("in time").expect("it runs");
            bodies.extend(batch.events.into_iter().map(|event| event.body));
        }
        plans.send_replace(plan(None));
        let forgotten = Bookmark { source: SOURCE.to_owned(), place: None };
        loop {
            let batch = tokio::time::timeout(Duration::from_secs(60), batches.recv()).await;
            let batch = batch.expect("in time").expect("it runs");
            if batch.bookmarks == [forgotten.clone()] {
                assert_eq!(batch.events, []);
                break;
            }
        }
        stop.cancel();
        running.await.expect("it ends");
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in r#"(\{|\}|\[|\]|"MESSAGE"|"__CURSOR"|"PRIORITY"|:|,|"9"|255|"a"|null){0,20}"#) {
            let _ = entry(line.as_bytes(), &parser(), NOW);
        }
    }
}
