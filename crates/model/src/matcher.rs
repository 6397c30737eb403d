//! Selecting series and machines by label.

use crate::{Labels, glob};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchOp {
    Equal,
    NotEqual,
    Glob,
    NotGlob,
}

/// Selects by one label. An absent label equals the empty text, as in Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Matcher {
    pub name: String,
    pub op: MatchOp,
    pub value: String,
}

impl Matcher {
    pub fn equal(name: &str, value: &str) -> Self {
        Self { name: name.to_owned(), op: MatchOp::Equal, value: value.to_owned() }
    }

    /// Whether a label with this value passes.
    pub fn accepts(&self, value: &str) -> bool {
        match self.op {
            MatchOp::Equal => value == self.value,
            MatchOp::NotEqual => value != self.value,
            MatchOp::Glob => glob::matches(&self.value, value),
            MatchOp::NotGlob => !glob::matches(&self.value, value),
        }
    }

    /// Whether every matcher accepts these labels.
    pub fn all_accept(matchers: &[Self], labels: &Labels) -> bool {
        matchers.iter().all(|m| m.accepts(labels.get(&m.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_label_is_the_empty_text() {
        let labels = Labels::of([("env", "dev")]);
        let check = |name: &str, op, value: &str, expected: bool| {
            let matcher = Matcher { name: name.into(), op, value: value.into() };
            assert_eq!(
                Matcher::all_accept(std::slice::from_ref(&matcher), &labels),
                expected,
                "{matcher:?}"
            );
        };
        check("env", MatchOp::Equal, "dev", true);
        check("env", MatchOp::Glob, "d*", true);
        check("env", MatchOp::NotGlob, "d*", false);
        check("zone", MatchOp::Equal, "", true);
        check("zone", MatchOp::NotEqual, "", false);
        check("zone", MatchOp::Equal, "eu", false);
    }
}
