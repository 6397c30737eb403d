//! Layouts of a fleet, each held once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{Layout, LayoutId};
use crate::Series;

/// Lets machines of one kind share their layouts: those with the same content become the same memory, for
/// as long as somebody uses them.
///
/// Holds nothing alive itself. Cheap next to reading a layout.
#[derive(Debug, Default)]
pub struct LayoutPool(Mutex<Pool>);

#[derive(Debug, Default)]
struct Pool {
    known: HashMap<LayoutId, Weak<[Series]>>,
    /// How many may be known before those out of use are looked for.
    swept_at: usize,
}

const SWEEP_FROM: usize = 64;

impl LayoutPool {
    /// The layout of this content that is in use already; else this one.
    pub fn share(&self, layout: Layout) -> Layout {
        // A panic cannot leave the map half changed.
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = pool.known.get(&layout.id).and_then(Weak::upgrade) {
            return Layout { id: layout.id, series };
        }
        if pool.known.len() >= pool.swept_at {
            pool.known.retain(|_, series| series.strong_count() > 0);
            pool.swept_at = (pool.known.len() * 2).max(SWEEP_FROM);
        }
        pool.known.insert(layout.id, Arc::downgrade(&layout.series));
        layout
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Labels;

    fn layout(name: &str) -> Layout {
        Layout::new(vec![Series::gauge(name, "1", Labels::empty())]).expect("valid")
    }

    #[test]
    fn equal_layouts_become_one_while_one_is_used() {
        let pool = LayoutPool::default();
        let first = pool.share(layout("a"));
        let second = pool.share(layout("a"));
        assert!(Arc::ptr_eq(&first.series, &second.series));
        assert!(!Arc::ptr_eq(&first.series, &pool.share(layout("b")).series));
        drop((first, second));
        assert_eq!(pool.share(layout("a")), layout("a"));
    }

    #[test]
    fn what_nobody_uses_is_forgotten() {
        let pool = LayoutPool::default();
        for i in 0..10 * SWEEP_FROM {
            pool.share(layout(&format!("metric_{i}")));
        }
        let known = pool.0.lock().expect("no panic").known.len();
        assert!(known <= SWEEP_FROM, "{known}");
    }
}
