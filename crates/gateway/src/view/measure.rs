//! What the values that a rule judges are in, and how people write them. Pure.

use daemon::config::Span;
use proto::v1;
use proto::v1::threshold_condition::Signal;

use crate::format;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Measure {
    /// A share: 1 is all of it.
    Ratio,
    Bytes,
    BytesRate,
    Seconds,
    Celsius,
    #[default]
    Number,
    NumberRate,
    /// Standard deviations.
    Deviations,
}

const BINARY: [(&str, f64); 5] = [
    ("PiB", 1_125_899_906_842_624.0),
    ("TiB", 1_099_511_627_776.0),
    ("GiB", 1_073_741_824.0),
    ("MiB", 1_048_576.0),
    ("KiB", 1024.0),
];
const DECIMAL: [(&str, f64); 5] =
    [("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];

impl Measure {
    /// Of what this rule holds against its thresholds.
    pub(crate) fn of(threshold: &v1::ThresholdCondition) -> Self {
        let own = unit(&threshold.metric);
        let base = match threshold.divide_by.as_str() {
            "" => own,
            // Bytes of bytes are a share; tasks of CPUs are a number.
            divisor if own.is_some() && unit(divisor) == own => Some("1"),
            _ => None,
        };
        match threshold.signal() {
            Signal::Count => Self::Number,
            Signal::Deviation => Self::Deviations,
            Signal::Rate => match base {
                Some("By") => Self::BytesRate,
                // Seconds of each second.
                Some("s") => Self::Ratio,
                _ => Self::NumberRate,
            },
            _ => match base {
                Some("1") => Self::Ratio,
                Some("By") => Self::Bytes,
                Some("s") => Self::Seconds,
                Some("Cel") => Self::Celsius,
                _ => Self::Number,
            },
        }
    }

    /// What its incidents' values are in; a number where the rule does not tell.
    pub(crate) fn of_rule(rule: &v1::AlertRule) -> Self {
        match &rule.condition {
            Some(v1::alert_rule::Condition::Threshold(threshold)) => Self::of(threshold),
            _ => Self::Number,
        }
    }

    /// Short, for reading: `93 %`, `3.2 GiB`.
    pub(crate) fn say(self, value: f64) -> String {
        match self {
            Self::Ratio => format::percent(value),
            Self::Bytes => format::bytes(value),
            Self::BytesRate => format::bytes_rate(value),
            Self::Seconds => format::duration(value),
            Self::Celsius => format::celsius(value),
            Self::Number => format::number(value),
            Self::NumberRate => format!("{}/s", format::number(value)),
            Self::Deviations => format!("{} σ", format::number(value)),
        }
    }

    /// Exact, for a field: what [`read`](Self::read) takes back as the same value.
    pub(crate) fn write(self, value: f64) -> String {
        match self {
            Self::Ratio => format!("{} %", shifted(value, 2).unwrap_or(value * 100.0)),
            Self::Bytes => write_bytes(value),
            Self::BytesRate => format!("{}/s", write_bytes(value)),
            Self::Celsius => format!("{value} °C"),
            Self::NumberRate => format!("{value}/s"),
            Self::Seconds => {
                let ms = value * 1000.0;
                let exact = value > 0.0 && ms.fract() == 0.0 && ms < 1e15;
                let span = exact.then(|| Span::from_millis(ms as u64).to_string());
                span.unwrap_or_else(|| value.to_string())
            }
            Self::Number | Self::Deviations => value.to_string(),
        }
    }

    /// What somebody typed; with its unit, or without.
    pub(crate) fn read(self, text: &str) -> Result<f64, String> {
        let text = text.trim();
        let found = match self {
            Self::Ratio => match text.strip_suffix('%') {
                Some(percent) => of_percent(percent),
                // 80 may stand for 80 % or for eighty times all of it: nobody should have to guess.
                None => number(text).filter(|share| share.abs() <= 1.0),
            },
            Self::Bytes => read_bytes(text),
            Self::BytesRate => read_bytes(text.strip_suffix("/s").unwrap_or(text)),
            Self::Seconds => number(text).or_else(|| {
                let span: Span = text.parse().ok()?;
                Some(span.get().as_secs_f64())
            }),
            Self::Celsius => number(text.strip_suffix("°C").unwrap_or(text)),
            // Of what programs push nobody knows whether it is a share.
            Self::Number => match text.strip_suffix('%') {
                Some(percent) => of_percent(percent),
                None => number(text),
            },
            Self::NumberRate => number(text.strip_suffix("/s").unwrap_or(text)),
            Self::Deviations => number(text.strip_suffix('σ').unwrap_or(text)),
        };
        found.ok_or_else(|| format!("expected {}, found {text:?}", self.example()))
    }

    /// What a field asks for.
    pub(crate) fn example(self) -> &'static str {
        match self {
            Self::Ratio => "a share such as 80 % (or 0.8)",
            Self::Bytes => "bytes such as 512 MiB",
            Self::BytesRate => "bytes per second such as 10 MiB/s",
            Self::Seconds => "a time such as 90s or 5m",
            Self::Celsius => "degrees such as 75 °C",
            Self::Number => "a number",
            Self::NumberRate => "a number per second",
            Self::Deviations => "standard deviations such as 3",
        }
    }
}

fn unit(metric: &str) -> Option<&'static str> {
    let known = model::metric::ALL.iter().find(|known| known.name == metric)?;
    // What is 1 or 0 has no unit either, and is no share.
    (known.unit != "1" || metric.ends_with("utilization")).then_some(known.unit)
}

fn number(text: &str) -> Option<f64> {
    // "inf" and "nan" are numbers to the language, but to nobody who sets a threshold.
    let value: f64 = text.trim().parse().ok()?;
    value.is_finite().then_some(value)
}

fn of_percent(text: &str) -> Option<f64> {
    number(text).and_then(|percent| shifted(percent, -2))
}

/// The decimal point moved as on paper: 33.3 becomes 0.333, not 0.33299999999999996.
fn shifted(value: f64, places: i32) -> Option<f64> {
    format!("{value}e{places}").parse().ok().filter(|value: &f64| value.is_finite())
}

fn write_bytes(bytes: f64) -> String {
    let fits = |size: f64| bytes.abs() >= size && (bytes / size * 100.0).fract() == 0.0;
    let unit = BINARY.into_iter().chain(DECIMAL).find(|(_, size)| fits(*size));
    match unit {
        Some((unit, size)) => format!("{} {unit}", bytes / size),
        None => format!("{bytes} B"),
    }
}

fn read_bytes(text: &str) -> Option<f64> {
    for (unit, size) in BINARY.into_iter().chain(DECIMAL).chain([("B", 1.0)]) {
        if let Some(value) = text.strip_suffix(unit) {
            return number(value).map(|value| value * size);
        }
    }
    number(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(metric: &str, divide_by: &str, signal: Signal) -> Measure {
        Measure::of(&v1::ThresholdCondition {
            metric: metric.to_owned(),
            divide_by: divide_by.to_owned(),
            signal: signal.into(),
            ..Default::default()
        })
    }

    #[test]
    fn what_is_judged_decides_the_unit_not_the_metric_alone() {
        fn check(metric: &str, divide_by: &str, signal: Signal, expected: Measure) {
            assert_eq!(measure(metric, divide_by, signal), expected, "{metric} {divide_by}");
        }
        check("system.cpu.utilization", "", Signal::Mean, Measure::Ratio);
        check("system.cpu.utilization", "", Signal::Count, Measure::Number);
        check("system.cpu.utilization", "", Signal::Deviation, Measure::Deviations);
        check("system.memory.usage", "", Signal::Forecast, Measure::Bytes);
        check("system.memory.usage", "system.memory.limit", Signal::Last, Measure::Ratio);
        check("system.network.io", "", Signal::Rate, Measure::BytesRate);
        check("system.disk.io_time", "", Signal::Rate, Measure::Ratio);
        check("system.cpu.load_average.5m", "system.cpu.logical.count", Signal::Last, {
            Measure::Number
        });
        check("muster.collector.probe.failing", "", Signal::Last, Measure::Number);
        check("what.a.program.pushes", "", Signal::Last, Measure::Number);
    }

    #[test]
    fn what_people_write_is_read() {
        fn check(measure: Measure, text: &str, expected: f64) {
            assert_eq!(measure.read(text), Ok(expected), "{text}");
        }
        check(Measure::Ratio, "80 %", 0.8);
        check(Measure::Ratio, "33.3%", 0.333);
        check(Measure::Ratio, " 0.8 ", 0.8);
        check(Measure::Ratio, "250 %", 2.5);
        check(Measure::Bytes, "1.5 GiB", 1_610_612_736.0);
        check(Measure::Bytes, "10 MB", 10_000_000.0);
        check(Measure::Bytes, "512", 512.0);
        check(Measure::BytesRate, "10 MiB/s", 10_485_760.0);
        check(Measure::Seconds, "5m", 300.0);
        check(Measure::Seconds, "1.5", 1.5);
        check(Measure::Celsius, "75 °C", 75.0);
        check(Measure::Deviations, "3 σ", 3.0);
        check(Measure::Number, "-4", -4.0);
        check(Measure::Number, "80 %", 0.8);
    }

    #[test]
    fn what_may_mean_two_things_or_none_is_refused() {
        fn check(measure: Measure, text: &str) {
            let problem = measure.read(text).expect_err(text);
            assert!(problem.ends_with(&format!("found {text:?}")), "{problem}");
        }
        check(Measure::Ratio, "80");
        check(Measure::Ratio, "lots");
        check(Measure::Ratio, "inf");
        check(Measure::Bytes, "5 parsecs");
        check(Measure::Number, "80 GiB");
        check(Measure::Seconds, "soon");
    }

    #[test]
    fn what_is_written_into_a_field_is_read_back_as_the_same_value() {
        use Measure::{Bytes, BytesRate, Celsius, Deviations, Number, NumberRate, Ratio, Seconds};
        for measure in [Bytes, BytesRate, Celsius, Deviations, Number, NumberRate, Ratio, Seconds] {
            for value in [0.0, 0.07, 0.333, 0.8, 1.0, 2.5, 300.0, 1.5e9, 1_610_612_736.0, -3.0] {
                let text = measure.write(value);
                assert_eq!(measure.read(&text), Ok(value), "{measure:?} {text}");
            }
        }
        assert_eq!(Measure::Ratio.write(0.07), "7 %");
        assert_eq!(Measure::Bytes.write(1_610_612_736.0), "1.5 GiB");
        assert_eq!(Measure::Seconds.write(300.0), "5m");
    }
}
