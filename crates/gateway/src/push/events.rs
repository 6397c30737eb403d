//! One event. Pure.

use model::{Labels, limits};
use proto::v1;
use serde_json::Value;

use super::fields::{Fields, shown};
use crate::api::ApiError;

/// OpenTelemetry's numbers, by the names that people use.
const SEVERITIES: [(&str, u32); 11] = [
    ("trace", 1),
    ("debug", 5),
    ("info", 9),
    ("notice", 10),
    ("warn", 13),
    ("warning", 13),
    ("error", 17),
    ("err", 17),
    ("critical", 18),
    ("fatal", 21),
    ("emergency", 24),
];
const INFO: u32 = 9;

/// `{"name", "message", "severity", "service", "time", "attributes"}`
pub(super) fn event(mut fields: Fields, service: &str) -> Result<v1::LogEvent, ApiError> {
    let name = fields.text("name")?;
    let message = fields.text("message")?;
    let severity = fields.any("severity")?;
    let service = fields.text("service")?.unwrap_or_else(|| service.to_owned());
    let time = fields.time("time")?;
    let mut attributes = fields.texts("attributes")?;
    fields.finish()?;
    if let Some(name) = &name {
        attributes.retain(|(other, _)| other != "event.name");
        attributes.push(("event.name".to_owned(), name.clone()));
    }
    if service.len() > limits::LABEL_VALUE_BYTES_MAX {
        let problem = format!("expected at most {} bytes", limits::LABEL_VALUE_BYTES_MAX);
        return Err(fields.problem("service", problem));
    }
    let Some(body) = message.or(name) else {
        return Err(fields.problem("message", "expected one, or a name; found neither"));
    };
    let severity = severity.map(|value| self::severity(&fields, &value)).transpose()?;
    let attributes = Labels::new(attributes).map_err(|e| fields.problem("attributes", e))?;
    Ok(v1::LogEvent {
        time_unix_ms: time.map_or(0, |time| time.0),
        severity_number: severity.unwrap_or(INFO),
        service,
        body,
        body_truncated: false,
        attributes: proto::convert::labels_to_proto(&attributes),
        source: String::new(),
    })
}

fn severity(fields: &Fields, value: &Value) -> Result<u32, ApiError> {
    let named = value.as_str().map(str::to_ascii_lowercase);
    let named = named.and_then(|name| SEVERITIES.iter().find(|(known, _)| *known == name));
    let number = value.as_u64().filter(|number| *number <= 24);
    let number = named.map(|(_, number)| *number).or(number.map(|number| number as u32));
    number.ok_or_else(|| {
        let problem = format!(
            "expected trace, debug, info, warn, error, fatal or a number to 24, found {}",
            shown(value)
        );
        fields.problem("severity", problem)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<v1::LogEvent, ApiError> {
        event(Fields::new("[0]".to_owned(), value), "shop")
    }

    #[test]
    fn an_event_has_a_name_or_a_message_and_the_rest_is_made_up_for() {
        let placed = read(json!({ "name": "order.placed" })).expect("reads");
        assert_eq!(
            (&*placed.body, &*placed.service, placed.severity_number),
            ("order.placed", "shop", 9)
        );
        assert_eq!(placed.attributes["event.name"], "order.placed");
        assert_eq!(placed.time_unix_ms, 0, "that of the receipt");
        let failed = read(json!({
            "name": "order.failed", "message": "no stock", "severity": "ERROR", "service": "bank",
            "time": 1_795_208_400_000i64, "attributes": { "order": { "id": 7 } },
        }));
        let failed = failed.expect("reads");
        assert_eq!(
            (&*failed.body, &*failed.service, failed.severity_number),
            ("no stock", "bank", 17)
        );
        assert_eq!(failed.attributes["order.id"], "7");
        assert_eq!(failed.time_unix_ms, 1_795_208_400_000);
    }

    #[test]
    fn an_event_that_cannot_be_read_says_why() {
        fn check(value: Value, expected: &str) {
            let error = read(value).expect_err(expected);
            assert!(error.message().starts_with(expected), "{}", error.message());
        }
        check(json!({}), "[0].message: expected one, or a name");
        check(json!({ "message": "x", "severity": "loud" }), "[0].severity: expected trace, ");
        check(json!({ "message": "x", "severity": 25 }), "[0].severity: ");
        check(json!({ "message": "x", "level": "info" }), "[0].level: unknown field");
        check(
            json!({ "message": "x", "attributes": { "a b": 1 } }),
            "[0].attributes: label name \"a b\"",
        );
        check(json!("text"), "[0]: expected a JSON object");
    }
}
