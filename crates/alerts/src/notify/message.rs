//! What one message says: one or more notices about one rule.

use jiff::Timestamp;

use crate::notice::{Kind, Notice};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    pub(crate) notices: Vec<Notice>,
    /// Nothing happened: somebody pressed the button.
    pub(crate) test: bool,
}

/// Lines of one message; the rest is counted.
const LINES_MAX: usize = 20;

impl Message {
    pub(crate) fn new(notices: Vec<Notice>) -> Self {
        Self { notices, test: false }
    }

    pub(crate) fn test(channel: &str) -> Self {
        let notice = Notice {
            kind: Kind::Firing,
            alert_id: "0".repeat(32),
            incident_id: "test".to_owned(),
            rule_id: "test".to_owned(),
            rule_name: "test message".to_owned(),
            level: "warning".to_owned(),
            machine_id: "0".repeat(32),
            host_name: "muster".to_owned(),
            machine_labels: Default::default(),
            metric: String::new(),
            labels: Default::default(),
            rule_labels: Default::default(),
            value: None,
            peak: None,
            threshold: None,
            summary: format!("This is a test of the channel {channel}. Nothing is wrong."),
            runbook_url: String::new(),
            started_unix_ms: crate::book::now().0,
            resolved_unix_ms: None,
        };
        Self { notices: vec![notice], test: true }
    }

    /// Everything in it is over.
    pub(crate) fn is_resolved(&self) -> bool {
        self.notices.iter().all(|n| n.kind == Kind::Resolved)
    }

    pub(crate) fn is_critical(&self) -> bool {
        self.notices.iter().any(|n| n.kind != Kind::Resolved && n.level == "critical")
    }

    pub(crate) fn rule_name(&self) -> &str {
        self.notices.first().map_or("", |n| &n.rule_name)
    }

    /// "CRITICAL: machine offline (3)", "RESOLVED: load high on web-1".
    pub(crate) fn title(&self) -> String {
        let state = match (self.test, self.is_resolved(), self.is_critical()) {
            (true, ..) => "TEST",
            (_, true, _) => "RESOLVED",
            (_, _, true) => "CRITICAL",
            _ => "WARNING",
        };
        match self.notices.as_slice() {
            [one] => format!("{state}: {} on {}", one.rule_name, one.host_name),
            many => format!("{state}: {} ({})", self.rule_name(), many.len()),
        }
    }

    /// One line per notice, plain text.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.notices.iter().take(LINES_MAX).map(line).collect();
        if let Some(more) = self.notices.len().checked_sub(LINES_MAX).filter(|more| *more > 0) {
            lines.push(format!("… and {more} more"));
        }
        lines
    }

    pub(crate) fn text(&self) -> String {
        self.lines().join("\n")
    }

    /// Where it says what to do, when all notices agree.
    pub(crate) fn runbook_url(&self) -> Option<&str> {
        self.notices.first().map(|n| n.runbook_url.as_str()).filter(|url| !url.is_empty())
    }
}

fn line(notice: &Notice) -> String {
    let prefix = match notice.kind {
        Kind::Firing => "",
        Kind::Escalated => "now critical: ",
        Kind::Repeated => "still: ",
        Kind::Resolved => "over: ",
    };
    let lasted = notice.resolved_unix_ms.map(|end| {
        let ms = (end - notice.started_unix_ms).max(0) as u64;
        format!(" (after {})", daemon::config::Span::from_millis(ms / 1000 * 1000))
    });
    format!("{prefix}{}{}", notice.summary, lasted.unwrap_or_default())
}

/// RFC 3339, in UTC.
pub(super) fn rfc3339(unix_ms: i64) -> String {
    Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}
