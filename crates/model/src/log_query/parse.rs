//! Reading a query as people write it.

use std::iter::Peekable;
use std::str::CharIndices;

use super::{Level, LevelRange, LogQuery, LogTerm, LogTest};
use crate::words::{fold, words};

/// A longer query is refused.
pub const QUERY_CHARS_MAX: usize = 2_000;
pub const TERMS_MAX: usize = 50;

/// Why a query was refused, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("query, character {place}: {message}; hint: {hint}")]
pub struct QueryError {
    /// Number of the character, from 1.
    pub place: usize,
    pub message: String,
    pub hint: String,
}

pub(super) fn parse(text: &str) -> Result<LogQuery, QueryError> {
    let mut reader = Reader { text, chars: text.char_indices().peekable() };
    if text.chars().count() > QUERY_CHARS_MAX {
        return Err(reader.error(
            0,
            format!("expected at most {QUERY_CHARS_MAX} characters"),
            "ask for less at once",
        ));
    }
    let mut terms = Vec::new();
    loop {
        reader.skip_blanks();
        let start = reader.at();
        if start == text.len() {
            return Ok(LogQuery { terms });
        }
        if terms.len() == TERMS_MAX {
            return Err(reader.error(
                start,
                format!("expected at most {TERMS_MAX} terms"),
                "ask for less at once",
            ));
        }
        let negated = reader.take('-');
        terms.push(LogTerm { negated, test: reader.test(start)? });
    }
}

struct Reader<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
}

impl<'a> Reader<'a> {
    /// A term behind its `-`.
    fn test(&mut self, start: usize) -> Result<LogTest, QueryError> {
        if self.chars.peek().is_none_or(|(_, c)| c.is_whitespace()) {
            return Err(self.error(start, "nothing follows \"-\"".into(), "-word leaves out what has the word; to find a dash, put it into quotes with what follows"));
        }
        if self.chars.peek().is_some_and(|(_, c)| *c == '"') {
            let phrase = self.quoted()?;
            let open = self.take('*');
            return self.phrase(start, &phrase, open);
        }
        let name = self.name();
        let rest = self.rest();
        match name {
            Some(name) if rest.starts_with(':') && !rest.starts_with("://") => {
                self.take(':');
                self.field(start, name)
            }
            Some("level") if rest.starts_with(['>', '<']) => self.field(start, "level"),
            _ => self.bare(start),
        }
    }

    /// A word that belongs to no field.
    fn bare(&mut self, start: usize) -> Result<LogTest, QueryError> {
        while let Some((at, c)) = self.chars.next_if(|(_, c)| !c.is_whitespace()) {
            if c == '"' {
                return Err(self.error(
                    at,
                    "a quote in the middle of a word".into(),
                    "put blanks around a phrase: error \"connection refused\"",
                ));
            }
        }
        let word = self.text[start..self.at()].trim_start_matches('-');
        if matches!(word, "AND" | "OR" | "NOT") {
            let hint = "all terms must hold; -word leaves out, service:api,web gives a choice; to find the word itself, write it in lower case";
            return Err(self.error(start, format!("there is no {word}"), hint));
        }
        self.phrase(start, word, word.ends_with('*'))
    }

    fn phrase(&self, start: usize, text: &str, open: bool) -> Result<LogTest, QueryError> {
        let words: Vec<String> = words(text).map(fold).collect();
        if words.is_empty() {
            return Err(self.error(
                start,
                format!("there is no word in {text:?}"),
                "words are letters and digits; everything between them is ignored",
            ));
        }
        Ok(LogTest::Words { words, open })
    }

    /// The value of a field, behind the name and the colon.
    fn field(&mut self, start: usize, name: &str) -> Result<LogTest, QueryError> {
        if matches!(name, "level" | "severity") {
            return self.levels().map(LogTest::Level);
        }
        let values = self.values(start, name)?.iter().map(|v| fold(v)).collect();
        Ok(match name {
            "service" => LogTest::Service(values),
            "machine" | "host" => LogTest::Machine(values),
            _ => LogTest::Attribute { name: fold(name), values },
        })
    }

    fn levels(&mut self) -> Result<Vec<LevelRange>, QueryError> {
        let mut ranges = Vec::new();
        loop {
            let above = self.take('>');
            let below = !above && self.take('<');
            let included = (above || below) && self.take('=');
            let start = self.at();
            let written = self.value()?.map_or(String::new(), |value| fold(&value));
            let level = match written.as_str() {
                "warning" => Some(Level::Warn),
                "err" => Some(Level::Error),
                "critical" => Some(Level::Fatal),
                name => Level::ALL.into_iter().find(|level| level.name() == name),
            };
            let names = "unknown, trace, debug, info, warn, error or fatal";
            let Some(level) = level else {
                let message = format!("expected a level, found {written:?}");
                return Err(self.error(
                    start,
                    message,
                    &format!("it is one of {names}; level:>=warn is warn and everything above"),
                ));
            };
            let beside = |step: isize| {
                let at = Level::ALL.iter().position(|&l| l == level)?;
                Level::ALL.get(at.checked_add_signed(step)?).copied()
            };
            let range = match (above, below, included) {
                (true, _, true) => Some((level, Level::Fatal)),
                (true, _, false) => beside(1).map(|first| (first, Level::Fatal)),
                (_, true, true) => Some((Level::Unknown, level)),
                (_, true, false) => beside(-1).map(|last| (Level::Unknown, last)),
                _ => Some((level, level)),
            };
            let Some((first, last)) = range else {
                let which = if above { "above" } else { "below" };
                let message = format!("there is no level {which} {}", level.name());
                return Err(self.error(start, message, &format!("the levels are {names}")));
            };
            ranges.push(LevelRange { first, last });
            if !self.take(',') {
                return Ok(ranges);
            }
        }
    }

    /// One or more values with commas between them.
    fn values(&mut self, start: usize, name: &str) -> Result<Vec<String>, QueryError> {
        let mut values = Vec::new();
        loop {
            match self.value()? {
                Some(value) => values.push(value),
                None => {
                    let hint = format!(
                        "write {name}:value without a blank, {name}:* for any value, or quotes to find the text itself"
                    );
                    return Err(self.error(start, format!("{name}: has no value"), &hint));
                }
            }
            if !self.take(',') {
                return Ok(values);
            }
        }
    }

    /// Up to a blank or a comma, or in quotes. `None` when there is nothing.
    fn value(&mut self) -> Result<Option<String>, QueryError> {
        let start = self.at();
        if self.chars.peek().is_some_and(|(_, c)| *c == '"') {
            let text = self.quoted()?;
            return Ok((!text.is_empty()).then_some(text));
        }
        while self.chars.next_if(|(_, c)| !c.is_whitespace() && !matches!(c, ',' | '"')).is_some() {
        }
        let text = self.text[start..self.at()].to_owned();
        Ok((!text.is_empty()).then_some(text))
    }

    /// A text in quotes, in which a backslash makes a quote or a backslash part of the text.
    fn quoted(&mut self) -> Result<String, QueryError> {
        let start = self.at();
        self.take('"');
        let mut text = String::new();
        while let Some((_, c)) = self.chars.next() {
            match c {
                '"' => return Ok(text),
                '\\' => match self.chars.peek() {
                    Some((_, next @ ('"' | '\\'))) => {
                        text.push(*next);
                        self.chars.next();
                    }
                    _ => text.push('\\'),
                },
                c => text.push(c),
            }
        }
        Err(self.error(start, "a quote that does not end".into(), "close it, or leave it out"))
    }

    /// The name of a field, if there is one here; else nothing is taken.
    fn name(&mut self) -> Option<&'a str> {
        let start = self.at();
        let rest = self.rest();
        if !rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            return None;
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/');
        let len = rest.find(|c: char| !allowed(c)).unwrap_or(rest.len());
        if !rest[len..].starts_with([':', '>', '<']) {
            return None;
        }
        while self.chars.next_if(|(at, _)| *at < start + len).is_some() {}
        Some(&self.text[start..start + len])
    }

    fn skip_blanks(&mut self) {
        while self.chars.next_if(|(_, c)| c.is_whitespace()).is_some() {}
    }

    fn take(&mut self, wanted: char) -> bool {
        self.chars.next_if(|(_, c)| *c == wanted).is_some()
    }

    /// Place of the next character, in bytes.
    fn at(&mut self) -> usize {
        self.chars.peek().map_or(self.text.len(), |(at, _)| *at)
    }

    fn rest(&mut self) -> &'a str {
        let at = self.at();
        &self.text[at..]
    }

    fn error(&self, at: usize, message: String, hint: &str) -> QueryError {
        let place = self.text[..at].chars().count() + 1;
        QueryError { place, message, hint: hint.to_owned() }
    }
}
