//! Which things of a kind are read.

use model::glob;

/// Globs over names. What is included wins, then what is excluded, then the probe's own defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub include: Vec<String>,
    pub exclude: Vec<String>,
}

impl Filter {
    /// Whether to read `name`, which the defaults would (or would not).
    pub fn allows(&self, name: &str, by_default: bool) -> bool {
        let any = |globs: &[String]| globs.iter().any(|pattern| glob::matches(pattern, name));
        any(&self.include) || (by_default && !any(&self.exclude))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inclusion_beats_exclusion_beats_the_default() {
        fn check(name: &str, by_default: bool, expected: bool) {
            let filter = Filter { include: vec!["docker0".into()], exclude: vec!["d*".into()] };
            assert_eq!(filter.allows(name, by_default), expected, "{name}");
        }
        check("docker0", false, true);
        check("docker1", true, false);
        check("eth0", true, true);
        check("eth0", false, false);
    }
}
