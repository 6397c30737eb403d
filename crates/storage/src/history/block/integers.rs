//! Runs of integers: as differences when they are few or only kept for a while, else as small as they get, by `pco`.

use pco::standalone::{simple_compress, simple_decompress_into};
use pco::{ChunkConfig, DeltaSpec};

use super::Packing;
use crate::history::cursor::{Cursor, Damaged, put_signed};

const DIFFERENCES: u8 = 0;
const PACKED: u8 = 1;

/// Up to here both forms are tried: pco describes its numbers before it writes them.
const FEW_MAX: usize = 64;

pub(super) fn put(out: &mut Vec<u8>, integers: &[i64], packing: Packing) {
    let start = out.len();
    if packing == Packing::Loose || integers.len() <= FEW_MAX {
        put_differences(out, integers);
        let small = out.len() - start <= integers.len() + 16;
        if packing == Packing::Loose || small {
            return;
        }
    }
    let differences = out.split_off(start);
    // pco refuses only a wrong configuration, never numbers.
    let packed = simple_compress(integers, &config(follows(integers))).expect("pco takes integers");
    if differences.is_empty() || packed.len() < differences.len() {
        out.push(PACKED);
        out.extend_from_slice(&packed);
    } else {
        out.extend_from_slice(&differences);
    }
}

fn put_differences(out: &mut Vec<u8>, integers: &[i64]) {
    out.push(DIFFERENCES);
    out.reserve(2 * integers.len());
    let mut before = 0i64;
    for &integer in integers {
        put_signed(out, integer.wrapping_sub(before));
        before = integer;
    }
}

/// Chosen by measurement on metric-like columns: above level 4 and with
/// differences chosen by pco itself, columns take two to five times as long and no fewer bytes.
pub(super) fn config(follows: bool) -> ChunkConfig {
    let delta = if follows { DeltaSpec::TryConsecutive(1) } else { DeltaSpec::NoOp };
    ChunkConfig::default().with_compression_level(4).with_delta_spec(delta)
}

/// Whether each number is nearer to the one before than to the middle of all: then differences are smaller.
fn follows(integers: &[i64]) -> bool {
    let (Some(least), Some(most)) = (integers.iter().min(), integers.iter().max()) else {
        return false;
    };
    let middle = i64::midpoint(*least, *most);
    let far = |a: i64, b: i64| a.abs_diff(b) as f64;
    let to_middle: f64 = integers.iter().map(|&i| far(i, middle)).sum();
    let to_previous: f64 = integers.windows(2).map(|pair| far(pair[0], pair[1])).sum();
    to_previous < to_middle
}

/// Reads exactly `count` integers from all that is left.
pub(super) fn take(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<i64>, Damaged> {
    match cursor.byte()? {
        DIFFERENCES => {
            let mut before = 0i64;
            // Each takes a byte at least.
            let mut integers = Vec::with_capacity(count.min(cursor.rest().len()));
            for _ in 0..count {
                before = before.wrapping_add(cursor.signed()?);
                integers.push(before);
            }
            if !cursor.is_empty() {
                return Err(Damaged("integers are followed by something"));
            }
            Ok(integers)
        }
        PACKED => {
            let mut integers = vec![0; count];
            unpack(cursor.rest(), &mut integers)?;
            Ok(integers)
        }
        _ => Err(Damaged("integers are of an unknown form")),
    }
}

/// Fills `numbers` with exactly what pco packed.
pub(super) fn unpack<T: pco::data_types::Number>(
    bytes: &[u8],
    numbers: &mut [T],
) -> Result<(), Damaged> {
    let progress = simple_decompress_into(bytes, numbers)
        .map_err(|_| Damaged("compressed numbers do not unpack"))?;
    if progress.n_processed != numbers.len() || !progress.finished {
        return Err(Damaged("compressed numbers are more or fewer than they should be"));
    }
    Ok(())
}
