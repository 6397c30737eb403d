//! One instant's values for one layout.

use crate::{LayoutId, UnixMillis};

/// One instant's values for one layout, in its order. NaN means that there was no value.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The collector's clock when the values were read.
    pub time: UnixMillis,
    pub layout: LayoutId,
    pub values: Vec<f64>,
}

/// Equal when every value has the same bits, so that absent equals absent.
impl PartialEq for Frame {
    fn eq(&self, other: &Self) -> bool {
        let bits = |f: &Self| f.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        self.time == other.time && self.layout == other.layout && bits(self) == bits(other)
    }
}
