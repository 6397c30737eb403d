//! How often something may be tried.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A fixed number of buckets: whoever tries with many names fills no memory. Two keys may share one; with a
/// random seed nobody can arrange that.
const BUCKETS: usize = 4096;

/// Allows a few tries at once for each key, and then one after each pause.
#[derive(Debug)]
pub(crate) struct Limiter {
    tries: u32,
    pause: Duration,
    seed: RandomState,
    /// When each bucket is full again. Held for a look and a step.
    full_again: Mutex<Vec<Option<Instant>>>,
}

impl Limiter {
    pub(crate) fn new(tries: u32, pause: Duration) -> Self {
        let full_again = Mutex::new(vec![None; BUCKETS]);
        Self { tries, pause, seed: RandomState::new(), full_again }
    }

    /// Counts a try, or says how long to wait for the next.
    pub(crate) fn take(&self, key: &str, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.full_again.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = &mut buckets[self.seed.hash_one(key) as usize % BUCKETS];
        let full_again = bucket.unwrap_or(now).max(now) + self.pause;
        let behind = full_again - now;
        let most = self.pause * self.tries;
        if behind > most {
            return Err(behind - most);
        }
        *bucket = Some(full_again);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_tries_at_once_and_then_one_after_each_pause() {
        let (limiter, start) = (Limiter::new(3, Duration::from_secs(10)), Instant::now());
        let at = |s| start + Duration::from_secs(s);
        for _ in 0..3 {
            assert_eq!(limiter.take("a", at(0)), Ok(()));
        }
        assert_eq!(limiter.take("a", at(0)), Err(Duration::from_secs(10)));
        assert_eq!(limiter.take("a", at(4)), Err(Duration::from_secs(6)));
        assert_eq!(limiter.take("a", at(10)), Ok(()));
        assert_eq!(limiter.take("a", at(10)), Err(Duration::from_secs(10)));
        for _ in 0..3 {
            assert_eq!(limiter.take("a", at(1000)), Ok(()), "nothing is saved up beyond the few");
        }
        assert!(limiter.take("a", at(1000)).is_err());
    }
}
