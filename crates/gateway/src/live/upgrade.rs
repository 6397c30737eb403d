//! From a request to a viewer: who may, and how many.

use axum::extract::{Extension, State, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use daemon::http::CutOff;

use super::viewer::Viewer;
use crate::gateway::Shared;
use crate::security;

/// What a viewer says is a few machine ids.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// What may wait inside the socket before it is closed.
const WRITE_BYTES_MAX: usize = 1024 * 1024;

pub(crate) async fn upgrade(
    State(shared): State<Shared>,
    cut_off: Option<Extension<CutOff>>,
    headers: HeaderMap,
    uri: Uri,
    socket: WebSocketUpgrade,
) -> Response {
    let hub = &shared.hub;
    let allowed = &shared.config.allowed_origins;
    if let Err(origin) = security::check_origin(&headers, &uri, allowed) {
        hub.metrics.viewers_refused.inc();
        tracing::warn!(%origin, "refused a WebSocket from another site");
        let text = "this WebSocket is only for pages of this server; behind a proxy that rewrites \
                    the Host header, name the origin in gateway.allowed_origins\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    let Ok(place) = hub.places.clone().try_acquire_owned() else {
        hub.metrics.viewers_refused.inc();
        let text = format!("all {} places for live pages are taken\n", hub.viewers_max);
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    };
    // Taken before the answer goes out, so that a shutdown in between waits for this viewer too.
    let task = hub.tasks.token();
    let hub = shared.hub.clone();
    let assets = shared.assets.clone();
    socket
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
        .max_write_buffer_size(WRITE_BYTES_MAX)
        .on_upgrade(move |socket| async move {
            let viewer = Viewer::new(hub, socket).run(assets.version());
            match cut_off {
                Some(Extension(cut_off)) => tokio::select! {
                    () = viewer => {}
                    // Whoever comes back is asked to log in.
                    () = cut_off.cut() => {}
                },
                None => viewer.await,
            }
            drop((place, task));
        })
}
