//! Rounds values at the source: history stores digits that mean something, five times smaller.

/// A share: four decimals.
pub(super) fn ratio(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// `part / whole` as a share within 0 and 1; NaN when there is no whole.
pub(super) fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { ratio((part / whole).clamp(0.0, 1.0)) } else { f64::NAN }
}

/// Seconds of a counter: hundredths.
pub(super) fn seconds(value: f64) -> f64 {
    (value * 1e2).round() / 1e2
}

/// Short times: microseconds.
pub(super) fn short_seconds(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// Degrees: tenths.
pub(super) fn degrees(value: f64) -> f64 {
    (value * 1e1).round() / 1e1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_stays_within_its_bounds_and_needs_a_whole() {
        assert_eq!(share(1.0, 3.0), 0.3333);
        assert_eq!(share(-1.0, 3.0), 0.0);
        assert_eq!(share(4.0, 3.0), 1.0);
        assert!(share(0.0, 0.0).is_nan());
    }

    #[test]
    fn nothing_stays_nothing() {
        assert!(ratio(f64::NAN).is_nan());
        assert!(seconds(f64::NAN).is_nan());
    }
}
