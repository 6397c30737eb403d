//! Lists as people type them into one field: matchers, labels, names. Parts are separated by commas or lines;
//! one that contains these stands in double quotes.

use std::collections::HashMap;

use proto::v1;
use proto::v1::label_matcher::Op;

const OPS: [(&str, Op); 4] =
    [("=~", Op::Glob), ("!~", Op::NotGlob), ("!=", Op::NotEqual), ("=", Op::Equal)];

/// `env=prod, host.name=~web-*`.
pub(super) fn matchers_from_text(text: &str) -> Result<Vec<v1::LabelMatcher>, String> {
    let read = |part: &str| {
        let at = part.find(['=', '!'])?;
        let (name, rest) = part.split_at(at);
        let (op, value) =
            OPS.iter().find_map(|(sign, op)| Some((*op, rest.strip_prefix(sign)?)))?;
        let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
        Some(v1::LabelMatcher { name, op: op.into(), value })
    };
    let expected = "expected matchers such as env=prod, host.name=~web-*; found";
    parts(text)?.iter().map(|p| read(p).ok_or_else(|| format!("{expected} {p:?}"))).collect()
}

pub(super) fn matchers_to_text(matchers: &[v1::LabelMatcher]) -> String {
    join(matchers.iter().map(|matcher| {
        let sign = OPS.iter().find(|(_, op)| *op == matcher.op()).map_or("=", |(sign, _)| sign);
        format!("{}{sign}{}", matcher.name, matcher.value)
    }))
}

/// `team=ops, tier=1`.
pub(super) fn labels_from_text(text: &str) -> Result<HashMap<String, String>, String> {
    let expected = "expected labels such as team=ops, tier=1; found";
    let mut labels = HashMap::new();
    for part in parts(text)? {
        let (name, value) = part.split_once('=').ok_or_else(|| format!("{expected} {part:?}"))?;
        let name = name.trim();
        if labels.insert(name.to_owned(), value.trim().to_owned()).is_some() {
            return Err(format!("label {name:?} is given twice"));
        }
    }
    Ok(labels)
}

pub(super) fn labels_to_text(labels: &HashMap<String, String>) -> String {
    let mut labels: Vec<_> = labels.iter().collect();
    labels.sort();
    join(labels.into_iter().map(|(name, value)| format!("{name}={value}")))
}

pub(super) fn names_from_text(text: &str) -> Result<Vec<String>, String> {
    parts(text)
}

pub(super) fn names_to_text(names: &[String]) -> String {
    join(names.iter().cloned())
}

fn parts(text: &str) -> Result<Vec<String>, String> {
    let mut parts = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (part, tail) = match rest.strip_prefix('"') {
            Some(inside) => quoted(inside).ok_or_else(|| {
                let shown: String = rest.chars().take(64).collect();
                format!("expected a closing \" after {shown}")
            })?,
            None => {
                let end = rest.find([',', '\n']).unwrap_or(rest.len());
                (rest[..end].trim().to_owned(), &rest[end..])
            }
        };
        let tail = tail.trim_start();
        if !part.is_empty() {
            parts.push(part);
        }
        rest = match tail.strip_prefix(',') {
            Some(tail) => tail.trim_start(),
            None => tail,
        };
    }
    Ok(parts)
}

/// Up to the closing quote; a quote inside is doubled.
fn quoted(inside: &str) -> Option<(String, &str)> {
    let mut part = String::new();
    let mut rest = inside;
    loop {
        let end = rest.find('"')?;
        part.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(tail) => {
                part.push('"');
                rest = tail;
            }
            None => return Some((part, rest)),
        }
    }
}

fn join(parts: impl Iterator<Item = String>) -> String {
    let write = |part: String| match part.contains([',', '\n', '\r']) || part.starts_with('"') {
        true => format!("\"{}\"", part.replace('"', "\"\"")),
        false => part,
    };
    parts.map(write).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_separated_by_commas_and_lines() {
        fn check(text: &str, expected: &[&str]) {
            assert_eq!(parts(text).expect(text), expected, "{text:?}");
        }
        check("", &[]);
        check(" a , b\n c,, ", &["a", "b", "c"]);
        check("\"a, b\", c", &["a, b", "c"]);
        check("\"say \"\"hi\"\"\"", &["say \"hi\""]);
        check("say \"hi\"", &["say \"hi\""]);
        assert!(parts("\"open").is_err());
    }

    #[test]
    fn what_is_written_is_read_back() {
        let names: Vec<String> =
            ["a", "b, c", "\"d\"", "e\nf", "g \"h\""].map(str::to_owned).into();
        assert_eq!(names_from_text(&names_to_text(&names)), Ok(names));
        let matchers =
            matchers_from_text("env!=dev, host.name=~web-*, \"mount=/a,b\"").expect("valid");
        assert_eq!(matchers[2].value, "/a,b");
        assert_eq!(matchers_from_text(&matchers_to_text(&matchers)), Ok(matchers));
        let labels = labels_from_text("team=ops, why=a=b").expect("valid");
        assert_eq!(labels["why"], "a=b");
        assert_eq!(labels_from_text(&labels_to_text(&labels)), Ok(labels));
        assert!(labels_from_text("team").is_err());
        assert!(labels_from_text("a=1, a=2").is_err());
        assert!(matchers_from_text("env").is_err());
    }
}
