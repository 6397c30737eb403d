//! Single facts about the file.

use model::UnixMillis;
use sqlx::SqliteConnection;

/// Raw values of hours before this may have been dropped.
const RAW_EXPIRED_BEFORE: &str = "raw_expired_before";

/// Whether all raw values of an hour that the tiers were made from are kept. An hour that is open was asked when it
/// was opened, and keeps them until it is closed; another one loses them all at once.
pub(super) async fn raw_is_complete(
    connection: &mut SqliteConnection,
    machine: i64,
    hour: UnixMillis,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select coalesce(
            (select complete from open_hour where machine_id = ?1 and hour = ?2),
            not exists (select 1 from fact where name = ?3 and value > ?2)
                or exists (select 1 from block where hour = ?2 and machine_id = ?1))",
    )
    .bind(machine)
    .bind(hour.0)
    .bind(RAW_EXPIRED_BEFORE)
    .fetch_one(connection)
    .await
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
