//! How many log events came, by service and severity, as series like any other: `muster.log.events`.
//!
//! Counted per stream, from 0: a machine that comes back counts anew, as its own counters do after a reboot.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Frame, Labels, Layout, Level, LogEvent, SpoolEpoch, UnixMillis, metric};

use crate::clock::Now;

/// What changed is told this often…
const CHANGED_EVERY: Duration = Duration::from_secs(1);
/// …and what did not, this often, so that a rate of 0 can be seen…
const QUIET_EVERY: Duration = Duration::from_secs(10);
/// …until nothing came for so long.
const QUIET_MAX: Duration = Duration::from_secs(15 * 60);
/// Services of one machine. What would be one more is counted with all others.
const SERVICES_MAX: usize = 100;
const OTHERS: &str = "(others)";

/// The counters of one stream.
#[derive(Debug)]
pub(super) struct LogCounts {
    /// Names the items that tell of them.
    pub(super) epoch: SpoolEpoch,
    services: BTreeMap<String, Service>,
    /// Items told of so far.
    pub(super) told: u64,
    due: Option<Instant>,
}

#[derive(Debug)]
struct Service {
    layout: Layout,
    counts: [u64; Level::ALL.len()],
    /// As they were told last, and when.
    told: Option<([u64; Level::ALL.len()], Instant)>,
    changed: Instant,
}

impl LogCounts {
    /// `opened` makes the items of this stream different from those of the streams before.
    pub(super) fn new(opened: UnixMillis, token: u64) -> Self {
        let epoch = SpoolEpoch((opened.0 as u64) << 16 ^ token | 1 << 63);
        Self { epoch, services: BTreeMap::new(), told: 0, due: None }
    }

    pub(super) fn add(&mut self, events: &[LogEvent], now: Now) {
        for event in events {
            let full = self.services.len() >= SERVICES_MAX;
            let name = match full && !self.services.contains_key(&event.service) {
                true => OTHERS,
                false => &event.service,
            };
            if !self.services.contains_key(name) {
                let Some(layout) = layout(name) else { continue };
                let counts = [0; Level::ALL.len()];
                let service = Service { layout, counts, told: None, changed: now.mono };
                self.services.insert(name.to_owned(), service);
            }
            if let Some(service) = self.services.get_mut(name) {
                service.counts[Level::of(event.severity) as usize] += 1;
                service.changed = now.mono;
            }
        }
        // The first change after a quiet time is told at once.
        self.due = Some(self.due.map_or(now.mono, |due| due.min(now.mono + CHANGED_EVERY)));
    }

    /// When there is something to tell.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What there is to tell at `now`, with the time that it is on the machine.
    pub(super) fn tell(&mut self, now: Now, on_machine: UnixMillis) -> Vec<(Layout, Arc<Frame>)> {
        let mut frames = Vec::new();
        let mut again = None;
        for service in self.services.values_mut() {
            let (before, at) = match service.told {
                Some((counts, at)) => (counts, Some(at)),
                None => ([0; Level::ALL.len()], None),
            };
            let changed = before != service.counts;
            let since = at.map(|at| now.since(at));
            let quiet = now.since(service.changed);
            if quiet < QUIET_MAX {
                again = Some(now.mono + if changed { CHANGED_EVERY } else { QUIET_EVERY });
            }
            if !changed && (quiet >= QUIET_MAX || since.is_some_and(|s| s < QUIET_EVERY)) {
                continue;
            }
            // After a pause the counter stands where it was until a second ago: the rise is seen, as a rate
            // of that second.
            if changed && since.is_none_or(|since| since > QUIET_EVERY + CHANGED_EVERY) {
                frames.push(service.frame(on_machine - CHANGED_EVERY.as_millis() as i64, before));
            }
            frames.push(service.frame(on_machine, service.counts));
            service.told = Some((service.counts, now.mono));
        }
        self.due = again;
        self.told += frames.len() as u64;
        frames
    }
}

impl Service {
    fn frame(&self, time: UnixMillis, counts: [u64; Level::ALL.len()]) -> (Layout, Arc<Frame>) {
        let values = counts.iter().map(|&count| count as f64).collect();
        let frame = Frame { time, layout: self.layout.id(), values };
        (self.layout.clone(), Arc::new(frame))
    }
}

fn layout(service: &str) -> Option<Layout> {
    let series = Level::ALL.map(|level| {
        let labels = [("service.name", service), ("severity", level.name())];
        metric::LOG_EVENTS.with(Labels::of(labels))
    });
    Layout::new(series.into()).ok()
}

#[cfg(test)]
mod tests {
    use model::Severity;

    use super::*;

    fn event(service: &str, severity: u32) -> LogEvent {
        LogEvent {
            time: UnixMillis(0),
            severity: Severity::new(severity).expect("a severity"),
            service: service.into(),
            body: "x".into(),
            body_truncated: false,
            attributes: Labels::empty(),
            source: "file".into(),
        }
    }

    /// Service, time and number of errors of each frame.
    fn told(counts: &mut LogCounts, now: Now, ms: i64) -> Vec<(String, i64, f64)> {
        let frames = counts.tell(now, UnixMillis(ms));
        frames
            .iter()
            .map(|(layout, frame)| {
                let errors = &layout.series()[Level::Error as usize];
                assert_eq!(errors.labels.get("severity"), "error");
                let service = errors.labels.get("service.name").to_owned();
                (service, frame.time.0, frame.values[Level::Error as usize])
            })
            .collect()
    }

    #[test]
    fn counters_rise_from_zero_and_stay_while_it_is_quiet() {
        let now = Now::read();
        let mut counts = LogCounts::new(UnixMillis(5), 1);
        assert_eq!(counts.due(), None);
        counts.add(&[event("web", 17), event("web", 18), event("web", 9)], now);
        assert_eq!(counts.due(), Some(now.mono));
        let web = |ms, errors| ("web".to_owned(), ms, errors);
        assert_eq!(told(&mut counts, now, 5000), [web(4000, 0.0), web(5000, 2.0)]);
        counts.add(&[event("web", 17)], now);
        let soon = now.plus_ms(1000);
        assert_eq!(counts.due(), Some(soon.mono));
        assert_eq!(told(&mut counts, soon, 6000), [web(6000, 3.0)]);
        let quiet = now.plus_ms(12_000);
        assert_eq!(told(&mut counts, quiet, 17_000), [web(17_000, 3.0)]);
        // Long after, nothing is told any more until something comes.
        let later = now.plus_ms(1_000_000);
        assert_eq!(told(&mut counts, later, 1_005_000), []);
        assert_eq!(counts.due(), None);
        counts.add(&[event("web", 17)], later);
        let rise = [web(1_005_000, 3.0), web(1_006_000, 4.0)];
        assert_eq!(told(&mut counts, later, 1_006_000), rise);
        assert_eq!(counts.told, 6);
    }

    #[test]
    fn too_many_services_are_counted_together() {
        let now = Now::read();
        let mut counts = LogCounts::new(UnixMillis(5), 1);
        let events: Vec<_> = (0..150).map(|i| event(&format!("s{i}"), 17)).collect();
        counts.add(&events, now);
        let frames = told(&mut counts, now, 10);
        let others = frames.iter().rfind(|(service, ..)| service == OTHERS).expect("there");
        assert_eq!(others.2, 50.0);
        assert_eq!(frames.len(), 2 * (SERVICES_MAX + 1));
    }
}
