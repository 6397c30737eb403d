//! The rule editor: one form for a new rule and for one that is there, with a test on what was recorded.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::{IntoResponse as _, Redirect, Response};
use proto::v1;

use super::act::Fields;
use super::form::{RuleForm, SIGNALS};
use super::{Line, Page};
use crate::api::now_ms;
use crate::format;
use crate::gateway::Shared;
use crate::pages::page::html;

#[derive(Template)]
#[template(path = "alerts/rule.html")]
struct RulePage {
    page: Page,
    form: RuleForm,
    /// It comes from the rules file.
    fixed: bool,
    problem: String,
    tested: Option<Tested>,
    signals: [(&'static str, &'static str); 12],
    metrics: Vec<&'static str>,
}

/// What the last 24 hours say.
struct Tested {
    words: String,
    lines: Vec<Line>,
}

fn show(
    shared: &Shared,
    uri: &Uri,
    form: RuleForm,
    fixed: bool,
    problem: String,
    tested: Option<Tested>,
) -> Response {
    let signals = SIGNALS.map(|(value, word, _)| (value, word));
    let metrics = model::metric::ALL.iter().map(|metric| metric.name).collect();
    let page = Page::new(shared, uri, "alerts");
    html(&RulePage { page, form, fixed, problem, tested, signals, metrics })
}

pub(crate) async fn rule_new(State(shared): State<Shared>, uri: Uri) -> Response {
    let form = RuleForm {
        metric: "system.cpu.utilization".to_owned(),
        signal: "last".to_owned(),
        side: "above".to_owned(),
        ..RuleForm::default()
    };
    show(&shared, &uri, form, false, String::new(), None)
}

pub(crate) async fn rule_edit(
    State(shared): State<Shared>,
    uri: Uri,
    Path(id): Path<String>,
) -> Response {
    match stored(&shared, &id).await {
        Ok(rule) => {
            let fixed = rule.origin == "file";
            show(&shared, &uri, RuleForm::of(&rule), fixed, String::new(), None)
        }
        Err(status) => {
            let problem = status.message().to_owned();
            show(&shared, &uri, RuleForm::default(), true, problem, None)
        }
    }
}

async fn stored(shared: &Shared, id: &str) -> Result<v1::AlertRule, tonic::Status> {
    let found = shared.alerts.get_rule(v1::GetRuleRequest { id: id.to_owned() }).await?;
    found.rule.ok_or_else(|| tonic::Status::internal("rule: absent in the answer"))
}

/// The rule that the form describes, with what the form does not show from the one that is there.
async fn described(shared: &Shared, form: &RuleForm) -> Result<v1::AlertRule, String> {
    let before = match form.id.as_str() {
        "" => v1::AlertRule::default(),
        id => stored(shared, id).await.map_err(|status| status.message().to_owned())?,
    };
    form.to_rule(before)
}

pub(crate) async fn rule_save(
    State(shared): State<Shared>,
    uri: Uri,
    Fields(form): Fields<RuleForm>,
) -> Response {
    let saved = match described(&shared, &form).await {
        Err(problem) => Err(problem),
        Ok(rule) => {
            let saved = match rule.id.is_empty() {
                true => {
                    let request = v1::CreateRuleRequest { rule: Some(rule) };
                    shared.alerts.create_rule(request).await.map(drop)
                }
                false => {
                    let request = v1::UpdateRuleRequest { rule: Some(rule) };
                    shared.alerts.update_rule(request).await.map(drop)
                }
            };
            saved.map_err(|status| status.message().to_owned())
        }
    };
    match saved {
        Ok(()) => Redirect::to("../alerts").into_response(),
        // What was typed stays in the form.
        Err(problem) => show(&shared, &uri, form, false, problem, None),
    }
}

pub(crate) async fn rule_test(
    State(shared): State<Shared>,
    uri: Uri,
    Fields(form): Fields<RuleForm>,
) -> Response {
    let rule = match described(&shared, &form).await {
        Ok(rule) => rule,
        Err(problem) => return show(&shared, &uri, form, false, problem, None),
    };
    let request = v1::TestRuleRequest { rule: Some(rule), start: None, end: None };
    match shared.alerts.test_rule(request).await {
        Err(status) => {
            let problem = status.message().to_owned();
            show(&shared, &uri, form, false, problem, None)
        }
        Ok(report) => {
            let count = |n: usize, one: &str| match n {
                1 => format!("1 {one}"),
                n => format!("{} {one}s", format::number(n as f64)),
            };
            let words = format!(
                "In the last 24 hours it would have fired {} and sent {} to each channel, over {} of {}.",
                count(report.incidents.len(), "time"),
                count(report.notifications as usize, "message"),
                count(report.series as usize, "series").replace("seriess", "series"),
                count(report.machines as usize, "machine"),
            );
            let now = now_ms();
            let lines = report.incidents.into_iter().take(100).map(|i| Line::new(i, now));
            let tested = Tested { words, lines: lines.collect() };
            show(&shared, &uri, form, false, String::new(), Some(tested))
        }
    }
}
