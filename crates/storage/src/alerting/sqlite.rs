//! The alert service's memory in the same SQLite file as the history.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use model::UnixMillis;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite, SqliteConnection, Transaction};

use super::{
    AlertChanges, AlertState, Alerting, Attendance, Audit, Batch, Claim, DEAD_PER_CHANNEL_MAX,
    Dead, Incident, IncidentFilter, Notice, Queued, Saved, Serving, Setting, SettingKind, Shard,
};
use crate::StorageError;
use crate::sqlite::{Database, STORE, labels_from_json, labels_to_json};

/// The one claim there is.
const ALL: Claim = Claim { shard: Shard(0), fence: 1 };

#[derive(Clone, Debug)]
pub struct SqliteAlerting {
    database: Arc<Database>,
}

impl SqliteAlerting {
    pub fn new(database: Arc<Database>) -> Self {
        Self { database }
    }
}

#[async_trait]
impl Alerting for SqliteAlerting {
    async fn settings(&self, kind: SettingKind) -> Result<Vec<Setting>, StorageError> {
        let mut tx = self.database.read().await?;
        let rows = sqlx::query("select * from alert_setting where kind = ? order by name")
            .bind(kind.name())
            .fetch_all(&mut *tx)
            .await?;
        rows.iter().map(|row| setting(kind, row)).collect()
    }

    async fn save(&self, setting: Setting, audit: Audit) -> Result<Saved, StorageError> {
        let mut tx = self.database.write().await?;
        let current = revision(&mut tx, setting.kind, &setting.id).await?;
        if current.unwrap_or(0) + 1 != setting.revision {
            return Ok(Saved::Conflict { current });
        }
        let taken =
            sqlx::query("select 1 from alert_setting where kind = ? and name = ? and id <> ?")
                .bind(setting.kind.name())
                .bind(&setting.name)
                .bind(&setting.id)
                .fetch_optional(&mut *tx)
                .await?;
        if taken.is_some() {
            return Ok(Saved::NameTaken);
        }
        sqlx::query(
            "insert or replace into alert_setting
                (kind, id, revision, name, origin, document, updated, updated_by)
             values (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(setting.kind.name())
        .bind(&setting.id)
        .bind(setting.revision as i64)
        .bind(&setting.name)
        .bind(&setting.origin)
        .bind(&setting.document)
        .bind(setting.updated.0)
        .bind(&setting.updated_by)
        .execute(&mut *tx)
        .await?;
        write_audit(&mut tx, &audit).await?;
        tx.commit().await?;
        Ok(Saved::Done)
    }

    async fn remove(
        &self,
        kind: SettingKind,
        id: &str,
        revision: u64,
        audit: Audit,
    ) -> Result<Saved, StorageError> {
        let mut tx = self.database.write().await?;
        let current = self::revision(&mut tx, kind, id).await?;
        if current != Some(revision) {
            return Ok(Saved::Conflict { current });
        }
        sqlx::query("delete from alert_setting where kind = ? and id = ?")
            .bind(kind.name())
            .bind(id)
            .execute(&mut *tx)
            .await?;
        if kind == SettingKind::Channel {
            sqlx::query("delete from notice where channel = ?").bind(id).execute(&mut *tx).await?;
            sqlx::query("delete from dead_notice where channel = ?")
                .bind(id)
                .execute(&mut *tx)
                .await?;
        }
        write_audit(&mut tx, &audit).await?;
        tx.commit().await?;
        Ok(Saved::Done)
    }

    async fn audits(
        &self,
        kind: SettingKind,
        subject: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Audit>, StorageError> {
        let mut tx = self.database.read().await?;
        let rows = sqlx::query(
            "select * from alert_audit where kind = ?1 and (?2 is null or subject = ?2)
             order by id desc limit ?3",
        )
        .bind(kind.name())
        .bind(subject)
        .bind(limit as i64)
        .fetch_all(&mut *tx)
        .await?;
        rows.iter().map(|row| audit(kind, row)).collect()
    }

    async fn states(&self) -> Result<Vec<AlertState>, StorageError> {
        let mut tx = self.database.read().await?;
        let rows: Vec<(String, String)> =
            sqlx::query_as("select id, document from alert_state").fetch_all(&mut *tx).await?;
        Ok(rows.into_iter().map(|(id, document)| AlertState { id, document }).collect())
    }

    async fn record(&self, changes: AlertChanges) -> Result<(), StorageError> {
        let mut tx = self.database.write().await?;
        for state in &changes.states {
            sqlx::query("insert or replace into alert_state (id, document) values (?, ?)")
                .bind(&state.id)
                .bind(&state.document)
                .execute(&mut *tx)
                .await?;
        }
        for id in &changes.gone {
            sqlx::query("delete from alert_state where id = ?").bind(id).execute(&mut *tx).await?;
        }
        for incident in &changes.incidents {
            write_incident(&mut tx, incident).await?;
        }
        for notice in &changes.notices {
            write_notice(&mut tx, notice).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    fn shards(&self) -> u16 {
        1
    }

    /// The file is one process's own: it has everything, for ever.
    async fn attend(
        &self,
        _service: &str,
        channels: &BTreeMap<String, String>,
    ) -> Result<Attendance, StorageError> {
        let mine = |id: &String| (id.clone(), Serving { mine: true, note: String::new() });
        Ok(Attendance {
            claims: vec![ALL],
            channels: channels.keys().map(mine).collect(),
            ..Attendance::default()
        })
    }

    async fn record_under(&self, batches: Vec<Batch>) -> Result<Vec<Claim>, StorageError> {
        let mut together = AlertChanges::default();
        for batch in batches {
            together.append(batch.changes);
        }
        self.record(together).await?;
        Ok(Vec::new())
    }

    async fn release(&self, _claims: &[Claim]) -> Result<(), StorageError> {
        Ok(())
    }

    async fn leave(&self, _service: &str) -> Result<(), StorageError> {
        Ok(())
    }

    async fn ask(&self, _shard: Shard, _document: &str) -> Result<i64, StorageError> {
        let reason = "there is no other service to ask".to_owned();
        Err(StorageError::Invalid { store: STORE, reason })
    }

    async fn is_asked(&self, _errand: i64) -> Result<bool, StorageError> {
        Ok(false)
    }

    async fn incidents(
        &self,
        filter: &IncidentFilter,
        limit: usize,
    ) -> Result<Vec<Incident>, StorageError> {
        let mut tx = self.database.read().await?;
        let range = filter.started.unwrap_or(model::TimeRange::ALL);
        let rows = sqlx::query(
            "select * from incident
             where started >= ?1 and started < ?2
                and (?3 is null or rule = ?3)
                and (?4 is null or machine = ?4)
                and (?5 = 0 or resolved is null)
             order by started desc, id limit ?6",
        )
        .bind(range.start.0)
        .bind(range.end.0)
        .bind(filter.rule.as_deref())
        .bind(filter.machine.map(|machine| machine.to_string()))
        .bind(filter.open_only)
        .bind(limit as i64)
        .fetch_all(&mut *tx)
        .await?;
        rows.iter().map(incident).collect()
    }

    async fn queued(&self, channel: &str, limit: usize) -> Result<Vec<Queued>, StorageError> {
        let mut tx = self.database.read().await?;
        let rows = sqlx::query("select * from notice where channel = ? order by id limit ?")
            .bind(channel)
            .bind(limit as i64)
            .fetch_all(&mut *tx)
            .await?;
        rows.iter()
            .map(|row| {
                let due = UnixMillis(row.try_get("due")?);
                Ok(Queued { id: row.try_get("id")?, notice: notice(row, due)? })
            })
            .collect()
    }

    async fn queue_len(&self, channel: &str) -> Result<usize, StorageError> {
        let mut tx = self.database.read().await?;
        let count: i64 = sqlx::query_scalar("select count(*) from notice where channel = ?")
            .bind(channel)
            .fetch_one(&mut *tx)
            .await?;
        Ok(count.max(0) as usize)
    }

    async fn told(&self, ids: &[i64]) -> Result<(), StorageError> {
        let mut tx = self.database.write().await?;
        for id in ids {
            sqlx::query("delete from notice where id = ?").bind(id).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    async fn bury(&self, ids: &[i64], reason: &str, at: UnixMillis) -> Result<(), StorageError> {
        let mut tx = self.database.write().await?;
        for id in ids {
            sqlx::query(
                "insert into dead_notice
                    (channel, grouping, incident, kind, document, created, reason, died)
                 select channel, grouping, incident, kind, document, created, ?2, ?3
                 from notice where id = ?1",
            )
            .bind(id)
            .bind(reason)
            .bind(at.0)
            .execute(&mut *tx)
            .await?;
            sqlx::query("delete from notice where id = ?").bind(id).execute(&mut *tx).await?;
        }
        sqlx::query(
            "delete from dead_notice where id in (
                select id from (
                    select id, row_number() over (partition by channel order by id desc) as place
                    from dead_notice
                ) where place > ?
             )",
        )
        .bind(DEAD_PER_CHANNEL_MAX)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn dead(&self, limit: usize) -> Result<Vec<Dead>, StorageError> {
        let mut tx = self.database.read().await?;
        let rows = sqlx::query("select * from dead_notice order by id desc limit ?")
            .bind(limit as i64)
            .fetch_all(&mut *tx)
            .await?;
        rows.iter()
            .map(|row| {
                let died = UnixMillis(row.try_get("died")?);
                let reason = row.try_get("reason")?;
                Ok(Dead { id: row.try_get("id")?, notice: notice(row, died)?, reason, died })
            })
            .collect()
    }

    async fn revive(&self, id: i64, due: UnixMillis) -> Result<bool, StorageError> {
        let mut tx = self.database.write().await?;
        let inserted = sqlx::query(
            "insert into notice (channel, grouping, incident, kind, document, created, due)
             select channel, grouping, incident, kind, document, created, ?2
             from dead_notice where id = ?1",
        )
        .bind(id)
        .bind(due.0)
        .execute(&mut *tx)
        .await?;
        sqlx::query("delete from dead_notice where id = ?").bind(id).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(inserted.rows_affected() > 0)
    }

    async fn prune(&self, before: UnixMillis) -> Result<(), StorageError> {
        let mut tx = self.database.write().await?;
        let statements = [
            "delete from incident where resolved < ?",
            "delete from alert_audit where time < ?",
            "delete from dead_notice where died < ?",
        ];
        for statement in statements {
            sqlx::query(statement).bind(before.0).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

async fn revision(
    tx: &mut Transaction<'static, Sqlite>,
    kind: SettingKind,
    id: &str,
) -> Result<Option<u64>, StorageError> {
    let revision: Option<i64> =
        sqlx::query_scalar("select revision from alert_setting where kind = ? and id = ?")
            .bind(kind.name())
            .bind(id)
            .fetch_optional(&mut **tx)
            .await?;
    Ok(revision.map(|revision| revision as u64))
}

async fn write_audit(tx: &mut SqliteConnection, audit: &Audit) -> Result<(), StorageError> {
    sqlx::query(
        "insert into alert_audit (time, actor, action, kind, subject, before, after)
         values (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(audit.time.0)
    .bind(&audit.actor)
    .bind(&audit.action)
    .bind(audit.kind.name())
    .bind(&audit.subject)
    .bind(&audit.before)
    .bind(&audit.after)
    .execute(tx)
    .await?;
    Ok(())
}

async fn write_incident(tx: &mut SqliteConnection, i: &Incident) -> Result<(), StorageError> {
    sqlx::query(
        "insert or replace into incident (
            id, alert, rule, rule_name, machine, host_name, metric, labels, level, started, resolved,
            peak, summary, cause, acknowledged, acknowledged_by, comment
         ) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&i.id)
    .bind(&i.alert)
    .bind(&i.rule)
    .bind(&i.rule_name)
    .bind(i.machine.to_string())
    .bind(&i.host_name)
    .bind(&i.metric)
    .bind(labels_to_json(&i.labels))
    .bind(&i.level)
    .bind(i.started.0)
    .bind(i.resolved.map(|time| time.0))
    // SQLite has no NaN.
    .bind(i.peak.filter(|peak| !peak.is_nan()))
    .bind(&i.summary)
    .bind(&i.cause)
    .bind(i.acknowledged.map(|time| time.0))
    .bind(&i.acknowledged_by)
    .bind(&i.comment)
    .execute(tx)
    .await?;
    Ok(())
}

async fn write_notice(tx: &mut SqliteConnection, notice: &Notice) -> Result<(), StorageError> {
    sqlx::query(
        "insert into notice (channel, grouping, incident, kind, document, created, due)
         values (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&notice.channel)
    .bind(&notice.grouping)
    .bind(&notice.incident)
    .bind(&notice.kind)
    .bind(&notice.document)
    .bind(notice.created.0)
    .bind(notice.due.0)
    .execute(tx)
    .await?;
    Ok(())
}

fn setting(kind: SettingKind, row: &SqliteRow) -> Result<Setting, StorageError> {
    Ok(Setting {
        kind,
        id: row.try_get("id")?,
        revision: row.try_get::<i64, _>("revision")? as u64,
        name: row.try_get("name")?,
        origin: row.try_get("origin")?,
        document: row.try_get("document")?,
        updated: UnixMillis(row.try_get("updated")?),
        updated_by: row.try_get("updated_by")?,
    })
}

fn audit(kind: SettingKind, row: &SqliteRow) -> Result<Audit, StorageError> {
    Ok(Audit {
        time: UnixMillis(row.try_get("time")?),
        actor: row.try_get("actor")?,
        action: row.try_get("action")?,
        kind,
        subject: row.try_get("subject")?,
        before: row.try_get("before")?,
        after: row.try_get("after")?,
    })
}

fn incident(row: &SqliteRow) -> Result<Incident, StorageError> {
    let machine: &str = row.try_get("machine")?;
    let machine = machine.parse().map_err(|e| StorageError::Corrupt {
        store: STORE,
        reason: format!("machine of an incident: {e}"),
    })?;
    let time = |column: &str| {
        Ok::<_, StorageError>(row.try_get::<Option<i64>, _>(column)?.map(UnixMillis))
    };
    Ok(Incident {
        id: row.try_get("id")?,
        alert: row.try_get("alert")?,
        rule: row.try_get("rule")?,
        rule_name: row.try_get("rule_name")?,
        machine,
        host_name: row.try_get("host_name")?,
        metric: row.try_get("metric")?,
        labels: labels_from_json(row.try_get("labels")?)?,
        level: row.try_get("level")?,
        started: UnixMillis(row.try_get("started")?),
        resolved: time("resolved")?,
        peak: row.try_get("peak")?,
        summary: row.try_get("summary")?,
        cause: row.try_get("cause")?,
        acknowledged: time("acknowledged")?,
        acknowledged_by: row.try_get("acknowledged_by")?,
        comment: row.try_get("comment")?,
    })
}

fn notice(row: &SqliteRow, due: UnixMillis) -> Result<Notice, StorageError> {
    Ok(Notice {
        channel: row.try_get("channel")?,
        grouping: row.try_get("grouping")?,
        incident: row.try_get("incident")?,
        kind: row.try_get("kind")?,
        document: row.try_get("document")?,
        created: UnixMillis(row.try_get("created")?),
        due,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_kept_is_there_when_the_file_is_opened_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("muster.db");
        let database = Database::open(&file).await.expect("opened");
        let states = vec![AlertState { id: "x".into(), document: "{}".into() }];
        let changes = AlertChanges { states: states.clone(), ..AlertChanges::default() };
        SqliteAlerting::new(database.clone()).record(changes).await.expect("recorded");
        database.close().await;
        let database = Database::open(&file).await.expect("opened again");
        assert_eq!(SqliteAlerting::new(database).states().await.expect("read"), states);
    }
}
