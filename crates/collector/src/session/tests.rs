//! What a session sends, in which order, and what it does with the answers.

use std::sync::Arc;

use model::{EventKind, Frame, Labels, Layout, MachineEvent, Payload, Series};
use prost::Message as _;
use proto::v1::collector_message::Kind;

use super::*;
use crate::spool::Limits;

struct Desk {
    spool: Spool,
    session: Session,
    now: Instant,
    stats: Arc<CollectorStats>,
    _dir: tempfile::TempDir,
}

fn layout() -> Layout {
    Layout::new(vec![Series::gauge("test.value", "1", Labels::empty())]).expect("valid")
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let stats = Arc::new(CollectorStats::default());
        let limits = Limits::new(64 * 1024 * 1024);
        let mut spool = Spool::open(dir.path(), limits, Arc::clone(&stats)).expect("opens");
        spool.learn(&layout());
        let now = Instant::now();
        let session = Session::new(Arc::clone(&stats), now);
        Self { spool, session, now, stats, _dir: dir }
    }

    fn append(&mut self, payload: Payload) -> Record {
        self.spool.append(payload).expect("kept")
    }

    fn append_frame(&mut self, time: i64) -> Record {
        let (time, layout) = (UnixMillis(time), layout().id());
        self.append(Payload::Frame(Frame { time, layout, values: vec![1.0] }))
    }

    fn append_event(&mut self) -> Record {
        self.append_long_event(0)
    }

    fn append_long_event(&mut self, bytes: usize) -> Record {
        self.append(Payload::Event(MachineEvent {
            time: UnixMillis(1),
            kind: EventKind::OomKill,
            detail: "x".repeat(bytes),
            attributes: Labels::empty(),
        }))
    }

    /// The next messages, as `layout` or the number of the item.
    fn sends(&mut self, count: usize) -> Vec<String> {
        let next = || self.session.next(&mut self.spool, self.now);
        std::iter::from_fn(next).take(count).map(|bytes| describe(&bytes)).collect()
    }

    fn all(&mut self) -> Vec<String> {
        self.sends(usize::MAX)
    }

    fn acknowledge(&mut self, first: Seq, last: Seq) {
        let range = SeqRange::new(first, last).expect("ordered");
        self.session.acknowledged(&[range], &mut self.spool, self.now);
    }

    fn reject(&mut self, reason: Reason, retry: bool, first: Seq, last: Seq) {
        let range = SeqRange::new(first, last).expect("ordered");
        self.session.rejected(reason, "refused", retry, &[range], &mut self.spool, self.now);
    }
}

fn describe(bytes: &Bytes) -> String {
    let message = v1::CollectorMessage::decode(bytes.clone()).expect("decodes");
    match message.kind.expect("a kind") {
        Kind::Layout(_) => "layout".to_owned(),
        Kind::Gap(gap) => format!("{} gap {}-{}", message.seq, gap.first_seq, gap.last_seq),
        _ => message.seq.to_string(),
    }
}

#[test]
fn fresh_items_go_before_the_backlog() {
    let mut desk = Desk::new();
    (0..4).for_each(|_| drop(desk.append_event()));
    assert_eq!(desk.sends(2), ["1", "2"]);
    let fresh = desk.append_event();
    desk.session.offer(fresh);
    assert_eq!(desk.all(), ["5", "3", "4"]);
    let fresh = desk.append_event();
    desk.session.offer(fresh);
    assert_eq!(desk.all(), ["6"]);
}

#[test]
fn a_layout_goes_once_before_its_first_frame() {
    let mut desk = Desk::new();
    desk.append_frame(1);
    desk.append_frame(2);
    let fresh = desk.append_frame(3);
    desk.session.offer(fresh);
    assert_eq!(desk.all(), ["layout", "3", "1", "2"]);
}

#[test]
fn what_is_in_flight_is_bounded_and_acknowledgements_make_room() {
    let mut desk = Desk::new();
    (0..40).for_each(|_| drop(desk.append_long_event(32 * 1024)));
    let first = desk.all();
    assert!((7..=9).contains(&first.len()), "256 KiB at first: {first:?}");
    assert_eq!(desk.all(), Vec::<String>::new());
    // Fresh items have room of their own.
    let fresh = desk.append_event();
    desk.session.offer(fresh);
    assert_eq!(desk.all(), ["41"]);
    desk.acknowledge(1, first.len() as u64);
    assert!(desk.all().len() > first.len(), "the window grows");
}

#[test]
fn fresh_items_beyond_their_queue_become_backlog() {
    let mut desk = Desk::new();
    for _ in 0..FRESH_ITEMS_MAX + 3 {
        let record = desk.append_event();
        desk.session.offer(record);
    }
    let sent = desk.all();
    assert_eq!(sent.len(), FRESH_ITEMS_MAX + 3, "everything is sent, each once");
    assert_eq!(sent[0], "4");
    assert_eq!(sent[FRESH_ITEMS_MAX..], ["1", "2", "3"]);
}

#[test]
fn what_is_refused_for_good_becomes_a_gap_and_is_not_sent_again() {
    let mut desk = Desk::new();
    (0..4).for_each(|_| drop(desk.append_event()));
    desk.all();
    desk.reject(Reason::TooOld, false, 2, 3);
    assert_eq!(desk.all(), ["5 gap 2-3"]);
    assert_eq!(desk.stats.items_rejected(), 2);
    // A gap that is refused too is only counted.
    desk.reject(Reason::Invalid, false, 5, 5);
    assert_eq!(desk.all(), Vec::<String>::new());
    assert_eq!(desk.stats.items_rejected(), 3);
}

#[test]
fn what_is_refused_for_now_is_sent_again_later() {
    let mut desk = Desk::new();
    (0..3).for_each(|_| drop(desk.append_event()));
    desk.all();
    desk.reject(Reason::Unavailable, true, 1, 2);
    assert_eq!(desk.all(), Vec::<String>::new());
    let fresh = desk.append_event();
    desk.session.offer(fresh);
    assert_eq!(desk.all(), ["4"], "the present does not wait for it");
    desk.now += Duration::from_secs(2);
    assert_eq!(desk.all(), ["1", "2"]);
}

#[test]
fn a_layout_that_is_not_known_is_sent_again_once() {
    let mut desk = Desk::new();
    desk.append_frame(1);
    desk.append_frame(2);
    assert_eq!(desk.all(), ["layout", "1", "2"]);
    desk.reject(Reason::UnknownLayout, true, 1, 2);
    assert_eq!(desk.all(), ["layout", "1", "2"]);
    desk.reject(Reason::UnknownLayout, true, 1, 2);
    assert_eq!(desk.all(), ["3 gap 1-2"], "then the layout itself is refused");
}

#[test]
fn only_what_was_sent_can_be_refused() {
    let mut desk = Desk::new();
    (0..3).for_each(|_| drop(desk.append_event()));
    desk.sends(1);
    desk.reject(Reason::Invalid, false, 1, u64::MAX);
    assert_eq!(desk.all(), ["2", "3", "4 gap 1-1"]);
}

#[test]
fn a_stream_without_any_answer_is_given_up() {
    let mut desk = Desk::new();
    desk.now += STALLED_AFTER * 2;
    assert!(!desk.session.is_stalled(desk.now), "nothing is waited for");
    desk.append_event();
    desk.append_event();
    desk.all();
    assert!(!desk.session.is_stalled(desk.now + STALLED_AFTER / 2));
    assert!(desk.session.is_stalled(desk.now + STALLED_AFTER));
    desk.now += STALLED_AFTER / 2;
    desk.acknowledge(1, 1);
    assert!(!desk.session.is_stalled(desk.now + STALLED_AFTER / 2));
}

#[test]
fn the_next_stream_sends_what_was_not_acknowledged_and_its_layouts() {
    let mut desk = Desk::new();
    (1..=4).for_each(|time| drop(desk.append_frame(time)));
    desk.all();
    desk.acknowledge(2, 3);
    desk.session = Session::new(Arc::clone(&desk.stats), desk.now);
    assert_eq!(desk.all(), ["layout", "1", "4"]);
}

fn log_batch(time: i64, bytes: usize) -> Payload {
    let event = model::LogEvent {
        time: UnixMillis(time),
        severity: model::Severity::UNKNOWN,
        service: String::new(),
        body: "x".repeat(bytes),
        body_truncated: false,
        attributes: Labels::empty(),
        source: "file".to_owned(),
    };
    Payload::Logs(vec![event])
}

#[test]
fn however_much_is_logged_a_fresh_frame_goes_next() {
    let mut desk = Desk::new();
    for time in 0..200 {
        let record = desk.append(log_batch(time, 32 * 1024));
        desk.session.offer(record);
    }
    let frame = desk.append_frame(7);
    desk.session.offer(frame);
    assert_eq!(desk.sends(3), ["layout", "201", "1"]);
    desk.all();
    let frame = desk.append_frame(8);
    desk.session.offer(frame);
    assert_eq!(desk.sends(1), ["202"], "logs in flight leave room for frames");
}

#[test]
fn a_storm_of_logs_is_sent_whole_and_each_once() {
    let mut desk = Desk::new();
    for time in 0..200 {
        let record = desk.append(log_batch(time, 32 * 1024));
        desk.session.offer(record);
    }
    let mut sent = Vec::new();
    loop {
        let more = desk.all();
        if more.is_empty() {
            break;
        }
        for seq in &more {
            let seq = seq.parse().expect("an item");
            desk.acknowledge(seq, seq);
        }
        sent.extend(more);
    }
    let each: std::collections::BTreeSet<_> = sent.iter().collect();
    assert_eq!((sent.len(), each.len()), (200, 200));
}
