//! Joining the log blocks of small commits to full ones.

use std::time::{Duration, Instant};

use model::UnixMillis;

use super::logs::{cannot_pack, delete_blocks, put_blocks, removed};
use super::{SqliteHistory, off_thread};
use crate::StorageError;
use crate::history::Maintained;
use crate::history::logs::{Block, Loose, join, to_join, without};

/// Blocks looked up per round.
const BLOCKS: i64 = 4096;
const ROUND: Duration = Duration::from_millis(200);

impl SqliteHistory {
    /// `closed`: also what is left of days that are over.
    pub(super) async fn join_some(
        &self,
        now: UnixMillis,
        closed: bool,
        done: &mut Maintained,
    ) -> Result<(), StorageError> {
        let began = Instant::now();
        loop {
            let mut tx = self.database.read().await?;
            let rows: Vec<(i64, i64, i64, i64)> = sqlx::query_as(
                "select id, last, events, length(data) from log_block
                 where full = 0 order by last, id limit ?",
            )
            .bind(BLOCKS)
            .fetch_all(&mut *tx)
            .await?;
            drop(tx);
            let loose = rows.into_iter().map(|(id, last, events, bytes)| Loose {
                id,
                last: UnixMillis(last),
                events: events as usize,
                bytes: bytes as usize,
            });
            let Some((ids, last)) = to_join(loose.collect(), now, closed) else { return Ok(()) };
            self.join_blocks(ids, last).await?;
            done.sealed += 1;
            if began.elapsed() > ROUND {
                return Ok(());
            }
        }
    }

    /// Appends add blocks meanwhile, but nobody else takes any away.
    async fn join_blocks(&self, ids: Vec<i64>, last: bool) -> Result<(), StorageError> {
        let mut tx = self.database.read().await?;
        let removed = removed(&mut tx).await?;
        let mut events = Vec::new();
        for &id in &ids {
            let data: Vec<u8> = sqlx::query_scalar("select data from log_block where id = ?")
                .bind(id)
                .fetch_one(&mut *tx)
                .await?;
            match Block::open(id as u64, &data).and_then(|block| block.events()) {
                Ok(mut found) => events.append(&mut found),
                Err(reason) => self.damaged("log_block", id, &reason),
            }
        }
        drop(tx);
        without(&mut events, &removed);
        let blocks = off_thread(move || join(events, last)).await?.map_err(cannot_pack)?;
        let mut tx = self.database.write().await?;
        delete_blocks(&mut tx, &ids).await?;
        put_blocks(&mut tx, blocks).await?;
        tx.commit().await?;
        Ok(())
    }
}
