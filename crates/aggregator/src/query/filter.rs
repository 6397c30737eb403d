//! Which metrics a reader wants.

use model::{Layout, limits};
use tonic::Status;

/// Metric names, each whole or with a trailing `*`. Empty: all.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct MetricFilter(Vec<Pattern>);

#[derive(Clone, Debug, PartialEq)]
enum Pattern {
    Exact(String),
    Prefix(String),
}

const PATTERNS_MAX: usize = 256;

impl MetricFilter {
    pub(super) fn new(field: &str, patterns: Vec<String>) -> Result<Self, Status> {
        let invalid = |problem: String| Err(Status::invalid_argument(problem));
        if patterns.len() > PATTERNS_MAX {
            let count = patterns.len();
            return invalid(format!("{field}: expected at most {PATTERNS_MAX}, found {count}"));
        }
        let mut filter = Vec::with_capacity(patterns.len());
        for (i, pattern) in patterns.into_iter().enumerate() {
            if pattern.is_empty() || pattern.len() > limits::METRIC_NAME_BYTES_MAX {
                let max = limits::METRIC_NAME_BYTES_MAX;
                let found = pattern.len();
                return invalid(format!("{field}[{i}]: expected 1 to {max} bytes, found {found}"));
            }
            let pattern = match pattern.strip_suffix('*') {
                Some(prefix) => Pattern::Prefix(prefix.to_owned()),
                None => Pattern::Exact(pattern),
            };
            let (Pattern::Exact(text) | Pattern::Prefix(text)) = &pattern;
            if text.contains('*') {
                return invalid(format!("{field}[{i}]: '*' may only stand at the end of {text:?}"));
            }
            filter.push(pattern);
        }
        Ok(Self(filter))
    }

    pub(super) fn accepts(&self, metric: &str) -> bool {
        self.0.is_empty()
            || self.0.iter().any(|pattern| match pattern {
                Pattern::Exact(name) => metric == name,
                Pattern::Prefix(prefix) => metric.starts_with(prefix.as_str()),
            })
    }

    /// The columns of a layout that are wanted.
    pub(super) fn columns(&self, layout: &Layout) -> Vec<usize> {
        let series = layout.series().iter().enumerate();
        series.filter(|(_, s)| self.accepts(&s.metric)).map(|(i, _)| i).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trailing_star_matches_any_rest() {
        fn check(patterns: &[&str], metric: &str, expected: bool) {
            let patterns = patterns.iter().map(|&p| p.to_owned()).collect();
            let filter = MetricFilter::new("metrics", patterns).expect("valid");
            assert_eq!(filter.accepts(metric), expected, "{filter:?} on {metric}");
        }
        check(&[], "anything", true);
        check(&["system.cpu.*"], "system.cpu.utilization", true);
        check(&["system.cpu.*"], "system.cpu", false);
        check(&["system.cpu.utilization"], "system.cpu.utilization", true);
        check(&["a", "b"], "b", true);
        check(&["a", "b"], "c", false);
        check(&["*"], "c", true);
    }

    #[test]
    fn a_bad_pattern_is_refused_with_its_place() {
        fn check(pattern: &str) {
            let patterns = vec!["fine".to_owned(), pattern.to_owned()];
            let status = MetricFilter::new("metrics", patterns).expect_err("accepted");
            assert!(status.message().starts_with("metrics[1]: "), "{status}");
        }
        check("");
        check("a*b");
        check(&"x".repeat(256));
    }
}
