//! When it happened, from what programs write.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{Offset, TimeZone};
use model::{UnixMillis, limits};

/// A timestamp at the beginning of a line, brackets around it or not.
pub(crate) fn from_line(text: &str, now: UnixMillis, zone: &TimeZone) -> Option<UnixMillis> {
    let text = text.trim_start_matches(['[', '<', '(', '"', ' ']);
    let bytes = text.as_bytes();
    match bytes.first()? {
        b'0'..=b'9' => {
            let parsed = instant(text, zone).or_else(|| common_log(text, zone));
            // `1.2.3.4 - - [20/Nov/2026:21:00:00 +0000] "GET / …`
            parsed.or_else(|| common_log(access_time(text)?, zone))
        }
        b'A'..=b'Z' => {
            syslog(text, now, zone).map(|(time, _)| time).or_else(|| klog(text, now, zone))
        }
        b':' => common_log(access_time(text)?, zone),
        _ => None,
    }
}

fn access_time(text: &str) -> Option<&str> {
    let (before, rest) = text.split_once('[')?;
    (before.len() < 200).then_some(rest)
}

/// A whole timestamp, as a field holds it: ISO 8601 and its relatives, or a number since 1970.
pub(crate) fn from_field(text: &str, zone: &TimeZone) -> Option<UnixMillis> {
    if let Ok(number) = text.parse::<f64>() {
        return from_number(number);
    }
    instant(text, zone).or_else(|| common_log(text, zone))
}

/// Seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their size.
pub(crate) fn from_number(number: f64) -> Option<UnixMillis> {
    let ms = match number {
        n if (1e8..1e11).contains(&n) => n * 1e3,
        n if (1e11..1e14).contains(&n) => n,
        n if (1e14..1e17).contains(&n) => n / 1e3,
        n if (1e17..1e20).contains(&n) => n / 1e6,
        _ => return None,
    };
    Some(UnixMillis(ms as i64))
}

/// Whether an event of this time will be taken, with room for how long it may wait to be sent.
pub(crate) fn is_plausible(time: UnixMillis, now: UnixMillis) -> bool {
    const DAY_MS: i64 = 24 * 60 * 60 * 1000;
    let age = now.0.saturating_sub(time.0);
    (-limits::ITEM_AHEAD_MS_MAX / 2..limits::ITEM_AGE_MS_MAX - DAY_MS).contains(&age)
}

/// `2026-11-20T21:00:00.123Z`, `2026-11-20 21:00:00,123 +01:00`, `2026/11/20 21:00:00`.
pub(crate) fn instant(text: &str, zone: &TimeZone) -> Option<UnixMillis> {
    let b = text.as_bytes();
    let (year, month, day) = (number(b, 0, 4)?, number(b, 5, 2)?, number(b, 8, 2)?);
    let dated = matches!((b.get(4)?, b.get(7)?), (b'-', b'-') | (b'/', b'/') | (b'.', b'.'));
    if !dated || !matches!(b.get(10)?, b'T' | b't' | b' ' | b'_') {
        return None;
    }
    let (time, rest) = clock(text.get(11..)?)?;
    let date = Date::new(year as i16, month as i8, day as i8).ok()?;
    at(date.to_datetime(time), rest, zone)
}

/// `Nov 20 21:00:00`, as the classic syslog writes it; and what follows. It has no year: it is the one
/// that lies nearest.
pub(crate) fn syslog<'a>(
    text: &'a str,
    now: UnixMillis,
    zone: &TimeZone,
) -> Option<(UnixMillis, &'a str)> {
    let month = month(text.get(..3)?)?;
    let rest = text.get(3..)?.strip_prefix(' ')?;
    let day_text = rest.get(..2)?;
    let day: i8 = day_text.trim_start().parse().ok()?;
    let (time, rest) = clock(rest.get(2..)?.strip_prefix(' ')?)?;
    nearest_year(month, day, time, now, zone).map(|ms| (ms, rest))
}

/// `20/Nov/2026:21:00:00 +0000`, as web servers write it.
fn common_log(text: &str, zone: &TimeZone) -> Option<UnixMillis> {
    let b = text.as_bytes();
    if b.get(2) != Some(&b'/') || b.get(6) != Some(&b'/') || b.get(11) != Some(&b':') {
        return None;
    }
    let (day, year) = (number(b, 0, 2)?, number(b, 7, 4)?);
    let date = Date::new(year as i16, month(text.get(3..6)?)?, day as i8).ok()?;
    let (time, rest) = clock(text.get(12..)?)?;
    at(date.to_datetime(time), rest, zone)
}

/// `E1120 21:00:00.123456`, as Kubernetes writes it.
fn klog(text: &str, now: UnixMillis, zone: &TimeZone) -> Option<UnixMillis> {
    let b = text.as_bytes();
    if !matches!(b.first()?, b'I' | b'W' | b'E' | b'F') || b.get(5) != Some(&b' ') {
        return None;
    }
    let (month, day) = (number(b, 1, 2)?, number(b, 3, 2)?);
    let (time, _) = clock(text.get(6..)?)?;
    nearest_year(month as i8, day as i8, time, now, zone)
}

fn nearest_year(
    month: i8,
    day: i8,
    time: Time,
    now: UnixMillis,
    zone: &TimeZone,
) -> Option<UnixMillis> {
    let this = jiff::Timestamp::from_millisecond(now.0).ok()?.to_zoned(zone.clone()).year();
    let candidates = [this - 1, this, this + 1].into_iter().filter_map(|year| {
        let date = Date::new(year, month, day).ok()?;
        at(date.to_datetime(time), "", zone)
    });
    candidates.min_by_key(|time| time.0.abs_diff(now.0))
}

/// `21:00:00`, with a fraction after a dot or comma; and what follows.
fn clock(text: &str) -> Option<(Time, &str)> {
    let b = text.as_bytes();
    if b.get(2) != Some(&b':') || b.get(5) != Some(&b':') {
        return None;
    }
    let (hour, minute, second) = (number(b, 0, 2)?, number(b, 3, 2)?, number(b, 6, 2)?);
    let mut end = 8;
    let mut nanos = 0;
    if matches!(b.get(8), Some(b'.' | b',')) && b.get(9).is_some_and(u8::is_ascii_digit) {
        end = 9;
        let mut scale = 100_000_000;
        while let Some(digit) = b.get(end).filter(|b| b.is_ascii_digit()) {
            nanos += i32::from(digit - b'0') * scale;
            scale /= 10;
            end += 1;
        }
    }
    // A leap second.
    let second = second.min(59);
    let time = Time::new(hour as i8, minute as i8, second as i8, nanos).ok()?;
    Some((time, &text[end..]))
}

/// With the zone that follows it, else the machine's.
fn at(local: DateTime, rest: &str, zone: &TimeZone) -> Option<UnixMillis> {
    let zoned = match offset(rest) {
        Some(offset) => offset.to_timestamp(local).ok()?,
        None => zone.to_timestamp(local).ok()?,
    };
    Some(UnixMillis(zoned.as_millisecond()))
}

fn offset(rest: &str) -> Option<Offset> {
    let spaced = rest.strip_prefix(' ').unwrap_or(rest);
    if rest.starts_with(['Z', 'z']) || spaced.starts_with("UTC") || spaced.starts_with("GMT") {
        return Some(Offset::UTC);
    }
    let b = spaced.as_bytes();
    let sign = match b.first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let hours = number(b, 1, 2)?;
    let minutes = if b.get(3) == Some(&b':') { number(b, 4, 2) } else { number(b, 3, 2) };
    Offset::from_seconds(sign * (hours as i32 * 3600 + minutes.unwrap_or(0) as i32 * 60)).ok()
}

fn month(name: &str) -> Option<i8> {
    const NAMES: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    NAMES.iter().position(|known| *known == name).map(|at| at as i8 + 1)
}

fn number(bytes: &[u8], from: usize, length: usize) -> Option<u32> {
    let digits = bytes.get(from..from + length)?;
    digits.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + u32::from(b - b'0')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-20 21:00:00 UTC.
    const NOW: UnixMillis = UnixMillis(1_795_208_400_000);

    fn berlin() -> TimeZone {
        TimeZone::fixed(Offset::from_seconds(3600).expect("an hour"))
    }

    #[test]
    fn timestamps_are_recognised() {
        fn check(line: &str, expected_ms_after_now: i64) {
            let found = from_line(line, NOW, &berlin());
            assert_eq!(found.map(|t| t.0 - NOW.0), Some(expected_ms_after_now), "{line}");
        }
        check("2026-11-20T21:00:00Z x", 0);
        check("2026-11-20T21:00:00.250Z x", 250);
        check("[2026-11-20T22:00:01.5+01:00] x", 1_500);
        check("2026-11-20 22:00:00,123 INFO x", 123);
        check("2026-11-20 21:00:00.123 UTC [7] LOG: x", 123);
        check("2026-11-20 16:00:00 -0500 x", 0);
        check("2026/11/20 22:00:02 [error] x", 2_000);
        check("Nov 20 22:00:00 host app[7]: x", 0);
        check("Nov  2 22:00:00 host app: x", -18 * 86_400_000);
        check("Dec 31 22:00:00 host app: x", 41 * 86_400_000);
        check("E1120 22:00:00.500000    7 a.go:1] x", 500);
        check("1.2.3.4 - bob [20/Nov/2026:21:00:00 +0000] \"GET / HTTP/1.1\" 200 5", 0);
        check("[20/Nov/2026:21:00:03 +0000] x", 3_000);
    }

    #[test]
    fn a_year_less_date_belongs_to_the_nearest_year() {
        let new_year = instant("2027-01-01T00:00:05Z", &TimeZone::UTC).expect("valid");
        let (time, rest) = syslog("Dec 31 23:59:59 h x", new_year, &TimeZone::UTC).expect("valid");
        assert_eq!((new_year.0 - time.0, rest), (6_000, " h x"));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for line in [
            "",
            "x",
            "2026-13-40T99:00:00Z",
            "Nov 99 1",
            "12345",
            "2026-11-20",
            "é1120 22",
            "[[",
            "Mai 20 22:00:00 x",
        ] {
            assert_eq!(from_line(line, NOW, &berlin()), None, "{line}");
        }
    }

    #[test]
    fn fields_hold_numbers_too() {
        fn check(text: &str, expected: i64) {
            assert_eq!(from_field(text, &TimeZone::UTC).map(|t| t.0), Some(expected), "{text}");
        }
        check("1795208400", NOW.0);
        check("1795208400.25", NOW.0 + 250);
        check("1795208400123", NOW.0 + 123);
        check("1795208400123456", NOW.0 + 123);
        check("1795208400123456789", NOW.0 + 123);
        check("2026-11-20T21:00:00Z", NOW.0);
        assert_eq!(from_field("7", &TimeZone::UTC), None);
        assert_eq!(from_field("nan", &TimeZone::UTC), None);
    }

    #[test]
    fn a_clock_ten_years_off_is_not_believed() {
        let year_ms = 365 * 86_400_000;
        assert!(is_plausible(NOW, NOW) && is_plausible(UnixMillis(NOW.0 - 86_400_000), NOW));
        assert!(!is_plausible(UnixMillis(NOW.0 - 10 * year_ms), NOW));
        assert!(!is_plausible(UnixMillis(NOW.0 + 10 * year_ms), NOW));
        assert!(
            !is_plausible(UnixMillis(i64::MIN), NOW) && !is_plausible(UnixMillis(i64::MAX), NOW)
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[-0-9TZ:./+, A-Za-z\\[é]{0,40}") {
            let _ = from_line(&text, NOW, &berlin());
            let _ = from_field(&text, &berlin());
        }
    }
}
