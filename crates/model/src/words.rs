//! The words of a text, as search sees them: runs of letters and digits, whatever their case.

use std::iter;

/// The words of a text, in order, as they are written.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    iter::from_fn(move || {
        let start = end_of(rest, false);
        let len = end_of(&rest[start..], true);
        let word = &rest[start..start + len];
        rest = &rest[start + len..];
        (len > 0).then_some(word)
    })
}

/// How far a text begins with characters that are part of words, or with others.
fn end_of(text: &str, of_words: bool) -> usize {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte < 0x80 {
            if byte.is_ascii_alphanumeric() != of_words {
                return at;
            }
            at += 1;
        } else {
            let c = text[at..].chars().next().expect("not the end, and between characters");
            if c.is_alphanumeric() != of_words {
                return at;
            }
            at += c.len_utf8();
        }
    }
    at
}

/// A text whose case does not matter any more, character by character.
pub fn fold(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// Whether a text as it is written equals one that is folded.
pub fn equals_folded(text: &str, folded: &str) -> bool {
    if text.is_ascii() {
        return text.len() == folded.len() && text.eq_ignore_ascii_case(folded);
    }
    text.chars().flat_map(char::to_lowercase).eq(folded.chars())
}

/// Whether a text as it is written begins with one that is folded.
pub fn starts_with_folded(text: &str, folded: &str) -> bool {
    let mut text = text.chars().flat_map(char::to_lowercase);
    folded.chars().all(|c| text.next() == Some(c))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_runs_of_letters_and_digits() {
        fn check(text: &str, expected: &[&str]) {
            assert_eq!(words(text).collect::<Vec<_>>(), expected, "{text:?}");
        }
        check("", &[]);
        check(" -- ", &[]);
        check("GET /api/v1?id=7", &["GET", "api", "v1", "id", "7"]);
        check("user_id=«Größe»…", &["user", "id", "Größe"]);
        check("\0nul\u{0}", &["nul"]);
    }

    proptest! {
        #[test]
        fn a_word_equals_its_fold_in_any_case(text in "\\PC*") {
            for word in words(&text) {
                let folded = fold(word);
                prop_assert!(equals_folded(word, &folded));
                prop_assert!(starts_with_folded(word, &folded));
                prop_assert!(equals_folded(&word.to_ascii_uppercase(), &folded));
            }
        }
    }
}
