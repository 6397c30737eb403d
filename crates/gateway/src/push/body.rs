//! What a body holds: one JSON object, an array of them, or one on each line; plain or packed. Pure.

use std::io::Read as _;

use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use flate2::read::GzDecoder;
use model::limits;
use serde_json::Value;

use super::fields::Fields;
use crate::api::ApiError;

/// The objects of a body, and where they stand.
#[derive(Debug)]
pub(super) struct Items {
    values: Vec<Value>,
    places: Places,
}

#[derive(Debug)]
enum Places {
    One,
    Array,
    /// By line, from 1.
    Lines(Vec<usize>),
}

impl Items {
    pub(super) fn len(&self) -> usize {
        match &self.places {
            Places::Lines(lines) => lines.len(),
            Places::One | Places::Array => self.values.len(),
        }
    }

    /// `[2]`, `line 3`; nothing for the only one.
    pub(super) fn place(&self, item: usize) -> String {
        match &self.places {
            Places::One => String::new(),
            Places::Array => format!("[{item}]"),
            Places::Lines(lines) => {
                format!("line {}", lines.get(item).copied().unwrap_or_default())
            }
        }
    }

    pub(super) fn take_all(&mut self) -> Vec<Fields> {
        let values = self.values.iter_mut().map(std::mem::take).collect::<Vec<_>>();
        let fields = values.into_iter().enumerate();
        fields.map(|(i, value)| Fields::new(self.place(i), value)).collect()
    }
}

/// Reads the body that these headers describe.
pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Items, ApiError> {
    check_type(headers)?;
    match headers.get(CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None | Some(b"identity") => split(body),
        Some(b"gzip") => split(&unpacked(body)?),
        Some(other) => {
            let found = String::from_utf8_lossy(other);
            let problem = format!("content-encoding: expected gzip or none, found {found:?}");
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            Err(ApiError::of(status, "invalid_argument", "content-encoding", problem))
        }
    }
}

/// Of a form that a page elsewhere has a browser send, the type is never one of these.
fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let found = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = found.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if matches!(&*kind, "application/json" | "application/x-ndjson" | "application/jsonl") {
        return Ok(());
    }
    let problem = format!(
        "content-type: expected application/json or application/x-ndjson, found {found:?}; hint: curl --json, or -H 'content-type: application/json'"
    );
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    Err(ApiError::of(status, "invalid_argument", "content-type", problem))
}

/// A few bytes can unpack to gigabytes.
fn unpacked(body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let mut plain = Vec::new();
    let mut reader = GzDecoder::new(body).take(limits::PUSH_BODY_BYTES_MAX as u64 + 1);
    reader.read_to_end(&mut plain).map_err(|error| {
        ApiError::invalid("body", format!("body: expected gzip, as content-encoding says: {error}"))
    })?;
    match plain.len() > limits::PUSH_BODY_BYTES_MAX {
        true => Err(too_large()),
        false => Ok(plain),
    }
}

pub(super) fn too_large() -> ApiError {
    let mib = limits::PUSH_BODY_BYTES_MAX >> 20;
    let problem = format!("body: expected at most {mib} MiB unpacked; hint: send it in parts");
    ApiError::of(StatusCode::PAYLOAD_TOO_LARGE, "invalid_argument", "body", problem)
}

pub(super) fn split(body: &[u8]) -> Result<Items, ApiError> {
    let mut found = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
    let (mut values, mut ends) = (Vec::new(), Vec::new());
    while let Some(value) = found.next() {
        let value = value.map_err(|error| {
            let problem = format!(
                "body: expected a JSON object, an array of objects or one on each line: {error}"
            );
            ApiError::invalid("body", problem)
        })?;
        values.push(value);
        ends.push(found.byte_offset());
    }
    let (values, places) = match (values.len(), values.pop()) {
        (1, Some(Value::Array(items))) => (items, Places::Array),
        (1, Some(value)) => (vec![value], Places::One),
        (_, Some(value)) => {
            values.push(value);
            (values, Places::Lines(lines(body, &ends)))
        }
        (_, None) => (Vec::new(), Places::Array),
    };
    if values.is_empty() {
        return Err(ApiError::invalid("body", "body: expected something, found nothing"));
    }
    if values.len() > limits::LOG_EVENTS_PER_BATCH_MAX {
        let max = limits::LOG_EVENTS_PER_BATCH_MAX;
        let problem =
            format!("body: expected at most {max}, found {}; hint: send it in parts", values.len());
        return Err(ApiError::invalid("body", problem));
    }
    Ok(Items { values, places })
}

/// The lines on which values end.
fn lines(body: &[u8], ends: &[usize]) -> Vec<usize> {
    let (mut line, mut at) = (1, 0);
    let line_of = |end: &usize| {
        line += body[at..*end].iter().filter(|c| **c == b'\n').count();
        at = *end;
        line
    };
    ends.iter().map(line_of).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn an_object_an_array_and_lines_are_the_same_to_read() {
        fn check(body: &str, places: &[&str]) {
            let items = split(body.as_bytes()).expect(body);
            let found: Vec<String> = (0..items.len()).map(|i| items.place(i)).collect();
            assert_eq!(found, places, "{body:?}");
        }
        check(r#"{"a": 1}"#, &[""]);
        check(r#" [{"a": 1}, {"a": 2}] "#, &["[0]", "[1]"]);
        check("{}\n{}\n\n{}\n", &["line 1", "line 2", "line 4"]);
        check("{}\r\n{}", &["line 1", "line 2"]);
    }

    #[test]
    fn what_is_no_body_is_refused_with_what_is_wrong() {
        fn check(body: &[u8], expected: &str) {
            let error = split(body).expect_err(expected);
            assert!(error.message().contains(expected), "{}", error.message());
        }
        check(b"", "found nothing");
        check(b"[]", "found nothing");
        check(b"{\"a\": }", "line 1 column 7");
        check(b"{}\n{\"a\"", "line 2 column 4");
        check(b"\xff\xfe", "expected a JSON object");
        check(&[b'['; 10_000], "recursion limit");
        check("{}\n".repeat(10_001).as_bytes(), "at most 10000");
    }

    #[test]
    fn a_body_that_unpacks_to_too_much_is_refused_before_it_is_all_there() {
        let pack = |bytes: &[u8]| {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(bytes).expect("packs");
            encoder.finish().expect("packs")
        };
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "application/json; charset=utf-8".parse().expect("a value"));
        headers.insert(CONTENT_ENCODING, "gzip".parse().expect("a value"));
        assert_eq!(read(&headers, &pack(b"{}")).expect("unpacks").len(), 1);
        let bomb = pack(&vec![b' '; 100 << 20]);
        assert!(bomb.len() < 200_000);
        let error = read(&headers, &bomb).expect_err("too much");
        assert_eq!(error.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let error = read(&headers, b"{}").expect_err("is none");
        assert!(error.message().contains("expected gzip"), "{}", error.message());
    }

    #[test]
    fn a_type_that_any_page_could_send_is_refused() {
        for (kind, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/x-ndjson", true),
            ("text/plain", false),
            ("text/plain; application/json", false),
            ("application/x-www-form-urlencoded", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, kind.parse().expect("a value"));
            assert_eq!(read(&headers, b"{}").is_ok(), expected, "{kind}");
        }
        assert!(read(&HeaderMap::new(), b"{}").is_err());
    }
}
