//! What a request of logs says, as log events. Pure.

use std::sync::atomic::{AtomicU64, Ordering};

use model::{Severity, UnixMillis, limits};
use prost::Message as _;

use super::wire::{ExportLogsRequest, LogRecord, Resource, hex};
use crate::logs::Told;

const SOURCE: &str = "otlp";

/// One after the other. Records that cannot be read are counted in `unreadable`.
pub(super) fn events<'a>(
    request: &'a ExportLogsRequest,
    unreadable: &'a AtomicU64,
) -> impl Iterator<Item = Told> + Send + 'a {
    request.resource_logs.iter().flat_map(move |resource| {
        let (service, instance) = Resource::service(resource.resource.as_ref());
        let (service, instance) = (cut(&service).to_owned(), cut(&instance).to_owned());
        resource.scope_logs.iter().flat_map(move |scope| {
            let name = cut(scope.scope.as_ref().map_or("", |scope| &scope.name));
            let (service, instance) = (service.clone(), instance.clone());
            scope.log_records.iter().filter_map(move |record| {
                let own = [("service.instance.id", instance.as_str()), ("otel.scope.name", name)];
                match LogRecord::decode(record.clone()) {
                    Ok(record) => Some(event(&record, &service, own)),
                    Err(_) => {
                        unreadable.fetch_add(1, Ordering::Relaxed);
                        None
                    }
                }
            })
        })
    })
}

/// Every event of a request has a copy of this.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(limits::LABEL_VALUE_BYTES_MAX)]
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
