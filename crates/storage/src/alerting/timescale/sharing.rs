//! Leases in the database. The clock is the server's, so those of the services need not agree.
//!
//! Rows of leases are always locked in the order of their names, or not waited for.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use sqlx::PgConnection;

use super::{TimescaleAlerting, apply};
use crate::alerting::{AlertChanges, Attendance, Batch, Claim, Errand, Serving, Shard};
use crate::postgres::failure::{Outcome, corrupt};
use crate::postgres::text;

/// As many as the schema has rows for.
pub(super) const SHARDS: u16 = 64;
/// Long enough for a database that is busy for a moment, short enough for somebody who waits for a message.
pub(super) const LEASE: Duration = Duration::from_secs(5);
/// Errands that are handed out at a time.
const ERRANDS_MAX: i64 = 100;

impl TimescaleAlerting {
    pub(super) async fn say_present(
        &self,
        service: &str,
        channels: &BTreeMap<String, String>,
    ) -> Outcome<Attendance> {
        let mut tx = self.timescale.write().await?;
        let services = count_services(&mut tx, service).await?;
        renew(&mut tx, service).await?;
        note(&mut tx, service, channels).await?;
        let names: Vec<_> = channels.keys().map(|id| text::store(id).into_owned()).collect();
        sqlx::query(
            "insert into alert_lease (kind, id, owner, until, fence, batch, note)
             select 'channel', id, null, 'epoch', 0, 0, '' from unnest($1::text[]) as id
             order by id on conflict do nothing",
        )
        .bind(&names)
        .execute(&mut *tx)
        .await?;
        let shards: Vec<String> = (0..SHARDS).map(|shard| shard.to_string()).collect();
        take(&mut tx, service, "shard", &shards, services).await?;
        take(&mut tx, service, "channel", &names, services).await?;
        let claims = claims(&mut tx, service).await?;
        let surplus = claims.len().saturating_sub(part(shards.len(), services));
        let channels = serving(&mut tx, service, &names).await?;
        let edition =
            sqlx::query_scalar("select number from alert_edition").fetch_one(&mut *tx).await?;
        let errands = errands(&mut tx, &claims).await?;
        tx.commit().await?;
        Ok(Attendance { claims, surplus, channels, edition, errands, lease: Some(LEASE) })
    }

    pub(super) async fn write_batches(&self, batches: Vec<Batch>) -> Outcome<Vec<Claim>> {
        let mut tx = self.timescale.write().await?;
        let shards: Vec<String> = batches.iter().map(|b| b.claim.shard.0.to_string()).collect();
        let rows: Vec<(String, i64, i64)> = sqlx::query_as(
            "select id, fence, batch from alert_lease where kind = 'shard' and id = any($1)
             order by id for no key update",
        )
        .bind(&shards)
        .fetch_all(&mut *tx)
        .await?;
        let mut held: HashMap<String, (i64, i64)> =
            rows.into_iter().map(|(id, fence, batch)| (id, (fence, batch))).collect();
        let mut refused = Vec::new();
        let mut together = AlertChanges::default();
        for (batch, shard) in batches.into_iter().zip(&shards) {
            match held.get_mut(shard).filter(|(fence, _)| *fence == batch.claim.fence) {
                None => refused.push(batch.claim),
                // It came before, and the answer was lost.
                Some((_, latest)) if *latest >= batch.number => {}
                Some((_, latest)) => {
                    *latest = batch.number;
                    together.append(batch.changes);
                }
            }
        }
        apply(&mut tx, &together).await?;
        let (ids, latest): (Vec<String>, Vec<i64>) =
            held.into_iter().map(|(id, (_, batch))| (id, batch)).unzip();
        sqlx::query(
            "update alert_lease set batch = new.batch
             from unnest($1::text[], $2::bigint[]) as new (id, batch)
             where alert_lease.kind = 'shard' and alert_lease.id = new.id",
        )
        .bind(ids)
        .bind(latest)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(refused)
    }

    pub(super) async fn give_up(&self, claims: &[Claim]) -> Outcome<()> {
        let shards: Vec<String> = claims.iter().map(|c| c.shard.0.to_string()).collect();
        let fences: Vec<i64> = claims.iter().map(|c| c.fence).collect();
        let mut tx = self.timescale.write().await?;
        sqlx::query(
            "with given as (
                select lease.kind, lease.id from alert_lease as lease
                join unnest($1::text[], $2::bigint[]) as mine (id, fence)
                    on lease.id = mine.id and lease.fence = mine.fence
                where lease.kind = 'shard' order by lease.id for no key update of lease
             )
             update alert_lease as lease set owner = null, fence = lease.fence + 1, batch = 0
             from given where lease.kind = given.kind and lease.id = given.id",
        )
        .bind(shards)
        .bind(fences)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    pub(super) async fn say_goodbye(&self, service: &str) -> Outcome<()> {
        let mut tx = self.timescale.write().await?;
        sqlx::query("delete from alert_service where id = $1")
            .bind(service)
            .execute(&mut *tx)
            .await?;
        sqlx::query(
            "with mine as (
                select kind, id from alert_lease where owner = $1
                order by kind, id for no key update
             )
             update alert_lease as lease set owner = null, fence = lease.fence + 1, batch = 0
             from mine where lease.kind = mine.kind and lease.id = mine.id",
        )
        .bind(service)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    pub(super) async fn insert_errand(&self, shard: Shard, document: &str) -> Outcome<i64> {
        let mut tx = self.timescale.write().await?;
        let id = sqlx::query_scalar(
            "insert into alert_errand (shard, document) values ($1, $2) returning id",
        )
        .bind(i32::from(shard.0))
        .bind(text::store(document))
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(id)
    }

    pub(super) async fn has_errand(&self, id: i64) -> Outcome<bool> {
        let mut tx = self.timescale.read().await?;
        let there = sqlx::query_scalar("select exists (select 1 from alert_errand where id = $1)")
            .bind(id)
            .fetch_one(&mut *tx)
            .await?;
        Ok(there)
    }
}

fn seconds(lease: Duration) -> f64 {
    lease.as_secs_f64()
}

/// How many of these one of so many services may take.
fn part(all: usize, services: usize) -> usize {
    all.div_ceil(services.max(1))
}

/// Those that are there, this one included.
async fn count_services(tx: &mut PgConnection, service: &str) -> Outcome<usize> {
    sqlx::query(
        "insert into alert_service (id, seen) values ($1, now())
         on conflict (id) do update set seen = excluded.seen",
    )
    .bind(service)
    .execute(&mut *tx)
    .await?;
    sqlx::query("delete from alert_service where seen < now() - make_interval(secs => $1)")
        .bind(seconds(LEASE))
        .execute(&mut *tx)
        .await?;
    let count: i64 =
        sqlx::query_scalar("select count(*) from alert_service").fetch_one(&mut *tx).await?;
    Ok(count.max(1) as usize)
}

/// What nobody took meanwhile is still its own, however late it comes.
async fn renew(tx: &mut PgConnection, service: &str) -> Outcome<()> {
    sqlx::query(
        "with mine as (
            select kind, id from alert_lease where owner = $1 order by kind, id for no key update
         )
         update alert_lease as lease set until = now() + make_interval(secs => $2)
         from mine where lease.kind = mine.kind and lease.id = mine.id",
    )
    .bind(service)
    .bind(seconds(LEASE))
    .execute(tx)
    .await?;
    Ok(())
}

async fn note(
    tx: &mut PgConnection,
    service: &str,
    channels: &BTreeMap<String, String>,
) -> Outcome<()> {
    let ids: Vec<_> = channels.keys().map(|id| text::store(id).into_owned()).collect();
    let notes: Vec<_> = channels.values().map(|note| text::store(note).into_owned()).collect();
    sqlx::query(
        "update alert_lease as lease set note = new.note
         from unnest($2::text[], $3::text[]) as new (id, note)
         where lease.kind = 'channel' and lease.id = new.id and lease.owner = $1
            and lease.note <> new.note",
    )
    .bind(service)
    .bind(ids)
    .bind(notes)
    .execute(tx)
    .await?;
    Ok(())
}

/// Takes what nobody holds, up to its part.
async fn take(
    tx: &mut PgConnection,
    service: &str,
    kind: &str,
    ids: &[String],
    services: usize,
) -> Outcome<()> {
    sqlx::query(
        "with held as (
            select count(*) as count from alert_lease
            where kind = $2 and owner = $1 and id = any($3)
         ),
         free as (
            select kind, id from alert_lease
            where kind = $2 and id = any($3) and (owner is null or until < now())
                and owner is distinct from $1
            order by id limit greatest(0, $4 - (select count from held))
            for no key update skip locked
         )
         update alert_lease as lease set owner = $1, fence = lease.fence + 1, batch = 0,
            until = now() + make_interval(secs => $5)
         from free where lease.kind = free.kind and lease.id = free.id",
    )
    .bind(service)
    .bind(kind)
    .bind(ids)
    .bind(part(ids.len(), services) as i64)
    .bind(seconds(LEASE))
    .execute(tx)
    .await?;
    Ok(())
}

async fn claims(tx: &mut PgConnection, service: &str) -> Outcome<Vec<Claim>> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("select id, fence from alert_lease where kind = 'shard' and owner = $1")
            .bind(service)
            .fetch_all(tx)
            .await?;
    let claim = |(id, fence): (String, i64)| {
        let shard = id.parse().map_err(|e| corrupt("alert_lease.id", &e))?;
        Ok(Claim { shard: Shard(shard), fence })
    };
    let mut claims = rows.into_iter().map(claim).collect::<Outcome<Vec<_>>>()?;
    claims.sort_unstable();
    Ok(claims)
}

async fn serving(
    tx: &mut PgConnection,
    service: &str,
    ids: &[String],
) -> Outcome<BTreeMap<String, Serving>> {
    let rows: Vec<(String, bool, String)> = sqlx::query_as(
        "select id, owner is not distinct from $1, note from alert_lease
         where kind = 'channel' and id = any($2)",
    )
    .bind(service)
    .bind(ids)
    .fetch_all(tx)
    .await?;
    let serving = |(id, mine, note)| (text::load(id), Serving { mine, note: text::load(note) });
    Ok(rows.into_iter().map(serving).collect())
}

async fn errands(tx: &mut PgConnection, claims: &[Claim]) -> Outcome<Vec<Errand>> {
    let shards: Vec<i32> = claims.iter().map(|claim| i32::from(claim.shard.0)).collect();
    let rows: Vec<(i64, i32, String)> = sqlx::query_as(
        "select id, shard, document from alert_errand where shard = any($1) order by id limit $2",
    )
    .bind(shards)
    .bind(ERRANDS_MAX)
    .fetch_all(tx)
    .await?;
    let errand = |(id, shard, document): (i64, i32, String)| {
        let shard = u16::try_from(shard).map_err(|e| corrupt("alert_errand.shard", &e))?;
        Ok(Errand { id, shard: Shard(shard), document: text::load(document) })
    };
    rows.into_iter().map(errand).collect()
}
