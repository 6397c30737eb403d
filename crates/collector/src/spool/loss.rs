//! What will never arrive, and saying so: every loss becomes a gap, and a gap is delivered like any item.

use std::time::SystemTime;

use bytes::Bytes;
use model::{EventKind, Gap, GapReason, Item, Labels, MachineEvent, Payload, SeqRange, UnixMillis};
use prost::Message as _;

use super::Spool;
use super::done::undone;
use super::record::{Record, RecordKind};

/// Gaps that one dropped segment may leave; more are told as one.
const GAPS_PER_SEGMENT_MAX: usize = 64;
/// Gaps that wait for a number.
const GAPS_WAITING_MAX: usize = 1000;

impl Spool {
    pub(super) fn drop_items(
        &mut self,
        seqs: SeqRange,
        times: Option<(UnixMillis, UnixMillis)>,
        why: &str,
    ) {
        // Gaps that would be pushed out themselves are told again, by a newer item.
        let told_again = self.gaps.take_within(seqs);
        self.done.extend(told_again.iter().map(|(seq, _)| SeqRange::one(*seq)));
        let mut lost = undone(&self.done, seqs);
        let count = lost.iter().map(|range| range.count()).sum();
        self.stats.add_spool_dropped(count);
        // With the older gaps among them, so that what is dropped next continues this loss.
        for range in &mut lost {
            *range = self.gaps.stretch(*range, seqs.last());
        }
        if lost.len() > GAPS_PER_SEGMENT_MAX {
            lost = vec![seqs];
        }
        self.done.insert_range(seqs);
        let newly = lost.into_iter().map(|seqs| Gap {
            seqs,
            times,
            reason: GapReason::SpoolFull,
            detail: why.to_owned(),
        });
        self.tell(told_again.into_iter().map(|(_, gap)| gap).chain(newly).collect());
    }

    /// What could not be read back.
    pub(super) fn lose(&mut self, seqs: SeqRange) {
        let lost = undone(&self.done, seqs);
        // A gap that cannot be read may still be known.
        let told_again = self.gaps.take_within(seqs);
        self.done.insert_range(seqs);
        let newly = lost.into_iter().map(|seqs| Gap {
            seqs,
            times: None,
            reason: GapReason::SpoolDamaged,
            detail: "the spool could not be read back here".to_owned(),
        });
        self.tell(told_again.into_iter().map(|(_, gap)| gap).chain(newly).collect());
    }

    /// Puts gaps into the spool, in place of those that they continue.
    pub(super) fn tell(&mut self, gaps: Vec<Gap>) {
        let (gaps, superseded) = self.gaps.merge(gaps);
        self.done.extend(superseded.into_iter().map(SeqRange::one));
        // Every loss ends here, so this is where what is done has changed.
        self.acknowledged_is_stale = true;
        gaps.into_iter().for_each(|gap| self.append_gap(gap));
    }

    fn append_gap(&mut self, gap: Gap) {
        let Some(seq) = self.numbers.take() else {
            // Bounded: it only grows by what was dropped while not one number could be reserved.
            if self.gaps_waiting.len() < GAPS_WAITING_MAX {
                self.gaps_waiting.push(gap);
            }
            return;
        };
        let time = gap.times.map_or(self.latest_time, |(_, last)| last);
        let message =
            proto::convert::item_to_proto(&Item { seq, payload: Payload::Gap(gap.clone()) });
        self.gaps.insert(seq, gap);
        let body = Bytes::from(message.encode_to_vec());
        self.write(Record { seq, time, kind: RecordKind::Gap, body, bookmarks: Bytes::new() });
    }

    /// Reports damage: counted, logged, and an event for people.
    pub(super) fn report_damage(&mut self, detail: String) {
        tracing::warn!(%detail, "the spool was damaged");
        self.stats.add_spool_damaged(1);
        let time = UnixMillis::from(SystemTime::now());
        let attributes = Labels::empty();
        let event = MachineEvent { time, kind: EventKind::SpoolDamaged, detail, attributes };
        self.append(Payload::Event(event));
    }
}
