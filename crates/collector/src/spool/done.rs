//! How much of a range of numbers is done with.

use model::{SeqRange, SeqRanges};

/// The parts of `range` that are not in `done`, ascending.
pub(super) fn undone(done: &SeqRanges, range: SeqRange) -> Vec<SeqRange> {
    let mut out = Vec::new();
    let mut from = range.first();
    for covered in done.iter().skip_while(|covered| covered.last() < range.first()) {
        if covered.first() > range.last() {
            break;
        }
        out.extend(covered.first().checked_sub(1).and_then(|last| SeqRange::new(from, last)));
        let Some(next) = covered.last().checked_add(1) else { return out };
        from = next;
    }
    out.extend(SeqRange::new(from, range.last()));
    out
}

pub(super) fn covers(done: &SeqRanges, range: SeqRange) -> bool {
    done.iter().any(|one| one.first() <= range.first() && range.last() <= one.last())
}

pub(super) fn overlap(done: &SeqRanges, range: SeqRange) -> u64 {
    let parts = done.iter().filter_map(|one| {
        SeqRange::new(one.first().max(range.first()), one.last().min(range.last()))
    });
    parts.map(SeqRange::count).sum()
}
