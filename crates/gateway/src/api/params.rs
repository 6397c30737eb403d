//! Query parameters: times, durations, numbers and matchers as people write them.

use std::str::FromStr;
use std::time::SystemTime;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use model::UnixMillis;
use proto::v1;
use proto::v1::label_matcher::Op;

use super::ApiError;

/// The parameters of one request. A parameter that nobody asked for is an error, so that a misspelt one
/// is not silently without effect.
#[derive(Debug)]
pub(crate) struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|error| ApiError::invalid("query", error.body_text()))?;
        Ok(Self(pairs))
    }
}

impl Params {
    pub(crate) fn allow(&self, names: &[&str]) -> Result<(), ApiError> {
        match self.0.iter().find(|(name, _)| !names.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) => Err(ApiError::invalid(
                name,
                format!("unknown parameter {name:?}, expected one of: {}", names.join(", ")),
            )),
        }
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let value = self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        value.filter(|value| !value.is_empty())
    }

    /// As [`Self::text`], for a parameter of which a second one would otherwise be without effect.
    pub(crate) fn once(&self, name: &str) -> Result<Option<&str>, ApiError> {
        match self.0.iter().filter(|(key, _)| key == name).count() {
            0 | 1 => Ok(self.text(name)),
            n => Err(ApiError::invalid(name, format!("{name}: expected one, found {n}"))),
        }
    }

    pub(crate) fn required(&self, name: &str) -> Result<&str, ApiError> {
        self.text(name).ok_or_else(|| ApiError::invalid(name, format!("{name} is required")))
    }

    pub(crate) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let parse = |text: &str| {
            text.parse().map_err(|_| {
                ApiError::invalid(name, format!("{name}: expected a number, found {text:?}"))
            })
        };
        self.text(name).map(parse).transpose()
    }

    /// `true`, `1` or an empty value is true.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.0.iter().any(|(key, value)| key == name && matches!(value.as_str(), "true" | "1" | ""))
    }

    /// Values of a parameter that may be repeated and may hold several, separated by commas.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let values = self.0.iter().filter(|(key, _)| key == name);
        values
            .flat_map(|(_, value)| value.split(','))
            .map(str::trim)
            .filter(|value| !value.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// RFC 3339, Unix milliseconds, `now`, or ago: `-1h`.
    pub(crate) fn time(&self, name: &str, now_ms: i64) -> Result<Option<i64>, ApiError> {
        let parse = |text: &str| {
            time(text, now_ms).ok_or_else(|| {
                let message = format!(
                    "{name}: expected a time such as 2026-01-31T12:00:00Z, Unix milliseconds, \
                     \"now\" or \"-1h\", found {text:?}"
                );
                ApiError::invalid(name, message)
            })
        };
        self.text(name).map(parse).transpose()
    }

    /// `15s`, `1m30s`, `250ms`.
    pub(crate) fn duration_ms(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let parse = |text: &str| {
            duration_ms(text).ok_or_else(|| {
                let message =
                    format!("{name}: expected a duration such as \"15s\", found {text:?}");
                ApiError::invalid(name, message)
            })
        };
        self.text(name).map(parse).transpose()
    }

    /// Repeated `name=value`, `name!=value`, `name~glob`, `name!~glob`.
    pub(crate) fn matchers(&self, name: &str) -> Result<Vec<v1::LabelMatcher>, ApiError> {
        let values = self.0.iter().filter(|(key, _)| key == name);
        values
            .map(|(_, text)| {
                matcher(text).ok_or_else(|| {
                    let message = format!(
                        "{name}: expected label=value, label!=value, label~glob or label!~glob, \
                         found {text:?}"
                    );
                    ApiError::invalid(name, message)
                })
            })
            .collect()
    }
}

pub(crate) fn now_ms() -> i64 {
    UnixMillis::from(SystemTime::now()).0
}

fn time(text: &str, now_ms: i64) -> Option<i64> {
    if text == "now" {
        return Some(now_ms);
    }
    if let Some(ago) = text.strip_prefix('-') {
        return duration_ms(ago).and_then(|ms| now_ms.checked_sub(ms));
    }
    if text.bytes().all(|c| c.is_ascii_digit()) {
        return text.parse().ok();
    }
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}

fn duration_ms(text: &str) -> Option<i64> {
    let mut total: i64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..]
            .find(|c: char| c.is_ascii_digit())
            .map_or(rest.len(), |length| digits + length);
        let unit = match &rest[digits..unit_end] {
            "ms" => 1.0,
            "s" => 1e3,
            "m" | "min" => 60e3,
            "h" => 3_600e3,
            "d" => 86_400e3,
            "w" => 604_800e3,
            _ => return None,
        };
        let ms = number * unit;
        if !ms.is_finite() || ms > 1e15 {
            return None;
        }
        total = total.checked_add(ms.round() as i64)?;
        rest = &rest[unit_end..];
    }
    (!text.is_empty()).then_some(total)
}

fn matcher(text: &str) -> Option<v1::LabelMatcher> {
    let at = text.find(['=', '!', '~'])?;
    let (name, rest) = text.split_at(at);
    let (op, value) =
        [("!=", Op::NotEqual), ("!~", Op::NotGlob), ("=", Op::Equal), ("~", Op::Glob)]
            .into_iter()
            .find_map(|(sign, op)| rest.strip_prefix(sign).map(|value| (op, value)))?;
    let label =
        v1::LabelMatcher { name: name.trim().to_owned(), op: op.into(), value: value.to_owned() };
    (!label.name.is_empty()).then_some(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_ago() {
        fn check(text: &str, expected: Option<i64>) {
            assert_eq!(time(text, 10_000_000), expected, "{text:?}");
        }
        check("now", Some(10_000_000));
        check("-1h", Some(6_400_000));
        check("-1m30s", Some(9_910_000));
        check("1500", Some(1_500));
        check("1970-01-01T00:00:01.5Z", Some(1_500));
        check("1970-01-01T01:00:00+01:00", Some(0));
        check("yesterday", None);
        check("-", None);
        check("99999999999999999999999", None);
    }

    #[test]
    fn durations_have_units() {
        fn check(text: &str, expected: Option<i64>) {
            assert_eq!(duration_ms(text), expected, "{text:?}");
        }
        check("15s", Some(15_000));
        check("250ms", Some(250));
        check("1h30m", Some(5_400_000));
        check("0.5s", Some(500));
        check("15", None);
        check("five", None);
        check("", None);
        check("1e9d", None);
        check("99999999999999d", None);
    }

    #[test]
    fn matchers_have_four_signs() {
        fn check(text: &str, expected: Option<(&str, Op, &str)>) {
            let found = matcher(text);
            let found = found.as_ref().map(|m| (m.name.as_str(), m.op(), m.value.as_str()));
            assert_eq!(found, expected, "{text:?}");
        }
        check("env=dev", Some(("env", Op::Equal, "dev")));
        check("env!=dev", Some(("env", Op::NotEqual, "dev")));
        check("host.name~web-*", Some(("host.name", Op::Glob, "web-*")));
        check("a!~b=c", Some(("a", Op::NotGlob, "b=c")));
        check("env=", Some(("env", Op::Equal, "")));
        check("=dev", None);
        check("env", None);
        check("env!dev", None);
    }
}
