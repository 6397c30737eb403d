//! The alert service's memory on a server, where several alert services share it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use model::UnixMillis;
use sqlx::PgConnection;

use super::{
    AlertChanges, AlertState, Alerting, Attendance, Audit, Batch, Claim, DEAD_PER_CHANNEL_MAX,
    Dead, Incident, IncidentFilter, Notice, Queued, Saved, Setting, SettingKind, Shard,
};
use crate::StorageError;
use crate::postgres::Timescale;
use crate::postgres::failure::Outcome;
use crate::postgres::stamp::Stamp;
use crate::postgres::text::{self, labels_to_json};

mod rows;
mod sharing;

/// The server adapter of [`Alerting`].
#[derive(Clone, Debug)]
pub struct TimescaleAlerting {
    timescale: Arc<Timescale>,
}

impl TimescaleAlerting {
    pub fn new(timescale: Arc<Timescale>) -> Self {
        Self { timescale }
    }

    async fn select_settings(&self, kind: SettingKind) -> Outcome<Vec<Setting>> {
        let mut tx = self.timescale.read().await?;
        let rows =
            sqlx::query("select * from alert_setting where kind = $1 order by name collate \"C\"")
                .bind(kind.name())
                .fetch_all(&mut *tx)
                .await?;
        rows.iter().map(|row| rows::setting(kind, row)).collect()
    }

    async fn put(&self, setting: Setting, audit: Audit) -> Outcome<Saved> {
        let mut tx = self.timescale.write().await?;
        next_edition(&mut tx).await?;
        let current = revision(&mut tx, setting.kind, &setting.id).await?;
        if current.unwrap_or(0) + 1 != setting.revision {
            return Ok(Saved::Conflict { current });
        }
        let name = text::store(&setting.name);
        let taken =
            sqlx::query("select 1 from alert_setting where kind = $1 and name = $2 and id <> $3")
                .bind(setting.kind.name())
                .bind(&*name)
                .bind(text::store(&setting.id))
                .fetch_optional(&mut *tx)
                .await?;
        if taken.is_some() {
            return Ok(Saved::NameTaken);
        }
        sqlx::query(
            "insert into alert_setting
                (kind, id, revision, name, origin, document, updated, updated_by)
             values ($1, $2, $3, $4, $5, $6, $7, $8)
             on conflict (kind, id) do update set
                revision = excluded.revision, name = excluded.name, origin = excluded.origin,
                document = excluded.document, updated = excluded.updated,
                updated_by = excluded.updated_by",
        )
        .bind(setting.kind.name())
        .bind(text::store(&setting.id))
        .bind(setting.revision as i64)
        .bind(&*name)
        .bind(text::store(&setting.origin))
        .bind(text::store(&setting.document))
        .bind(Stamp(setting.updated))
        .bind(text::store(&setting.updated_by))
        .execute(&mut *tx)
        .await?;
        insert_audit(&mut tx, &audit).await?;
        tx.commit().await?;
        Ok(Saved::Done)
    }

    async fn delete(
        &self,
        kind: SettingKind,
        id: &str,
        revision: u64,
        audit: Audit,
    ) -> Outcome<Saved> {
        let mut tx = self.timescale.write().await?;
        next_edition(&mut tx).await?;
        let current = self::revision(&mut tx, kind, id).await?;
        if current != Some(revision) {
            return Ok(Saved::Conflict { current });
        }
        let id = text::store(id);
        sqlx::query("delete from alert_setting where kind = $1 and id = $2")
            .bind(kind.name())
            .bind(&*id)
            .execute(&mut *tx)
            .await?;
        if kind == SettingKind::Channel {
            for statement in [
                "delete from notice where channel = $1",
                "delete from dead_notice where channel = $1",
                "delete from alert_lease where kind = 'channel' and id = $1",
            ] {
                sqlx::query(statement).bind(&*id).execute(&mut *tx).await?;
            }
        }
        insert_audit(&mut tx, &audit).await?;
        tx.commit().await?;
        Ok(Saved::Done)
    }

    async fn select_audits(
        &self,
        kind: SettingKind,
        subject: Option<&str>,
        limit: usize,
    ) -> Outcome<Vec<Audit>> {
        let mut tx = self.timescale.read().await?;
        let rows = sqlx::query(
            "select * from alert_audit where kind = $1 and ($2::text is null or subject = $2)
             order by id desc limit $3",
        )
        .bind(kind.name())
        .bind(subject.map(text::store))
        .bind(at_most(limit))
        .fetch_all(&mut *tx)
        .await?;
        rows.iter().map(|row| rows::audit(kind, row)).collect()
    }

    async fn select_states(&self) -> Outcome<Vec<AlertState>> {
        let mut tx = self.timescale.read().await?;
        let rows: Vec<(String, String)> =
            sqlx::query_as("select id, document from alert_state").fetch_all(&mut *tx).await?;
        let state = |(id, document)| AlertState { id, document: text::load(document) };
        Ok(rows.into_iter().map(state).collect())
    }

    async fn write(&self, changes: AlertChanges) -> Outcome<()> {
        let mut tx = self.timescale.write().await?;
        apply(&mut tx, &changes).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn select_incidents(
        &self,
        filter: &IncidentFilter,
        limit: usize,
    ) -> Outcome<Vec<Incident>> {
        let range = filter.started.unwrap_or(model::TimeRange::ALL);
        let mut tx = self.timescale.read().await?;
        let rows = sqlx::query(
            "select *, labels::text as labels_text from incident
             where started >= $1 and started < $2
                and ($3::text is null or rule = $3)
                and ($4::text is null or machine = $4)
                and (not $5 or resolved is null)
             order by started desc, id limit $6",
        )
        .bind(Stamp(range.start))
        .bind(Stamp(range.end))
        .bind(filter.rule.as_deref().map(text::store))
        .bind(filter.machine.map(|machine| machine.to_string()))
        .bind(filter.open_only)
        .bind(at_most(limit))
        .fetch_all(&mut *tx)
        .await?;
        rows.iter().map(rows::incident).collect()
    }

    async fn select_queued(&self, channel: &str, limit: usize) -> Outcome<Vec<Queued>> {
        let mut tx = self.timescale.read().await?;
        let rows = sqlx::query("select * from notice where channel = $1 order by id limit $2")
            .bind(text::store(channel))
            .bind(at_most(limit))
            .fetch_all(&mut *tx)
            .await?;
        rows.iter().map(rows::queued).collect()
    }

    async fn count_queued(&self, channel: &str) -> Outcome<usize> {
        let mut tx = self.timescale.read().await?;
        let count: i64 = sqlx::query_scalar("select count(*) from notice where channel = $1")
            .bind(text::store(channel))
            .fetch_one(&mut *tx)
            .await?;
        Ok(count.max(0) as usize)
    }

    async fn delete_notices(&self, ids: &[i64]) -> Outcome<()> {
        let mut tx = self.timescale.write().await?;
        sqlx::query("delete from notice where id = any($1)").bind(ids).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn move_to_dead(&self, ids: &[i64], reason: &str, at: UnixMillis) -> Outcome<()> {
        let mut tx = self.timescale.write().await?;
        sqlx::query(
            "with gone as (delete from notice where id = any($1) returning *)
             insert into dead_notice
                (channel, grouping, incident, kind, document, created, reason, died)
             select channel, grouping, incident, kind, document, created, $2, $3
             from gone order by id",
        )
        .bind(ids)
        .bind(text::store(reason))
        .bind(Stamp(at))
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "delete from dead_notice where id in (
                select id from (
                    select id, row_number() over (partition by channel order by id desc) as place
                    from dead_notice
                ) as ranked where place > $1
             )",
        )
        .bind(DEAD_PER_CHANNEL_MAX)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn select_dead(&self, limit: usize) -> Outcome<Vec<Dead>> {
        let mut tx = self.timescale.read().await?;
        let rows = sqlx::query("select * from dead_notice order by id desc limit $1")
            .bind(at_most(limit))
            .fetch_all(&mut *tx)
            .await?;
        rows.iter().map(rows::dead).collect()
    }

    async fn move_from_dead(&self, id: i64, due: UnixMillis) -> Outcome<bool> {
        let mut tx = self.timescale.write().await?;
        let moved = sqlx::query(
            "with back as (delete from dead_notice where id = $1 returning *)
             insert into notice (channel, grouping, incident, kind, document, created, due)
             select channel, grouping, incident, kind, document, created, $2 from back",
        )
        .bind(id)
        .bind(Stamp(due))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(moved.rows_affected() > 0)
    }

    async fn forget(&self, before: UnixMillis) -> Outcome<()> {
        let mut tx = self.timescale.write().await?;
        for statement in [
            "delete from incident where resolved < $1",
            "delete from alert_audit where time < $1",
            "delete from dead_notice where died < $1",
        ] {
            sqlx::query(statement).bind(Stamp(before)).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

#[async_trait]
impl Alerting for TimescaleAlerting {
    async fn settings(&self, kind: SettingKind) -> Result<Vec<Setting>, StorageError> {
        self.timescale.call(self.select_settings(kind)).await
    }

    async fn save(&self, setting: Setting, audit: Audit) -> Result<Saved, StorageError> {
        self.timescale.call(self.put(setting, audit)).await
    }

    async fn remove(
        &self,
        kind: SettingKind,
        id: &str,
        revision: u64,
        audit: Audit,
    ) -> Result<Saved, StorageError> {
        self.timescale.call(self.delete(kind, id, revision, audit)).await
    }

    async fn audits(
        &self,
        kind: SettingKind,
        subject: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Audit>, StorageError> {
        self.timescale.call(self.select_audits(kind, subject, limit)).await
    }

    async fn states(&self) -> Result<Vec<AlertState>, StorageError> {
        self.timescale.call(self.select_states()).await
    }

    async fn record(&self, changes: AlertChanges) -> Result<(), StorageError> {
        self.timescale.call(self.write(changes)).await
    }

    fn shards(&self) -> u16 {
        sharing::SHARDS
    }

    async fn attend(
        &self,
        service: &str,
        channels: &BTreeMap<String, String>,
    ) -> Result<Attendance, StorageError> {
        self.timescale.call(self.say_present(service, channels)).await
    }

    async fn record_under(&self, batches: Vec<Batch>) -> Result<Vec<Claim>, StorageError> {
        self.timescale.call(self.write_batches(batches)).await
    }

    async fn release(&self, claims: &[Claim]) -> Result<(), StorageError> {
        self.timescale.call(self.give_up(claims)).await
    }

    async fn leave(&self, service: &str) -> Result<(), StorageError> {
        self.timescale.call(self.say_goodbye(service)).await
    }

    async fn ask(&self, shard: Shard, document: &str) -> Result<i64, StorageError> {
        self.timescale.call(self.insert_errand(shard, document)).await
    }

    async fn is_asked(&self, errand: i64) -> Result<bool, StorageError> {
        self.timescale.call(self.has_errand(errand)).await
    }

    async fn incidents(
        &self,
        filter: &IncidentFilter,
        limit: usize,
    ) -> Result<Vec<Incident>, StorageError> {
        self.timescale.call(self.select_incidents(filter, limit)).await
    }

    async fn queued(&self, channel: &str, limit: usize) -> Result<Vec<Queued>, StorageError> {
        self.timescale.call(self.select_queued(channel, limit)).await
    }

    async fn queue_len(&self, channel: &str) -> Result<usize, StorageError> {
        self.timescale.call(self.count_queued(channel)).await
    }

    async fn told(&self, ids: &[i64]) -> Result<(), StorageError> {
        self.timescale.call(self.delete_notices(ids)).await
    }

    async fn bury(&self, ids: &[i64], reason: &str, at: UnixMillis) -> Result<(), StorageError> {
        self.timescale.call(self.move_to_dead(ids, reason, at)).await
    }

    async fn dead(&self, limit: usize) -> Result<Vec<Dead>, StorageError> {
        self.timescale.call(self.select_dead(limit)).await
    }

    async fn revive(&self, id: i64, due: UnixMillis) -> Result<bool, StorageError> {
        self.timescale.call(self.move_from_dead(id, due)).await
    }

    async fn prune(&self, before: UnixMillis) -> Result<(), StorageError> {
        self.timescale.call(self.forget(before)).await
    }
}

fn at_most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Changes of settings take turns here, so what is read after it stays true until the commit.
async fn next_edition(tx: &mut PgConnection) -> Outcome<()> {
    sqlx::query("update alert_edition set number = number + 1").execute(tx).await?;
    Ok(())
}

async fn revision(tx: &mut PgConnection, kind: SettingKind, id: &str) -> Outcome<Option<u64>> {
    let revision: Option<i64> =
        sqlx::query_scalar("select revision from alert_setting where kind = $1 and id = $2")
            .bind(kind.name())
            .bind(text::store(id))
            .fetch_optional(tx)
            .await?;
    Ok(revision.map(|revision| revision as u64))
}

async fn insert_audit(tx: &mut PgConnection, audit: &Audit) -> Outcome<()> {
    sqlx::query(
        "insert into alert_audit (time, actor, action, kind, subject, before, after)
         values ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(Stamp(audit.time))
    .bind(text::store(&audit.actor))
    .bind(text::store(&audit.action))
    .bind(audit.kind.name())
    .bind(text::store(&audit.subject))
    .bind(text::store(&audit.before))
    .bind(text::store(&audit.after))
    .execute(tx)
    .await?;
    Ok(())
}

/// A statement for each kind of change, however many there are.
async fn apply(tx: &mut PgConnection, changes: &AlertChanges) -> Outcome<()> {
    if !changes.states.is_empty() {
        // A statement may not touch a row twice: the latest word counts.
        let states: HashMap<&str, &str> =
            changes.states.iter().map(|s| (s.id.as_str(), s.document.as_str())).collect();
        let (ids, documents): (Vec<&str>, Vec<_>) =
            states.into_iter().map(|(id, document)| (id, text::store(document))).unzip();
        sqlx::query(
            "insert into alert_state (id, document)
             select * from unnest($1::text[], $2::text[])
             on conflict (id) do update set document = excluded.document",
        )
        .bind(ids)
        .bind(documents)
        .execute(&mut *tx)
        .await?;
    }
    if !changes.gone.is_empty() {
        sqlx::query("delete from alert_state where id = any($1)")
            .bind(&changes.gone)
            .execute(&mut *tx)
            .await?;
    }
    if !changes.incidents.is_empty() {
        write_incidents(&mut *tx, &changes.incidents).await?;
    }
    if !changes.notices.is_empty() {
        write_notices(&mut *tx, &changes.notices).await?;
    }
    if !changes.done.is_empty() {
        sqlx::query("delete from alert_errand where id = any($1)")
            .bind(&changes.done)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

async fn write_incidents(tx: &mut PgConnection, incidents: &[Incident]) -> Outcome<()> {
    let mut seen = HashSet::new();
    // A statement may not touch a row twice: the latest word counts.
    let latest: Vec<&Incident> = incidents.iter().rev().filter(|i| seen.insert(&i.id)).collect();
    let texts = |read: fn(&Incident) -> &str| -> Vec<String> {
        latest.iter().map(|i| text::store(read(i)).into_owned()).collect()
    };
    let times = |read: fn(&Incident) -> Option<UnixMillis>| -> Vec<Option<Stamp>> {
        latest.iter().map(|i| read(i).map(Stamp)).collect()
    };
    sqlx::query(
        "insert into incident (
            id, alert, rule, rule_name, machine, host_name, metric, labels, level, started, resolved,
            peak, summary, cause, acknowledged, acknowledged_by, comment
         )
         select id, alert, rule, rule_name, machine, host_name, metric, labels::jsonb, level, started,
            resolved, peak, summary, cause, acknowledged, acknowledged_by, comment
         from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
            $7::text[], $8::text[], $9::text[], $10::timestamptz[], $11::timestamptz[],
            $12::float8[], $13::text[], $14::text[], $15::timestamptz[], $16::text[], $17::text[])
         as new (id, alert, rule, rule_name, machine, host_name, metric, labels, level, started,
            resolved, peak, summary, cause, acknowledged, acknowledged_by, comment)
         on conflict (id) do update set
            alert = excluded.alert, rule = excluded.rule, rule_name = excluded.rule_name,
            machine = excluded.machine, host_name = excluded.host_name, metric = excluded.metric,
            labels = excluded.labels, level = excluded.level, started = excluded.started,
            resolved = excluded.resolved, peak = excluded.peak, summary = excluded.summary,
            cause = excluded.cause, acknowledged = excluded.acknowledged,
            acknowledged_by = excluded.acknowledged_by, comment = excluded.comment",
    )
    .bind(texts(|i| &i.id))
    .bind(texts(|i| &i.alert))
    .bind(texts(|i| &i.rule))
    .bind(texts(|i| &i.rule_name))
    .bind(latest.iter().map(|i| i.machine.to_string()).collect::<Vec<_>>())
    .bind(texts(|i| &i.host_name))
    .bind(texts(|i| &i.metric))
    .bind(latest.iter().map(|i| labels_to_json(&i.labels)).collect::<Vec<_>>())
    .bind(texts(|i| &i.level))
    .bind(times(|i| Some(i.started)))
    .bind(times(|i| i.resolved))
    .bind(latest.iter().map(|i| i.peak.filter(|peak| !peak.is_nan())).collect::<Vec<_>>())
    .bind(texts(|i| &i.summary))
    .bind(texts(|i| &i.cause))
    .bind(times(|i| i.acknowledged))
    .bind(texts(|i| &i.acknowledged_by))
    .bind(texts(|i| &i.comment))
    .execute(tx)
    .await?;
    Ok(())
}

async fn write_notices(tx: &mut PgConnection, notices: &[Notice]) -> Outcome<()> {
    let texts = |read: fn(&Notice) -> &str| -> Vec<String> {
        notices.iter().map(|n| text::store(read(n)).into_owned()).collect()
    };
    let times = |read: fn(&Notice) -> UnixMillis| -> Vec<Stamp> {
        notices.iter().map(|n| Stamp(read(n))).collect()
    };
    // Their order is that of their numbers.
    sqlx::query(
        "insert into notice (channel, grouping, incident, kind, document, created, due)
         select channel, grouping, incident, kind, document, created, due
         from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[],
            $6::timestamptz[], $7::timestamptz[]) with ordinality
         as new (channel, grouping, incident, kind, document, created, due, place)
         order by place",
    )
    .bind(texts(|n| &n.channel))
    .bind(texts(|n| &n.grouping))
    .bind(texts(|n| &n.incident))
    .bind(texts(|n| &n.kind))
    .bind(texts(|n| &n.document))
    .bind(times(|n| n.created))
    .bind(times(|n| n.due))
    .execute(tx)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests;
