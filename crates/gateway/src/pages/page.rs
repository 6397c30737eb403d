//! What every page has: where it is, and how it is answered.

use askama::Template;
use axum::http::header::{CACHE_CONTROL, VARY};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{Html, IntoResponse, Response};

use crate::api::ApiError;
use crate::caller;
use crate::gateway::Shared;
use crate::live::Link;

/// Every link is relative to the root of the dashboard, so it works under any path of a proxy.
#[derive(Debug)]
pub(crate) struct Page {
    /// From this page to the root: `./`, `../`, `../../`.
    pub(crate) base: String,
    pub(crate) version: String,
    /// Which entry of the navigation this is.
    pub(crate) here: &'static str,
    /// Why what is shown may be old; empty when it is not.
    pub(crate) stale: String,
    /// Who looks; empty where nobody is asked.
    pub(crate) user: String,
    /// Alerts that fire, and how many of them are critical.
    pub(crate) firing: u32,
    pub(crate) critical: u32,
    /// Whether buttons that change something work.
    pub(crate) may_change: bool,
}

impl Page {
    pub(crate) fn new(shared: &Shared, uri: &Uri, here: &'static str) -> Self {
        let stale = match &shared.hub.picture().link {
            Link::Up { .. } => String::new(),
            Link::Connecting => "connecting to the aggregator".to_owned(),
            Link::Down { reason, .. } => format!("the aggregator is not reached: {reason}"),
        };
        let version = shared.assets.version().to_owned();
        let caller = caller::current();
        let may_change = caller.as_ref().is_none_or(|caller| caller.grant.covers(true));
        let user = caller.map(|caller| caller.name).unwrap_or_default();
        let alerts = shared.hub.alerts();
        let (firing, critical) = (alerts.firing, alerts.critical);
        let base = base(uri.path());
        Self { base, version, here, stale, user, firing, critical, may_change }
    }
}

fn base(path: &str) -> String {
    match path.matches('/').count().saturating_sub(1) {
        0 => "./".to_owned(),
        depth => "../".repeat(depth),
    }
}

/// Whether htmx asks for a fragment rather than a browser for a page.
pub(crate) fn is_htmx(headers: &HeaderMap) -> bool {
    headers.contains_key("hx-request")
}

/// The rendered template. Pages are of this moment: no cache may keep them.
pub(crate) fn html(template: &impl Template) -> Response {
    html_with(StatusCode::OK, template)
}

pub(crate) fn html_with(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => (status, [(CACHE_CONTROL, "no-store"), (VARY, "hx-request")], Html(text))
            .into_response(),
        Err(error) => {
            tracing::error!(%error, "a template did not render");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    page: Page,
    title: &'static str,
    message: String,
    hint: &'static str,
}

/// What could not be shown, as a page.
pub(crate) fn problem(shared: &Shared, uri: &Uri, error: &ApiError) -> Response {
    let (title, hint) = match error.status() {
        StatusCode::NOT_FOUND => {
            ("No such machine", "It may have another name, or it never reported here.")
        }
        StatusCode::CONFLICT => {
            ("More than one machine fits", "Choose it from the list of all machines.")
        }
        status if status.is_server_error() => {
            ("Not reachable just now", "This page tries again by itself.")
        }
        _ => ("This does not work", "Go back, or start from the list of all machines."),
    };
    let page = Page::new(shared, uri, "");
    let message = error.message().to_owned();
    let mut response = html_with(error.status(), &ProblemPage { page, title, message, hint });
    if error.status().is_server_error() {
        let again = axum::http::HeaderValue::from_static("5");
        response.headers_mut().insert("refresh", again);
    }
    response
}

/// What a button did not do, as a page.
pub(crate) fn undone(
    shared: &Shared,
    uri: &Uri,
    title: &'static str,
    error: &ApiError,
) -> Response {
    let page = Page::new(shared, uri, "");
    let hint = match error.status().is_server_error() {
        true => "It may be done in part: try again.",
        false => "Nothing was changed.",
    };
    let message = error.message().to_owned();
    html_with(error.status(), &ProblemPage { page, title, message, hint })
}

/// The same, for a path that is none.
pub(crate) fn nothing_here(shared: &Shared, uri: &Uri) -> Response {
    let page = Page::new(shared, uri, "");
    let message = format!("There is no page at {}.", uri.path());
    let hint = "Machines are at /machines/ followed by their id.";
    html_with(StatusCode::NOT_FOUND, &ProblemPage { page, title: "Nothing here", message, hint })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_the_root_from_any_depth() {
        fn check(path: &str, expected: &str) {
            assert_eq!(base(path), expected, "{path}");
        }
        check("/", "./");
        check("/add", "./");
        check("/machines/abc", "../");
        check("/about/health", "../");
        check("/a/b/c/", "../../../");
    }
}
