//! Saying no, in the language of whoever asked.

use axum::Json;
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, HeaderName, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Redirect, Response};
use model::Grant;
use tonic::Status;

use super::policy::Voice;

#[derive(Debug)]
pub(super) enum Refusal {
    /// A name that is none of this server's; empty when the request has none.
    Stranger(String),
    /// A call that is none: only programs may make those.
    NoCall,
    Nobody,
    /// A secret that is nobody's.
    Invalid,
    NotAllowed(Grant),
    /// Who it is cannot be found out now.
    Unknown(Status),
}

impl Refusal {
    fn words(&self) -> String {
        match self {
            Self::Stranger(host) => format!(
                "host: expected a name of this machine such as localhost, found {host:?}: a server that \
                 asks nobody for a login answers to no other, as a site elsewhere could be behind it; \
                 hint: if a proxy passes this name on, put it into access.allowed_hosts"
            ),
            Self::NoCall => "calls are made as application/grpc, and not by pages".to_owned(),
            Self::Nobody => "who asks? send a token as \"authorization: Bearer TOKEN\"; hint: \
                             `muster token create` makes one"
                .to_owned(),
            Self::Invalid => {
                "the token is not valid: unknown, revoked or expired; hint: `muster token create` \
                 makes a new one"
                    .to_owned()
            }
            Self::NotAllowed(grant) => {
                format!("this asks for more than the token allows, which is \"{grant}\"")
            }
            Self::Unknown(status) => status.message().to_owned(),
        }
    }

    /// For HTTP, and as the word that REST uses.
    fn code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Stranger(_) => (StatusCode::MISDIRECTED_REQUEST, "failed_precondition"),
            Self::NoCall => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_argument"),
            Self::Nobody | Self::Invalid => (StatusCode::UNAUTHORIZED, "unauthenticated"),
            Self::NotAllowed(_) => (StatusCode::FORBIDDEN, "permission_denied"),
            Self::Unknown(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        }
    }
}

/// `pages`: whether there is one to log in at.
pub(super) fn response(refusal: Refusal, voice: Voice, request: &Request, pages: bool) -> Response {
    let ((status, code), words) = (refusal.code(), refusal.words());
    let mut response = match voice {
        Voice::Grpc => match refusal {
            Refusal::NoCall => (status, words + "\n").into_response(),
            Refusal::Nobody | Refusal::Invalid => Status::unauthenticated(words).into_http(),
            // Not PERMISSION_DENIED, which to a collector is a matter of its token.
            Refusal::Stranger(_) => Status::failed_precondition(words).into_http(),
            Refusal::NotAllowed(_) => Status::permission_denied(words).into_http(),
            Refusal::Unknown(status) => status.into_http(),
        },
        Voice::Json => {
            let body = serde_json::json!({
                "error": { "code": code, "field": null, "message": words }
            });
            (status, Json(body)).into_response()
        }
        Voice::Page if pages && status == StatusCode::UNAUTHORIZED => to_login(request),
        Voice::Page if pages && status == StatusCode::FORBIDDEN => {
            (status, "This account may look at everything and change nothing.\n").into_response()
        }
        Voice::Page | Voice::Plain => (status, words + "\n").into_response(),
    };
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Relative, so that it works under any path of a proxy.
fn to_login(request: &Request) -> Response {
    if request.headers().contains_key("hx-request") {
        // A fragment cannot become the page to log in at: the page around it is loaded again.
        let refresh = (HeaderName::from_static("hx-refresh"), HeaderValue::from_static("true"));
        return (StatusCode::UNAUTHORIZED, [refresh]).into_response();
    }
    let path = request.uri().path();
    let up = "../".repeat(path.matches('/').count().saturating_sub(1));
    let next = match *request.method() {
        Method::GET => request.uri().path_and_query().map_or(path, |whole| whole.as_str()),
        _ => "/",
    };
    Redirect::to(&format!("./{up}login?next={}", encoded(next))).into_response()
}

fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn a_page_leads_to_the_login_and_remembers_where_one_wanted_to_go() {
        fn check(method: Method, uri: &str, expected: &str) {
            let request = Request::builder().method(method).uri(uri).body(Body::empty());
            let request = request.expect("a request");
            let response = response(Refusal::Nobody, Voice::Page, &request, true);
            assert_eq!(response.headers()["location"], expected, "{uri}");
        }
        check(Method::GET, "/", "./login?next=/");
        check(Method::GET, "/add", "./login?next=/add");
        check(
            Method::GET,
            "/machines/a?range=1h&x",
            "./../login?next=/machines/a%3Frange%3D1h%26x",
        );
        check(Method::GET, "//evil.example", "./../login?next=//evil.example");
        check(Method::POST, "/alerts/save", "./../login?next=/");
    }

    #[test]
    fn each_is_answered_in_its_own_language() {
        let request = Request::new(Body::empty());
        let status = |voice, pages| response(Refusal::Nobody, voice, &request, pages).status();
        assert_eq!(status(Voice::Json, true), StatusCode::UNAUTHORIZED);
        assert_eq!(status(Voice::Plain, true), StatusCode::UNAUTHORIZED);
        assert_eq!(status(Voice::Page, true), StatusCode::SEE_OTHER);
        assert_eq!(status(Voice::Page, false), StatusCode::UNAUTHORIZED);
        let call = response(Refusal::Nobody, Voice::Grpc, &request, true);
        assert_eq!(call.headers()["grpc-status"], "16");
    }
}
