//! Why configuration was refused, in the words of the person who wrote it.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Why configuration was refused: `place: key: problem`, and a hint where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// `muster.toml:12`, or the name of a variable.
    place: String,
    /// `collector.interval`; empty when the problem is none of a single key.
    key: String,
    problem: String,
    hint: Option<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.problem)
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    /// For checks that only the reader of a configuration can make.
    pub fn new(place: impl fmt::Display, key: &str, problem: impl fmt::Display) -> Self {
        let (place, problem) = (place.to_string(), problem.to_string());
        Self { place, key: key.to_owned(), problem, hint: None }
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    pub(super) fn unreadable(path: &Path, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::new(path.display(), "", "no such file")
                .with_hint("check the path; no settings file is needed to run with the defaults"),
            io::ErrorKind::InvalidData => Self::new(path.display(), "", "is not UTF-8 text"),
            _ => Self::new(path.display(), "", error),
        }
    }

    pub(super) fn secret_unreadable(variable: &str, path: &str, error: &io::Error) -> Self {
        Self::new(variable, "", format_args!("failed to read {path:?}: {error}"))
    }

    pub(super) fn in_file(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let (place, key) = match error.span() {
            Some(span) => {
                let line = 1 + text[..span.start.min(text.len())].matches('\n').count();
                (format!("{}:{line}", path.display()), key_at(text, &span))
            }
            None => (path.display().to_string(), String::new()),
        };
        Self::told(place, key, error.message())
    }

    pub(super) fn in_variable(
        name: &str,
        key: &str,
        error: &toml::de::Error,
        secret: bool,
    ) -> Self {
        if secret && !error.message().starts_with("unknown field") {
            return Self::new(name, key, "what the file holds is not accepted here");
        }
        Self::told(name.to_owned(), key.to_owned(), error.message())
    }

    pub(super) fn in_environment(error: &toml::de::Error) -> Self {
        Self::told("environment".to_owned(), String::new(), error.message())
    }

    /// Turns serde's words into ours.
    fn told(place: String, key: String, message: &str) -> Self {
        let first = message.lines().next().unwrap_or(message);
        if let Some(unknown) = first.strip_prefix("unknown field ") {
            let mut names = unknown.split('`').skip(1).step_by(2);
            let found = names.next().unwrap_or_default().to_owned();
            let known: Vec<&str> = names.collect();
            let hint = match nearest(&found, &known) {
                Some(near) => Some(format!("did you mean `{near}`?")),
                None if known.is_empty() => None,
                None => Some(format!("known keys here: {}", known.join(", "))),
            };
            return Self { place, key, problem: "unknown key".to_owned(), hint };
        }
        let mismatch = first
            .strip_prefix("invalid type: ")
            .or_else(|| first.strip_prefix("invalid value: "))
            .and_then(|rest| rest.rsplit_once(", expected "));
        let Some((found, expected)) = mismatch else {
            return Self { place, key, problem: first.to_owned(), hint: None };
        };
        // A choice that has settings of its own is a table, named after the choice.
        if expected == "newtype variant" || expected == "struct variant" {
            let problem = "expected a table with the settings of this choice, found its name alone";
            let hint = format!("write it as a section of its own: [{key}.NAME]");
            return Self { place, key, problem: problem.to_owned(), hint: Some(hint) };
        }
        let found = found.strip_prefix("string ").unwrap_or(found);
        let (expected, hint) = match expected {
            "usize" | "u64" => ("a whole number, 0 or more", Some("write it plainly, such as 100")),
            "u32" => ("a whole number from 0 to 4294967295", Some("write it plainly, such as 100")),
            "u16" => ("a whole number from 0 to 65535", Some("write it plainly, such as 100")),
            "i64" => ("a whole number", Some("write it plainly, such as 100")),
            "f64" => ("a number", Some("write it plainly, such as 0.5")),
            "a boolean" => ("true or false", Some("write it without quotes")),
            other => (other, None),
        };
        let problem = format!("expected {expected}, found {found}");
        Self { place, key, problem, hint: hint.map(str::to_owned) }
    }
}

/// The known name that `found` was probably meant to be.
fn nearest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    let (distance, name) = known.iter().map(|name| (edits(found, name), *name)).min()?;
    // Two edits may turn a short name into any other.
    (distance <= 2 && distance * 3 <= name.len().max(3)).then_some(name)
}

/// Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// The dotted path of the innermost key whose name or value holds `span`; empty when there is none.
fn key_at(text: &str, span: &Range<usize>) -> String {
    let Ok(document) = DeTable::parse(text) else { return String::new() };
    let mut path = String::new();
    in_table(document.get_ref(), span, &mut path);
    path
}

fn holds(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

fn in_table(table: &DeTable<'_>, span: &Range<usize>, path: &mut String) -> bool {
    for (name, value) in table {
        let before = path.len();
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(name.get_ref());
        if in_value(value, span, path) || holds(&name.span(), span) {
            return true;
        }
        path.truncate(before);
    }
    false
}

fn in_value(value: &Spanned<DeValue<'_>>, span: &Range<usize>, path: &mut String) -> bool {
    match value.get_ref() {
        // The span of a table written as `[header]` is the header alone, so its values are always searched.
        DeValue::Table(table) => in_table(table, span, path) || holds(&value.span(), span),
        DeValue::Array(array) => {
            for (index, element) in array.iter().enumerate() {
                let before = path.len();
                path.push_str(&format!("[{index}]"));
                if in_value(element, span, path) {
                    return true;
                }
                path.truncate(before);
            }
            holds(&value.span(), span)
        }
        _ => holds(&value.span(), span),
    }
}
