//! Messages with places to fill in: `{{ machine.name }} is at {{ value | percent }}`.
//!
//! What a template may name is fixed and checked when it is saved, so a message can neither fail nor come
//! out half empty at three in the morning. There is no logic in it.

use std::fmt;

/// A checked template. The empty one renders as nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Place(Place, Format),
}

#[derive(Clone, Debug, PartialEq)]
enum Place {
    MachineName,
    MachineId,
    MachineLabel(String),
    Label(String),
    Metric,
    Value,
    Threshold,
    Level,
    RuleName,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Format {
    Plain,
    Percent,
    Bytes,
    Duration,
}

/// What there is to fill in.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    pub machine_name: &'a str,
    pub machine_id: &'a str,
    pub machine_labels: &'a model::Labels,
    pub labels: &'a model::Labels,
    pub metric: &'a str,
    pub value: f64,
    pub threshold: f64,
    pub level: &'a str,
    pub rule_name: &'a str,
}

const SOURCE_BYTES_MAX: usize = 1024;
const PLACES: &str = "machine.name, machine.id, machine.labels.NAME, labels.NAME, metric, value, \
                      threshold, level, rule.name";

impl Template {
    pub fn parse(source: &str) -> Result<Self, String> {
        if source.len() > SOURCE_BYTES_MAX {
            return Err(format!("longer than {SOURCE_BYTES_MAX} bytes"));
        }
        let mut parts = Vec::new();
        let mut rest = source;
        while let Some((text, after)) = rest.split_once("{{") {
            let (inside, after) =
                after.split_once("}}").ok_or("expected }} after {{, found the end")?;
            if !text.is_empty() {
                parts.push(Part::Text(text.to_owned()));
            }
            parts.push(place(inside)?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { source: source.to_owned(), parts })
    }

    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub fn render(&self, scope: &Scope<'_>) -> String {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Place(place, format) => place.fill(scope, *format, &mut out),
            }
        }
        out
    }
}

/// As it was written.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

fn place(inside: &str) -> Result<Part, String> {
    let (name, format) = match inside.split_once('|') {
        None => (inside.trim(), Format::Plain),
        Some((name, format)) => (name.trim(), format_named(format.trim())?),
    };
    let place = match name {
        "machine.name" => Place::MachineName,
        "machine.id" => Place::MachineId,
        "metric" => Place::Metric,
        "value" => Place::Value,
        "threshold" => Place::Threshold,
        "level" => Place::Level,
        "rule.name" => Place::RuleName,
        _ => match (name.strip_prefix("machine.labels."), name.strip_prefix("labels.")) {
            (Some(label), _) if !label.is_empty() => Place::MachineLabel(label.to_owned()),
            (_, Some(label)) if !label.is_empty() => Place::Label(label.to_owned()),
            _ => return Err(format!("expected one of {PLACES}; found {name:?}")),
        },
    };
    if format != Format::Plain && !matches!(place, Place::Value | Place::Threshold) {
        return Err(format!("only value and threshold have a format, found {inside:?}"));
    }
    Ok(Part::Place(place, format))
}

fn format_named(name: &str) -> Result<Format, String> {
    match name {
        "percent" => Ok(Format::Percent),
        "bytes" => Ok(Format::Bytes),
        "duration" => Ok(Format::Duration),
        _ => Err(format!("expected the format percent, bytes or duration, found {name:?}")),
    }
}

impl Place {
    fn fill(&self, scope: &Scope<'_>, format: Format, out: &mut String) {
        let text = match self {
            Self::MachineName => scope.machine_name,
            Self::MachineId => scope.machine_id,
            Self::MachineLabel(name) => scope.machine_labels.get(name),
            Self::Label(name) => scope.labels.get(name),
            Self::Metric => scope.metric,
            Self::Level => scope.level,
            Self::RuleName => scope.rule_name,
            Self::Value => return out.push_str(&format.number(scope.value)),
            Self::Threshold => return out.push_str(&format.number(scope.threshold)),
        };
        // Values of labels come from the machines: no line breaks that would fake a message.
        out.extend(text.chars().map(|c| if c.is_control() { ' ' } else { c }));
    }
}

impl Format {
    fn number(self, value: f64) -> String {
        match self {
            _ if value.is_nan() => "no data".to_owned(),
            Self::Plain => plain(value),
            Self::Percent => format!("{} %", plain(value * 100.0)),
            Self::Bytes => bytes(value),
            Self::Duration => duration(value),
        }
    }
}

/// At most four significant digits after the point, none that say nothing.
pub fn plain(value: f64) -> String {
    let decimals = if value.abs() >= 100.0 {
        1
    } else if value.abs() >= 1.0 {
        2
    } else {
        4
    };
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

fn bytes(value: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut value, mut unit) = (value, 0);
    while value.abs() >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", plain(value), units[unit])
}

fn duration(seconds: f64) -> String {
    let ms = (seconds.abs() * 1000.0).min(1e15) as u64;
    let rounded = if ms >= 60_000 { ms / 1000 * 1000 } else { ms };
    daemon::config::Span::from_millis(rounded).to_string()
}

#[cfg(test)]
mod tests {
    use model::Labels;

    use super::*;

    fn render(source: &str, value: f64) -> String {
        let labels = Labels::of([("system.device", "sda\n1")]);
        let machine_labels = Labels::of([("env", "dev")]);
        let scope = Scope {
            machine_name: "web-1",
            machine_id: "00",
            machine_labels: &machine_labels,
            labels: &labels,
            metric: "m",
            value,
            threshold: 0.8,
            level: "warning",
            rule_name: "cpu",
        };
        Template::parse(source).expect(source).render(&scope)
    }

    #[test]
    fn places_are_filled_in() {
        fn check(source: &str, value: f64, expected: &str) {
            assert_eq!(render(source, value), expected, "{source}");
        }
        check("", 1.0, "");
        check("no places", 1.0, "no places");
        check("{{machine.name}}/{{ machine.labels.env }}", 1.0, "web-1/dev");
        check("{{ labels.system.device }}|{{ labels.none }}", 1.0, "sda 1|");
        check("{{ value | percent }} > {{ threshold | percent }}", 0.8512, "85.12 % > 80 %");
        check("{{ value | bytes }}", 1536.0 * 1024.0, "1.5 MiB");
        check("{{ value | duration }}", 3661.5, "1h1m1s");
        check("{{ value }}", f64::NAN, "no data");
        check("{{ value }}", 123.456, "123.5");
        check("{{ value }}", 2.0, "2");
    }

    #[test]
    fn what_cannot_be_filled_in_is_refused_before_it_is_saved() {
        fn check(source: &str, expected: &str) {
            let error = Template::parse(source).expect_err(source);
            assert!(error.contains(expected), "{error}");
        }
        check("{{ value", "}}");
        check("{{ valeu }}", "\"valeu\"");
        check("{{ value | percents }}", "\"percents\"");
        check("{{ machine.name | bytes }}", "only value");
        check("{{ labels. }}", "labels.NAME");
        check(&"x".repeat(2000), "longer");
    }
}
