//! A stream of bytes to syslog messages (RFC 6587): each begins with its length in bytes and a blank, or
//! ends with its line. Every message may be framed either way.

/// Of a longer message only the beginning is kept.
pub(super) const MESSAGE_BYTES_MAX: usize = 128 * 1024;
/// Digits of a length; more are the beginning of a text.
const DIGITS_MAX: usize = 9;

#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Of the message at work, or the digits of its length.
    partial: Vec<u8>,
    state: State,
    is_cut: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// The first byte tells how the message is framed.
    #[default]
    Start,
    Length,
    /// So many bytes are still to come.
    Counted(usize),
    Line,
}

impl Frames {
    /// Calls `each` with every message that is whole, and with whether only its beginning was kept.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8], bool)) {
        while let Some(&first) = bytes.first() {
            match self.state {
                State::Start if matches!(first, b'\n' | b'\r' | b'\0') => bytes = &bytes[1..],
                State::Start if first.is_ascii_digit() && first != b'0' => {
                    self.state = State::Length;
                }
                State::Start => self.state = State::Line,
                State::Length => {
                    bytes = &bytes[1..];
                    if first == b' ' {
                        // A few digits, so it fits.
                        let digits = std::str::from_utf8(&self.partial).unwrap_or_default();
                        self.state = State::Counted(digits.parse().unwrap_or(0));
                        self.partial.clear();
                    } else {
                        self.partial.push(first);
                        if !first.is_ascii_digit() || self.partial.len() > DIGITS_MAX {
                            self.state = State::Line;
                            if first == b'\n' {
                                self.partial.pop();
                                self.end(&mut each);
                            }
                        }
                    }
                }
                State::Counted(left) => {
                    let (piece, rest) = bytes.split_at(left.min(bytes.len()));
                    self.keep(piece);
                    bytes = rest;
                    match left - piece.len() {
                        0 => self.end(&mut each),
                        left => self.state = State::Counted(left),
                    }
                }
                State::Line => match memchr::memchr2(b'\n', b'\0', bytes) {
                    Some(at) => {
                        self.keep(&bytes[..at]);
                        bytes = &bytes[at + 1..];
                        self.end(&mut each);
                    }
                    None => {
                        self.keep(bytes);
                        bytes = &[];
                    }
                },
            }
        }
    }

    /// The sender hung up: what it did not end is a message too.
    pub(super) fn finish(&mut self, mut each: impl FnMut(&[u8], bool)) {
        if !self.partial.is_empty() {
            self.end(&mut each);
        }
    }

    fn keep(&mut self, piece: &[u8]) {
        let room = MESSAGE_BYTES_MAX - self.partial.len();
        self.is_cut |= piece.len() > room;
        self.partial.extend_from_slice(&piece[..piece.len().min(room)]);
    }

    fn end(&mut self, each: &mut impl FnMut(&[u8], bool)) {
        each(&self.partial, self.is_cut);
        *self = Self { partial: std::mem::take(&mut self.partial), ..Self::default() };
        self.partial.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<(String, bool)> {
        let (mut frames, mut out) = (Frames::default(), Vec::new());
        let mut each = |message: &[u8], cut: bool| {
            out.push((String::from_utf8_lossy(message).into_owned(), cut));
        };
        pieces.into_iter().for_each(|piece| frames.feed(piece, &mut each));
        frames.finish(&mut each);
        out
    }

    fn check(stream: &str, expected: &[&str]) {
        let read: Vec<_> = read([stream.as_bytes()]).into_iter().map(|(text, _)| text).collect();
        assert_eq!(read, expected, "{stream:?}");
    }

    #[test]
    fn messages_are_counted_or_end_with_their_line() {
        check("<1>a\n<2>b\n", &["<1>a", "<2>b"]);
        check("4 <1>a4 <2>b", &["<1>a", "<2>b"]);
        check("6 <1>a\nb<2>c\n4 <3>d\n", &["<1>a\nb", "<2>c", "<3>d"]);
        check("<1>a\0<2>b\r\n\n<3>c", &["<1>a", "<2>b\r", "<3>c"]);
        check("12:30 it rains\n2026\n0 1\n", &["12:30 it rains", "2026", "0 1"]);
        check("12345678901 x\n4 <1>a", &["12345678901 x", "<1>a"]);
        check("10 <1>half", &["<1>half"]);
        check("", &[]);
    }

    #[test]
    fn a_message_without_end_is_cut_and_the_next_is_whole() {
        let long = "x".repeat(3 * MESSAGE_BYTES_MAX);
        for stream in [format!("{long}\nnext\n"), format!("{} {long}4 next", long.len())] {
            let read = read([stream.as_bytes()]);
            assert_eq!(read.len(), 2);
            assert_eq!((read[0].0.len(), read[0].1), (MESSAGE_BYTES_MAX, true));
            assert_eq!(read[1], ("next".to_owned(), false));
        }
    }

    proptest! {
        #[test]
        fn messages_do_not_depend_on_how_the_bytes_came(
            stream in "([0-9]{1,3} |<1>|a|\n|\u{0}|é){0,40}",
            at in 1usize..9,
        ) {
            let whole = read([stream.as_bytes()]);
            prop_assert_eq!(read(stream.as_bytes().chunks(at)), whole);
        }
    }
}
