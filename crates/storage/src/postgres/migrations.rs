//! The schema, step by step. A file is added to `migrations/timescale/` and listed here, and never changed
//! again. Several processes may start at once: one migrates, the others wait.

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, SqlSafeStr as _};

use super::STORE;
use super::failure::cannot_open;
use crate::StorageError;

const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "history", include_str!("../../../../migrations/timescale/0001_history.sql")),
    (2, "open_hours", include_str!("../../../../migrations/timescale/0002_open_hours.sql")),
    (3, "logs", include_str!("../../../../migrations/timescale/0003_logs.sql")),
    (4, "access", include_str!("../../../../migrations/timescale/0004_access.sql")),
];

/// Guards the making of the extension; any number that is ours alone.
const EXTENSION_LOCK: i64 = 0x6d75_7374_6572_0001;

pub(super) async fn run(options: &PgConnectOptions) -> Result<(), StorageError> {
    let mut connection = connect(options).await?;
    ensure_extension(&mut connection).await?;
    // The extension's functions are there from the next connection on.
    let _ = connection.close().await;
    let mut connection = connect(options).await?;
    let migrations = MIGRATIONS
        .iter()
        .map(|&(version, name, sql)| {
            let kind = MigrationType::Simple;
            Migration::new(version, name.into(), kind, sql.into_sql_str(), false)
        })
        .collect();
    let migrated =
        Migrator::with_migrations(migrations).run_direct(None, &mut connection, false).await;
    let _ = connection.close().await;
    migrated.map_err(|error| match error {
        MigrateError::VersionMissing(version) => {
            newer(format!("a newer version of Muster used it (schema {version})"))
        }
        MigrateError::VersionMismatch(version) => {
            newer(format!("its schema {version} is not the one of this version"))
        }
        other => cannot_open(other.to_string()),
    })
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, StorageError> {
    options.connect().await.map_err(|e| cannot_open(e.to_string()))
}

async fn ensure_extension(connection: &mut PgConnection) -> Result<(), StorageError> {
    let failed = |e: sqlx::Error| cannot_open(e.to_string());
    let there: (bool, bool) = sqlx::query_as(
        "select exists (select 1 from pg_extension where extname = 'timescaledb'),
            exists (select 1 from pg_available_extensions where name = 'timescaledb')",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(failed)?;
    match there {
        (true, _) => return Ok(()),
        (false, false) => return Err(missing("the server has no TimescaleDB extension".into())),
        (false, true) => {}
    }
    sqlx::query("select pg_advisory_lock($1)")
        .bind(EXTENSION_LOCK)
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    // The lock goes with the connection.
    sqlx::raw_sql("create extension if not exists timescaledb with schema public")
        .execute(&mut *connection)
        .await
        .map_err(|e| missing(format!("the TimescaleDB extension cannot be created: {e}")))?;
    Ok(())
}

fn missing(reason: String) -> StorageError {
    StorageError::CannotOpen {
        what: STORE.to_owned(),
        reason,
        hint: "install TimescaleDB on the server (Debian 13: postgresql-17-timescaledb; container image: timescale/timescaledb), set shared_preload_libraries = 'timescaledb', restart it, and run `create extension timescaledb` as its administrator",
    }
}

fn newer(reason: String) -> StorageError {
    StorageError::CannotOpen {
        what: STORE.to_owned(),
        reason,
        hint: "use the version of Muster that used it last or a newer one, or another database",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_listed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/timescale");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .expect("the folder exists")
            .map(|entry| entry.expect("readable").file_name().into_string().expect("UTF-8"))
            .collect();
        files.sort();
        let listed: Vec<String> = MIGRATIONS
            .iter()
            .map(|(version, name, _)| format!("{version:04}_{name}.sql"))
            .collect();
        assert_eq!(files, listed);
    }
}
