//! Single facts about the file.

use model::UnixMillis;
use sqlx::SqliteConnection;

/// Raw values of hours before this may have been dropped.
const RAW_EXPIRED_BEFORE: &str = "raw_expired_before";

pub(super) async fn raw_expired_before(
    connection: &mut SqliteConnection,
) -> Result<UnixMillis, sqlx::Error> {
    let value: Option<i64> = sqlx::query_scalar("select value from fact where name = ?")
        .bind(RAW_EXPIRED_BEFORE)
        .fetch_optional(connection)
        .await?;
    Ok(value.map_or(UnixMillis::MIN, UnixMillis))
}

/// Never goes back.
pub(super) async fn set_raw_expired_before(
    connection: &mut SqliteConnection,
    before: UnixMillis,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into fact (name, value) values (?, ?)
         on conflict (name) do update set value = max(value, excluded.value)",
    )
    .bind(RAW_EXPIRED_BEFORE)
    .bind(before.0)
    .execute(connection)
    .await?;
    Ok(())
}
