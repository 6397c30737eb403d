//! Takes secrets out of texts: of log lines before they leave a machine, of events that programs push.
//!
//! What looks like a secret goes, by the same words as in command lines. Unlike there, a value ends with its
//! word: the rest of a sentence is what people need to read.

use std::borrow::Cow;

mod words;

pub use words::{is_secret_name, looks_like_token};

/// What stands in place of a secret.
pub const MASK: &str = "***";

/// `text` with `***` in place of secrets: `password=…`, `"token": "…"`, `Authorization: Bearer …`,
/// `scheme://user:…@host`, and runs that look like tokens.
pub fn mask(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut out = String::new();
    // Everything before is in `out`.
    let mut copied = 0;
    let mut at = 0;
    let mut address = None;
    while at < bytes.len() {
        if !is_in_run(bytes[at]) {
            at += 1;
            continue;
        }
        let start = at;
        while at < bytes.len() && is_in_run(bytes[at]) {
            at += 1;
        }
        let secret = match secret_after(text, start, at, &mut address) {
            Some(secret) => Some(secret),
            None if looks_like_token(&text[start..at]) => Some((start, at)),
            None => None,
        };
        if let Some((from, to)) = secret {
            out.push_str(&text[copied..from]);
            out.push_str(MASK);
            (copied, at) = (to, to.max(at));
        }
    }
    if copied == 0 && out.is_empty() {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

/// The value of an attribute of this name: it may be secret by its name too, and is then so to its end.
pub fn mask_value(name: &str, value: &str) -> String {
    if is_secret_name(name) && !value.is_empty() {
        return MASK.to_owned();
    }
    let pair = format!("{name}={value}");
    let masked = mask(&pair);
    let value = masked.strip_prefix(name).and_then(|rest| rest.strip_prefix('='));
    value.unwrap_or(MASK).to_owned()
}

/// By a table: it is asked for every byte that is logged.
const IN_RUN: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 256 {
        let byte = b as u8;
        table[b] = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'+' | b'~');
        b += 1;
    }
    table
};

fn is_in_run(b: u8) -> bool {
    IN_RUN[usize::from(b)]
}

/// Where the secret lies that the run `start..end` announces.
fn secret_after(
    text: &str,
    start: usize,
    end: usize,
    address: &mut Option<Address>,
) -> Option<(usize, usize)> {
    let (bytes, run) = (text.as_bytes(), &text[start..end]);
    let next = *bytes.get(end)?;
    if next == b':' && bytes[end..].starts_with(b"://") {
        let known = address.filter(|known| end + 3 <= known.end);
        let address = address.insert(known.unwrap_or_else(|| Address::at(text, end + 3)));
        return in_authority(text, end + 3, *address);
    }
    if next == b' ' {
        return is_scheme(run).then(|| credential(text, end + 1)).flatten();
    }
    if !matches!(next, b'=' | b':' | b'"' | b'\'' | b'\\') {
        return None;
    }
    // `"name": "value"`, also when the quotes are escaped.
    let sign = end + spaces(&bytes[end..], b"\\\"'");
    let sign = sign + spaces(&bytes[sign..], b" ");
    if !matches!(bytes.get(sign), Some(b'=' | b':')) || !is_secret_name(run) {
        return None;
    }
    let value = sign + 1 + spaces(&bytes[sign + 1..], b" ");
    let opened = value + spaces(&bytes[value..], b"\\\"'");
    if opened >= bytes.len() {
        return None;
    }
    let quote = (opened > value).then(|| bytes[opened - 1]);
    let mut from = opened;
    let word = opened + bytes[opened..].iter().take_while(|b| is_in_run(**b)).count();
    if is_scheme(&text[opened..word]) && bytes.get(word) == Some(&b' ') {
        from = word + 1;
    }
    let escaped = opened > value + 1 && bytes[opened - 2] == b'\\';
    let to = match quote {
        Some(quote @ (b'"' | b'\'')) => end_of_quoted(bytes, from, quote, escaped),
        _ => end_of_word(bytes, from),
    };
    (to > from).then_some((from, to))
}

fn spaces(bytes: &[u8], of: &[u8]) -> usize {
    bytes.iter().take(8).take_while(|b| of.contains(b)).count()
}

fn end_of_quoted(bytes: &[u8], from: usize, quote: u8, escaped: bool) -> usize {
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b if b == quote => return at,
            b'\\' if escaped => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn end_of_word(bytes: &[u8], from: usize) -> usize {
    let ends = |b: &u8| {
        b.is_ascii_whitespace() || matches!(b, b'&' | b';' | b',' | b'"' | b'\'' | b'}' | b')')
    };
    bytes[from..].iter().position(ends).map_or(bytes.len(), |n| from + n)
}

fn is_scheme(word: &str) -> bool {
    ["bearer", "basic", "digest", "negotiate"].iter().any(|s| word.eq_ignore_ascii_case(s))
}

/// The word after `Bearer`, unless it is one of a sentence.
fn credential(text: &str, from: usize) -> Option<(usize, usize)> {
    let to = end_of_word(text.as_bytes(), from);
    let word = &text[from..to];
    let random = word.bytes().any(|b| b.is_ascii_digit() || matches!(b, b'=' | b'+'))
        || word.bytes().skip(1).any(|b| b.is_ascii_uppercase());
    (word.len() >= 8 && random).then_some((from, to))
}

/// The word that an address ends with. It is searched once, however many `://` are in it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Address {
    end: usize,
    last_at: Option<usize>,
}

impl Address {
    fn at(text: &str, from: usize) -> Self {
        let bytes = &text.as_bytes()[from..];
        let ends = |b: &u8| b.is_ascii_whitespace() || matches!(b, b'"' | b'\'' | b'?' | b'#');
        let length = bytes.iter().position(ends).unwrap_or(bytes.len());
        let last_at = bytes[..length].iter().rposition(|b| *b == b'@').map(|at| from + at);
        Self { end: from + length, last_at }
    }
}

/// The password in `user:password@host`.
fn in_authority(text: &str, from: usize, address: Address) -> Option<(usize, usize)> {
    let word = &text.as_bytes()[from..address.end];
    let host = word.iter().position(|b| *b == b'/').unwrap_or(word.len());
    // An unescaped slash in a password; a path may hold an @ as well, but then the host has a port.
    let at = word[..host].iter().rposition(|b| *b == b'@').or_else(|| {
        let at = address.last_at?.checked_sub(from)?;
        let colon = word[..at].iter().position(|b| *b == b':')?;
        (colon < host && !word[colon + 1..].first()?.is_ascii_digit()).then_some(at)
    })?;
    let colon = word[..at].iter().position(|b| *b == b':');
    match colon {
        Some(colon) if colon + 1 < at => Some((from + colon + 1, from + at)),
        Some(_) => None,
        None => {
            (at > 20 || looks_like_token(text.get(from..from + at)?)).then_some((from, from + at))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn secrets_are_masked_and_sentences_stay() {
        fn check(text: &str, expected: &str) {
            assert_eq!(mask(text), expected);
        }
        check("login user=bob password=hunter2 ok", "login user=bob password=*** ok");
        check("password: hunter2, user bob", "password: ***, user bob");
        check(
            r#"{"user":"bob","apiKey":"a\"b c","n":1}"#,
            r#"{"user":"bob","apiKey":"***","n":1}"#,
        );
        check(
            r#"{"m":"{\"password\":\"x y\",\"a\":1}"}"#,
            r#"{"m":"{\"password\":\"***\",\"a\":1}"}"#,
        );
        check("Authorization: Bearer abc.def", "Authorization: Bearer ***");
        check("sent bearer dGhpcyBpcw== to it", "sent bearer *** to it");
        check("basic authentication failed", "basic authentication failed");
        check("postgres://app:s3cret@db:5432/x?a=1", "postgres://app:***@db:5432/x?a=1");
        check("redis://:s3c/ret@cache/0", "redis://:***@cache/0");
        check("see http://host:8080/a@b", "see http://host:8080/a@b");
        check("GET /?token=abc&page=2", "GET /?token=***&page=2");
        check("with ghp_0123456789abcdefABCD inside", "with *** inside");
        check("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.x here", "got *** here");
        check("invalid token: unexpected end", "invalid token: *** end");
        check("commit 9f86d081884c7d659a2feaa0c55ad015", "commit 9f86d081884c7d659a2feaa0c55ad015");
        check("max_tokens=100 level=info", "max_tokens=100 level=info");
        check("password=", "password=");
        check("größe=1 passwort=ä password=ü!", "größe=1 passwort=ä password=***");
    }

    #[test]
    fn a_value_may_be_secret_by_its_name() {
        fn check(name: &str, value: &str, expected: &str) {
            assert_eq!(mask_value(name, value), expected);
        }
        check("db.password", "hunter2", "***");
        check("user", "bob", "bob");
        check("url", "postgres://app:s3cret@db/x", "postgres://app:***@db/x");
        check("header", "token=abc def", "token=*** def");
        check("db.password", "correct horse battery", "***");
        check("password", "a, b; \"c\" & 'd'} e", "***");
        check("password", "", "");
    }

    #[test]
    fn a_word_with_many_addresses_is_searched_once() {
        let text = format!("{}b x://app:s3cret@db/y", "a://".repeat(50_000));
        let first = Address::at(&text, 4);
        assert_eq!(first, Address { end: 200_001, last_at: None });
        // With what is known of the word, nothing is searched for at its other places.
        let mut known = Some(Address { last_at: Some(100_000), ..first });
        assert_eq!(secret_after(&text, 99_988, 99_989, &mut known), Some((99_994, 100_000)));
        assert_eq!(mask(&text), text.replace("s3cret", MASK));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r#"(password|token|://|@|:|=|"|'|\\| |bearer|a|é|/|\PC){0,40}"#) {
            let _ = mask(&text);
        }

        #[test]
        fn a_named_secret_never_stays(
            before in "[a-z {\",]{0,10}", secret in "[A-Za-z0-9!$%/]{6,30}", sign in "(=|: |\": \"|=\")",
        ) {
            let masked = mask(&format!("{before} password{sign}{secret}\" x=1")).into_owned();
            prop_assert!(!masked.contains(&secret), "{masked}");
        }
    }
}
