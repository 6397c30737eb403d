//! What container engines put around a line: JSON by Docker, a prefix by Podman and Kubernetes.
//!
//! A long line comes in parts; they are put together again, for each stream apart.

use jiff::tz::TimeZone;
use model::UnixMillis;
use serde::Deserialize;

use super::lines::LINE_BYTES_MAX;
use super::parse::time;

/// A line as the program in the container wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) text: String,
    pub(super) stream: Stream,
    pub(super) time: Option<UnixMillis>,
    pub(super) cut: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stream {
    #[default]
    Stdout,
    Stderr,
}

/// Opens envelopes, one after the other.
#[derive(Debug, Default)]
pub(super) struct Envelopes {
    parts: [Option<Content>; 2],
}

#[derive(Deserialize)]
struct Docker {
    log: String,
    #[serde(default)]
    stream: String,
    #[serde(default)]
    time: String,
}

impl Envelopes {
    /// The line that this envelope completes; `None` while parts of it are to come. What is no envelope
    /// is taken as it is.
    pub(super) fn open(&mut self, line: &str) -> Option<Content> {
        let Some((part, is_whole)) = docker(line).or_else(|| cri(line)) else {
            let text = line.to_owned();
            return Some(Content { text, stream: Stream::Stdout, time: None, cut: false });
        };
        let parts = &mut self.parts[part.stream as usize];
        let content = match parts.take() {
            Some(mut before) => {
                let room = LINE_BYTES_MAX.saturating_sub(before.text.len());
                let kept = part.text.floor_char_boundary(room);
                before.text.push_str(&part.text[..kept]);
                before.cut |= kept < part.text.len();
                before
            }
            None => part,
        };
        if is_whole {
            return Some(content);
        }
        *parts = Some(content);
        None
    }

    /// Whether parts wait for others.
    pub(super) fn holds_parts(&self) -> bool {
        self.parts.iter().any(Option::is_some)
    }
}

/// `{"log":"text\n","stream":"stderr","time":"…"}`; without a line feed at its end it is a part.
fn docker(line: &str) -> Option<(Content, bool)> {
    if !line.starts_with('{') {
        return None;
    }
    let Docker { log, stream, time } = serde_json::from_str(line).ok()?;
    let (text, is_whole) = match log.strip_suffix('\n') {
        Some(text) => (text.strip_suffix('\r').unwrap_or(text), true),
        None => (log.as_str(), false),
    };
    Some((content(text, &stream, &time), is_whole))
}

/// `2026-11-20T21:00:00.123456789Z stderr F text`; with a `P` it is a part.
fn cri(line: &str) -> Option<(Content, bool)> {
    let mut words = line.splitn(4, ' ');
    let (time, stream, tag) = (words.next()?, words.next()?, words.next()?);
    if !matches!(stream, "stdout" | "stderr") || !time.contains('T') {
        return None;
    }
    let is_whole = match tag.split(':').next()? {
        "F" => true,
        "P" => false,
        _ => return None,
    };
    Some((content(words.next().unwrap_or_default(), stream, time), is_whole))
}

fn content(text: &str, stream: &str, time: &str) -> Content {
    let stream = if stream == "stderr" { Stream::Stderr } else { Stream::Stdout };
    let time = time::instant(time, &TimeZone::UTC);
    Content { text: text.to_owned(), stream, time, cut: false }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The contents of envelopes: stream, milliseconds after 21:00:00, text.
    fn check(lines: &[&str], expected: &[&str]) {
        let base = time::instant("2026-11-20T21:00:00Z", &TimeZone::UTC).expect("valid").0;
        let mut envelopes = Envelopes::default();
        let found: Vec<_> = lines
            .iter()
            .filter_map(|line| envelopes.open(line))
            .map(|c| format!("{:?} {:?} {}", c.stream, c.time.map(|t| t.0 - base), c.text))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn envelopes_are_opened_and_parts_joined() {
        check(
            &[r#"{"log":"hello\n","stream":"stdout","time":"2026-11-20T21:00:00.250000001Z"}"#],
            &["Stdout Some(250) hello"],
        );
        check(
            &[
                r#"{"log":"one ","stream":"stdout","time":"2026-11-20T21:00:00Z"}"#,
                r#"{"log":"other\n","stream":"stderr","time":"2026-11-20T21:00:01Z"}"#,
                r#"{"log":"two\r\n","stream":"stdout","time":"2026-11-20T21:00:02Z"}"#,
            ],
            &["Stderr Some(1000) other", "Stdout Some(0) one two"],
        );
        check(
            &[
                "2026-11-20T21:00:00.5Z stdout P par",
                "2026-11-20T22:00:01.5+01:00 stdout F tial",
                "2026-11-20T21:00:02Z stderr F ",
            ],
            &["Stdout Some(500) partial", "Stderr Some(2000) "],
        );
        check(
            &["no envelope", r#"{"log":1}"#],
            &["Stdout None no envelope", r#"Stdout None {"log":1}"#],
        );
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(lines in prop::collection::vec(r#"(\{"log":"|\\n|"|\}|stdout|stderr| |F|P|2026-11-20T21:00:00Z|é){0,9}"#, 0..5)) {
            let mut envelopes = Envelopes::default();
            lines.iter().for_each(|line| drop(envelopes.open(line)));
        }
    }
}
