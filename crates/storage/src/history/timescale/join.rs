//! Joining the log blocks of small commits to full ones.

use std::time::{Duration, Instant};

use model::UnixMillis;

use super::logs::{cannot_pack, delete_blocks, put_blocks, removed};
use super::{TimescaleHistory, off_thread};
use crate::history::Maintained;
use crate::history::logs::{Block, Loose, join, to_join, without};
use crate::postgres::failure::Outcome;
use crate::postgres::stamp::Stamp;

/// Blocks looked up per round.
const BLOCKS: i64 = 4096;
const ROUND: Duration = Duration::from_millis(500);

impl TimescaleHistory {
    /// `closed`: also what is left of days that are over.
    pub(super) async fn join_some(
        &self,
        now: UnixMillis,
        closed: bool,
        done: &mut Maintained,
    ) -> Outcome<()> {
        let began = Instant::now();
        loop {
            let mut tx = self.timescale.read().await?;
            let rows: Vec<(i64, Stamp, i64, i64)> = sqlx::query_as(
                "select id, last, events, octet_length(data)::bigint from log_block
                 where not \"full\" order by last, id limit $1",
            )
            .bind(BLOCKS)
            .fetch_all(&mut *tx)
            .await?;
            drop(tx);
            let loose = rows.into_iter().map(|(id, Stamp(last), events, bytes)| Loose {
                id,
                last,
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

    /// Appends add blocks meanwhile, but only the one who maintains takes any away.
    async fn join_blocks(&self, ids: Vec<i64>, last: bool) -> Outcome<()> {
        let mut tx = self.timescale.read().await?;
        let removed = removed(&mut tx).await?;
        let blocks: Vec<(i64, Vec<u8>)> =
            sqlx::query_as("select id, data from log_block where id = any($1)")
                .bind(&ids)
                .fetch_all(&mut *tx)
                .await?;
        drop(tx);
        let mut events = Vec::new();
        for (id, data) in blocks {
            match Block::open(id as u64, &data).and_then(|block| block.events()) {
                Ok(mut found) => events.append(&mut found),
                Err(reason) => self.damaged("log_block", id, &reason),
            }
        }
        without(&mut events, &removed);
        let blocks = off_thread(move || join(events, last)).await?.map_err(cannot_pack)?;
        let mut tx = self.timescale.write().await?;
        delete_blocks(&mut tx, &ids).await?;
        put_blocks(&mut tx, blocks).await?;
        tx.commit().await?;
        Ok(())
    }
}
