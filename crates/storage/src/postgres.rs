//! A connection to PostgreSQL with TimescaleDB: for the history and the register.

use std::fmt;
use std::future::Future;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, PgConnection, Postgres, Transaction};

use crate::breaker::Breaker;
use crate::secret::Secret;
use crate::{Connections, StorageError};

pub(crate) mod copy;
pub(crate) mod failure;
mod grant;
mod migrations;
pub(crate) mod stamp;
pub(crate) mod text;

use failure::{Failure, Outcome};
pub use migrations::Migrated;

pub(crate) const STORE: &str = "timescaledb";

/// How to reach the server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimescaleConfig {
    /// `postgres://user:password@host[:port]/database[?sslmode=verify-full]`
    pub url: Secret,
    /// Most connections at a time. Callers wait for one that is free.
    pub connections: u32,
}

impl TimescaleConfig {
    fn options(&self) -> Result<PgConnectOptions, StorageError> {
        PgConnectOptions::from_str(self.url.expose()).map_err(|_| {
            // The library's message may quote the address, and with it the password.
            failure::cannot_open(
                "its url is not of the form postgres://user:password@host[:port]/database".into(),
            )
        })
    }
}

impl Default for TimescaleConfig {
    fn default() -> Self {
        Self { url: Secret::new("postgres://muster@127.0.0.1:5432/muster"), connections: 20 }
    }
}

/// A pool of connections, with the schema in place.
pub struct Timescale {
    pool: PgPool,
    breaker: Arc<Breaker>,
}

/// When all connections are busy, or none can be made.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// No call takes longer. The server gives up a little earlier, so that nothing goes on unseen.
const CALL_TIMEOUT: Duration = Duration::from_secs(35);
const STATEMENT_TIMEOUT: &str = "30s";

impl Timescale {
    /// Connects, and brings the schema up to date.
    ///
    /// # Errors
    /// `CannotOpen` when the server does not answer, lacks TimescaleDB, or was used by a newer version.
    pub async fn open(config: &TimescaleConfig) -> Result<Arc<Self>, StorageError> {
        Self::open_with(config.options()?, config.connections).await
    }

    /// Brings the schema up to date, grants a role what a process needs that does not own it, and leaves.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when there is no such role.
    pub async fn migrate(
        config: &TimescaleConfig,
        grant_to: Option<&str>,
    ) -> Result<Migrated, StorageError> {
        Self::migrate_with(&config.options()?.disable_statement_logging(), grant_to).await
    }

    pub(crate) async fn migrate_with(
        options: &PgConnectOptions,
        grant_to: Option<&str>,
    ) -> Result<Migrated, StorageError> {
        let migrated = migrations::run(options).await?;
        if let Some(role) = grant_to {
            grant::run(options, role).await?;
        }
        Ok(migrated)
    }

    pub(crate) async fn open_with(
        options: PgConnectOptions,
        connections: u32,
    ) -> Result<Arc<Self>, StorageError> {
        let options = options
            .application_name("muster")
            .options([
                ("statement_timeout", STATEMENT_TIMEOUT),
                // Of a process that died in the middle, nothing stays locked.
                ("idle_in_transaction_session_timeout", "60s"),
                ("timezone", "UTC"),
                ("client_min_messages", "warning"),
            ])
            .disable_statement_logging();
        migrations::run(&options).await?;
        let pool = PgPoolOptions::new()
            .max_connections(connections.max(2))
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(Duration::from_secs(300))
            .connect_with(options)
            .await
            .map_err(|e| failure::cannot_open(e.to_string()))?;
        Ok(Arc::new(Self { pool, breaker: Arc::new(Breaker::new(STORE)) }))
    }

    pub fn breaker(&self) -> Arc<Breaker> {
        self.breaker.clone()
    }

    pub fn connections(&self) -> Connections {
        let open = self.pool.size() as usize;
        let busy = Some(open.saturating_sub(self.pool.num_idle()));
        Connections { open, busy, max: self.pool.options().get_max_connections() as usize }
    }

    /// Does what a port was asked for, within the time that a call may take, unless the server is known to be
    /// down.
    pub(crate) async fn call<T>(
        &self,
        call: impl Future<Output = Outcome<T>>,
    ) -> Result<T, StorageError> {
        self.breaker
            .call(async {
                match tokio::time::timeout(CALL_TIMEOUT, call).await {
                    Ok(outcome) => outcome.map_err(Failure::into),
                    Err(_) => Err(StorageError::Unavailable {
                        store: STORE,
                        reason: format!("no answer within {CALL_TIMEOUT:?}"),
                    }),
                }
            })
            .await
    }

    /// Begins to write. Dropped without commit, nothing happened.
    pub(crate) async fn write(&self) -> Outcome<Transaction<'static, Postgres>> {
        Ok(self.pool.begin().await?)
    }

    /// Begins to read: everything is seen as of the first statement, whatever is written meanwhile.
    pub(crate) async fn read(&self) -> Outcome<Transaction<'static, Postgres>> {
        Ok(self.pool.begin_with("begin isolation level repeatable read read only").await?)
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }
}

impl fmt::Debug for Timescale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timescale").field("connections", &self.connections()).finish()
    }
}

/// Rows that go in by binary `COPY`, all in one statement; nothing for no rows.
pub(crate) async fn copy_in(
    connection: &mut PgConnection,
    statement: &'static str,
    rows: copy::Rows,
) -> Outcome<()> {
    /// The protocol allows any cut; smaller messages are sent while the next is made.
    const MESSAGE_BYTES: usize = 1 << 20;
    if rows.is_empty() {
        return Ok(());
    }
    let bytes = rows.finish();
    let mut sink = connection.copy_in_raw(statement).await?;
    for message in bytes.chunks(MESSAGE_BYTES) {
        sink.send(message).await?;
    }
    sink.finish().await?;
    Ok(())
}
