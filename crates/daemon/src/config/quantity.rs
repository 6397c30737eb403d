//! Durations and sizes as people write them: `"15s"`, `"64MiB"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserializer, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A length of time, written `"250ms"`, `"15s"`, `"1h30m"`, `"30d"` or `"2y"` (a year has 365 days).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A number of bytes, written `"512"`, `"64MiB"` (1024-based) or `"10MB"` (1000-based).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// Fits after the name of what was to be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found:?}")]
pub struct QuantityError {
    expected: &'static str,
    found: String,
}

const SPAN_EXPECTED: &str = "a duration such as \"15s\"";
const SPAN_UNIT_EXPECTED: &str = "a duration with its unit, such as \"15s\"";
const BYTES_EXPECTED: &str = "a size such as \"64MiB\"";

/// Largest first, so that the first that divides is the shortest way to write.
const SPAN_UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

const BYTES_UNITS: [(&str, u64); 11] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
    ("", 1),
];

impl Span {
    pub const fn from_millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    pub const fn get(self) -> Duration {
        self.0
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

impl FromStr for Span {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bare = !text.trim().is_empty() && text.trim().bytes().all(|c| c.is_ascii_digit());
        let expected = if bare { SPAN_UNIT_EXPECTED } else { SPAN_EXPECTED };
        let refuse = || QuantityError { expected, found: shown(text) };
        let mut rest = text.trim();
        let mut total: u64 = 0;
        let mut last_unit_ms = u64::MAX;
        while !rest.is_empty() {
            let (number, tail) = split_number(rest).ok_or_else(refuse)?;
            let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(letters);
            let (_, ms) = SPAN_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(refuse)?;
            // Units must shrink: "1m1h" is more likely a slip than a wish.
            if *ms >= last_unit_ms {
                return Err(refuse());
            }
            last_unit_ms = *ms;
            total =
                number.checked_mul(*ms).and_then(|n| n.checked_add(total)).ok_or_else(refuse)?;
            rest = tail;
        }
        if last_unit_ms == u64::MAX {
            return Err(refuse());
        }
        Ok(Self::from_millis(total))
    }
}

impl FromStr for Bytes {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || QuantityError { expected: BYTES_EXPECTED, found: shown(text) };
        let (number, unit) = split_number(text.trim()).ok_or_else(refuse)?;
        let unit = unit.trim_start();
        let (_, size) = BYTES_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(refuse)?;
        number.checked_mul(*size).map(Self).ok_or_else(refuse)
    }
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    Some((number.parse().ok()?, rest))
}

fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if ms == 0 {
            return f.write_str("0s");
        }
        for (unit, size) in SPAN_UNITS {
            if ms >= size {
                write!(f, "{}{unit}", ms / size)?;
                ms %= size;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fitting = BYTES_UNITS[..4]
            .iter()
            .find(|(_, size)| self.0 >= *size && self.0.is_multiple_of(*size));
        match fitting {
            Some((unit, size)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl Visitor<'_> for Written {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(SPAN_EXPECTED)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Written)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl Visitor<'_> for Written {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(BYTES_EXPECTED)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
                text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }
            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Bytes, E> {
                let negative = |_| E::invalid_value(Unexpected::Signed(bytes), &self);
                u64::try_from(bytes).map(Bytes).map_err(negative)
            }
        }
        deserializer.deserialize_any(Written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        fn check(text: &str, expected: Option<u64>) {
            let ms = text.parse::<Span>().ok().map(|span| span.0.as_millis() as u64);
            assert_eq!(ms, expected, "{text:?}");
        }
        check("15s", Some(15_000));
        check("250ms", Some(250));
        check("1h30m", Some(5_400_000));
        check("2y", Some(2 * 365 * 86_400_000));
        check("0s", Some(0));
        check("5", None);
        check("", None);
        check("five", None);
        check("-5s", None);
        check("1m1h", None);
        check("1s1s", None);
        check("5 s", None);
        check("99999999999999999999s", None);
        check("9999999999999999y", None);
        let bare = "5".parse::<Span>().expect_err("no unit").to_string();
        assert_eq!(bare, "expected a duration with its unit, such as \"15s\", found \"5\"");
        for text in ["250ms", "1s500ms", "15s", "1h30m", "30d", "2y", "0s"] {
            let back = text.parse::<Span>().expect("valid").to_string().parse::<Span>();
            assert_eq!(back, text.parse::<Span>());
        }
        assert_eq!(Span::from_secs(90).to_string(), "1m30s");
    }

    #[test]
    fn sizes_are_read_and_written() {
        fn check(text: &str, expected: Option<u64>) {
            assert_eq!(text.parse::<Bytes>().ok().map(|b| b.0), expected, "{text:?}");
        }
        check("64MiB", Some(64 << 20));
        check("64 MiB", Some(64 << 20));
        check("10MB", Some(10_000_000));
        check("512", Some(512));
        check("0B", Some(0));
        check("64mib", None);
        check("MiB", None);
        check("1.5GiB", None);
        check("99999999TiB", None);
        assert_eq!(Bytes(64 << 20).to_string(), "64MiB");
        assert_eq!(Bytes(1_000).to_string(), "1000B");
        assert_eq!(Bytes(0).to_string(), "0B");
    }
}
