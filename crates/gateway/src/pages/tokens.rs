//! `/tokens`: what programs prove themselves with.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::{IntoResponse as _, Redirect, Response};
use proto::v1;
use serde::Deserialize;
use tonic::Code;

use super::Page;
use super::alerts::Fields;
use super::page::html;
use crate::api::now_ms;
use crate::gateway::Shared;
use crate::view::{When, millis};

#[derive(Template)]
#[template(path = "tokens.html")]
struct TokensPage {
    page: Page,
    /// Why something is missing here.
    problem: String,
    /// Just made: shown this once.
    made: String,
    tokens: Vec<Token>,
}

struct Token {
    id: String,
    name: String,
    grant: String,
    created: Option<When>,
    created_by: String,
    used: Option<When>,
    /// It is in the configuration, and revoked there.
    fixed: bool,
}

pub(crate) async fn tokens(State(shared): State<Shared>, uri: Uri) -> Response {
    show(&shared, &uri, String::new(), String::new()).await
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct New {
    name: String,
    grant: String,
}

pub(crate) async fn create(
    State(shared): State<Shared>,
    uri: Uri,
    Fields(New { name, grant }): Fields<New>,
) -> Response {
    let request = v1::CreateTokenRequest { name, grant, expires: None };
    match shared.access.create_token(request).await {
        Ok(answer) => show(&shared, &uri, String::new(), answer.secret).await,
        Err(status) => show(&shared, &uri, status.message().to_owned(), String::new()).await,
    }
}

pub(crate) async fn revoke(
    State(shared): State<Shared>,
    uri: Uri,
    Path(id): Path<String>,
) -> Response {
    match shared.access.revoke_token(id).await {
        Ok(_) => Redirect::to("../../tokens").into_response(),
        Err(status) => show(&shared, &uri, status.message().to_owned(), String::new()).await,
    }
}

async fn show(shared: &Shared, uri: &Uri, problem: String, made: String) -> Response {
    let now = now_ms();
    let listed = shared.access.list_tokens().await;
    let problem = match &listed {
        Err(status) if status.code() == Code::Unimplemented => {
            "This server asks nobody who they are, so there is nothing to prove.".to_owned()
        }
        Err(status) => format!("The tokens are not reached: {}", status.message()),
        Ok(_) => problem,
    };
    let when = |time: Option<&prost_types::Timestamp>| millis(time).map(|ms| When::new(now, ms));
    let tokens = listed.unwrap_or_default().tokens.into_iter().map(|token| Token {
        created: when(token.created.as_ref()),
        used: when(token.used.as_ref()),
        fixed: token.id.starts_with("config."),
        grant: words(&token.grant),
        id: token.id,
        name: token.name,
        created_by: token.created_by,
    });
    let tokens = tokens.collect();
    html(&TokensPage { page: Page::new(shared, uri, "tokens"), problem, made, tokens })
}

fn words(grant: &str) -> String {
    match grant {
        "read" => "see everything".to_owned(),
        "admin" => "change everything".to_owned(),
        "push" => "push, under its own name".to_owned(),
        "report:any" => "report any machine".to_owned(),
        "report:first" => "report one machine, the first that uses it".to_owned(),
        other => match other.strip_prefix("report:") {
            Some(machine) => format!("report machine {machine}"),
            None => other.to_owned(),
        },
    }
}
