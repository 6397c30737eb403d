//! Sets of item numbers, kept as ranges: what was acknowledged.

use std::collections::BTreeMap;
use std::fmt;

use crate::Seq;

/// An inclusive, never empty range of item numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeqRange {
    first: Seq,
    last: Seq,
}

impl SeqRange {
    /// `None` when `last` is before `first`.
    pub fn new(first: Seq, last: Seq) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    pub fn one(seq: Seq) -> Self {
        Self { first: seq, last: seq }
    }

    pub fn first(self) -> Seq {
        self.first
    }

    /// Inclusive.
    pub fn last(self) -> Seq {
        self.last
    }

    /// How many numbers it holds, saturating.
    pub fn count(self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }

    pub fn contains(self, seq: Seq) -> bool {
        self.first <= seq && seq <= self.last
    }
}

/// A set of item numbers. Ranges that touch are joined, so a collector without losses needs one.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SeqRanges {
    /// First number of each range to its last; disjoint, and never touching.
    ranges: BTreeMap<Seq, Seq>,
}

impl SeqRanges {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn contains(&self, seq: Seq) -> bool {
        self.ranges.range(..=seq).next_back().is_some_and(|(_, &last)| seq <= last)
    }

    /// Adds one number. False when it was there already.
    pub fn insert(&mut self, seq: Seq) -> bool {
        if self.contains(seq) {
            return false;
        }
        self.insert_range(SeqRange::one(seq));
        true
    }

    /// Adds a whole range, whatever of it was there already.
    pub fn insert_range(&mut self, range: SeqRange) {
        let (mut first, mut last) = (range.first, range.last);
        // Join what overlaps or touches: at most one range before, any number within and after.
        if let Some((&f, &l)) = self.ranges.range(..=first).next_back()
            && l >= first.saturating_sub(1)
        {
            first = f;
            last = last.max(l);
        }
        while let Some((&f, &l)) = self.ranges.range(first..=last.saturating_add(1)).next() {
            last = last.max(l);
            self.ranges.remove(&f);
        }
        self.ranges.insert(first, last);
    }

    pub fn extend(&mut self, ranges: impl IntoIterator<Item = SeqRange>) {
        for range in ranges {
            self.insert_range(range);
        }
    }

    /// In ascending order.
    pub fn iter(&self) -> impl Iterator<Item = SeqRange> {
        self.ranges.iter().map(|(&first, &last)| SeqRange { first, last })
    }

    /// Number of ranges: 1 plus the number of holes.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many numbers it holds, saturating.
    pub fn count(&self) -> u64 {
        self.iter().fold(0, |n: u64, r| n.saturating_add(r.count()))
    }

    pub fn max(&self) -> Option<Seq> {
        self.ranges.values().next_back().copied()
    }
}

impl FromIterator<SeqRange> for SeqRanges {
    fn from_iter<I: IntoIterator<Item = SeqRange>>(ranges: I) -> Self {
        let mut set = Self::new();
        set.extend(ranges);
        set
    }
}

impl FromIterator<Seq> for SeqRanges {
    fn from_iter<I: IntoIterator<Item = Seq>>(seqs: I) -> Self {
        seqs.into_iter().map(SeqRange::one).collect()
    }
}

/// `1-40 42 50-60`.
impl fmt::Display for SeqRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.iter().enumerate() {
            let space = if i > 0 { " " } else { "" };
            match range.count() {
                1 => write!(f, "{space}{}", range.first)?,
                _ => write!(f, "{space}{}-{}", range.first, range.last)?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for SeqRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SeqRanges({self})")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn touching_ranges_are_joined() {
        let mut set: SeqRanges = [1, 2, 4].into_iter().collect();
        assert_eq!(set.to_string(), "1-2 4");
        assert!(set.insert(3));
        assert!(!set.insert(3));
        assert_eq!(set.to_string(), "1-4");
        set.insert_range(SeqRange::new(u64::MAX - 1, u64::MAX).expect("ordered"));
        assert_eq!(set.max(), Some(u64::MAX));
        assert_eq!(set.len(), 2);
    }

    proptest! {
        #[test]
        fn a_set_of_ranges_holds_what_a_set_of_numbers_holds(
            ranges in prop::collection::vec((0u64..60, 0u64..8), 0..40)
        ) {
            let mut set = SeqRanges::new();
            let mut plain = BTreeSet::new();
            for (first, more) in ranges {
                set.insert_range(SeqRange::new(first, first + more).expect("ordered"));
                plain.extend(first..=first + more);
            }
            for seq in 0..70 {
                prop_assert_eq!(set.contains(seq), plain.contains(&seq));
            }
            prop_assert_eq!(set.count(), plain.len() as u64);
            let list: Vec<_> = set.iter().collect();
            prop_assert!(list.windows(2).all(|w| w[0].last() + 1 < w[1].first()), "{:?}", set);
        }
    }
}
