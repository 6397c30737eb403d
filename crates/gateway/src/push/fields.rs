//! The fields of one object: each taken once, and what nobody asked for refused. Pure.

use model::UnixMillis;
use serde_json::{Map, Value};

use crate::api::ApiError;

#[derive(Debug)]
pub(super) struct Fields {
    place: String,
    map: Result<Map<String, Value>, Value>,
    asked: Vec<&'static str>,
}

impl Fields {
    pub(super) fn new(place: String, value: Value) -> Self {
        let map = match value {
            Value::Object(map) => Ok(map),
            other => Err(other),
        };
        Self { place, map, asked: Vec::new() }
    }

    /// Blames a field.
    pub(super) fn problem(&self, field: &str, problem: impl std::fmt::Display) -> ApiError {
        let place = match (&*self.place, field) {
            ("", "") => "body".to_owned(),
            ("", field) => field.to_owned(),
            (place, "") => place.to_owned(),
            (place, field) => format!("{place}.{field}"),
        };
        ApiError::invalid(&place, format!("{place}: {problem}"))
    }

    fn take(&mut self, name: &'static str) -> Result<Option<Value>, ApiError> {
        self.asked.push(name);
        match &mut self.map {
            Ok(map) => Ok(map.remove(name).filter(|value| !value.is_null())),
            Err(found) => {
                let problem = format!("expected a JSON object, found {}", shown(found));
                Err(self.problem("", problem))
            }
        }
    }

    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<String>, ApiError> {
        match self.take(name)? {
            None => Ok(None),
            Some(Value::String(text)) => Ok((!text.is_empty()).then_some(text)),
            Some(other) => {
                Err(self.problem(name, format!("expected text, found {}", shown(&other))))
            }
        }
    }

    pub(super) fn number(&mut self, name: &'static str) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.take(name)? else { return Ok(None) };
        match value.as_f64() {
            Some(number) => Ok(Some(number)),
            None => Err(self.problem(name, format!("expected a number, found {}", shown(&value)))),
        }
    }

    pub(super) fn numbers(&mut self, name: &'static str) -> Result<Option<Vec<f64>>, ApiError> {
        let Some(value) = self.take(name)? else { return Ok(None) };
        let list = value.as_array().map(|list| list.iter().map(Value::as_f64).collect());
        match list.flatten() {
            Some(numbers) => Ok(Some(numbers)),
            None => {
                let problem = format!("expected an array of numbers, found {}", shown(&value));
                Err(self.problem(name, problem))
            }
        }
    }

    pub(super) fn map(&mut self, name: &'static str) -> Result<Map<String, Value>, ApiError> {
        match self.take(name)? {
            None => Ok(Map::new()),
            Some(Value::Object(map)) => Ok(map),
            Some(other) => {
                let problem = format!("expected an object, found {}", shown(&other));
                Err(self.problem(name, problem))
            }
        }
    }

    /// Labels or attributes: text, and what is as good as text.
    pub(super) fn texts(&mut self, name: &'static str) -> Result<Vec<(String, String)>, ApiError> {
        let mut texts = Vec::new();
        flatten("", self.map(name)?, &mut texts);
        Ok(texts)
    }

    /// RFC 3339 or Unix milliseconds.
    pub(super) fn time(&mut self, name: &'static str) -> Result<Option<UnixMillis>, ApiError> {
        let Some(value) = self.take(name)? else { return Ok(None) };
        let time = match &value {
            Value::String(text) => {
                text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
            }
            value => value.as_i64(),
        };
        match time {
            // Seconds would be in January of 1970.
            Some(ms) if !(1..100_000_000_000).contains(&ms) && ms != 0 => Ok(Some(UnixMillis(ms))),
            _ => {
                let problem = format!(
                    "expected a time such as \"2026-01-31T12:00:00Z\" or Unix milliseconds, found {}",
                    shown(&value)
                );
                Err(self.problem(name, problem))
            }
        }
    }

    pub(super) fn any(&mut self, name: &'static str) -> Result<Option<Value>, ApiError> {
        self.take(name)
    }

    /// What is left was misspelt: it must not be without effect in silence.
    pub(super) fn finish(&self) -> Result<(), ApiError> {
        match self.map.as_ref().ok().and_then(|map| map.keys().next()) {
            None => Ok(()),
            Some(name) => {
                let name: String = name.chars().take(64).collect();
                let problem = format!("unknown field, expected one of: {}", self.asked.join(", "));
                Err(self.problem(&name, problem))
            }
        }
    }
}

/// What is within others gets a name with dots.
fn flatten(prefix: &str, map: Map<String, Value>, texts: &mut Vec<(String, String)>) {
    for (name, value) in map {
        let name = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value {
            Value::Null => {}
            Value::String(text) => texts.push((name, text)),
            Value::Object(map) => flatten(&name, map, texts),
            other => texts.push((name, other.to_string())),
        }
    }
}

pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        Fields::new("[3]".to_owned(), value)
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place_and_its_value() {
        fn check<T: std::fmt::Debug>(result: Result<T, ApiError>, expected: &str) {
            let error = result.expect_err(expected);
            assert_eq!(error.message(), expected);
        }
        check(fields(json!({ "a": 1 })).text("a"), "[3].a: expected text, found 1");
        check(fields(json!({ "a": "1" })).number("a"), "[3].a: expected a number, found \"1\"");
        check(fields(json!([1])).text("a"), "[3]: expected a JSON object, found [1]");
        let mut some = fields(json!({ "nam": "x" }));
        some.text("name").expect("none");
        check(some.finish(), "[3].nam: unknown field, expected one of: name");
        let mut alone = Fields::new(String::new(), json!({ "a": {} }));
        check(alone.numbers("a"), "a: expected an array of numbers, found {}");
    }

    #[test]
    fn times_are_text_or_milliseconds_and_never_seconds() {
        let time = |value: Value| fields(json!({ "time": value })).time("time").ok().flatten();
        let expected = Some(UnixMillis(1_795_208_400_000));
        assert_eq!(time(json!("2026-11-20T21:00:00Z")), expected);
        assert_eq!(time(json!(1_795_208_400_000i64)), expected);
        for wrong in [json!(1_795_208_400), json!(1.5), json!("now"), json!("")] {
            assert_eq!(time(wrong.clone()), None, "{wrong}");
        }
    }

    #[test]
    fn attributes_within_others_get_names_with_dots() {
        let value =
            json!({ "l": { "a": { "b": 1, "c": [1, "x"] }, "d": "e", "f": null, "g": true } });
        let mut texts = fields(value).texts("l").expect("reads");
        texts.sort();
        let text = |(name, value): &(String, String)| format!("{name}={value}");
        let texts: Vec<String> = texts.iter().map(text).collect();
        assert_eq!(texts, ["a.b=1", "a.c=[1,\"x\"]", "d=e", "g=true"]);
    }
}
