//! A sealed block: neighbouring columns of one layout over a stretch of time, each compressed by itself, so
//! that one series is read without the others.
//!
//! ```text
//! version  1 byte: 1, or 2 when the columns are packed for the time being only
//! checksum 4 bytes, CRC-32C of all that follows, little-endian
//! rows     varint
//! columns  varint
//! lengths  varint for the times, then one for each column
//! times    see `block/times.rs`
//! columns  see `block/column.rs`
//! ```

use model::UnixMillis;

use super::cursor::{Cursor, Damaged, put_varint};

mod column;
mod integers;
mod times;

const TIGHT: u8 = 1;
/// The first byte of a block that is to be packed tightly when its hour is closed.
pub(crate) const LOOSE: u8 = 2;

/// How much work goes into making columns small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Small, for as long as values are kept.
    Tight,
    /// A tenth of the work and two to three times the bytes: for what is packed again within the hour.
    Loose,
}

/// Columns of one block. A wider layout is cut into parts, so that reading one series reads little and
/// sealing a wide layout needs memory for one part at a time.
pub const COLUMNS_MAX: usize = 64;

/// Rows of one block: an hour at the shortest interval, and room for another.
pub const ROWS_MAX: usize = 1 << 17;

/// Compresses columns of equal length. `times` must ascend strictly; NaN is absent.
pub fn encode(times: &[UnixMillis], columns: &[Vec<f64>], packing: Packing) -> Vec<u8> {
    debug_assert!(times.is_sorted_by(|a, b| a < b) && times.len() <= ROWS_MAX);
    debug_assert!(columns.iter().all(|c| c.len() == times.len()));
    let mut sections = Vec::with_capacity(columns.len() + 1);
    sections.push(times::encode(times));
    sections.extend(columns.iter().map(|values| column::encode(values, packing)));

    let mut body = Vec::with_capacity(sections.iter().map(|s| s.len() + 3).sum::<usize>() + 16);
    put_varint(&mut body, times.len() as u64);
    put_varint(&mut body, columns.len() as u64);
    for section in &sections {
        put_varint(&mut body, section.len() as u64);
    }
    for section in &sections {
        body.extend_from_slice(section);
    }
    let mut out = Vec::with_capacity(body.len() + 5);
    out.push(match packing {
        Packing::Tight => TIGHT,
        Packing::Loose => LOOSE,
    });
    out.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    out.append(&mut body);
    out
}

/// A block that was opened: its checksum holds and its directory is read.
#[derive(Debug)]
pub struct Block<'a> {
    rows: usize,
    times: &'a [u8],
    columns: Vec<&'a [u8]>,
}

impl<'a> Block<'a> {
    pub fn open(bytes: &'a [u8]) -> Result<Self, Damaged> {
        let mut cursor = Cursor::new(bytes);
        if !matches!(cursor.byte()?, TIGHT | LOOSE) {
            return Err(Damaged("it is of an unknown version"));
        }
        let checksum = u32::from_le_bytes(cursor.array()?);
        if crc32c::crc32c(cursor.rest()) != checksum {
            return Err(Damaged("its checksum does not match"));
        }
        Self::read_directory(cursor)
    }

    fn read_directory(mut cursor: Cursor<'a>) -> Result<Self, Damaged> {
        let rows = usize::try_from(cursor.varint()?).unwrap_or(usize::MAX);
        if rows > ROWS_MAX {
            return Err(Damaged("it has too many rows"));
        }
        let columns = cursor.count()?;
        let times_len = cursor.count()?;
        let lengths = (0..columns).map(|_| cursor.count()).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            rows,
            times: cursor.bytes(times_len)?,
            columns: lengths.into_iter().map(|len| cursor.bytes(len)).collect::<Result<_, _>>()?,
        })
    }

    pub fn columns(&self) -> usize {
        self.columns.len()
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// In ascending order.
    pub fn times(&self) -> Result<Vec<UnixMillis>, Damaged> {
        times::decode(self.times, self.rows)
    }

    /// The values of one column, one for each time; NaN where absent.
    pub fn column(&self, index: usize) -> Result<Vec<f64>, Damaged> {
        let bytes = self.columns.get(index).ok_or(Damaged("it has too few columns"))?;
        column::decode(bytes, self.rows)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bits(values: &[f64]) -> Vec<u64> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    fn check(times: &[UnixMillis], columns: &[Vec<f64>]) -> Vec<u8> {
        check_packed(times, columns, Packing::Loose);
        check_packed(times, columns, Packing::Tight)
    }

    fn check_packed(times: &[UnixMillis], columns: &[Vec<f64>], packing: Packing) -> Vec<u8> {
        let bytes = encode(times, columns, packing);
        let block = Block::open(&bytes).expect("own bytes");
        assert_eq!(block.times().expect("own times"), times);
        assert_eq!(block.columns(), columns.len());
        for (index, column) in columns.iter().enumerate() {
            let back = block.column(index).expect("own column");
            assert_eq!(bits(&back), bits(column), "column {index}");
        }
        bytes
    }

    fn seconds(rows: usize) -> Vec<UnixMillis> {
        (0..rows as i64).map(|i| UnixMillis(1_700_000_000_000 + i * 1000)).collect()
    }

    #[test]
    fn an_hour_of_constants_costs_nearly_nothing() {
        let columns: Vec<Vec<f64>> = (0..64).map(|i| vec![f64::from(i) * 1.5; 3600]).collect();
        let bytes = check(&seconds(3600), &columns);
        assert!(bytes.len() < 64 * 8, "{} bytes", bytes.len());
    }

    #[test]
    fn a_block_without_rows_or_columns_is_a_block() {
        check(&[], &[]);
        check(&[], &[vec![], vec![]]);
        check(&seconds(3), &[]);
    }

    fn column(rows: usize) -> impl Strategy<Value = Vec<f64>> {
        let number = prop_oneof![
            4 => (-1000..1000i32).prop_map(|n| f64::from(n) / 10.0),
            2 => any::<i64>().prop_map(|n| n as f64),
            1 => any::<u64>().prop_map(f64::from_bits).prop_map(|v| if v.is_nan() { f64::NAN } else { v }),
            1 => prop::sample::select(vec![f64::NAN, -0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY]),
        ];
        let decimal = (0..10_000i32).prop_map(|n| f64::from(n) / 10_000.0);
        let gappy = prop_oneof![3 => Just(7.25), 1 => Just(f64::NAN)];
        prop_oneof![
            prop::collection::vec(number, rows),
            prop::collection::vec(decimal, rows),
            prop::collection::vec(gappy, rows),
            any::<u32>().prop_map(move |v| vec![f64::from(v); rows]),
            Just(vec![f64::NAN; rows]),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_goes_in_comes_out_to_the_bit(
            (times, columns) in (0..200usize).prop_flat_map(|rows| (
                prop::collection::vec(1..100_000i64, rows),
                prop::collection::vec(column(rows), 0..5),
            )),
            start in any::<i32>(),
        ) {
            let mut now = UnixMillis(start.into());
            let times: Vec<_> = times.into_iter().map(|step| { now = now + step; now }).collect();
            check(&times, &columns);
        }

        #[test]
        fn any_flipped_byte_is_noticed(at in any::<prop::sample::Index>(), flip in 1..=255u8) {
            let columns = vec![(0..100).map(f64::from).collect(), vec![1.5; 100]];
            let mut bytes = encode(&seconds(100), &columns, Packing::Tight);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(Block::open(&bytes).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        ) {
            let look = |body: &[u8]| {
                if let Ok(block) = Block::read_directory(Cursor::new(body)) {
                    let _ = block.times();
                    for index in 0..=block.columns() {
                        let _ = block.column(index);
                    }
                }
            };
            let _ = Block::open(&bytes);
            look(&bytes);
            // Behind a checksum that holds, as from a forger.
            let columns: Vec<Vec<f64>> = vec![
                (0..200).map(|i| f64::from(i * i % 97) / 10.0).collect(),
                (0..200).map(|i| if i % 7 == 0 { f64::NAN } else { f64::from(i).sqrt() }).collect(),
            ];
            let mut body = encode(&seconds(200), &columns, Packing::Tight).split_off(5);
            for (at, byte) in edits {
                let at = at.index(body.len());
                body[at] = byte;
            }
            look(&body);
        }
    }
}
