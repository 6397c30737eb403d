//! `/add`: the one line to paste on the next machine.

use askama::Template;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use daemon::http::Peer;
use model::{Claim, Grant};
use proto::v1;

use super::Page;
use super::page::html;
use crate::gateway::Shared;
use crate::security;

#[derive(Template)]
#[template(path = "add.html")]
struct AddPage {
    page: Page,
    server: String,
    /// The address only works on this very machine.
    loopback: bool,
    known: Vec<String>,
    /// Just made: shown this once.
    token: String,
    problem: String,
}

pub(crate) async fn add(
    State(shared): State<Shared>,
    peer: Option<Extension<Peer>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    show(&shared, peer, &uri, &headers, Ok(String::new()))
}

/// With a token for that one machine.
pub(crate) async fn add_with_token(
    State(shared): State<Shared>,
    peer: Option<Extension<Peer>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let request = v1::CreateTokenRequest {
        name: "a machine that was added".to_owned(),
        grant: Grant::Report(Claim::First).to_string(),
        expires: None,
    };
    let made = shared.access.create_token(request).await;
    let made = made.map(|made| made.secret).map_err(|status| status.message().to_owned());
    show(&shared, peer, &uri, &headers, made)
}

fn show(
    shared: &Shared,
    peer: Option<Extension<Peer>>,
    uri: &Uri,
    headers: &HeaderMap,
    made: Result<String, String>,
) -> Response {
    let secure = security::is_secure(peer.map(|peer| peer.0), headers);
    let host = security::host(headers, uri).filter(|host| is_plain(host));
    let host = host.unwrap_or("127.0.0.1:7070");
    let scheme = if secure { "https" } else { "http" };
    let (token, problem) = match made {
        Ok(token) => (token, String::new()),
        Err(problem) => (String::new(), problem),
    };
    let page = AddPage {
        page: Page::new(shared, uri, "add"),
        server: format!("{scheme}://{host}"),
        loopback: is_loopback(host),
        known: shared.hub.picture().rows.keys().cloned().collect(),
        token,
        problem,
    };
    html(&page)
}

/// The line is pasted into a shell: nothing but a host and a port may come into it.
fn is_plain(host: &str) -> bool {
    host.bytes().all(|c| c.is_ascii_alphanumeric() || b".:-[]".contains(&c))
}

fn is_loopback(host: &str) -> bool {
    host.starts_with("127.") || host.starts_with("localhost") || host.starts_with("[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pasted_into_a_shell_is_only_a_host() {
        fn check(host: &str, plain: bool) {
            assert_eq!(is_plain(host), plain, "{host}");
        }
        check("box.example.org:7070", true);
        check("[::1]:7070", true);
        check("box;rm", false);
        check("box$(id)", false);
        check("box space", false);
    }
}
