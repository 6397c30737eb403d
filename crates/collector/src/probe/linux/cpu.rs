//! Share of CPU time in use: all CPUs, by mode, and each CPU.

use anyhow::Context;
use model::metric::{CPU_LOGICAL_COUNT, CPU_UTILIZATION};

use super::source::{Source, number};
use crate::probe::quantise::share;
use crate::probe::{At, Probe, Setup, Sheet};

struct Cpu {
    stat: Source,
    before: Option<Stat>,
}

pub(super) fn open(setup: &Setup) -> Box<dyn Probe> {
    Box::new(Cpu { stat: Source::new(setup.config.proc_root.join("stat")), before: None })
}

impl Probe for Cpu {
    fn read(&mut self, _: At, sheet: &mut Sheet) -> anyhow::Result<()> {
        let stat = parse(&self.stat.text()?)?;
        let before = self.before.as_ref();
        let all = stat.all.since(before.map(|b| &b.all));
        sheet.put(&CPU_UTILIZATION, [], share(all.busy(), all.total()));
        for (mode, time) in all.modes() {
            sheet.put(&CPU_UTILIZATION, [("cpu.mode", mode)], share(time, all.total()));
        }
        for (index, (number, times)) in stat.each.iter().enumerate() {
            // CPUs come and go, so the same place in the list may be another CPU.
            let before = before.and_then(|b| {
                b.each.get(index).filter(|(n, _)| n == number).map(|(_, times)| times)
            });
            let one = times.since(before);
            let value = share(one.busy(), one.total());
            sheet.put(&CPU_UTILIZATION, [("cpu.logical_number", number)], value);
        }
        sheet.put(&CPU_LOGICAL_COUNT, [], stat.each.len() as f64);
        self.before = Some(stat);
        Ok(())
    }
}

/// CPU time since boot, in clock ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Times {
    user: u64,
    nice: u64,
    system: u64,
    idle: u64,
    iowait: u64,
    interrupt: u64,
    steal: u64,
}

/// The CPU lines of `/proc/stat`. CPUs by their number as text, which is how they are labelled.
#[derive(Debug, PartialEq)]
struct Stat {
    all: Times,
    each: Vec<(String, Times)>,
}

impl Times {
    /// The difference; zero where nothing is known of the time before, or a count went backwards (the
    /// kernel's iowait does).
    fn since(&self, before: Option<&Self>) -> Self {
        let Some(b) = before else {
            return Self::default();
        };
        Self {
            user: self.user.saturating_sub(b.user),
            nice: self.nice.saturating_sub(b.nice),
            system: self.system.saturating_sub(b.system),
            idle: self.idle.saturating_sub(b.idle),
            iowait: self.iowait.saturating_sub(b.iowait),
            interrupt: self.interrupt.saturating_sub(b.interrupt),
            steal: self.steal.saturating_sub(b.steal),
        }
    }

    fn modes(&self) -> [(&'static str, f64); 7] {
        [
            ("user", self.user as f64),
            ("nice", self.nice as f64),
            ("system", self.system as f64),
            ("idle", self.idle as f64),
            ("iowait", self.iowait as f64),
            ("interrupt", self.interrupt as f64),
            ("steal", self.steal as f64),
        ]
    }

    fn total(&self) -> f64 {
        self.modes().iter().map(|(_, time)| time).sum()
    }

    fn busy(&self) -> f64 {
        self.total() - self.idle as f64 - self.iowait as f64
    }
}

fn parse(text: &str) -> anyhow::Result<Stat> {
    let mut all = None;
    let mut each = Vec::new();
    // The CPU lines come first; what follows can be very long.
    for line in text.lines().take_while(|line| line.starts_with("cpu")) {
        let (name, fields) = line.split_once(' ').unwrap_or((line, ""));
        let times = parse_times(fields).with_context(|| format!("stat: {name}"))?;
        match &name["cpu".len()..] {
            "" => all = Some(times),
            number => each.push((number.to_owned(), times)),
        }
    }
    Ok(Stat { all: all.context("stat: line \"cpu\" is missing")?, each })
}

fn parse_times(fields: &str) -> anyhow::Result<Times> {
    let mut fields = fields.split_ascii_whitespace();
    let mut next = |what| number::<u64>(fields.next(), what);
    let (user, nice, system, idle) = (next("user")?, next("nice")?, next("system")?, next("idle")?);
    // Later kernels added these one by one. Guest time stands in user and nice already.
    let mut later = || next("later").unwrap_or(0);
    let (iowait, irq, softirq, steal) = (later(), later(), later(), later());
    let interrupt = irq.saturating_add(softirq);
    Ok(Times { user, nice, system, idle, iowait, interrupt, steal })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: &str = include_str!("../../../fixtures/proc/stat");

    #[test]
    fn a_recorded_stat_has_all_cpus_and_each() {
        let stat = parse(RECORDED).expect("parses");
        let numbers: Vec<&str> = stat.each.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(numbers, ["0", "1"]);
        assert_eq!(stat.all.user, 122536);
        assert_eq!(stat.all.interrupt, 175);
        assert_eq!(stat.all.steal, 2447);
    }

    #[test]
    fn an_old_kernel_without_iowait_still_counts() {
        let stat = parse("cpu  10 20 30 40\ncpu0 10 20 30 40\nintr 1\n").expect("parses");
        assert_eq!(stat.all.total(), 100.0);
        assert_eq!(stat.all.busy(), 60.0);
    }

    #[test]
    fn a_bad_table_is_named() {
        fn check(text: &str, expected: &str) {
            let error = format!("{:#}", parse(text).expect_err("accepted"));
            assert!(error.contains(expected), "{error}");
        }
        check("", "\"cpu\" is missing");
        check("cpu  1 2 x 4", "cpu: system: expected a number, found \"x\"");
        check("cpu  1 2 3 4\ncpu1 1 2", "cpu1: system is missing");
    }

    #[test]
    fn shares_are_of_the_time_between_two_readings() {
        let before = parse("cpu  100 0 50 800 50 0 0 0").expect("parses");
        let after = parse("cpu  150 0 60 830 45 5 5 0").expect("parses");
        let all = after.all.since(Some(&before.all));
        assert_eq!(all.total(), 100.0);
        assert_eq!(share(all.busy(), all.total()), 0.7);
        assert_eq!(all.iowait, 0, "went backwards");
        assert!(share(0.0, after.all.since(None).total()).is_nan(), "needs a reading before");
    }
}
