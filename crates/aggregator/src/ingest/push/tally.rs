//! The series of one source, with their values as they are now. Pure.
//!
//! A frame has every series of its sheet: what was added up stands where it stands, what was set is held for a
//! while. So the sheets of a service that always sends the same stay as they are, whatever others send.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Frame, Kind, Labels, Layout, Series, UnixMillis};
use proto::convert::FieldError;

use super::read::Point;

/// What was set is said again beside others for so long.
const HELD: Duration = Duration::from_secs(300);
/// Sheets of which nothing was sent for so long make room for others.
const UNUSED_AFTER: Duration = Duration::from_secs(3600);
const SHEET_SERIES_MAX: usize = 128;
/// Series that come together get a sheet of their own, up to so many sheets; further ones join the others.
const OWN_SHEETS_MAX: usize = 64;

type Name = (Box<str>, Labels);

#[derive(Debug)]
pub(super) struct Tally {
    series_max: usize,
    slots: HashMap<Name, Slot>,
    sheets: Vec<Sheet>,
}

#[derive(Clone, Debug)]
struct Slot {
    kind: Kind,
    sheet: usize,
    column: usize,
    value: f64,
    /// Summed up here, from 0.
    is_total: bool,
    /// No frame has had its 0 yet, without which its first rise could not be seen.
    begins: bool,
    touched: Instant,
}

#[derive(Debug)]
struct Sheet {
    layout: Layout,
    names: Vec<Name>,
}

/// What points became.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) frames: Vec<(Layout, Arc<Frame>)>,
    /// Slots as they were.
    before: Vec<(Name, Slot)>,
}

/// Why points were not taken. Nothing changed.
#[derive(Debug)]
pub(super) enum Refused {
    Invalid(FieldError),
    Full(String),
}

impl Tally {
    pub(super) fn new(series_max: usize) -> Self {
        Self { series_max, slots: HashMap::new(), sheets: Vec::new() }
    }

    /// All points or none. `time` and the millisecond after it are the times of what has none; both must be
    /// later than those of the last time. Without `anew`, what is to be added was added before.
    pub(super) fn take_in(
        &mut self,
        points: &[Point],
        anew: bool,
        time: UnixMillis,
        now: Instant,
    ) -> Result<Taken, Refused> {
        self.admit(points, now)?;
        let mut taken = Taken::default();
        // By time and sheet.
        let mut past: BTreeMap<(UnixMillis, usize), Vec<f64>> = BTreeMap::new();
        let mut present: BTreeMap<usize, bool> = BTreeMap::new();
        for point in points {
            let name = name(&point.series);
            let Some(slot) = self.slots.get_mut(&name) else { continue };
            if let Some(time) = point.time {
                let absent = || vec![f64::NAN; self.sheets[slot.sheet].names.len()];
                past.entry((time, slot.sheet)).or_insert_with(absent)[slot.column] = point.value;
                continue;
            }
            taken.before.push((name, slot.clone()));
            slot.touched = now;
            match point.delta {
                true => {
                    if !slot.is_total {
                        // It was summed up elsewhere until now: that is a new start.
                        (slot.is_total, slot.begins, slot.value) = (true, true, 0.0);
                    }
                    slot.value += if anew { point.value } else { 0.0 };
                }
                false => (slot.is_total, slot.begins, slot.value) = (false, false, point.value),
            }
            *present.entry(slot.sheet).or_default() |= slot.begins;
        }
        for ((time, sheet), values) in past {
            taken.push(&self.sheets[sheet].layout, time, values);
        }
        for (sheet, begins) in present {
            let Sheet { layout, names } = &self.sheets[sheet];
            if begins {
                let begin = |name| match self.slots.get(name) {
                    Some(slot) if slot.begins => 0.0,
                    _ => f64::NAN,
                };
                taken.push(layout, time, names.iter().map(begin).collect());
            }
            let mut values = Vec::with_capacity(names.len());
            for name in names {
                let slot = self.slots.get_mut(name).filter(|slot| slot.is_held(now));
                values.push(slot.map_or(f64::NAN, |slot| {
                    slot.begins = false;
                    slot.value
                }));
            }
            taken.push(layout, time + 1, values);
        }
        Ok(taken)
    }

    /// What was taken in last is not kept.
    pub(super) fn undo(&mut self, taken: Taken) {
        // Backwards: of a series that was named twice, the oldest state remains.
        for (name, slot) in taken.before.into_iter().rev() {
            // Its sheet may have grown, and stays.
            if let Some(now) = self.slots.get_mut(&name) {
                let (sheet, column) = (now.sheet, now.column);
                *now = Slot { sheet, column, ..slot };
            }
        }
    }

    /// Gives each new series its place.
    fn admit(&mut self, points: &[Point], now: Instant) -> Result<(), Refused> {
        let mut new: Vec<&Series> = Vec::new();
        let mut seen: HashMap<Name, Kind> = HashMap::new();
        for (i, point) in points.iter().enumerate() {
            let series = &point.series;
            let known = self.slots.get(&name(series)).map(|slot| slot.kind);
            if known.is_none() && !seen.contains_key(&name(series)) {
                new.push(series);
            }
            let kind = known.unwrap_or(*seen.entry(name(series)).or_insert(series.kind));
            if kind != series.kind {
                let problem = format!("{series} was a {kind:?} before; hint: give it another name");
                return Err(Refused::Invalid(FieldError::new(
                    format!("points[{i}].series.kind"),
                    problem,
                )));
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        if self.slots.len() + new.len() > self.series_max {
            self.forget_unused(now);
        }
        let series = self.slots.len() + new.len();
        if series > self.series_max {
            return Err(Refused::Full(format!(
                "points: with these {} the source would have {series} series in use, at most {} are \
                 taken; hint: labels with ever new values make ever new series",
                new.len(),
                self.series_max,
            )));
        }
        let mut new = new.into_iter().cloned().collect::<Vec<_>>();
        while !new.is_empty() {
            let rest = new.split_off(new.len().min(SHEET_SERIES_MAX));
            let room = |sheet: &Sheet| sheet.names.len() + new.len() <= SHEET_SERIES_MAX;
            let joined = (self.sheets.len() >= OWN_SHEETS_MAX)
                .then(|| self.sheets.iter().position(room))
                .flatten();
            self.put(joined, new, now)?;
            new = rest;
        }
        Ok(())
    }

    /// Into a new sheet, or at the end of one that is there.
    fn put(
        &mut self,
        joined: Option<usize>,
        new: Vec<Series>,
        now: Instant,
    ) -> Result<(), Refused> {
        let at = joined.unwrap_or(self.sheets.len());
        let before = joined.map_or(&[][..], |at| self.sheets[at].layout.series());
        let first = before.len();
        let all = before.iter().cloned().chain(new.iter().cloned()).collect();
        let layout = Layout::new(all)
            .map_err(|error| Refused::Invalid(FieldError::new("points.series", error)))?;
        let names = layout.series().iter().map(name).collect();
        let sheet = Sheet { layout, names };
        match joined {
            Some(at) => self.sheets[at] = sheet,
            None => self.sheets.push(sheet),
        }
        for (column, series) in (first..).zip(new) {
            let (is_total, begins) = (false, false);
            let (kind, value) = (series.kind, f64::NAN);
            let slot = Slot { kind, sheet: at, column, value, is_total, begins, touched: now };
            self.slots.insert(name(&series), slot);
        }
        Ok(())
    }

    fn forget_unused(&mut self, now: Instant) {
        let slots = &mut self.slots;
        self.sheets.retain(|sheet| {
            let used = |name| {
                let slot: Option<&Slot> = slots.get(name);
                slot.is_some_and(|s| now.saturating_duration_since(s.touched) < UNUSED_AFTER)
            };
            let is_used = sheet.names.iter().any(used);
            if !is_used {
                for name in &sheet.names {
                    slots.remove(name);
                }
            }
            is_used
        });
        for (at, sheet) in self.sheets.iter().enumerate() {
            for name in &sheet.names {
                if let Some(slot) = slots.get_mut(name) {
                    slot.sheet = at;
                }
            }
        }
    }
}

impl Slot {
    fn is_held(&self, now: Instant) -> bool {
        self.is_total || now.saturating_duration_since(self.touched) < HELD
    }
}

impl Taken {
    fn push(&mut self, layout: &Layout, time: UnixMillis, values: Vec<f64>) {
        let frame = Frame { time, layout: layout.id(), values };
        self.frames.push((layout.clone(), Arc::new(frame)));
    }
}

fn name(series: &Series) -> Name {
    (series.metric.clone(), series.labels.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(name: &str, value: f64) -> Point {
        Point {
            series: Series::counter(name, "1", Labels::empty()),
            value,
            delta: true,
            time: None,
        }
    }

    fn gauge(name: &str, value: f64) -> Point {
        let series = Series::gauge(name, "1", Labels::empty());
        Point { series, value, delta: false, time: None }
    }

    /// Times, series and values, without those that are absent.
    fn told(taken: &Taken) -> Vec<(i64, String, f64)> {
        let frames = taken.frames.iter().flat_map(|(layout, frame)| {
            let series = layout.series().iter().map(ToString::to_string);
            series.zip(&frame.values).map(|(s, v)| (frame.time.0, s, *v)).collect::<Vec<_>>()
        });
        frames.filter(|(_, _, value)| !value.is_nan()).collect()
    }

    fn expect(taken: &Taken, expected: &[(i64, &str, f64)]) {
        let expected: Vec<_> =
            expected.iter().map(|(time, name, value)| (*time, name.to_string(), *value)).collect();
        assert_eq!(told(taken), expected);
    }

    fn take(tally: &mut Tally, points: &[Point], time: i64, now: Instant) -> Taken {
        tally.take_in(points, true, UnixMillis(time), now).expect("taken")
    }

    #[test]
    fn what_is_added_up_begins_with_zero_and_goes_on() {
        let (mut tally, now) = (Tally::new(10), Instant::now());
        let first = take(&mut tally, &[delta("orders", 3.0), delta("orders", 1.0)], 10, now);
        expect(&first, &[(10, "orders", 0.0), (11, "orders", 4.0)]);
        let second = take(&mut tally, &[delta("orders", 2.0)], 20, now);
        expect(&second, &[(21, "orders", 6.0)]);
    }

    #[test]
    fn what_is_sent_again_is_not_added_again() {
        let (mut tally, now) = (Tally::new(10), Instant::now());
        take(&mut tally, &[delta("orders", 3.0)], 10, now);
        let again = tally.take_in(&[delta("orders", 3.0)], false, UnixMillis(20), now);
        expect(&again.expect("taken"), &[(21, "orders", 3.0)]);
    }

    #[test]
    fn what_is_not_kept_is_undone() {
        let (mut tally, now) = (Tally::new(10), Instant::now());
        let first = take(&mut tally, &[delta("orders", 3.0), delta("orders", 1.0)], 10, now);
        tally.undo(first);
        let second = take(&mut tally, &[delta("orders", 2.0)], 20, now);
        expect(&second, &[(20, "orders", 0.0), (21, "orders", 2.0)]);
    }

    #[test]
    fn what_was_set_is_held_for_a_while_and_times_of_their_own_leave_the_present_alone() {
        let (mut tally, now) = (Tally::new(10), Instant::now());
        take(&mut tally, &[gauge("a", 1.0), gauge("b", 2.0)], 10, now);
        let later = take(&mut tally, &[gauge("a", 3.0)], 20, now + HELD / 2);
        expect(&later, &[(21, "a", 3.0), (21, "b", 2.0)]);
        let old = Point { time: Some(UnixMillis(5)), ..gauge("b", 9.0) };
        expect(&take(&mut tally, &[old], 30, now + HELD / 2), &[(5, "b", 9.0)]);
        let much_later = take(&mut tally, &[gauge("a", 4.0)], 40, now + HELD);
        expect(&much_later, &[(41, "a", 4.0)]);
    }

    #[test]
    fn another_kind_under_the_same_name_is_refused_and_changes_nothing() {
        let (mut tally, now) = (Tally::new(10), Instant::now());
        take(&mut tally, &[delta("orders", 3.0)], 10, now);
        let points = [delta("orders", 1.0), gauge("orders", 1.0)];
        match tally.take_in(&points, true, UnixMillis(20), now) {
            Err(Refused::Invalid(error)) => {
                assert!(error.to_string().starts_with("points[1].series.kind: "), "{error}");
            }
            other => panic!("{other:?}"),
        }
        let next = take(&mut tally, &[delta("orders", 1.0)], 30, now);
        expect(&next, &[(31, "orders", 4.0)]);
    }

    #[test]
    fn series_are_limited_and_unused_ones_make_room() {
        let (mut tally, now) = (Tally::new(200), Instant::now());
        let some = |from: usize, to: usize| -> Vec<Point> {
            (from..to).map(|i| delta(&format!("m{i}"), 1.0)).collect()
        };
        take(&mut tally, &some(0, 150), 10, now);
        take(&mut tally, &some(150, 200), 20, now + UNUSED_AFTER / 2);
        let more = some(200, 210);
        let full = tally.take_in(&more, true, UnixMillis(30), now + UNUSED_AFTER / 2);
        assert!(matches!(full, Err(Refused::Full(_))), "{full:?}");
        let later = take(&mut tally, &more, 40, now + UNUSED_AFTER);
        assert_eq!(told(&later).len(), 20, "zero, then one, of each");
        let kept = take(&mut tally, &some(150, 151), 50, now + UNUSED_AFTER);
        assert!(told(&kept).contains(&(51, "m150".to_owned(), 2.0)), "{:?}", told(&kept));
    }

    #[test]
    fn series_that_come_one_by_one_share_sheets_in_the_end() {
        let (mut tally, now) = (Tally::new(1_000), Instant::now());
        for i in 0..1_000 {
            take(&mut tally, &[delta(&format!("m{i}"), 1.0)], 10 * i, now);
        }
        assert_eq!(tally.sheets.len(), OWN_SHEETS_MAX);
        let all: Vec<Point> = (0..1_000).map(|i| delta(&format!("m{i}"), 1.0)).collect();
        let told = told(&take(&mut tally, &all, 20_000, now));
        assert!(told.iter().all(|(_, _, value)| *value == 2.0), "{told:?}");
    }
}
