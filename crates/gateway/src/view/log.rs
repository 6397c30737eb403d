//! Log events and groups of errors, as pages show them.

use proto::v1;

use super::{When, millis};
use crate::format;

/// What is shown of a body before it is opened.
const SUMMARY_CHARS_MAX: usize = 400;
/// How much of the charts around a moment is shown.
const AROUND_MS: i64 = 150_000;

pub(crate) struct LogLine {
    pub(crate) when: When,
    /// Of the day, to the millisecond.
    pub(crate) clock: String,
    pub(crate) level: &'static str,
    pub(crate) machine_id: String,
    pub(crate) host_name: String,
    pub(crate) service: String,
    /// The beginning, on one line.
    pub(crate) summary: String,
    pub(crate) body: String,
    pub(crate) cut: bool,
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) source: String,
    /// For charts around the moment.
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
}

impl LogLine {
    pub(crate) fn new(entry: v1::LogEntry, now: i64) -> Self {
        let ms = millis(entry.time.as_ref()).unwrap_or_default();
        let when = When::new(now, ms);
        let mut attributes: Vec<(String, String)> = entry.attributes.into_iter().collect();
        attributes.sort();
        Self {
            clock: when.iso.get(11..23).unwrap_or_default().to_owned(),
            level: level(&entry.level),
            machine_id: entry.machine_id,
            host_name: entry.host_name,
            service: entry.service,
            summary: summary(&entry.body),
            body: entry.body,
            cut: entry.body_truncated,
            attributes,
            source: entry.source,
            from_ms: ms - AROUND_MS,
            to_ms: ms + AROUND_MS,
            when,
        }
    }
}

/// A word that is also a class and a shape: whatever comes, it is one of these.
fn level(name: &str) -> &'static str {
    ["trace", "debug", "info", "warn", "error", "fatal"]
        .into_iter()
        .find(|known| *known == name)
        .unwrap_or("unknown")
}

fn summary(body: &str) -> String {
    let mut words = String::new();
    for c in body.chars().take(SUMMARY_CHARS_MAX) {
        let blank = c.is_whitespace() || c.is_control();
        match blank {
            true if words.ends_with(' ') => {}
            true => words.push(' '),
            false => words.push(c),
        }
    }
    words.trim().to_owned()
}

pub(crate) struct GroupLine {
    pub(crate) id: String,
    pub(crate) level: &'static str,
    pub(crate) service: String,
    pub(crate) template: String,
    pub(crate) example: String,
    pub(crate) count: String,
    pub(crate) total: String,
    pub(crate) first: Option<When>,
    pub(crate) last: Option<When>,
    pub(crate) machines: String,
    pub(crate) path: String,
    /// Finds these errors.
    pub(crate) query: String,
}

impl GroupLine {
    pub(crate) fn new(group: v1::ErrorGroup, now: i64) -> Self {
        let when = |time| millis(time).map(|ms| When::new(now, ms));
        let more = group.machines.len().saturating_sub(3);
        let mut machines = group.machines.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
        if more > 0 {
            machines.push_str(&format!(" and {more} more"));
        }
        Self {
            level: level(&group.level),
            count: format::number(group.count as f64),
            total: format::number(group.count_total as f64),
            first: when(group.first_seen.as_ref()),
            last: when(group.last_seen.as_ref()),
            path: bars(&group.counts),
            query: query_of(&group.service, &group.template),
            id: group.id,
            service: group.service,
            template: group.template,
            example: group.example,
            machines,
        }
    }
}

/// The words that all lines of a group have, one after the other, as far as they go.
fn query_of(service: &str, template: &str) -> String {
    let mut query = String::from("level:>=error");
    if !service.is_empty() {
        query.push_str(&format!(" service:\"{}\"", service.replace(['\\', '"', '*', '?'], "?")));
    }
    // Between what was left out, each run of words is a phrase; a last word that was cut has no end.
    for part in template.trim_end_matches('…').split(['<', '>']).step_by(2).take(8) {
        let whole = template.ends_with('…') && template.trim_end_matches('…').ends_with(part);
        let mut words: Vec<&str> = part.split_whitespace().filter(|w| is_whole(w)).collect();
        if whole {
            words.pop();
        }
        if !words.is_empty() {
            let phrase = words.join(" ").replace(['"', '\\'], " ");
            query.push_str(&format!(" \"{}\"", phrase.trim()));
        }
    }
    query
}

/// Has letters, and nothing that stands beside what was left out.
fn is_whole(word: &str) -> bool {
    word.chars().any(char::is_alphanumeric)
}

/// A path of bars, 1 wide and up to 20 high, from the left.
pub(crate) fn bars(counts: &[u64]) -> String {
    bars_up_to(counts, counts.iter().copied().max().unwrap_or(0))
}

/// As [`bars`], where `top` is as high as it gets.
pub(crate) fn bars_up_to(counts: &[u64], top: u64) -> String {
    let top = top.max(1) as f64;
    let mut path = String::new();
    for (x, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let height = (count as f64 / top * 20.0).max(1.0);
        path.push_str(&format!("M{x} 20v-{height:.1}h.8v{height:.1}z"));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_summed_up_on_one_line() {
        assert_eq!(summary(" one\n\ttwo\u{1b}[31m \0 three "), "one two [31m three");
        assert_eq!(summary(&"x".repeat(1000)).len(), SUMMARY_CHARS_MAX);
        assert_eq!(level("error"), "error");
        assert_eq!(level("\" onclick="), "unknown");
    }

    #[test]
    fn a_group_leads_to_its_lines() {
        fn check(body: &str) {
            let template = model::template::template(body);
            let query = query_of("my \"api\"", &template);
            let parsed = model::LogQuery::parse(&query).expect("a query");
            let event = model::LogEvent {
                time: model::UnixMillis(0),
                severity: model::Severity::new(17).expect("a severity"),
                service: "my \"api\"".into(),
                body: body.into(),
                body_truncated: false,
                attributes: model::Labels::empty(),
                source: String::new(),
            };
            assert!(parsed.accepts_event(&event), "{query} does not find {body:?}");
        }
        check("order 7 of web-1 failed: \"no stock\" (after 30ms)");
        check("7");
        check("");
        check("a<b>c d<e f");
        check(&"word ".repeat(100));
        check(&"x".repeat(500));
        check("dial tcp 10.0.0.1:5432: connection refused");
    }

    #[test]
    fn bars_are_as_high_as_their_counts() {
        assert_eq!(bars(&[0, 5, 10]), "M1 20v-10.0h.8v10.0zM2 20v-20.0h.8v20.0z");
        assert_eq!(bars(&[]), "");
    }
}
