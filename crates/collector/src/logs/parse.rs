//! One event's text to a log event: time, severity, service, attributes. Pure; takes any text.
//!
//! Secrets go first, so that nothing after can let one through. Nothing is thrown away: what does not
//! fit into attributes stays in the body as it was written.

use std::borrow::Cow;

use jiff::tz::TimeZone;
use model::secrets::mask;
use model::{Labels, LogEvent, Severity, UnixMillis, limits};

pub(crate) mod fields;
pub(crate) mod severity;
pub(crate) mod time;

/// Attributes of one event, those of its source included.
pub(super) const ATTRIBUTES_MAX: usize = limits::LABELS_MAX;

/// What the source knows of an event besides its text.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// By configuration: wins over whatever the line says.
    pub(super) service: Option<String>,
    /// Where the line says none.
    pub(super) service_otherwise: String,
    pub(super) time: Option<UnixMillis>,
    pub(super) severity: Severity,
    /// Of all events of the source.
    pub(super) attributes_always: Labels,
    /// Of this one besides.
    pub(super) attributes: Vec<(String, String)>,
    /// "file", "journald", …
    pub(super) source: &'static str,
}

impl Known {
    /// Whatever the source knows, to add more.
    pub(super) fn attributes(&self) -> Vec<(String, String)> {
        let always = self.attributes_always.iter();
        let always = always.map(|(name, value)| (name.to_owned(), value.to_owned()));
        always.chain(self.attributes.iter().cloned()).collect()
    }
}

/// What holds for every event.
#[derive(Clone, Debug)]
pub(super) struct Parser {
    zone: TimeZone,
}

#[derive(Default)]
struct Found {
    body: Option<String>,
    time: Option<UnixMillis>,
    /// As it was written, unless the text begins with it.
    time_text: Option<String>,
    severity: Option<Severity>,
    service: Option<String>,
    attributes: Vec<(String, String)>,
    /// Something of the line is neither body nor attribute.
    is_partial: bool,
}

impl Parser {
    /// Times without a zone are those of `zone`.
    pub(super) fn new(zone: TimeZone) -> Self {
        Self { zone }
    }

    pub(super) fn event<'a>(
        &self,
        text: impl Into<Cow<'a, str>>,
        cut: bool,
        known: &Known,
        now: UnixMillis,
    ) -> LogEvent {
        let text = safe(text);
        let mut found = self.structured(&text, now).unwrap_or_default();
        if found.body.is_none() && found.attributes.is_empty() {
            found = self.plain(&text, now);
        }
        self.event_of(text, cut, found, known, now)
    }

    /// As it was told, by a program that knows what it says.
    pub(super) fn told(&self, text: &str, known: &Known, now: UnixMillis) -> LogEvent {
        self.event_of(safe(text), false, Found::default(), known, now)
    }

    fn event_of(
        &self,
        text: Cow<'_, str>,
        cut: bool,
        mut found: Found,
        known: &Known,
        now: UnixMillis,
    ) -> LogEvent {
        let said = found.time.or(known.time);
        let time = said.filter(|time| time::is_plausible(*time, now)).unwrap_or(now);
        // A clock that is years off, or a line that waited too long: kept, beside when it was read.
        let log_time = said.filter(|said| *said != time).map(|said| match found.time_text.take() {
            Some(text) => text,
            None if found.time.is_some() => head(&text, 40).to_owned(),
            None => said.0.to_string(),
        });
        let nothing_more =
            found.attributes.is_empty() && known.attributes.is_empty() && log_time.is_none();
        let attributes = match nothing_more {
            true => known.attributes_always.clone(),
            false => attributes(known, &mut found, log_time),
        };
        let severity = match known.severity {
            Severity::UNKNOWN => found.severity.unwrap_or_default(),
            // Everything on a unit's output is "info" to the journal: the line itself knows better.
            known => found.severity.unwrap_or(known),
        };
        let service = known.service.as_ref().or(found.service.as_ref());
        let service = service.unwrap_or(&known.service_otherwise);
        let service = head(service, limits::LABEL_VALUE_BYTES_MAX).to_owned();
        let mut body = match found.body {
            Some(body) if !found.is_partial => body,
            _ => text.into_owned(),
        };
        let end = body.floor_char_boundary(limits::LOG_BODY_BYTES_MAX);
        let body_truncated = cut || end < body.len();
        body.truncate(end);
        LogEvent {
            time,
            severity,
            service,
            body_truncated,
            body,
            attributes,
            source: known.source.to_owned(),
        }
    }

    fn structured(&self, text: &str, now: UnixMillis) -> Option<Found> {
        let pairs = fields::json(text).or_else(|| fields::logfmt(text))?;
        let mut found = Found::default();
        for (name, value) in pairs {
            match name.as_str() {
                "msg" | "message" | "MESSAGE" | "event" | "body" | "log" | "short_message"
                | "fields.message"
                    if found.body.is_none() =>
                {
                    found.body = Some(value);
                }
                "time" | "ts" | "timestamp" | "@timestamp" | "datetime" | "date" | "t"
                | "t.$date"
                    if found.time.is_none() =>
                {
                    found.time = time::from_field(&value, &self.zone)
                        .or_else(|| time::from_line(&value, now, &self.zone));
                    match found.time {
                        Some(_) => found.time_text = Some(value),
                        None => found.attributes.push((name, value)),
                    }
                }
                "level" | "lvl" | "severity" | "loglevel" | "log.level" | "levelname"
                | "severity_text"
                    if found.severity.is_none() =>
                {
                    found.severity = severity::from_word(&value)
                        .or_else(|| severity::from_number(value.parse().ok()?));
                    if found.severity.is_none() {
                        found.attributes.push((name, value));
                    }
                }
                "severity_number" | "severityNumber" if found.severity.is_none() => {
                    found.severity = value.parse().ok().and_then(Severity::new);
                }
                // Some routers say by that name how long it took.
                "service" | "service.name" | "app" | "application"
                    if found.service.is_none() && !is_duration(&value) =>
                {
                    found.service = Some(value);
                }
                _ => found.attributes.push((name, value)),
            }
        }
        if found.severity.is_none() {
            let said = found.body.as_deref().and_then(severity::from_line);
            found.severity = said;
        }
        Some(found)
    }

    fn plain(&self, text: &str, now: UnixMillis) -> Found {
        let mut found = Found::default();
        if let Some((time, program, message)) = self.syslog_file(text, now) {
            found.time = Some(time);
            found.service = Some(program.to_owned());
            found.severity = severity::from_line(message);
        } else {
            found.time = time::from_line(text, now, &self.zone);
            found.severity = severity::from_line(text).or_else(|| klog_severity(text));
        }
        found
    }

    /// ISO 8601.
    pub(super) fn instant(&self, text: &str) -> Option<UnixMillis> {
        time::instant(text, &self.zone)
    }

    /// The time that a line of syslog begins with, and what follows.
    pub(super) fn syslog_time<'a>(
        &self,
        text: &'a str,
        now: UnixMillis,
    ) -> Option<(UnixMillis, &'a str)> {
        time::syslog(text, now, &self.zone).or_else(|| {
            let stamp = text.split(' ').next().filter(|stamp| stamp.contains('T'))?;
            Some((time::instant(stamp, &self.zone)?, &text[stamp.len()..]))
        })
    }

    /// A line as syslog daemons write it to files: time, host, `program[pid]:`.
    fn syslog_file<'a>(
        &self,
        text: &'a str,
        now: UnixMillis,
    ) -> Option<(UnixMillis, &'a str, &'a str)> {
        // What must follow the time is sooner looked for than a time is read.
        let ends_a_tag = |at: usize| text.as_bytes().get(at + 1).is_none_or(|b| *b == b' ');
        memchr::memchr_iter(b':', text.as_bytes()).find(|at| ends_a_tag(*at))?;
        let (time, rest) = self.syslog_time(text, now)?;
        let (host, rest) = rest.trim_start().split_once(' ')?;
        let (tag, message) =
            rest.split_once(": ").or_else(|| Some((rest.strip_suffix(':')?, "")))?;
        let program = tag.split('[').next()?;
        let is_name = !program.is_empty()
            && program.len() <= 64
            && program.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/()@".contains(&b));
        let is_level = [host, program].iter().any(|word| severity::from_word(word).is_some());
        (is_name && !is_level).then_some((time, program, message))
    }
}

/// What the source knows and what was found, as far as it fits.
fn attributes(known: &Known, found: &mut Found, log_time: Option<String>) -> Labels {
    let mut attributes = known.attributes();
    for (name, value) in std::mem::take(&mut found.attributes) {
        let fits = attributes.len() + 1 < ATTRIBUTES_MAX
            && is_label_name(&name)
            && value.len() <= limits::LABEL_VALUE_BYTES_MAX
            && attributes.iter().all(|(known, _)| *known != name);
        if fits {
            attributes.push((name, value));
        } else {
            found.is_partial = true;
        }
    }
    if let Some(text) = log_time {
        attributes.retain(|(name, _)| name != "log.time");
        attributes.push(("log.time".to_owned(), text));
    }
    Labels::new(attributes).unwrap_or_default()
}

fn klog_severity(text: &str) -> Option<Severity> {
    let b = text.as_bytes();
    let is_klog = b.get(1..5)?.iter().all(u8::is_ascii_digit) && b.get(5) == Some(&b' ');
    let number = match b[0] {
        b'I' => 9,
        b'W' => 13,
        b'E' => 17,
        b'F' => 21,
        _ => return None,
    };
    is_klog.then(|| Severity::new(number)).flatten()
}

/// Without what could do anything to whoever shows it, and without secrets.
pub(super) fn safe<'a>(text: impl Into<Cow<'a, str>>) -> Cow<'a, str> {
    let text = text.into();
    let masked = |text: &str| match mask(text) {
        Cow::Borrowed(_) => None,
        Cow::Owned(masked) => Some(masked),
    };
    let changed = match clean(&text) {
        Cow::Borrowed(text) => masked(text),
        Cow::Owned(text) => masked(&text).or(Some(text)),
    };
    changed.map_or(text, Cow::Owned)
}

/// Without colours; other control characters, which could do things to a terminal or a database, as
/// pictures of themselves.
fn clean(text: &str) -> Cow<'_, str> {
    let is_control = |c: char| (c.is_control() && !matches!(c, '\n' | '\t')) || is_bidi(c);
    // Without a way out in between, many bytes are looked at at once; most lines have nothing else.
    let is_plain = |b: u8| matches!(b, b' '..=b'~' | b'\n' | b'\t');
    if text.bytes().fold(true, |all, b| all & is_plain(b)) || !text.chars().any(is_control) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(is_control) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = without_colour(rest) {
            rest = after;
            continue;
        }
        let c = rest.chars().next().unwrap_or_default();
        out.push(match u32::from(c) {
            c @ 0..0x20 => char::from_u32(0x2400 + c).unwrap_or('\u{fffd}'),
            0x7f => '\u{2421}',
            _ => '\u{fffd}',
        });
        rest = &rest[c.len_utf8()..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Characters that turn the direction of what follows.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What follows an escape sequence for colour, if `text` begins with one.
fn without_colour(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("\u{1b}[")?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    rest[end..].strip_prefix('m')
}

fn head(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

pub(super) fn is_label_name(name: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'/');
    !name.is_empty() && name.len() <= limits::LABEL_NAME_BYTES_MAX && name.bytes().all(is_part)
}

fn is_duration(text: &str) -> bool {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    unit.len() < text.len() && matches!(unit, "ns" | "us" | "µs" | "ms" | "s" | "")
}

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod tests;
