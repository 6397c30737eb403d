//! Time since boot.

use model::metric::UPTIME;

use super::source::{Source, number};
use crate::probe::{At, Probe, Setup, Sheet};

struct Uptime {
    uptime: Source,
}

pub(super) fn open(setup: &Setup) -> Box<dyn Probe> {
    Box::new(Uptime { uptime: Source::new(setup.config.proc_root.join("uptime")) })
}

impl Probe for Uptime {
    fn read(&mut self, _: At, sheet: &mut Sheet) -> anyhow::Result<()> {
        // Whole seconds: the fraction would only say when in its second the tick ran.
        sheet.put(&UPTIME, [], parse(&self.uptime.text()?)?.floor());
        Ok(())
    }
}

fn parse(text: &str) -> anyhow::Result<f64> {
    number(text.split_ascii_whitespace().next(), "uptime")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_is_the_uptime() {
        assert_eq!(parse(include_str!("../../../fixtures/proc/uptime")).expect("parses"), 2143.33);
        assert!(parse("").is_err());
    }
}
