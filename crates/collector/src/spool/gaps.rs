//! Gaps that are not acknowledged yet. While nobody listens, one gap that grows says more than
//! thousands of small ones, and cannot itself be pushed out by the bound.

use std::collections::BTreeSet;

use model::{Gap, Seq, SeqRange};

/// Gaps in the spool, by the number of their item.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    open: Vec<(Seq, Gap)>,
    /// Numbers of gap items that are still in the spool. Two losses with nothing but such a number
    /// between them are one loss.
    numbers: BTreeSet<Seq>,
}

impl Gaps {
    pub(super) fn insert(&mut self, seq: Seq, gap: Gap) {
        self.numbers.insert(seq);
        self.open.push((seq, gap));
    }

    /// Joins `gaps` with each other and with those in the spool that they continue. The latter are
    /// returned by number: the joined gaps say everything that they said.
    pub(super) fn merge(&mut self, gaps: impl IntoIterator<Item = Gap>) -> (Vec<Gap>, Vec<Seq>) {
        let mut merged: Vec<Gap> = Vec::new();
        let mut superseded = Vec::new();
        for mut gap in gaps {
            let numbers = &self.numbers;
            self.open.retain(|(seq, older)| match joined(older, &gap, numbers) {
                Some(joined) => {
                    gap = joined;
                    superseded.push(*seq);
                    false
                }
                None => true,
            });
            merged.retain(|older| match joined(older, &gap, numbers) {
                Some(joined) => {
                    gap = joined;
                    false
                }
                None => true,
            });
            merged.push(gap);
        }
        for gap in &merged {
            self.numbers.retain(|seq| !gap.seqs.contains(*seq));
        }
        (merged, superseded)
    }

    /// `range` with the gap items that follow it directly, up to `last`.
    pub(super) fn stretch(&self, range: SeqRange, last: Seq) -> SeqRange {
        let follows = |seq: &Seq| self.numbers.contains(seq);
        let end = (range.last()..=last).skip(1).take_while(follows).last();
        end.and_then(|end| SeqRange::new(range.first(), end)).unwrap_or(range)
    }

    /// Takes out the gaps whose items lie in `seqs`.
    pub(super) fn take_within(&mut self, seqs: SeqRange) -> Vec<(Seq, Gap)> {
        self.open.extract_if(.., |(seq, _)| seqs.contains(*seq)).collect()
    }

    /// Forgets the gaps that were delivered, and the numbers that no gap can reach over any more, given
    /// the oldest item that is kept.
    pub(super) fn forget(&mut self, delivered: impl Fn(Seq) -> bool, oldest: Seq) {
        self.open.retain(|(seq, _)| !delivered(*seq));
        let open = self.open.iter().map(|(_, gap)| gap.seqs.last());
        self.numbers = self.numbers.split_off(&open.fold(oldest, Seq::min));
    }
}

/// Both as one, when they are of one kind and nothing lies between them.
fn joined(older: &Gap, newer: &Gap, gap_numbers: &BTreeSet<Seq>) -> Option<Gap> {
    if older.reason != newer.reason {
        return None;
    }
    let (first, second) = if older.seqs <= newer.seqs { (older, newer) } else { (newer, older) };
    let mut between = first.seqs.last().checked_add(1)?..second.seqs.first();
    if !between.all(|seq| gap_numbers.contains(&seq)) {
        return None;
    }
    let last = first.seqs.last().max(second.seqs.last());
    let times = match (older.times, newer.times) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (known, None) | (None, known) => known,
    };
    Some(Gap {
        seqs: SeqRange::new(first.seqs.first(), last)?,
        times,
        reason: newer.reason,
        detail: newer.detail.clone(),
    })
}

#[cfg(test)]
mod tests {
    use model::{GapReason, UnixMillis};

    use super::*;

    fn gap(first: Seq, last: Seq, reason: GapReason) -> Gap {
        Gap {
            seqs: SeqRange::new(first, last).expect("ordered"),
            times: Some((UnixMillis(first as i64), UnixMillis(last as i64))),
            reason,
            detail: String::new(),
        }
    }

    #[test]
    fn a_gap_that_continues_another_takes_its_place() {
        let mut gaps = Gaps::default();
        gaps.insert(11, gap(1, 10, GapReason::SpoolFull));
        gaps.insert(50, gap(30, 40, GapReason::SpoolFull));
        gaps.insert(60, gap(12, 20, GapReason::Rejected));
        // 11 is the number of the first gap itself.
        let news = [gap(12, 15, GapReason::SpoolFull), gap(16, 29, GapReason::SpoolFull)];
        let (merged, superseded) = gaps.merge(news);
        assert_eq!(merged, [gap(1, 40, GapReason::SpoolFull)]);
        assert_eq!(superseded, [11, 50]);
        assert_eq!(gaps.open.len(), 1);
    }

    #[test]
    fn gaps_apart_stay_apart() {
        let mut gaps = Gaps::default();
        gaps.insert(11, gap(1, 10, GapReason::SpoolFull));
        let apart = gap(13, 29, GapReason::SpoolFull);
        assert_eq!(gaps.merge([apart.clone()]), (vec![apart], vec![]));
    }
}
