//! Rows in the binary form of `COPY`, <https://www.postgresql.org/docs/current/sql-copy.html>.

use model::UnixMillis;

use super::stamp::Stamp;

/// Rows under construction. Each begins with [`Rows::row`] and has exactly as many fields as that said.
#[derive(Debug)]
pub(crate) struct Rows {
    bytes: Vec<u8>,
}

const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Object ids of element types, fixed in `pg_type`.
mod oid {
    pub(super) const INT2: i32 = 21;
    pub(super) const INT4: i32 = 23;
    pub(super) const FLOAT8: i32 = 701;
}

impl Rows {
    pub(crate) fn new() -> Self {
        Self { bytes: HEADER.to_vec() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.len() == HEADER.len()
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&(-1i16).to_be_bytes());
        self.bytes
    }

    pub(crate) fn row(&mut self, fields: i16) -> &mut Self {
        self.bytes.extend_from_slice(&fields.to_be_bytes());
        self
    }

    pub(crate) fn null(&mut self) -> &mut Self {
        self.bytes.extend_from_slice(&(-1i32).to_be_bytes());
        self
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.len(bytes.len());
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(super::text::store(text).as_bytes())
    }

    /// JSON that [`super::text::labels_to_json`] made.
    pub(crate) fn jsonb(&mut self, json: &str) -> &mut Self {
        self.len(json.len() + 1);
        // The version of the form.
        self.bytes.push(1);
        self.bytes.extend_from_slice(json.as_bytes());
        self
    }

    pub(crate) fn int4(&mut self, value: i32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(crate) fn int8(&mut self, value: i64) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(crate) fn time(&mut self, time: UnixMillis) -> &mut Self {
        self.int8(Stamp(time).micros())
    }

    pub(crate) fn maybe_time(&mut self, time: Option<UnixMillis>) -> &mut Self {
        match time {
            Some(time) => self.time(time),
            None => self.null(),
        }
    }

    pub(crate) fn int2s(&mut self, values: impl ExactSizeIterator<Item = i16>) -> &mut Self {
        self.array(oid::INT2, values.map(i16::to_be_bytes))
    }

    pub(crate) fn int4s(&mut self, values: impl ExactSizeIterator<Item = i32>) -> &mut Self {
        self.array(oid::INT4, values.map(i32::to_be_bytes))
    }

    pub(crate) fn float8s(&mut self, values: impl ExactSizeIterator<Item = f64>) -> &mut Self {
        self.array(oid::FLOAT8, values.map(f64::to_be_bytes))
    }

    fn array<const N: usize>(
        &mut self,
        element: i32,
        values: impl ExactSizeIterator<Item = [u8; N]>,
    ) -> &mut Self {
        let count = values.len();
        self.len(20 + count * (4 + N));
        // One dimension that begins at 1, no nulls. An array without elements of one dimension is fine too.
        for number in [1, 0, element, count as i32, 1] {
            self.bytes.extend_from_slice(&number.to_be_bytes());
        }
        for value in values {
            self.bytes.extend_from_slice(&(N as i32).to_be_bytes());
            self.bytes.extend_from_slice(&value);
        }
        self
    }

    /// What is longer than the server's own limit of 1 GB is refused by the server.
    fn len(&mut self, len: usize) {
        self.bytes.extend_from_slice(&(len as i32).to_be_bytes());
    }
}
