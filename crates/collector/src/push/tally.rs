//! What programs measure, summed up: series with their values as they are now. Pure.
//!
//! Names and labels are input without end, so everything here has a bound: series, members of sets,
//! values kept for quantiles. What goes beyond is counted. A series that nobody sends any more is
//! forgotten after a while and makes room.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use model::{Frame, Kind, Labels, Layout, Payload, Series, UnixMillis};

use crate::delivery::Batch;

/// A series that got no value for so long is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(300);
/// Quantiles and sets are of so much time.
const WINDOW: Duration = Duration::from_secs(10);
/// Values of one distribution and window that quantiles are made of; of more, a random choice.
const VALUES_MAX: usize = 1_000;
/// Members of one set and window that are told apart, and of all sets together.
const MEMBERS_MAX: usize = 10_000;
const MEMBERS_IN_ALL_MAX: usize = 100_000;
/// Series of one layout: a new name changes a small layout, not all.
const LAYOUT_MAX: usize = 128;
/// Between two changes of layouts. The server counts the series of every layout that was used in the last
/// five minutes: names that change all the time must not use up what the machine itself needs.
const RESHAPE_EVERY: Duration = Duration::from_secs(10);
const QUANTILES: [(f64, &str); 4] = [(0.5, "0.5"), (0.95, "0.95"), (0.99, "0.99"), (1.0, "1")];

/// One metric with its labels.
type Name = (Box<str>, Labels);

#[derive(Debug)]
pub(super) struct Tally {
    series_max: usize,
    slots: HashMap<Name, Slot>,
    sheets: Vec<Sheet>,
    /// Series that are in no sheet yet.
    young: Vec<Name>,
    reshaped_at: Option<Instant>,
    distributions: HashMap<Name, Distribution>,
    sets: HashMap<Name, HashSet<u64>>,
    /// Of all sets.
    members: usize,
    window_began: Instant,
    refused: u64,
    random: u64,
}

/// Series of one layout.
#[derive(Debug)]
struct Sheet {
    names: Vec<Name>,
    layout: Layout,
}

#[derive(Debug)]
struct Slot {
    kind: Kind,
    unit: Box<str>,
    value: f64,
    /// A counter that is summed up here begins with 0, so that its first increase can be seen.
    begins: bool,
    touched: Instant,
}

/// Of one window.
#[derive(Debug)]
struct Distribution {
    unit: &'static str,
    values: Vec<f64>,
    seen: u64,
    touched: Instant,
}

impl Tally {
    pub(super) fn new(series_max: usize, now: Instant) -> Self {
        Self {
            series_max,
            slots: HashMap::new(),
            sheets: Vec::new(),
            young: Vec::new(),
            reshaped_at: None,
            distributions: HashMap::new(),
            sets: HashMap::new(),
            members: 0,
            window_began: now,
            refused: 0,
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// Sets a series to a value: a gauge, or a counter that is summed up elsewhere.
    pub(super) fn set(&mut self, series: Series, value: f64, now: Instant) {
        if let Some(slot) = self.slot(series, now) {
            slot.value = value;
            slot.begins = false;
        }
    }

    /// Adds to a series; a counter only grows.
    pub(super) fn add(&mut self, series: Series, value: f64, now: Instant) {
        if !value.is_finite() || (series.kind == Kind::Counter && value < 0.0) {
            self.refused += 1;
            return;
        }
        if let Some(slot) = self.slot(series, now) {
            slot.value += value;
        }
    }

    /// One of many values of which count, sum and quantiles are wanted. Stands for `weight` of them.
    pub(super) fn observe(
        &mut self,
        (metric, labels): Name,
        unit: &'static str,
        value: f64,
        weight: f64,
        now: Instant,
    ) {
        if !value.is_finite() || !weight.is_finite() || weight <= 0.0 {
            self.refused += 1;
            return;
        }
        let series = |suffix: &str, unit: &str| {
            Series::counter(&format!("{metric}.{suffix}"), unit, labels.clone())
        };
        let (count, sum) = (series("count", "1"), series("sum", unit));
        let refused = self.refused;
        self.add(count, weight, now);
        if self.refused > refused {
            return;
        }
        // Negative values have a sum that goes back; it is a gauge to nobody, so it is left as it is.
        self.add(sum, (value * weight).max(0.0), now);
        let random = self.random();
        let known = self.distributions.len() < self.series_max
            || self.distributions.contains_key(&(metric.clone(), labels.clone()));
        if !known {
            self.refused += 1;
            return;
        }
        let distribution = self.distributions.entry((metric, labels));
        let distribution = distribution.or_insert_with(|| Distribution {
            unit,
            values: Vec::new(),
            seen: 0,
            touched: now,
        });
        distribution.touched = now;
        distribution.seen += 1;
        if distribution.values.len() < VALUES_MAX {
            distribution.values.push(value);
        } else if let Some(place) =
            distribution.values.get_mut((random % distribution.seen) as usize)
        {
            // Every value of the window has the same chance to be kept (Vitter's algorithm R).
            *place = value;
        }
    }

    /// One more member of a set; how many distinct ones there were is what is wanted.
    pub(super) fn member(&mut self, name: Name, member: &str, now: Instant) {
        let series = Series::gauge(&name.0, "1", name.1.clone());
        if self.slot(series, now).is_none() {
            return;
        }
        let mut hasher = DefaultHasher::new();
        member.hash(&mut hasher);
        let members = self.sets.entry(name).or_default();
        if members.len() < MEMBERS_MAX && self.members < MEMBERS_IN_ALL_MAX {
            self.members += usize::from(members.insert(hasher.finish()));
        } else {
            self.refused += u64::from(!members.contains(&hasher.finish()));
        }
    }

    /// Counts what could not be understood.
    pub(super) fn refuse(&mut self, values: u64) {
        self.refused += values;
    }

    /// Values that were refused and not taken yet.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// Values that were refused since this was asked last.
    pub(super) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    pub(super) fn series(&self) -> usize {
        self.slots.len()
    }

    /// Everything as it is now.
    pub(super) fn frames(&mut self, time: UnixMillis, now: Instant) -> Batch {
        if now.saturating_duration_since(self.window_began) >= WINDOW {
            self.window_began = now;
            self.close_window(now);
        }
        self.reshape(now);
        let mut batch = Batch::default();
        for Sheet { names, layout } in &self.sheets {
            let value = |name| match self.slots.get_mut(name) {
                Some(slot) => {
                    if std::mem::take(&mut slot.begins) {
                        0.0
                    } else {
                        slot.value
                    }
                }
                None => f64::NAN,
            };
            let values = names.iter().map(value).collect();
            batch.payloads.push(Payload::Frame(Frame { time, layout: layout.id(), values }));
            batch.layouts.push(layout.clone());
        }
        batch
    }

    fn close_window(&mut self, now: Instant) {
        let mut distributions = std::mem::take(&mut self.distributions);
        distributions.retain(|_, d| now.saturating_duration_since(d.touched) < FORGET_AFTER);
        for ((metric, labels), distribution) in &mut distributions {
            let values = &mut distribution.values;
            values.sort_by(f64::total_cmp);
            for (quantile, text) in QUANTILES {
                let pairs = labels.iter().chain([("quantile", text)]);
                let Ok(labels) = Labels::new(pairs) else { continue };
                // Nearest rank.
                let rank = (quantile * values.len() as f64).ceil() as usize;
                let value = values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN);
                self.set(Series::gauge(metric, distribution.unit, labels), value, now);
            }
            values.clear();
            distribution.seen = 0;
        }
        self.distributions = distributions;
        let mut sets = std::mem::take(&mut self.sets);
        // A set without members says so once.
        sets.retain(|(metric, labels), members| {
            let series = Series::gauge(metric, "1", labels.clone());
            self.set(series, members.len() as f64, now);
            !std::mem::take(members).is_empty()
        });
        self.sets = sets;
        self.members = 0;
    }

    /// Takes in what is new and lets go of what is old, now and then: at most one layout changes; others
    /// come or go whole.
    fn reshape(&mut self, now: Instant) {
        let is_due = |at| now.saturating_duration_since(at) >= RESHAPE_EVERY;
        if !self.reshaped_at.is_none_or(is_due) {
            return;
        }
        let slots = &mut self.slots;
        let is_old = |slots: &HashMap<Name, Slot>, name: &Name| {
            let age = |slot: &Slot| now.saturating_duration_since(slot.touched);
            slots.get(name).is_none_or(|slot| age(slot) >= FORGET_AFTER)
        };
        // All of it is old: that changes no layout.
        let is_gone = |sheet: &mut Sheet| sheet.names.iter().all(|name| is_old(slots, name));
        let gone: Vec<Sheet> = self.sheets.extract_if(.., is_gone).collect();
        for name in gone.iter().flat_map(|sheet| &sheet.names) {
            slots.remove(name);
        }
        let old = |sheet: &Sheet| sheet.names.iter().filter(|name| is_old(slots, name)).count();
        let oldest = (0..self.sheets.len()).max_by_key(|at| old(&self.sheets[*at]));
        let oldest = oldest.filter(|at| old(&self.sheets[*at]) > 0);
        if oldest.is_none() && self.young.is_empty() {
            return;
        }
        self.reshaped_at = Some(now);
        let has_room = |sheet: &Sheet| sheet.names.len() < LAYOUT_MAX;
        let changed = oldest.or_else(|| self.sheets.iter().position(has_room));
        let mut names = changed.map(|at| self.sheets.remove(at).names).unwrap_or_default();
        let gone: Vec<Name> = names.extract_if(.., |name| is_old(slots, name)).collect();
        for name in &gone {
            slots.remove(name);
        }
        names.append(&mut self.young);
        for names in names.chunks(LAYOUT_MAX) {
            let series = names.iter().filter_map(|name| {
                let Slot { kind, unit, .. } = slots.get(name)?;
                let (metric, labels) = name.clone();
                Some(Series { metric, labels, kind: *kind, unit: unit.clone() })
            });
            // Names were checked when they came in.
            if let Ok(layout) = Layout::new(series.collect()) {
                self.sheets.push(Sheet { names: names.to_vec(), layout });
            }
        }
    }

    /// The place of a series; `None`, counted, when there is no room or it is of another kind.
    fn slot(&mut self, series: Series, now: Instant) -> Option<&mut Slot> {
        let Series { metric, labels, kind, unit } = series;
        let name = (metric, labels);
        if !self.slots.contains_key(&name) {
            if self.slots.len() >= self.series_max {
                self.refused += 1;
                return None;
            }
            let begins = kind == Kind::Counter;
            let slot = Slot { kind, unit, value: 0.0, begins, touched: now };
            self.slots.insert(name.clone(), slot);
            self.young.push(name.clone());
        }
        let slot = self.slots.get_mut(&name)?;
        if slot.kind != kind {
            self.refused += 1;
            return None;
        }
        slot.touched = now;
        Some(slot)
    }

    /// xorshift64: which values stay is no secret.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: UnixMillis = UnixMillis(1_795_208_400_000);

    fn counter(name: &str) -> Series {
        Series::counter(name, "1", Labels::empty())
    }

    fn gauge(name: &str) -> Series {
        Series::gauge(name, "1", Labels::empty())
    }

    /// Values by series, as a server would see them.
    fn values(batch: &Batch) -> HashMap<String, f64> {
        let frames = batch.payloads.iter().map(|payload| match payload {
            Payload::Frame(frame) => frame,
            other => panic!("{other:?}"),
        });
        let layouts = batch.layouts.iter();
        frames
            .zip(layouts)
            .flat_map(|(frame, layout)| {
                assert_eq!(frame.layout, layout.id());
                assert_eq!(frame.values.len(), layout.len());
                layout.series().iter().map(ToString::to_string).zip(frame.values.clone())
            })
            .collect()
    }

    #[test]
    fn a_counter_begins_with_zero_and_a_gauge_with_its_value() {
        let now = Instant::now();
        let mut tally = Tally::new(10, now);
        tally.add(counter("orders"), 3.0, now);
        tally.set(gauge("queue"), 7.0, now);
        let first = values(&tally.frames(TIME, now));
        assert_eq!((first["orders"], first["queue"]), (0.0, 7.0));
        tally.add(counter("orders"), 2.0, now);
        tally.add(gauge("queue"), -1.0, now);
        let second = values(&tally.frames(TIME, now));
        assert_eq!((second["orders"], second["queue"]), (5.0, 6.0));
        assert_eq!(tally.take_refused(), 0);
    }

    #[test]
    fn what_is_beyond_the_limit_or_of_another_kind_is_counted_and_harms_nobody() {
        let now = Instant::now();
        let mut tally = Tally::new(300, now);
        for i in 0..1_000 {
            tally.add(counter(&format!("series.{i}")), 1.0, now);
        }
        assert_eq!((tally.series(), tally.take_refused()), (300, 700));
        tally.set(gauge("series.7"), 9.0, now);
        tally.add(counter("series.7"), -5.0, now);
        tally.add(counter("series.7"), f64::NAN, now);
        assert_eq!(tally.take_refused(), 3);
        tally.frames(TIME, now);
        let values = values(&tally.frames(TIME, now));
        assert_eq!((values.len(), values["series.7"]), (300, 1.0));
    }

    #[test]
    fn what_nobody_sends_any_more_makes_room() {
        let start = Instant::now();
        let mut tally = Tally::new(300, start);
        for i in 0..300 {
            tally.set(gauge(&format!("old.{i}")), 1.0, start);
        }
        let later = start + FORGET_AFTER / 2;
        tally.set(gauge("old.299"), 2.0, later);
        assert_eq!(values(&tally.frames(TIME, later)).len(), 300);
        let end = start + FORGET_AFTER;
        let left = values(&tally.frames(TIME, end));
        assert_eq!(left, [("old.299".to_owned(), 2.0)].into());
        tally.set(gauge("old.299"), 3.0, end);
        tally.set(gauge("new"), 4.0, end);
        let after = values(&tally.frames(TIME, end + RESHAPE_EVERY));
        assert_eq!(after, [("old.299".to_owned(), 3.0), ("new".to_owned(), 4.0)].into());
        assert_eq!(tally.series(), 2);
    }

    #[test]
    fn a_new_series_changes_one_small_layout() {
        let now = Instant::now();
        let mut tally = Tally::new(1_000, now);
        for i in 0..300 {
            tally.set(gauge(&format!("g.{i}")), 1.0, now);
        }
        let ids = |layouts: &[Layout]| layouts.iter().map(Layout::id).collect::<HashSet<_>>();
        let before = tally.frames(TIME, now).layouts;
        tally.set(gauge("one.more"), 1.0, now);
        assert_eq!(ids(&tally.frames(TIME, now).layouts), ids(&before), "not at once again");
        let after = tally.frames(TIME, now + RESHAPE_EVERY).layouts;
        assert_eq!((before.len(), after.len()), (3, 3));
        assert_eq!(ids(&after).difference(&ids(&before)).count(), 1);
    }

    /// As the server counts: the series of every layout that had a frame in the last five minutes.
    fn series_in_use(used: &HashMap<model::LayoutId, (usize, u64)>, second: u64) -> usize {
        used.values().filter(|(_, at)| second - at < 300).map(|(series, _)| series).sum()
    }

    #[test]
    fn names_that_change_all_the_time_leave_room_for_the_machines_own_series() {
        for (series_max, new_per_second) in [(2_000, 1), (5_000, 1), (5_000, 40), (5_000, 200)] {
            let start = Instant::now();
            let mut tally = Tally::new(series_max, start);
            let mut used = HashMap::new();
            let mut most = 0;
            for second in 0..900 {
                let now = start + Duration::from_secs(second);
                for i in 0..new_per_second {
                    tally.set(gauge(&format!("s{second}.{i}")), 1.0, now);
                }
                for layout in tally.frames(TIME, now).layouts {
                    used.insert(layout.id(), (layout.len(), second));
                }
                most = most.max(series_in_use(&used, second));
            }
            assert!(most <= 15_000, "{series_max}, {new_per_second} a second: {most}");
            assert!(tally.series() <= series_max && tally.series() > 0);
        }
    }

    #[test]
    fn many_values_become_count_sum_and_quantiles_of_ten_seconds() {
        let start = Instant::now();
        let mut tally = Tally::new(100, start);
        let name = || ("request.duration".into(), Labels::of([("route", "/")]));
        for i in 1..=5_000 {
            tally.observe(name(), "s", f64::from(i) / 5_000.0, 2.0, start);
        }
        tally.frames(TIME, start);
        let end = start + WINDOW;
        let values = values(&tally.frames(TIME, end));
        assert_eq!(values[r#"request.duration.count{route="/"}"#], 10_000.0);
        let sum = values[r#"request.duration.sum{route="/"}"#];
        assert!((sum - 5_001.0).abs() < 1e-6, "{sum}");
        let of = |quantile: &str| {
            let name = format!(r#"request.duration{{quantile="{quantile}", route="/"}}"#);
            values[&name]
        };
        assert!((0.4..0.6).contains(&of("0.5")), "{}", of("0.5"));
        assert!((0.9..1.0).contains(&of("0.95")), "{}", of("0.95"));
        // Nothing since: no quantile, and not the old one either.
        let quiet = self::values(&tally.frames(TIME, end + WINDOW));
        assert!(quiet[r#"request.duration{quantile="0.5", route="/"}"#].is_nan());
    }

    #[test]
    fn a_set_counts_each_member_once_and_begins_anew() {
        let start = Instant::now();
        let mut tally = Tally::new(10, start);
        let name = || ("users".into(), Labels::empty());
        for user in ["ann", "bob", "ann"] {
            tally.member(name(), user, start);
        }
        assert_eq!(values(&tally.frames(TIME, start + WINDOW))["users"], 2.0);
        tally.member(name(), "eve", start + WINDOW);
        assert_eq!(values(&tally.frames(TIME, start + WINDOW * 2))["users"], 1.0);
        assert_eq!(values(&tally.frames(TIME, start + WINDOW * 3))["users"], 0.0);
    }

    #[test]
    fn all_sets_together_have_a_bound_and_what_is_beyond_is_counted() {
        let start = Instant::now();
        let mut tally = Tally::new(100, start);
        let fill = |tally: &mut Tally, sets: usize| {
            for set in 0..sets {
                let name: Box<str> = format!("users.{set}").into();
                (0..MEMBERS_MAX + 5).for_each(|member| {
                    tally.member((name.clone(), Labels::empty()), &member.to_string(), start);
                });
            }
        };
        fill(&mut tally, 9);
        assert_eq!(tally.take_refused(), 9 * 5, "of each set");
        fill(&mut tally, 12);
        let refused = 12 * (MEMBERS_MAX + 5) - MEMBERS_IN_ALL_MAX;
        assert_eq!(tally.take_refused(), refused as u64, "of all");
        let values = values(&tally.frames(TIME, start + WINDOW));
        assert_eq!(values.values().sum::<f64>(), MEMBERS_IN_ALL_MAX as f64);
        fill(&mut tally, 1);
        assert_eq!(tally.take_refused(), 5, "a window later there is room again");
    }
}
