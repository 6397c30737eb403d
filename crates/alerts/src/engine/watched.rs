//! How many series each rule watches, so that none watches more than it may.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::RuleId;

/// The count over all engines of a process. Cheap to clone; all clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Tally(
    // Held for a look-up only. All engines are owned by one task; the lock is for the type alone.
    Arc<Mutex<HashMap<RuleId, usize>>>,
);

impl Tally {
    fn lock(&self) -> MutexGuard<'_, HashMap<RuleId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one engine adds to it; taken out again when the engine goes.
#[derive(Debug)]
pub(super) struct Watched {
    own: HashMap<RuleId, usize>,
    all: Tally,
    max: usize,
}

impl Watched {
    pub(super) fn new(max: usize, all: Tally) -> Self {
        Self { own: HashMap::new(), all, max }
    }

    /// Counts one series more, unless the rule watches as many as it may.
    pub(super) fn admit(&mut self, rule: &RuleId) -> bool {
        let mut all = self.all.lock();
        let count = all.entry(rule.clone()).or_default();
        if *count >= self.max {
            return false;
        }
        *count += 1;
        *self.own.entry(rule.clone()).or_default() += 1;
        true
    }

    /// Counts anew.
    pub(super) fn replace(&mut self, own: HashMap<RuleId, usize>) {
        let mut all = self.all.lock();
        for (rule, count) in std::mem::replace(&mut self.own, own) {
            if let Some(sum) = all.get_mut(&rule) {
                *sum = sum.saturating_sub(count);
            }
        }
        for (rule, count) in &self.own {
            *all.entry(rule.clone()).or_default() += count;
        }
        all.retain(|_, count| *count > 0);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.replace(HashMap::new());
    }
}
