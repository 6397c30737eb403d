//! Whether a process is alive, and whether it can do its work: for people, probes and load balancers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

mod process;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The health of one process: ready when every component is. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Health {
    service: &'static str,
    components: Arc<watch::Sender<Components>>,
    /// Ends whoever watches.
    pub(crate) stopping: CancellationToken,
}

/// Each component with why it is not ready; `None` when it is.
pub(crate) type Components = BTreeMap<&'static str, Option<String>>;

/// One component's say in the readiness of its process. Not ready until it says so.
#[derive(Clone, Debug)]
pub struct Readiness {
    name: &'static str,
    components: Arc<watch::Sender<Components>>,
}

impl Readiness {
    pub fn ready(&self) {
        self.set(None);
    }

    /// `reason` is shown to people: `"history does not answer"`.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    fn set(&self, reason: Option<String>) {
        self.components.send_if_modified(|components| {
            let changed = components.get(self.name) != Some(&reason);
            components.insert(self.name, reason);
            changed
        });
    }
}

/// Why a process is not ready: every component that is not, by name. `None` when all are.
pub(crate) fn blockers(components: &Components) -> Option<String> {
    let blockers: Vec<String> = components
        .iter()
        .filter_map(|(name, reason)| Some(format!("{name}: {}", reason.as_ref()?)))
        .collect();
    (!blockers.is_empty()).then(|| blockers.join("; "))
}

impl Health {
    /// `service` is what `/health` calls the process: `"muster"`, `"aggregator"`.
    pub fn new(service: &'static str) -> Self {
        let components = Arc::new(watch::Sender::new(Components::new()));
        Self { service, components, stopping: CancellationToken::new() }
    }

    /// Adds a component that must be ready for the process to be.
    pub fn component(&self, name: &'static str) -> Readiness {
        let readiness = Readiness { name, components: Arc::clone(&self.components) };
        readiness.not_ready("starting");
        readiness
    }

    /// Makes load balancers look elsewhere before the port closes.
    pub fn stop(&self) {
        self.component("process").not_ready("stopping");
        self.stopping.cancel();
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Components> {
        self.components.subscribe()
    }

    fn blockers(&self) -> Option<String> {
        blockers(&self.components.borrow())
    }

    /// `/healthz` (alive), `/readyz` (503 with the reason when not ready), `/health` (both, as JSON), `/metrics`.
    pub fn router(&self, metrics: Arc<Mutex<Registry>>) -> Router {
        process::register(&mut metrics.lock().unwrap_or_else(PoisonError::into_inner));
        Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .route("/health", get(health))
            .with_state(self.clone())
            .route("/metrics", get(scrape).with_state(metrics))
    }
}

async fn readyz(State(health): State<Health>) -> Response {
    match health.blockers() {
        None => "ready\n".into_response(),
        Some(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")).into_response()
        }
    }
}

/// What `/health` says, in this order.
#[derive(Serialize)]
struct Report {
    status: &'static str,
    service: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

async fn health(State(health): State<Health>) -> Response {
    let reason = health.blockers();
    let (code, status) = match reason {
        None => (StatusCode::OK, "healthy"),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "unhealthy"),
    };
    (code, axum::Json(Report { status, service: health.service, reason })).into_response()
}

async fn scrape(State(metrics): State<Arc<Mutex<Registry>>>) -> Response {
    let mut text = String::new();
    // Locked for the encoding only; registering after the start is rare.
    let metrics = metrics.lock().unwrap_or_else(PoisonError::into_inner);
    match prometheus_client::encoding::text::encode(&mut text, &metrics) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
