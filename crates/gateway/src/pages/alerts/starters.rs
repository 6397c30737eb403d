//! Rules to start from: what most people want first, with values that rarely disturb.

use proto::convert::duration_from_ms;
use proto::v1;
use proto::v1::alert_rule::Condition;
use proto::v1::threshold_condition::Signal;

use super::text::matchers_from_text;

pub(super) struct Starter {
    /// In the address: `?from=cpu`.
    pub(super) key: &'static str,
    pub(super) title: &'static str,
    pub(super) rule: v1::AlertRule,
}

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

pub(super) fn starters() -> Vec<Starter> {
    use model::metric;
    let minutes = |n: i64| Some(duration_from_ms(n * MINUTE_MS));
    let hours = |n: i64| Some(duration_from_ms(n * HOUR_MS));
    // All CPUs together: the series that has neither label.
    let whole_cpu = || matchers("cpu.mode=, cpu.logical_number=");
    let mut starters = vec![
        of_values(
            "cpu",
            "CPU above 80 %",
            v1::ThresholdCondition {
                metric: metric::CPU_UTILIZATION.name.to_owned(),
                labels: whole_cpu(),
                signal: Signal::Mean.into(),
                window: minutes(5),
                warning: Some(0.8),
                critical: Some(0.95),
                recover: Some(0.7),
                ..Default::default()
            },
        ),
        of_values(
            "memory",
            "Memory above 90 %",
            v1::ThresholdCondition {
                metric: metric::MEMORY_UTILIZATION.name.to_owned(),
                signal: Signal::Mean.into(),
                window: minutes(1),
                warning: Some(0.9),
                critical: Some(0.97),
                recover: Some(0.87),
                ..Default::default()
            },
        ),
        of_values(
            "disk",
            "Disk full within 4 h",
            v1::ThresholdCondition {
                metric: metric::FILESYSTEM_UTILIZATION.name.to_owned(),
                signal: Signal::Forecast.into(),
                window: hours(1),
                forecast: hours(4),
                warning: Some(1.0),
                recover: Some(0.95),
                ..Default::default()
            },
        ),
        Starter {
            key: "offline",
            title: "Machine offline",
            rule: v1::AlertRule {
                condition: Some(Condition::Offline(v1::OfflineCondition {
                    level: v1::AlertLevel::Critical.into(),
                })),
                ..Default::default()
            },
        },
        Starter {
            key: "errors",
            title: "Error rate",
            rule: v1::AlertRule {
                condition: Some(Condition::Log(v1::LogCondition {
                    query: "level:>=error".to_owned(),
                    window: minutes(5),
                    warning: Some(20.0),
                    critical: Some(200.0),
                    recover: Some(10.0),
                })),
                ..Default::default()
            },
        },
        of_values(
            "unusual",
            "Unusual CPU",
            v1::ThresholdCondition {
                metric: metric::CPU_UTILIZATION.name.to_owned(),
                labels: whole_cpu(),
                signal: Signal::Deviation.into(),
                window_values: 100,
                warning: Some(3.0),
                ..Default::default()
            },
        ),
    ];
    for starter in &mut starters {
        let (for_minutes, summary) = match starter.key {
            "cpu" => (2, "{{ machine.name }}: the CPU is at {{ value | percent }}"),
            "memory" => (5, "{{ machine.name }}: {{ value | percent }} of the memory is in use"),
            "disk" => (
                10,
                "{{ machine.name }}: {{ labels.system.filesystem.mountpoint }} will be full within 4 hours",
            ),
            "offline" => (1, "{{ machine.name }} went silent"),
            "errors" => (
                0,
                "{{ machine.name }}: {{ labels.service.name }} logged {{ value }} errors in five minutes",
            ),
            _ => (1, "{{ machine.name }}: the CPU is {{ value }} deviations off"),
        };
        starter.title.clone_into(&mut starter.rule.name);
        summary.clone_into(&mut starter.rule.summary);
        starter.rule.r#for = if for_minutes > 0 { minutes(for_minutes) } else { None };
    }
    starters
}

fn of_values(key: &'static str, title: &'static str, threshold: v1::ThresholdCondition) -> Starter {
    let condition = Some(Condition::Threshold(threshold));
    Starter { key, title, rule: v1::AlertRule { condition, ..Default::default() } }
}

fn matchers(text: &str) -> Vec<v1::LabelMatcher> {
    matchers_from_text(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::form::RuleForm;
    use super::*;

    #[test]
    fn each_can_be_sent_as_it_is() {
        let mut titles = Vec::new();
        for Starter { key, title, rule } in starters() {
            let form = RuleForm::of(&rule);
            let sent = form.to_rule(v1::AlertRule::default());
            assert_eq!(sent.map(|sent| sent.condition), Ok(rule.condition), "{key}");
            assert!(!rule.summary.is_empty() && rule.name == title, "{key}");
            titles.push(title);
        }
        titles.sort_unstable();
        titles.dedup();
        assert_eq!(titles.len(), starters().len());
    }
}
