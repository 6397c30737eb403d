//! Forgetting a machine: at once for whoever asks, on disk by and by.

use model::MachineId;

use super::TimescaleHistory;
use crate::postgres::failure::Outcome;

/// All rows of a machine, the catalogue last: killed in between, the rest is found again.
const DELETIONS: [&str; 13] = [
    "delete from open_hour where machine_id = $1",
    "delete from frame where machine_id = $1",
    "delete from process_report where machine_id = $1",
    "delete from block where machine_id = $1",
    "delete from damaged_block where machine_id = $1",
    "delete from process_block where machine_id = $1",
    "delete from event where machine_id = $1",
    "delete from gap where machine_id = $1",
    "delete from tier_minute where series_id in (select id from series where machine_id = $1)",
    "delete from tier_hour where series_id in (select id from series where machine_id = $1)",
    "delete from placement where machine_id = $1",
    "delete from series where machine_id = $1",
    "delete from acknowledged where machine_id = $1",
];

impl TimescaleHistory {
    pub(super) async fn unname(&self, machine: MachineId) -> Outcome<()> {
        let mut tx = self.timescale.write().await?;
        // Without a name nothing finds it any more; should it come back, it is a new machine.
        sqlx::query("update machine set name = null where name = $1")
            .bind(machine.to_string())
            .execute(&mut *tx)
            .await?;
        super::logs::hide(&mut tx, machine).await?;
        tx.commit().await?;
        self.forget_catalog();
        Ok(())
    }

    /// Deletes what one removed machine left behind.
    pub(super) async fn forget_removed(&self) -> Outcome<u64> {
        let mut tx = self.timescale.read().await?;
        let machine: Option<i64> =
            sqlx::query_scalar("select id from machine where name is null order by id limit 1")
                .fetch_optional(&mut *tx)
                .await?;
        drop(tx);
        let Some(machine) = machine else { return Ok(0) };
        let mut forgotten = 0;
        for statement in DELETIONS.into_iter().chain(["delete from machine where id = $1"]) {
            let mut tx = self.timescale.write().await?;
            let done = sqlx::query(statement).bind(machine).execute(&mut *tx).await?;
            tx.commit().await?;
            forgotten += done.rows_affected();
        }
        Ok(forgotten)
    }
}
