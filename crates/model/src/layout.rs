//! An ordered list of series, sent once, named by its content.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::{Kind, Series, limits};

mod pool;

pub use pool::LayoutPool;

/// The first 16 bytes of the SHA-256 of a layout's list.
///
/// The list is hashed as: for each series in order, the metric, the unit, one byte for the kind (0
/// gauge, 1 counter), the number of labels as a little-endian `u32`, then each label's name and value
/// sorted by name. Every text is preceded by its length in bytes as a little-endian `u32`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LayoutId(pub [u8; 16]);

impl LayoutId {
    fn of(series: &[Series]) -> Self {
        fn text(hash: &mut Sha256, text: &str) {
            hash.update((text.len() as u32).to_le_bytes());
            hash.update(text.as_bytes());
        }
        let mut hash = Sha256::new();
        for one in series {
            text(&mut hash, &one.metric);
            text(&mut hash, &one.unit);
            hash.update([match one.kind {
                Kind::Gauge => 0,
                Kind::Counter => 1,
            }]);
            hash.update((one.labels.len() as u32).to_le_bytes());
            for (name, value) in one.labels.iter() {
                text(&mut hash, name);
                text(&mut hash, value);
            }
        }
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        Self(id)
    }
}

/// 32 lower-case hexadecimal digits.
impl fmt::Display for LayoutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for LayoutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LayoutId({self})")
    }
}

/// An ordered list of distinct series. Cheap to clone; equal when the ids are equal.
#[derive(Clone)]
pub struct Layout {
    id: LayoutId,
    series: Arc<[Series]>,
}

/// Why a list of series is not a layout. Fits after "failed to read layout:".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    #[error("a layout needs at least one series")]
    Empty,
    #[error("{0} series are more than {max}", max = limits::SERIES_PER_MACHINE_MAX)]
    TooMany(usize),
    #[error("series[{index}].metric: {message}, found {found:?}")]
    Metric { index: usize, message: &'static str, found: String },
    #[error("series[{index}].unit: longer than {max} bytes", max = limits::UNIT_BYTES_MAX)]
    Unit { index: usize },
    #[error("series[{index}]: {series} is listed twice")]
    Duplicate { index: usize, series: String },
}

impl Layout {
    /// Checks the list and names it.
    pub fn new(series: Vec<Series>) -> Result<Self, LayoutError> {
        if series.is_empty() {
            return Err(LayoutError::Empty);
        }
        if series.len() > limits::SERIES_PER_MACHINE_MAX {
            return Err(LayoutError::TooMany(series.len()));
        }
        let mut seen = HashSet::with_capacity(series.len());
        for (index, one) in series.iter().enumerate() {
            check_metric(&one.metric).map_err(|message| LayoutError::Metric {
                index,
                message,
                found: one.metric.chars().take(64).collect(),
            })?;
            if one.unit.len() > limits::UNIT_BYTES_MAX {
                return Err(LayoutError::Unit { index });
            }
            if !seen.insert((&one.metric, &one.labels)) {
                return Err(LayoutError::Duplicate { index, series: one.to_string() });
            }
        }
        Ok(Self { id: LayoutId::of(&series), series: series.into() })
    }

    pub fn id(&self) -> LayoutId {
        self.id
    }

    pub fn series(&self) -> &[Series] {
        &self.series
    }

    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Never: a layout has at least one series.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }
}

fn check_metric(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("expected a name");
    }
    if name.len() > limits::METRIC_NAME_BYTES_MAX {
        return Err("expected at most 255 bytes");
    }
    if !name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.')) {
        return Err("expected letters, digits, '_' and '.'");
    }
    Ok(())
}

impl PartialEq for Layout {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Layout {}

impl fmt::Debug for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Layout({}, {} series)", self.id, self.series.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Labels;

    fn cpu(core: &str) -> Series {
        Series::gauge("system.cpu.utilization", "1", Labels::of([("cpu.logical_number", core)]))
    }

    #[test]
    fn the_id_depends_on_content_and_order_alone() {
        let id = |series: Vec<Series>| Layout::new(series).expect("valid").id();
        assert_eq!(id(vec![cpu("0"), cpu("1")]), id(vec![cpu("0"), cpu("1")]));
        assert_ne!(id(vec![cpu("0"), cpu("1")]), id(vec![cpu("1"), cpu("0")]));
        let counter = Series::counter("system.cpu.utilization", "1", cpu("0").labels);
        assert_ne!(id(vec![cpu("0")]), id(vec![counter]));
    }

    #[test]
    fn the_id_is_the_documented_hash() {
        // Fixed for ever: collectors and aggregators of different versions must agree on it.
        let layout = Layout::new(vec![cpu("0")]).expect("valid");
        assert_eq!(layout.id().to_string(), "c7c82950e44f9d57806ab7f2ddcece07");
    }

    #[test]
    fn a_bad_list_is_refused_with_the_place() {
        fn check(series: Vec<Series>, expected: &str) {
            let error = Layout::new(series).expect_err("accepted");
            assert!(error.to_string().contains(expected), "{error}");
        }
        check(vec![], "at least one");
        check(vec![cpu("0"), cpu("0")], "series[1]");
        check(vec![Series::gauge("a b", "1", Labels::empty())], "series[0].metric");
        check(vec![Series::gauge("a", &"x".repeat(64), Labels::empty())], "series[0].unit");
    }
}
