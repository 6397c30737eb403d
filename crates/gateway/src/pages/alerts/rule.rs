//! The rule editor: one form for a new rule and for one that is there, with a test on what was recorded.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::Uri;
use axum::response::{IntoResponse as _, Redirect, Response};
use proto::v1;
use serde::Deserialize;
use tonic::{Code, Status};

use super::act::Fields;
use super::form::{NO_DATA, PATHS, RuleForm, SIGNALS};
use super::problems::Problems;
use super::starters::starters;
use super::text::names_to_text;
use super::{Line, Page};
use crate::api::now_ms;
use crate::format;
use crate::gateway::Shared;
use crate::pages::page::html;
use crate::view::Measure;

#[derive(Template)]
#[template(path = "alerts/rule.html")]
struct RulePage {
    page: Page,
    form: RuleForm,
    /// It comes from the rules file.
    fixed: bool,
    problems: Problems,
    /// Somebody saved it meanwhile: what is there now is worth a look.
    overtaken: bool,
    tested: Option<Tested>,
    /// Where a new rule can begin: key and title.
    starters: Vec<(&'static str, &'static str)>,
    signals: [(&'static str, &'static str); 12],
    no_data: [(&'static str, &'static str); 3],
    metrics: Vec<&'static str>,
    /// Names that can stand among the channels.
    channels: String,
    hint: Hint,
}

/// What is watched, and what its thresholds are in.
#[derive(Template)]
#[template(path = "alerts/hint.html")]
struct Hint {
    about: String,
    example: &'static str,
}

/// What the last 24 hours say.
struct Tested {
    words: String,
    lines: Vec<Line>,
}

/// What is shown around a form.
#[derive(Default)]
struct Around {
    fixed: bool,
    problems: Problems,
    overtaken: bool,
    tested: Option<Tested>,
}

impl Hint {
    fn of(form: &RuleForm) -> Self {
        let known = model::metric::ALL.iter().find(|known| known.name == form.metric.trim());
        let about = match form.kind.as_str() {
            "log" => {
                "Events that the query finds are counted, for each machine and service.".into()
            }
            // Names stand in backquotes there.
            _ => known.map_or(String::new(), |known| known.help.replace('`', "")),
        };
        Self { about, example: form.measure().example() }
    }
}

async fn show(shared: &Shared, uri: &Uri, form: RuleForm, around: Around) -> Response {
    let Around { fixed, problems, overtaken, tested } = around;
    // Only to help: the page is worth showing without.
    let channels = shared.alerts.list_channels(v1::ListChannelsRequest {}).await;
    let channels: Vec<_> =
        channels.unwrap_or_default().channels.into_iter().map(|channel| channel.name).collect();
    let new = form.id.is_empty();
    html(&RulePage {
        page: Page::new(shared, uri, "alerts"),
        hint: Hint::of(&form),
        form,
        fixed,
        problems,
        overtaken,
        tested,
        starters: match new {
            true => starters().into_iter().map(|starter| (starter.key, starter.title)).collect(),
            false => Vec::new(),
        },
        signals: SIGNALS.map(|(value, word, _)| (value, word)),
        no_data: NO_DATA.map(|(value, word, _)| (value, word)),
        metrics: model::metric::ALL.iter().map(|metric| metric.name).collect(),
        channels: names_to_text(&channels),
    })
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct From {
    from: String,
}

pub(crate) async fn rule_new(
    State(shared): State<Shared>,
    uri: Uri,
    Query(From { from }): Query<From>,
) -> Response {
    let starter = starters().into_iter().find(|starter| starter.key == from);
    let form = match starter {
        Some(starter) => RuleForm::of(&starter.rule),
        None => RuleForm {
            kind: "threshold".to_owned(),
            metric: model::metric::CPU_UTILIZATION.name.to_owned(),
            ..RuleForm::default()
        },
    };
    show(&shared, &uri, form, Around::default()).await
}

/// A fragment: what the thresholds of this metric are in.
pub(crate) async fn rule_hint(Query(form): Query<RuleForm>) -> Response {
    html(&Hint::of(&form))
}

pub(crate) async fn rule_edit(
    State(shared): State<Shared>,
    uri: Uri,
    Path(id): Path<String>,
) -> Response {
    match stored(&shared, &id).await {
        Ok(rule) => {
            let around = Around { fixed: rule.origin == "file", ..Around::default() };
            show(&shared, &uri, RuleForm::of(&rule), around).await
        }
        Err(status) => {
            let problems = Problems::whole(status.message());
            let around = Around { fixed: true, problems, ..Around::default() };
            show(&shared, &uri, RuleForm::default(), around).await
        }
    }
}

async fn stored(shared: &Shared, id: &str) -> Result<v1::AlertRule, Status> {
    let found = shared.alerts.get_rule(v1::GetRuleRequest { id: id.to_owned() }).await?;
    found.rule.ok_or_else(|| Status::internal("rule: absent in the answer"))
}

/// The rule that the form describes, with what the form does not show from the one that is there.
async fn described(shared: &Shared, form: &RuleForm) -> Result<v1::AlertRule, Problems> {
    let before = match form.id.as_str() {
        "" => v1::AlertRule::default(),
        id => stored(shared, id).await.map_err(|status| Problems::whole(status.message()))?,
    };
    form.to_rule(before)
}

async fn save(shared: &Shared, rule: v1::AlertRule) -> Result<(), Status> {
    match rule.id.is_empty() {
        true => {
            let request = v1::CreateRuleRequest { rule: Some(rule) };
            shared.alerts.create_rule(request).await.map(drop)
        }
        false => {
            let request = v1::UpdateRuleRequest { rule: Some(rule) };
            shared.alerts.update_rule(request).await.map(drop)
        }
    }
}

pub(crate) async fn rule_save(
    State(shared): State<Shared>,
    uri: Uri,
    Fields(mut form): Fields<RuleForm>,
) -> Response {
    // What was typed stays in the form, whatever is wrong with it.
    let rule = match described(&shared, &form).await {
        Ok(rule) => rule,
        Err(problems) => {
            return show(&shared, &uri, form, Around { problems, ..Around::default() }).await;
        }
    };
    let around = match save(&shared, rule).await {
        Ok(()) => return Redirect::to("../alerts").into_response(),
        Err(status) if status.code() == Code::Aborted => match stored(&shared, &form.id).await {
            Ok(now) => {
                form.revision = now.revision;
                let who = now.updated_by;
                let said = format!("{who} saved this rule meanwhile. Saving again replaces that.");
                let problems = Problems::whole(&said);
                Around { problems, overtaken: true, ..Around::default() }
            }
            Err(gone) => refused(&gone),
        },
        Err(status) => refused(&status),
    };
    show(&shared, &uri, form, around).await
}

fn refused(status: &Status) -> Around {
    Around { problems: Problems::refused(status.message(), "rule.", PATHS), ..Around::default() }
}

pub(crate) async fn rule_test(
    State(shared): State<Shared>,
    uri: Uri,
    Fields(form): Fields<RuleForm>,
) -> Response {
    let rule = match described(&shared, &form).await {
        Ok(rule) => rule,
        Err(problems) => {
            return show(&shared, &uri, form, Around { problems, ..Around::default() }).await;
        }
    };
    let measure = Measure::of_rule(&rule);
    let request = v1::TestRuleRequest { rule: Some(rule), start: None, end: None };
    let around = match shared.alerts.test_rule(request).await {
        Err(status) => refused(&status),
        Ok(report) => Around { tested: Some(tested(report, measure)), ..Around::default() },
    };
    show(&shared, &uri, form, around).await
}

fn tested(report: v1::TestRuleResponse, measure: Measure) -> Tested {
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
    let lines = report.incidents.into_iter().take(100);
    Tested { words, lines: lines.map(|incident| Line::new(measure, incident, now)).collect() }
}
