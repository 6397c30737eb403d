//! From when until when a certificate is valid: whoever has one that has expired, or soon will, should say so.
//!
//! Only as much of X.509 (RFC 5280, section 4.1) as leads to the two times.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Renewed later than this before the end, somebody forgot.
const SOON: Duration = Duration::from_secs(7 * 24 * 3600);
const REMIND_EVERY: Duration = Duration::from_secs(24 * 3600);

/// The time of a certificate, and when somebody was last warned about it.
#[derive(Clone, Debug)]
pub(super) struct Validity {
    place: String,
    /// Seconds since 1970. Absent: it cannot be understood, and is left to those who connect.
    times: Option<(u64, u64)>,
    warned: Option<Instant>,
}

impl Validity {
    pub(super) fn of(place: &str, certificate: &[u8]) -> Self {
        Self { place: place.to_owned(), times: times(certificate), warned: None }
    }

    pub(super) fn expires(&self) -> Option<SystemTime> {
        Some(UNIX_EPOCH + Duration::from_secs(self.times?.1))
    }

    /// Warns where the certificate is out of its time, or soon will be: at once, and then once a day.
    pub(super) fn remind(&mut self) {
        if self.warned.is_some_and(|at| at.elapsed() < REMIND_EVERY) {
            return;
        }
        if let Some(problem) = self.problem(SystemTime::now()) {
            self.warned = Some(Instant::now());
            tracing::warn!(certificate = self.place, "{problem}");
        }
    }

    pub(super) fn problem(&self, now: SystemTime) -> Option<&'static str> {
        let (from, to) = self.times?;
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(seconds);
        if at(to) <= now {
            Some("the certificate has expired: nobody will trust it")
        } else if at(from) > now {
            Some("the certificate is not valid yet: is the clock right?")
        } else if at(to) <= now + SOON {
            Some("the certificate expires within a week")
        } else {
            None
        }
    }
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// Seconds since 1970.
pub(super) fn times(certificate: &[u8]) -> Option<(u64, u64)> {
    let (certificate, _) = expect(certificate, SEQUENCE)?;
    let (mut rest, _) = expect(certificate, SEQUENCE)?;
    if let Some((_, after)) = expect(rest, VERSION) {
        rest = after;
    }
    // Serial number, algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        rest = expect(rest, tag)?.1;
    }
    let (validity, _) = expect(rest, SEQUENCE)?;
    let (from, rest) = time(validity)?;
    let (to, _) = time(rest)?;
    Some((from, to))
}

/// The content of an element of this kind, and what comes after it.
fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(bytes)?;
    (found == tag).then_some((content, rest))
}

/// One element of DER: tag, content, and what comes after it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let count = usize::from(first & 0x7f);
        if count > 4 {
            return None;
        }
        let (digits, after) = rest.split_at_checked(count)?;
        length = digits.iter().fold(0, |sum, &digit| sum << 8 | usize::from(digit));
        rest = after;
    }
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn time(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (tag, content, rest) = element(bytes)?;
    let digits = content.strip_suffix(b"Z")?;
    let number = |from: usize, count: usize| {
        let part = digits.get(from..from + count)?;
        std::str::from_utf8(part).ok()?.parse::<u64>().ok()
    };
    let (year, at) = match tag {
        // Two digits of the year: those from 50 are of the last century.
        UTC_TIME => (number(0, 2).map(|y| if y >= 50 { 1900 + y } else { 2000 + y })?, 2),
        GENERALIZED_TIME => (number(0, 4)?, 4),
        _ => return None,
    };
    let part = |i: usize| number(at + 2 * i, 2);
    let days = days(year, part(0)?, part(1)?)?;
    Some((days * 86_400 + part(2)? * 3_600 + part(3)? * 60 + part(4)?, rest))
}

/// Days from 1970-01-01 to a day of the Gregorian calendar.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    const BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let before = BEFORE.get(usize::try_from(month.checked_sub(1)?).ok()?)?;
    let by = |n| year.is_multiple_of(n);
    let is_leap = by(4) && (!by(100) || by(400));
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    let whole = (year.checked_sub(1970)?) * 365 + leap_days(year - 1) - leap_days(1969);
    Some(whole + before + u64::from(is_leap && month > 2) + day.checked_sub(1)?)
}
