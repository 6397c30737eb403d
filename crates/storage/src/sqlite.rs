//! The SQLite file behind the embedded history and the embedded registry.
//!
//! One connection writes, a few read; with a write-ahead log neither waits for the other. A commit is on
//! disk when it returns (`synchronous = full`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Sqlite, SqlitePool, Transaction};

use crate::{Connections, StorageError};

mod error;
mod json;
mod migrations;
mod rows;
#[cfg(test)]
pub(crate) mod testing;

pub(crate) use json::{labels_from_json, labels_to_json, list_to_json};
pub(crate) use rows::insert;

/// How this store is called in errors.
pub(crate) const STORE: &str = "the database";

/// Connections that read at the same time; further readers wait.
const READERS: u32 = 4;
/// 4 MiB: what one commit changes. Frames lie in the order they came, so a larger one holds pages that nobody needs
/// again: 16 MiB took as much CPU with a thousand machines.
const WRITER_CACHE: &str = "-4096";
/// What a reader that nobody needs any more may stay for.
const READER_IDLE: Duration = Duration::from_secs(60);
/// The log is moved into the file when it has this many pages (16 MiB)…
const CHECKPOINT_PAGES: &str = "4096";
/// …and is cut to this size when a burst made it longer.
const LOG_BYTES_MAX: &str = "67108864";

/// An open database file.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    /// One connection: transactions that write queue here, in order.
    writer: SqlitePool,
    readers: SqlitePool,
    /// Removed with the database.
    #[cfg(test)]
    scratch: Option<tempfile::TempDir>,
}

/// Several processes may open a new file at the same moment, such as `muster token` beside a server that
/// starts. One at a time makes the file, switches its journal and takes the steps of its schema: SQLite's
/// own waiting does not cover the switch. Where directories cannot be locked, whoever comes second fails.
async fn turn(path: &Path) -> Option<std::fs::File> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let locked = tokio::task::spawn_blocking(move || {
        let folder = std::fs::File::open(folder)?;
        folder.lock()?;
        std::io::Result::Ok(folder)
    });
    locked.await.ok()?.ok()
}

impl Database {
    /// Opens the file, creates it where it is missing, and brings its schema up to date.
    ///
    /// # Errors
    /// `CannotOpen`, with a hint, when a person must look: no permission, not a database, written by a
    /// newer version.
    pub async fn open(path: &Path) -> Result<Arc<Self>, StorageError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .auto_vacuum(SqliteAutoVacuum::Incremental)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(false)
            .busy_timeout(Duration::from_secs(5))
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
            .pragma("journal_size_limit", LOG_BYTES_MAX)
            // Nothing is ever spilled to a temporary file, which might be on another, full disk.
            .pragma("temp_store", "memory")
            .disable_statement_logging();
        let turn = turn(path).await;
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .acquire_timeout(Duration::from_secs(60))
            .connect_with(options.clone().pragma("cache_size", WRITER_CACHE))
            .await
            .map_err(|e| error::opening(path, e))?;
        let mut first = writer.acquire().await.map_err(|e| error::opening(path, e))?;
        migrations::run(&mut first, path).await?;
        drop(first);
        drop(turn);
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .min_connections(0)
            .idle_timeout(READER_IDLE)
            .max_lifetime(None)
            .test_before_acquire(false)
            .acquire_timeout(Duration::from_secs(30))
            .connect_lazy_with(options.pragma("cache_size", "-2048").pragma("query_only", "true"));
        Ok(Arc::new(Self {
            path: path.to_owned(),
            writer,
            readers,
            #[cfg(test)]
            scratch: None,
        }))
    }

    /// Of readers and the writer together.
    pub(crate) fn connections(&self) -> Connections {
        let pools = [&self.writer, &self.readers];
        let open: usize = pools.iter().map(|pool| pool.size() as usize).sum();
        let idle: usize = pools.iter().map(|pool| pool.num_idle()).sum();
        Connections { open, busy: Some(open.saturating_sub(idle)), max: READERS as usize + 1 }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins to write: waits for its turn. Dropped without commit, nothing happened.
    pub(crate) async fn write(&self) -> Result<Transaction<'static, Sqlite>, StorageError> {
        Ok(self.writer.begin_with("begin immediate").await?)
    }

    /// Begins to read: everything is seen as of the first statement, whatever is written meanwhile.
    pub(crate) async fn read(&self) -> Result<Transaction<'static, Sqlite>, StorageError> {
        Ok(self.readers.begin().await?)
    }

    /// Gives up to `pages` free pages back to the file system.
    pub(crate) async fn shrink(&self, pages: u32) -> Result<(), StorageError> {
        let mut connection = self.writer.acquire().await?;
        // Pragmas take no parameters; a number cannot carry anything else.
        let statement = sqlx::AssertSqlSafe(format!("pragma incremental_vacuum({pages})"));
        sqlx::raw_sql(statement).execute(&mut *connection).await?;
        Ok(())
    }

    /// Moves the log into the file and cuts it to nothing, unless readers still need it.
    pub(crate) async fn empty_log(&self) -> Result<(), StorageError> {
        let mut connection = self.writer.acquire().await?;
        // Readers are not waited for: it is tried again before long.
        sqlx::raw_sql(
            "pragma busy_timeout = 20; pragma wal_checkpoint(truncate); pragma busy_timeout = 5000",
        )
        .execute(&mut *connection)
        .await?;
        Ok(())
    }

    /// Bytes of the file in use, bytes of it that are free, and bytes of the log beside it.
    pub(crate) async fn size(&self) -> Result<Size, StorageError> {
        let mut tx = self.read().await?;
        let (pages, free, page_bytes): (i64, i64, i64) = sqlx::query_as(
            "select page_count, freelist_count, page_size
             from pragma_page_count, pragma_freelist_count, pragma_page_size",
        )
        .fetch_one(&mut *tx)
        .await?;
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        let log = std::fs::metadata(log).map_or(0, |m| m.len());
        let bytes = |pages: i64| (pages * page_bytes).max(0) as u64;
        Ok(Size { used: bytes(pages - free), free: bytes(free), log })
    }

    /// Ends all connections, after what they are doing, and moves the log into the file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) used: u64,
    pub(crate) free: u64,
    pub(crate) log: u64,
}
