//! Frames as they came, out of the columns that history keeps: pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Frame, Layout, Series, UnixMillis};

use super::{Samples, Wanted};
use crate::live::LiveFrame;

/// Layouts of one machine, and where each of their columns stands among all columns.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    /// First column, and the layout, by its number in the store.
    layouts: Vec<(i64, usize, Layout)>,
    count: usize,
}

impl Columns {
    /// From the series of each layout, in their order. A layout that does not add up is left out, as is one
    /// without anything that is wanted.
    pub(crate) fn new(series: impl IntoIterator<Item = (i64, Series)>, wanted: Wanted<'_>) -> Self {
        let mut by_layout: BTreeMap<i64, Vec<Series>> = BTreeMap::new();
        for (layout, one) in series {
            by_layout.entry(layout).or_default().push(one);
        }
        let mut columns = Self::default();
        for (number, series) in by_layout {
            if !series.iter().any(|one| wanted(&one.metric)) {
                continue;
            }
            match Layout::new(series) {
                Ok(layout) => {
                    let first = columns.count;
                    columns.count += layout.len();
                    columns.layouts.push((number, first, layout));
                }
                Err(error) => {
                    tracing::warn!(layout = number, %error, "left out a layout of the history");
                }
            }
        }
        columns
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Position within the layout and place among all columns, of each column that is wanted, by layout.
    pub(crate) fn places(&self, wanted: Wanted<'_>) -> BTreeMap<i64, Vec<(usize, usize)>> {
        let places = |first: usize, layout: &Layout| {
            let series = layout.series().iter().enumerate();
            series.filter(|(_, s)| wanted(&s.metric)).map(|(at, _)| (at, first + at)).collect()
        };
        self.layouts.iter().map(|(number, first, l)| (*number, places(*first, l))).collect()
    }

    /// Puts what was read of all columns together again, by time.
    pub(crate) fn frames(&self, samples: &[Samples]) -> Vec<LiveFrame> {
        let mut frames = Vec::new();
        for (_, first, layout) in &self.layouts {
            let columns = &samples[*first..first + layout.len()];
            frames.extend(rows(layout, columns).into_iter().map(|(time, values)| LiveFrame {
                layout: layout.clone(),
                frame: Arc::new(Frame { time, layout: layout.id(), values }),
            }));
        }
        frames.sort_by_key(|live| live.frame.time);
        frames
    }
}

fn rows(layout: &Layout, columns: &[Samples]) -> BTreeMap<UnixMillis, Vec<f64>> {
    let mut rows: BTreeMap<UnixMillis, Vec<f64>> = BTreeMap::new();
    for (position, samples) in columns.iter().enumerate() {
        for (time, value) in samples.times.iter().zip(&samples.values) {
            let row = rows.entry(*time).or_insert_with(|| vec![f64::NAN; layout.len()]);
            row[position] = *value;
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use model::Labels;

    use super::*;

    fn samples(rows: &[(i64, f64)]) -> Samples {
        Samples {
            times: rows.iter().map(|row| UnixMillis(row.0)).collect(),
            values: rows.iter().map(|row| row.1).collect(),
        }
    }

    #[test]
    fn columns_become_frames_by_time_and_what_is_absent_is_nan() {
        let gauge = |name: &str| Series::gauge(name, "1", Labels::empty());
        let series = [(7, gauge("a")), (3, gauge("c")), (7, gauge("b")), (9, gauge("d"))];
        let columns = Columns::new(series, &|metric| metric != "d");
        assert_eq!(columns.count(), 3);
        assert_eq!(columns.places(&|_| true)[&7], [(0, 1), (1, 2)]);
        assert_eq!(columns.places(&|metric| metric == "b")[&7], [(1, 2)]);
        let found = columns.frames(&[
            samples(&[(2, 9.0)]),
            samples(&[(1, 1.0), (3, 3.0)]),
            samples(&[(3, 33.0)]),
        ]);
        let shown: Vec<String> = found
            .iter()
            .map(|live| format!("{} {:?}", live.frame.time.0, live.frame.values))
            .collect();
        assert_eq!(shown, ["1 [1.0, NaN]", "2 [9.0]", "3 [3.0, 33.0]"]);
    }
}
