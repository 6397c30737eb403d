//! Texts from anywhere, and labels as JSON. PostgreSQL cannot keep the character U+0000.

use std::borrow::Cow;
use std::collections::BTreeMap;

use model::Labels;

use super::failure::{Outcome, corrupt};

/// Of the private use area; stands before `0` for U+0000, and before `1` for itself.
const ESCAPE: char = '\u{f8ff}';

pub(crate) fn store(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', ESCAPE]) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\0' => out.extend([ESCAPE, '0']),
            ESCAPE => out.extend([ESCAPE, '1']),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

pub(crate) fn load(text: String) -> String {
    if !text.contains(ESCAPE) {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ESCAPE => out.push(if chars.next() == Some('0') { '\0' } else { ESCAPE }),
            c => out.push(c),
        }
    }
    out
}

/// Keys sorted: equal sets have equal texts.
pub(crate) fn labels_to_json(labels: &Labels) -> String {
    let map: BTreeMap<&str, Cow<'_, str>> = labels.iter().map(|(k, v)| (k, store(v))).collect();
    serde_json::to_string(&map).expect("a map of texts is always JSON")
}

pub(crate) fn labels_from_json(json: &str) -> Outcome<Labels> {
    let map: BTreeMap<String, String> =
        serde_json::from_str(json).map_err(|e| corrupt("labels", &e))?;
    let map = map.into_iter().map(|(k, v)| (k, load(v)));
    Labels::new(map).map_err(|e| corrupt("labels", &e))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_text_comes_back_and_holds_no_nul(text in "[\0\u{f8ff}01aé]*") {
            let stored = store(&text).into_owned();
            prop_assert!(!stored.contains('\0'));
            prop_assert_eq!(load(stored), text);
        }
    }

    #[test]
    fn labels_come_back() {
        let labels = Labels::of([("b", "\"\0\""), ("a", "1")]);
        let json = labels_to_json(&labels);
        assert!(!json.contains("\\u0000"), "{json}");
        assert_eq!(labels_from_json(&json).expect("own text"), labels);
    }
}
