//! What the rows mean.

use model::UnixMillis;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::alerting::{Audit, Dead, Incident, Notice, Queued, Setting, SettingKind};
use crate::postgres::failure::{Outcome, corrupt};
use crate::postgres::stamp::Stamp;
use crate::postgres::text::{self, labels_from_json};

fn text(row: &PgRow, column: &str) -> Outcome<String> {
    Ok(text::load(row.try_get(column)?))
}

fn time(row: &PgRow, column: &str) -> Outcome<UnixMillis> {
    Ok(row.try_get::<Stamp, _>(column)?.0)
}

fn maybe_time(row: &PgRow, column: &str) -> Outcome<Option<UnixMillis>> {
    Ok(row.try_get::<Option<Stamp>, _>(column)?.map(|stamp| stamp.0))
}

pub(super) fn setting(kind: SettingKind, row: &PgRow) -> Outcome<Setting> {
    Ok(Setting {
        kind,
        id: text(row, "id")?,
        revision: row.try_get::<i64, _>("revision")? as u64,
        name: text(row, "name")?,
        origin: text(row, "origin")?,
        document: text(row, "document")?,
        updated: time(row, "updated")?,
        updated_by: text(row, "updated_by")?,
    })
}

pub(super) fn audit(kind: SettingKind, row: &PgRow) -> Outcome<Audit> {
    Ok(Audit {
        time: time(row, "time")?,
        actor: text(row, "actor")?,
        action: text(row, "action")?,
        kind,
        subject: text(row, "subject")?,
        before: text(row, "before")?,
        after: text(row, "after")?,
    })
}

pub(super) fn incident(row: &PgRow) -> Outcome<Incident> {
    let machine: &str = row.try_get("machine")?;
    Ok(Incident {
        id: text(row, "id")?,
        alert: text(row, "alert")?,
        rule: text(row, "rule")?,
        rule_name: text(row, "rule_name")?,
        machine: machine.parse().map_err(|e| corrupt("incident.machine", &e))?,
        host_name: text(row, "host_name")?,
        metric: text(row, "metric")?,
        labels: labels_from_json(row.try_get("labels_text")?)?,
        level: text(row, "level")?,
        started: time(row, "started")?,
        resolved: maybe_time(row, "resolved")?,
        peak: row.try_get("peak")?,
        summary: text(row, "summary")?,
        cause: text(row, "cause")?,
        acknowledged: maybe_time(row, "acknowledged")?,
        acknowledged_by: text(row, "acknowledged_by")?,
        comment: text(row, "comment")?,
    })
}

pub(super) fn queued(row: &PgRow) -> Outcome<Queued> {
    Ok(Queued { id: row.try_get("id")?, notice: notice(row, time(row, "due")?)? })
}

pub(super) fn dead(row: &PgRow) -> Outcome<Dead> {
    let died = time(row, "died")?;
    let reason = text(row, "reason")?;
    Ok(Dead { id: row.try_get("id")?, notice: notice(row, died)?, reason, died })
}

fn notice(row: &PgRow, due: UnixMillis) -> Outcome<Notice> {
    Ok(Notice {
        channel: text(row, "channel")?,
        grouping: text(row, "grouping")?,
        incident: text(row, "incident")?,
        kind: text(row, "kind")?,
        document: text(row, "document")?,
        created: time(row, "created")?,
        due,
    })
}
