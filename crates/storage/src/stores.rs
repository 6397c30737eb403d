//! Opening all stores as configured.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::StorageError;
use crate::alerting::{Alerting, SqliteAlerting, TimescaleAlerting};
use crate::breaker::Breaker;
use crate::condition::{Backend, Conditions};
use crate::config::{AlertsKind, Config, EventsKind, HistoryConfig, HistoryKind, LiveKind};
use crate::credentials::{Credentials, SqliteCredentials, TimescaleCredentials};
use crate::events::{EventStream, LocalEvents, RedisEvents};
use crate::history::{History, Retention, SqliteHistory, TimescaleHistory};
use crate::live::{LiveState, MemoryLive, RedisLive};
use crate::postgres::{Migrated, Timescale, TimescaleConfig};
use crate::redis::{Redis, RedisConfig};
use crate::registry::{Registry, SqliteRegistry, TimescaleRegistry};
use crate::sqlite::Database;

/// One adapter for each port. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stores {
    pub live: Arc<dyn LiveState>,
    pub events: Arc<dyn EventStream>,
    pub history: Arc<dyn History>,
    pub registry: Arc<dyn Registry>,
    pub alerting: Arc<dyn Alerting>,
    pub credentials: Arc<dyn Credentials>,
    /// Tell which servers are down; empty when all stores are embedded.
    pub breakers: Vec<Arc<Breaker>>,
    pub conditions: Conditions,
}

/// Opens the stores; embedded ones keep their files in `data_dir`, which is created where it is missing.
///
/// # Errors
/// `CannotOpen`, with a hint, when a person must look.
pub async fn open(config: &Config, data_dir: &Path) -> Result<Stores, StorageError> {
    let mut servers = Servers::default();
    let mut conditions = Conditions::default();
    let live: Arc<dyn LiveState> = match &config.live {
        LiveKind::Memory => {
            conditions.add("live state", Backend::Memory);
            Arc::new(MemoryLive::default())
        }
        LiveKind::Redis(redis) => {
            let redis = servers.redis(redis).await?;
            conditions.add("live state", Backend::Redis(redis.clone()));
            Arc::new(RedisLive::new(redis))
        }
    };
    let events: Arc<dyn EventStream> = match &config.events {
        EventsKind::Local => {
            conditions.add("event stream", Backend::Memory);
            Arc::new(LocalEvents::default())
        }
        EventsKind::Redis(redis) => {
            let redis = servers.redis(redis).await?;
            conditions.add("event stream", Backend::Redis(redis.clone()));
            Arc::new(RedisEvents::open(redis).await?)
        }
    };
    let retention = Retention::from(&config.history);
    type Past = (Arc<dyn History>, Arc<dyn Registry>, Arc<dyn Credentials>);
    let (history, registry, credentials): Past = match &config.history.kind {
        HistoryKind::Sqlite => {
            let database = servers.file(&config.history, data_dir).await?;
            conditions.add("history", Backend::Sqlite(database.clone()));
            conditions.add("registry", Backend::Sqlite(database.clone()));
            (
                Arc::new(SqliteHistory::new(database.clone(), retention)),
                Arc::new(SqliteRegistry::new(database.clone())),
                Arc::new(SqliteCredentials::new(database)),
            )
        }
        HistoryKind::Timescale(timescale) => {
            let timescale = servers.timescale(timescale).await?;
            conditions.add("history", Backend::Timescale(timescale.clone()));
            conditions.add("registry", Backend::Timescale(timescale.clone()));
            (
                Arc::new(TimescaleHistory::new(timescale.clone(), retention)),
                Arc::new(TimescaleRegistry::new(timescale.clone())),
                Arc::new(TimescaleCredentials::new(timescale)),
            )
        }
    };
    let alerting: Arc<dyn Alerting> = match &config.alerts {
        AlertsKind::Sqlite => {
            let database = servers.file(&config.history, data_dir).await?;
            conditions.add("alerts", Backend::Sqlite(database.clone()));
            Arc::new(SqliteAlerting::new(database))
        }
        AlertsKind::Timescale(timescale) => {
            let timescale = servers.timescale(timescale).await?;
            conditions.add("alerts", Backend::Timescale(timescale.clone()));
            Arc::new(TimescaleAlerting::new(timescale))
        }
    };
    let breakers = servers.breakers;
    Ok(Stores { live, events, history, registry, alerting, credentials, breakers, conditions })
}

/// Opens the credentials alone, for a tool beside a server that runs.
///
/// # Errors
/// As [`open`].
pub async fn open_credentials(
    config: &Config,
    data_dir: &Path,
) -> Result<Arc<dyn Credentials>, StorageError> {
    Ok(match &config.history.kind {
        HistoryKind::Sqlite => {
            let database = Database::open(&file(&config.history, data_dir)?).await?;
            Arc::new(SqliteCredentials::new(database))
        }
        HistoryKind::Timescale(timescale) => {
            Arc::new(TimescaleCredentials::new(Timescale::open(timescale).await?))
        }
    })
}

/// Brings the databases up to date, each once: none where all is embedded. With a role, that one may use them
/// afterwards without owning anything.
///
/// # Errors
/// As [`open`], and when there is no such role.
pub async fn migrate(
    config: &Config,
    grant_to: Option<&str>,
) -> Result<Vec<Migrated>, StorageError> {
    let history = match &config.history.kind {
        HistoryKind::Sqlite => None,
        HistoryKind::Timescale(timescale) => Some(timescale),
    };
    let alerts = match &config.alerts {
        AlertsKind::Timescale(timescale) if Some(timescale) != history => Some(timescale),
        AlertsKind::Sqlite | AlertsKind::Timescale(_) => None,
    };
    let mut migrated = Vec::new();
    for timescale in history.into_iter().chain(alerts) {
        migrated.push(Timescale::migrate(timescale, grant_to).await?);
    }
    Ok(migrated)
}

/// What was connected to or opened; what serves several ports is so once.
#[derive(Default)]
struct Servers {
    redis: Vec<(RedisConfig, Arc<Redis>)>,
    timescale: Vec<(TimescaleConfig, Arc<Timescale>)>,
    file: Option<Arc<Database>>,
    breakers: Vec<Arc<Breaker>>,
}

impl Servers {
    async fn redis(&mut self, config: &RedisConfig) -> Result<Arc<Redis>, StorageError> {
        if let Some((_, redis)) = self.redis.iter().find(|(known, _)| known == config) {
            return Ok(redis.clone());
        }
        let redis = Redis::open(config).await?;
        self.breakers.push(redis.breaker());
        self.redis.push((config.clone(), redis.clone()));
        Ok(redis)
    }

    async fn timescale(
        &mut self,
        config: &TimescaleConfig,
    ) -> Result<Arc<Timescale>, StorageError> {
        if let Some((_, timescale)) = self.timescale.iter().find(|(known, _)| known == config) {
            return Ok(timescale.clone());
        }
        let timescale = Timescale::open(config).await?;
        self.breakers.push(timescale.breaker());
        self.timescale.push((config.clone(), timescale.clone()));
        Ok(timescale)
    }

    async fn file(
        &mut self,
        config: &HistoryConfig,
        data_dir: &Path,
    ) -> Result<Arc<Database>, StorageError> {
        if let Some(database) = &self.file {
            return Ok(database.clone());
        }
        let database = Database::open(&file(config, data_dir)?).await?;
        self.file = Some(database.clone());
        Ok(database)
    }
}

fn file(config: &HistoryConfig, data_dir: &Path) -> Result<PathBuf, StorageError> {
    let file = data_dir.join(config.path.as_deref().unwrap_or(Path::new("muster.db")));
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(|e| StorageError::CannotOpen {
            what: folder.display().to_string(),
            reason: format!("the directory cannot be created: {e}"),
            hint: "check that this user may write there, or choose another with --data-dir",
        })?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use daemon::config::load_with;

    use super::*;

    fn configured(variables: &[(&str, &str)]) -> Config {
        #[derive(Debug, Default, serde::Deserialize)]
        struct Whole {
            storage: Config,
        }
        let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        load_with::<Whole>(None, variables).expect("accepted").storage
    }

    #[test]
    fn servers_are_chosen_by_the_environment_and_their_passwords_are_not_shown() {
        let config = configured(&[
            ("MUSTER_STORAGE__LIVE__REDIS__URL", "redis://:hunter2@cache:6379/0"),
            ("MUSTER_STORAGE__EVENTS__REDIS__URL", "redis://:hunter2@cache:6379/0"),
            ("MUSTER_STORAGE__HISTORY__KIND__TIMESCALE__URL", "postgres://m:hunter2@db/muster"),
            ("MUSTER_STORAGE__ALERTS__TIMESCALE__URL", "postgres://m:hunter2@db/muster"),
        ]);
        let LiveKind::Redis(live) = &config.live else { panic!("{config:?}") };
        assert_eq!(config.events, EventsKind::Redis(live.clone()));
        let HistoryKind::Timescale(past) = &config.history.kind else { panic!("{config:?}") };
        assert_eq!(past.connections, 20);
        assert_eq!(config.alerts, AlertsKind::Timescale(past.clone()), "one server, one pool");
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named_with_a_hint_and_without_its_password() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        for variable in [
            "MUSTER_STORAGE__LIVE__REDIS__URL",
            "MUSTER_STORAGE__HISTORY__KIND__TIMESCALE__URL",
            "MUSTER_STORAGE__ALERTS__TIMESCALE__URL",
        ] {
            for url in
                ["redis://:hunter2@127.0.0.1:1", "postgres://m:hunter2@127.0.0.1:1/m", ":hunter2"]
            {
                let config = configured(&[(variable, url)]);
                let error = open(&config, folder.path()).await.expect_err("nothing is there");
                let text = error.to_string();
                assert!(text.contains("hint:") && !text.contains("hunter2"), "{text}");
            }
        }
    }

    #[tokio::test]
    async fn where_everything_is_on_servers_no_file_is_made() {
        use crate::testing;
        let Some(url) = testing::timescale_url().await else { return };
        let config = configured(&[
            ("MUSTER_STORAGE__HISTORY__KIND__TIMESCALE__URL", &url),
            ("MUSTER_STORAGE__ALERTS__TIMESCALE__URL", &url),
        ]);
        let folder = tempfile::tempdir().expect("a temporary directory");
        let stores = open(&config, folder.path()).await.expect("opened");
        assert_eq!(stores.breakers.len(), 1, "one server, one pool");
        let alerts = stores.conditions.now().into_iter().find(|c| c.holds == "alerts");
        assert_eq!(alerts.expect("is shown").store, "TimescaleDB");
        assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 0);
        assert_eq!(migrate(&config, None).await.expect("migrates").len(), 1, "the same one, once");
    }
}
