//! Gaps that are not acknowledged yet. While nobody listens, one gap that grows says more than
//! thousands of small ones, and cannot itself be pushed out by the bound.

use model::{Gap, Seq, SeqRange};

/// Gaps in the spool by the number of their item. Kept small by merging.
#[derive(Debug, Default)]
pub(super) struct Gaps(Vec<(Seq, Gap)>);

impl Gaps {
    pub(super) fn insert(&mut self, seq: Seq, gap: Gap) {
        self.0.push((seq, gap));
    }

    /// Joins `gap` with those that it continues. They are returned by number: the joined gap says
    /// everything that they said.
    pub(super) fn merge(&mut self, mut gap: Gap) -> (Gap, Vec<Seq>) {
        let mut superseded = Vec::new();
        self.0.retain(|(seq, older)| {
            let Some(joined) = joined(older, &gap) else { return true };
            gap = joined;
            superseded.push(*seq);
            false
        });
        (gap, superseded)
    }

    /// Takes out the gaps whose items lie in `seqs`.
    pub(super) fn take_within(&mut self, seqs: SeqRange) -> Vec<(Seq, Gap)> {
        self.0.extract_if(.., |(seq, _)| seqs.contains(*seq)).collect()
    }

    /// Forgets the gaps that were delivered.
    pub(super) fn forget(&mut self, delivered: impl Fn(Seq) -> bool) {
        self.0.retain(|(seq, _)| !delivered(*seq));
    }
}

fn joined(older: &Gap, newer: &Gap) -> Option<Gap> {
    let (first, second) = if older.seqs <= newer.seqs { (older, newer) } else { (newer, older) };
    let touches = second.seqs.first() <= first.seqs.last().saturating_add(1);
    if older.reason != newer.reason || !touches {
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
        let (merged, superseded) = gaps.merge(gap(11, 29, GapReason::SpoolFull));
        assert_eq!(merged, gap(1, 40, GapReason::SpoolFull));
        assert_eq!(superseded, [11, 50]);
        assert_eq!(gaps.0.len(), 1);
    }

    #[test]
    fn gaps_apart_stay_apart() {
        let mut gaps = Gaps::default();
        gaps.insert(11, gap(1, 10, GapReason::SpoolFull));
        let apart = gap(12, 29, GapReason::SpoolFull);
        assert_eq!(gaps.merge(apart.clone()), (apart, vec![]));
    }
}
