//! What each path asks of its caller: one table for pages, REST and gRPC.

use axum::http::Method;
use model::Grant;

/// What a caller must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    /// Anybody: it tells nothing, or it is how one becomes somebody.
    Open,
    Read,
    Admin,
    /// A collector, and nobody else.
    Report,
    /// A program that pushes, or who may change everything.
    Push,
}

/// How a refusal is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Voice {
    Page,
    Json,
    Plain,
    Grpc,
}

use Policy::{Admin, Open, Push, Read, Report};
use Voice::{Grpc, Json, Page, Plain};

/// The first line that fits counts. `{x}` is one part of a path, `{*x}` all that follow. Forms come by POST.
const TABLE: &[(&str, &str, Policy, Voice)] = &[
    // Load balancers and container checks carry no token; the answers name stores, not machines.
    ("GET", "/healthz", Open, Plain),
    ("GET", "/readyz", Open, Plain),
    ("GET", "/health", Open, Plain),
    ("GET", "/metrics", Read, Plain),
    // How one becomes somebody, and what its page looks like.
    ("GET", "/login", Open, Page),
    ("POST", "/login", Open, Page),
    ("POST", "/logout", Open, Page),
    ("GET", "/static/{version}/{*path}", Open, Plain),
    ("GET", "/favicon.ico", Open, Plain),
    // Pages.
    ("GET", "/", Read, Page),
    ("GET", "/machines/{*page}", Read, Page),
    ("POST", "/machines/{machine}/remove", Admin, Page),
    ("GET", "/logs", Read, Page),
    ("GET", "/logs/{*page}", Read, Page),
    ("GET", "/about/{*page}", Read, Page),
    ("GET", "/add", Read, Page),
    ("POST", "/add", Admin, Page),
    ("GET", "/tokens", Admin, Page),
    ("POST", "/tokens", Admin, Page),
    ("POST", "/tokens/{*action}", Admin, Page),
    ("GET", "/alerts", Read, Page),
    ("GET", "/alerts/{*page}", Read, Page),
    ("POST", "/alerts/{*action}", Admin, Page),
    ("GET", "/ws", Read, Plain),
    // REST.
    ("POST", "/api/v1/push/{what}", Push, Json),
    ("POST", "/api/v1/alerts/{*action}", Admin, Json),
    ("GET", "/api/{*path}", Read, Json),
    ("DELETE", "/api/{*path}", Admin, Json),
    ("GET", "/prometheus/{*path}", Read, Json),
    ("POST", "/prometheus/{*path}", Read, Json),
    // gRPC. Which services there are is public, so reflection only asks for somebody.
    ("POST", "/grpc.health.v1.Health/{rpc}", Open, Grpc),
    ("POST", "/grpc.reflection.v1.ServerReflection/{rpc}", Read, Grpc),
    ("POST", "/grpc.reflection.v1alpha.ServerReflection/{rpc}", Read, Grpc),
    ("POST", "/muster.v1.CollectorService/{rpc}", Report, Grpc),
    ("POST", "/muster.v1.PushService/{rpc}", Push, Grpc),
    ("POST", "/muster.v1.StateService/RemoveMachine", Admin, Grpc),
    ("POST", "/muster.v1.StateService/{rpc}", Read, Grpc),
    ("POST", "/muster.v1.LogService/{rpc}", Read, Grpc),
    ("POST", "/muster.v1.AlertConfigService/GetRule", Read, Grpc),
    ("POST", "/muster.v1.AlertConfigService/ListRules", Read, Grpc),
    ("POST", "/muster.v1.AlertConfigService/ListRuleChanges", Read, Grpc),
    ("POST", "/muster.v1.AlertConfigService/ListChannels", Read, Grpc),
    ("POST", "/muster.v1.AlertConfigService/TestRule", Read, Grpc),
    ("POST", "/muster.v1.AlertConfigService/{rpc}", Admin, Grpc),
    ("POST", "/muster.v1.AlertService/ListActive", Read, Grpc),
    ("POST", "/muster.v1.AlertService/ListHistory", Read, Grpc),
    ("POST", "/muster.v1.AlertService/ListSilences", Read, Grpc),
    ("POST", "/muster.v1.AlertService/ListDeadNotices", Read, Grpc),
    ("POST", "/muster.v1.AlertService/FollowProbe", Read, Grpc),
    ("POST", "/muster.v1.AlertService/ListDeadEvents", Read, Grpc),
    ("POST", "/muster.v1.AlertService/{rpc}", Admin, Grpc),
    // Whoever has a secret may ask whose it is; a gateway asks for its visitors.
    ("POST", "/muster.v1.AccessService/Identify", Read, Grpc),
    ("POST", "/muster.v1.AccessService/LogIn", Read, Grpc),
    ("POST", "/muster.v1.AccessService/LogOut", Read, Grpc),
    ("POST", "/muster.v1.AccessService/{rpc}", Admin, Grpc),
];

/// What is asked at this path. What the table does not have asks for most, so that a new path is never open
/// because somebody forgot.
pub(super) fn of(method: &Method, path: &str) -> (Policy, Voice) {
    listed(method, path).unwrap_or((Admin, if is_call(path) { Grpc } else { Page }))
}

fn listed(method: &Method, path: &str) -> Option<(Policy, Voice)> {
    let method = match *method {
        // A WebSocket over HTTP/2 is opened by CONNECT.
        Method::HEAD | Method::CONNECT => "GET",
        _ => method.as_str(),
    };
    let fits = |line: &&(&str, &str, Policy, Voice)| line.0 == method && fits(line.1, path);
    TABLE.iter().find(fits).map(|&(_, _, policy, voice)| (policy, voice))
}

fn fits(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some(part), Some(_)) if part.starts_with("{*") => return true,
            (Some(part), Some(found)) if part == found => {}
            (Some(part), Some(found)) if part.starts_with('{') && !found.is_empty() => {}
            _ => return false,
        }
    }
}

/// `/package.Service/Method`.
pub(super) fn is_call(path: &str) -> bool {
    path[1.min(path.len())..].split_once('/').is_some_and(|(service, _)| service.contains('.'))
        && !path.starts_with("/static/")
}

impl Policy {
    /// Whether somebody with this grant may.
    pub(super) fn allows(self, grant: Grant) -> bool {
        match self {
            Self::Open => true,
            Self::Read => grant.covers(false),
            Self::Admin => grant.covers(true),
            Self::Report => matches!(grant, Grant::Report(_)),
            Self::Push => matches!(grant, Grant::Push | Grant::Admin),
        }
    }
}

#[cfg(test)]
mod tests {
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn what_a_path_asks_for() {
        fn check(method: &Method, path: &str, expected: Policy) {
            assert_eq!(of(method, path).0, expected, "{method} {path}");
        }
        check(&Method::GET, "/", Read);
        check(&Method::HEAD, "/machines/abc", Read);
        check(&Method::GET, "/machines/abc/processes", Read);
        check(&Method::POST, "/machines/abc", Admin);
        check(&Method::POST, "/machines/abc/remove", Admin);
        check(&Method::GET, "/api/v1/machines/abc", Read);
        check(&Method::DELETE, "/api/v1/machines/abc", Admin);
        check(&Method::POST, "/muster.v1.StateService/GetMachine", Read);
        check(&Method::POST, "/muster.v1.StateService/RemoveMachine", Admin);
        check(&Method::GET, "/login", Open);
        check(&Method::GET, "/login/", Admin);
        check(&Method::GET, "/loginx", Admin);
        check(&Method::GET, "//login", Admin);
        check(&Method::GET, "/static/v1/../../tokens", Open);
        check(&Method::GET, "/tokens", Admin);
        check(&Method::POST, "/alerts/save", Admin);
        check(&Method::DELETE, "/alerts/save", Admin);
        check(&Method::GET, "/new/path", Admin);
        check(&Method::CONNECT, "/ws", Read);
        check(&Method::POST, "/muster.v1.CollectorService/Connect", Report);
        check(&Method::POST, "/muster.v1.AlertConfigService/DeleteRule", Admin);
        check(&Method::POST, "/muster.v1.AccessService/CreateToken", Admin);
        check(&Method::POST, "/muster.v2.NewService/Do", Admin);
        check(&Method::POST, "/api/v1/push/events", Push);
        check(&Method::POST, "/api/v1/machines", Admin);
    }

    #[test]
    fn every_route_of_the_dashboard_is_in_the_table() {
        let source = include_str!("../../../gateway/src/gateway.rs");
        let mut found = 0;
        for route in source.split(".route(").skip(1) {
            let (path, handler) =
                route.split_once("\", ").expect("a path and its handler, on one line");
            let path = path.trim_start().trim_start_matches('"');
            let method = match handler.trim_start() {
                handler if handler.starts_with("post(") => Method::POST,
                _ => Method::GET,
            };
            assert!(listed(&method, path).is_some(), "no policy for {method} {path}");
            let line = handler.lines().next().unwrap_or_default();
            for (more, method) in [(").post(", Method::POST), (").delete(", Method::DELETE)] {
                if line.contains(more) {
                    assert!(listed(&method, path).is_some(), "no policy for {method} {path}");
                }
            }
            found += 1;
        }
        assert!(found > 20, "only {found} routes were found");
    }

    #[test]
    fn every_call_is_in_the_table() {
        let set: FileDescriptorSet =
            prost::Message::decode(proto::DESCRIPTOR_SET).expect("from the same build");
        let mut found = 0;
        for file in set.file.iter().filter(|file| file.package() == "muster.v1") {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/muster.v1.{}/{}", service.name(), method.name());
                    let listed = listed(&Method::POST, &path);
                    assert!(listed.is_some_and(|(_, voice)| voice == Grpc), "no policy for {path}");
                    found += 1;
                }
            }
        }
        assert!(found > 30, "only {found} calls were found");
    }

    #[test]
    fn each_grant_opens_what_it_says() {
        use model::Claim;
        fn check(grant: Grant, expected: [bool; 5]) {
            let found = [Open, Read, Admin, Report, Push].map(|policy| policy.allows(grant));
            assert_eq!(found, expected, "{grant}");
        }
        check(Grant::Read, [true, true, false, false, false]);
        check(Grant::Admin, [true, true, true, false, true]);
        check(Grant::Report(Claim::Any), [true, false, false, true, false]);
        check(Grant::Push, [true, false, false, false, true]);
    }
}
