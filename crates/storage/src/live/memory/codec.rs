//! Eight frames of one layout, column by column: small, quick to write, exact to the bit.
//!
//! What machines report is mostly unchanged since a second ago, or an integer, or has a few decimals. Eight
//! rows are written against the row before them, a column after the other. Each begins with one byte:
//!
//! ```text
//! 0        all eight are the value before
//! 1..=57   differences as integers of 10^-decimals: their least as a zigzag varint, then how far each is
//!          above it, in as many bits as this byte says, less one
//! 64 + n   the column has n decimals from here on (0 where nothing was said); what it is follows
//! 255      anything else: the eight bytes of each value
//! ```
//!
//! The first eight of a run are written against zeros. On the reference mix this takes a byte a value.

use std::array;

/// Rows that are written together.
pub(super) const ROWS: usize = 8;

const POWERS: [f64; 7] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6];
/// Integers up to here are exact as `f64`.
const INTEGER_MAX: u64 = 1 << 53;

const SAME: u8 = 0;
const BITS_MAX: u8 = 56;
const DECIMALS: u8 = 64;
const RAW: u8 = 255;

/// Appends the rows to `out`, as differences to `before`. All are of one length. `decimals` has an element
/// for each column: what was found for it so far in this run.
pub(super) fn write(before: &[f64], rows: [&[f64]; ROWS], decimals: &mut [u8], out: &mut Vec<u8>) {
    for (column, (&before, decimals)) in before.iter().zip(decimals).enumerate() {
        let values = rows.map(|row| row[column]);
        if values.iter().all(|value| value.to_bits() == before.to_bits()) {
            out.push(SAME);
            continue;
        }
        let known = *decimals;
        match Differences::of(before, &values, decimals) {
            Some(differences) => {
                if *decimals != known {
                    out.push(DECIMALS + *decimals);
                }
                differences.write(out);
            }
            None => {
                out.push(RAW);
                values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
            }
        }
    }
}

/// The rows at the front of `bytes`, which it moves on. `None` when the bytes are not what [`write`] makes.
pub(super) fn read(
    before: &[f64],
    decimals: &mut [u8],
    bytes: &mut &[u8],
) -> Option<[Vec<f64>; ROWS]> {
    let mut rows: [Vec<f64>; ROWS] = array::from_fn(|_| Vec::with_capacity(before.len()));
    for (&before, decimals) in before.iter().zip(decimals) {
        let mut how = *bytes.split_off_first()?;
        if (DECIMALS..DECIMALS + POWERS.len() as u8).contains(&how) {
            *decimals = how - DECIMALS;
            how = *bytes.split_off_first()?;
        }
        let values = match how {
            SAME => [before; ROWS],
            RAW => {
                let mut values = [0.0; ROWS];
                for value in &mut values {
                    *value = f64::from_le_bytes(*bytes.split_off(..8)?.first_chunk()?);
                }
                values
            }
            how if how <= BITS_MAX + 1 => {
                let power = POWERS[usize::from(*decimals)];
                let mut last = scaled(before, power);
                Differences::read(how - 1, bytes)?.each().map(|difference| {
                    last = last.wrapping_add(difference);
                    last as f64 / power
                })
            }
            _ => return None,
        };
        rows.iter_mut().zip(values).for_each(|(row, value)| row.push(value));
    }
    Some(rows)
}

/// Of each value to the one before it.
struct Differences {
    least: i64,
    /// Above the least.
    rest: [u64; ROWS],
    bits: u8,
}

impl Differences {
    /// `None` where six decimals do not make integers of all values.
    fn of(before: f64, values: &[f64; ROWS], decimals: &mut u8) -> Option<Self> {
        let places = values.iter().try_fold(*decimals, |places, value| {
            (places..POWERS.len() as u8).find(|places| has_decimals(*value, *places))
        })?;
        let power = POWERS[usize::from(places)];
        let mut last = scaled(before, power);
        let all = values.map(|value| {
            let integer = scaled(value, power);
            let difference = integer.wrapping_sub(last);
            last = integer;
            difference
        });
        let least = *all.iter().min()?;
        let rest = all.map(|difference| difference.wrapping_sub(least) as u64);
        let bits = 64 - rest.iter().fold(0, |bits, rest| bits | rest).leading_zeros() as u8;
        // With more decimals an earlier value may be too large to be exact: where it is, so is the step to it.
        let is_exact = |value: &f64| has_decimals(*value, places);
        if bits > BITS_MAX || (places != *decimals && !values.iter().all(is_exact)) {
            return None;
        }
        *decimals = places;
        Some(Self { least, rest, bits })
    }

    fn each(&self) -> [i64; ROWS] {
        self.rest.map(|rest| self.least.wrapping_add(rest as i64))
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.bits + 1);
        write_varint((self.least << 1 ^ self.least >> 63) as u64, out);
        // Eight numbers of so many bits are as many bytes.
        let (mut held, mut len) = (0u64, 0);
        for rest in self.rest {
            held |= rest << len;
            len += self.bits;
            while len >= 8 {
                out.push(held as u8);
                held >>= 8;
                len -= 8;
            }
        }
    }

    fn read(bits: u8, bytes: &mut &[u8]) -> Option<Self> {
        let zigzag = read_varint(bytes)?;
        let mut packed = bytes.split_off(..usize::from(bits))?.iter();
        let (mut held, mut len) = (0u64, 0);
        let mut rest = [0; ROWS];
        for rest in &mut rest {
            while len < bits {
                held |= u64::from(*packed.next()?) << len;
                len += 8;
            }
            *rest = held & ((1 << bits) - 1);
            held >>= bits;
            len -= bits;
        }
        Some(Self { least: (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64), rest, bits })
    }
}

fn has_decimals(value: f64, places: u8) -> bool {
    let power = POWERS[usize::from(places)];
    let integer = scaled(value, power);
    // Compared by bits, for the sake of -0.0.
    integer.unsigned_abs() <= INTEGER_MAX && (integer as f64 / power).to_bits() == value.to_bits()
}

/// Both sides compute this from the same bits, so it need not be exact. NaN becomes 0. `round` would be a call.
#[inline]
fn scaled(value: f64, power: f64) -> i64 {
    let scaled = value * power;
    (scaled + 0.5f64.copysign(scaled)) as i64
}

fn write_varint(mut code: u64, out: &mut Vec<u8>) {
    while code >= 0x80 {
        out.push(code as u8 | 0x80);
        code >>= 7;
    }
    out.push(code as u8);
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut code = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        code |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(code);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes that the rows take; as many more of the last one as are missing to eight.
    fn round_trip(frames: &[Vec<f64>]) -> usize {
        let width = frames[0].len();
        let (mut bytes, mut decimals, mut before) = (Vec::new(), vec![0; width], vec![0.0; width]);
        let mut all = frames.to_vec();
        all.resize(frames.len().next_multiple_of(ROWS), frames[frames.len() - 1].clone());
        for rows in all.chunks_exact(ROWS) {
            let slices = array::from_fn(|row| rows[row].as_slice());
            write(&before, slices, &mut decimals, &mut bytes);
            before.clone_from(&rows[ROWS - 1]);
        }
        let mut rest = bytes.as_slice();
        let (mut decimals, mut before) = (vec![0; width], vec![0.0; width]);
        for rows in all.chunks_exact(ROWS) {
            let found = read(&before, &mut decimals, &mut rest).expect("readable");
            let bits = |v: &Vec<f64>| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(
                found.each_ref().map(bits).as_slice(),
                rows.iter().map(bits).collect::<Vec<_>>()
            );
            before.clone_from(&rows[ROWS - 1]);
        }
        assert!(rest.is_empty());
        bytes.len()
    }

    #[test]
    fn odd_values_come_back_to_the_bit() {
        let odd =
            [0.0, -0.0, f64::NAN, f64::INFINITY, f64::MIN, f64::MIN_POSITIVE, 1e300, 0.1 + 0.2];
        let nan_with_payload = f64::from_bits(0x7ff8_0000_0000_1234);
        let mut frames: Vec<Vec<f64>> = odd.iter().map(|v| vec![*v, 1.0]).collect();
        frames.push(vec![nan_with_payload, -1.0]);
        frames.push(vec![9_007_199_254_740_993.0, i64::MIN as f64]);
        frames.push(vec![-9e15, 0.000_001]);
        frames.push(vec![9e15, 9e15]);
        round_trip(&frames);
    }

    #[test]
    fn small_changes_take_few_bytes() {
        fn check(values: [f64; ROWS], bytes: usize) {
            let frames: Vec<_> = values.iter().map(|v| vec![*v]).collect();
            assert_eq!(round_trip(&frames), bytes, "{values:?}");
        }
        check([0.0; ROWS], 1);
        // As a clock: how, the least, nothing above it.
        check([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], 2);
        // From 0 to 7 and on by one: three bits each.
        check([7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0], 5);
        // The decimals first; from -0.2 to 0.5.
        check([0.5, 0.7, 0.5, 0.7, 0.5, 0.7, 0.5, 0.7], 6);
        check([std::f64::consts::PI; ROWS], 65);
    }

    #[test]
    fn bytes_that_are_cut_off_are_noticed() {
        let mut bytes = Vec::new();
        let row: &[f64] = &[1e9, 0.25, 0.3 + 1e-9];
        write(&[0.0; 3], [row; ROWS], &mut [0; 3], &mut bytes);
        for cut in 0..bytes.len() {
            assert_eq!(read(&[0.0; 3], &mut [0; 3], &mut &bytes[..cut]), None);
        }
    }

    proptest! {
        #[test]
        fn every_frame_comes_back_to_the_bit(
            frames in prop::collection::vec(
                prop::collection::vec(
                    prop_oneof![
                        any::<f64>(),
                        any::<u64>().prop_map(f64::from_bits),
                        (-1_000_000i64..1_000_000).prop_map(|v| v as f64 / 1e4),
                        any::<i64>().prop_map(|v| v as f64),
                        Just(1.0),
                    ],
                    9,
                ),
                1..40,
            )
        ) {
            round_trip(&frames);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&[0.0, 1.5, f64::MAX], &mut [0; 3], &mut bytes.as_slice());
        }
    }
}
