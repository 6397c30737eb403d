//! What log lines have in common: their text without what differs from one time to the next.

use sha2::{Digest as _, Sha256};

/// A longer template is cut: the beginning tells what happened.
const CHARS_MAX: usize = 200;
/// What of a text is looked at.
const BYTES_MAX: usize = 1024;

/// The first line of a text with numbers, ids, paths and addresses replaced by what they are: two lines
/// that tell of the same error have one template.
pub fn template(text: &str) -> String {
    let text = text.trim_start();
    let text = &text[..text.floor_char_boundary(BYTES_MAX)];
    let line = text.lines().next().unwrap_or_default();
    let mut out = String::with_capacity(line.len());
    let mut start = 0;
    for (at, c) in line.char_indices() {
        let within_url = !c.is_whitespace() && !is_bracket(c) && line[start..at].contains("://");
        if !is_edge(c) || within_url {
            continue;
        }
        put_word(&mut out, &line[start..at]);
        start = at + c.len_utf8();
        // Control characters and runs of blanks say nothing.
        if !(c.is_whitespace() || c.is_control()) {
            out.push(c);
        } else if !out.ends_with(' ') {
            out.push(' ');
        }
    }
    put_word(&mut out, &line[start..]);
    out.truncate(out.trim_end().len());
    if let Some((end, _)) = out.char_indices().nth(CHARS_MAX) {
        out.truncate(end);
        out.push('…');
    }
    out
}

/// Names a group of errors: the same for the same service and template on every machine, for ever.
pub fn fingerprint(service: &str, template: &str) -> u64 {
    let mut hash = Sha256::new();
    hash.update(service.as_bytes());
    hash.update([0]);
    hash.update(template.as_bytes());
    let digest = hash.finalize();
    u64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
}

/// Ends a word.
fn is_edge(c: char) -> bool {
    let mark = matches!(c, '=' | ',' | ';' | '|');
    mark || is_bracket(c) || c.is_whitespace() || c.is_control()
}

fn is_bracket(c: char) -> bool {
    matches!(c, '(' | ')' | '[' | ']' | '{' | '}' | '<' | '>' | '"' | '\'')
}

fn put_word(out: &mut String, word: &str) {
    // Punctuation at the end belongs to the sentence.
    let core = word.trim_end_matches([':', '.', '!', '?']);
    let end = &word[core.len()..];
    match kind(core) {
        Some(kind) => out.push_str(kind),
        None => put_without_numbers(out, core),
    }
    out.push_str(end);
}

/// What a word is as a whole, where that is not a word.
fn kind(word: &str) -> Option<&'static str> {
    if word.is_empty() {
        return None;
    }
    if word.contains("://") {
        return Some("<url>");
    }
    if word.contains('@') && word.contains('.') {
        return Some("<address>");
    }
    if is_path(word) {
        return Some("<path>");
    }
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    if digits == 0 && !word.contains("::") {
        return None;
    }
    if is_address(word) {
        return Some("<address>");
    }
    if is_id(word) {
        return Some("<id>");
    }
    is_number(word).then_some("<number>")
}

fn is_path(word: &str) -> bool {
    let slashes = word.matches('/').count();
    let rooted = word.starts_with('/') || word.starts_with("./") || word.starts_with("~/");
    let windows = word.as_bytes().get(1) == Some(&b':') && word.as_bytes().get(2) == Some(&b'\\');
    windows || rooted && word.len() > 1 || slashes >= 2
}

/// IPv4 or IPv6, with or without a port.
fn is_address(word: &str) -> bool {
    let bare = word.rsplit_once(':').map_or(word, |(host, port)| {
        if port.bytes().all(|b| b.is_ascii_digit()) { host } else { word }
    });
    [word, bare].into_iter().any(|host| host.parse::<std::net::IpAddr>().is_ok())
}

/// Hexadecimal of some length with a digit in it, with or without dashes.
fn is_id(word: &str) -> bool {
    let hex = word.strip_prefix("0x").unwrap_or(word);
    let digits = hex.bytes().filter(u8::is_ascii_digit).count();
    let letters = hex.bytes().filter(|b| b.is_ascii_hexdigit() && !b.is_ascii_digit()).count();
    let dashes = hex.bytes().filter(|&b| b == b'-').count();
    let all = digits + letters + dashes == hex.len();
    let long = digits + letters >= 8 && digits > 0 && letters > 0;
    all && (long || hex.len() < word.len() && digits + letters > 0)
}

/// Digits with what stands between and behind them: `12`, `-1.5`, `12:30:01`, `30ms`, `2024-01-02T10:00`.
fn is_number(word: &str) -> bool {
    let trimmed = word.trim_start_matches(['+', '-', '$', '#']);
    let unit = trimmed.trim_end_matches(|c: char| c.is_alphabetic() || c == '%');
    let inner =
        |c: char| c.is_ascii_digit() || matches!(c, '.' | ':' | '-' | '/' | '_' | '+' | 'T');
    !unit.is_empty()
        && trimmed.len() - unit.len() <= 4
        && unit.starts_with(|c: char| c.is_ascii_digit())
        && unit.chars().all(inner)
}

/// A word with each run of digits replaced: `worker-17` and `worker-4` are alike.
fn put_without_numbers(out: &mut String, word: &str) {
    let mut within = false;
    for c in word.chars() {
        if c.is_ascii_digit() {
            if !within {
                out.push_str("<number>");
            }
            within = true;
        } else {
            out.push(c);
            within = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_differs_from_time_to_time_is_left_out() {
        fn check(text: &str, expected: &str) {
            assert_eq!(template(text), expected);
        }
        check("", "");
        check("connection refused", "connection refused");
        check("request 17 failed after 30ms", "request <number> failed after <number>");
        check("took 1.5s, 99% done", "took <number>, <number> done");
        check("2026-01-02T10:11:12.345Z no space", "<number> no space");
        check("user 6fa459ea-ee8a-3ca4-894e-db77e160355e unknown", "user <id> unknown");
        check("trace 4bf92f3577b34da6 at 0x7f1c", "trace <id> at <id>");
        check("cannot open /var/lib/x y: denied", "cannot open <path> y: denied");
        check("cannot open \"C:\\temp\\a.txt\"", "cannot open \"<path>\"");
        check("GET http://a.example/b?c=1 -> 500", "GET <url> -> <number>");
        check("dial 10.0.0.1:5432: refused", "dial <address>: refused");
        check("dial [::1]:80 refused", "dial [<address>]:<number> refused");
        check("mail to ann@example.org bounced", "mail to <address> bounced");
        check("id=42 code=E1001", "id=<number> code=E<number>");
        check("worker-17 of pool2 died", "worker-<number> of pool<number> died");
        check("boom\n  at main.rs:7", "boom");
        check("  tab\t\tand\u{1b}[31m red", "tab and [<number> red");
        check(
            "deadbeef is a word too, feedback as well",
            "deadbeef is a word too, feedback as well",
        );
        check(&"word ".repeat(100), &format!("{}…", &"word ".repeat(40)));
    }

    #[test]
    fn a_fingerprint_is_of_its_service_and_template() {
        assert_eq!(fingerprint("api", "a"), fingerprint("api", "a"));
        assert_ne!(fingerprint("api", "a"), fingerprint("web", "a"));
        assert_ne!(fingerprint("ab", "c"), fingerprint("a", "bc"));
    }

    proptest! {
        #[test]
        fn numbers_and_ids_never_make_a_difference(a in any::<u64>(), b in any::<u64>(), text in "[a-z ]{0,20}") {
            let line = |n: u64| format!("{text} {n} w{n} /x/{n} n={n} {n}ms 10.0.0.{}", n % 256);
            prop_assert_eq!(template(&line(a)), template(&line(b)));
        }

        #[test]
        fn every_text_has_a_short_template(text in "\\PC*") {
            prop_assert!(template(&text).chars().count() <= CHARS_MAX + 1);
        }
    }
}
