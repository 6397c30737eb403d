//! Lines of many real programs, and what becomes of each: `tests/fixtures/corpus.log` beside `corpus.txt`, which
//! `BLESS=1` writes anew. Nothing of a line may be lost on its way.

use std::fmt::Write as _;
use std::path::Path;

use model::UnixMillis;
use serde_json::Value;

use super::super::lines::Mark;
use super::super::reader::Reader;
use super::*;

/// 2026-11-28 06:00:00 UTC.
const NOW: UnixMillis = UnixMillis(1_795_845_600_000);
/// Members of JSON and logfmt that become the time, the severity or the service of the event.
const TAKEN: [&str; 24] = [
    "@timestamp",
    "epochSecond",
    "level",
    "log.level",
    "message",
    "msg",
    "name",
    "nanoOfSecond",
    "s",
    "service",
    "service.name",
    "severity",
    "short_message",
    "t",
    "time",
    "timestamp",
    "ts",
    "$date",
    "event",
    "logger",
    "target",
    "loggerName",
    "log",
    "v",
];

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The events of one program's output.
fn read(output: &str) -> Vec<LogEvent> {
    let parser = Parser::new(TimeZone::UTC);
    let known = Known { service_otherwise: "file".to_owned(), ..Known::default() };
    let mut reader = Reader::new(Mark::default(), true, false, known);
    let mut events = Vec::new();
    reader.feed(output.as_bytes(), &parser, NOW, &mut events);
    reader.finish(&parser, NOW, &mut events);
    events
}

/// Texts and numbers of a JSON object, with the names that lead to them.
fn leaves(name: &str, value: &Value, out: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| leaves(name, value, out)),
        Value::Array(values) => values.iter().for_each(|value| leaves(name, value, out)),
        Value::String(text) => out.push((name.to_owned(), text.clone())),
        Value::Null => {}
        other => out.push((name.to_owned(), other.to_string())),
    }
}

/// What of the output is in none of its events.
fn lost(output: &str, events: &[LogEvent]) -> Vec<String> {
    let mut kept = String::new();
    for event in events {
        kept += &event.body;
        event.attributes.iter().for_each(|(_, value)| {
            let _ = write!(kept, "\n{value}");
        });
        kept.push('\n');
    }
    let mut lost = Vec::new();
    for line in output.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let pairs = match serde_json::from_str(line) {
            Ok(value @ Value::Object(_)) => {
                let mut out = Vec::new();
                leaves("", &value, &mut out);
                out
            }
            _ => fields::logfmt(line).unwrap_or_else(|| vec![(String::new(), line.to_owned())]),
        };
        let pairs = pairs.into_iter().filter(|(name, _)| !TAKEN.contains(&name.as_str()));
        let is_lost = |(_, value): &(String, String)| {
            // Secrets go, on purpose.
            !kept.contains(value.as_str()) && !kept.contains("***")
        };
        lost.extend(pairs.filter(is_lost).map(|(name, value)| format!("{name}: {value}")));
    }
    lost
}

#[test]
fn lines_of_real_programs_are_understood_and_nothing_of_them_is_lost() {
    let corpus = std::fs::read_to_string(fixture("corpus.log")).expect("it is there");
    let mut shown = String::new();
    for program in corpus.trim_start_matches("# ").split("\n# ") {
        let (name, output) = program.split_once('\n').expect("a name and its output");
        let events = read(output);
        assert_eq!(lost(output, &events), Vec::<String>::new(), "{name}");
        let _ = writeln!(shown, "# {name}");
        for event in events {
            let age = match NOW.0 - event.time.0 {
                0 => "no time".to_owned(),
                ms => format!("{}.{:03} s ago", ms / 1_000, ms % 1_000),
            };
            let attributes: Vec<_> =
                event.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let severity = event.severity.number();
            let _ = writeln!(
                shown,
                "{age} | {severity} | {} | {}",
                event.service,
                attributes.join(" ")
            );
            event.body.lines().for_each(|line| {
                let _ = writeln!(shown, "    {line}");
            });
        }
    }
    let path = fixture("corpus.txt");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &shown).expect("written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        shown == expected,
        "tests/fixtures/corpus.txt is out of date: BLESS=1 cargo test -p collector\n{shown}"
    );
}
