//! How bad it is, as an OpenTelemetry severity number, from what programs write.

use model::Severity;

/// From a word: `warn`, `ERROR`, `Critical`.
pub(crate) fn from_word(word: &str) -> Option<Severity> {
    // The longest known word; a longer one is a sentence.
    let mut lower = [0; 13];
    let lower = lower.get_mut(..word.len())?;
    lower.copy_from_slice(word.as_bytes());
    lower.make_ascii_lowercase();
    let number = match &*lower {
        b"trace" | b"trc" | b"finest" | b"finer" | b"verbose" | b"silly" => 1,
        b"debug" | b"dbg" | b"fine" | b"debug1" | b"debug2" | b"debug3" => 5,
        b"info" | b"inf" | b"information" | b"informational" | b"log" | b"config" => 9,
        b"notice" => 10,
        b"warn" | b"warning" | b"wrn" => 13,
        b"error" | b"err" | b"severe" | b"eror" => 17,
        b"crit" => 18,
        b"alert" => 19,
        b"fatal" | b"critical" | b"panic" | b"emerg" | b"emergency" | b"ftl" => 21,
        _ => return None,
    };
    Severity::new(number)
}

/// From the low three bits of a syslog priority: 0 is an emergency, 7 is for debugging.
pub(crate) fn from_syslog(level: u8) -> Option<Severity> {
    let numbers = [21, 19, 18, 17, 13, 10, 9, 5];
    numbers.get(usize::from(level)).copied().and_then(Severity::new)
}

/// From a number in a field called `level`: syslog's below 8, otherwise in tens as Bunyan, Pino and
/// Python write it.
pub(crate) fn from_number(level: i64) -> Option<Severity> {
    match level {
        0..=7 => from_syslog(level as u8),
        10..20 => Severity::new(1),
        20..30 => Severity::new(5),
        30..40 => Severity::new(9),
        40..50 => Severity::new(13),
        50..60 => Severity::new(17),
        60..70 => Severity::new(21),
        _ => None,
    }
}

/// From the beginning of a line: an upper-case word, one in brackets, or one before a colon, among the
/// first few. A word in a sentence ("no error found") says nothing.
pub(crate) fn from_line(text: &str) -> Option<Severity> {
    let first_line = text.lines().next().unwrap_or_default();
    let head = &first_line[..first_line.floor_char_boundary(160)];
    for word in head.split([' ', '\t', '|']).filter(|word| !word.is_empty()).take(9) {
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_upper = bare.len() > 2 && bare.bytes().all(|b| b.is_ascii_uppercase());
        let is_marked = (word.starts_with(['[', '<', '(']) && word.ends_with([']', '>', ')', ':']))
            || word.ends_with(':');
        if (is_upper || is_marked)
            && let Some(severity) = from_word(bare)
        {
            return Some(severity);
        }
        // `ERROR:root:…`, `[error][main]`, `level=error`
        if let Some((name, rest)) = bare.split_once([':', '=', ']'])
            && let Some(severity) = from_word(name).or_else(|| {
                let value = rest.trim_matches('"');
                matches!(name, "level" | "lvl" | "severity").then(|| from_word(value)).flatten()
            })
        {
            return Some(severity);
        }
    }
    from_trace(text)
}

/// What is plainly the end of something.
fn from_trace(text: &str) -> Option<Severity> {
    let number = if text.starts_with("panic: ") || text.starts_with("fatal error: ") {
        21
    } else if text.starts_with("Traceback (most recent call last)")
        || text.starts_with("Exception in thread ")
        || (text.starts_with("thread '") && text.contains(" panicked at "))
        || text.contains("\n\tat ")
        || text.contains("\n    at ")
    {
        17
    } else {
        return None;
    };
    Severity::new(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_are_found_where_programs_put_them() {
        fn check(line: &str, expected: u8) {
            assert_eq!(from_line(line).map_or(0, Severity::number), expected, "{line}");
        }
        check("2026-11-20 21:00:00 ERROR it failed", 17);
        check("2026-11-20T21:00:00Z  WARN api: slow", 13);
        check("2026/11/20 21:00:00 [error] 12#12: upstream", 17);
        check("[2026-11-20 21:00:00] production.CRITICAL: no", 0);
        check("ERROR:root:failed", 17);
        check("21:00:00.123 [main] DEBUG a.b.C - x", 5);
        check("2026-11-20 21:00:00.123 UTC [7] LOG:  checkpoint", 9);
        check("2026-11-20 21:00:00.123 UTC [7] FATAL:  no such role", 21);
        check("error: no such file", 17);
        check("warning: unused", 13);
        check("no error was found", 0);
        check("an information about errors", 0);
        check("<Error> x", 17);
        check("ts level=warn msg", 13);
        check("panic: nil map", 21);
        check("Traceback (most recent call last):\n x", 17);
        check("java.lang.X: y\n\tat a.b(C.java:1)", 17);
        check("x|INFO|y", 9);
        check("é ERROR", 17);
        check("", 0);
    }

    #[test]
    fn numbers_mean_what_their_writers_mean() {
        fn check(found: Option<Severity>, expected: u8) {
            assert_eq!(found.map_or(0, Severity::number), expected);
        }
        check(from_syslog(0), 21);
        check(from_syslog(3), 17);
        check(from_syslog(6), 9);
        check(from_syslog(8), 0);
        check(from_number(3), 17);
        check(from_number(30), 9);
        check(from_number(60), 21);
        check(from_number(-1), 0);
        check(from_word("Critical"), 21);
        check(from_word("NOTICE"), 10);
        check(from_word("ernst"), 0);
    }
}
