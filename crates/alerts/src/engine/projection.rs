//! Which columns of a layout matter to which rules, worked out once.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Layout, LayoutId, Rule};
use crate::rule::Threshold;

/// What the rules want of one layout, whichever machine sends it.
#[derive(Debug, Default)]
pub(super) struct Projection {
    /// Column, and the rule that watches it by its place in the list of rules.
    pub(super) watched: Vec<(u32, u32)>,
    /// Columns that some rule divides by.
    pub(super) divisors: Vec<u32>,
}

#[derive(Debug, Default)]
pub(super) struct Projections {
    rules: Vec<Arc<Rule>>,
    /// Of them, those about logs.
    log_rules: Vec<Arc<Rule>>,
    /// Grows with every change of the rules.
    generation: u64,
    by_layout: HashMap<LayoutId, Arc<Projection>>,
}

impl Projections {
    pub(super) fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    pub(super) fn log_rules(&self) -> &[Arc<Rule>] {
        &self.log_rules
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn set_rules(&mut self, rules: Vec<Arc<Rule>>) {
        self.log_rules = rules.iter().filter(|rule| rule.spec.log().is_some()).cloned().collect();
        self.rules = rules;
        self.generation += 1;
        self.by_layout.clear();
    }

    /// Drops what may no longer be used; it is worked out again when it is.
    pub(super) fn forget(&mut self) {
        self.by_layout.clear();
    }

    pub(super) fn of(&mut self, layout: &Layout) -> Arc<Projection> {
        let project = || Arc::new(project(&self.rules, layout));
        self.by_layout.entry(layout.id()).or_insert_with(project).clone()
    }
}

fn project(rules: &[Arc<Rule>], layout: &Layout) -> Projection {
    let mut by_metric: HashMap<&str, Vec<(u32, &Threshold)>> = HashMap::new();
    let mut divisors: Vec<&str> = Vec::new();
    for (place, rule) in (0..).zip(rules) {
        let Some(threshold) = rule.spec.threshold() else { continue };
        by_metric.entry(&threshold.metric).or_default().push((place, threshold));
        divisors.extend(threshold.divide_by.as_deref());
    }
    let mut projection = Projection::default();
    for (column, series) in (0..).zip(layout.series()) {
        for (place, threshold) in by_metric.get(&*series.metric).into_iter().flatten() {
            if model::Matcher::all_accept(&threshold.labels, &series.labels) {
                projection.watched.push((column, *place));
            }
        }
        if divisors.contains(&&*series.metric) {
            projection.divisors.push(column);
        }
    }
    projection
}
