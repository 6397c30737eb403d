//! `/login` and `/logout`: how a browser becomes somebody, and nobody again.

use askama::Template;
use axum::extract::{Extension, Query, State};
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse as _, Redirect, Response};
use daemon::http::Peer;
use proto::{SESSION_COOKIES, v1};
use serde::Deserialize;
use tonic::Code;

use super::Page;
use super::alerts::Fields;
use super::page::html_with;
use crate::gateway::Shared;
use crate::view::millis;
use crate::{api, security};

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    page: Page,
    problem: String,
    name: String,
    next: String,
    /// Nobody in between can read along.
    secure: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Form {
    name: String,
    password: String,
    next: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Where {
    next: String,
}

pub(crate) async fn login(
    State(shared): State<Shared>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    uri: Uri,
    Query(Where { next }): Query<Where>,
) -> Response {
    let secure = security::is_secure(peer.map(|peer| peer.0), &headers);
    let page = Page::new(&shared, &uri, "login");
    let (problem, name) = (String::new(), String::new());
    html_with(StatusCode::OK, &LoginPage { page, problem, name, next, secure })
}

pub(crate) async fn log_in(
    State(shared): State<Shared>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    uri: Uri,
    Fields(form): Fields<Form>,
) -> Response {
    let peer = peer.map(|peer| peer.0);
    let secure = security::is_secure(peer, &headers);
    let Form { name, password, next } = form;
    let address = security::client_address(peer, &headers);
    let request = v1::LogInRequest { name: name.clone(), password, address };
    match shared.access.log_in(request).await {
        Ok(session) => {
            let expires = millis(session.expires.as_ref()).unwrap_or_default();
            let seconds = (expires - api::now_ms()).max(0) / 1000;
            let mut response = Redirect::to(&here(&next)).into_response();
            set_cookie(&mut response, secure, &session.secret, seconds);
            response
        }
        Err(status) => {
            let (code, problem) = match status.code() {
                Code::Unimplemented => {
                    (StatusCode::OK, "This server asks nobody who they are.".to_owned())
                }
                Code::Unauthenticated => {
                    (StatusCode::UNAUTHORIZED, "Name and password do not fit.".to_owned())
                }
                Code::ResourceExhausted => {
                    (StatusCode::TOO_MANY_REQUESTS, format!("Not now: {}.", status.message()))
                }
                _ => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!("Nobody can log in just now: {}", status.message()),
                ),
            };
            let page = Page::new(&shared, &uri, "login");
            html_with(code, &LoginPage { page, problem, name, next, secure })
        }
    }
}

pub(crate) async fn log_out(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let mut response = Redirect::to("./login").into_response();
    for secret in sessions(&headers) {
        // When nobody answers, the browser forgets it all the same.
        if let Err(status) = shared.access.log_out(secret).await {
            tracing::warn!(error = status.message(), "a session could not be ended");
        }
    }
    for secure in [true, false] {
        set_cookie(&mut response, secure, "", 0);
    }
    response
}

fn sessions(headers: &HeaderMap) -> Vec<String> {
    let cookies = headers.get_all(COOKIE).into_iter().filter_map(|cookie| cookie.to_str().ok());
    let pairs = cookies.flat_map(|cookies| cookies.split(';'));
    let pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
    pairs
        .filter(|(name, _)| SESSION_COOKIES.contains(name))
        .map(|(_, secret)| secret.to_owned())
        .take(SESSION_COOKIES.len())
        .collect()
}

/// `Lax` and not `Strict`, so that the link in a message opens the page it names. What changes something is
/// sent by POST, which a page elsewhere can only send without this cookie.
fn set_cookie(response: &mut Response, secure: bool, secret: &str, seconds: i64) {
    let [safe, plain] = SESSION_COOKIES;
    let (name, more) = if secure { (safe, "; Secure") } else { (plain, "") };
    let cookie =
        format!("{name}={secret}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{more}");
    if let Ok(value) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(SET_COOKIE, value);
    }
}

/// Only ever a place of this dashboard, whatever was asked for: it begins with `./`.
fn here(next: &str) -> String {
    let path = next.trim_start_matches('/');
    let plain = |c: char| c.is_ascii_graphic() && c != '\\' && c != '"';
    match next.starts_with('/') && !next.starts_with("//") && path.chars().all(plain) {
        true => format!("./{path}"),
        false => "./".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_login_one_is_still_here() {
        fn check(next: &str, expected: &str) {
            assert_eq!(here(next), expected, "{next}");
        }
        check("", "./");
        check("/", "./");
        check("/machines/a?range=1h", "./machines/a?range=1h");
        check("//evil.example", "./");
        check("/\\evil.example", "./");
        check("https://evil.example", "./");
        check("/a\r\nset-cookie: x=y", "./");
        check("javascript:alert(1)", "./");
    }

    #[test]
    fn a_cookie_is_for_this_server_alone() {
        let mut response = ().into_response();
        set_cookie(&mut response, true, "abc", 60);
        set_cookie(&mut response, false, "abc", 60);
        let cookies: Vec<_> = response.headers().get_all(SET_COOKIE).iter().collect();
        assert_eq!(
            cookies,
            [
                "__Host-muster_session=abc; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure",
                "muster_session=abc; Path=/; Max-Age=60; HttpOnly; SameSite=Lax"
            ]
        );
    }
}
