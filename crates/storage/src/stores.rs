//! Opening all stores as configured.

use std::path::Path;
use std::sync::Arc;

use crate::alerting::{Alerting, SqliteAlerting};
use crate::config::{Config, EventsKind, HistoryKind, LiveKind};
use crate::events::{EventStream, LocalEvents};
use crate::history::{History, Retention, SqliteHistory};
use crate::live::{LiveState, MemoryLive};
use crate::registry::{Registry, SqliteRegistry};
use crate::sqlite::Database;
use crate::StorageError;

/// One adapter for each port. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stores {
    pub live: Arc<dyn LiveState>,
    pub events: Arc<dyn EventStream>,
    pub history: Arc<dyn History>,
    pub registry: Arc<dyn Registry>,
    pub alerting: Arc<dyn Alerting>,
}

/// Opens the stores; embedded ones keep their files in `data_dir`, which is created where it is missing.
///
/// # Errors
/// `CannotOpen`, with a hint, when a person must look.
pub async fn open(config: &Config, data_dir: &Path) -> Result<Stores, StorageError> {
    let live: Arc<dyn LiveState> = match config.live {
        LiveKind::Memory => Arc::new(MemoryLive::default()),
    };
    let events: Arc<dyn EventStream> = match config.events {
        EventsKind::Local => Arc::new(LocalEvents::default()),
    };
    let (history, registry, alerting): (Arc<dyn History>, Arc<dyn Registry>, Arc<dyn Alerting>) = match config.history.kind {
        HistoryKind::Sqlite => {
            let file = config.history.path.as_deref().unwrap_or(Path::new("muster.db"));
            let file = data_dir.join(file);
            if let Some(folder) = file.parent() {
                std::fs::create_dir_all(folder).map_err(|e| StorageError::CannotOpen {
                    what: folder.display().to_string(),
                    reason: format!("the directory cannot be created: {e}"),
                    hint: "check that this user may write there, or choose another with --data-dir",
                })?;
            }
            let database = Database::open(&file).await?;
            let retention = Retention::from(&config.history);
            (
                Arc::new(SqliteHistory::new(database.clone(), retention)),
                Arc::new(SqliteRegistry::new(database.clone())),
                Arc::new(SqliteAlerting::new(database)),
            )
        }
    };
    Ok(Stores { live, events, history, registry, alerting })
}
