//! The times of a block: start and step when they are regular, else as integers.

use model::UnixMillis;

use super::{Packing, integers};
use crate::history::cursor::{Cursor, Damaged, put_signed};

const REGULAR: u8 = 0;
const ANY: u8 = 1;

pub(super) fn encode(times: &[UnixMillis]) -> Vec<u8> {
    let mut out = Vec::new();
    let first = times.first().copied().unwrap_or_default();
    let step = times.get(1).map_or(0, |second| second.since(first));
    if times.windows(2).all(|pair| pair[1].since(pair[0]) == step) {
        out.push(REGULAR);
        put_signed(&mut out, first.0);
        put_signed(&mut out, step);
    } else {
        out.push(ANY);
        let integers: Vec<i64> = times.iter().map(|t| t.0).collect();
        integers::put(&mut out, &integers, Packing::Tight);
    }
    out
}

pub(super) fn decode(bytes: &[u8], rows: usize) -> Result<Vec<UnixMillis>, Damaged> {
    let mut cursor = Cursor::new(bytes);
    let times: Vec<UnixMillis> = match cursor.byte()? {
        REGULAR => {
            let (first, step) = (cursor.signed()?, cursor.signed()?);
            (0..rows as i64).map(|i| UnixMillis(first) + step.saturating_mul(i)).collect()
        }
        ANY => integers::take(&mut cursor, rows)?.into_iter().map(UnixMillis).collect(),
        _ => return Err(Damaged("times are of an unknown form")),
    };
    if !times.is_sorted_by(|a, b| a < b) {
        return Err(Damaged("times do not ascend"));
    }
    Ok(times)
}
