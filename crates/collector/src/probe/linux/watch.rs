//! What somebody counts on: for each pattern how many run, also when it is none.

use model::glob;
use model::metric::Metric;

use crate::probe::Sheet;

/// The kernel keeps this much of the name of a process.
const KERNEL_NAME_BYTES: usize = 15;

/// Globs over names.
#[derive(Debug)]
pub(super) struct Watch(Vec<String>);

/// How many fit, in one reading.
#[derive(Debug)]
pub(super) struct Tally<'a> {
    patterns: &'a [String],
    counts: Vec<u32>,
}

impl Watch {
    pub(super) fn new(patterns: Vec<String>) -> Self {
        Self(patterns)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn tally(&self) -> Tally<'_> {
        Tally { patterns: &self.0, counts: vec![0; self.0.len()] }
    }
}

impl Tally<'_> {
    /// One more of this name.
    pub(super) fn see(&mut self, name: &str) {
        self.see_if(|pattern| glob::matches(pattern, name));
    }

    /// One more process, of this name as far as the kernel keeps it.
    pub(super) fn see_process(&mut self, name: &str) {
        self.see_if(|pattern| fits_process(pattern, name));
    }

    fn see_if(&mut self, fits: impl Fn(&str) -> bool) {
        for (pattern, count) in self.patterns.iter().zip(&mut self.counts) {
            *count += u32::from(fits(pattern));
        }
    }

    /// `unsure`: there may be more than were seen, so none is not known to be none.
    pub(super) fn put(
        self,
        sheet: &mut Sheet,
        metric: &'static Metric,
        label: &'static str,
        unsure: bool,
    ) {
        for (pattern, count) in self.patterns.iter().zip(self.counts) {
            let value = if count == 0 && unsure { f64::NAN } else { f64::from(count) };
            sheet.put(metric, [(label, pattern.as_str())], value);
        }
    }
}

fn fits_process(pattern: &str, name: &str) -> bool {
    let cut = name.len() == KERNEL_NAME_BYTES && !pattern.contains(['*', '?']);
    glob::matches(pattern, name) || cut && pattern.starts_with(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_by_globs_and_long_ones_by_what_the_kernel_keeps() {
        let check = |pattern: &str, name: &str, expected| {
            assert_eq!(fits_process(pattern, name), expected, "{pattern} {name}");
        };
        check("postgres", "postgres", true);
        check("postgres", "postgres_export", false);
        check("nginx*", "nginx-worker", true);
        check("prometheus-node-exporter", "prometheus-node", true);
        check("prometheus-node-exporter", "prometheus", false);
    }

    #[test]
    fn only_names_of_processes_are_cut() {
        let watch = Watch::new(vec!["prometheus-node-exporter".to_owned()]);
        let mut tally = watch.tally();
        tally.see("prometheus-node");
        assert_eq!(tally.counts, [0]);
        tally.see_process("prometheus-node");
        assert_eq!(tally.counts, [1]);
    }
}
