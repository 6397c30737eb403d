//! A rule as the fields of a form, and back. What cannot be read is told here, with its field; what means
//! nothing is left to the alert service to say, and finds its field again here.

use proto::convert::{duration_from_ms, duration_to_ms};
use proto::v1;
use proto::v1::alert_rule::{Condition, NoData};
use proto::v1::threshold_condition::Signal;
use serde::Deserialize;

use super::problems::{Paths, Problems};
use super::text::{
    labels_from_text, labels_to_text, matchers_from_text, matchers_to_text, names_from_text,
    names_to_text,
};
use crate::view::Measure;

/// Texts as they were typed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RuleForm {
    pub(super) id: String,
    pub(super) revision: u64,
    pub(super) name: String,
    /// `on` or `off`; as it was when empty.
    pub(super) state: String,
    /// `threshold`, `offline` or `log`.
    pub(super) kind: String,
    /// How bad that is: `warning` or `critical`.
    pub(super) offline_level: String,
    pub(super) query: String,
    pub(super) log_window: String,
    pub(super) metric: String,
    pub(super) labels: String,
    pub(super) machines: String,
    pub(super) divide_by: String,
    pub(super) signal: String,
    /// `sliding`, `tumbling` or `values`; each value alone when nothing is typed beside it.
    pub(super) over: String,
    pub(super) window: String,
    pub(super) window_values: String,
    pub(super) forecast: String,
    pub(super) side: String,
    pub(super) warning: String,
    pub(super) critical: String,
    pub(super) recover: String,
    #[serde(rename = "for")]
    pub(super) for_: String,
    pub(super) keep_firing_for: String,
    pub(super) no_data: String,
    pub(super) no_data_after: String,
    pub(super) alert_labels: String,
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

pub(super) const NO_DATA: [(&str, &str, NoData); 3] = [
    ("ok", "all is well", NoData::Ok),
    ("alert", "trouble in itself", NoData::Alert),
    ("keep", "the alert stays as it is", NoData::Keep),
];

/// The alert service's names of fields, and the form's.
pub(super) const PATHS: &Paths = &[
    ("name", "name"),
    ("disabled", "state"),
    ("condition", "kind"),
    ("offline.level", "offline_level"),
    ("log.query", "query"),
    ("log.window", "log_window"),
    ("log.warning", "warning"),
    ("log.critical", "critical"),
    ("log.recover", "recover"),
    ("threshold.metric", "metric"),
    ("threshold.labels", "labels"),
    ("threshold.divide_by", "divide_by"),
    ("threshold.signal", "signal"),
    ("threshold.window", "window"),
    ("threshold.tumbling", "over"),
    ("threshold.window_values", "window_values"),
    ("threshold.forecast", "forecast"),
    ("threshold.below", "side"),
    ("threshold.warning", "warning"),
    ("threshold.critical", "critical"),
    ("threshold.recover", "recover"),
    ("machines", "machines"),
    ("for", "for"),
    ("keep_firing_for", "keep_firing_for"),
    ("no_data", "no_data"),
    ("no_data_after", "no_data_after"),
    ("labels", "alert_labels"),
    ("summary", "summary"),
    ("runbook_url", "runbook_url"),
    ("channels", "channels"),
];

impl RuleForm {
    pub(super) fn of(rule: &v1::AlertRule) -> Self {
        let no_data = match rule.no_data() {
            NoData::Unspecified => NoData::Ok,
            known => known,
        };
        let mut form = Self {
            id: rule.id.clone(),
            revision: rule.revision,
            name: rule.name.clone(),
            state: if rule.disabled { "off" } else { "on" }.to_owned(),
            machines: matchers_to_text(&rule.machines),
            for_: span_to_text(rule.r#for.as_ref()),
            keep_firing_for: span_to_text(rule.keep_firing_for.as_ref()),
            no_data: named(&NO_DATA, no_data).to_owned(),
            no_data_after: span_to_text(rule.no_data_after.as_ref()),
            alert_labels: labels_to_text(&rule.labels),
            summary: rule.summary.clone(),
            runbook_url: rule.runbook_url.clone(),
            channels: names_to_text(&rule.channels),
            ..Self::default()
        };
        match &rule.condition {
            Some(Condition::Threshold(threshold)) => form.set_threshold(threshold),
            Some(Condition::Offline(offline)) => form.set_offline(offline.level()),
            Some(Condition::Log(log)) => form.set_log(log),
            None => form.set_offline(v1::AlertLevel::Unspecified),
        }
        form
    }

    fn set_offline(&mut self, level: v1::AlertLevel) {
        "offline".clone_into(&mut self.kind);
        let warning = level == v1::AlertLevel::Warning;
        if warning { "warning" } else { "critical" }.clone_into(&mut self.offline_level);
    }

    fn set_log(&mut self, log: &v1::LogCondition) {
        let number = |value: Option<f64>| value.map_or(String::new(), |v| v.to_string());
        "log".clone_into(&mut self.kind);
        self.query.clone_from(&log.query);
        self.log_window = span_to_text(log.window.as_ref());
        (self.warning, self.critical) = (number(log.warning), number(log.critical));
        self.recover = number(log.recover);
    }

    fn set_threshold(&mut self, threshold: &v1::ThresholdCondition) {
        let measure = Measure::of(threshold);
        let number = |value: Option<f64>| value.map_or(String::new(), |v| measure.write(v));
        "threshold".clone_into(&mut self.kind);
        self.metric.clone_from(&threshold.metric);
        self.labels = matchers_to_text(&threshold.labels);
        self.divide_by.clone_from(&threshold.divide_by);
        let signal = match threshold.signal() {
            Signal::Unspecified => Signal::Last,
            known => known,
        };
        named(&SIGNALS, signal).clone_into(&mut self.signal);
        self.window = span_to_text(threshold.window.as_ref());
        if threshold.window_values > 0 {
            self.window_values = threshold.window_values.to_string();
        }
        match (threshold.window_values, threshold.tumbling) {
            (1.., _) => "values",
            (0, true) => "tumbling",
            (0, false) => "sliding",
        }
        .clone_into(&mut self.over);
        self.forecast = span_to_text(threshold.forecast.as_ref());
        if threshold.below { "below" } else { "above" }.clone_into(&mut self.side);
        self.warning = number(threshold.warning);
        self.critical = number(threshold.critical);
        self.recover = number(threshold.recover);
    }

    /// In one line: `system.cpu.utilization, mean over 5m, above 80 %`.
    pub(super) fn words(&self) -> String {
        let mut words = match self.kind.as_str() {
            "offline" => "a machine is offline".to_owned(),
            "log" => self.log_words(),
            _ => self.threshold_words(),
        };
        if !self.for_.is_empty() {
            words.push_str(&format!(", for {}", self.for_));
        }
        words
    }

    fn log_words(&self) -> String {
        let mut words = format!("logs: {}", self.query);
        if let Some(limits) = self.limits() {
            words.push_str(&format!(", above {limits}"));
        }
        if !self.log_window.is_empty() {
            words.push_str(&format!(" in {}", self.log_window));
        }
        words
    }

    fn limits(&self) -> Option<String> {
        let limits = [&self.warning, &self.critical].map(String::as_str);
        let limits: Vec<_> = limits.into_iter().filter(|limit| !limit.is_empty()).collect();
        (!limits.is_empty()).then(|| limits.join(" and "))
    }

    fn threshold_words(&self) -> String {
        let mut words = self.metric.clone();
        if !self.labels.is_empty() {
            words.push_str(&format!(" ({})", self.labels));
        }
        if !self.divide_by.is_empty() {
            words.push_str(&format!(" / {}", self.divide_by));
        }
        let word = SIGNALS.iter().find(|(value, _, _)| *value == self.signal).map_or("", |w| w.1);
        match (self.over.as_str(), self.window.as_str(), self.window_values.as_str()) {
            ("values", _, count) => words.push_str(&format!(", {word} over {count} values")),
            (_, "", _) => {}
            ("tumbling", window, _) => words.push_str(&format!(", {word} of each {window}")),
            (_, window, _) => words.push_str(&format!(", {word} over {window}")),
        }
        if !self.forecast.is_empty() {
            words.push_str(&format!(", {} ahead", self.forecast));
        }
        if let Some(limits) = self.limits() {
            words.push_str(&format!(", {} {limits}", self.side));
        }
        words
    }

    /// What its thresholds are in.
    pub(super) fn measure(&self) -> Measure {
        if self.kind == "log" {
            return Measure::Number;
        }
        Measure::of(&v1::ThresholdCondition {
            metric: self.metric.trim().to_owned(),
            divide_by: self.divide_by.trim().to_owned(),
            signal: self.signal().into(),
            ..Default::default()
        })
    }

    fn signal(&self) -> Signal {
        let signal = SIGNALS.iter().find(|(value, _, _)| *value == self.signal);
        signal.map_or(Signal::Last, |(_, _, signal)| *signal)
    }

    /// What the fields change of `before`; what the form does not have stays as it was there. Everything
    /// that cannot be read is told at once.
    pub(super) fn to_rule(&self, before: v1::AlertRule) -> Result<v1::AlertRule, Problems> {
        let mut problems = Problems::default();
        let condition = match self.kind.as_str() {
            "offline" => {
                let warning = self.offline_level == "warning";
                let level = match warning {
                    true => v1::AlertLevel::Warning,
                    false => v1::AlertLevel::Critical,
                };
                Condition::Offline(v1::OfflineCondition { level: level.into() })
            }
            "log" => Condition::Log(self.log(&mut problems)),
            _ => Condition::Threshold(self.threshold(&mut problems)),
        };
        let no_data = NO_DATA.iter().find(|(value, _, _)| *value == self.no_data);
        let rule = v1::AlertRule {
            id: self.id.clone(),
            revision: self.revision,
            name: self.name.trim().to_owned(),
            disabled: match self.state.as_str() {
                "on" => false,
                "off" => true,
                _ => before.disabled,
            },
            condition: Some(condition),
            machines: problems.or_note("machines", matchers_from_text(&self.machines)),
            r#for: problems.or_note("for", span(&self.for_)),
            keep_firing_for: problems.or_note("keep_firing_for", span(&self.keep_firing_for)),
            no_data: no_data.map_or(before.no_data, |(_, _, policy)| (*policy).into()),
            no_data_after: problems.or_note("no_data_after", span(&self.no_data_after)),
            labels: problems.or_note("alert_labels", labels_from_text(&self.alert_labels)),
            summary: self.summary.trim().to_owned(),
            runbook_url: self.runbook_url.trim().to_owned(),
            channels: problems.or_note("channels", names_from_text(&self.channels)),
            ..before
        };
        if problems.is_empty() { Ok(rule) } else { Err(problems) }
    }

    fn log(&self, problems: &mut Problems) -> v1::LogCondition {
        let [warning, critical, recover] = self.read_limits(problems);
        let window = problems.or_note("log_window", span(&self.log_window));
        let query = self.query.trim().to_owned();
        v1::LogCondition { query, window, warning, critical, recover }
    }

    fn read_limits(&self, problems: &mut Problems) -> [Option<f64>; 3] {
        let measure = self.measure();
        let limits =
            [("warning", &self.warning), ("critical", &self.critical), ("recover", &self.recover)];
        limits.map(|(field, text)| {
            let read = (!text.trim().is_empty()).then(|| measure.read(text)).transpose();
            problems.or_note(field, read)
        })
    }

    fn threshold(&self, problems: &mut Problems) -> v1::ThresholdCondition {
        let [warning, critical, recover] = self.read_limits(problems);
        let by_values = self.over == "values";
        let window = match by_values {
            true => None,
            false => problems.or_note("window", span(&self.window)),
        };
        let window_values = match by_values {
            true => problems.or_note("window_values", count(&self.window_values)),
            false => 0,
        };
        let forecast = match self.signal() {
            Signal::Forecast => problems.or_note("forecast", span(&self.forecast)),
            _ => None,
        };
        v1::ThresholdCondition {
            metric: self.metric.trim().to_owned(),
            labels: problems.or_note("labels", matchers_from_text(&self.labels)),
            divide_by: self.divide_by.trim().to_owned(),
            signal: self.signal().into(),
            window,
            tumbling: self.over == "tumbling" && window.is_some(),
            window_values,
            forecast,
            below: self.side == "below",
            warning,
            critical,
            recover,
        }
    }
}

fn named<T: PartialEq>(choices: &[(&'static str, &str, T)], wanted: T) -> &'static str {
    choices.iter().find(|(_, _, choice)| *choice == wanted).map_or("", |(name, _, _)| name)
}

fn count(text: &str) -> Result<u32, String> {
    let text = text.trim();
    text.parse().map_err(|_| format!("expected a number of values such as 100, found {text:?}"))
}

fn span(text: &str) -> Result<Option<prost_types::Duration>, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let span: daemon::config::Span = text.parse().map_err(|e| format!("{e}"))?;
    let ms = i64::try_from(span.get().as_millis()).unwrap_or(i64::MAX);
    Ok((ms > 0).then(|| duration_from_ms(ms)))
}

fn span_to_text(duration: Option<&prost_types::Duration>) -> String {
    let ms = duration.and_then(|duration| duration_to_ms("", duration).ok());
    let ms = ms.and_then(|ms| u64::try_from(ms).ok());
    ms.map_or(String::new(), |ms| daemon::config::Span::from_millis(ms).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> v1::AlertRule {
        let threshold = v1::ThresholdCondition {
            metric: "system.cpu.utilization".into(),
            labels: matchers_from_text("cpu.mode=user").expect("valid"),
            signal: Signal::Mean.into(),
            window: Some(duration_from_ms(300_000)),
            warning: Some(0.8),
            recover: Some(0.7),
            ..Default::default()
        };
        v1::AlertRule {
            id: "cpu".into(),
            revision: 3,
            name: "CPU".into(),
            condition: Some(Condition::Threshold(threshold)),
            machines: matchers_from_text("env!=dev, host.name=~web-*").expect("valid"),
            r#for: Some(duration_from_ms(60_000)),
            keep_firing_for: Some(duration_from_ms(30_000)),
            no_data: NoData::Keep.into(),
            no_data_after: Some(duration_from_ms(120_000)),
            labels: [("team".to_owned(), "ops, east".to_owned())].into(),
            channels: vec!["a".into(), "b, c".into()],
            origin: "rpc".into(),
            ..Default::default()
        }
    }

    fn with(change: impl FnOnce(&mut v1::ThresholdCondition)) -> v1::AlertRule {
        let mut rule = rule();
        let Some(Condition::Threshold(threshold)) = &mut rule.condition else { panic!() };
        change(threshold);
        rule
    }

    #[test]
    fn a_rule_survives_the_form() {
        let check = |rule: v1::AlertRule, words: &str| {
            let form = RuleForm::of(&rule);
            assert_eq!(form.words(), words);
            assert_eq!(form.to_rule(rule.clone()), Ok(rule.clone()));
            // Nothing comes from what was there before but what nobody may write.
            let bare = v1::AlertRule { origin: "rpc".into(), ..Default::default() };
            assert_eq!(form.to_rule(bare), Ok(rule));
        };
        let of = "system.cpu.utilization (cpu.mode=user)";
        check(rule(), &format!("{of}, mean over 5m, above 80 %, for 1m"));
        check(with(|t| t.tumbling = true), &format!("{of}, mean of each 5m, above 80 %, for 1m"));
        let anomaly = with(|t| {
            t.signal = Signal::Deviation.into();
            (t.window, t.window_values) = (None, 100);
            (t.warning, t.critical, t.recover) = (Some(3.0), Some(6.0), None);
        });
        let word = "unusual: standard deviations";
        check(anomaly, &format!("{of}, {word} over 100 values, above 3 and 6, for 1m"));
        let forecast = with(|t| {
            t.signal = Signal::Forecast.into();
            t.forecast = Some(duration_from_ms(14_400_000));
        });
        check(forecast, &format!("{of}, forecast over 5m, 4h ahead, above 80 %, for 1m"));
        let log = v1::LogCondition {
            query: "level:>=error \"connection refused\"".into(),
            window: Some(duration_from_ms(300_000)),
            warning: Some(5.0),
            ..Default::default()
        };
        let words = "logs: level:>=error \"connection refused\", above 5 in 5m, for 1m";
        check(v1::AlertRule { condition: Some(Condition::Log(log)), ..rule() }, words);
        for level in [1, 2] {
            let condition = Some(Condition::Offline(v1::OfflineCondition { level }));
            check(v1::AlertRule { condition, ..rule() }, "a machine is offline, for 1m");
        }
        check(
            v1::AlertRule { disabled: true, ..rule() },
            &format!("{of}, mean over 5m, above 80 %, for 1m"),
        );
    }

    #[test]
    fn everything_that_cannot_be_read_is_told_at_its_field() {
        let mut form = RuleForm::of(&rule());
        form.warning = "80".into();
        form.for_ = "five".into();
        form.labels = "x".into();
        form.alert_labels = "team".into();
        let problems = form.to_rule(rule()).expect_err("all of it");
        let fields: Vec<_> = problems.fields().map(|(field, _)| *field).collect();
        assert_eq!(fields, ["alert_labels", "for", "labels", "warning"]);
        let expected = "expected a share such as 80 % (or 0.8), found \"80\"";
        assert_eq!(problems.of("warning"), expected);
        assert_eq!(problems.of("critical"), "");
        form.over = "values".into();
        let problems = form.to_rule(rule()).expect_err("no number of values");
        assert!(problems.of("window_values").starts_with("expected a number of values"));
    }

    #[test]
    fn what_the_service_refuses_finds_its_field() {
        let check = |message: &str, field: &str| {
            let problem = Problems::refused(message, "rule.", PATHS);
            assert!(message.ends_with(problem.of(field)), "{message}: {problem:?}");
            assert_ne!(problem.of(field), "", "{message}");
        };
        check("rule.threshold.critical: expected above warning (0.8), found 0.7", "critical");
        check("rule.threshold.labels[0].name: expected a label name", "labels");
        check("rule.labels: label name is empty", "alert_labels");
        check("rule.channels[1]: there is no channel called \"x\"", "channels");
        check("rule.for: expected 0 ms to 7 days", "for");
        check("somebody was faster", "");
        check("rule.shoe_size: too large", "");
    }
}
