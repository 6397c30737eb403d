//! Log events with times that cannot be.
//!
//! A line is never lost to the clock of whoever wrote it: it gets the time of its receipt, and keeps its own as an
//! attribute.

use model::{Labels, LogEvent, limits};

use crate::clock::Now;

/// The time that the event had.
const ATTRIBUTE: &str = "muster.time.original";

/// Returns how many there were.
pub(super) fn replace_impossible(events: &mut [LogEvent], now: Now) -> u64 {
    let mut replaced = 0;
    for event in events {
        let age = now.wall.since(event.time);
        if (-limits::ITEM_AHEAD_MS_MAX..=limits::ITEM_AGE_MS_MAX).contains(&age) {
            continue;
        }
        let own = (ATTRIBUTE, event.time.to_string());
        let attributes = event.attributes.iter().filter(|(name, _)| *name != ATTRIBUTE);
        let attributes = attributes.map(|(name, value)| (name, value.to_owned()));
        // Where there is no room for one attribute more, the line is what matters.
        if let Ok(attributes) = Labels::new(attributes.chain([own])) {
            event.attributes = attributes;
        }
        event.time = now.wall;
        replaced += 1;
    }
    replaced
}

#[cfg(test)]
mod tests {
    use model::{Severity, UnixMillis};

    use super::*;

    #[test]
    fn a_line_of_another_decade_is_kept_with_the_time_of_its_receipt() {
        let now = Now::read();
        let event = |time| LogEvent {
            time,
            severity: Severity::UNKNOWN,
            service: "web".into(),
            body: "hello".into(),
            body_truncated: false,
            attributes: Labels::of([("k", "v")]),
            source: "file".into(),
        };
        let past = UnixMillis(0);
        let ahead = now.wall + 2 * limits::ITEM_AHEAD_MS_MAX;
        let mut events = [event(past), event(now.wall - 1000), event(ahead)];
        assert_eq!(replace_impossible(&mut events, now), 2);
        assert_eq!(events.each_ref().map(|e| e.time), [now.wall, now.wall - 1000, now.wall]);
        assert_eq!(events[0].attributes.get(ATTRIBUTE), past.to_string());
        assert_eq!(events[0].attributes.get("k"), "v");
        assert_eq!(events[1].attributes.get(ATTRIBUTE), "");
        assert_eq!(events[2].attributes.get(ATTRIBUTE), ahead.to_string());
    }
}
