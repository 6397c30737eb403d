//! Numbers and times for people. The scripts of the dashboard follow the same rules (`js/format.js`).

/// What stands where there is no value.
pub const ABSENT: &str = "–";

/// A ratio of 0 to 1: `4.2 %`, `42 %`.
pub fn percent(ratio: f64) -> String {
    let percent = ratio * 100.0;
    if !percent.is_finite() {
        ABSENT.to_owned()
    } else if percent.abs() < 9.95 {
        format!("{percent:.1} %")
    } else {
        format!("{percent:.0} %")
    }
}

/// `512 B`, `3.2 GiB`.
pub fn bytes(bytes: f64) -> String {
    if !bytes.is_finite() {
        return ABSENT.to_owned();
    }
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes;
    let mut unit = 0;
    // 999.5 rounds to four digits, so the next unit begins there rather than at 1024.
    while value.abs() >= 999.5 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value.abs() >= 99.95 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// `1.5 MiB/s`.
pub fn bytes_rate(bytes_per_second: f64) -> String {
    match bytes(bytes_per_second) {
        absent if absent == ABSENT => absent,
        text => format!("{text}/s"),
    }
}

/// A plain number with at most two decimals where they say something: `0.42`, `13.1`, `1,234`.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        ABSENT.to_owned()
    } else if value.fract() == 0.0 || value.abs() >= 100.0 {
        thousands(value.round())
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// `54 °C`.
pub fn celsius(degrees: f64) -> String {
    if degrees.is_finite() { format!("{degrees:.0} °C") } else { ABSENT.to_owned() }
}

/// The two largest units: `3 d 4 h`, `5 min 10 s`, `42 s`, `8 ms`.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return ABSENT.to_owned();
    }
    let sign = if seconds < 0.0 { "−" } else { "" };
    let seconds = seconds.abs();
    if seconds == 0.0 {
        return "0 s".to_owned();
    }
    if seconds < 0.9995 {
        return format!("{sign}{:.0} ms", seconds * 1000.0);
    }
    let whole = seconds.round() as u64;
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut parts = UNITS.iter().skip_while(|(length, _)| whole < *length);
    let Some(&(length, unit)) = parts.next() else { return "0 s".to_owned() };
    let head = format!("{sign}{} {unit}", whole / length);
    match parts.next() {
        Some(&(small, name)) if whole % length / small > 0 => {
            format!("{head} {} {name}", whole % length / small)
        }
        _ => head,
    }
}

/// How long ago, in one unit: `just now`, `42 s ago`, `2 min ago`. The future is `in 5 s`.
pub fn ago(now_ms: i64, then_ms: i64) -> String {
    let seconds = now_ms.saturating_sub(then_ms) / 1000;
    if seconds.abs() < 3 {
        return "just now".to_owned();
    }
    let length = match seconds.unsigned_abs() {
        s if s < 90 => format!("{s} s"),
        s if s < 90 * 60 => format!("{} min", (s + 30) / 60),
        s if s < 36 * 3_600 => format!("{} h", (s + 1_800) / 3_600),
        s => format!("{} d", (s + 43_200) / 86_400),
    };
    if seconds > 0 { format!("{length} ago") } else { format!("in {length}") }
}

/// RFC 3339 in UTC, for `<time datetime>` and JSON. Empty when beyond the range of dates.
pub fn rfc3339(unix_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(unix_ms).map(|time| time.to_string()).unwrap_or_default()
}

fn thousands(whole: f64) -> String {
    let digits = format!("{:.0}", whole.abs());
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if whole < 0.0 { format!("−{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_percent() {
        fn check(ratio: f64, expected: &str) {
            assert_eq!(percent(ratio), expected);
        }
        check(0.0, "0.0 %");
        check(0.0423, "4.2 %");
        check(0.0999, "10 %");
        check(0.424, "42 %");
        check(1.0, "100 %");
        check(f64::NAN, "–");
    }

    #[test]
    fn bytes_have_at_most_three_digits_and_a_binary_unit() {
        fn check(value: f64, expected: &str) {
            assert_eq!(bytes(value), expected);
        }
        check(0.0, "0 B");
        check(999.0, "999 B");
        check(1000.0, "1.0 KiB");
        check(1536.0, "1.5 KiB");
        check(3.2 * 1024f64.powi(3), "3.2 GiB");
        check(250.0 * 1024f64.powi(2), "250 MiB");
        check(1e24, "867362 EiB");
        check(f64::INFINITY, "–");
        assert_eq!(bytes_rate(1536.0), "1.5 KiB/s");
        assert_eq!(bytes_rate(f64::NAN), "–");
    }

    #[test]
    fn numbers_keep_the_decimals_that_say_something() {
        fn check(value: f64, expected: &str) {
            assert_eq!(number(value), expected);
        }
        check(0.0, "0");
        check(0.416, "0.42");
        check(13.06, "13.1");
        check(117.4, "117");
        check(1_234_567.0, "1,234,567");
        check(-1_234.0, "−1,234");
    }

    #[test]
    fn durations_have_two_units() {
        fn check(seconds: f64, expected: &str) {
            assert_eq!(duration(seconds), expected);
        }
        check(0.0, "0 s");
        check(0.008, "8 ms");
        check(42.4, "42 s");
        check(60.0, "1 min");
        check(310.0, "5 min 10 s");
        check(3_600.0 * 28.0, "1 d 4 h");
        check(86_400.0 * 400.0, "400 d");
        check(-5.0, "−5 s");
    }

    #[test]
    fn the_past_is_told_in_one_unit() {
        fn check(seconds_ago: i64, expected: &str) {
            assert_eq!(ago(1_000_000_000, 1_000_000_000 - seconds_ago * 1000), expected);
        }
        check(0, "just now");
        check(2, "just now");
        check(42, "42 s ago");
        check(120, "2 min ago");
        check(3_600 * 5, "5 h ago");
        check(86_400 * 3, "3 d ago");
        check(-60, "in 60 s");
        assert_eq!(ago(0, i64::MIN), ago(0, -i64::MAX));
    }

    #[test]
    fn instants_are_rfc_3339() {
        assert_eq!(rfc3339(1_500), "1970-01-01T00:00:01.5Z");
        assert_eq!(rfc3339(i64::MAX), "");
    }
}
