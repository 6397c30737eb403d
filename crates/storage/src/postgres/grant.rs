//! The rights that a process needs which does not own the tables.

use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use super::STORE;
use super::failure::cannot_open;
use crate::StorageError;

/// Gives a role what aggregators and alert services need: rows, not tables. Doing it again changes nothing. Tables
/// of later steps are granted when this is done after them.
pub(super) async fn run(options: &PgConnectOptions, role: &str) -> Result<(), StorageError> {
    let failed = |e: sqlx::Error| cannot_open(e.to_string());
    let mut connection = options.connect().await.map_err(failed)?;
    let there: bool =
        sqlx::query_scalar("select exists (select 1 from pg_roles where rolname = $1)")
            .bind(role)
            .fetch_one(&mut connection)
            .await
            .map_err(failed)?;
    if !there {
        return Err(StorageError::CannotOpen {
            what: STORE.to_owned(),
            reason: format!("there is no role {role:?} to grant anything to"),
            hint: "make it first: create role muster_app login password '…'",
        });
    }
    let granted = grant(&mut connection, role).await;
    let _ = connection.close().await;
    granted.map_err(|error| StorageError::CannotOpen {
        what: STORE.to_owned(),
        reason: format!("the rights of {role:?} cannot be given: {error}"),
        hint: "run `muster migrate` as the owner of the tables",
    })
}

async fn grant(connection: &mut PgConnection, role: &str) -> Result<(), sqlx::Error> {
    let mut tx = connection.begin().await?;
    sqlx::query("select set_config('muster.role', $1, true)").bind(role).execute(&mut *tx).await?;
    // Names cannot be parameters. The steps are read alone: to add to them is the owner's.
    sqlx::raw_sql(
        "do $$
         declare
            role text := quote_ident(current_setting('muster.role'));
            ours text := quote_ident(current_schema());
         begin
            execute 'grant usage on schema ' || ours || ' to ' || role;
            execute 'grant select, insert, update, delete on all tables in schema ' || ours || ' to ' || role;
            -- A removed machine's log events are hidden up to where the sequence of their blocks stands.
            execute 'grant usage, select on all sequences in schema ' || ours || ' to ' || role;
            execute 'revoke insert, update, delete on _sqlx_migrations from ' || role;
            execute 'grant execute on function drop_stretch(text, timestamptz, timestamptz) to ' || role;
         end $$",
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await
}
