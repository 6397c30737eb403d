//! Takes secrets out of command lines before they leave the machine.
//!
//! There is no way to know every secret; what looks like one goes. When in doubt it is replaced: a
//! command line with one `***` too many is still readable.

use model::limits::COMMAND_LINE_BYTES_MAX;
use model::secrets::{MASK, is_secret_name, looks_like_token};

mod words;

use words::{Short, program_options};

/// A command line as `/proc/<pid>/cmdline` has it (arguments end with NUL) as text: without secrets,
/// bytes that are no text replaced, at most 1 KiB, cut between characters.
pub(crate) fn command_line(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    let mut redactor = Redactor::default();
    let mut line = String::new();
    for argument in text.trim_end_matches('\0').split('\0') {
        if !line.is_empty() {
            line.push(' ');
        }
        redactor.argument(argument, &mut line);
        if line.len() > COMMAND_LINE_BYTES_MAX {
            break;
        }
    }
    line.truncate(line.floor_char_boundary(COMMAND_LINE_BYTES_MAX));
    line
}

/// Goes through a command line from left to right.
#[derive(Default)]
struct Redactor {
    /// The word before was an option whose value is a secret.
    secret_is_next: bool,
    /// The word before was `Authorization:`; a scheme or the secret follows.
    scheme_is_next: bool,
    /// Options of the program at work that take secrets without saying so.
    short: &'static [Short],
}

impl Redactor {
    fn argument(&mut self, argument: &str, line: &mut String) {
        if self.takes_whole(argument) {
            line.push_str(MASK);
            return;
        }
        // The whole rest of an argument is the value, spaces included.
        if let Some((name, _)) = argument.split_once('=')
            && name.chars().all(is_in_name)
            && is_secret_name(name)
            && !is_working_directory(argument)
        {
            line.push_str(name);
            line.push('=');
            line.push_str(MASK);
            return;
        }
        self.words(argument, line);
    }

    /// `sh -c "…"`, or a title that a program gave itself: words within one argument.
    fn words(&mut self, text: &str, line: &mut String) {
        let mut rest = text;
        while !rest.is_empty() {
            let space = rest.len() - rest.trim_start().len();
            line.push_str(&rest[..space]);
            rest = &rest[space..];
            let end = word_end(rest);
            self.word(&rest[..end], line);
            rest = &rest[end..];
        }
    }

    /// Whether this is the value of the option before it.
    fn takes_whole(&mut self, word: &str) -> bool {
        // `--password --verbose`: there was no value.
        std::mem::take(&mut self.secret_is_next) && !word.starts_with("--") && !word.is_empty()
    }

    fn word(&mut self, word: &str, line: &mut String) {
        if word.is_empty() {
            return;
        }
        if self.takes_whole(word) {
            let secret = word.trim_matches(|c| matches!(c, '"' | '\''));
            let (before, after) = word.split_once(secret).unwrap_or(("", ""));
            line.push_str(before);
            line.push_str(MASK);
            line.push_str(after);
            return;
        }
        if let Some(options) = program_options(word) {
            self.short = options;
        }
        for option in self.short {
            if word == option.flag {
                self.secret_is_next = option.separate;
                break;
            }
            if option.attached && !word.starts_with("--") && word.starts_with(option.flag) {
                line.push_str(option.flag);
                line.push_str(MASK);
                return;
            }
        }
        if word.starts_with('-') && !word.contains(['=', ':']) && is_secret_name(word) {
            self.secret_is_next = true;
        }
        let bare = word.trim_matches(|c| matches!(c, '"' | '\''));
        if std::mem::take(&mut self.scheme_is_next) && !is_scheme(bare) {
            line.push_str(MASK);
            return;
        }
        self.secret_is_next |= is_scheme(bare);
        if let Some(name) = bare.strip_suffix(':')
            && is_secret_name(name)
        {
            self.scheme_is_next = name.to_ascii_lowercase().ends_with("authorization");
            self.secret_is_next = !self.scheme_is_next;
        }
        // Words within quotes within words; each time shorter.
        match word.strip_prefix(['"', '\'']) {
            Some(inner) if inner.contains(char::is_whitespace) => {
                line.push_str(&word[..1]);
                self.words(inner, line);
            }
            _ => mask_within(word, line),
        }
    }
}

/// A word ends at a space that is not within quotes.
fn word_end(text: &str) -> usize {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '\'') => quote = Some(c),
            None if c.is_whitespace() => return at,
            None => {}
        }
    }
    // A quote that never closes is an apostrophe.
    if quote.is_some() { text.find(char::is_whitespace).unwrap_or(text.len()) } else { text.len() }
}

fn is_in_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// How an `Authorization` header says what kind of secret follows.
fn is_scheme(word: &str) -> bool {
    ["bearer", "basic", "digest", "negotiate"].iter().any(|s| word.eq_ignore_ascii_case(s))
}

/// `PWD=/home/…` is where a program runs.
fn is_working_directory(assignment: &str) -> bool {
    assignment.starts_with("PWD=/") || assignment.starts_with("OLDPWD=/")
}

/// Masks secrets inside a word: `a=1&token=x`, `"password":"x"`, `scheme://user:x@host`, tokens.
fn mask_within(word: &str, line: &mut String) {
    let ends_value = |c: char| matches!(c, '&' | ';' | ',' | '"' | '\'' | '}' | ' ');
    let mut rest = word;
    while let Some(at) = rest.find(['=', ':', '%']) {
        let (before, sign) = (&rest[..at], rest.as_bytes()[at]);
        let after = &rest[at + 1..];
        if sign == b':' && after.starts_with("//") {
            let scheme = before.len() - before.trim_end_matches(is_in_name).len();
            push_unless_token(&before[..before.len() - scheme], line);
            line.push_str(&before[before.len() - scheme..]);
            line.push_str("://");
            rest = mask_authority(&after[2..], line);
            continue;
        }
        let quoted = before.trim_end_matches(['"', '\'']);
        let name_start = quoted
            .rfind(|c| !is_in_name(c))
            .map_or(0, |i| i + quoted[i..].chars().next().map_or(1, char::len_utf8));
        let name = &quoted[name_start..];
        push_unless_token(before, line);
        line.push(char::from(sign));
        // `-passin pass:x` of OpenSSL says so itself.
        let secret = sign != b'%' && (is_secret_name(name) || (sign == b':' && name == "pass"));
        let value = after.trim_start_matches(['"', '\'', ' ']);
        if secret && !value.is_empty() && !is_working_directory(word) {
            line.push_str(&after[..after.len() - value.len()]);
            line.push_str(MASK);
            // A quoted value ends with its quote, whatever is in it.
            let quote = after[..after.len() - value.len()].chars().last();
            let end = match quote {
                Some(quote @ ('"' | '\'')) => value.find(quote),
                // The value of a header goes on over spaces.
                _ if sign == b':' => value.find(|c| c != ' ' && ends_value(c)),
                _ => value.find(ends_value),
            };
            rest = &value[end.unwrap_or(value.len())..];
        } else {
            rest = after;
        }
    }
    push_unless_token(rest, line);
}

/// What follows `scheme://`: masks what stands before the `@`. Returns what is left.
fn mask_authority<'a>(text: &'a str, line: &mut String) -> &'a str {
    let end = text.find(['/', '?', '#', '"', '\'', ' ']).unwrap_or(text.len());
    // A password may hold unescaped slashes and other signs; then the last @ before a space counts.
    let at = match text[..end].rfind('@') {
        Some(at) => Some(at),
        None => {
            text[..text.find(['"', '\'', ' ', '?']).unwrap_or(text.len())].rfind('@').filter(|at| {
                text[..*at].find(':').is_some_and(|colon| {
                    !text[colon + 1..].starts_with(|c: char| c.is_ascii_digit())
                })
            })
        }
    };
    let Some(at) = at else {
        return text;
    };
    match text[..at].split_once(':') {
        Some((user, _)) => {
            line.push_str(user);
            line.push(':');
            line.push_str(MASK);
        }
        // `https://<token>@host`.
        None if at > 20 || looks_like_token(&text[..at]) => line.push_str(MASK),
        None => line.push_str(&text[..at]),
    }
    &text[at..]
}

/// Copies text, long random runs masked.
fn push_unless_token(text: &str, line: &mut String) {
    let in_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+' | '~');
    let mut rest = text;
    while !rest.is_empty() {
        let len = rest.find(|c| !in_token(c)).unwrap_or(rest.len());
        let run = &rest[..len];
        line.push_str(if looks_like_token(run) { MASK } else { run });
        let other = rest[len..].find(in_token).unwrap_or(rest.len() - len);
        line.push_str(&rest[len..len + other]);
        rest = &rest[len + other..];
    }
}

#[cfg(test)]
mod tests;
