//! Process reports: as they came, and in compressed groups once their stretch is closed.

use model::{MachineId, ProcessReport, TimeRange, UnixMillis};
use sqlx::SqliteConnection;

use super::SqliteHistory;
use crate::StorageError;
use crate::history::cursor::Cursor;
use crate::history::report;
use crate::history::report_group::ReportGroup;

/// An answer is at most this much older than what was asked for.
const AGE_MS_MAX: i64 = 10 * 60 * 1000;

impl SqliteHistory {
    pub(super) async fn processes_at(
        &self,
        machine: MachineId,
        at: UnixMillis,
    ) -> Result<Option<ProcessReport>, StorageError> {
        // From the oldest acceptable time to `at`, both included.
        let range = TimeRange::new(at - AGE_MS_MAX, at + 1);
        let mut tx = self.database.read().await?;
        let machine: Option<i64> = sqlx::query_scalar("select id from machine where name = ?")
            .bind(machine.to_string())
            .fetch_optional(&mut *tx)
            .await?;
        let Some(machine) = machine else { return Ok(None) };
        let single = self.newest_single(&mut tx, machine, range).await?;
        let grouped = self.newest_grouped(&mut tx, machine, range).await?;
        // Where both have the same time, the one that is not grouped yet came later.
        Ok(match (single, grouped) {
            (Some(single), Some(grouped)) if grouped.time > single.time => Some(grouped),
            (Some(single), _) => Some(single),
            (None, grouped) => grouped,
        })
    }

    async fn newest_single(
        &self,
        connection: &mut SqliteConnection,
        machine: i64,
        range: TimeRange,
    ) -> Result<Option<ProcessReport>, StorageError> {
        let data: Option<Vec<u8>> = sqlx::query_scalar(
            "select data from process_report
             where machine_id = ? and time >= ? and time < ? order by time desc limit 1",
        )
        .bind(machine)
        .bind(range.start.0)
        .bind(range.end.0)
        .fetch_optional(connection)
        .await?;
        let Some(data) = data else { return Ok(None) };
        match report::take(&mut Cursor::new(&data)) {
            Ok(report) => Ok(Some(report)),
            Err(reason) => {
                self.damaged("process_report", machine, &reason);
                Ok(None)
            }
        }
    }

    async fn newest_grouped(
        &self,
        connection: &mut SqliteConnection,
        machine: i64,
        range: TimeRange,
    ) -> Result<Option<ProcessReport>, StorageError> {
        // A group spans at most one stretch, and few groups overlap: late reports make their own.
        let groups: Vec<(i64, Vec<u8>)> = sqlx::query_as(
            "select id, data from process_block
             where machine_id = ?1 and last >= ?2 and first < ?3 and last < ?3 + ?4
             order by last desc, id desc limit 8",
        )
        .bind(machine)
        .bind(range.start.0)
        .bind(range.end.0)
        .bind(super::STRETCH_MS)
        .fetch_all(connection)
        .await?;
        let mut newest: Option<ProcessReport> = None;
        for (id, data) in groups {
            match ReportGroup::open(&data).and_then(|group| group.newest_before(range.end)) {
                Ok(Some(report))
                    if range.contains(report.time)
                        && newest.as_ref().is_none_or(|n| report.time > n.time) =>
                {
                    newest = Some(report);
                }
                Ok(_) => {}
                Err(reason) => self.damaged("process_block", id, &reason),
            }
        }
        Ok(newest)
    }
}
