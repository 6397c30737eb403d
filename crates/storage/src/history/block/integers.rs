//! Runs of integers, as small as they get: written out as differences when they are few, else by `pco`.

use pco::standalone::{simple_compress, simple_decompress_into};
use pco::{ChunkConfig, DeltaSpec};

use crate::history::cursor::{Cursor, Damaged, put_signed};

const FEW: u8 = 0;
const MANY: u8 = 1;

/// Up to here both forms are tried: pco describes its numbers before it writes them.
const FEW_MAX: usize = 64;

pub(super) fn put(out: &mut Vec<u8>, integers: &[i64]) {
    let few = (integers.len() <= FEW_MAX).then(|| {
        let mut bytes = vec![FEW];
        let mut before = 0i64;
        for &integer in integers {
            put_signed(&mut bytes, integer.wrapping_sub(before));
            before = integer;
        }
        bytes
    });
    if few.as_ref().is_some_and(|few| few.len() <= integers.len() + 16) {
        out.extend(few.unwrap_or_default());
        return;
    }
    match (simple_compress(integers, &config(follows(integers))), few) {
        (Ok(bytes), few) if few.as_ref().is_none_or(|few| bytes.len() < few.len()) => {
            out.push(MANY);
            out.extend_from_slice(&bytes);
        }
        (_, Some(few)) => out.extend(few),
        // pco refuses only a wrong configuration, never numbers.
        (_, None) => unreachable!("pco takes any integers"),
    }
}

/// Chosen by measurement on metric-like columns (`docs/reference/storage.md`): above level 4 and with
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
        FEW => {
            let mut before = 0i64;
            let mut integers = Vec::with_capacity(count.min(FEW_MAX));
            for _ in 0..count {
                before = before.wrapping_add(cursor.signed()?);
                integers.push(before);
            }
            if !cursor.is_empty() {
                return Err(Damaged("integers are followed by something"));
            }
            Ok(integers)
        }
        MANY => {
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
