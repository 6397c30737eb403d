//! One column of values: which are absent, then the others in the form that is smallest.
//!
//! ```text
//! form     1 byte; the highest bit says that some values are absent
//! runs     when some are: their number, then lengths of runs, present and absent in turn
//! values   by form: nothing, one value, scale and integers, or numbers packed by pco
//! ```

use pco::standalone::simple_compress;

use super::{Packing, integers};
use crate::history::cursor::{Cursor, Damaged, put_varint};
use crate::history::{decimal, values};

const EMPTY: u8 = 0;
const CONSTANT: u8 = 1;
const DECIMAL: u8 = 2;
const FLOAT: u8 = 3;
const SOME_ABSENT: u8 = 0x80;

pub(super) fn encode(column: &[f64], packing: Packing) -> Vec<u8> {
    let present: Vec<f64> = column.iter().copied().filter(|v| !v.is_nan()).collect();
    let mut out = Vec::new();
    let absent = if present.len() < column.len() { SOME_ABSENT } else { 0 };
    let start = |out: &mut Vec<u8>, form: u8| {
        out.push(form | absent);
        if absent != 0 {
            put_runs(out, column);
        }
    };
    match present.first() {
        None => start(&mut out, EMPTY),
        Some(first) if present.iter().all(|v| v.to_bits() == first.to_bits()) => {
            start(&mut out, CONSTANT);
            values::put(&mut out, *first);
        }
        Some(_) => match decimal::integers(&present) {
            Some((integers, scale)) => {
                start(&mut out, DECIMAL);
                out.push(scale);
                integers::put(&mut out, &integers, packing);
            }
            None => {
                start(&mut out, FLOAT);
                let packed = simple_compress(&present, &integers::config(true))
                    .expect("pco refuses only a wrong configuration");
                out.extend_from_slice(&packed);
            }
        },
    }
    out
}

fn put_runs(out: &mut Vec<u8>, column: &[f64]) {
    let mut runs = vec![0u64];
    let mut present = true;
    for value in column {
        if value.is_nan() == present {
            present = !present;
            runs.push(0);
        }
        if let Some(run) = runs.last_mut() {
            *run += 1;
        }
    }
    put_varint(out, runs.len() as u64);
    for run in runs {
        put_varint(out, run);
    }
}

pub(super) fn decode(bytes: &[u8], rows: usize) -> Result<Vec<f64>, Damaged> {
    let mut cursor = Cursor::new(bytes);
    let form = cursor.byte()?;
    let runs = match form & SOME_ABSENT {
        0 => vec![rows],
        _ => take_runs(&mut cursor, rows)?,
    };
    let present = runs.iter().step_by(2).sum();
    let values = match form & !SOME_ABSENT {
        EMPTY if present == 0 => Vec::new(),
        CONSTANT => vec![values::take(&mut cursor)?; present],
        DECIMAL => {
            let scale = cursor.byte()?;
            if scale > decimal::SCALE_MAX {
                return Err(Damaged("a column has an unknown scale"));
            }
            let integers = integers::take(&mut cursor, present)?;
            integers.into_iter().map(|i| decimal::number(i, scale)).collect()
        }
        FLOAT => {
            let mut values = vec![0.0; present];
            integers::unpack(cursor.rest(), &mut values)?;
            values
        }
        _ => return Err(Damaged("a column is of an unknown form")),
    };
    if runs.len() == 1 {
        return Ok(values);
    }
    let mut column = Vec::with_capacity(rows);
    let mut values = values.into_iter();
    for (index, &run) in runs.iter().enumerate() {
        match index % 2 {
            0 => column.extend(values.by_ref().take(run)),
            _ => column.resize(column.len() + run, f64::NAN),
        }
    }
    Ok(column)
}

fn take_runs(cursor: &mut Cursor<'_>, rows: usize) -> Result<Vec<usize>, Damaged> {
    let count = cursor.count()?;
    let mut left = rows;
    let mut runs = Vec::with_capacity(count);
    for _ in 0..count {
        let run = usize::try_from(cursor.varint()?).unwrap_or(usize::MAX);
        left = left.checked_sub(run).ok_or(Damaged("a column has too many values"))?;
        runs.push(run);
    }
    match left {
        0 => Ok(runs),
        _ => Err(Damaged("a column has too few values")),
    }
}
