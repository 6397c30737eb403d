//! What is different about OTLP as JSON: numbers of 64 bits are texts, ids are hexadecimal, bytes are Base64,
//! and of several kinds of a thing each has a name of its own. Pure.
//!
//! `null` is as good as absent everywhere, and names that are not known are skipped, as Protobuf has it.

use std::borrow::Cow;

use bytes::Bytes;
use prost::Message as _;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::wire::{self, Any, LogRecord, Points};

/// The instrument is told by the member that is there.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Metric {
    #[serde(deserialize_with = "or_default")]
    name: String,
    #[serde(deserialize_with = "or_default")]
    unit: String,
    gauge: Option<wire::Gauge>,
    sum: Option<wire::Sum>,
    histogram: Option<wire::Histogram>,
    exponential_histogram: Option<wire::ExponentialHistogram>,
    summary: Option<wire::Summary>,
}

impl From<Metric> for wire::Metric {
    fn from(json: Metric) -> Self {
        let Metric { name, unit, gauge, sum, histogram, exponential_histogram, summary } = json;
        let points = gauge
            .map(Points::Gauge)
            .or(sum.map(Points::Sum))
            .or(histogram.map(Points::Histogram))
            .or(exponential_histogram.map(Points::ExponentialHistogram))
            .or(summary.map(Points::Summary));
        Self { name, unit, points }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct NumberPoint {
    #[serde(deserialize_with = "or_default")]
    attributes: Vec<wire::KeyValue>,
    #[serde(deserialize_with = "some_double")]
    as_double: Option<f64>,
    #[serde(deserialize_with = "some_integer")]
    as_int: Option<i64>,
    #[serde(deserialize_with = "integer")]
    flags: u32,
}

impl From<NumberPoint> for wire::NumberPoint {
    fn from(NumberPoint { attributes, as_double, as_int, flags }: NumberPoint) -> Self {
        let value = as_double.map(wire::Number::Double).or(as_int.map(wire::Number::Int));
        Self { attributes, value, flags }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct AnyValue {
    string_value: Option<String>,
    bool_value: Option<bool>,
    #[serde(deserialize_with = "some_integer")]
    int_value: Option<i64>,
    #[serde(deserialize_with = "some_double")]
    double_value: Option<f64>,
    array_value: Option<wire::Array>,
    kvlist_value: Option<wire::Pairs>,
    #[serde(deserialize_with = "base64")]
    bytes_value: Option<Vec<u8>>,
}

impl From<AnyValue> for wire::AnyValue {
    fn from(json: AnyValue) -> Self {
        let value = (json.string_value.map(Any::Text))
            .or(json.bool_value.map(Any::Bool))
            .or(json.int_value.map(Any::Int))
            .or(json.double_value.map(Any::Double))
            .or(json.array_value.map(Any::Array))
            .or(json.kvlist_value.map(Any::Pairs))
            .or(json.bytes_value.map(Any::Bytes));
        Self { value }
    }
}

/// A number as JSON may have it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number<'a> {
    Unsigned(u64),
    Signed(i64),
    Real(f64),
    Text(#[serde(borrow)] Cow<'a, str>),
}

impl Number<'_> {
    fn integer<T: TryFrom<i128>>(&self) -> Result<T, String> {
        let whole = match self {
            Self::Unsigned(value) => Some(i128::from(*value)),
            Self::Signed(value) => Some(i128::from(*value)),
            // Up to here every whole number has a double of its own.
            Self::Real(value) if value.fract() == 0.0 && value.abs() <= 2f64.powi(53) => {
                Some(*value as i128)
            }
            Self::Real(_) => None,
            Self::Text(text) => text.parse().ok(),
        };
        whole.and_then(|value| T::try_from(value).ok()).ok_or_else(|| self.unlike("a whole number"))
    }

    fn double(&self) -> Result<f64, String> {
        match self {
            Self::Unsigned(value) => Ok(*value as f64),
            Self::Signed(value) => Ok(*value as f64),
            Self::Real(value) => Ok(*value),
            Self::Text(text) => match &**text {
                "NaN" => Ok(f64::NAN),
                "Infinity" => Ok(f64::INFINITY),
                "-Infinity" => Ok(f64::NEG_INFINITY),
                text => text.parse().map_err(|_| self.unlike("a number")),
            },
        }
    }

    fn unlike(&self, expected: &str) -> String {
        let found = match self {
            Self::Unsigned(value) => value.to_string(),
            Self::Signed(value) => value.to_string(),
            Self::Real(value) => value.to_string(),
            Self::Text(text) => format!("{:?}", text.chars().take(80).collect::<String>()),
        };
        format!("expected {expected} that fits, found {found}")
    }
}

pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

pub(super) fn integer<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i128> + Default,
{
    Ok(some_integer(deserializer)?.unwrap_or_default())
}

fn some_integer<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i128>,
{
    let number = Option::<Number<'de>>::deserialize(deserializer)?;
    number.map(|number| number.integer()).transpose().map_err(D::Error::custom)
}

pub(super) fn integers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
    let numbers = Option::<Vec<Number<'de>>>::deserialize(deserializer)?.unwrap_or_default();
    numbers.iter().map(Number::integer).collect::<Result<_, _>>().map_err(D::Error::custom)
}

pub(super) fn double<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(some_double(deserializer)?.unwrap_or_default())
}

pub(super) fn some_double<'de, D>(deserializer: D) -> Result<Option<f64>, D::Error>
where
    D: Deserializer<'de>,
{
    let number = Option::<Number<'de>>::deserialize(deserializer)?;
    number.map(|number| number.double()).transpose().map_err(D::Error::custom)
}

pub(super) fn doubles<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    let numbers = Option::<Vec<Number<'de>>>::deserialize(deserializer)?.unwrap_or_default();
    numbers.iter().map(Number::double).collect::<Result<_, _>>().map_err(D::Error::custom)
}

/// Log records, kept as Protobuf has them: see [`wire::ScopeLogs`].
pub(super) fn records<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Bytes>, D::Error> {
    struct Records;
    impl<'de> Visitor<'de> for Records {
        type Value = Vec<Bytes>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list of log records")
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut records = Vec::new();
            while let Some(record) = list.next_element::<LogRecord>()? {
                records.push(record.encode_to_vec().into());
            }
            Ok(records)
        }
    }
    deserializer.deserialize_any(Records)
}

pub(super) fn hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = Option::<Cow<'de, str>>::deserialize(deserializer)?.unwrap_or_default();
    let digits = text.bytes().map(|byte| char::from(byte).to_digit(16).map(|digit| digit as u8));
    let digits: Option<Vec<u8>> = digits.collect();
    match digits {
        Some(digits) if digits.len() % 2 == 0 => {
            Ok(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
        }
        _ => Err(D::Error::custom("expected an id of hexadecimal digits")),
    }
}

/// Both alphabets, padded or not, as the JSON of Protobuf may be.
fn base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
    let Some(text) = Option::<Cow<'de, str>>::deserialize(deserializer)? else { return Ok(None) };
    let (mut out, mut bits, mut held) = (Vec::with_capacity(text.len() / 4 * 3), 0u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return Err(D::Error::custom("expected bytes as Base64")),
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    Ok(Some(out))
}

#[cfg(test)]
mod tests {
    use super::super::wire::{ExportLogsRequest, ExportMetricsRequest};
    use super::*;

    fn value(json: &str) -> Result<String, String> {
        let value: Result<wire::AnyValue, _> = serde_json::from_str(json);
        value.map(|value| value.text()).map_err(|error| error.to_string())
    }

    #[test]
    fn every_kind_of_value_is_read() {
        fn check(json: &str, expected: &str) {
            assert_eq!(value(json).as_deref(), Ok(expected), "{json}");
        }
        check("{}", "");
        check(r#"{"stringValue": "a\u0000b"}"#, "a\0b");
        check(r#"{"stringValue": null, "futureValue": [1]}"#, "");
        check(r#"{"boolValue": true}"#, "true");
        check(r#"{"intValue": "-9223372036854775808"}"#, "-9223372036854775808");
        check(r#"{"intValue": 17}"#, "17");
        check(r#"{"intValue": 17.0}"#, "17");
        check(r#"{"doubleValue": 0.5}"#, "0.5");
        check(r#"{"doubleValue": "Infinity"}"#, "null");
        check(r#"{"bytesValue": "AP/+aGk="}"#, "00fffe6869");
        check(r#"{"bytesValue": "AP_-aGk"}"#, "00fffe6869");
        check(
            r#"{"arrayValue": {"values": [{"intValue": "1"}, {"stringValue": "x"}]}}"#,
            r#"[1,"x"]"#,
        );
        check(
            r#"{"kvlistValue": {"values": [{"key": "a", "value": {"boolValue": false}}]}}"#,
            r#"{"a":false}"#,
        );
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_was_found() {
        fn check(json: &str, expected: &str) {
            let error = value(json).expect_err(json);
            assert!(error.contains(expected), "{json}: {error}");
        }
        check(r#"{"intValue": "9223372036854775808"}"#, "9223372036854775808");
        check(r#"{"intValue": 0.5}"#, "0.5");
        check(r#"{"intValue": "seven"}"#, r#"a whole number that fits, found "seven""#);
        check(r#"{"doubleValue": "1,5"}"#, "a number that fits");
        check(r#"{"bytesValue": "!"}"#, "Base64");
        check(r#"{"stringValue": 7}"#, "string");
        check(&r#"{"arrayValue":{"values":["#.repeat(200), "recursion");
    }

    #[test]
    fn a_log_record_is_the_same_as_by_protobuf() {
        let json = r#"{"resourceLogs": [{"resource": {"attributes": [
              {"key": "service.name", "value": {"stringValue": "shop"}}]},
            "scopeLogs": [{"scope": {"name": "checkout"}, "logRecords": [
              {"timeUnixNano": "1544712660300000000", "observedTimeUnixNano": 1544712660300000001,
               "severityNumber": 17, "severityText": "Error", "body": {"stringValue": "lost"},
               "attributes": [{"key": "order", "value": {"intValue": "17"}}], "flags": 1,
               "traceId": "5B8EFFF798038103D269B633813FC60C", "spanId": "eee19b7ec3c1b174"}]}]}]}"#;
        let request: ExportLogsRequest = serde_json::from_str(json).expect("OTLP");
        let [resource] = request.resource_logs.as_slice() else { panic!("{request:?}") };
        assert_eq!(wire::Resource::service(resource.resource.as_ref()).0, "shop");
        let record =
            LogRecord::decode(resource.scope_logs[0].log_records[0].clone()).expect("read");
        assert_eq!(record.time_unix_nano, 1_544_712_660_300_000_000);
        assert_eq!(record.observed_time_unix_nano, 1_544_712_660_300_000_001);
        assert_eq!((record.severity_number, &*record.severity_text), (17, "Error"));
        assert_eq!(wire::hex(&record.trace_id), "5b8efff798038103d269b633813fc60c");
        assert_eq!(wire::hex(&record.span_id), "eee19b7ec3c1b174");
        assert_eq!(record.attributes[0].text(), "17");
        let bad = json.replace("eee19b7ec3c1b174", "no id");
        let error = serde_json::from_str::<ExportLogsRequest>(&bad).expect_err("accepted");
        assert!(error.to_string().contains("hexadecimal"), "{error}");
    }

    #[test]
    fn every_instrument_is_read() {
        let json = r#"{"resourceMetrics": [{"scopeMetrics": [{"metrics": [
            {"name": "g", "unit": "1", "gauge": {"dataPoints": [{"asDouble": 1.5, "timeUnixNano": "1"}]}},
            {"name": "s", "sum": {"aggregationTemporality": 2, "isMonotonic": true,
              "dataPoints": [{"asInt": "7", "attributes": null}]}},
            {"name": "h", "histogram": {"aggregationTemporality": 1, "dataPoints": [
              {"count": "3", "sum": 2, "bucketCounts": ["1", 2], "explicitBounds": [0.5]}]}},
            {"name": "e", "exponentialHistogram": {"dataPoints": [{"count": 1}]}},
            {"name": "q", "summary": {"dataPoints": [
              {"count": "1", "sum": "2.5", "quantileValues": [{"quantile": 0.5, "value": "NaN"}]}]}},
            {"name": "none"}]}]}]}"#;
        let request: ExportMetricsRequest = serde_json::from_str(json).expect("OTLP");
        let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
        let Some(Points::Gauge(gauge)) = &metrics[0].points else { panic!("{metrics:?}") };
        assert_eq!(gauge.data_points[0].value, Some(wire::Number::Double(1.5)));
        let Some(Points::Sum(sum)) = &metrics[1].points else { panic!("{metrics:?}") };
        assert!(sum.is_monotonic && sum.temporality == 2);
        assert_eq!(sum.data_points[0].value, Some(wire::Number::Int(7)));
        let Some(Points::Histogram(histogram)) = &metrics[2].points else { panic!("{metrics:?}") };
        let point = &histogram.data_points[0];
        assert_eq!((point.count, point.sum), (3, Some(2.0)));
        assert_eq!((&*point.bucket_counts, &*point.explicit_bounds), (&[1, 2][..], &[0.5][..]));
        assert!(matches!(metrics[3].points, Some(Points::ExponentialHistogram(_))));
        let Some(Points::Summary(summary)) = &metrics[4].points else { panic!("{metrics:?}") };
        assert_eq!(summary.data_points[0].sum, 2.5);
        assert!(summary.data_points[0].quantile_values[0].value.is_nan());
        assert_eq!(metrics[5].points, None);
    }
}
