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
    (5, "alerting", include_str!("../../../../migrations/timescale/0005_alerting.sql")),
    (6, "least_rights", include_str!("../../../../migrations/timescale/0006_least_rights.sql")),
];

/// Guards the making of the extension; any number that is ours alone.
const EXTENSION_LOCK: i64 = 0x6d75_7374_6572_0001;

/// What a run did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// Steps that were missing: `0001_history`.
    pub applied: Vec<String>,
    /// The latest step.
    pub schema: i64,
}

/// Brings the schema up to date. Where it is, nothing is written, so that a user without the right to change
/// it may run Muster once another has migrated.
pub(super) async fn run(options: &PgConnectOptions) -> Result<Migrated, StorageError> {
    let schema = MIGRATIONS.last().map_or(0, |(version, ..)| *version);
    let mut connection = connect(options).await?;
    let before = applied(&mut connection).await?;
    let known = migrations();
    let same = |(step, (version, checksum)): (&Migration, &(i64, Vec<u8>))| {
        step.version == *version && *step.checksum == **checksum
    };
    if before.len() == known.len() && known.iter().zip(&before).all(same) {
        let _ = connection.close().await;
        return Ok(Migrated { applied: Vec::new(), schema });
    }
    migrate(options, connection, known).await?;
    let mut connection = connect(options).await?;
    let after = applied(&mut connection).await?;
    let _ = connection.close().await;
    let new = |version: &i64| before.iter().all(|(known, _)| known != version);
    let listed = MIGRATIONS.iter().filter(|(version, ..)| {
        new(version) && after.iter().any(|(applied, _)| applied == version)
    });
    let applied = listed.map(|(version, name, _)| format!("{version:04}_{name}")).collect();
    Ok(Migrated { applied, schema })
}

fn migrations() -> Vec<Migration> {
    let step = |&(version, name, sql): &(i64, &'static str, &'static str)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    MIGRATIONS.iter().map(step).collect()
}

/// Steps that were applied, with the sums of their texts.
async fn applied(connection: &mut PgConnection) -> Result<Vec<(i64, Vec<u8>)>, StorageError> {
    let failed = |e: sqlx::Error| cannot_open(e.to_string());
    let there: bool = sqlx::query_scalar(
        "select to_regclass(quote_ident(current_schema()) || '._sqlx_migrations') is not null",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(failed)?;
    if !there {
        return Ok(Vec::new());
    }
    let steps = "select version, checksum from _sqlx_migrations where success order by version";
    sqlx::query_as(steps).fetch_all(&mut *connection).await.map_err(failed)
}

async fn migrate(
    options: &PgConnectOptions,
    mut connection: PgConnection,
    migrations: Vec<Migration>,
) -> Result<(), StorageError> {
    ensure_extension(&mut connection).await?;
    // The extension's functions are there from the next connection on.
    let _ = connection.close().await;
    let mut connection = connect(options).await?;
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
        other => StorageError::CannotOpen {
            what: STORE.to_owned(),
            reason: format!("its schema cannot be brought up to date: {other}"),
            hint: "run `muster migrate` as a user that may create tables in this database",
        },
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
    use std::str::FromStr as _;

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

    #[tokio::test]
    async fn migrating_again_does_nothing_and_needs_no_rights() {
        use crate::testing;
        let Some(url) = testing::server("MUSTER_TEST_TIMESCALE_URL") else { return };
        let options = PgConnectOptions::from_str(&url).expect("a url");
        let (schema, user) = (testing::unique("test"), testing::unique("reader"));
        let mut connection = options.connect().await.expect("the server answers");
        // The names are made of letters, digits and underscores.
        let create = format!("create schema {schema}; create role {user} login password 'x'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(&mut connection).await.expect("created");
        let own = options.clone().options([("search_path", format!("{schema},public"))]);

        let first = run(&own).await.expect("migrates");
        assert_eq!(first.applied.len(), MIGRATIONS.len());
        assert_eq!(first.applied[0], "0001_history");
        let second = run(&own).await.expect("migrates");
        assert_eq!(second, Migrated { applied: Vec::new(), schema: first.schema });

        let grant = format!(
            "grant usage on schema {schema} to {user};
             grant select on all tables in schema {schema} to {user}"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(grant)).execute(&mut connection).await.expect("granted");
        let theirs = own.clone().username(&user).password("x");
        assert_eq!(run(&theirs).await.expect("nothing to do"), second);
        // A step is missing, and they may not add it.
        let behind =
            format!("delete from {schema}._sqlx_migrations where version = {}", first.schema);
        sqlx::raw_sql(sqlx::AssertSqlSafe(behind)).execute(&mut connection).await.expect("deleted");
        let refused = run(&theirs).await.expect_err("may not").to_string();
        assert!(refused.contains("hint: run `muster migrate`"), "{refused}");
        let drop = format!("drop schema {schema} cascade; drop role {user}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(drop)).execute(&mut connection).await.expect("dropped");
        connection.close().await.expect("closed");
    }
}
