//! The embedded adapters keep the contracts of their ports.

mod sqlite_history {
    use std::sync::Arc;

    use crate::history::{History, Retention, SqliteHistory};
    use crate::sqlite::testing::scratch;

    async fn open(retention: Retention) -> Arc<dyn History> {
        Arc::new(SqliteHistory::new(scratch().await, retention))
    }

    crate::history_contract!(open);
}

mod sqlite_registry {
    use std::sync::Arc;

    use crate::registry::{Registry, SqliteRegistry};
    use crate::sqlite::testing::scratch;

    async fn open() -> Arc<dyn Registry> {
        Arc::new(SqliteRegistry::new(scratch().await))
    }

    crate::registry_contract!(open);
}

mod memory_live {
    use std::sync::Arc;

    use crate::live::{LiveState, MemoryLive};

    async fn open() -> Arc<dyn LiveState> {
        Arc::new(MemoryLive::default())
    }

    crate::live_contract!(open);
}

mod local_events {
    use std::sync::Arc;

    use crate::events::{EventStream, LocalEvents};

    async fn open() -> Arc<dyn EventStream> {
        Arc::new(LocalEvents::default())
    }

    crate::events_contract!(open);
}

mod sqlite_credentials {
    use std::sync::Arc;

    use crate::credentials::{Credentials, SqliteCredentials};
    use crate::sqlite::testing::scratch;

    async fn open() -> Arc<dyn Credentials> {
        Arc::new(SqliteCredentials::new(scratch().await))
    }

    crate::credentials_contract!(open);
}

mod sqlite_alerting {
    use std::sync::Arc;

    use crate::alerting::{Alerting, SqliteAlerting};
    use crate::sqlite::testing::scratch;

    async fn open() -> Arc<dyn Alerting> {
        Arc::new(SqliteAlerting::new(scratch().await))
    }

    crate::alerting_contract!(open);
}
