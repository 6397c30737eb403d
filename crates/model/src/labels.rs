//! Label sets: small, sorted, without duplicates.

use std::fmt;
use std::sync::Arc;

use crate::limits;

/// Key–value pairs, sorted by key, each key once. Two equal sets compare and hash equal.
///
/// A value that is empty means the same as no label at all, as in Prometheus, and is left out. Clones share their
/// pairs: a log event has those of its file.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Arc<[(Box<str>, Box<str>)]>);

/// Why a label set was refused. Fits after "failed to read labels:".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelsError {
    #[error("label name is empty")]
    EmptyName,
    #[error("label name {0:?} is longer than {max} bytes", max = limits::LABEL_NAME_BYTES_MAX)]
    NameTooLong(String),
    #[error("label name {0:?} has a character other than letters, digits, '_', '.', '-' and '/'")]
    NameCharacter(String),
    #[error("value of label {0:?} is longer than {max} bytes", max = limits::LABEL_VALUE_BYTES_MAX)]
    ValueTooLong(String),
    #[error("label {0:?} is given twice")]
    Duplicate(String),
    #[error("{0} labels are more than {max}", max = limits::LABELS_MAX)]
    TooMany(usize),
}

impl Labels {
    pub fn empty() -> Self {
        Self::default()
    }

    /// Checks, sorts and keeps the pairs. Names: 1 to 128 bytes of ASCII letters, digits, `_ . - /`.
    pub fn new<K, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Result<Self, LabelsError>
    where
        K: Into<Box<str>>,
        V: Into<Box<str>>,
    {
        let mut pairs: Vec<(Box<str>, Box<str>)> = pairs
            .into_iter()
            .map(|(k, v)| (k.into(), v.into()))
            .filter(|(_, v): &(Box<str>, Box<str>)| !v.is_empty())
            .collect();
        if pairs.len() > limits::LABELS_MAX {
            return Err(LabelsError::TooMany(pairs.len()));
        }
        for (name, value) in &pairs {
            check_name(name)?;
            if value.len() > limits::LABEL_VALUE_BYTES_MAX {
                return Err(LabelsError::ValueTooLong(name.to_string()));
            }
        }
        pairs.sort();
        if let Some(twice) = pairs.windows(2).find(|w| w[0].0 == w[1].0) {
            return Err(LabelsError::Duplicate(twice[0].0.to_string()));
        }
        Ok(Self(pairs.into()))
    }

    /// For labels whose names are written in the code and whose values come from the machine: a value
    /// that is too long is cut at a character boundary.
    ///
    /// # Panics
    /// When a name is not a valid label name, or stands twice.
    pub fn of<const N: usize>(pairs: [(&'static str, &str); N]) -> Self {
        Self::new(pairs.map(|(k, v)| (k, cut(v, limits::LABEL_VALUE_BYTES_MAX))))
            .expect("label names in the code are valid")
    }

    /// The value, or "" when there is no such label.
    pub fn get(&self, name: &str) -> &str {
        self.0.binary_search_by(|(k, _)| (**k).cmp(name)).map_or("", |i| &self.0[i].1)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (&**k, &**v))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

fn check_name(name: &str) -> Result<(), LabelsError> {
    if name.is_empty() {
        return Err(LabelsError::EmptyName);
    }
    if name.len() > limits::LABEL_NAME_BYTES_MAX {
        return Err(LabelsError::NameTooLong(cut(name, 64).to_owned()));
    }
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-' | b'/');
    if !name.bytes().all(allowed) {
        return Err(LabelsError::NameCharacter(name.to_owned()));
    }
    Ok(())
}

/// The longest prefix of at most `bytes_max` bytes that ends between characters.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// `{env="dev", region="eu"}`, as Prometheus writes it; nothing for an empty set.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return Ok(());
        }
        f.write_str("{")?;
        for (i, (name, value)) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{name}={value:?}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_and_found_by_name() {
        let labels = Labels::of([("b", "2"), ("a", "1"), ("empty", "")]);
        assert_eq!(labels.to_string(), r#"{a="1", b="2"}"#);
        assert_eq!(labels.get("b"), "2");
        assert_eq!(labels.get("empty"), "");
        assert_eq!(labels.len(), 2);
    }

    #[test]
    fn a_bad_label_is_refused_with_its_name() {
        let check = |pairs: &[(&str, &str)], expected: &str| {
            let error = Labels::new(pairs.iter().copied()).expect_err("accepted");
            assert!(error.to_string().contains(expected), "{error}");
        };
        check(&[("", "x")], "empty");
        check(&[("a b", "x")], "\"a b\"");
        check(&[("a", "x"), ("a", "y")], "twice");
        check(&[("long", &"x".repeat(1025))], "\"long\"");
        check(&[(&"n".repeat(129), "x")], "longer than 128");
    }

    #[test]
    fn a_long_value_from_the_machine_is_cut_between_characters() {
        let labels = Labels::of([("path", "é".repeat(600).as_str())]);
        assert_eq!(labels.get("path").len(), 1024);
    }
}
