//! What a probe writes its readings on: values in order, under a layout that changes only when the
//! series do.

use model::metric::Metric;
use model::{Labels, Layout, MachineEvent, ProcessReport, Series, limits};

/// More series than this from one probe are left out and counted.
const SERIES_MAX: usize = 4_000;

/// One probe's sheet, kept from reading to reading.
///
/// A probe puts its series in the same order each time. As long as they are those of the layout, a put
/// costs a comparison; the first that differs starts a new layout.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    layout: Option<Layout>,
    values: Vec<f64>,
    /// The series put so far, once they differ from the layout's.
    changed: Option<Vec<Series>>,
    extras: Extras,
}

/// What a reading gives beside values.
#[derive(Debug, Default)]
struct Extras {
    events: Vec<MachineEvent>,
    processes: Option<ProcessReport>,
    left_out: usize,
    again_soon: bool,
}

/// A finished reading.
#[derive(Debug, Default)]
pub(crate) struct Read {
    /// The layout and its values. Absent when the machine has nothing of the kind.
    pub(crate) filled: Option<(Layout, Vec<f64>)>,
    pub(crate) events: Vec<MachineEvent>,
    pub(crate) processes: Option<ProcessReport>,
    /// Things that had no room under a limit.
    pub(crate) left_out: usize,
    /// Asks for the next reading at the next tick, whatever the pace.
    pub(crate) again_soon: bool,
}

impl Sheet {
    /// Adds a value. Absent is NaN. The same series must not be put twice in one reading.
    pub(crate) fn put<const N: usize>(
        &mut self,
        metric: &Metric,
        labels: [(&'static str, &str); N],
        value: f64,
    ) {
        if self.values.len() >= SERIES_MAX {
            self.extras.left_out += 1;
            return;
        }
        if self.changed.is_none() && !self.is_next(metric, &labels) {
            self.changed = Some(self.series_so_far());
        }
        if let Some(changed) = &mut self.changed {
            changed.push(metric.with(Labels::of(labels)));
        }
        self.values.push(value);
    }

    pub(crate) fn event(&mut self, event: MachineEvent) {
        self.extras.events.push(event);
    }

    pub(crate) fn processes(&mut self, report: ProcessReport) {
        self.extras.processes = Some(report);
    }

    /// Counts things that the probe did not put because there are too many.
    pub(crate) fn left_out(&mut self, things: usize) {
        self.extras.left_out += things;
    }

    /// For a probe whose first reading is only the base of the second.
    pub(crate) fn again_soon(&mut self) {
        self.extras.again_soon = true;
    }

    /// Ends the reading and readies the sheet for the next.
    pub(crate) fn finish(&mut self) -> anyhow::Result<Read> {
        let extras = std::mem::take(&mut self.extras);
        let values = std::mem::take(&mut self.values);
        let mut changed = self.changed.take();
        if changed.is_none() && self.layout.as_ref().is_some_and(|l| values.len() < l.len()) {
            changed = self.layout.as_ref().map(|l| l.series()[..values.len()].to_vec());
        }
        if let Some(series) = changed {
            self.layout = match series.is_empty() {
                true => None,
                false => Some(Layout::new(series)?),
            };
        }
        self.values = Vec::with_capacity(values.len());
        Ok(Read {
            filled: self.layout.clone().map(|layout| (layout, values)),
            events: extras.events,
            processes: extras.processes,
            left_out: extras.left_out,
            again_soon: extras.again_soon,
        })
    }

    /// Forgets a reading that failed half-way. The layout stays.
    pub(crate) fn discard(&mut self) {
        self.values.clear();
        self.changed = None;
        self.extras = Extras::default();
    }

    fn is_next(&self, metric: &Metric, labels: &[(&'static str, &str)]) -> bool {
        let Some(next) = self.layout.as_ref().and_then(|l| l.series().get(self.values.len()))
        else {
            return false;
        };
        let mut given = 0;
        let same = labels.iter().filter(|(_, value)| !value.is_empty()).all(|(name, value)| {
            given += 1;
            let kept = value.floor_char_boundary(limits::LABEL_VALUE_BYTES_MAX);
            next.labels.get(name) == &value[..kept]
        });
        same && given == next.labels.len() && *next.metric == *metric.name
    }

    fn series_so_far(&self) -> Vec<Series> {
        self.layout.as_ref().map_or(Vec::new(), |l| l.series()[..self.values.len()].to_vec())
    }
}

#[cfg(test)]
mod tests {
    use model::metric::{LOAD_1M, NETWORK_IO, UPTIME};

    use super::*;

    fn interface(sheet: &mut Sheet, name: &str, value: f64) {
        sheet.put(&NETWORK_IO, [("network.interface.name", name)], value);
    }

    fn filled(sheet: &mut Sheet) -> (Layout, Vec<f64>) {
        sheet.finish().expect("valid").filled.expect("not empty")
    }

    #[test]
    fn the_layout_stays_while_the_series_do() {
        let mut sheet = Sheet::default();
        let mut read = |value| {
            interface(&mut sheet, "eth0", value);
            sheet.put(&UPTIME, [], value);
            filled(&mut sheet)
        };
        let (first, _) = read(1.0);
        let (second, values) = read(2.0);
        assert!(std::ptr::eq(first.series(), second.series()), "rebuilt without need");
        assert_eq!(values, [2.0, 2.0]);
    }

    #[test]
    fn a_new_a_changed_and_a_vanished_series_each_make_a_new_layout() {
        let mut sheet = Sheet::default();
        let mut names = |names: &[&str]| {
            for name in names {
                interface(&mut sheet, name, 0.0);
            }
            let (layout, values) = filled(&mut sheet);
            assert_eq!(layout.len(), values.len());
            layout
                .series()
                .iter()
                .map(|s| s.labels.get("network.interface.name").to_owned())
                .collect()
        };
        let mut check = |given: &[&str]| {
            let got: Vec<String> = names(given);
            assert_eq!(got, given);
        };
        check(&["a", "b"]);
        check(&["a", "b", "c"]);
        check(&["a", "x", "c"]);
        check(&["a"]);
    }

    #[test]
    fn no_series_means_no_frame_and_a_later_series_brings_it_back() {
        let mut sheet = Sheet::default();
        assert!(sheet.finish().expect("valid").filled.is_none());
        sheet.put(&LOAD_1M, [], 1.0);
        assert!(sheet.finish().expect("valid").filled.is_some());
        assert!(sheet.finish().expect("valid").filled.is_none());
    }

    #[test]
    fn a_label_that_is_cut_does_not_make_a_new_layout_each_time() {
        let mut sheet = Sheet::default();
        let long = "é".repeat(2000);
        interface(&mut sheet, &long, 1.0);
        let (first, _) = filled(&mut sheet);
        interface(&mut sheet, &long, 1.0);
        let (second, _) = filled(&mut sheet);
        assert!(std::ptr::eq(first.series(), second.series()));
    }

    #[test]
    fn a_discarded_reading_leaves_nothing_behind() {
        let mut sheet = Sheet::default();
        interface(&mut sheet, "eth0", 1.0);
        filled(&mut sheet);
        interface(&mut sheet, "other", 2.0);
        sheet.left_out(3);
        sheet.discard();
        interface(&mut sheet, "eth0", 4.0);
        let read = sheet.finish().expect("valid");
        assert_eq!(read.left_out, 0);
        assert_eq!(read.filled.expect("filled").1, [4.0]);
    }

    #[test]
    fn series_over_the_limit_are_counted() {
        let mut sheet = Sheet::default();
        for i in 0..SERIES_MAX + 7 {
            interface(&mut sheet, &i.to_string(), 0.0);
        }
        let read = sheet.finish().expect("valid");
        assert_eq!(read.left_out, 7);
        assert_eq!(read.filled.expect("filled").1.len(), SERIES_MAX);
    }
}
