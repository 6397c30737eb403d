//! One round of maintenance: a bounded piece of each kind of work, so that none starves the others.

use std::time::{Duration, Instant};

use model::UnixMillis;

use super::SqliteHistory;
use crate::StorageError;
use crate::history::Maintained;
use crate::history::rounds::Rounds;

/// When a round has taken this long, it begins nothing more of the same kind.
const ROUND: Duration = Duration::from_millis(200);
/// What is rarely there is looked for this often.
const EXPIRY_MS: i64 = 60_000;
const EVICTION_MS: i64 = 10_000;
const DAYS_MS: i64 = 60_000;
/// Hours looked up per round.
const HOURS: i64 = 64;

impl SqliteHistory {
    /// Each kind of work is tried even when another failed: expiry is what helps against a full disk.
    pub(super) async fn maintain(&self, now: UnixMillis) -> Result<Maintained, StorageError> {
        let mut rounds = self.rounds.lock().await;
        let mut done = Maintained::default();
        let mut results = vec![self.place_some(ROUND, &mut done).await];
        results.push(self.seal_some(now, &mut rounds, &mut done).await);
        results.push(self.close_some(now, &mut done).await);
        let closed = rounds.days.is_due(now, DAYS_MS);
        let sealed = done.sealed;
        results.push(self.join_some(now, closed, &mut done).await);
        if closed {
            rounds.days.looked(now, done.sealed - sealed);
        }
        if rounds.expiry.is_due(now, EXPIRY_MS) {
            results.push(self.expire_some(now, &mut done).await);
            rounds.expiry.looked(now, done.expired);
        }
        if rounds.eviction.is_due(now, EVICTION_MS) {
            results.push(self.evict_some(now, &mut done).await);
            rounds.eviction.looked(now, done.evicted);
        }
        results.into_iter().collect::<Result<(), _>>()?;
        Ok(done)
    }

    async fn seal_some(
        &self,
        now: UnixMillis,
        rounds: &mut Rounds,
        done: &mut Maintained,
    ) -> Result<(), StorageError> {
        let began = Instant::now();
        let mut failed = Ok(());
        for (machine, stretch) in rounds.in_turn(self.closed_stretches(now).await?) {
            rounds.sealed(machine);
            match self.seal(machine, stretch, now).await {
                Ok(true) => done.sealed += 1,
                Ok(false) => {}
                Err(error) => failed = Err(error),
            }
            if began.elapsed() > ROUND {
                break;
            }
        }
        failed
    }

    async fn close_some(&self, now: UnixMillis, done: &mut Maintained) -> Result<(), StorageError> {
        let began = Instant::now();
        let mut failed = Ok(());
        for (machine, hour) in self.due_hours(now, HOURS).await? {
            match self.close_hour(machine, hour).await {
                Ok(()) => done.rolled_up += 1,
                Err(error) => failed = Err(error),
            }
            if began.elapsed() > ROUND {
                break;
            }
        }
        failed
    }
}
