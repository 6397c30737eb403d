//! The last five minutes of one headline number, coarse enough for a line as high as a word.

use std::collections::VecDeque;

/// Width of one bucket.
pub(crate) const BUCKET_MS: i64 = 5_000;
/// Buckets kept: five minutes.
const BUCKETS: usize = 60;

/// Means over buckets of five seconds, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spark {
    /// Number of the newest bucket: its start divided by the width.
    newest: i64,
    buckets: VecDeque<Bucket>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    sum: f32,
    count: u32,
}

impl Spark {
    /// Adds a value. One from before the newest bucket is put where it belongs, or left out when that
    /// is too long ago.
    pub(crate) fn add(&mut self, time_ms: i64, value: f64) {
        if !value.is_finite() {
            return;
        }
        let number = time_ms.div_euclid(BUCKET_MS);
        if self.buckets.is_empty() || number - self.newest >= BUCKETS as i64 {
            self.buckets.clear();
            self.newest = number - 1;
        }
        while self.newest < number {
            self.newest += 1;
            self.buckets.push_back(Bucket::default());
        }
        while self.buckets.len() > BUCKETS {
            self.buckets.pop_front();
        }
        let back = (self.newest - number) as usize;
        while self.buckets.len() <= back && self.buckets.len() < BUCKETS {
            self.buckets.push_front(Bucket::default());
        }
        if let Some(index) = self.buckets.len().checked_sub(back + 1) {
            let bucket = &mut self.buckets[index];
            bucket.sum += value as f32;
            bucket.count += 1;
        }
    }

    /// One mean per bucket for the five minutes that end at `now_ms`, oldest first; `None` where
    /// nothing was heard.
    pub(crate) fn values(&self, now_ms: i64) -> Vec<Option<f32>> {
        let last = now_ms.div_euclid(BUCKET_MS);
        let first = last - BUCKETS as i64 + 1;
        (first..=last).map(|number| self.at(number)).collect()
    }

    fn at(&self, number: i64) -> Option<f32> {
        let back = usize::try_from(self.newest - number).ok()?;
        let index = self.buckets.len().checked_sub(back + 1)?;
        let bucket = self.buckets[index];
        (bucket.count > 0).then(|| bucket.sum / bucket.count as f32)
    }

    /// This line, and what another one has where this one has nothing.
    pub(crate) fn filled_by(&self, other: &Self) -> Self {
        let mut filled = self.clone();
        let oldest = other.newest - other.buckets.len() as i64 + 1;
        for number in (oldest..=other.newest).rev() {
            if let (None, Some(value)) = (self.at(number), other.at(number)) {
                filled.add(number * BUCKET_MS, value.into());
            }
        }
        filled
    }

    /// The same as an SVG path in a box of [`BUCKETS`] by `height`. `full` is the value at the top, at
    /// least.
    pub(crate) fn line(&self, now_ms: i64, full: f32, height: f32) -> Line {
        let values = self.values(now_ms);
        let top = values.iter().flatten().fold(full, |top, &v| top.max(v));
        Line { path: path(&values, top, height), top }
    }
}

/// What a template needs to draw a spark, and a script to go on with it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line {
    /// The `d` of the path.
    pub(crate) path: String,
    /// The value at the top.
    pub(crate) top: f32,
}

/// Gaps are gaps; a lone point still shows. `top` is positive.
fn path(values: &[Option<f32>], top: f32, height: f32) -> String {
    use std::fmt::Write as _;
    let mut d = String::new();
    let mut pen_down = false;
    for (x, value) in values.iter().enumerate() {
        let Some(value) = value else {
            pen_down = false;
            continue;
        };
        let y = height - (value / top).clamp(0.0, 1.0) * height;
        let _ = match pen_down {
            true => write!(d, "L{x} {y:.1}"),
            false => write!(d, "M{x} {y:.1}h.5"),
        };
        pen_down = true;
    }
    d
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_buckets_by_their_time() {
        let mut spark = Spark::default();
        spark.add(0, 1.0);
        spark.add(1_000, 3.0);
        spark.add(20_000, 5.0);
        let values = spark.values(20_000);
        assert_eq!(values.len(), BUCKETS);
        assert_eq!(&values[BUCKETS - 5..], &[Some(2.0), None, None, None, Some(5.0)]);
    }

    #[test]
    fn late_values_are_put_where_they_belong() {
        let mut spark = Spark::default();
        spark.add(100_000, 9.0);
        spark.add(90_000, 1.0);
        spark.add(100_000 - 600_000, 7.0);
        let values = spark.values(100_000);
        assert_eq!(values[BUCKETS - 3..], [Some(1.0), None, Some(9.0)]);
        assert_eq!(values.iter().flatten().count(), 2);
    }

    #[test]
    fn what_was_before_a_long_silence_is_forgotten() {
        let mut spark = Spark::default();
        spark.add(0, 1.0);
        spark.add(3_600_000, 2.0);
        assert_eq!(spark.values(3_600_000).iter().flatten().count(), 1);
        assert_eq!(spark.values(7_200_000).iter().flatten().count(), 0);
        spark.add(0, f64::NAN);
        assert_eq!(spark.buckets.len(), 1);
    }

    #[test]
    fn what_was_heard_stays_when_the_past_comes_in() {
        let spark = |values: &[(i64, f64)]| {
            let mut spark = Spark::default();
            values.iter().for_each(|(bucket, value)| spark.add(bucket * BUCKET_MS, *value));
            spark
        };
        let (heard, past) =
            (spark(&[(9, 9.0), (11, 11.0)]), spark(&[(7, 1.0), (9, 2.0), (10, 3.0)]));
        let expected = [Some(1.0), None, Some(9.0), Some(3.0), Some(11.0)];
        let filled = heard.filled_by(&past).values(11 * BUCKET_MS);
        assert_eq!(filled[BUCKETS - 5..], expected);
        assert_eq!(filled.iter().flatten().count(), 4);
        let filled = Spark::default().filled_by(&past).values(10 * BUCKET_MS);
        assert_eq!(filled[BUCKETS - 4..], [Some(1.0), None, Some(2.0), Some(3.0)]);
    }

    #[test]
    fn a_path_breaks_where_nothing_was_heard() {
        let d = path(&[Some(0.0), Some(1.0), None, Some(0.5)], 1.0, 20.0);
        assert_eq!(d, "M0 20.0h.5L1 0.0M3 10.0h.5");
    }
}
