//! The spool against a model: whatever is killed, cut or flipped, nothing that is not acknowledged goes
//! without a word, and no number is used twice.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileExt as _;

use proptest::prelude::*;

use super::*;

/// What a run of the property test does next.
#[derive(Clone, Debug)]
enum Step {
    Frame(usize),
    Event,
    Acknowledge(prop::sample::Index, u64),
    House,
    Reopen { clean: bool },
    Cut(prop::sample::Index, prop::sample::Index),
    Flip(prop::sample::Index, prop::sample::Index, u8),
    Remove(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        20 => (1usize..40).prop_map(Step::Frame),
        8 => Just(Step::Event),
        6 => (index(), 0u64..12).prop_map(|(at, more)| Step::Acknowledge(at, more)),
        3 => Just(Step::House),
        2 => any::<bool>().prop_map(|clean| Step::Reopen { clean }),
        1 => (index(), index()).prop_map(|(file, at)| Step::Cut(file, at)),
        2 => (index(), index(), 1u8..).prop_map(|(file, at, flip)| Step::Flip(file, at, flip)),
        1 => index().prop_map(Step::Remove),
    ]
}

/// What must be true of a spool that went through some steps.
#[derive(Debug, Default)]
struct Model {
    /// Time of every item that was appended.
    items: BTreeMap<Seq, i64>,
    acknowledged: BTreeSet<Seq>,
    /// At the end of the newest segment: as if the power had gone before they were synced.
    cut_off: BTreeSet<Seq>,
    /// Told by gaps that are gone: acknowledged, so the aggregator has them, or damaged themselves.
    told_once: Vec<SeqRange>,
    highest: Seq,
    harmed: bool,
    /// A head was damaged, so nobody can say any more where the segment before it ended.
    headless: bool,
}

impl Model {
    fn appended(&mut self, record: Option<Record>, time: i64) {
        let record = record.expect("kept");
        assert!(record.seq > self.highest, "{} was used before", record.seq);
        self.highest = record.seq;
        self.items.insert(record.seq, time);
    }

    fn check(&self, spool: &mut Spool) {
        let found = waiting(spool);
        let gaps = gaps(&found);
        let there: BTreeMap<Seq, &Waiting> = found.iter().map(|w| (w.record.seq, w)).collect();
        assert_eq!(there.len(), found.len(), "an item is read twice");
        for (seq, time) in &self.items {
            if let Some(waiting) = there.get(seq) {
                assert_eq!(item(&waiting.record).payload.time(), Some(UnixMillis(*time)));
                continue;
            }
            let told = gaps.iter().any(|gap| gap.seqs.contains(*seq));
            let settled = self.acknowledged.contains(seq)
                || self.cut_off.contains(seq)
                || self.told_once.iter().any(|range| range.contains(*seq));
            assert!(told || settled, "{seq} is lost without a word");
            assert!(settled || self.harmed || spool.stats.spool_dropped() > 0, "{seq} is lost");
        }
        let last = there.keys().next_back().copied().unwrap_or(0);
        assert!(last < spool.numbers.next());
    }
}

/// Numbers that can be read back from a segment file.
fn readable(path: &Path, epoch: SpoolEpoch) -> BTreeMap<Seq, Record> {
    let bytes = std::fs::read(path).unwrap_or_default();
    let from = bytes.len().min(segment::HEAD_BYTES as usize);
    let records = record::Scan::new(Bytes::from(bytes).slice(from..), epoch);
    let items = records.filter_map(|found| match found {
        record::Found::Record(record) => Some((record.seq, record)),
        record::Found::Damage => None,
    });
    items.filter(|(seq, _)| *seq > 0).collect()
}

/// What a record says is lost.
fn told_by(record: &Record) -> Option<SeqRange> {
    match item(record).payload {
        Payload::Gap(gap) => Some(gap.seqs),
        _ => None,
    }
}

/// Harms one segment file of a spool that is not running.
fn harm(dir: &Path, file: usize, model: &mut Model, epoch: SpoolEpoch, how: &dyn Fn(&Path)) {
    let paths = segments(dir);
    let Some(path) = paths.get(file) else { return };
    let before = readable(path, epoch);
    how(path);
    let after = readable(path, epoch);
    let end = after.keys().next_back().copied().unwrap_or(0);
    for (seq, record) in before.iter().filter(|(seq, _)| !after.contains_key(seq)) {
        if paths.last() == Some(path) && *seq > end {
            model.cut_off.insert(*seq);
        }
        model.told_once.extend(told_by(record));
    }
    model.harmed = true;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..Default::default() })]

    #[test]
    fn nothing_is_lost_without_a_word_and_no_number_is_used_twice(
        steps in prop::collection::vec(step(), 1..120)
    ) {
        let dir = tempfile::tempdir().expect("a directory");
        let mut spool = open(dir.path());
        let epoch = spool.epoch();
        let mut model = Model::default();
        let mut time = 0;
        for step in steps {
            time += 1;
            match step {
                Step::Frame(width) => model.appended(frame(&mut spool, width, time), time),
                Step::Event => model.appended(spool.append(event(time)), time),
                Step::Acknowledge(at, more) => {
                    if model.items.is_empty() {
                        continue;
                    }
                    let seqs: Vec<Seq> = model.items.keys().copied().collect();
                    let first = seqs[at.index(seqs.len())];
                    let stored = range(first, first + more);
                    for path in segments(dir.path()) {
                        let records = readable(&path, epoch);
                        let delivered = records.values().filter(|r| stored.contains(r.seq));
                        model.told_once.extend(delivered.filter_map(told_by));
                    }
                    spool.acknowledge([stored]);
                    model.acknowledged.extend(stored.first()..=stored.last());
                }
                Step::House => {
                    if let Some(job) = spool.keep_house() {
                        spool.synced(job.run());
                    }
                }
                Step::Reopen { clean: true } => {
                    spool.close();
                    spool = open(dir.path());
                }
                Step::Reopen { clean: false } => {
                    drop(spool);
                    spool = open(dir.path());
                }
                Step::Cut(..) | Step::Remove(_) if model.headless => {}
                Step::Cut(file, at) => {
                    drop(spool);
                    let file = file.index(segments(dir.path()).len().max(1));
                    harm(dir.path(), file, &mut model, epoch, &|path| {
                        let file = std::fs::OpenOptions::new().write(true).open(path).expect("opens");
                        let length = file.metadata().expect("length").len();
                        file.set_len(at.index(length as usize + 1) as u64).expect("cut");
                    });
                    spool = open(dir.path());
                }
                Step::Flip(file, at, flip) => {
                    drop(spool);
                    let file = file.index(segments(dir.path()).len().max(1));
                    let headless = std::cell::Cell::new(model.headless);
                    harm(dir.path(), file, &mut model, epoch, &|path| {
                        let file = std::fs::OpenOptions::new().read(true).write(true).open(path).expect("opens");
                        let length = file.metadata().expect("length").len();
                        let at = at.index(length as usize) as u64;
                        headless.set(headless.get() || at < segment::HEAD_BYTES);
                        let mut byte = [0];
                        file.read_exact_at(&mut byte, at).expect("read");
                        file.write_all_at(&[byte[0] ^ flip], at).expect("written");
                    });
                    model.headless = headless.get();
                    spool = open(dir.path());
                }
                // That the oldest is gone looks as if it had been acknowledged.
                Step::Remove(_) if segments(dir.path()).len() < 2 => {}
                Step::Remove(file) => {
                    drop(spool);
                    let file = 1 + file.index(segments(dir.path()).len() - 1);
                    harm(dir.path(), file, &mut model, epoch, &|path| {
                        std::fs::remove_file(path).expect("removed");
                    });
                    spool = open(dir.path());
                }
            }
            prop_assert_eq!(spool.epoch(), epoch);
        }
        model.check(&mut spool);
        spool.close();
        model.check(&mut open(dir.path()));
    }
}
