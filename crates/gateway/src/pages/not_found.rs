//! Whatever is none of ours.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

use super::page::nothing_here;
use crate::gateway::Shared;

pub(crate) async fn not_found(State(shared): State<Shared>, uri: Uri) -> Response {
    nothing_here(&shared, &uri)
}
