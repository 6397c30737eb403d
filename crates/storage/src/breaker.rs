//! A circuit breaker: a store that is down is left alone, and whoever asks is told so at once.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::StorageError;

/// Guards the calls to one store.
///
/// After a few failures in a row it opens: calls fail without being made. After a pause one call is let
/// through; its success closes the breaker, its failure makes the pause longer. No person is needed.
#[derive(Debug)]
pub struct Breaker {
    store: &'static str,
    /// Held to look and to write down, never while a call is made.
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant, pause: Duration, reason: String },
}

const FAILURES_MAX: u32 = 3;
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// A store that is back is noticed after this at the latest.
const PAUSE_MAX: Duration = Duration::from_secs(2);

impl Breaker {
    pub(crate) fn new(store: &'static str) -> Self {
        Self { store, state: Mutex::new(State::Closed { failures: 0 }) }
    }

    /// Which store it guards.
    pub fn store(&self) -> &'static str {
        self.store
    }

    /// Why calls are not made at present; `None` while they are.
    pub fn open_reason(&self) -> Option<String> {
        match &*self.lock() {
            State::Closed { .. } => None,
            State::Open { reason, .. } => Some(reason.clone()),
        }
    }

    /// Makes the call, or fails at once while the breaker is open. Only `Unavailable` counts as a failure
    /// of the store.
    pub(crate) async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        self.admit()?;
        let result = call.await;
        match &result {
            Err(StorageError::Unavailable { reason, .. }) => self.failed(reason),
            _ => self.succeeded(),
        }
        result
    }

    fn admit(&self) -> Result<(), StorageError> {
        match &mut *self.lock() {
            State::Closed { .. } => Ok(()),
            State::Open { until, pause, reason } => {
                let now = Instant::now();
                if now < *until {
                    let reason = reason.clone();
                    return Err(StorageError::Unavailable { store: self.store, reason });
                }
                // This call is the trial. Should it be cancelled, the next comes after another pause.
                *until = now + *pause;
                Ok(())
            }
        }
    }

    fn failed(&self, reason: &str) {
        let mut state = self.lock();
        let pause = match &*state {
            State::Closed { failures } if failures + 1 < FAILURES_MAX => {
                *state = State::Closed { failures: failures + 1 };
                return;
            }
            State::Closed { .. } => {
                tracing::warn!(
                    store = self.store,
                    reason,
                    "store is down; calls to it fail at once until it is back"
                );
                PAUSE_MIN
            }
            State::Open { pause, .. } => (*pause * 2).min(PAUSE_MAX),
        };
        *state = State::Open { until: Instant::now() + pause, pause, reason: reason.to_owned() };
    }

    fn succeeded(&self) {
        let mut state = self.lock();
        if matches!(*state, State::Open { .. }) {
            tracing::info!(store = self.store, "store is back");
        }
        *state = State::Closed { failures: 0 };
    }

    /// The state is whole whenever the lock is free.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// One call, and whether it was made.
    async fn attempt(breaker: &Breaker, works: bool) -> bool {
        let made = Cell::new(false);
        let result = breaker
            .call(async {
                made.set(true);
                match works {
                    true => Ok(()),
                    false => Err(StorageError::Unavailable { store: "it", reason: "gone".into() }),
                }
            })
            .await;
        assert_eq!(result.is_ok(), works && made.get());
        made.get()
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_down_is_tried_now_and_then_and_used_again_when_it_is_back() {
        let breaker = Breaker::new("it");
        for _ in 0..FAILURES_MAX {
            assert!(attempt(&breaker, false).await);
        }
        assert!(!attempt(&breaker, true).await);
        assert_eq!(breaker.open_reason().as_deref(), Some("gone"));
        tokio::time::advance(PAUSE_MIN).await;
        assert!(attempt(&breaker, false).await);
        tokio::time::advance(PAUSE_MIN).await;
        assert!(!attempt(&breaker, true).await, "the pause grows");
        tokio::time::advance(PAUSE_MAX).await;
        assert!(attempt(&breaker, true).await);
        assert!(attempt(&breaker, true).await);
        assert_eq!(breaker.open_reason(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_that_are_not_in_a_row_do_not_open_it() {
        let breaker = Breaker::new("it");
        for _ in 0..10 {
            assert!(attempt(&breaker, false).await);
            assert!(attempt(&breaker, true).await);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_trial_at_a_time_and_a_cancelled_one_is_repeated() {
        let breaker = Breaker::new("it");
        for _ in 0..FAILURES_MAX {
            attempt(&breaker, false).await;
        }
        tokio::time::advance(PAUSE_MIN).await;
        let trial = breaker.call(std::future::pending::<Result<(), _>>());
        let cancelled = tokio::time::timeout(Duration::ZERO, trial).await;
        assert!(cancelled.is_err());
        assert!(!attempt(&breaker, true).await);
        tokio::time::advance(PAUSE_MIN).await;
        assert!(attempt(&breaker, true).await);
    }
}
