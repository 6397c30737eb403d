//! Roll-ups of one series as one row of a tier: an array per quantity, each as small as it gets.
//!
//! Of gauges, count, minimum, maximum, last and sum are kept; the sum is rounded to the decimals of the
//! values, which is where rounding errors of the summing end. `first` is not kept and reads as `last`.
//!
//! Of counters, count, first, last, minimum and maximum are kept, and the increase, which is `last − first`
//! unless the counter started again. The sum means nothing there and reads as if the counter had grown
//! evenly.
//!
//! ```text
//! version  1 byte
//! present  varint, one bit per window of the row
//! counts   numbers
//! scale    1 byte: decimals of all values, or 255 when they are no short decimals
//! arrays   numbers each, or values as in a frame
//! resets   for counters: how many windows are not `last − first`, then index, minimum, maximum, increase
//! ```

use model::{Kind, UnixMillis};

use super::cursor::{Cursor, Damaged, put_signed, put_varint};
use super::{decimal, packed, values};
use crate::rollup::Rollup;

const VERSION: u8 = 1;
const NO_DECIMALS: u8 = 255;

/// Most windows of a row: 60 minutes, or 24 hours.
const WINDOWS_MAX: usize = 60;

/// Windows must ascend, start at multiples of `window_ms` from `start` on, and be at most 60.
pub(crate) fn encode(kind: Kind, start: UnixMillis, window_ms: i64, windows: &[Rollup]) -> Vec<u8> {
    debug_assert!(windows.len() <= WINDOWS_MAX);
    let mut out = vec![VERSION];
    let present = windows
        .iter()
        .fold(0u64, |bits, w| bits | 1 << (w.start.since(start) / window_ms).clamp(0, 63));
    put_varint(&mut out, present);
    let counts: Vec<i64> = windows.iter().map(|w| w.count.into()).collect();
    packed::put(&mut out, &counts);
    match kind {
        Kind::Gauge => put_gauge(&mut out, windows),
        Kind::Counter => put_counter(&mut out, windows),
    }
    out
}

pub(crate) fn decode(
    kind: Kind,
    start: UnixMillis,
    window_ms: i64,
    bytes: &[u8],
) -> Result<Vec<Rollup>, Damaged> {
    let mut cursor = Cursor::new(bytes);
    if cursor.byte()? != VERSION {
        return Err(Damaged("it is of an unknown version"));
    }
    let present = cursor.varint()?;
    let len = present.count_ones() as usize;
    let counts = packed::take(&mut cursor, len)?;
    let mut windows = match kind {
        Kind::Gauge => take_gauge(&mut cursor, &counts)?,
        Kind::Counter => take_counter(&mut cursor, &counts)?,
    };
    let places = (0..64).filter(|bit| present & 1 << bit != 0);
    for (window, place) in windows.iter_mut().zip(places) {
        window.start = start + window_ms.saturating_mul(place);
    }
    Ok(windows)
}

fn put_gauge(out: &mut Vec<u8>, windows: &[Rollup]) {
    let Some((arrays, scale)) = gauge_integers(windows) else {
        out.push(NO_DECIMALS);
        for window in windows {
            for value in [window.min, window.max, window.last, window.sum] {
                values::put(out, value);
            }
        }
        return;
    };
    out.push(scale);
    for array in &arrays {
        packed::put(out, array);
    }
}

/// Minimum; maximum, last and sum above what the minimum alone would make them.
fn gauge_integers(windows: &[Rollup]) -> Option<([Vec<i64>; 4], u8)> {
    let flat: Vec<f64> = windows.iter().flat_map(|w| [w.min, w.max, w.last]).collect();
    let (flat, scale) = decimal::integers(&flat)?;
    let mut arrays: [Vec<i64>; 4] = Default::default();
    for (window, values) in windows.iter().zip(flat.chunks_exact(3)) {
        let [min, max, last] = [values[0], values[1], values[2]];
        let sum = decimal::rounded(window.sum, scale)?;
        arrays[0].push(min);
        arrays[1].push(max.checked_sub(min)?);
        arrays[2].push(last.checked_sub(min)?);
        arrays[3].push(sum.checked_sub(min.checked_mul(window.count.into())?)?);
    }
    Some((arrays, scale))
}

fn take_gauge(cursor: &mut Cursor<'_>, counts: &[i64]) -> Result<Vec<Rollup>, Damaged> {
    let scale = cursor.byte()?;
    let mut windows = Vec::with_capacity(counts.len());
    if scale == NO_DECIMALS {
        for &count in counts {
            let [min, max, last, sum] = take_values(cursor)?;
            windows.push(gauge(count, min, max, last, sum)?);
        }
        return Ok(windows);
    }
    let scale = known(scale)?;
    let mut arrays = [const { Vec::new() }; 4];
    for array in &mut arrays {
        *array = packed::take(cursor, counts.len())?;
    }
    for (i, &count) in counts.iter().enumerate() {
        let min = arrays[0][i];
        let above =
            |array: usize, base: i64| decimal::number(base.wrapping_add(arrays[array][i]), scale);
        let sum = above(3, min.wrapping_mul(count));
        windows.push(gauge(count, decimal::number(min, scale), above(1, min), above(2, min), sum)?);
    }
    Ok(windows)
}

fn gauge(count: i64, min: f64, max: f64, last: f64, sum: f64) -> Result<Rollup, Damaged> {
    Ok(Rollup {
        start: UnixMillis(0),
        count: checked_count(count)?,
        first: last,
        last,
        min,
        max,
        sum,
        increase: 0.0,
    })
}

fn put_counter(out: &mut Vec<u8>, windows: &[Rollup]) {
    let flat: Vec<f64> = windows.iter().flat_map(|w| [w.first, w.last]).collect();
    match decimal::integers(&flat) {
        None => {
            out.push(NO_DECIMALS);
            for &value in &flat {
                values::put(out, value);
            }
        }
        Some((flat, scale)) => {
            out.push(scale);
            // Two arrays of differences: across windows, and within.
            let mut before = 0i64;
            let (mut across, mut within) = (Vec::new(), Vec::new());
            for pair in flat.chunks_exact(2) {
                across.push(pair[0] - before);
                within.push(pair[1] - pair[0]);
                before = pair[1];
            }
            // The first is the counter itself, far from all others.
            put_signed(out, across.first().copied().unwrap_or_default());
            packed::put(out, across.get(1..).unwrap_or_default());
            packed::put(out, &within);
        }
    }
    let resets: Vec<(usize, &Rollup)> =
        windows.iter().enumerate().filter(|(_, w)| !grew_without_reset(w)).collect();
    put_varint(out, resets.len() as u64);
    for (index, window) in resets {
        put_varint(out, index as u64);
        for value in [window.min, window.max, window.increase] {
            values::put(out, value);
        }
    }
}

/// Whether first and last say all. The increase was added up from steps, so its last bits may differ.
fn grew_without_reset(window: &Rollup) -> bool {
    window.min == window.first
        && window.max == window.last
        && (window.increase - (window.last - window.first)).abs() <= window.last.abs() * 1e-9
}

fn take_counter(cursor: &mut Cursor<'_>, counts: &[i64]) -> Result<Vec<Rollup>, Damaged> {
    let mut windows = Vec::with_capacity(counts.len());
    match cursor.byte()? {
        NO_DECIMALS => {
            for &count in counts {
                let [first, last] = take_values(cursor)?;
                windows.push(counter(count, first, last)?);
            }
        }
        scale => {
            let scale = known(scale)?;
            let mut before = cursor.signed()?;
            let mut across = packed::take(cursor, counts.len().saturating_sub(1))?;
            across.insert(0, 0);
            let within = packed::take(cursor, counts.len())?;
            for ((&count, across), within) in counts.iter().zip(across).zip(within) {
                let first = before.wrapping_add(across);
                let last = first.wrapping_add(within);
                windows.push(counter(
                    count,
                    decimal::number(first, scale),
                    decimal::number(last, scale),
                )?);
                before = last;
            }
        }
    }
    for _ in 0..cursor.count()? {
        let index = usize::try_from(cursor.varint()?).unwrap_or(usize::MAX);
        let [min, max, increase] = take_values(cursor)?;
        let window = windows.get_mut(index).ok_or(Damaged("it has too few windows"))?;
        *window = Rollup { min, max, increase, ..*window };
    }
    Ok(windows)
}

fn counter(count: i64, first: f64, last: f64) -> Result<Rollup, Damaged> {
    let count = checked_count(count)?;
    Ok(Rollup {
        start: UnixMillis(0),
        count,
        first,
        last,
        min: first,
        max: last,
        sum: (first + last) / 2.0 * f64::from(count),
        increase: last - first,
    })
}

fn take_values<const N: usize>(cursor: &mut Cursor<'_>) -> Result<[f64; N], Damaged> {
    let mut taken = [0.0; N];
    for value in &mut taken {
        *value = values::take(cursor)?;
    }
    Ok(taken)
}

fn known(scale: u8) -> Result<u8, Damaged> {
    if scale > decimal::SCALE_MAX { Err(Damaged("it has an unknown scale")) } else { Ok(scale) }
}

fn checked_count(count: i64) -> Result<u32, Damaged> {
    match u32::try_from(count) {
        Ok(count @ 1..) => Ok(count),
        _ => Err(Damaged("a window has an impossible count")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: UnixMillis = UnixMillis(1_700_000_000_000 / 3_600_000 * 3_600_000);

    /// But for the last bits of a number of this size.
    fn close(a: f64, b: f64, size: f64) -> bool {
        a == b || (a - b).abs() <= size * 2e-9
    }

    fn check(kind: Kind, values: &[f64]) -> usize {
        let samples = values.iter().enumerate().map(|(i, v)| (START + i as i64 * 1000, *v));
        let windows = Rollup::of(kind, 60_000, samples);
        let bytes = encode(kind, START, 60_000, &windows);
        let back = decode(kind, START, 60_000, &bytes).expect("own bytes");
        assert_eq!(back.len(), windows.len());
        for (a, b) in windows.iter().zip(&back) {
            assert_eq!((a.start, a.count), (b.start, b.count));
            assert_eq!((a.last, a.min, a.max), (b.last, b.min, b.max), "{a:?} {b:?}");
            match kind {
                Kind::Gauge => {
                    // Relative to the values, which may cancel out in the sum.
                    let size = f64::from(a.count) * a.min.abs().max(a.max.abs());
                    assert!(close(a.sum, b.sum, size), "{a:?} {b:?}");
                }
                Kind::Counter => {
                    assert_eq!(a.first, b.first);
                    let size = a.last.abs().max(a.increase.abs());
                    assert!(close(a.increase, b.increase, size), "{a:?} {b:?}");
                }
            }
        }
        bytes.len()
    }

    #[test]
    fn constants_are_nearly_free() {
        assert!(check(Kind::Gauge, &[0.5; 3600]) < 32);
        assert!(check(Kind::Counter, &[7e12; 3600]) < 32);
    }

    #[test]
    fn an_hour_of_a_noisy_gauge_takes_a_few_bytes_a_window() {
        let noisy: Vec<f64> =
            (0..3600u64).map(|i| (i * 2_654_435_761 % 1000) as f64 / 10.0).collect();
        let bytes = check(Kind::Gauge, &noisy);
        assert!(bytes < 60 * 6, "{bytes}");
    }

    #[test]
    fn infinities_and_holes_come_back() {
        check(Kind::Gauge, &[1.0, f64::INFINITY, f64::NAN, -0.0]);
        check(Kind::Counter, &[f64::NAN, 5.0, f64::INFINITY]);
        let mut holes = vec![f64::NAN; 3600];
        holes[200] = 1.25;
        holes[3599] = 2.5;
        check(Kind::Gauge, &holes);
        check(Kind::Counter, &[]);
    }

    proptest! {
        #[test]
        fn windows_come_back(
            values in prop::collection::vec(
                prop_oneof![
                    6 => (-1000..1000i32).prop_map(|n| f64::from(n) / 10.0),
                    2 => any::<u32>().prop_map(f64::from),
                    1 => any::<i32>().prop_map(|n| f64::from(n).sqrt()),
                ],
                0..400,
            ),
        ) {
            check(Kind::Gauge, &values);
        }

        #[test]
        fn counters_come_back_with_their_resets(
            steps in prop::collection::vec(prop_oneof![20 => 0..5000i64, 1 => -1_000_000..0i64], 0..400),
            scale in 0..3u8,
        ) {
            let mut now = 1_000_000i64;
            let values: Vec<f64> = steps
                .into_iter()
                .map(|step| { now = (now + step).max(0); decimal::number(now, scale) })
                .collect();
            check(Kind::Counter, &values);
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..80), counter in any::<bool>()) {
            let kind = if counter { Kind::Counter } else { Kind::Gauge };
            let _ = decode(kind, START, 60_000, &bytes);
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            let _ = decode(kind, START, 60_000, &bytes);
        }
    }
}
