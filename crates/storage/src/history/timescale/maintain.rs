//! One round of maintenance: a bounded piece of each kind of work, so that none starves the others. One
//! process at a time does it.

use std::time::{Duration, Instant};

use model::UnixMillis;
use sqlx::{Postgres, Transaction};

use super::TimescaleHistory;
use crate::history::Maintained;
use crate::history::rounds::Rounds;
use crate::postgres::failure::Outcome;

/// When a round has taken this long, it begins nothing more of the same kind.
const ROUND: Duration = Duration::from_millis(500);
/// What is rarely there is looked for this often.
const EXPIRY_MS: i64 = 60_000;
const EVICTION_MS: i64 = 10_000;
const DAYS_MS: i64 = 60_000;
/// Hours looked up per round.
const HOURS: i64 = 64;

impl TimescaleHistory {
    /// Each kind of work is tried even when another failed: expiry is what helps against a full disk.
    pub(super) async fn round(&self, now: UnixMillis) -> Outcome<Maintained> {
        let mut rounds = self.rounds.lock().await;
        let mut done = Maintained::default();
        // Held to the end of the round; should the round be cancelled, it goes with its transaction.
        let Some(turn) = self.turn().await? else { return Ok(done) };
        let mut results = vec![self.seal_some(now, &mut rounds, &mut done).await];
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
        // Not left to the drop, which gives it back only some time later.
        turn.commit().await?;
        results.into_iter().collect::<Outcome<()>>()?;
        Ok(done)
    }

    /// The right to maintain; `None` while another process does.
    async fn turn(&self) -> Outcome<Option<Transaction<'static, Postgres>>> {
        let mut tx = self.timescale.write().await?;
        let ours: bool = sqlx::query_scalar(
            "select pg_try_advisory_xact_lock(hashtext('muster maintenance'), hashtext(current_schema()))",
        )
        .fetch_one(&mut *tx)
        .await?;
        Ok(ours.then_some(tx))
    }

    async fn seal_some(
        &self,
        now: UnixMillis,
        rounds: &mut Rounds,
        done: &mut Maintained,
    ) -> Outcome<()> {
        let began = Instant::now();
        let mut failed = Ok(());
        for (machine, stretch) in rounds.in_turn(self.closed_stretches(now).await?) {
            rounds.sealed(machine);
            match self.seal(machine, stretch, now).await {
                Ok(()) => done.sealed += 1,
                Err(error) => failed = Err(error),
            }
            if began.elapsed() > ROUND {
                break;
            }
        }
        failed
    }

    async fn close_some(&self, now: UnixMillis, done: &mut Maintained) -> Outcome<()> {
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
