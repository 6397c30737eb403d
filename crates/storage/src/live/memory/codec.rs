//! Frames of one layout as differences: small, quick to write, exact to the bit.
//!
//! What machines report is mostly unchanged since a second ago, or an integer, or has a few decimals. A
//! frame is written against the one before it:
//!
//! ```text
//! one bit per column: changed since the frame before
//! per changed column a varint whose low three bits say how to read it:
//!   0..=6  decimals: the rest is the zigzag difference of both values as integers of 10^-decimals
//!   7      anything else: the eight bytes of the value follow
//! ```
//!
//! The first frame of a run is written against zeros. On the reference data this takes 1.6 bytes a value
//! at some 20 ns; a general compressor over so few frames takes as much space and a hundred times the
//! time.

const POWERS: [f64; 7] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6];
const RAW: u64 = 7;
/// Integers up to here are exact as `f64`.
const INTEGER_MAX: u64 = 1 << 53;

/// Appends `values` to `out`, as differences to `before`, which is as long. `decimals` keeps what was
/// last found to be enough for each column, to be right at the first try next time.
pub(super) fn write(before: &[f64], values: &[f64], decimals: &mut [u8], out: &mut Vec<u8>) {
    let bitmap = out.len();
    out.resize(bitmap + values.len().div_ceil(8), 0);
    for (i, (&value, &before)) in values.iter().zip(before).enumerate() {
        if value.to_bits() == before.to_bits() {
            continue;
        }
        out[bitmap + i / 8] |= 1 << (i % 8);
        match difference(before, value, &mut decimals[i]) {
            Some(code) => write_varint(code, out),
            None => {
                out.push(RAW as u8);
                out.extend_from_slice(&value.to_le_bytes());
            }
        }
    }
}

/// Turns `values`, the frame before, into the frame at the front of `bytes`, and moves `bytes` behind
/// it. `None` when the bytes are not what [`write`] makes.
pub(super) fn read(values: &mut [f64], bytes: &mut &[u8]) -> Option<()> {
    let bitmap = bytes.split_off(..values.len().div_ceil(8))?;
    for (i, value) in values.iter_mut().enumerate() {
        if bitmap[i / 8] & (1 << (i % 8)) == 0 {
            continue;
        }
        let code = read_varint(bytes)?;
        *value = match code & 7 {
            RAW => f64::from_le_bytes(*bytes.split_off(..8)?.first_chunk()?),
            decimals => {
                let power = POWERS[decimals as usize];
                let zigzag = code >> 3;
                let delta = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
                (scaled(*value, power).wrapping_add(delta)) as f64 / power
            }
        };
    }
    Some(())
}

/// The code of a value that has at most six decimals.
fn difference(before: f64, value: f64, decimals: &mut u8) -> Option<u64> {
    let from = usize::from(*decimals);
    let exact = |&places: &usize| {
        let integer = scaled(value, POWERS[places]);
        // Compared by bits, for the sake of -0.0.
        integer.unsigned_abs() <= INTEGER_MAX
            && (integer as f64 / POWERS[places]).to_bits() == value.to_bits()
    };
    let places = (from..POWERS.len()).find(exact)?;
    *decimals = places as u8;
    let power = POWERS[places];
    let delta = scaled(value, power).wrapping_sub(scaled(before, power));
    // Where the value before is something huge, its scaled form saturates; then there is no room for the tag.
    let zigzag = ((delta << 1) ^ (delta >> 63)) as u64;
    (zigzag < 1 << 60).then_some(zigzag << 3 | places as u64)
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

    fn round_trip(frames: &[Vec<f64>]) -> usize {
        let width = frames[0].len();
        let (mut bytes, mut decimals, mut before) = (Vec::new(), vec![0; width], vec![0.0; width]);
        for frame in frames {
            write(&before, frame, &mut decimals, &mut bytes);
            before.clone_from(frame);
        }
        let mut rest = bytes.as_slice();
        let mut values = vec![0.0; width];
        for frame in frames {
            read(&mut values, &mut rest).expect("readable");
            let bits = |v: &[f64]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&values), bits(frame));
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
        round_trip(&frames);
    }

    #[test]
    fn small_changes_take_few_bytes() {
        fn check(values: &[f64], bytes: usize) {
            let frames: Vec<_> = values.iter().map(|v| vec![*v]).collect();
            assert_eq!(round_trip(&frames), bytes, "{values:?}");
        }
        // One byte of bitmap for each frame.
        check(&[0.0, 0.0], 2);
        check(&[7.0, 8.0], 4);
        check(&[0.5, 0.7], 4);
        check(&[99.9, 0.1], 6);
        check(&[std::f64::consts::PI], 10);
    }

    #[test]
    fn bytes_that_are_cut_off_are_noticed() {
        let mut bytes = Vec::new();
        write(&[0.0; 2], &[1e9, 0.3 + 1e-9], &mut [0; 2], &mut bytes);
        for cut in 0..bytes.len() {
            assert_eq!(read(&mut [0.0; 2], &mut &bytes[..cut]), None);
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
                1..20,
            )
        ) {
            round_trip(&frames);
        }
    }
}
