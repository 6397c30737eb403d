//! Structured lines: JSON objects and logfmt, as pairs of names and values.

use serde_json::Value;

/// Deeper objects stay JSON text.
const DEPTH_MAX: usize = 4;

/// The members of a JSON object, nested ones joined by dots; `None` when it is not one, whole.
pub(crate) fn json(text: &str) -> Option<Vec<(String, String)>> {
    let text = text.trim();
    if !text.starts_with('{') || !text.ends_with('}') {
        return None;
    }
    let Ok(Value::Object(object)) = serde_json::from_str(text) else { return None };
    let mut out = Vec::new();
    object.into_iter().for_each(|(name, value)| flatten(name, value, DEPTH_MAX, &mut out));
    Some(out)
}

fn flatten(name: String, value: Value, depth: usize, out: &mut Vec<(String, String)>) {
    match value {
        Value::Null => {}
        Value::String(text) => out.push((name, text)),
        Value::Object(object) if depth > 1 => {
            for (inner, value) in object {
                flatten(format!("{name}.{inner}"), value, depth - 1, out);
            }
        }
        other => out.push((name, other.to_string())),
    }
}

/// `level=info msg="it works" n=5`: only when the whole line is made of pairs, two at least.
pub(crate) fn logfmt(text: &str) -> Option<Vec<(String, String)>> {
    let mut out = Vec::new();
    let mut rest = text.trim();
    if rest.contains('\n') {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !is_in_name(c))?;
        let (name, after) = rest.split_at(end);
        let after = after.strip_prefix('=').filter(|_| !name.is_empty())?;
        let value = match after.strip_prefix('"') {
            Some(quoted) => {
                let (value, left) = unquote(quoted)?;
                rest = left;
                value
            }
            None => {
                let end = after.find(char::is_whitespace).unwrap_or(after.len());
                rest = &after[end..];
                after[..end].to_owned()
            }
        };
        if !rest.is_empty() && !rest.starts_with(char::is_whitespace) {
            return None;
        }
        rest = rest.trim_start();
        out.push((name.to_owned(), value));
    }
    (out.len() >= 2).then_some(out)
}

/// Up to the closing quote; and what follows it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                other => out.push(other),
            },
            c => out.push(c),
        }
    }
    None
}

fn is_in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '@')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(pairs: Option<Vec<(String, String)>>) -> Option<String> {
        Some(pairs?.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join("|"))
    }

    #[test]
    fn structured_lines_become_pairs() {
        fn check(found: Option<Vec<(String, String)>>, expected: &str) {
            assert_eq!(shown(found).as_deref().unwrap_or("none"), expected);
        }
        check(
            json(r#"{"a":1,"b":{"c":"x","d":[1,2]},"e":null,"f":true}"#),
            "a=1|b.c=x|b.d=[1,2]|f=true",
        );
        check(json(r#"{"a":{"b":{"c":{"d":{"e":1}}}}}"#), r#"a.b.c.d={"e":1}"#);
        check(json(r#"{"a":1"#), "none");
        check(json(r#"{"a":1} {"b":2}"#), "none");
        check(json("[1]"), "none");
        check(json(&format!("{}1{}", "{\"a\":".repeat(500), "}".repeat(500))), "none");
        check(
            logfmt(r#"level=info msg="it \"works\" = yes" n=5 e="#),
            r#"level=info|msg=it "works" = yes|n=5|e="#,
        );
        check(logfmt("a=1"), "none");
        check(logfmt("started with a=1 b=2"), "none");
        check(logfmt("a=1 b=\"open"), "none");
        check(logfmt("a=\"x\"y b=2"), "none");
        check(logfmt("=1 b=2"), "none");
        check(logfmt(""), "none");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r#"([a-z]=|"|\\|\{|\}|:| |é|\PC){0,30}"#) {
            let _ = (json(&text), logfmt(&text));
        }
    }
}
