//! One line of StatsD: `api.requests:1|c|@0.1|#route:/,method:get`. Pure.
//!
//! Understood are counters, gauges (`+1` and `-1` change them), timers, histograms, distributions and
//! sets, with sample rates, several values in one line, and tags in the styles of Datadog, InfluxDB and
//! Graphite.

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) values: Vec<Value<'a>>,
    pub(super) tags: Vec<(&'a str, &'a str)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// Scaled up by the sample rate.
    Count(f64),
    Gauge(f64),
    GaugeChange(f64),
    /// Seconds; stands for so many.
    Timing(f64, f64),
    Observation(f64, f64),
    Member(&'a str),
}

/// # Errors
/// Says what was expected.
pub(super) fn read(line: &str) -> Result<Line<'_>, &'static str> {
    let (name, rest) = line.split_once(':').ok_or("expected NAME:VALUE|TYPE")?;
    let mut parts = rest.split('|');
    let values = parts.next().unwrap_or_default();
    let kind = parts.next().ok_or("expected a type after the value: c, g, ms, h, d or s")?;
    let (name, mut tags) = named(name);
    if name.is_empty() {
        return Err("expected a name before the colon");
    }
    let mut rate = 1.0;
    for part in parts {
        if let Some(text) = part.strip_prefix('@') {
            let said: f64 = text.parse().map_err(|_| "expected a sample rate such as @0.1")?;
            if !(said > 0.0 && said <= 1.0) {
                return Err("expected a sample rate above 0, at most 1");
            }
            rate = said;
        } else if let Some(list) = part.strip_prefix('#') {
            tags.extend(list.split(',').filter(|tag| !tag.is_empty()).map(|tag| pair(tag, ':')));
        }
        // Container ids and times: the time of a value is when it came.
    }
    let number = |text: &str| match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err("expected a number"),
    };
    // A member of a set may have colons of its own.
    let values = match kind {
        "s" => vec![Value::Member(values)],
        _ => values
            .split(':')
            .map(|text| {
                Ok(match kind {
                    "c" => Value::Count(number(text)? / rate),
                    "g" if text.starts_with(['+', '-']) => Value::GaugeChange(number(text)?),
                    "g" => Value::Gauge(number(text)?),
                    "ms" => Value::Timing(number(text)? / 1000.0, 1.0 / rate),
                    "h" | "d" => Value::Observation(number(text)?, 1.0 / rate),
                    _ => return Err("expected one of the types c, g, ms, h, d and s"),
                })
            })
            .collect::<Result<_, _>>()?,
    };
    Ok(Line { name, values, tags })
}

/// `name,key=value` and `name;key=value`.
fn named(name: &str) -> (&str, Vec<(&str, &str)>) {
    let mut parts = name.split([',', ';']);
    let name = parts.next().unwrap_or_default();
    (name, parts.filter(|tag| !tag.is_empty()).map(|tag| pair(tag, '=')).collect())
}

/// A tag without a value is there: "true".
fn pair(tag: &str, separator: char) -> (&str, &str) {
    tag.split_once(separator).unwrap_or((tag, "true"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(line: &str, name: &str, values: &[Value<'_>], tags: &[(&str, &str)]) {
        let expected = Line { name, values: values.to_vec(), tags: tags.to_vec() };
        assert_eq!(read(line), Ok(expected), "{line}");
    }

    #[test]
    fn every_type_is_understood() {
        check("hits:1|c", "hits", &[Value::Count(1.0)], &[]);
        check("hits:3|c|@0.1", "hits", &[Value::Count(30.0)], &[]);
        check("queue:12.5|g", "queue", &[Value::Gauge(12.5)], &[]);
        check("queue:-2|g", "queue", &[Value::GaugeChange(-2.0)], &[]);
        check("queue:+2|g", "queue", &[Value::GaugeChange(2.0)], &[]);
        check("t:320|ms|@0.5", "t", &[Value::Timing(0.32, 2.0)], &[]);
        check("size:7|h", "size", &[Value::Observation(7.0, 1.0)], &[]);
        check("size:7|d", "size", &[Value::Observation(7.0, 1.0)], &[]);
        check("users:10.0.0.1:80|s", "users", &[Value::Member("10.0.0.1:80")], &[]);
        check("t:1:2|c", "t", &[Value::Count(1.0), Value::Count(2.0)], &[]);
    }

    #[test]
    fn tags_are_understood_in_three_styles() {
        let one = [Value::Count(1.0)];
        check("h:1|c|#route:/a:b,new", "h", &one, &[("route", "/a:b"), ("new", "true")]);
        check("h,route=/,m=get:1|c", "h", &one, &[("route", "/"), ("m", "get")]);
        check("h;route=/:1|c", "h", &one, &[("route", "/")]);
        check("h:1|c|@1|#a:b|c:9f|T1795208400", "h", &one, &[("a", "b")]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        fn check(line: &str, expected: &str) {
            let error = read(line).expect_err("accepted");
            assert!(error.contains(expected), "{line}: {error}");
        }
        check("", "NAME:VALUE|TYPE");
        check("hits", "NAME:VALUE|TYPE");
        check(":1|c", "a name");
        check("hits:1", "a type");
        check("hits:x|c", "a number");
        check("hits:NaN|g", "a number");
        check("hits:inf|g", "a number");
        check("hits:1|q", "one of the types");
        check("hits:1|c|@0", "sample rate");
        check("hits:1|c|@2", "sample rate");
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in r#"(a|:|\||c|g|ms|s|@|#|,|;|=|1|-|\.|é){0,20}"#) {
            let _ = read(&line);
        }
    }
}
