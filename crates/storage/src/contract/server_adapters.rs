//! The server adapters keep the same contracts, where there are servers.

mod redis_live {
    use std::sync::Arc;

    use crate::live::{LiveState, RedisLive};
    use crate::testing;

    async fn open() -> Arc<dyn LiveState> {
        Arc::new(RedisLive::new(testing::redis().await.expect("there is a server")))
    }

    crate::live_contract!(needs "MUSTER_TEST_REDIS_URL", open);
}

mod redis_events {
    use std::sync::Arc;

    use crate::events::{EventStream, RedisEvents};
    use crate::testing;

    async fn open() -> Arc<dyn EventStream> {
        let redis = testing::redis().await.expect("there is a server");
        Arc::new(RedisEvents::open(redis).await.expect("opened"))
    }

    crate::events_contract!(needs "MUSTER_TEST_REDIS_URL", open);
}

mod timescale_history {
    use std::sync::Arc;

    use crate::history::{History, Retention, TimescaleHistory};
    use crate::testing;

    async fn open(retention: Retention) -> Arc<dyn History> {
        let timescale = testing::timescale().await.expect("there is a server");
        Arc::new(TimescaleHistory::new(timescale, retention))
    }

    crate::history_contract!(needs "MUSTER_TEST_TIMESCALE_URL", open);
}

mod timescale_registry {
    use std::sync::Arc;

    use crate::registry::{Registry, TimescaleRegistry};
    use crate::testing;

    async fn open() -> Arc<dyn Registry> {
        let timescale = testing::timescale().await.expect("there is a server");
        Arc::new(TimescaleRegistry::new(timescale))
    }

    crate::registry_contract!(needs "MUSTER_TEST_TIMESCALE_URL", open);
}

mod timescale_credentials {
    use std::sync::Arc;

    use crate::credentials::{Credentials, TimescaleCredentials};
    use crate::testing;

    async fn open() -> Arc<dyn Credentials> {
        let timescale = testing::timescale().await.expect("there is a server");
        Arc::new(TimescaleCredentials::new(timescale))
    }

    crate::credentials_contract!(needs "MUSTER_TEST_TIMESCALE_URL", open);
}

mod timescale_alerting {
    use std::sync::Arc;

    use crate::alerting::{Alerting, TimescaleAlerting};
    use crate::testing;

    async fn open() -> Arc<dyn Alerting> {
        let timescale = testing::timescale().await.expect("there is a server");
        Arc::new(TimescaleAlerting::new(timescale))
    }

    crate::alerting_contract!(needs "MUSTER_TEST_TIMESCALE_URL", open);
}
