//! What may be asked of log events: `level:>=warn service:api "connection refused" -timeout`.
//!
//! A query is a list of terms that must all hold. The same query selects from history and from what
//! arrives; it knows nothing of how either is kept.

use std::fmt;

use crate::words::{equals_folded, fold, starts_with_folded, words};
use crate::{LogEvent, Severity, glob};

mod parse;

pub use parse::{QUERY_CHARS_MAX, QueryError, TERMS_MAX};

/// Terms that must all hold. Without any, everything is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LogQuery {
    pub terms: Vec<LogTerm>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogTerm {
    /// The test must fail.
    pub negated: bool,
    pub test: LogTest,
}

/// What one term tests. Texts are folded: case never matters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogTest {
    /// These words, one after the other, in the body or in the value of an attribute.
    Words {
        words: Vec<String>,
        /// The last is the beginning of a word.
        open: bool,
    },
    /// One of these globs.
    Service(Vec<String>),
    /// One of these globs is the host name of the machine, or its id, or the beginning of its id.
    Machine(Vec<String>),
    /// The severity is in one of these ranges.
    Level(Vec<LevelRange>),
    /// The attribute is there and is one of these globs.
    Attribute { name: String, values: Vec<String> },
}

/// Levels from one to another, by their short names: both ends are included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LevelRange {
    pub first: Level,
    pub last: Level,
}

/// A range of severities that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// The source did not tell.
    Unknown,
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

impl Level {
    pub const ALL: [Self; 7] =
        [Self::Unknown, Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error, Self::Fatal];

    pub fn of(severity: Severity) -> Self {
        // 0, then six ranges of four numbers each.
        Self::ALL[usize::from(severity.number().div_ceil(4))]
    }

    /// As people write it, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }

    /// Something is broken.
    pub fn is_error(self) -> bool {
        self >= Self::Error
    }
}

/// A log event without its machine, where its texts are.
#[derive(Clone, Copy, Debug)]
pub struct LogView<'a> {
    pub severity: Severity,
    pub service: &'a str,
    pub body: &'a str,
    pub attributes: &'a [(&'a str, &'a str)],
}

impl LogQuery {
    /// Reads a query as people write it.
    ///
    /// # Errors
    /// Says at which character what was expected.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        parse::parse(text)
    }

    /// Whether the terms on machines accept one with these names.
    pub fn accepts_machine(&self, host_name: &str, id: &str) -> bool {
        self.terms.iter().all(|term| match &term.test {
            LogTest::Machine(globs) => {
                let found = globs.iter().any(|pattern| {
                    any_case(pattern, host_name)
                        || pattern.len() >= 4 && id.starts_with(pattern.as_str())
                });
                found != term.negated
            }
            _ => true,
        })
    }

    /// Whether the query says anything about machines.
    pub fn names_machines(&self) -> bool {
        self.terms.iter().any(|term| matches!(term.test, LogTest::Machine(_)))
    }

    /// Whether all terms but those on machines and on texts accept an event with these.
    pub fn accepts_kind(&self, severity: Severity, service: &str) -> bool {
        self.terms.iter().all(|term| match &term.test {
            LogTest::Service(globs) => one_of(globs, service) != term.negated,
            LogTest::Level(ranges) => {
                ranges.iter().any(|range| range.contains(severity)) != term.negated
            }
            _ => true,
        })
    }

    /// Whether all terms but those on machines accept the event.
    pub fn accepts(&self, event: &LogView<'_>) -> bool {
        self.accepts_kind(event.severity, event.service) && self.accepts_text(event)
    }

    /// Whether the terms on body and attributes accept the event.
    pub fn accepts_text(&self, event: &LogView<'_>) -> bool {
        self.terms.iter().all(|term| match &term.test {
            LogTest::Words { words, open } => {
                let mut texts =
                    std::iter::once(event.body).chain(event.attributes.iter().map(|(_, v)| *v));
                texts.any(|text| holds(text, words, *open)) != term.negated
            }
            LogTest::Attribute { name, values } => {
                let found = event
                    .attributes
                    .iter()
                    .any(|(key, value)| equals_folded(key, name) && one_of(values, value));
                found != term.negated
            }
            _ => true,
        })
    }

    /// Whether all terms but those on machines accept the event.
    pub fn accepts_event(&self, event: &LogEvent) -> bool {
        if !self.accepts_kind(event.severity, &event.service) {
            return false;
        }
        let attributes: Vec<(&str, &str)> = event.attributes.iter().collect();
        self.accepts_text(&LogView {
            severity: event.severity,
            service: &event.service,
            body: &event.body,
            attributes: &attributes,
        })
    }
}

impl LevelRange {
    pub fn contains(&self, severity: Severity) -> bool {
        (self.first..=self.last).contains(&Level::of(severity))
    }
}

fn one_of(globs: &[String], text: &str) -> bool {
    globs.iter().any(|pattern| any_case(pattern, text))
}

/// Whether a folded glob matches a text in any case.
fn any_case(pattern: &str, text: &str) -> bool {
    match pattern.contains(['*', '?']) {
        true => glob::matches(pattern, &fold(text)),
        false => equals_folded(text, pattern),
    }
}

/// Whether the text has these words one after the other.
fn holds(text: &str, wanted: &[String], open: bool) -> bool {
    let Some((first, rest)) = wanted.split_first() else { return true };
    let fits = |word: &str, wanted: &str, last: bool| match last && open {
        true => starts_with_folded(word, wanted),
        false => equals_folded(word, wanted),
    };
    let mut from = words(text);
    loop {
        match from.next() {
            None => return false,
            Some(word) if fits(word, first, rest.is_empty()) => {
                // What follows is looked at without going on: the phrase may begin again within it.
                let after = word.as_ptr().addr() - text.as_ptr().addr() + word.len();
                let mut following = words(&text[after..]);
                let all = rest.iter().enumerate().all(|(i, wanted)| {
                    following.next().is_some_and(|word| fits(word, wanted, i + 1 == rest.len()))
                });
                if all {
                    return true;
                }
            }
            Some(_) => {}
        }
    }
}

/// As it can be parsed again.
impl fmt::Display for LogQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.terms.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            if term.negated {
                f.write_str("-")?;
            }
            term.test.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for LogTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = |f: &mut fmt::Formatter<'_>, name: &str, values: &[String]| {
            write!(f, "{name}:")?;
            for (i, value) in values.iter().enumerate() {
                let comma = if i > 0 { "," } else { "" };
                write!(f, "{comma}{}", quoted(value))?;
            }
            Ok(())
        };
        match self {
            Self::Words { words, open } => {
                let star = if *open { "*" } else { "" };
                write!(f, "\"{}\"{star}", words.join(" "))
            }
            Self::Service(globs) => field(f, "service", globs),
            Self::Machine(globs) => field(f, "machine", globs),
            Self::Attribute { name, values } => field(f, name, values),
            Self::Level(ranges) => {
                f.write_str("level:")?;
                for (i, range) in ranges.iter().enumerate() {
                    let comma = if i > 0 { "," } else { "" };
                    match (range.first, range.last) {
                        (first, last) if first == last => write!(f, "{comma}{}", first.name())?,
                        (first, Level::Fatal) => write!(f, "{comma}>={}", first.name())?,
                        (_, last) => write!(f, "{comma}<={}", last.name())?,
                    }
                }
                Ok(())
            }
        }
    }
}

fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests;
