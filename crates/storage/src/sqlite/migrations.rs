//! The schema, step by step. A file is added to `migrations/sqlite/` and listed here, and never changed
//! again.

use std::path::Path;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{SqlSafeStr as _, SqliteConnection};

use super::error;
use crate::StorageError;

const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "history", include_str!("../../../../migrations/sqlite/0001_history.sql")),
    (2, "alerting", include_str!("../../../../migrations/sqlite/0002_alerting.sql")),
    (3, "unused_layouts", include_str!("../../../../migrations/sqlite/0003_unused_layouts.sql")),
    (4, "access", include_str!("../../../../migrations/sqlite/0004_access.sql")),
    (5, "logs", include_str!("../../../../migrations/sqlite/0005_logs.sql")),
    (6, "open_hours", include_str!("../../../../migrations/sqlite/0006_open_hours.sql")),
    (7, "unplaced", include_str!("../../../../migrations/sqlite/0007_unplaced.sql")),
    (
        8,
        "frames_by_arrival",
        include_str!("../../../../migrations/sqlite/0008_frames_by_arrival.sql"),
    ),
];

pub(super) async fn run(
    connection: &mut SqliteConnection,
    path: &Path,
) -> Result<(), StorageError> {
    let migrations: Vec<Migration> = MIGRATIONS
        .iter()
        .map(|&(version, name, sql)| {
            Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
        })
        .collect();
    let migrator = Migrator::with_migrations(migrations);
    match migrator.run_direct(None, connection, false).await {
        Ok(()) => Ok(()),
        Err(MigrateError::VersionMissing(version)) => Err(error::version(
            path,
            format!("a newer version of Muster wrote it (schema {version})"),
        )),
        Err(MigrateError::VersionMismatch(version)) => Err(error::version(
            path,
            format!("its schema {version} is not the one of this version"),
        )),
        Err(MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _)) => {
            Err(error::opening(path, e))
        }
        Err(other) => Err(error::version(path, other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn several_processes_may_open_a_new_file_at_once() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("muster.db");
        let opened = (0..4).map(|_| crate::sqlite::Database::open(&path));
        for opened in futures::future::join_all(opened).await {
            opened.expect("opens");
        }
    }

    #[test]
    fn every_file_of_the_folder_is_listed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/sqlite");
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
