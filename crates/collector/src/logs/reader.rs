//! From the bytes of one source to its events, and how far those reach.

use std::time::Duration;

use model::{LogEvent, UnixMillis};

use super::envelope::{Envelopes, Stream};
use super::join::{Joined, Joiner};
use super::limit::{self, Limit};
use super::lines::{Line, Lines, Mark};
use super::parse::{Known, Parser};

#[derive(Debug)]
pub(super) struct Reader {
    lines: Lines,
    texts: Texts,
    exit: Exit,
}

/// What a text becomes, if it may.
#[derive(Debug)]
struct Exit {
    known: Known,
    /// Everything before it went out as events, or was dropped.
    mark: Mark,
    limit: Limit,
    /// What ends before this was there before us: it is no burst.
    limited_from: u64,
}

/// Lines, out of their envelopes, to texts of events.
#[derive(Debug)]
struct Texts {
    joiner: Joiner,
    /// Of a container.
    envelopes: Option<Envelopes>,
    stream: Stream,
    /// When the text at work began, by its envelope.
    time: Option<UnixMillis>,
}

/// The text of one event, and when it began by its envelope.
#[derive(Debug)]
struct Text {
    joined: Joined,
    time: Option<UnixMillis>,
    /// Parts of a line before its end wait for others, so reading does not go on after it.
    has_gap: bool,
}

impl Reader {
    /// Goes on at `mark`, without a limit.
    pub(super) fn new(mark: Mark, multiline: bool, enveloped: bool, known: Known) -> Self {
        let texts = Texts {
            joiner: Joiner::new(multiline),
            envelopes: enveloped.then(Envelopes::default),
            stream: Stream::Stdout,
            time: None,
        };
        let (lines, limit) = (Lines::new(mark.offset), Limit::new(0));
        Self { lines, texts, exit: Exit { known, mark, limit, limited_from: 0 } }
    }

    /// Leaves out what goes beyond the limit, from this place on.
    pub(super) fn limited(mut self, limit: Limit, limited_from: u64) -> Self {
        self.exit = Exit { limit, limited_from, ..self.exit };
        self
    }

    pub(super) fn limit(&self) -> &Limit {
        &self.exit.limit
    }

    /// Time has passed, in which all was read that was there, or not.
    pub(super) fn refill(&mut self, elapsed: Duration, is_caught_up: bool) {
        self.exit.limit.refill(elapsed, is_caught_up);
    }

    /// The line that tells what was left out, if anything was.
    pub(super) fn dropped(&mut self, now: UnixMillis) -> Option<(u64, LogEvent)> {
        let Exit { limit, known, .. } = &mut self.exit;
        let dropped = limit.take_dropped();
        (dropped > 0).then(|| (dropped, limit::notice(known, dropped, &limit.why(), now)))
    }

    /// Of the next byte to feed.
    pub(super) fn offset(&self) -> u64 {
        self.lines.offset()
    }

    pub(super) fn mark(&self) -> Mark {
        self.exit.mark
    }

    /// Whether lines wait for others that may belong to them.
    pub(super) fn holds_lines(&self) -> bool {
        !self.texts.joiner.is_empty()
    }

    pub(super) fn feed(
        &mut self,
        chunk: &[u8],
        parser: &Parser,
        now: UnixMillis,
        out: &mut Vec<LogEvent>,
    ) {
        let Self { lines, texts, exit } = self;
        lines.feed(chunk, |line| {
            texts.push(line, |text| out.extend(exit.event(text, parser, now)));
        });
    }

    /// The source begins again from its start. What was not whole is forgotten.
    pub(super) fn start_anew(&mut self) {
        self.lines = Lines::new(0);
        self.texts.joiner.take();
        self.texts.envelopes = self.texts.envelopes.take().map(|_| Envelopes::default());
        self.exit.mark = Mark::default();
        self.exit.limited_from = 0;
    }

    /// Nothing more came for a while: what waits for more lines is whole.
    pub(super) fn settle(&mut self, parser: &Parser, now: UnixMillis, out: &mut Vec<LogEvent>) {
        // A place before parts that were read is kept in front of them.
        if self.texts.holds_parts() {
            return;
        }
        let Self { texts, exit, .. } = self;
        texts.end(|text| out.extend(exit.event(text, parser, now)));
    }

    /// Nothing will ever come: a last line without end is whole too.
    pub(super) fn finish(&mut self, parser: &Parser, now: UnixMillis, out: &mut Vec<LogEvent>) {
        let Self { lines, texts, exit } = self;
        lines.finish(|line| {
            texts.push(line, |text| out.extend(exit.event(text, parser, now)));
        });
        texts.end(|text| out.extend(exit.event(text, parser, now)));
    }
}

impl Texts {
    fn push(&mut self, line: Line<'_>, mut each: impl FnMut(Text)) {
        let text = String::from_utf8_lossy(line.text);
        // What a writer without append mode leaves behind after a truncation is zeros.
        let text = text.strip_suffix('\r').unwrap_or(&text).trim_start_matches('\0');
        let Some(envelopes) = &mut self.envelopes else {
            if let Some(joined) = self.joiner.push(text, line.cut, line.mark()) {
                each(Text { joined, time: None, has_gap: false });
            }
            return;
        };
        let Some(content) = envelopes.open(text) else { return };
        // Lines of one stream do not go on in the other.
        if content.stream != self.stream {
            self.stream = content.stream;
            self.end(&mut each);
        }
        let was_empty = self.joiner.is_empty();
        let ended = self.joiner.push(&content.text, line.cut || content.cut, line.mark());
        if let Some(joined) = ended {
            let has_gap = self.holds_parts();
            each(Text { joined, time: self.time, has_gap });
            self.time = content.time;
        } else if was_empty {
            self.time = content.time;
        }
    }

    fn end(&mut self, mut each: impl FnMut(Text)) {
        if let Some(joined) = self.joiner.take() {
            each(Text { joined, time: self.time, has_gap: self.holds_parts() });
        }
    }

    fn holds_parts(&self) -> bool {
        self.envelopes.as_ref().is_some_and(Envelopes::holds_parts)
    }
}

impl Exit {
    /// `None` when it is one too many.
    fn event(
        &mut self,
        Text { joined, time, has_gap }: Text,
        parser: &Parser,
        now: UnixMillis,
    ) -> Option<LogEvent> {
        if !has_gap {
            self.mark = joined.mark;
        }
        if joined.mark.offset > self.limited_from && !self.limit.admits() {
            return None;
        }
        self.known.time = time;
        Some(parser.event(joined.text, joined.cut, &self.known, now))
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::*;

    fn read<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<LogEvent>, Mark) {
        let parser = Parser::new(TimeZone::UTC);
        let (mut reader, mut out) =
            (Reader::new(Mark::default(), true, false, Known::default()), vec![]);
        let now = UnixMillis(1_795_208_400_000);
        chunks.into_iter().for_each(|chunk| reader.feed(chunk, &parser, now, &mut out));
        reader.finish(&parser, now, &mut out);
        (out, reader.mark())
    }

    #[test]
    fn a_place_is_before_whatever_was_not_sent_yet() {
        let parser = Parser::new(TimeZone::UTC);
        let (mut reader, mut out) =
            (Reader::new(Mark::default(), true, false, Known::default()), vec![]);
        let now = UnixMillis(0);
        reader.feed(b"one\ntwo\n  more\npart", &parser, now, &mut out);
        assert_eq!((out.len(), reader.mark().offset), (1, 4));
        assert_eq!(reader.mark(), Mark::after(b"one\n", 4));
        assert!(reader.holds_lines());
        reader.settle(&parser, now, &mut out);
        assert_eq!((out.len(), reader.mark().offset, reader.offset()), (2, 15, 19));
        assert_eq!(reader.mark(), Mark::after(b"  more\n", 15));
        reader.finish(&parser, now, &mut out);
        assert_eq!((out.len(), reader.mark()), (3, Mark::after(b"part", 19)));
        assert_eq!(out[1].body, "two\n  more");
    }

    #[test]
    fn hostile_bytes_are_kept_as_text() {
        let (events, _) = read([&b"\xff\xfe\0bad\r\n\0\0\0after a hole\n"[..]]);
        let bodies: Vec<_> = events.iter().map(|event| event.body.as_str()).collect();
        assert_eq!(bodies, ["\u{fffd}\u{fffd}␀bad", "after a hole"]);
    }

    proptest! {
        #[test]
        fn events_do_not_depend_on_how_the_bytes_were_read(
            text in r#"(panic: x|goroutine 1 \[running\]:|Traceback \(most recent call last\):|  at|\n|\n|\n|\r|a|E: b|é|\{"msg":"x"\}|password=y){0,40}"#,
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|at| at.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            prop_assert_eq!(read(cuts.windows(2).map(|w| &bytes[w[0]..w[1]])), read([bytes]));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read([&*bytes]);
        }
    }
}
