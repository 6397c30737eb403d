//! What a rule may say. The one place for it: the RPC, the rules file and the form all come here.

use model::{Matcher, limits};
use proto::convert::FieldError;

use super::{Aggregate, Condition, Limit, Side, Spec, Threshold, Window};

const NAME_BYTES_MAX: usize = 120;
const MATCHERS_MAX: usize = 32;
const CHANNELS_MAX: usize = 32;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Longest `for`, `keep_firing_for`, window and no-data delay.
pub(super) const STRETCH_MS_MAX: i64 = 7 * DAY_MS;
pub(super) const VALUES_MAX: usize = 1000;

/// Refuses what cannot mean anything, with the field, its value and what was expected.
pub fn check(spec: &Spec) -> Result<(), FieldError> {
    let name = spec.name.trim();
    if name.is_empty() || name != spec.name || name.len() > NAME_BYTES_MAX {
        let expected =
            format!("expected 1 to {NAME_BYTES_MAX} bytes without blanks around them, found");
        return refuse("name", format!("{expected} {:?}", shown(&spec.name)));
    }
    if name.chars().any(char::is_control) {
        return refuse("name", "expected no control characters");
    }
    matchers("machines", &spec.machines)?;
    stretch("for", spec.timing.for_ms, 0)?;
    stretch("keep_firing_for", spec.timing.keep_firing_ms, 0)?;
    stretch("no_data_after", spec.no_data_after_ms, 1000)?;
    if spec.channels.len() > CHANNELS_MAX {
        return refuse("channels", format!("{} are more than {CHANNELS_MAX}", spec.channels.len()));
    }
    runbook_url(&spec.runbook_url)?;
    match &spec.condition {
        Condition::Threshold(threshold) => self::threshold(threshold),
        Condition::Offline { .. } => Ok(()),
        Condition::Log(log) => {
            stretch("window", log.window_ms, 1000)?;
            limit(&log.limit)
        }
    }
}

fn threshold(threshold: &Threshold) -> Result<(), FieldError> {
    metric("metric", &threshold.metric)?;
    if let Some(divisor) = &threshold.divide_by {
        metric("divide_by", divisor)?;
    }
    matchers("labels", &threshold.labels)?;
    limit(&threshold.limit)?;
    match threshold.window {
        Window::Instant => {}
        Window::Sliding { ms } | Window::Tumbling { ms } => stretch("window", ms, 1000)?,
        Window::Values { count } if (2..=VALUES_MAX).contains(&count) => {}
        Window::Values { count } => {
            return refuse("window_values", format!("expected 2 to {VALUES_MAX}, found {count}"));
        }
    }
    if let Aggregate::Forecast { ahead_ms } = threshold.aggregate {
        stretch("forecast", ahead_ms, 1000)?;
    }
    if threshold.aggregate != Aggregate::Last && threshold.window == Window::Instant {
        let name = threshold.aggregate.name();
        return refuse("window", format!("the aggregate {name} needs a window such as \"5m\""));
    }
    Ok(())
}

fn limit(limit: &Limit) -> Result<(), FieldError> {
    let given =
        [("warning", limit.warning), ("critical", limit.critical), ("recover", limit.recover)];
    for (field, value) in given {
        if let Some(value) = value
            && !value.is_finite()
        {
            return refuse(field, format!("expected a number, found {value}"));
        }
    }
    if limit.warning.is_none() && limit.critical.is_none() {
        return refuse("warning", "expected a threshold here or in critical");
    }
    let (further, side) = match limit.side {
        Side::Above => ((|a, b| a > b) as fn(f64, f64) -> bool, "above"),
        Side::Below => ((|a, b| a < b) as fn(f64, f64) -> bool, "below"),
    };
    if let (Some(warning), Some(critical)) = (limit.warning, limit.critical)
        && !further(critical, warning)
    {
        return refuse(
            "critical",
            format!("expected {side} warning ({warning}), found {critical}"),
        );
    }
    let nearest = limit.nearest().0;
    if let Some(recover) = limit.recover
        && further(recover, nearest)
    {
        let problem = format!("expected not {side} the threshold ({nearest}), found {recover}");
        return refuse("recover", problem);
    }
    Ok(())
}

fn metric(field: &str, name: &str) -> Result<(), FieldError> {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.');
    if name.is_empty() || name.len() > limits::METRIC_NAME_BYTES_MAX || !name.bytes().all(allowed) {
        let expected = "expected a metric such as \"system.cpu.utilization\", found";
        return refuse(field, format!("{expected} {:?}", shown(name)));
    }
    Ok(())
}

pub(crate) fn matchers(field: &str, matchers: &[Matcher]) -> Result<(), FieldError> {
    if matchers.len() > MATCHERS_MAX {
        return refuse(field, format!("{} are more than {MATCHERS_MAX}", matchers.len()));
    }
    for (i, matcher) in matchers.iter().enumerate() {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-' | b'/');
        let name = &matcher.name;
        if name.is_empty()
            || name.len() > limits::LABEL_NAME_BYTES_MAX
            || !name.bytes().all(allowed)
        {
            let found = format!("expected a label name, found {:?}", shown(name));
            return refuse(&format!("{field}[{i}].name"), found);
        }
        if matcher.value.len() > limits::LABEL_VALUE_BYTES_MAX {
            return refuse(&format!("{field}[{i}].value"), "longer than 1024 bytes");
        }
    }
    Ok(())
}

fn stretch(field: &str, ms: i64, min: i64) -> Result<(), FieldError> {
    if !(min..=STRETCH_MS_MAX).contains(&ms) {
        let found = format!("expected {min} ms to 7 days, found {ms} ms");
        return refuse(field, found);
    }
    Ok(())
}

fn runbook_url(url: &str) -> Result<(), FieldError> {
    let known = url.is_empty() || url.starts_with("https://") || url.starts_with("http://");
    if !known || url.len() > 2048 || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        let expected = "expected an address that starts with http:// or https://, found";
        return refuse("runbook_url", format!("{expected} {:?}", shown(url)));
    }
    Ok(())
}

fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

fn refuse<T>(field: &str, problem: impl std::fmt::Display) -> Result<T, FieldError> {
    Err(FieldError::new(field, problem))
}
