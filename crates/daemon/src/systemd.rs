//! Tells systemd how the process does, where systemd started it and wants to know (`Type=notify`).
//!
//! Elsewhere every call does nothing.

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

/// Says that the process is up: what is ordered after it may start.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Feeds the watchdog, and says when the process begins to stop. Runs until it is dropped, on the runtime
/// that does the work: when that is stuck, nothing is fed, and systemd starts the process again.
pub async fn attend(shutdown: CancellationToken) {
    let stopping = async {
        shutdown.cancelled().await;
        notify(&[NotifyState::Stopping]);
    };
    tokio::join!(stopping, feed_watchdog());
}

async fn feed_watchdog() {
    let Some(timeout) = sd_notify::watchdog_enabled() else { return };
    // Two that are late in a row are needed for a restart.
    let mut interval = tokio::time::interval(timeout / 3);
    loop {
        interval.tick().await;
        notify(&[NotifyState::Watchdog]);
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "failed to notify the service manager");
    }
}
