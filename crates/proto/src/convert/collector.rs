//! What a collector delivers.

use model::{
    EventKind, Frame, Gap, GapReason, Item, Layout, LayoutId, LogEvent, MachineEvent, Payload,
    SeqRange, SeqRanges, Series, Severity, UnixMillis, limits,
};

use super::{
    FieldError, kind_from_proto, labels_from_proto, labels_to_proto, report_from_proto,
    report_to_proto, series_to_proto,
};
use crate::v1;
use crate::v1::collector_message::Kind as Message;

/// The message that carries this item.
pub fn item_to_proto(item: &Item) -> v1::CollectorMessage {
    let kind = match &item.payload {
        Payload::Frame(frame) => Message::Frame(frame_to_proto(frame)),
        Payload::Logs(events) => Message::LogBatch(logs_to_proto(events)),
        Payload::Processes(report) => Message::ProcessReport(report_to_proto(report)),
        Payload::Event(event) => Message::MachineEvent(event_to_proto(event)),
        Payload::Gap(gap) => Message::Gap(gap_to_proto(gap)),
    };
    v1::CollectorMessage { seq: item.seq, kind: Some(kind) }
}

/// The item in this message; `None` when the message is not an item (hello, layout, goodbye). Whether a
/// frame fits its layout is checked by who knows the layouts.
pub fn item_from_proto(message: v1::CollectorMessage) -> Result<Option<Item>, FieldError> {
    let payload = match message.kind {
        None => {
            return Err(FieldError::new(
                "kind",
                "the message is empty or of a kind that this version does not know",
            ));
        }
        Some(Message::Hello(_) | Message::Layout(_) | Message::Goodbye(_)) => return Ok(None),
        Some(Message::Frame(frame)) => {
            frame_from_proto(frame).map(Payload::Frame).map_err(|e| e.within("frame"))?
        }
        Some(Message::LogBatch(batch)) => {
            logs_from_proto(batch).map(Payload::Logs).map_err(|e| e.within("log_batch"))?
        }
        Some(Message::ProcessReport(report)) => report_from_proto(report)
            .map(Payload::Processes)
            .map_err(|e| e.within("process_report"))?,
        Some(Message::MachineEvent(event)) => {
            event_from_proto(event).map(Payload::Event).map_err(|e| e.within("machine_event"))?
        }
        Some(Message::Gap(gap)) => {
            gap_from_proto(gap).map(Payload::Gap).map_err(|e| e.within("gap"))?
        }
    };
    if message.seq == 0 {
        return Err(FieldError::new("seq", "expected a number from 1, found 0"));
    }
    Ok(Some(Item { seq: message.seq, payload }))
}

pub fn layout_to_proto(layout: &Layout) -> v1::Layout {
    v1::Layout {
        id: layout.id().0.to_vec(),
        series: layout.series().iter().map(series_to_proto).collect(),
    }
}

pub fn layout_from_proto(layout: v1::Layout) -> Result<Layout, FieldError> {
    let claimed = layout_id_from_proto("id", &layout.id)?;
    let series = layout
        .series
        .into_iter()
        .enumerate()
        .map(|(i, s)| {
            let field = |name: &str| format!("series[{i}].{name}");
            Ok(Series {
                labels: labels_from_proto(&field("labels"), s.labels)?,
                kind: kind_from_proto(&field("kind"), s.kind)?,
                metric: s.metric.into(),
                unit: s.unit.into(),
            })
        })
        .collect::<Result<Vec<_>, FieldError>>()?;
    let layout = Layout::new(series).map_err(|error| FieldError::new("series", error))?;
    if layout.id() != claimed {
        return Err(FieldError::new(
            "id",
            format!("expected {} for this list, found {claimed}", layout.id()),
        ));
    }
    Ok(layout)
}

fn layout_id_from_proto(field: &str, id: &[u8]) -> Result<LayoutId, FieldError> {
    id.try_into()
        .map(LayoutId)
        .map_err(|_| FieldError::new(field, format!("expected 16 bytes, found {}", id.len())))
}

pub fn frame_to_proto(frame: &Frame) -> v1::Frame {
    v1::Frame {
        time_unix_ms: frame.time.0,
        layout_id: frame.layout.0.to_vec(),
        values: frame.values.clone(),
    }
}

pub fn frame_from_proto(frame: v1::Frame) -> Result<Frame, FieldError> {
    Ok(Frame {
        time: UnixMillis(frame.time_unix_ms),
        layout: layout_id_from_proto("layout_id", &frame.layout_id)?,
        values: frame.values,
    })
}

pub fn logs_to_proto(events: &[LogEvent]) -> v1::LogBatch {
    let event = |event: &LogEvent| v1::LogEvent {
        time_unix_ms: event.time.0,
        severity_number: event.severity.number().into(),
        service: event.service.clone(),
        body: event.body.clone(),
        body_truncated: event.body_truncated,
        attributes: labels_to_proto(&event.attributes),
        source: event.source.clone(),
    };
    v1::LogBatch { events: events.iter().map(event).collect() }
}

pub fn logs_from_proto(batch: v1::LogBatch) -> Result<Vec<LogEvent>, FieldError> {
    let count = batch.events.len();
    if count == 0 || count > limits::LOG_EVENTS_PER_BATCH_MAX {
        let max = limits::LOG_EVENTS_PER_BATCH_MAX;
        return Err(FieldError::new("events", format!("expected 1 to {max}, found {count}")));
    }
    let events = batch.events.into_iter().enumerate();
    events.map(|(i, e)| log_from_proto(e).map_err(|e| e.within(&format!("events[{i}]")))).collect()
}

fn log_from_proto(event: v1::LogEvent) -> Result<LogEvent, FieldError> {
    let number = event.severity_number;
    let severity = Severity::new(number).ok_or_else(|| {
        FieldError::new("severity_number", format!("expected 0 to 24, found {number}"))
    })?;
    for (field, text) in [("service", &event.service), ("source", &event.source)] {
        if text.len() > limits::LABEL_VALUE_BYTES_MAX {
            return Err(FieldError::new(
                field,
                format!("longer than {} bytes", limits::LABEL_VALUE_BYTES_MAX),
            ));
        }
    }
    // An over-long record is cut, not refused: a log line must never be lost to its length.
    let mut body = event.body;
    let cut = body.len() > limits::LOG_BODY_BYTES_MAX;
    body.truncate(body.floor_char_boundary(limits::LOG_BODY_BYTES_MAX));
    Ok(LogEvent {
        time: UnixMillis(event.time_unix_ms),
        severity,
        service: event.service,
        body,
        body_truncated: event.body_truncated || cut,
        attributes: labels_from_proto("attributes", event.attributes)?,
        source: event.source,
    })
}

pub fn event_to_proto(event: &MachineEvent) -> v1::MachineEvent {
    use v1::machine_event::Type;
    let kind = match event.kind {
        EventKind::Suspend => Type::Suspend,
        EventKind::Resume => Type::Resume,
        EventKind::OomKill => Type::OomKill,
        EventKind::Reboot => Type::Reboot,
        EventKind::ClockStep => Type::ClockStep,
        EventKind::CollectorStart => Type::CollectorStart,
        EventKind::ProbeFailed => Type::ProbeFailed,
        EventKind::ProbeRecovered => Type::ProbeRecovered,
        EventKind::ContainerStarted => Type::ContainerStarted,
        EventKind::ContainerStopped => Type::ContainerStopped,
        EventKind::SpoolDamaged => Type::SpoolDamaged,
    };
    v1::MachineEvent {
        time_unix_ms: event.time.0,
        r#type: kind.into(),
        detail: event.detail.clone(),
        attributes: labels_to_proto(&event.attributes),
    }
}

pub fn event_from_proto(event: v1::MachineEvent) -> Result<MachineEvent, FieldError> {
    use v1::machine_event::Type;
    let kind = match Type::try_from(event.r#type) {
        Ok(Type::Suspend) => EventKind::Suspend,
        Ok(Type::Resume) => EventKind::Resume,
        Ok(Type::OomKill) => EventKind::OomKill,
        Ok(Type::Reboot) => EventKind::Reboot,
        Ok(Type::ClockStep) => EventKind::ClockStep,
        Ok(Type::CollectorStart) => EventKind::CollectorStart,
        Ok(Type::ProbeFailed) => EventKind::ProbeFailed,
        Ok(Type::ProbeRecovered) => EventKind::ProbeRecovered,
        Ok(Type::ContainerStarted) => EventKind::ContainerStarted,
        Ok(Type::ContainerStopped) => EventKind::ContainerStopped,
        Ok(Type::SpoolDamaged) => EventKind::SpoolDamaged,
        Ok(Type::Unspecified) | Err(_) => {
            return Err(FieldError::new("type", format!("unknown event type {}", event.r#type)));
        }
    };
    Ok(MachineEvent {
        time: UnixMillis(event.time_unix_ms),
        kind,
        detail: text("detail", event.detail)?,
        attributes: labels_from_proto("attributes", event.attributes)?,
    })
}

pub fn gap_to_proto(gap: &Gap) -> v1::Gap {
    use v1::gap::Reason;
    let reason = match gap.reason {
        GapReason::SpoolFull => Reason::SpoolFull,
        GapReason::SpoolDamaged => Reason::SpoolDamaged,
        GapReason::Rejected => Reason::Rejected,
    };
    let (first, last) = gap.times.unwrap_or_default();
    v1::Gap {
        first_seq: gap.seqs.first(),
        last_seq: gap.seqs.last(),
        first_time_unix_ms: first.0,
        last_time_unix_ms: last.0,
        reason: reason.into(),
        detail: gap.detail.clone(),
    }
}

pub fn gap_from_proto(gap: v1::Gap) -> Result<Gap, FieldError> {
    use v1::gap::Reason;
    let reason = match Reason::try_from(gap.reason) {
        Ok(Reason::SpoolFull) => GapReason::SpoolFull,
        Ok(Reason::SpoolDamaged) => GapReason::SpoolDamaged,
        Ok(Reason::Rejected) => GapReason::Rejected,
        Ok(Reason::Unspecified) | Err(_) => {
            return Err(FieldError::new("reason", format!("unknown reason {}", gap.reason)));
        }
    };
    let seqs = range_from_proto(gap.first_seq, gap.last_seq)
        .map_err(|problem| FieldError::new("last_seq", problem))?;
    let known = gap.first_time_unix_ms != 0 || gap.last_time_unix_ms != 0;
    let times =
        known.then_some((UnixMillis(gap.first_time_unix_ms), UnixMillis(gap.last_time_unix_ms)));
    Ok(Gap { seqs, times, reason, detail: text("detail", gap.detail)? })
}

pub fn ranges_to_proto(ranges: &SeqRanges) -> Vec<v1::SeqRange> {
    ranges.iter().map(|r| v1::SeqRange { first: r.first(), last: r.last() }).collect()
}

pub fn ranges_from_proto(field: &str, ranges: &[v1::SeqRange]) -> Result<SeqRanges, FieldError> {
    let range = |(i, r): (usize, &v1::SeqRange)| {
        range_from_proto(r.first, r.last)
            .map_err(|problem| FieldError::new(format!("{field}[{i}]"), problem))
    };
    ranges.iter().enumerate().map(range).collect()
}

fn range_from_proto(first: u64, last: u64) -> Result<SeqRange, String> {
    let range = if first == 0 { None } else { SeqRange::new(first, last) };
    range.ok_or_else(|| format!("expected 1 <= first <= last, found {first} and {last}"))
}

fn text(field: &str, text: String) -> Result<String, FieldError> {
    if text.len() > limits::TEXT_BYTES_MAX {
        return Err(FieldError::new(
            field,
            format!("longer than {} bytes", limits::TEXT_BYTES_MAX),
        ));
    }
    Ok(text)
}
