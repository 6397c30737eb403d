//! Silences that come again: maintenance windows.

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};
use model::UnixMillis;
use proto::convert::FieldError;
use serde::{Deserialize, Serialize};

/// How long until it comes again, by the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Every {
    Day,
    Week,
}

/// At the same time of the day in its time zone, whatever the clocks are changed by.
#[derive(Clone, Debug, PartialEq)]
pub struct Recurrence {
    pub every: Every,
    pub zone: TimeZone,
    /// Over for good from here on.
    pub until: Option<UnixMillis>,
}

/// As the store keeps it.
#[derive(Serialize, Deserialize)]
pub(super) struct Document {
    every: Every,
    time_zone: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<i64>,
}

impl Every {
    fn days(self) -> i64 {
        match self {
            Self::Day => 1,
            Self::Week => 7,
        }
    }

    /// The longest that it may last, so that it ends before it begins again.
    pub fn length_ms_max(self) -> i64 {
        self.days() * 24 * 60 * 60 * 1000
    }
}

impl Recurrence {
    /// Whether `now` lies in one of its times, of which `start` to `end` is the first.
    pub(super) fn covers(&self, start: UnixMillis, end: UnixMillis, now: UnixMillis) -> bool {
        if self.until.is_some_and(|until| until <= now) {
            return false;
        }
        let length = end.since(start);
        let (Some(first), Some(at)) = (self.local(start), self.local(now)) else { return false };
        let days = first.date().until(at.date()).map_or(0, |span| i64::from(span.get_days()));
        let latest = days.div_euclid(self.every.days());
        // One that began before midnight may still last.
        [latest, latest - 1].into_iter().filter(|times| *times >= 0).any(|times| {
            let began = first.checked_add(Span::new().days(times * self.every.days()));
            began.is_ok_and(|began| {
                let began = UnixMillis(began.timestamp().as_millisecond());
                began <= now && now < began + length
            })
        })
    }

    fn local(&self, time: UnixMillis) -> Option<Zoned> {
        Some(Timestamp::from_millisecond(time.0).ok()?.to_zoned(self.zone.clone()))
    }

    pub fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    pub(super) fn to_document(&self) -> Document {
        Document {
            every: self.every,
            time_zone: self.zone_name().to_owned(),
            until: self.until.map(|until| until.0),
        }
    }

    pub(super) fn from_document(document: Document) -> Option<Self> {
        Some(Self {
            every: document.every,
            zone: zone("time_zone", &document.time_zone).ok()?,
            until: document.until.map(UnixMillis),
        })
    }
}

/// By its IANA name; UTC when that is empty.
pub fn zone(field: &str, name: &str) -> Result<TimeZone, FieldError> {
    if name.is_empty() || name.eq_ignore_ascii_case("utc") {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name).map_err(|_| {
        let name: String = name.chars().take(64).collect();
        FieldError::new(
            field,
            format!("expected a time zone such as Europe/Berlin, found {name:?}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> UnixMillis {
        UnixMillis(text.parse::<Timestamp>().expect("a time").as_millisecond())
    }

    fn in_force(recurrence: &Recurrence, first: (&str, &str), now: &str) -> bool {
        recurrence.covers(time(first.0), time(first.1), time(now))
    }

    #[test]
    fn every_week_at_the_same_local_time_also_after_the_clocks_changed() {
        // Sundays from 23:00 to 01:00; summer time begins in Berlin on 2026-03-29.
        let weekly = Recurrence {
            every: Every::Week,
            zone: zone("z", "Europe/Berlin").expect("known"),
            until: Some(time("2026-04-12T21:30:00Z")),
        };
        let first = ("2026-03-15T22:00:00Z", "2026-03-16T00:00:00Z");
        let check = |now: &str, expected: bool| {
            assert_eq!(in_force(&weekly, first, now), expected, "{now}");
        };
        check("2026-03-08T22:30:00Z", false);
        check("2026-03-15T22:00:00Z", true);
        check("2026-03-15T23:59:59Z", true);
        check("2026-03-16T00:00:00Z", false);
        check("2026-03-16T22:30:00Z", false);
        check("2026-03-22T23:30:00Z", true);
        check("2026-03-29T20:59:59Z", false);
        check("2026-03-29T21:00:00Z", true);
        check("2026-03-29T22:59:59Z", true);
        check("2026-03-29T23:00:00Z", false);
        check("2026-04-05T21:30:00Z", true);
        check("2026-04-12T21:29:59Z", true);
        check("2026-04-12T21:30:00Z", false);
    }

    #[test]
    fn every_day_over_midnight() {
        let daily = Recurrence { every: Every::Day, zone: TimeZone::UTC, until: None };
        let first = ("2026-01-01T22:00:00Z", "2026-01-02T03:00:00Z");
        assert!(!in_force(&daily, first, "2026-01-01T02:00:00Z"));
        assert!(in_force(&daily, first, "2026-01-02T02:00:00Z"));
        assert!(!in_force(&daily, first, "2026-01-02T03:00:00Z"));
        assert!(in_force(&daily, first, "2027-06-30T23:00:00Z"));
        assert!(in_force(&daily, first, "2027-07-01T02:59:00Z"));
    }

    #[test]
    fn a_zone_that_is_none_is_refused_by_its_field() {
        let error = zone("silence.recurrence.time_zone", "Europe/Atlantis").expect_err("none");
        assert!(
            error.to_string().starts_with("silence.recurrence.time_zone: expected a time zone")
        );
        assert_eq!(zone("z", "").expect("UTC"), TimeZone::UTC);
    }
}
