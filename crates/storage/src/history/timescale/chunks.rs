//! The chunks that hypertables are made of: stretches of time that go as a whole.

use model::{TimeRange, UnixMillis};
use sqlx::PgConnection;

use crate::postgres::failure::Outcome;
use crate::postgres::stamp::Stamp;

/// A hypertable, by its name in the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hypertable {
    Frame,
    Block,
    TierMinute,
    TierHour,
    ProcessReport,
    ProcessBlock,
    Event,
    Gap,
    LogBlock,
    LogFilter,
}

impl Hypertable {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Frame => "frame",
            Self::Block => "block",
            Self::TierMinute => "tier_minute",
            Self::TierHour => "tier_hour",
            Self::ProcessReport => "process_report",
            Self::ProcessBlock => "process_block",
            Self::Event => "event",
            Self::Gap => "gap",
            Self::LogBlock => "log_block",
            Self::LogFilter => "log_filter",
        }
    }

    /// Its chunks that end by `before`, oldest first.
    pub(super) async fn chunks_before(
        self,
        connection: &mut PgConnection,
        before: UnixMillis,
    ) -> Outcome<Vec<TimeRange>> {
        let rows: Vec<(Stamp, Stamp)> = sqlx::query_as(
            "select range_start, range_end from timescaledb_information.chunks
             where hypertable_schema = current_schema() and hypertable_name = $1 and range_end <= $2
             order by range_start",
        )
        .bind(self.name())
        .bind(Stamp(before))
        .fetch_all(connection)
        .await?;
        Ok(rows.into_iter().map(|(start, end)| TimeRange::new(start.0, end.0)).collect())
    }

    /// Drops the chunks within the range, whatever is in them. Returns how many there were.
    pub(super) async fn drop_chunks(
        self,
        connection: &mut PgConnection,
        range: TimeRange,
    ) -> Outcome<u64> {
        // The owner's right, which the function lends.
        let dropped: i64 = sqlx::query_scalar("select drop_stretch($1, $2, $3)")
            .bind(self.name())
            .bind(Stamp(range.start))
            .bind(Stamp(range.end))
            .fetch_one(connection)
            .await?;
        Ok(dropped.max(0) as u64)
    }
}
