//! Load averages.

use model::metric::{LOAD_1M, LOAD_5M, LOAD_15M};

use super::source::{Source, number};
use crate::probe::{At, Probe, Setup, Sheet};

struct Load {
    loadavg: Source,
}

pub(super) fn open(setup: &Setup) -> Box<dyn Probe> {
    Box::new(Load { loadavg: Source::new(setup.config.proc_root.join("loadavg")) })
}

impl Probe for Load {
    fn read(&mut self, _: At, sheet: &mut Sheet) -> anyhow::Result<()> {
        let [one, five, fifteen] = parse(&self.loadavg.text()?)?;
        sheet.put(&LOAD_1M, [], one);
        sheet.put(&LOAD_5M, [], five);
        sheet.put(&LOAD_15M, [], fifteen);
        Ok(())
    }
}

/// Over 1, 5 and 15 minutes. The kernel writes two decimals.
fn parse(text: &str) -> anyhow::Result<[f64; 3]> {
    let mut fields = text.split_ascii_whitespace();
    let mut next = |what| number(fields.next(), what);
    Ok([next("loadavg: 1 min")?, next("loadavg: 5 min")?, next("loadavg: 15 min")?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_loadavg_has_three_averages() {
        let recorded = include_str!("../../../fixtures/proc/loadavg");
        assert_eq!(parse(recorded).expect("parses"), [0.28, 0.62, 0.67]);
    }

    #[test]
    fn a_short_line_names_what_is_missing() {
        let error = parse("0.5 0.4").expect_err("accepted");
        assert_eq!(error.to_string(), "loadavg: 15 min is missing");
    }
}
