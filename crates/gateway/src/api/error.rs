//! What went wrong, in the one shape that all answers have.

use axum::Json;

use axum::http::header::{HeaderValue, RETRY_AFTER};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tonic::{Code, Status};

/// Becomes `{"error":{"code","field","message"}}`. `field` is null when no single one is to blame.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    field: Option<String>,
    message: String,
}

impl ApiError {
    /// A parameter that is missing or malformed.
    pub(crate) fn invalid(field: &str, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code: "invalid_argument",
            field: Some(field.to_owned()),
            message: message.into(),
        }
    }

    /// A request that is refused for what it is.
    pub(crate) fn of(
        status: StatusCode,
        code: &'static str,
        field: &str,
        message: impl Into<String>,
    ) -> Self {
        Self { status, code, field: Some(field.to_owned()), message: message.into() }
    }

    /// What was asked for is clear, and cannot be done as things are.
    pub(crate) fn refused(status: Status) -> Self {
        let conflict = status.code() == Code::FailedPrecondition;
        let error = Self::from(status);
        Self { code: if conflict { "failed_precondition" } else { error.code }, ..error }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

impl From<Status> for ApiError {
    fn from(status: Status) -> Self {
        let (http, code) = match status.code() {
            Code::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Code::InvalidArgument | Code::OutOfRange => {
                (StatusCode::BAD_REQUEST, "invalid_argument")
            }
            // The name fits several machines: say which one.
            Code::FailedPrecondition => (StatusCode::CONFLICT, "ambiguous"),
            Code::ResourceExhausted => (StatusCode::TOO_MANY_REQUESTS, "resource_exhausted"),
            Code::PermissionDenied => (StatusCode::FORBIDDEN, "permission_denied"),
            Code::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded"),
            Code::Unimplemented => (StatusCode::NOT_IMPLEMENTED, "unimplemented"),
            // In the chain from client to service everything else means: not reached.
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Aborted => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
            }
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        let field = match http {
            StatusCode::BAD_REQUEST => named_field(status.message()).map(str::to_owned),
            _ => None,
        };
        Self { status: http, code, field, message: status.message().to_owned() }
    }
}

/// The aggregator's messages begin with the field: `step: expected …`.
fn named_field(message: &str) -> Option<&str> {
    let (field, _) = message.split_once(':')?;
    let is_path = |c: char| c.is_ascii_alphanumeric() || "_.[]".contains(c);
    (!field.is_empty() && field.chars().all(is_path)).then_some(field)
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            tracing::warn!(code = self.code, reason = %self.message, "could not answer");
        }
        let body = json!({
            "error": { "code": self.code, "field": self.field, "message": self.message }
        });
        let mut response = (self.status, Json(body)).into_response();
        // What is full or away now may not be so in a moment.
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

pub(crate) async fn not_found(uri: Uri) -> ApiError {
    ApiError {
        status: StatusCode::NOT_FOUND,
        code: "not_found",
        field: None,
        message: format!("there is nothing at {}; try /api/v1/machines", uri.path()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_to_blame_is_named() {
        fn check(message: &str, field: Option<&str>) {
            assert_eq!(named_field(message), field, "{message}");
        }
        check("step: expected at least 100 ms", Some("step"));
        check("labels[0].op: unknown operator 9", Some("labels[0].op"));
        check("no machine: web-1", None);
        check("nothing to blame", None);
        check(": odd", None);
    }
}
