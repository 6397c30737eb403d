//! Names under which a server that asks nobody answers.
//!
//! A site elsewhere can let its own name lead to this machine (DNS rebinding). To the browser its page and
//! this server are then one site, so the `Origin` is right and every answer can be read. What gives it away
//! is the name that the browser asked for.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::Request;
use axum::http::Uri;
use axum::http::header::HOST;
use axum::http::uri::Authority;

/// What a refusal repeats of a name.
const SHOWN_CHARS_MAX: usize = 100;

/// Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hosts {
    /// Whoever asks must say who they are, or strangers are welcome anyway.
    Any,
    /// This machine's own names, and these.
    Own(Arc<[String]>),
}

impl Hosts {
    /// `origins`: of pages that may open the WebSocket, which are this server's under another name.
    pub(crate) fn new(
        listen: SocketAddr,
        guarded: bool,
        hosts: &[String],
        origins: &[String],
    ) -> Self {
        if guarded || !listen.ip().to_canonical().is_loopback() {
            return Self::Any;
        }
        let of_origin = |origin: &String| Some(origin.parse::<Uri>().ok()?.host()?.to_owned());
        let origins = origins.iter().filter_map(of_origin);
        Self::Own(hosts.iter().cloned().chain(origins).collect())
    }

    /// `Err`: the name that is none of ours.
    pub(super) fn check(&self, request: &Request) -> Result<(), String> {
        let Self::Own(public) = self else { return Ok(()) };
        let headers = request.headers().get_all(HOST).into_iter();
        let headers = headers.map(|host| host.to_str().unwrap_or("(not text)"));
        // HTTP/2 names it here, and so may HTTP/1.1, beside the header: none may be strange.
        let target = request.uri().authority().map(Authority::as_str);
        let mut named = false;
        for name in headers.chain(target) {
            named = true;
            if !is_ours(name, public) {
                return Err(name.chars().take(SHOWN_CHARS_MAX).collect());
            }
        }
        if named { Ok(()) } else { Err(String::new()) }
    }
}

/// `localhost:7070`, `127.0.0.1`, `[::1]:7070` or a public name, at any port.
fn is_ours(name: &str, public: &[String]) -> bool {
    let Ok(authority) = name.parse::<Authority>() else { return false };
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    if address.is_ok_and(|address| address.to_canonical().is_loopback()) {
        return true;
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || public.iter().any(|public| host.eq_ignore_ascii_case(public))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    const LOOPBACK: &str = "127.0.0.1:7070";

    fn hosts(listen: &str, guarded: bool, names: &[&str], origins: &[&str]) -> Hosts {
        let owned = |texts: &[&str]| texts.iter().map(|&t| t.to_owned()).collect::<Vec<_>>();
        let listen = listen.parse().expect("an address");
        Hosts::new(listen, guarded, &owned(names), &owned(origins))
    }

    fn request(uri: &str, names: &[&str]) -> Request {
        let mut request = Request::builder().uri(uri);
        for name in names {
            request = request.header(HOST, *name);
        }
        request.body(Body::empty()).expect("a request")
    }

    #[test]
    fn only_names_of_this_machine_are_answered() {
        fn check(name: &str, may: bool) {
            let hosts = hosts(LOOPBACK, false, &["dash.example"], &["https://box.example:8443"]);
            assert_eq!(hosts.check(&request("/", &[name])).is_ok(), may, "{name}");
        }
        check("localhost:7070", true);
        check("LOCALHOST", true);
        check("localhost.:8080", true);
        check("127.0.0.1:7070", true);
        check("127.8.9.1", true);
        check("[::1]:7070", true);
        check("[::ffff:127.0.0.1]", true);
        check("dash.example:443", true);
        check("Dash.Example", true);
        check("box.example", true);
        check("evil.example:7070", false);
        check("localhost.evil.example", false);
        check("127.0.0.1.evil.example", false);
        check("x.dash.example", false);
        check("localhost:7070@evil.example", false);
        check("192.0.2.1:7070", false);
        check("0.0.0.0:7070", false);
        check("[::2]", false);
        check("", false);
        check("local host", false);
    }

    #[test]
    fn every_name_in_a_request_counts_and_one_there_must_be() {
        fn check(uri: &str, names: &[&str], expected: Result<(), &str>) {
            let found = hosts(LOOPBACK, false, &[], &[]).check(&request(uri, names));
            assert_eq!(found, expected.map_err(str::to_owned), "{uri} {names:?}");
        }
        check("http://localhost:7070/", &[], Ok(()));
        check("http://evil.example/", &[], Err("evil.example"));
        check("http://evil.example/", &["localhost"], Err("evil.example"));
        check("http://localhost/", &["evil.example"], Err("evil.example"));
        check("/", &["localhost", "evil.example"], Err("evil.example"));
        check("/", &[], Err(""));
    }

    #[test]
    fn where_people_must_say_who_they_are_or_strangers_are_let_in_any_name_will_do() {
        fn check(listen: &str, guarded: bool, any: bool) {
            let hosts = hosts(listen, guarded, &[], &[]);
            assert_eq!(hosts == Hosts::Any, any, "{listen} {guarded}");
        }
        check(LOOPBACK, false, false);
        check("[::1]:7070", false, false);
        check(LOOPBACK, true, true);
        check("0.0.0.0:7070", false, true);
        check("0.0.0.0:7070", true, true);
    }
}
