//! What every answer says to the browser, and who may open the WebSocket.

use std::net::IpAddr;

use anyhow::{Context as _, bail};
use axum::extract::{Request, State};
use axum::http::header::{
    ALLOW, CONTENT_SECURITY_POLICY, HOST, ORIGIN, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use daemon::http::Peer;

use crate::gateway::Shared;

/// Nothing inline, nothing from elsewhere, no eval: a label that gets past the escaping stays text.
const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'self'; \
                      frame-ancestors 'none'; object-src 'none'";

pub(crate) async fn add_headers(mut response: Response) -> Response {
    let always: [(HeaderName, &'static str); 5] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in always {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Nothing but reading, the dashboard's own forms, and what programs ask of REST is answered.
pub(crate) async fn reading_and_own_forms(
    State(shared): State<Shared>,
    request: Request,
    next: Next,
) -> Response {
    match *request.method() {
        Method::GET | Method::HEAD | Method::CONNECT => next.run(request).await,
        // Of the types that are taken there no page elsewhere can send one without asking first, which is not
        // answered; nor can a form.
        Method::POST if request.uri().path().starts_with("/api/v1/push/") => {
            same_origin(&shared, request, next).await
        }
        // These take nothing, so a form elsewhere could send one; but no browser sends it without its origin.
        Method::POST if request.uri().path().starts_with("/api/v1/alerts/") => {
            same_origin(&shared, request, next).await
        }
        Method::POST => {
            let allowed = &shared.config.allowed_origins;
            let checked = check_form(request.headers(), request.uri(), allowed);
            match checked {
                Ok(()) => next.run(request).await,
                Err(problem) => (StatusCode::FORBIDDEN, problem).into_response(),
            }
        }
        // No page elsewhere can send this without asking first, which is not answered; and no form can.
        Method::DELETE if request.uri().path().starts_with("/api/") => {
            same_origin(&shared, request, next).await
        }
        _ => (
            StatusCode::METHOD_NOT_ALLOWED,
            [(ALLOW, "GET, HEAD")],
            "only GET, HEAD and forms are answered here\n",
        )
            .into_response(),
    }
}

/// Whoever has no origin is no browser.
async fn same_origin(shared: &Shared, request: Request, next: Next) -> Response {
    let allowed = &shared.config.allowed_origins;
    match check_origin(request.headers(), request.uri(), allowed) {
        Ok(()) => next.run(request).await,
        Err(origin) => {
            let problem = format!("this was sent from another site: {origin}\n");
            (StatusCode::FORBIDDEN, problem).into_response()
        }
    }
}

/// A form may only be sent from a page of this dashboard: a foreign page must not be able to use the
/// browser of whoever visits it. Every browser says the origin with a POST, so one without is refused.
fn check_form(headers: &HeaderMap, uri: &Uri, allowed: &[String]) -> Result<(), &'static str> {
    if !headers.contains_key(ORIGIN) {
        return Err("this form was sent without an origin\n");
    }
    // The browser's own word, which no page can change; older ones do not say it.
    if headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site") {
        return Err("this form was sent from another site\n");
    }
    check_origin(headers, uri, allowed).map_err(|_| "this form was sent from another site\n")
}

/// `Err` names the origin that may not. A client without an `Origin` is no browser, so no foreign page
/// can be behind it.
pub(crate) fn check_origin(
    headers: &HeaderMap,
    uri: &Uri,
    allowed_origins: &[String],
) -> Result<(), String> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let text = origin.to_str().unwrap_or("(not text)");
    if allowed_origins.iter().any(|allowed| allowed.trim_end_matches('/') == text) {
        return Ok(());
    }
    let same = match (authority_of(text), host(headers, uri)) {
        (Ok(origin), Some(host)) => origin.eq_ignore_ascii_case(host),
        _ => false,
    };
    if same { Ok(()) } else { Err(text.chars().take(200).collect()) }
}

/// `https://dash.example.org:8443` → `dash.example.org:8443`.
pub(crate) fn authority_of(origin: &str) -> anyhow::Result<String> {
    let uri: Uri = origin.parse().context("not an origin")?;
    match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(authority)) => Ok(authority.to_string()),
        _ => bail!("an origin has a scheme and a host"),
    }
}

/// Whether nobody between browser and server can read along, as far as we are told.
pub(crate) fn is_secure(peer: Option<Peer>, headers: &HeaderMap) -> bool {
    peer.is_some_and(|peer| peer.tls)
        || headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https")
}

/// Where an attempt to log in comes from. A proxy on this machine is believed about whom it speaks for; what
/// others say of themselves is not.
pub(crate) fn client_address(peer: Option<Peer>, headers: &HeaderMap) -> String {
    let Some(peer) = peer else { return "unknown".to_owned() };
    let address = peer.address.ip().to_canonical();
    let said = headers.get_all("x-forwarded-for").into_iter().next_back();
    // The last entry is the proxy's own; those before it are whatever its client sent.
    let said = said.and_then(|said| said.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
    let said: Option<IpAddr> = said.filter(|_| address.is_loopback());
    said.unwrap_or(address).to_string()
}

/// The host that the client asked for: `Host`, or `:authority` in HTTP/2.
pub(crate) fn host<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| uri.authority().map(|authority| authority.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_forms_of_this_host_are_taken() {
        fn check(origin: Option<&str>, may: bool) {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, "box:7070".parse().expect("header"));
            if let Some(origin) = origin {
                headers.insert(ORIGIN, origin.parse().expect("header"));
            }
            let answer = check_form(&headers, &Uri::from_static("/alerts/save"), &[]);
            assert_eq!(answer.is_ok(), may, "{origin:?}");
        }
        check(Some("http://box:7070"), true);
        check(Some("http://evil.example"), false);
        check(Some("null"), false);
        check(None, false);
    }

    #[test]
    fn a_proxy_is_believed_only_on_this_machine() {
        fn check(peer: &str, said: Option<&str>, expected: &str) {
            let address = format!("{peer}:1").parse().expect("an address");
            let mut headers = HeaderMap::new();
            if let Some(said) = said {
                headers.insert("x-forwarded-for", said.parse().expect("header"));
            }
            let peer = Some(Peer { address, tls: false });
            assert_eq!(client_address(peer, &headers), expected);
        }
        check("192.0.2.1", None, "192.0.2.1");
        check("192.0.2.1", Some("198.51.100.9"), "192.0.2.1");
        check("127.0.0.1", Some("10.0.0.1, 198.51.100.9"), "198.51.100.9");
        check("127.0.0.1", Some("nonsense"), "127.0.0.1");
        check("[::ffff:192.0.2.1]", None, "192.0.2.1");
    }

    #[test]
    fn only_pages_of_this_host_may_open_the_socket() {
        fn check(origin: Option<&str>, host: &str, allowed: &[&str], may: bool) {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().expect("header"));
            if let Some(origin) = origin {
                headers.insert(ORIGIN, origin.parse().expect("header"));
            }
            let allowed: Vec<String> = allowed.iter().map(|&a| a.to_owned()).collect();
            let answer = check_origin(&headers, &Uri::from_static("/ws"), &allowed);
            assert_eq!(answer.is_ok(), may, "{origin:?} at {host}");
        }
        check(None, "box:7070", &[], true);
        check(Some("http://box:7070"), "box:7070", &[], true);
        check(Some("https://BOX:7070"), "box:7070", &[], true);
        check(Some("http://[::1]:7070"), "[::1]:7070", &[], true);
        check(Some("http://box:7071"), "box:7070", &[], false);
        check(Some("http://evil.example"), "box:7070", &[], false);
        check(Some("http://box:7070.evil.example"), "box:7070", &[], false);
        check(Some("null"), "box:7070", &[], false);
        check(Some("https://dash.example"), "inner:7070", &["https://dash.example"], true);
        check(Some("https://dash.example"), "inner:7070", &["https://dash.example/"], true);
        check(Some("http://dash.example"), "inner:7070", &["https://dash.example"], false);
    }
}
