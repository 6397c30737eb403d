//! What goes out as a message comes back as the same item, and no message makes the conversion panic.

use model::{
    EventKind, Frame, Gap, GapReason, Item, Labels, Layout, LogEvent, MachineEvent, Payload,
    Process, ProcessReport, ProcessState, SeqRange, Series, Severity, UnixMillis,
};
use proptest::prelude::*;
use prost::Message as _;
use proto::convert::{item_from_proto, item_to_proto, layout_from_proto, layout_to_proto};
use proto::v1;

fn layout() -> Layout {
    let labels = Labels::of([("cpu.mode", "user")]);
    Layout::new(vec![
        Series::gauge("system.cpu.utilization", "1", labels),
        Series::counter("system.network.io", "By", Labels::empty()),
    ])
    .expect("valid layout")
}

fn payload() -> impl Strategy<Value = Payload> {
    let time = any::<i64>().prop_map(UnixMillis);
    let labels = prop::collection::btree_map("[a-z._/-]{1,8}", ".{1,8}", 0..4)
        .prop_map(|pairs| Labels::new(pairs).expect("valid labels"));
    let frame = (time.clone(), prop::collection::vec(any::<f64>(), 0..20))
        .prop_map(|(time, values)| Payload::Frame(Frame { time, layout: layout().id(), values }));
    let log = (time.clone(), 0u32..=24, ".{0,20}", ".{0,200}", labels.clone()).prop_map(
        |(time, severity, service, body, attributes)| LogEvent {
            time,
            severity: Severity::new(severity).expect("in range"),
            service,
            body,
            body_truncated: false,
            attributes,
            source: "file".into(),
        },
    );
    let process =
        (any::<u32>(), ".{0,20}", 0usize..7, 0.0..64f64).prop_map(|(pid, name, state, cpu)| {
            Process {
                pid,
                name,
                state: ProcessState::ALL[state],
                cpu_utilization: cpu,
                ..Process::default()
            }
        });
    let report =
        (time.clone(), prop::collection::vec(process, 0..5)).prop_map(|(time, processes)| {
            Payload::Processes(ProcessReport { time, processes, ..Default::default() })
        });
    let event = (time.clone(), 0..EventKind::ALL.len(), ".{0,40}", labels).prop_map(
        |(time, kind, detail, attributes)| {
            Payload::Event(MachineEvent { time, kind: EventKind::ALL[kind], detail, attributes })
        },
    );
    let gap =
        (1u64..1000, 0u64..1000, prop::option::of((1i64..100, 1i64..100)), 0..GapReason::ALL.len())
            .prop_map(|(first, more, times, reason)| {
                Payload::Gap(Gap {
                    seqs: SeqRange::new(first, first + more).expect("ordered"),
                    times: times.map(|(a, b)| (UnixMillis(a), UnixMillis(b))),
                    reason: GapReason::ALL[reason],
                    detail: String::new(),
                })
            });
    prop_oneof![frame, prop::collection::vec(log, 1..4).prop_map(Payload::Logs), report, event, gap]
}

proptest! {
    #[test]
    fn an_item_survives_the_wire(seq in 1..u64::MAX, payload in payload()) {
        let item = Item { seq, payload };
        let bytes = item_to_proto(&item).encode_to_vec();
        let message = v1::CollectorMessage::decode(&*bytes).expect("decodes");
        prop_assert_eq!(item_from_proto(message).expect("valid"), Some(item));
    }

    #[test]
    fn no_bytes_make_the_conversion_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(message) = v1::CollectorMessage::decode(&*bytes) {
            let _ = item_from_proto(message);
        }
        if let Ok(message) = v1::Layout::decode(&*bytes) {
            let _ = layout_from_proto(message);
        }
    }
}

#[test]
fn a_layout_survives_the_wire_and_a_forged_id_does_not() {
    let message = layout_to_proto(&layout());
    assert_eq!(layout_from_proto(message.clone()).expect("valid"), layout());
    let forged = v1::Layout { id: vec![7; 16], ..message };
    let error = layout_from_proto(forged).expect_err("accepted");
    assert!(error.to_string().starts_with("id: expected "), "{error}");
}

#[test]
fn a_bad_field_is_refused_with_its_path_and_value() {
    fn check(kind: v1::collector_message::Kind, expected: &str) {
        let message = v1::CollectorMessage { seq: 1, kind: Some(kind) };
        let error = item_from_proto(message).expect_err("accepted");
        assert!(error.to_string().contains(expected), "{error}");
    }
    use v1::collector_message::Kind;
    check(
        Kind::Frame(v1::Frame { layout_id: vec![1, 2], ..Default::default() }),
        "frame.layout_id: expected 16 bytes, found 2",
    );
    check(
        Kind::LogBatch(v1::LogBatch::default()),
        "log_batch.events: expected 1 to 10000, found 0",
    );
    let event = v1::LogEvent { severity_number: 25, ..Default::default() };
    check(
        Kind::LogBatch(v1::LogBatch { events: vec![Default::default(), event] }),
        "log_batch.events[1].severity_number: expected 0 to 24, found 25",
    );
    check(
        Kind::MachineEvent(v1::MachineEvent { r#type: 99, ..Default::default() }),
        "machine_event.type",
    );
    check(
        Kind::Gap(v1::Gap { first_seq: 9, last_seq: 3, reason: 1, ..Default::default() }),
        "gap.last_seq: expected 1 <= first <= last, found 9 and 3",
    );
    let frame = v1::Frame { layout_id: vec![0; 16], ..Default::default() };
    let message = v1::CollectorMessage { seq: 0, kind: Some(Kind::Frame(frame)) };
    assert!(
        item_from_proto(message)
            .expect_err("accepted")
            .to_string()
            .contains("seq: expected a number from 1")
    );
}

#[test]
fn a_long_log_body_is_cut_with_a_mark_not_refused() {
    let event = v1::LogEvent { body: "ä".repeat(40_000), ..Default::default() };
    let batch = v1::collector_message::Kind::LogBatch(v1::LogBatch { events: vec![event] });
    let item =
        item_from_proto(v1::CollectorMessage { seq: 1, kind: Some(batch) }).expect("accepted");
    let Some(Payload::Logs(events)) = item.map(|i| i.payload) else { panic!("not logs") };
    assert_eq!(events[0].body.len(), 64 * 1024);
    assert!(events[0].body_truncated);
}
