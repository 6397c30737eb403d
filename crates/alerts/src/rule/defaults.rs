//! The rules that are there from the first start.

use proto::convert::FieldError;

use super::{File, Spec};

/// Written as a user would write them: `defaults.toml` is also the example to copy from.
const TEXT: &str = include_str!("defaults.toml");

pub fn defaults() -> Result<Vec<Spec>, FieldError> {
    let file: File = toml::from_str(TEXT).map_err(|e| FieldError::new("defaults.toml", e))?;
    file.rules.iter().map(|rule| rule.get_ref().to_spec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_rule_is_valid_and_about_a_metric_that_collectors_send() {
        let rules = defaults().expect("valid");
        assert!(rules.len() >= 6, "{}", rules.len());
        for rule in rules {
            let Some(threshold) = rule.threshold() else { continue };
            let names = std::iter::once(&threshold.metric).chain(&threshold.divide_by);
            for name in names {
                assert!(model::metric::ALL.iter().any(|m| m.name == name), "{name}");
            }
        }
    }
}
