//! Numbers that are short decimals, as integers and back, to the bit.
//!
//! Values are quantised where they are read: ratios have four decimals, bytes none. As integers with a
//! scale they need a fraction of the bytes, and nothing is lost: a number that is not exactly
//! `integer / 10^scale` is not treated as one.

/// Most decimals that are looked for.
pub(crate) const SCALE_MAX: u8 = 6;

const POWERS: [f64; SCALE_MAX as usize + 1] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6];

/// Integers beyond this are not all exact as `f64`.
const EXACT_MAX: i64 = 1 << 53;

/// The integer that is `value × 10^scale`, when [`number`] gives back exactly `value` for it.
#[inline]
pub(crate) fn integer(value: f64, scale: u8) -> Option<i64> {
    let scaled = value * POWERS[usize::from(scale)];
    // The cast saturates, and maps NaN to 0: neither comes back as it was.
    let integer = (scaled + 0.5f64.copysign(scaled)) as i64;
    let exact = integer.unsigned_abs() < EXACT_MAX as u64
        && number(integer, scale).to_bits() == value.to_bits();
    exact.then_some(integer)
}

/// `scale` is at most [`SCALE_MAX`].
#[inline]
pub(crate) fn number(integer: i64, scale: u8) -> f64 {
    integer as f64 / POWERS[usize::from(scale)]
}

/// The integer nearest to `value × 10^scale`, for what is a sum of such decimals but for rounding errors:
/// `None` when it is further away than these reach.
pub(crate) fn rounded(value: f64, scale: u8) -> Option<i64> {
    let scaled = value * POWERS[usize::from(scale)];
    let integer = scaled.round();
    let near = (scaled - integer).abs() <= (scaled.abs() * 1e-10).max(1e-6);
    (near && integer.abs() < EXACT_MAX as f64).then_some(integer as i64)
}

/// The smallest scale at which `value` is an integer, and that integer.
#[inline]
pub(crate) fn shortest(value: f64) -> Option<(i64, u8)> {
    (0..=SCALE_MAX).find_map(|scale| Some((integer(value, scale)?, scale)))
}

/// All values as integers of one scale, the smallest that serves them all.
pub(crate) fn integers(values: &[f64]) -> Option<(Vec<i64>, u8)> {
    let mut scale = 0;
    for &value in values {
        // Most values fit the scale of those before them.
        if integer(value, scale).is_none() {
            scale = (scale + 1..=SCALE_MAX).find(|&s| integer(value, s).is_some())?;
        }
    }
    let integers: Option<Vec<i64>> = values.iter().map(|&v| integer(v, scale)).collect();
    Some((integers?, scale))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_decimals_are_found() {
        fn check(value: f64, expected: Option<(i64, u8)>) {
            assert_eq!(shortest(value), expected, "{value}");
        }
        check(0.0, Some((0, 0)));
        check(-0.0, None);
        check(97.3, Some((973, 1)));
        check(-0.1234, Some((-1234, 4)));
        check(1e15, Some((1_000_000_000_000_000, 0)));
        check(1e16, None);
        check(std::f64::consts::PI, None);
        check(f64::NAN, None);
        check(f64::INFINITY, None);
        check(f64::MAX, None);
        check(f64::MIN_POSITIVE, None);
    }

    proptest! {
        #[test]
        fn what_is_found_is_exact(bits in any::<u64>(), whole in -1_000_000_000i64..1_000_000_000, scale in 0..=SCALE_MAX) {
            for value in [f64::from_bits(bits), number(whole, scale)] {
                if let Some((integer, scale)) = shortest(value) {
                    prop_assert_eq!(number(integer, scale).to_bits(), value.to_bits());
                }
            }
            prop_assert!(shortest(number(whole, scale)).is_some());
        }
    }
}
