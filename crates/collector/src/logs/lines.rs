//! Bytes to lines, however they come: a line is the same whether it was read at once or byte by byte.

use serde::{Deserialize, Serialize};

/// Of a longer line only the beginning is kept. More than a body may have: a line may be an envelope.
pub(super) const LINE_BYTES_MAX: usize = 256 * 1024;

/// Bytes before a place that say whether it is still the place it was.
pub(super) const TAIL_BYTES_MAX: usize = 512;

/// A place in a source, right after a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) offset: u64,
    /// How many bytes before it `tail_crc` was made of; none after a line that was not kept whole.
    pub(super) tail_bytes: u16,
    pub(super) tail_crc: u32,
}

impl Mark {
    /// The place at `offset`, right after `before`.
    pub(super) fn after(before: &[u8], offset: u64) -> Self {
        let tail = &before[before.len().saturating_sub(TAIL_BYTES_MAX)..];
        Self { offset, tail_bytes: tail.len() as u16, tail_crc: crc32c::crc32c(tail) }
    }
}

/// One line without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) text: &'a [u8],
    /// It was longer than [`LINE_BYTES_MAX`].
    pub(super) cut: bool,
    /// Where the next line starts, counted from the beginning of the source.
    pub(super) end: u64,
    /// There is a line feed after it.
    is_ended: bool,
}

impl Line<'_> {
    pub(super) fn mark(&self) -> Mark {
        if self.cut {
            return Mark { offset: self.end, tail_bytes: 0, tail_crc: 0 };
        }
        let room = TAIL_BYTES_MAX - usize::from(self.is_ended);
        let tail = &self.text[self.text.len().saturating_sub(room)..];
        let mut crc = crc32c::crc32c(tail);
        if self.is_ended {
            crc = crc32c::crc32c_append(crc, b"\n");
        }
        let tail_bytes = (tail.len() + usize::from(self.is_ended)) as u16;
        Mark { offset: self.end, tail_bytes, tail_crc: crc }
    }
}

#[derive(Debug)]
pub(super) struct Lines {
    partial: Vec<u8>,
    /// Bytes of the unfinished line that were not kept.
    left_out: u64,
    /// Of the next byte.
    offset: u64,
}

impl Lines {
    /// The next byte is that at `offset` of the source.
    pub(super) fn new(offset: u64) -> Self {
        Self { partial: Vec::new(), left_out: 0, offset }
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn feed(&mut self, chunk: &[u8], mut each: impl FnMut(Line<'_>)) {
        let mut rest = chunk;
        while let Some(at) = memchr::memchr(b'\n', rest) {
            let (line, after) = (&rest[..at], &rest[at + 1..]);
            rest = after;
            self.offset += at as u64 + 1;
            if self.partial.is_empty() && line.len() <= LINE_BYTES_MAX {
                each(Line { text: line, cut: false, end: self.offset, is_ended: true });
                continue;
            }
            self.keep(line);
            let (text, cut) = (&*self.partial, self.left_out > 0);
            each(Line { text, cut, end: self.offset, is_ended: true });
            self.forget();
        }
        self.offset += rest.len() as u64;
        self.keep(rest);
    }

    /// The last line, when it has no end and none is to come.
    pub(super) fn finish(&mut self, each: impl FnOnce(Line<'_>)) {
        if !self.partial.is_empty() {
            let (text, cut) = (&*self.partial, self.left_out > 0);
            each(Line { text, cut, end: self.offset, is_ended: false });
            self.forget();
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LINE_BYTES_MAX - self.partial.len();
        let kept = bytes.len().min(room);
        self.partial.extend_from_slice(&bytes[..kept]);
        self.left_out += (bytes.len() - kept) as u64;
    }

    fn forget(&mut self) {
        // One long line must not keep its room for ever.
        if self.partial.capacity() > 16 * 1024 {
            self.partial = Vec::new();
        }
        self.partial.clear();
        self.left_out = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Read = (Vec<u8>, bool, u64);

    fn read<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Read> {
        let (mut lines, mut out) = (Lines::new(0), Vec::new());
        for chunk in chunks {
            lines.feed(chunk, |line| out.push((line.text.to_vec(), line.cut, line.end)));
        }
        lines.finish(|line| out.push((line.text.to_vec(), line.cut, line.end)));
        out
    }

    #[test]
    fn a_line_without_end_is_cut_and_the_next_one_is_whole() {
        let mut bytes = vec![b'x'; 10 * 1024 * 1024];
        bytes.extend_from_slice(b"\nnext\n");
        let read = read(bytes.chunks(60_000));
        assert_eq!(read.len(), 2);
        assert!(read[0].0.len() == LINE_BYTES_MAX && read[0].1);
        assert_eq!(read[1], (b"next".to_vec(), false, bytes.len() as u64));
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_they_were_read(
            bytes in prop::collection::vec(prop_oneof![3 => any::<u8>(), 1 => Just(b'\n')], 0..300),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|at| at.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let expected = read([&*bytes]);
            prop_assert_eq!(read(cuts.windows(2).map(|w| &bytes[w[0]..w[1]])), expected.clone());
            let lines = bytes.split(|b| *b == b'\n').map(<[u8]>::to_vec);
            let texts: Vec<_> = expected.into_iter().map(|line| line.0).collect();
            let mut split: Vec<_> = lines.collect();
            split.pop_if(|last| last.is_empty());
            prop_assert_eq!(texts, split);
        }
    }
}
