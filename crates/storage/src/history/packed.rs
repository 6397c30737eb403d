//! Short arrays of integers: all with the same few bits above the smallest, or as varints where one of them
//! is far from the others.

use super::cursor::{Cursor, Damaged, put_signed, put_varint};

/// Instead of a width of bits.
const VARINTS: u8 = 255;

/// Writes the smallest, the width in bits, and each integer's distance from the smallest. Equal integers
/// have width 0.
pub(crate) fn put(out: &mut Vec<u8>, integers: &[i64]) {
    let smallest = integers.iter().copied().min().unwrap_or_default();
    let above = |integer: i64| integer.wrapping_sub(smallest) as u64;
    let width = integers.iter().map(|&i| 64 - above(i).leading_zeros()).max().unwrap_or_default();
    put_signed(out, smallest);
    let mut varints = Vec::with_capacity(integers.len() * 2);
    for &integer in integers {
        put_varint(&mut varints, above(integer));
    }
    let bytes = (integers.len() * width as usize).div_ceil(8);
    if varints.len() < bytes {
        out.push(VARINTS);
        out.append(&mut varints);
        return;
    }
    out.push(width as u8);
    // Fewer than 8 bits are left over from the integer before, so 64 more fit.
    let (mut bits, mut held) = (0u128, 0u32);
    for &integer in integers {
        bits |= u128::from(above(integer)) << held;
        held += width;
        while held >= 8 {
            out.push(bits as u8);
            bits >>= 8;
            held -= 8;
        }
    }
    if held > 0 {
        out.push(bits as u8);
    }
}

/// Reads `len` integers; the caller must have bounded it.
pub(crate) fn take(cursor: &mut Cursor<'_>, len: usize) -> Result<Vec<i64>, Damaged> {
    let smallest = cursor.signed()?;
    let width = cursor.byte()?;
    if width == VARINTS {
        return (0..len).map(|_| Ok(smallest.wrapping_add(cursor.varint()? as i64))).collect();
    }
    let width = u32::from(width);
    if width > 64 {
        return Err(Damaged("an array has an impossible width"));
    }
    let mask = u64::MAX.checked_shr(64 - width).unwrap_or(0);
    let mut bytes = cursor.bytes((len * width as usize).div_ceil(8))?.iter();
    let (mut bits, mut held) = (0u128, 0u32);
    let mut integers = Vec::with_capacity(len);
    for _ in 0..len {
        while held < width {
            bits |= u128::from(bytes.next().copied().unwrap_or_default()) << held;
            held += 8;
        }
        integers.push(smallest.wrapping_add((bits as u64 & mask) as i64));
        bits >>= width;
        held -= width;
    }
    Ok(integers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(integers: &[i64]) -> usize {
        let mut out = Vec::new();
        put(&mut out, integers);
        let mut cursor = Cursor::new(&out);
        assert_eq!(take(&mut cursor, integers.len()).expect("own bytes"), integers);
        assert!(cursor.is_empty());
        out.len()
    }

    #[test]
    fn equal_integers_take_no_room() {
        assert_eq!(check(&[]), 2);
        assert_eq!(check(&[5; 60]), 2);
        assert_eq!(check(&[1, 0, 1, 1, 0, 0, 0, 1]), 3);
        // One outlier does not make all others wide.
        assert!(check(&[&[3; 59][..], &[1 << 40]].concat()) < 70);
    }

    proptest! {
        #[test]
        fn integers_come_back(
            wide in prop::collection::vec(any::<i64>(), 0..70),
            narrow in prop::collection::vec(-5..90i64, 0..70),
        ) {
            check(&wide);
            check(&narrow);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), len in 0..64usize) {
            let _ = take(&mut Cursor::new(&bytes), len);
        }
    }
}
