//! A connection to Redis 7 or newer, or Valkey: for live state and events.
//!
//! Every key begins with one prefix and expires by itself; `docs/reference/redis.md` lists them all. No
//! scripts and no modules: each call is one pipeline of plain commands whose order makes it safe.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use fred::clients::{Client, Pool};
use fred::interfaces::ClientLike as _;
use fred::types::Builder;
use fred::types::config::{Config as FredConfig, ReconnectPolicy, UnresponsiveConfig};
use model::MachineId;
use serde::Deserialize;

use crate::breaker::Breaker;
use crate::secret::Secret;
use crate::{Connections, StorageError};

pub(crate) mod keys;
pub(crate) mod layouts;

use keys::Keys;
use layouts::Layouts;

pub(crate) const STORE: &str = "redis";

/// For the log's filter, in front of what was chosen: each of the client's connections tells every failed
/// attempt as an error of its own, where the breaker says once that the server is away, and once that it is
/// back.
pub const QUIET: &str = "fred=off";

/// How to reach the server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// `redis://[user:password@]host[:port][/database]`, `rediss://…` with TLS.
    pub url: Secret,
    /// Begins every key.
    pub prefix: String,
    /// Connections for commands; one more follows the events.
    pub connections: usize,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: Secret::new("redis://127.0.0.1:6379"),
            prefix: "muster".to_owned(),
            connections: 4,
        }
    }
}

/// Connections that are shared, pipelined and made again by themselves.
pub struct Redis {
    pool: Pool,
    breaker: Arc<Breaker>,
    pub(crate) keys: Keys,
    pub(crate) layouts: Layouts,
    config: RedisConfig,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);
/// Commands that wait for one connection; beyond it, callers are told that the store is not available.
const WAITING_COMMANDS_MAX: usize = 10_000;

impl Redis {
    /// Connects.
    ///
    /// # Errors
    /// `CannotOpen` when the server does not answer, or not as it should.
    pub async fn open(config: &RedisConfig) -> Result<Arc<Self>, StorageError> {
        let mut builder = builder(config, COMMAND_TIMEOUT)?;
        // A connection without an answer for this long is half open: it is closed and made again.
        builder.with_connection_config(|connection| {
            connection.unresponsive = UnresponsiveConfig {
                max_timeout: Some(Duration::from_secs(5)),
                interval: Duration::from_secs(1),
            };
        });
        let pool = builder
            .build_pool(config.connections.max(1))
            .map_err(|e| cannot_open(&e.to_string()))?;
        connect(pool.init()).await?;
        Ok(Arc::new(Self {
            pool,
            breaker: Arc::new(Breaker::new(STORE)),
            keys: Keys::new(&config.prefix),
            layouts: Layouts::default(),
            config: config.clone(),
        }))
    }

    pub fn breaker(&self) -> Arc<Breaker> {
        self.breaker.clone()
    }

    pub(crate) fn connections(&self) -> Connections {
        let clients = self.pool.clients();
        let open = clients.iter().filter(|client| client.is_connected()).count();
        Connections { open, busy: None, max: clients.len() }
    }

    /// The connection of this machine: always the same one, so that calls for one machine keep their
    /// order.
    pub(crate) fn of(&self, machine: MachineId) -> &Client {
        let clients = self.pool.clients();
        &clients[(machine.as_u128() % clients.len() as u128) as usize]
    }

    /// Any connection.
    pub(crate) fn any(&self) -> &Client {
        self.pool.next()
    }

    /// Always the same connection, for what has to keep its order.
    pub(crate) fn first(&self) -> &Client {
        &self.pool.clients()[0]
    }

    /// A connection of its own, for commands that wait up to `block` for something to happen.
    pub(crate) async fn dedicated(&self, block: Duration) -> Result<Client, StorageError> {
        let client = builder(&self.config, block + COMMAND_TIMEOUT)?
            .build()
            .map_err(|e| cannot_open(&e.to_string()))?;
        connect(client.init()).await?;
        Ok(client)
    }

    /// Makes the call, unless the server is known to be down.
    pub(crate) async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, fred::error::Error>>,
    ) -> Result<T, StorageError> {
        self.breaker
            .call(async {
                // Else the first calls after a loss would each wait for their timeout.
                if !self.pool.clients().iter().any(|client| client.is_connected()) {
                    return Err(StorageError::Unavailable {
                        store: STORE,
                        reason: "no connection".to_owned(),
                    });
                }
                call.await.map_err(failed)
            })
            .await
    }
}

fn builder(config: &RedisConfig, command_timeout: Duration) -> Result<Builder, StorageError> {
    let fred = FredConfig::from_url(config.url.expose()).map_err(|_| {
        // The library's message may quote the address, and with it the password.
        cannot_open("its url is not of the form redis://[user:password@]host[:port][/database]")
    })?;
    let mut builder = Builder::from_config(fred);
    builder
        .with_config(|fred| {
            // The present does not wait for a connection to come back; the next values do as well.
            fred.fail_fast = true;
        })
        .with_performance_config(|performance| {
            performance.default_command_timeout = command_timeout;
        })
        .with_connection_config(|connection| {
            connection.connection_timeout = CONNECT_TIMEOUT;
            connection.internal_command_timeout = CONNECT_TIMEOUT;
            connection.max_command_buffer_len = WAITING_COMMANDS_MAX;
            // Not everything may be repeated: an event that was added twice happened twice.
            connection.max_command_attempts = 1;
            connection.reconnect_on_auth_error = true;
            connection.tcp.nodelay = Some(true);
        })
        // For ever, from 100 ms to 2 s.
        .set_policy(ReconnectPolicy::new_exponential(0, 100, 2_000, 2));
    Ok(builder)
}

async fn connect<T>(
    connecting: impl Future<Output = Result<T, fred::error::Error>>,
) -> Result<(), StorageError> {
    match tokio::time::timeout(OPEN_TIMEOUT, connecting).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(cannot_open(&error.to_string())),
        Err(_) => Err(cannot_open("it does not answer")),
    }
}

fn cannot_open(reason: &str) -> StorageError {
    StorageError::CannotOpen {
        what: STORE.to_owned(),
        reason: reason.to_owned(),
        hint: "check that Redis 7 or newer, or Valkey, is running and that the url, password and TLS setting are its own",
    }
}

/// What the server refuses as wrong cannot be helped by repeating it; everything else may pass.
pub(crate) fn failed(error: fred::error::Error) -> StorageError {
    use fred::error::ErrorKind;
    let reason = error.to_string();
    match error.kind() {
        ErrorKind::InvalidArgument | ErrorKind::InvalidCommand => {
            StorageError::Invalid { store: STORE, reason }
        }
        ErrorKind::Parse | ErrorKind::NotFound => StorageError::Corrupt { store: STORE, reason },
        _ => StorageError::Unavailable { store: STORE, reason },
    }
}

pub(crate) fn corrupt(what: &str, reason: &dyn fmt::Display) -> StorageError {
    StorageError::Corrupt { store: STORE, reason: format!("{what}: {reason}") }
}

/// Without the url, which holds a password.
impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("keys", &self.keys).finish_non_exhaustive()
    }
}
