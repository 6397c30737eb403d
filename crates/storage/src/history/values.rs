//! The values of one frame as bytes: stateless, a few bytes a value, exact to the bit.
//!
//! Each value is one varint. Its three lowest bits are the scale of a decimal, whose integer follows in
//! the other bits; or 7, and then the other bits say 0 for an absent value and 1 for a number that is no
//! short decimal, whose eight bytes follow.

use super::cursor::{Cursor, Damaged, put_varint, unzigzag, zigzag};
use super::decimal;

const OTHER: u64 = 7;
const ABSENT: u64 = OTHER;
const PLAIN: u64 = 1 << 3 | OTHER;

pub(crate) fn encode(values: &[f64]) -> Vec<u8> {
    // Mostly enough, and never far too much.
    let mut out = Vec::with_capacity(values.len() * 6);
    for &value in values {
        put(&mut out, value);
    }
    out
}

pub(crate) fn put(out: &mut Vec<u8>, value: f64) {
    if let Some((integer, scale)) = decimal::shortest(value) {
        put_varint(out, zigzag(integer) << 3 | u64::from(scale));
    } else if value.to_bits() == f64::NAN.to_bits() {
        put_varint(out, ABSENT);
    } else {
        put_varint(out, PLAIN);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

pub(crate) fn take(cursor: &mut Cursor<'_>) -> Result<f64, Damaged> {
    match cursor.varint()? {
        ABSENT => Ok(f64::NAN),
        PLAIN => Ok(f64::from_le_bytes(cursor.array()?)),
        code => match code & 7 {
            OTHER => Err(Damaged("a value is of an unknown form")),
            scale => Ok(decimal::number(unzigzag(code >> 3), scale as u8)),
        },
    }
}

fn skip(cursor: &mut Cursor<'_>) -> Result<(), Damaged> {
    match cursor.varint()? {
        PLAIN => cursor.bytes(8).map(drop),
        ABSENT => Ok(()),
        code if code & 7 == OTHER => Err(Damaged("a value is of an unknown form")),
        _ => Ok(()),
    }
}

/// How many values there are.
pub(crate) fn width(bytes: &[u8]) -> Result<usize, Damaged> {
    let mut cursor = Cursor::new(bytes);
    let mut width = 0;
    while !cursor.is_empty() {
        skip(&mut cursor)?;
        width += 1;
    }
    Ok(width)
}

/// The values at these positions, which must ascend; one may stand several times.
pub(crate) fn pick(bytes: &[u8], positions: &[usize], out: &mut Vec<f64>) -> Result<(), Damaged> {
    let mut cursor = Cursor::new(bytes);
    let mut next = 0;
    for &position in positions {
        if position < next {
            out.extend(out.last().copied());
            continue;
        }
        while next < position {
            skip(&mut cursor)?;
            next += 1;
        }
        out.push(take(&mut cursor)?);
        next += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(bytes: &[u8]) -> Result<Vec<f64>, Damaged> {
        let mut cursor = Cursor::new(bytes);
        let mut values = Vec::new();
        while !cursor.is_empty() {
            values.push(take(&mut cursor)?);
        }
        Ok(values)
    }

    fn number() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<u64>().prop_map(f64::from_bits),
            Just(f64::NAN),
            Just(-0.0),
            Just(f64::INFINITY),
            Just(f64::NEG_INFINITY),
            (0..10_000i32).prop_map(|n| f64::from(n) / 10_000.0),
            (-1000..1000i32).prop_map(|n| f64::from(n) / 10.0),
            any::<i64>().prop_map(|n| n as f64),
        ]
    }

    #[test]
    fn what_collectors_send_is_small() {
        fn check(value: f64, bytes: usize) {
            assert_eq!(encode(&[value]).len(), bytes, "{value}");
        }
        check(0.0, 1);
        check(f64::NAN, 1);
        check(0.5, 1);
        check(0.95, 2);
        check(97.3, 2);
        check(0.1234, 3);
        check(8_589_934_592.0, 6);
        check(std::f64::consts::PI, 9);
    }

    proptest! {
        #[test]
        fn values_come_back_to_the_bit(values in prop::collection::vec(number(), 0..50)) {
            let bytes = encode(&values);
            let back = decode(&bytes).expect("own bytes");
            let bits = |v: &[f64]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&back), bits(&values));
            let positions: Vec<usize> = (0..values.len()).step_by(3).collect();
            let mut picked = Vec::new();
            pick(&bytes, &positions, &mut picked).expect("own bytes");
            let expected: Vec<f64> = positions.iter().map(|&p| values[p]).collect();
            prop_assert_eq!(bits(&picked), bits(&expected));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode(&bytes);
            let _ = pick(&bytes, &[0, 5, 9], &mut Vec::new());
        }
    }
}
