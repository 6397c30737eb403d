//! Several lines that are one event: stack traces, and whatever continues indented.
//!
//! No configuration: a line is judged by how it begins and by the trace that it would continue. Blank
//! lines belong to what is around them and are never events of their own.

use model::limits::LOG_BODY_BYTES_MAX;

use super::lines::Mark;

/// One event's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Joined {
    pub(super) text: String,
    /// A line of it was longer than what is kept of one.
    pub(super) cut: bool,
    /// Right after its last line.
    pub(super) mark: Mark,
}

#[derive(Debug)]
pub(super) struct Joiner {
    enabled: bool,
    group: Option<Group>,
}

#[derive(Debug)]
struct Group {
    joined: Joined,
    trace: Trace,
    starts_indented: bool,
    /// Blank lines after it that perhaps belong to it.
    blanks: usize,
}

/// What kind of trace a group is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trace {
    /// None, or one whose lines are all indented (Java, Node).
    Plain,
    PythonFrames,
    PythonException,
    /// "During handling of the above exception …": another traceback follows.
    PythonChain,
    Go,
    RustMessage,
    Rust,
    /// Node prints where, and the code there, before the error itself.
    NodeCode,
}

impl Joiner {
    pub(super) fn new(enabled: bool) -> Self {
        Self { enabled, group: None }
    }

    /// Takes the next line in; returns the event that it ended, if it does not continue it.
    pub(super) fn push(&mut self, line: &str, cut: bool, mark: Mark) -> Option<Joined> {
        let is_blank = line.trim_ascii().is_empty();
        if let Some(group) = &mut self.group
            && self.enabled
        {
            if is_blank {
                group.blanks += 1;
                return None;
            }
            let bytes = group.joined.text.len() + group.blanks + 1 + line.len();
            if bytes <= LOG_BODY_BYTES_MAX
                && let Some(trace) = group.continued_by(line)
            {
                let breaks = std::mem::take(&mut group.blanks) + 1;
                group.joined.text.extend(std::iter::repeat_n('\n', breaks));
                group.joined.text.push_str(line);
                group.joined.cut |= cut;
                group.joined.mark = mark;
                group.trace = trace;
                return None;
            }
        }
        if is_blank {
            return self.take();
        }
        let joined = Joined { text: line.to_owned(), cut, mark };
        let starts_indented = is_indented(line);
        let group = Group { joined, trace: Trace::begun_by(line), starts_indented, blanks: 0 };
        self.group.replace(group).map(|before| before.joined)
    }

    /// The event at work, when nothing may continue it any more.
    pub(super) fn take(&mut self) -> Option<Joined> {
        self.group.take().map(|group| group.joined)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.group.is_none()
    }
}

impl Trace {
    fn begun_by(line: &str) -> Self {
        if line.starts_with("Traceback (most recent call last)") {
            Self::PythonFrames
        } else if line.starts_with("panic: ") || line.starts_with("fatal error: ") {
            Self::Go
        } else if line.starts_with("thread '") && line.contains(" panicked at ") {
            if line.ends_with(':') { Self::RustMessage } else { Self::Rust }
        } else if is_place_in_code(line) {
            Self::NodeCode
        } else {
            Self::Plain
        }
    }
}

impl Group {
    /// The trace as it goes on with `line`; `None` when the line does not belong to it.
    fn continued_by(&self, line: &str) -> Option<Trace> {
        let indented = is_indented(line) && !self.starts_indented;
        let stays = |belongs: bool| belongs.then_some(self.trace);
        if line.starts_with("Caused by: ") || line.starts_with("Suppressed: ") {
            return stays(self.blanks == 0);
        }
        match self.trace {
            Trace::Plain if self.blanks > 0 => None,
            Trace::Plain => {
                let traceback = line.starts_with("Traceback (most recent call last)");
                if traceback && tells_of_an_error(&self.joined.text) {
                    return Some(Trace::PythonFrames);
                }
                let node_end = line == "}" && self.joined.text.contains("\n    at ");
                stays(indented || node_end)
            }
            Trace::PythonFrames if indented => Some(Trace::PythonFrames),
            Trace::PythonFrames => (self.blanks == 0).then_some(Trace::PythonException),
            Trace::PythonException => {
                let chain = line.starts_with("During handling of the above exception")
                    || line.starts_with("The above exception was the direct cause");
                let more = indented && self.blanks == 0;
                if chain { Some(Trace::PythonChain) } else { stays(more) }
            }
            Trace::PythonChain => {
                line.starts_with("Traceback (most recent").then_some(Trace::PythonFrames)
            }
            Trace::Go => stays(
                line.starts_with('\t')
                    || (line.starts_with("goroutine ") && line.ends_with("]:"))
                    || line.starts_with("[signal ")
                    || line.starts_with("created by ")
                    || line.starts_with("exit status ")
                    || (self.blanks == 0 && line.starts_with("panic: "))
                    || is_go_call(line),
            ),
            Trace::RustMessage => Some(Trace::Rust),
            Trace::Rust => {
                stays(indented || line == "stack backtrace:" || line.starts_with("note: "))
            }
            Trace::NodeCode => {
                let named = line.split([':', ' ']).next().unwrap_or_default();
                let is_error = named.ends_with("Error") || named.ends_with("Exception");
                let code = self.joined.text.lines().count() < 6;
                if is_error { Some(Trace::Plain) } else { stays(code && self.blanks == 0) }
            }
        }
    }
}

fn is_indented(line: &str) -> bool {
    line.starts_with([' ', '\t'])
}

fn tells_of_an_error(text: &str) -> bool {
    let first = text.lines().next().unwrap_or_default();
    ["ERROR", "CRITICAL", "FATAL", "rror", "xception"].iter().any(|word| first.contains(word))
}

/// `/app/server.js:12`, alone on its line.
fn is_place_in_code(line: &str) -> bool {
    let is_path = ["/", "file://", "node:"].iter().any(|start| line.starts_with(start));
    let number = line.rsplit(':').next().unwrap_or_default();
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    is_path && is_number && !line.contains(' ')
}

/// `main.(*Server).serve(0xc000010000, {0x1, 0x2})`.
fn is_go_call(line: &str) -> bool {
    let name = line.split('(').next().unwrap_or_default();
    line.ends_with(')') && name.contains('.') && !name.contains(' ')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn joined(text: &str) -> Vec<String> {
        let mut joiner = Joiner::new(true);
        let ended: Vec<_> =
            text.lines().filter_map(|line| joiner.push(line, false, Mark::default())).collect();
        ended.into_iter().chain(joiner.take()).map(|joined| joined.text).collect()
    }

    /// One event between two others stays one event.
    fn check(trace: &str) {
        let before = "2026-11-20 21:00:00 INFO ready";
        let after = "2026-11-20 21:00:09 INFO next";
        let found = joined(&format!("{before}\n{trace}\n{after}"));
        assert_eq!(found, [before, trace, after], "{trace}");
    }

    #[test]
    fn stack_traces_are_one_event() {
        check(
            "Exception in thread \"main\" java.lang.IllegalStateException: no\n\tat a.B.c(B.java:1)\n\tat a.D.main(D.java:2)\nCaused by: java.io.IOException: gone\n\t... 2 more",
        );
        check(
            "Traceback (most recent call last):\n  File \"a.py\", line 1, in <module>\n    f()\nValueError: bad",
        );
        check(
            "ERROR:root:failed\nTraceback (most recent call last):\n  File \"a.py\", line 1, in f\n    g()\nKeyError: 'x'\n\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n  File \"a.py\", line 3, in <module>\n    f()\nRuntimeError: worse",
        );
        check(
            "panic: runtime error: index out of range [5] with length 3\n\ngoroutine 1 [running]:\nmain.(*S).f(0xc000010000, {0x1, 0x2})\n\t/app/main.go:9 +0x1d\nmain.main()\n\t/app/main.go:5 +0x20\nexit status 2",
        );
        check(
            "thread 'main' (7) panicked at src/main.rs:2:5:\nindex out of bounds\nstack backtrace:\n   0: rust_begin_unwind\n             at ./lib.rs:1\nnote: Some details are omitted",
        );
        check(
            "thread 'main' panicked at 'old style', src/main.rs:2:5\nnote: run with `RUST_BACKTRACE=1`",
        );
        check(
            "TypeError: x is not a function\n    at f (/app/a.js:1:2)\n    at node:internal/x:1:1 {\n  code: 'E'\n}",
        );
        check("/app/a.js:3\n  throw new Error('no');\n  ^\n\nError: no\n    at f (/app/a.js:3:9)");
    }

    #[test]
    fn lines_of_their_own_stay_alone() {
        fn check(text: &str) {
            assert_eq!(joined(text), text.lines().collect::<Vec<_>>());
        }
        check("one\ntwo\nthree");
        check("  indented\n  from the\n  beginning");
        check("request served\nTraceback (most recent call last):");
        check("{\"a\":1}\n{\"a\":2}");
        assert_eq!(joined("one\n\n\ntwo\n\n"), ["one", "two"]);
        assert_eq!(joined("\n\n"), [""; 0]);
    }

    #[test]
    fn a_text_that_goes_on_and_on_comes_in_pieces() {
        let text = format!("start{}", format!("\n {}", "x".repeat(999)).repeat(200));
        let found = joined(&text);
        assert!(found.len() > 2 && found.iter().all(|text| text.len() <= LOG_BODY_BYTES_MAX));
        assert_eq!(found.join("\n"), text);
    }

    proptest! {
        #[test]
        fn no_line_is_lost_or_doubled(lines in prop::collection::vec(
            prop_oneof![
                Just("Traceback (most recent call last):"), Just("panic: x"), Just("Caused by: y"),
                Just("/a.js:1"), Just("thread 'm' panicked at x:"), Just("  at"), Just("\tb"), Just("E: z"), Just("")
            ],
            0..30,
        )) {
            let found = joined(&lines.join("\n"));
            let found: Vec<&str> = found.iter().flat_map(|text| text.lines()).filter(|l| !l.is_empty()).collect();
            let given: Vec<&str> = lines.into_iter().filter(|l| !l.is_empty()).collect();
            prop_assert_eq!(found, given);
        }
    }
}
