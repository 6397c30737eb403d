//! The service: every route in one table, and the task that keeps the live picture.

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state, map_response};
use axum::routing::{any, delete, get, post};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate as _, SizeAbove};

use crate::assets::Assets;
use crate::live::Hub;
use crate::upstream::{Access, Alerts, Logs, Push, Upstream};
use crate::{Config, api, assets, caller, live, pages, push, security};

/// A rule with everything in it is a few kilobytes.
const FORM_BYTES_MAX: usize = 64 * 1024;

/// Serves the dashboard from what one aggregator answers.
#[derive(Debug)]
pub struct Gateway {
    shared: Shared,
}

/// What every handler may use. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) upstream: Upstream,
    pub(crate) alerts: Alerts,
    pub(crate) logs: Logs,
    pub(crate) access: Access,
    pub(crate) push: Push,
    pub(crate) hub: Arc<Hub>,
    pub(crate) assets: Arc<Assets>,
    pub(crate) config: Arc<Config>,
    /// What was refused before it came here, by name.
    pub(crate) refusals: Arc<[(&'static str, Counter)]>,
}

impl Gateway {
    /// Fails when the configuration names an origin that is none.
    pub fn new(
        config: Config,
        aggregator: proto::Link,
        metrics: &mut Registry,
    ) -> anyhow::Result<Self> {
        config.check()?;
        let alerts = Alerts::new(aggregator.clone());
        let logs = Logs::new(aggregator.clone());
        let access = Access::new(aggregator.clone());
        let push = Push::new(aggregator.clone());
        let upstream = Upstream::new(aggregator);
        let hub = Hub::new(upstream.clone(), alerts.clone(), config.viewers_max, metrics);
        let assets = Assets::embedded();
        let shared = Shared {
            upstream,
            alerts,
            logs,
            access,
            push,
            hub: Arc::new(hub),
            assets: Arc::new(assets),
            config: config.into(),
            refusals: Arc::default(),
        };
        Ok(Self { shared })
    }

    /// Shows on the health page what the process refused before it came here.
    #[must_use]
    pub fn showing<const N: usize>(mut self, refusals: [(&'static str, Counter); N]) -> Self {
        self.shared.refusals = refusals.into();
        self
    }

    /// Every path that the gateway answers, and a page for those it does not.
    pub fn router(&self) -> Router {
        let compress =
            SizeAbove::new(512).and(NotForContentType::IMAGES).and(NotForContentType::SSE);
        Router::new()
            .route("/", get(pages::fleet))
            .route("/machines/{machine}", get(pages::machine))
            .route("/machines/{machine}/processes", get(pages::processes))
            .route("/machines/{machine}/containers", get(pages::containers))
            .route("/machines/{machine}/events", get(pages::events))
            .route("/machines/{machine}/facts", get(pages::facts))
            .route("/machines/{machine}/filesystems", get(pages::filesystems))
            .route("/machines/{machine}/who", get(pages::who))
            .route("/machines/{machine}/remove", post(pages::machine_remove))
            .route("/about/health", get(pages::health))
            .merge(alert_routes())
            .merge(access_routes())
            .route("/ws", any(live::upgrade))
            .route("/static/{version}/{*path}", get(assets::serve))
            .route("/favicon.ico", get(assets::favicon))
            .route("/api/v1/machines", get(api::machines))
            .route("/api/v1/machines/{machine}", get(api::machine).delete(api::machine_remove))
            .route("/api/v1/machines/{machine}/state", get(api::state))
            .route("/api/v1/machines/{machine}/window", get(api::window))
            .route("/api/v1/machines/{machine}/processes", get(api::processes))
            .route("/api/v1/machines/{machine}/events", get(api::events))
            .route("/api/v1/machines/{machine}/thresholds", get(api::thresholds))
            .route("/api/v1/metrics", get(api::metrics))
            .route("/api/v1/alerts", get(api::alerts))
            .route("/api/v1/alerts/history", get(api::incidents))
            .route("/api/v1/alerts/dead-events", get(api::dead_events))
            .route("/api/v1/alerts/dead-events/{id}", delete(api::dead_event_discard))
            .route("/api/v1/alerts/dead-events/{id}/retry", post(api::dead_event_retry))
            .route("/api/v1/query_range", get(api::query_range))
            .merge(log_routes())
            .merge(push_routes())
            .route("/api/{*path}", any(api::not_found))
            .fallback(pages::not_found)
            .layer(CompressionLayer::new().compress_when(compress))
            .layer(from_fn_with_state(self.shared.clone(), security::reading_and_own_forms))
            .layer(map_response(security::add_headers))
            .layer(from_fn(caller::remember))
            .with_state(self.shared.clone())
    }

    /// Keeps the live picture until `shutdown`; then every open page is told goodbye before it returns.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        self.shared.hub.run(shutdown).await;
        Ok(())
    }
}

fn log_routes() -> Router<Shared> {
    Router::new()
        .route("/logs", get(pages::logs::logs))
        .route("/logs/errors", get(pages::logs::errors))
        .route("/api/v1/logs", get(api::logs::logs))
        .route("/api/v1/logs/tail", get(api::logs::tail))
        .route("/api/v1/logs/errors", get(api::logs::errors))
}

/// What programs say of themselves.
fn push_routes() -> Router<Shared> {
    Router::new()
        .route("/api/v1/push/events", post(push::events))
        .route("/api/v1/push/metrics", post(push::metrics))
        .layer(axum::extract::DefaultBodyLimit::max(model::limits::PUSH_BODY_BYTES_MAX))
}

/// How somebody logs in, and what programs prove themselves with.
fn access_routes() -> Router<Shared> {
    Router::new()
        .route("/login", get(pages::login).post(pages::log_in))
        .route("/logout", post(pages::log_out))
        .route("/add", get(pages::add).post(pages::add_with_token))
        .route("/tokens", get(pages::tokens).post(pages::token_create))
        .route("/tokens/{id}/revoke", post(pages::token_revoke))
        .layer(axum::extract::DefaultBodyLimit::max(FORM_BYTES_MAX))
}

/// Pages with forms that change what people are told about.
fn alert_routes() -> Router<Shared> {
    use pages::alerts;
    Router::new()
        .route("/alerts", get(alerts::alerts))
        .route("/alerts/new", get(alerts::rule_new))
        .route("/alerts/hint", get(alerts::rule_hint))
        .route("/alerts/save", post(alerts::rule_save))
        .route("/alerts/test", post(alerts::rule_test))
        .route("/alerts/rules/{id}", get(alerts::rule_edit))
        .route("/alerts/rules/{id}/switch", post(alerts::rule_switch))
        .route("/alerts/rules/{id}/delete", post(alerts::rule_delete))
        .route("/alerts/{alert}/acknowledge", post(alerts::acknowledge))
        .route("/alerts/silences", post(alerts::silence))
        .route("/alerts/silences/{id}/end", post(alerts::silence_end))
        .route("/alerts/channels", post(alerts::channel_save))
        // Not below `channels`: a channel may have the id `new`.
        .route("/alerts/channel-new", get(alerts::channel_new))
        .route("/alerts/channels/{id}", get(alerts::channel_edit))
        .route("/alerts/channels/{id}/delete", post(alerts::channel_delete))
        .route("/alerts/channels/{id}/test", post(alerts::channel_test))
        .route("/alerts/dead/{id}/retry", post(alerts::dead_retry))
        .route("/alerts/dead-events/{id}/retry", post(pages::dead_event_retry))
        .route("/alerts/dead-events/{id}/discard", post(pages::dead_event_discard))
        .layer(axum::extract::DefaultBodyLimit::max(FORM_BYTES_MAX))
}
