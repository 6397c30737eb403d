//! The spool by example: kills, cuts, bounds, refusals, a disk that takes nothing.

use std::collections::BTreeSet;

use model::{EventKind, Frame, Item, Labels, MachineEvent, Series};
use prost::Message as _;

use super::*;

mod harm;

const LIMITS: Limits =
    Limits { bytes_max: 64 * 1024, segment_bytes_max: 2 * 1024, memory_bytes_max: 8 * 1024 };

fn open(dir: &Path) -> Spool {
    open_with(dir, LIMITS)
}

fn open_with(dir: &Path, limits: Limits) -> Spool {
    Spool::open(dir, limits, Arc::default()).expect("opens")
}

fn layout(width: usize) -> Layout {
    let series = |i| {
        let labels = Labels::new([("i", format!("{i}"))]).expect("valid");
        Series::gauge("test.value", "1", labels)
    };
    Layout::new((0..width).map(series).collect()).expect("valid")
}

/// A frame that can be told from others by its time.
fn frame(spool: &mut Spool, width: usize, time: i64) -> Option<Record> {
    let layout = layout(width);
    spool.learn(&layout);
    let values = vec![time as f64; width];
    spool.append(Payload::Frame(Frame { time: UnixMillis(time), layout: layout.id(), values }))
}

fn event(time: i64) -> Payload {
    Payload::Event(MachineEvent {
        time: UnixMillis(time),
        kind: EventKind::OomKill,
        detail: String::new(),
        attributes: Labels::empty(),
    })
}

fn range(first: Seq, last: Seq) -> SeqRange {
    SeqRange::new(first, last).expect("ordered")
}

/// Everything that waits, in the order it would be sent.
fn waiting(spool: &mut Spool) -> Vec<Waiting> {
    let mut cursor = Cursor::new();
    std::iter::from_fn(|| spool.next_waiting(&mut cursor, |_| false)).collect()
}

fn item(record: &Record) -> Item {
    let message = proto::v1::CollectorMessage::decode(record.body.clone()).expect("decodes");
    proto::convert::item_from_proto(message).expect("valid").expect("an item")
}

fn gaps(waiting: &[Waiting]) -> Vec<Gap> {
    let payloads = waiting.iter().map(|w| item(&w.record).payload);
    payloads.filter_map(|p| if let Payload::Gap(gap) = p { Some(gap) } else { None }).collect()
}

fn seqs(waiting: &[Waiting]) -> Vec<Seq> {
    waiting.iter().map(|w| w.record.seq).collect()
}

/// Segment files, oldest first.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.join("spool")).expect("a directory");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| segment::first_of(path).is_some())
        .collect();
    paths.sort();
    paths
}

#[test]
fn what_is_not_acknowledged_is_still_there_after_a_kill() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut spool = open(dir.path());
    for time in 1..=100 {
        frame(&mut spool, 3, time).expect("kept");
    }
    spool.acknowledge([range(1, 10), range(20, 30)]);
    spool.keep_house();
    let epoch = spool.epoch();
    // Not closed: as if it had been killed.
    drop(spool);
    let mut spool = open(dir.path());
    assert_eq!(spool.epoch(), epoch);
    assert_eq!(spool.oldest_unacknowledged(), 11);
    let found = waiting(&mut spool);
    let expected: Vec<Seq> = (11..20).chain(31..=100).collect();
    assert_eq!(seqs(&found), expected);
    for waiting in &found {
        assert_eq!(
            item(&waiting.record).payload.time(),
            Some(UnixMillis(waiting.record.seq as i64))
        );
        assert_eq!(waiting.layout.as_ref().map(|(id, _)| *id), Some(layout(3).id()));
    }
    assert!(frame(&mut spool, 3, 101).expect("kept").seq > 100);
}

#[test]
fn a_clean_stop_leaves_no_hole() {
    let dir = tempfile::tempdir().expect("a directory");
    for start in [1, 4, 7] {
        let mut spool = open(dir.path());
        for seq in start..start + 3 {
            assert_eq!(spool.append(event(0)).expect("kept").seq, seq);
        }
        spool.close();
    }
    assert_eq!(seqs(&waiting(&mut open(dir.path()))), (1..=9).collect::<Vec<_>>());
}

#[test]
fn a_collector_that_is_acknowledged_at_once_keeps_next_to_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut spool = open_with(dir.path(), Limits::new(256 * 1024 * 1024));
    for time in 1..=2000 {
        let record = frame(&mut spool, 50, time).expect("kept");
        spool.acknowledge([SeqRange::one(record.seq)]);
        assert!(spool.keep_house().is_none(), "nothing waits, so nothing is synced");
        assert!(spool.bytes() < 2 * RECYCLED_BYTES_MIN);
    }
    assert_eq!(segments(dir.path()).len(), 1);
    assert_eq!(spool.stats.spool_items(), 0);
    assert_eq!(spool.done.len(), 1);
}

#[test]
fn what_waits_is_synced_at_the_second_look() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut spool = open(dir.path());
    spool.append(event(1));
    assert!(spool.keep_house().is_none());
    let job = spool.keep_house().expect("it waited since the first look");
    spool.synced(job.run());
    assert_eq!(spool.synced_to, 1);
    assert!(spool.keep_house().is_none());
}

#[test]
fn the_bound_drops_the_oldest_and_says_so_in_one_growing_gap() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut spool = open(dir.path());
    let mut appended = Vec::new();
    for time in 1..=5_000 {
        appended.push(frame(&mut spool, 10, time).expect("kept").seq);
        assert!(spool.bytes() <= LIMITS.bytes_max + 256);
    }
    let found = waiting(&mut spool);
    let gaps = gaps(&found);
    let [gap] = &gaps[..] else { panic!("{gaps:?}") };
    assert_eq!(gap.reason, GapReason::SpoolFull);
    assert!(gap.detail.contains("64KiB"), "{}", gap.detail);
    assert_eq!(gap.seqs.first(), 1);
    // Every number is in the gap, is kept, or was that of an older gap.
    let kept: BTreeSet<Seq> = seqs(&found).into_iter().collect();
    let lost = appended.iter().find(|seq| !kept.contains(seq) && !gap.seqs.contains(**seq));
    assert_eq!(lost, None);
    assert!(appended.iter().all(|seq| !kept.contains(seq) || !gap.seqs.contains(*seq)));
    assert_eq!(gap.times.map(|(first, _)| first), Some(UnixMillis(1)));
    assert!(spool.stats.spool_dropped() > 4_000);
    assert_eq!(
        kept.len() as u64 - 1 + spool.stats.spool_dropped(),
        5_000,
        "each is kept or counted"
    );
    // And after a kill it is still one gap.
    drop(spool);
    let mut spool = open(dir.path());
    for time in 1..=100 {
        frame(&mut spool, 10, time).expect("kept");
    }
    assert_eq!(self::gaps(&waiting(&mut spool)).len(), 1);
}

#[test]
fn an_item_that_is_too_long_is_an_error_in_the_data() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut spool = open(dir.path());
    assert!(frame(&mut spool, 10_000, 1).is_none());
    assert!(frame(&mut spool, 1, 2).is_some());
    let mut vast =
        open_with(tempfile::tempdir().expect("a directory").path(), Limits::new(1 << 28));
    let long = "x".repeat(record::BODY_BYTES_MAX);
    let Payload::Event(mut over) = event(3) else { unreachable!("it is an event") };
    over.detail = long;
    assert!(vast.append(Payload::Event(over)).is_none());
    for (spool, detail) in [(&mut spool, "does not fit"), (&mut vast, "is more than")] {
        let gaps = gaps(&waiting(spool));
        assert_eq!(gaps[0].reason, GapReason::Rejected);
        assert!(gaps[0].detail.contains(detail), "{}", gaps[0].detail);
    }
}

#[test]
fn refused_items_become_a_gap_and_a_refused_gap_does_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut spool = open(dir.path());
    for time in 1..=5 {
        spool.append(event(time));
    }
    spool.acknowledge([range(4, 4)]);
    spool.refuse(range(3, 5), Some((UnixMillis(3), UnixMillis(5))), "too old");
    let found = waiting(&mut spool);
    assert_eq!(seqs(&found), [1, 2, 6, 7]);
    let told: Vec<_> = gaps(&found).iter().map(|gap| gap.seqs).collect();
    assert_eq!(told, [range(3, 3), range(5, 5)]);
    assert_eq!(spool.stats.items_rejected(), 2);
    spool.refuse(range(6, 7), None, "no gaps here");
    assert_eq!(seqs(&waiting(&mut spool)), [1, 2]);
}

#[test]
fn an_acknowledgement_of_what_was_never_numbered_is_not_believed() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut spool = open(dir.path());
    spool.append(event(1));
    spool.acknowledge([range(1, u64::MAX)]);
    spool.append(event(2));
    assert_eq!(seqs(&waiting(&mut spool)), [2]);
}

#[test]
fn a_spool_that_cannot_be_used_is_put_aside() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut epochs = BTreeSet::new();
    for life in 1..=6 {
        let mut spool = open(dir.path());
        assert!(epochs.insert(spool.epoch()));
        let found = waiting(&mut spool);
        assert_eq!(found.len(), usize::from(life > 1), "an event tells of it");
        spool.append(event(1));
        drop(spool);
        std::fs::write(dir.path().join("spool/numbers"), b"garbage").expect("written");
    }
    let entries = std::fs::read_dir(dir.path()).expect("a directory");
    let mut names: Vec<_> =
        entries.map(|e| e.expect("an entry").file_name().into_string().expect("text")).collect();
    names.sort();
    assert_eq!(names, ["spool", "spool.damaged-3", "spool.damaged-4", "spool.damaged-5"]);
}

#[test]
fn a_file_in_place_of_the_directory_is_put_aside() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("spool"), b"what?").expect("written");
    let mut spool = open(dir.path());
    assert_eq!(waiting(&mut spool).len(), 1);
}

#[test]
fn only_a_directory_that_cannot_be_written_is_an_error() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let error = Spool::open(file.path(), LIMITS, Arc::default()).expect_err("below a file");
    assert!(daemon::hint::of(&error).is_some_and(|hint| hint.contains("--state-dir")));
}

#[test]
fn while_the_disk_takes_nothing_a_bounded_memory_stands_in() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut spool = open(dir.path());
    for time in 1..=3 {
        frame(&mut spool, 3, time);
    }
    // A directory that is gone refuses new segments, as a full disk does.
    spool.seal();
    let (home, gone) = (dir.path().join("spool"), dir.path().join("gone"));
    std::fs::rename(&home, &gone).expect("renamed");
    let appended: Vec<Seq> =
        (4..=200).map(|time| frame(&mut spool, 10, time).expect("kept").seq).collect();
    assert!(spool.stats.spool_write_errors() > 0);
    assert!(spool.memory.bytes() <= LIMITS.memory_bytes_max);
    std::fs::rename(&gone, &home).expect("renamed");
    spool.keep_house();
    assert!(spool.memory.is_empty());
    drop(spool);

    let mut spool = open(dir.path());
    let found = waiting(&mut spool);
    let kept: BTreeSet<Seq> = seqs(&found).into_iter().collect();
    let gaps = gaps(&found);
    for seq in &appended {
        assert!(kept.contains(seq) || gaps.iter().any(|gap| gap.seqs.contains(*seq)), "{seq}");
    }
    assert!(kept.contains(&3) && !kept.contains(&appended[0]));
    assert!(kept.contains(appended.last().expect("some")));
    assert!(gaps.iter().all(|gap| gap.reason == GapReason::SpoolFull), "{gaps:?}");
}

fn lines(spool: &mut Spool, time: i64) -> Option<Record> {
    let event = model::LogEvent {
        time: UnixMillis(time),
        severity: model::Severity::UNKNOWN,
        service: "web".to_owned(),
        body: format!("{time} {}", "x".repeat(200)),
        body_truncated: false,
        attributes: Labels::empty(),
        source: "file".to_owned(),
    };
    spool.append_marked(Payload::Logs(vec![event]), &[bookmark("a.log", time)])
}

fn bookmark(source: &str, place: i64) -> Bookmark {
    Bookmark { source: source.to_owned(), place: Some(place.to_string()) }
}

fn place(spool: &Spool, source: &str) -> Option<i64> {
    Some(spool.places().get(source)?.parse().expect("a number"))
}

#[test]
fn a_kill_leaves_an_item_and_its_bookmark_or_neither() {
    for cut in (0..700).step_by(9) {
        let dir = tempfile::tempdir().expect("a directory");
        let mut spool = open(dir.path());
        for time in 1..=3 {
            lines(&mut spool, time).expect("kept");
        }
        drop(spool);
        let path = segments(dir.path()).pop().expect("a segment");
        let file = std::fs::OpenOptions::new().write(true).open(&path).expect("opens");
        let length = file.metadata().expect("length").len();
        file.set_len(length - cut).expect("cut");
        let mut spool = open(dir.path());
        let kept = waiting(&mut spool).iter().filter(|w| w.record.kind == RecordKind::Logs).count();
        assert_eq!(place(&spool, "a.log").unwrap_or(0), kept as i64, "{cut} bytes cut off");
    }
}

#[test]
fn a_mark_without_an_item_is_kept_with_the_next_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut spool = open(dir.path());
    spool.mark(&[bookmark("b.log", 6), bookmark("a.log", 0)]);
    spool.mark(&[bookmark("b.log", 7)]);
    lines(&mut spool, 1).expect("kept");
    // Killed before anybody keeps house.
    drop(spool);
    let mut spool = open(dir.path());
    assert_eq!((place(&spool, "a.log"), place(&spool, "b.log")), (Some(1), Some(7)));
    spool.mark(&[Bookmark { source: "b.log".to_owned(), place: None }]);
    lines(&mut spool, 2).expect("kept");
    drop(spool);
    let spool = open(dir.path());
    assert_eq!((place(&spool, "a.log"), place(&spool, "b.log")), (Some(2), None));
}

#[test]
fn bookmarks_outlive_the_items_they_came_with() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut spool = open(dir.path());
    spool.mark(&[bookmark("b.log", 7)]);
    for time in 1..=2_000 {
        let seq = lines(&mut spool, time).expect("kept").seq;
        spool.acknowledge([SeqRange::one(seq)]);
    }
    assert!(segments(dir.path()).len() < 20, "what is acknowledged goes");
    drop(spool);
    let spool = open(dir.path());
    assert_eq!((place(&spool, "a.log"), place(&spool, "b.log")), (Some(2_000), Some(7)));
    drop(spool);
    // A spool that was put aside takes its items along, but not where their sources go on.
    std::fs::write(dir.path().join("spool/numbers"), b"nothing").expect("written");
    let mut spool = open(dir.path());
    assert!(place(&spool, "a.log").is_some_and(|place| place > 1_000));
    spool.mark(&[Bookmark { source: "a.log".to_owned(), place: None }]);
    spool.close();
    assert_eq!(place(&open(dir.path()), "a.log"), None);
}

#[test]
fn lines_that_the_bound_pushed_out_are_told_and_not_read_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut spool = open(dir.path());
    for time in 1..=500 {
        lines(&mut spool, time).expect("kept");
    }
    drop(spool);
    let mut spool = open(dir.path());
    assert_eq!(place(&spool, "a.log"), Some(500));
    let waiting = waiting(&mut spool);
    let told: u64 = gaps(&waiting).iter().map(|gap| gap.seqs.count()).sum();
    let kept = waiting.iter().filter(|w| w.record.kind == RecordKind::Logs).count() as u64;
    assert!(told + kept >= 500 && told > 0, "{told} told, {kept} kept");
}

#[test]
fn damage_found_while_reading_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut spool = open(dir.path());
    for time in 1..=60 {
        frame(&mut spool, 3, time);
    }
    let second = segments(dir.path())[1].clone();
    let first_there = segment::first_of(&second).expect("a segment");
    std::fs::remove_file(second).expect("removed");
    let found = waiting(&mut spool);
    let told = gaps(&found);
    assert_eq!(told[0].reason, GapReason::SpoolDamaged);
    assert_eq!(told[0].seqs.first(), first_there);
    assert_eq!(found.len() as u64 - 2 + told[0].seqs.count(), 60);
    assert_eq!(spool.stats.spool_damaged(), 1);
}
