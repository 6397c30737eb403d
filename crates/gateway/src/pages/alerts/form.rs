//! A rule as the fields of a form, and back. What is wrong is left to the alert service to say: it names
//! the field.

use proto::convert::{duration_from_ms, duration_to_ms};
use proto::v1;
use proto::v1::alert_rule::Condition;
use proto::v1::label_matcher::Op;
use proto::v1::threshold_condition::Signal;
use serde::Deserialize;

/// Texts as they were typed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RuleForm {
    pub(super) id: String,
    pub(super) revision: u64,
    pub(super) name: String,
    pub(super) offline: bool,
    /// Of a rule about logs, which the form shows and leaves as it is.
    #[serde(skip)]
    pub(super) log: String,
    pub(super) metric: String,
    pub(super) labels: String,
    pub(super) machines: String,
    pub(super) divide_by: String,
    pub(super) signal: String,
    pub(super) window: String,
    pub(super) forecast: String,
    pub(super) side: String,
    pub(super) warning: String,
    pub(super) critical: String,
    pub(super) recover: String,
    #[serde(rename = "for")]
    pub(super) for_: String,
    pub(super) keep_firing_for: String,
    pub(super) summary: String,
    pub(super) runbook_url: String,
    pub(super) channels: String,
}

/// Value and word of each choice.
pub(super) const SIGNALS: [(&str, &str, Signal); 12] = [
    ("last", "latest value", Signal::Last),
    ("mean", "mean", Signal::Mean),
    ("min", "minimum", Signal::Min),
    ("max", "maximum", Signal::Max),
    ("sum", "sum", Signal::Sum),
    ("count", "number of values", Signal::Count),
    ("stddev", "standard deviation", Signal::Stddev),
    ("p95", "95th percentile", Signal::P95),
    ("rate", "increase per second", Signal::Rate),
    ("increase", "increase", Signal::Increase),
    ("deviation", "unusual: standard deviations", Signal::Deviation),
    ("forecast", "forecast", Signal::Forecast),
];

impl RuleForm {
    pub(super) fn of(rule: &v1::AlertRule) -> Self {
        let mut form = Self {
            id: rule.id.clone(),
            revision: rule.revision,
            name: rule.name.clone(),
            machines: matchers_to_text(&rule.machines),
            for_: span_to_text(rule.r#for.as_ref()),
            keep_firing_for: span_to_text(rule.keep_firing_for.as_ref()),
            summary: rule.summary.clone(),
            runbook_url: rule.runbook_url.clone(),
            channels: rule.channels.join(", "),
            ..Self::default()
        };
        match &rule.condition {
            Some(Condition::Threshold(threshold)) => form.set_threshold(threshold),
            Some(Condition::Log(log)) => (form.offline, form.log) = (true, log.query.clone()),
            Some(Condition::Offline(_)) | None => form.offline = true,
        }
        form
    }

    fn set_threshold(&mut self, threshold: &v1::ThresholdCondition) {
        let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
        self.metric.clone_from(&threshold.metric);
        self.labels = matchers_to_text(&threshold.labels);
        self.divide_by.clone_from(&threshold.divide_by);
        let signal = SIGNALS.iter().find(|(_, _, signal)| *signal == threshold.signal());
        signal.map_or("last", |(value, _, _)| value).clone_into(&mut self.signal);
        self.window = span_to_text(threshold.window.as_ref());
        self.forecast = span_to_text(threshold.forecast.as_ref());
        if threshold.below { "below" } else { "above" }.clone_into(&mut self.side);
        self.warning = number(threshold.warning);
        self.critical = number(threshold.critical);
        self.recover = number(threshold.recover);
    }

    /// In one line: `system.cpu.utilization, mean over 5m, above 0.8`.
    pub(super) fn words(&self) -> String {
        if !self.log.is_empty() {
            return format!("logs: {}", self.log);
        }
        if self.offline {
            return "a machine is offline".to_owned();
        }
        let mut words = self.metric.clone();
        if !self.divide_by.is_empty() {
            words.push_str(&format!(" / {}", self.divide_by));
        }
        if !self.window.is_empty() {
            let word = SIGNALS.iter().find(|(value, _, _)| *value == self.signal);
            words.push_str(&format!(", {} over {}", word.map_or("", |w| w.1), self.window));
        }
        let limits = [&self.warning, &self.critical].map(String::as_str);
        let limits: Vec<_> = limits.into_iter().filter(|limit| !limit.is_empty()).collect();
        words.push_str(&format!(", {} {}", self.side, limits.join(" and ")));
        if !self.for_.is_empty() {
            words.push_str(&format!(", for {}", self.for_));
        }
        words
    }

    /// What the fields change of `before`; what the form does not have stays as it was there.
    pub(super) fn to_rule(&self, before: v1::AlertRule) -> Result<v1::AlertRule, String> {
        let condition = match (self.offline, before.condition) {
            (true, Some(condition @ (Condition::Offline(_) | Condition::Log(_)))) => condition,
            (true, _) => Condition::Offline(v1::OfflineCondition::default()),
            (false, Some(Condition::Threshold(threshold))) => {
                Condition::Threshold(self.threshold(threshold)?)
            }
            (false, _) => Condition::Threshold(self.threshold(Default::default())?),
        };
        Ok(v1::AlertRule {
            id: self.id.clone(),
            revision: self.revision,
            name: self.name.trim().to_owned(),
            condition: Some(condition),
            machines: matchers_from_text("machines", &self.machines)?,
            r#for: span("for", &self.for_)?,
            keep_firing_for: span("keep firing for", &self.keep_firing_for)?,
            summary: self.summary.trim().to_owned(),
            runbook_url: self.runbook_url.trim().to_owned(),
            channels: parts(&self.channels).map(str::to_owned).collect(),
            ..before
        })
    }

    fn threshold(&self, before: v1::ThresholdCondition) -> Result<v1::ThresholdCondition, String> {
        let signal = SIGNALS.iter().find(|(value, _, _)| *value == self.signal);
        let signal = signal.map_or(Signal::Last, |(_, _, signal)| *signal);
        Ok(v1::ThresholdCondition {
            metric: self.metric.trim().to_owned(),
            labels: matchers_from_text("labels", &self.labels)?,
            divide_by: self.divide_by.trim().to_owned(),
            signal: signal.into(),
            window: span("window", &self.window)?,
            forecast: span("forecast", &self.forecast)?,
            below: self.side == "below",
            warning: number("warning", &self.warning)?,
            critical: number("critical", &self.critical)?,
            recover: number("recover", &self.recover)?,
            ..before
        })
    }
}

fn number(field: &str, text: &str) -> Result<Option<f64>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| format!("{field}: expected a number, found {text:?}"))
}

fn span(field: &str, text: &str) -> Result<Option<prost_types::Duration>, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let span: daemon::config::Span = text.parse().map_err(|e| format!("{field}: {e}"))?;
    let ms = i64::try_from(span.get().as_millis()).unwrap_or(i64::MAX);
    Ok((ms > 0).then(|| duration_from_ms(ms)))
}

fn span_to_text(duration: Option<&prost_types::Duration>) -> String {
    let ms = duration.and_then(|duration| duration_to_ms("", duration).ok());
    let ms = ms.and_then(|ms| u64::try_from(ms).ok());
    ms.map_or(String::new(), |ms| daemon::config::Span::from_millis(ms).to_string())
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', '\n']).map(str::trim).filter(|part| !part.is_empty())
}

const OPS: [(&str, Op); 4] =
    [("=~", Op::Glob), ("!~", Op::NotGlob), ("!=", Op::NotEqual), ("=", Op::Equal)];

/// `env=prod, host.name=~web-*`.
pub(super) fn matchers_from_text(field: &str, text: &str) -> Result<Vec<v1::LabelMatcher>, String> {
    let read = |part: &str| {
        let at = part.find(['=', '!'])?;
        let (name, rest) = part.split_at(at);
        let (op, value) =
            OPS.iter().find_map(|(sign, op)| Some((*op, rest.strip_prefix(sign)?)))?;
        let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
        Some(v1::LabelMatcher { name, op: op.into(), value })
    };
    let expected = "expected matchers such as env=prod, host.name=~web-*; found";
    parts(text).map(|p| read(p).ok_or_else(|| format!("{field}: {expected} {p:?}"))).collect()
}

pub(super) fn matchers_to_text(matchers: &[v1::LabelMatcher]) -> String {
    let write = |matcher: &v1::LabelMatcher| {
        let sign = OPS.iter().find(|(_, op)| *op == matcher.op()).map_or("=", |(sign, _)| sign);
        format!("{}{sign}{}", matcher.name, matcher.value)
    };
    matchers.iter().map(write).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> v1::AlertRule {
        let threshold = v1::ThresholdCondition {
            metric: "system.cpu.utilization".into(),
            labels: matchers_from_text("labels", "cpu.mode=user").expect("valid"),
            signal: Signal::Mean.into(),
            window: Some(duration_from_ms(300_000)),
            warning: Some(0.8),
            recover: Some(0.7),
            window_values: 0,
            ..Default::default()
        };
        v1::AlertRule {
            id: "cpu".into(),
            revision: 3,
            name: "CPU".into(),
            condition: Some(Condition::Threshold(threshold)),
            machines: matchers_from_text("m", "env!=dev, host.name=~web-*").expect("valid"),
            r#for: Some(duration_from_ms(60_000)),
            no_data: 3,
            channels: vec!["a".into(), "b".into()],
            ..Default::default()
        }
    }

    #[test]
    fn a_rule_survives_the_form_with_what_the_form_does_not_show() {
        let form = RuleForm::of(&rule());
        assert_eq!(form.to_rule(rule()), Ok(rule()));
        assert_eq!(form.words(), "system.cpu.utilization, mean over 5m, above 0.8, for 1m");
        let offline = v1::AlertRule {
            condition: Some(Condition::Offline(v1::OfflineCondition { level: 1 })),
            ..rule()
        };
        assert_eq!(RuleForm::of(&offline).to_rule(offline.clone()), Ok(offline));
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_field() {
        let check = |spoil: &dyn Fn(&mut RuleForm), expected: &str| {
            let mut form = RuleForm::of(&rule());
            spoil(&mut form);
            let error = form.to_rule(rule()).expect_err(expected);
            assert!(error.starts_with(expected), "{error}");
        };
        check(&|f| f.warning = "lots".into(), "warning: ");
        check(&|f| f.for_ = "five".into(), "for: ");
        check(&|f| f.labels = "x".into(), "labels: ");
    }
}
