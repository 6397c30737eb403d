//! What happened, as bytes.

use std::sync::Arc;

use model::{
    EventKind as MachineEventKind, Frame, Gap, GapReason, Labels, LayoutId, LogEvent, MachineEvent,
    MachineStatus, SeqRange, Severity, UnixMillis,
};

use crate::events::EventKind;
use crate::history::cursor::{Cursor, Damaged, put_signed, put_text, put_varint};
use crate::history::{report, values};

const FRAME: &str = "frame";
const LATE_FRAME: &str = "late-frame";
const PROCESSES: &str = "processes";
const LOGS: &str = "logs";
const MACHINE: &str = "machine-event";
const GAP: &str = "gap";
const STATUS: &str = "status";
const CHANGED: &str = "changed";
const REMOVED: &str = "removed";

/// A decoded entry: complete, or a frame whose layout is still to be found.
#[derive(Debug)]
pub(super) enum Content {
    Whole(EventKind),
    Frame { frame: Frame, late: bool },
}

/// The name of the kind, and the rest.
pub(in crate::events) fn encode(kind: &EventKind) -> (&'static str, Vec<u8>) {
    let mut out = Vec::new();
    let name = match kind {
        EventKind::Frame { frame, late } => {
            out.reserve(32 + frame.frame.values.len() * 4);
            out.extend_from_slice(&frame.frame.layout.0);
            put_signed(&mut out, frame.frame.time.0);
            frame.frame.values.iter().for_each(|value| values::put(&mut out, *value));
            if *late { LATE_FRAME } else { FRAME }
        }
        EventKind::Processes(report) => {
            out = report::encode(report);
            PROCESSES
        }
        EventKind::Logs(events) => {
            put_varint(&mut out, events.len() as u64);
            events.iter().for_each(|event| put_log(&mut out, event));
            LOGS
        }
        EventKind::Machine(event) => {
            put_signed(&mut out, event.time.0);
            put_text(&mut out, event.kind.name());
            put_text(&mut out, &event.detail);
            put_labels(&mut out, &event.attributes);
            MACHINE
        }
        EventKind::Gap(gap) => {
            put_gap(&mut out, gap);
            GAP
        }
        EventKind::Status { status, since } => {
            put_text(&mut out, status.name());
            put_signed(&mut out, since.0);
            STATUS
        }
        EventKind::Changed => CHANGED,
        EventKind::Removed => REMOVED,
    };
    (name, out)
}

pub(super) fn decode(kind: &str, bytes: &[u8]) -> Result<Content, Damaged> {
    let mut cursor = Cursor::new(bytes);
    let cursor = &mut cursor;
    let whole = match kind {
        FRAME | LATE_FRAME => {
            let layout = LayoutId(cursor.array()?);
            let time = UnixMillis(cursor.signed()?);
            let mut values = Vec::new();
            while !cursor.is_empty() {
                values.push(values::take(cursor)?);
            }
            let frame = Frame { time, layout, values };
            return Ok(Content::Frame { frame, late: kind == LATE_FRAME });
        }
        PROCESSES => EventKind::Processes(Arc::new(report::take(cursor)?)),
        LOGS => {
            let count = cursor.count()?;
            let logs = (0..count).map(|_| take_log(cursor)).collect::<Result<Vec<_>, _>>()?;
            EventKind::Logs(logs.into())
        }
        MACHINE => EventKind::Machine(MachineEvent {
            time: UnixMillis(cursor.signed()?),
            kind: MachineEventKind::from_name(cursor.text()?)
                .ok_or(Damaged("a machine event is of an unknown kind"))?,
            detail: cursor.text()?.to_owned(),
            attributes: take_labels(cursor)?,
        }),
        GAP => EventKind::Gap(take_gap(cursor)?),
        STATUS => EventKind::Status {
            status: MachineStatus::from_name(cursor.text()?)
                .ok_or(Damaged("a status is unknown"))?,
            since: UnixMillis(cursor.signed()?),
        },
        CHANGED => EventKind::Changed,
        REMOVED => EventKind::Removed,
        _ => return Err(Damaged("it is of an unknown kind")),
    };
    match cursor.is_empty() {
        true => Ok(Content::Whole(whole)),
        false => Err(Damaged("something follows its end")),
    }
}

fn put_log(out: &mut Vec<u8>, event: &LogEvent) {
    put_signed(out, event.time.0);
    out.push(event.severity.number());
    out.push(event.body_truncated.into());
    for text in [&event.service, &event.body, &event.source] {
        put_text(out, text);
    }
    put_labels(out, &event.attributes);
}

fn take_log(cursor: &mut Cursor<'_>) -> Result<LogEvent, Damaged> {
    Ok(LogEvent {
        time: UnixMillis(cursor.signed()?),
        severity: Severity::new(cursor.byte()?.into()).ok_or(Damaged("a severity is unknown"))?,
        body_truncated: cursor.byte()? != 0,
        service: cursor.text()?.to_owned(),
        body: cursor.text()?.to_owned(),
        source: cursor.text()?.to_owned(),
        attributes: take_labels(cursor)?,
    })
}

fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
    put_varint(out, labels.len() as u64);
    for (name, value) in labels.iter() {
        put_text(out, name);
        put_text(out, value);
    }
}

fn take_labels(cursor: &mut Cursor<'_>) -> Result<Labels, Damaged> {
    let mut pairs = Vec::new();
    for _ in 0..cursor.count()? {
        pairs.push((cursor.text()?, cursor.text()?));
    }
    Labels::new(pairs).map_err(|_| Damaged("its labels are not valid"))
}

fn put_gap(out: &mut Vec<u8>, gap: &Gap) {
    put_varint(out, gap.seqs.first());
    put_varint(out, gap.seqs.last());
    match gap.times {
        None => out.push(0),
        Some((first, last)) => {
            out.push(1);
            put_signed(out, first.0);
            put_signed(out, last.0);
        }
    }
    put_text(out, gap.reason.name());
    put_text(out, &gap.detail);
}

fn take_gap(cursor: &mut Cursor<'_>) -> Result<Gap, Damaged> {
    Ok(Gap {
        seqs: SeqRange::new(cursor.varint()?, cursor.varint()?)
            .ok_or(Damaged("a range ends before it begins"))?,
        times: match cursor.byte()? {
            0 => None,
            _ => Some((UnixMillis(cursor.signed()?), UnixMillis(cursor.signed()?))),
        },
        reason: GapReason::from_name(cursor.text()?)
            .ok_or(Damaged("the reason of a gap is unknown"))?,
        detail: cursor.text()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use model::{Layout, Process, ProcessReport, Series};
    use proptest::prelude::*;

    use super::*;
    use crate::live::LiveFrame;

    fn examples() -> Vec<EventKind> {
        let labels = Labels::of(
            [("unit", "nginx.service"), ("é", "").to_owned()]
                .map(|(k, v)| if k.is_ascii() { (k, v) } else { ("other", "é") }),
        );
        let time = UnixMillis(-7);
        vec![
            EventKind::Processes(Arc::new(ProcessReport {
                time,
                processes: vec![Process { pid: 7, name: "a".into(), ..Process::default() }],
                ..ProcessReport::default()
            })),
            EventKind::Logs(Arc::new([LogEvent {
                time,
                severity: Severity::new(17).expect("valid"),
                service: "nginx".into(),
                body: "failed".into(),
                body_truncated: true,
                attributes: labels.clone(),
                source: "journald".into(),
            }])),
            EventKind::Machine(MachineEvent {
                time,
                kind: MachineEventKind::OomKill,
                detail: "killed".into(),
                attributes: labels,
            }),
            EventKind::Gap(Gap {
                seqs: SeqRange::new(3, u64::MAX).expect("ordered"),
                times: Some((time, UnixMillis::MAX)),
                reason: GapReason::SpoolFull,
                detail: "full".into(),
            }),
            EventKind::Status { status: MachineStatus::Asleep, since: time },
            EventKind::Changed,
            EventKind::Removed,
        ]
    }

    #[test]
    fn every_kind_comes_back() {
        for kind in examples() {
            let (name, bytes) = encode(&kind);
            match decode(name, &bytes) {
                Ok(Content::Whole(back)) => assert_eq!(format!("{back:?}"), format!("{kind:?}")),
                other => panic!("{name}: {other:?}"),
            }
            assert!(decode("something", &bytes).is_err());
        }
    }

    #[test]
    fn a_frame_comes_back_with_the_name_of_its_layout() {
        let series = ["a", "b"].map(|name| Series::gauge(name, "1", Labels::empty()));
        let layout = Layout::new(series.into()).expect("valid");
        let frame =
            Frame { time: UnixMillis(5), layout: layout.id(), values: vec![f64::NAN, 0.25] };
        for late in [false, true] {
            let live = LiveFrame { layout: layout.clone(), frame: Arc::new(frame.clone()) };
            let (name, bytes) = encode(&EventKind::Frame { frame: live, late });
            match decode(name, &bytes) {
                Ok(Content::Frame { frame: back, late: l }) => {
                    assert_eq!((&back, l), (&frame, late))
                }
                other => panic!("{other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..100),
            which in any::<prop::sample::Index>(),
            flip in any::<(prop::sample::Index, u8)>(),
        ) {
            let all = examples();
            let (name, mut own) = encode(&all[which.index(all.len())]);
            let _ = decode(name, &bytes);
            let _ = decode(FRAME, &bytes);
            if !own.is_empty() {
                let at = flip.0.index(own.len());
                own[at] = flip.1;
                let _ = decode(name, &own);
            }
        }
    }
}
