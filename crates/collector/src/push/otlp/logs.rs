//! What a request of logs says, as log events. Pure.

use model::{Severity, UnixMillis};

use super::wire::{ExportLogsRequest, LogRecord, Resource, hex};
use crate::logs::Told;

const SOURCE: &str = "otlp";

pub(super) fn events(request: &ExportLogsRequest) -> Vec<Told> {
    let mut events = Vec::new();
    for resource in &request.resource_logs {
        let (service, instance) = Resource::service(resource.resource.as_ref());
        for scope in &resource.scope_logs {
            let name = scope.scope.as_ref().map_or("", |scope| &scope.name);
            let own = [("service.instance.id", instance.as_str()), ("otel.scope.name", name)];
            events.extend(scope.log_records.iter().map(|record| event(record, &service, own)));
        }
    }
    events
}

fn event(record: &LogRecord, service: &str, own: [(&str, &str); 2]) -> Told {
    let ns = match record.time_unix_nano {
        0 => record.observed_time_unix_nano,
        ns => ns,
    };
    let number = u32::try_from(record.severity_number).unwrap_or(0);
    let mut attributes: Vec<(String, String)> =
        record.attributes.iter().map(|pair| (pair.key.clone(), pair.text())).collect();
    let ids = [
        ("trace_id", hex(&record.trace_id)),
        ("span_id", hex(&record.span_id)),
        ("event.name", record.event_name.clone()),
    ];
    attributes.extend(ids.map(|(name, value)| (name.to_owned(), value)));
    attributes.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
    Told {
        time: (ns > 0).then(|| UnixMillis(i64::try_from(ns / 1_000_000).unwrap_or(i64::MAX))),
        severity: Severity::new(number).unwrap_or_default(),
        severity_text: record.severity_text.clone(),
        service: service.to_owned(),
        body: record.body.as_ref().map(|body| body.text()).unwrap_or_default(),
        attributes,
        source: SOURCE,
    }
}
