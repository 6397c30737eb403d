//! Pressure stall information: how long tasks waited for CPU, memory and I/O.
//!
//! Kernels before 4.20, or built without PSI, have none: then there are no series.

use anyhow::Context;
use model::metric::{PRESSURE_TIME, PRESSURE_UTILIZATION};

use super::source::{Source, number};
use crate::probe::quantise::ratio;
use crate::probe::{At, Probe, Setup, Sheet};

struct Pressure {
    resources: Vec<(&'static str, Source)>,
}

pub(super) fn open(setup: &Setup) -> Box<dyn Probe> {
    let dir = setup.config.proc_root.join("pressure");
    let resources = ["cpu", "memory", "io"].map(|name| (name, Source::new(dir.join(name))));
    Box::new(Pressure { resources: resources.into() })
}

impl Probe for Pressure {
    fn read(&mut self, _: At, sheet: &mut Sheet) -> anyhow::Result<()> {
        for (resource, source) in &mut self.resources {
            let Some(text) = source.text_if_present()? else {
                continue;
            };
            for stall in parse(&text).with_context(|| format!("pressure/{resource}"))? {
                let labels =
                    [("system.pressure.kind", stall.kind), ("system.pressure.resource", *resource)];
                sheet.put(&PRESSURE_UTILIZATION, labels, ratio(stall.percent_10s / 100.0));
                sheet.put(&PRESSURE_TIME, labels, (stall.total_us / 1000) as f64 / 1000.0);
            }
        }
        Ok(())
    }
}

#[derive(Debug, PartialEq)]
struct Stall {
    /// `some` or `full`.
    kind: &'static str,
    percent_10s: f64,
    total_us: u64,
}

fn parse(text: &str) -> anyhow::Result<Vec<Stall>> {
    text.lines().filter(|line| !line.trim().is_empty()).map(parse_line).collect()
}

fn parse_line(line: &str) -> anyhow::Result<Stall> {
    let mut fields = line.split_ascii_whitespace();
    let kind = match fields.next() {
        Some("some") => "some",
        Some("full") => "full",
        other => anyhow::bail!("expected \"some\" or \"full\", found {other:?}"),
    };
    let value = |name: &str| {
        line.split_ascii_whitespace().find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
    };
    Ok(Stall {
        kind,
        percent_10s: number(value("avg10"), "avg10")?,
        total_us: number(value("total"), "total")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_file_has_some_and_full() {
        let stalls = parse(include_str!("../../../fixtures/proc/pressure/io")).expect("parses");
        assert_eq!(
            stalls,
            [
                Stall { kind: "some", percent_10s: 0.08, total_us: 9_613_129 },
                Stall { kind: "full", percent_10s: 0.06, total_us: 7_742_544 },
            ]
        );
    }

    #[test]
    fn kernels_before_5_13_have_no_full_for_the_cpu() {
        let stalls = parse("some avg10=2.04 avg60=0.75 avg300=0.40 total=157656722\n");
        assert_eq!(stalls.expect("parses").len(), 1);
    }

    #[test]
    fn a_bad_line_names_the_field() {
        let check = |text: &str, expected: &str| {
            let error = parse(text).expect_err("accepted").to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("most avg10=1 total=1", "\"most\"");
        check("some avg60=1 total=1", "avg10 is missing");
        check("some avg10=1 total=-1", "total: expected a number");
    }
}
