//! Against a bus of the test's own: a double of the peer only.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixListener;

use super::bus::tests::{from_bus, table};
use super::*;

const PATIENCE: Duration = Duration::from_secs(20);
const ANSWER: u8 = 2;
const SIGNAL: u8 = 4;
const LOGIND_NAME: &str = ":1.4";

/// The test's end of a connection on which everything up to the first lock was asked for and answered.
struct Logind {
    stream: UnixStream,
    /// Calls so far, by the method's name.
    calls: usize,
}

impl Logind {
    fn accept(listener: &UnixListener) -> Self {
        let (stream, _) = listener.accept().expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("settable");
        let mut lines = BufReader::new(stream.try_clone().expect("a second handle"));
        let mut answers = &stream;
        for (expected, answer) in [
            ("\0AUTH EXTERNAL ", "OK 0123\r\n"),
            ("NEGOTIATE_UNIX_FD", "AGREE_UNIX_FD\r\n"),
            ("BEGIN", ""),
        ] {
            let mut line = String::new();
            // Byte by byte would do too: the peer waits for each answer before it goes on.
            lines.read_line(&mut line).expect("a line");
            assert!(line.starts_with(expected), "{line:?}");
            answers.write_all(answer.as_bytes()).expect("written");
        }
        // What came after BEGIN is in the reader's buffer.
        let mut logind = Self { stream, calls: 0 };
        let early = lines.buffer().to_vec();
        logind.answer_calls(early, 4);
        logind
    }

    /// Reads calls and answers each, until there were `until` of them.
    fn answer_calls(&mut self, mut read: Vec<u8>, until: usize) {
        while self.calls < until {
            let number = |at: usize| {
                read.get(at..at + 4)
                    .map(|b| u32::from_le_bytes(b.try_into().expect("four")) as usize)
            };
            let length = number(12)
                .zip(number(4))
                .map(|(fields, body)| (16 + fields).next_multiple_of(8) + body);
            match length.filter(|length| read.len() >= *length) {
                Some(length) => {
                    let serial = number(8).expect("it is there") as u32;
                    read.drain(..length);
                    self.calls += 1;
                    let answer = from_bus(ANSWER, serial, LOGIND_NAME, "", &[]);
                    self.stream.write_all(&answer).expect("written");
                }
                None => {
                    let mut chunk = [0; 1024];
                    let more = self.stream.read(&mut chunk).expect("a call in time");
                    assert!(more > 0, "it went away");
                    read.extend_from_slice(&chunk[..more]);
                }
            }
        }
    }

    fn signal(&mut self, sender: &str, member: &str, body: &[u8]) {
        let signal = from_bus(SIGNAL, 0, sender, member, body);
        self.stream.write_all(&signal).expect("written");
    }
}

struct Followed {
    outlook: watch::Receiver<Outlook>,
    told: Arc<AtomicBool>,
    power: Power,
    listener: UnixListener,
    _dir: tempfile::TempDir,
}

fn follow() -> Followed {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("bus");
    let listener = UnixListener::bind(&socket).expect("binds");
    let (sender, outlook) = watch::channel(Outlook::default());
    let told = Arc::new(AtomicBool::new(false));
    let power = Power::follow(socket, sender, Arc::clone(&told), || true);
    Followed { outlook, told, power, listener, _dir: dir }
}

impl Followed {
    fn becomes(&mut self, expected: Outlook) {
        let deadline = Instant::now() + PATIENCE;
        while *self.outlook.borrow() != expected {
            assert!(Instant::now() < deadline, "still {:?}", *self.outlook.borrow());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

const YES: [u8; 4] = 1u32.to_le_bytes();
const NO: [u8; 4] = 0u32.to_le_bytes();

#[test]
fn sleep_is_announced_held_up_once_and_over() {
    let mut followed = follow();
    let mut logind = Logind::accept(&followed.listener);
    logind.signal(LOGIND_NAME, "PrepareForSleep", &YES);
    followed.becomes(Outlook::Sleeps);
    followed.told.store(true, Relaxed);
    logind.signal(LOGIND_NAME, "PrepareForSleep", &NO);
    followed.becomes(Outlook::Stays);
    // And the next sleep is held up again.
    logind.answer_calls(Vec::new(), 5);
}

#[test]
fn a_reboot_is_told_from_a_shutdown_where_logind_says_which() {
    let mut followed = follow();
    let mut logind = Logind::accept(&followed.listener);
    logind.signal(LOGIND_NAME, "PrepareForShutdown", &YES);
    followed.becomes(Outlook::GoesDown);
    logind.signal(LOGIND_NAME, "PrepareForShutdown", &NO);
    followed.becomes(Outlook::Stays);
    let reboot = table(true, "type", "reboot");
    logind.signal(LOGIND_NAME, "PrepareForShutdownWithMetadata", &reboot);
    logind.signal(LOGIND_NAME, "PrepareForShutdown", &YES);
    logind.signal(LOGIND_NAME, "Unheard", &YES);
    followed.becomes(Outlook::Reboots);
    logind.signal(LOGIND_NAME, "PrepareForShutdown", &NO);
    followed.becomes(Outlook::Stays);
}

#[test]
fn nobody_but_logind_is_believed() {
    let mut followed = follow();
    let mut logind = Logind::accept(&followed.listener);
    logind.signal(":1.66", "PrepareForSleep", &YES);
    logind.signal(LOGIND_NAME, "PrepareForShutdown", &YES);
    followed.becomes(Outlook::GoesDown);
    assert!(followed.outlook.has_changed().expect("it runs"));
}

#[test]
fn a_bus_that_goes_away_takes_its_word_back() {
    let mut followed = follow();
    let mut logind = Logind::accept(&followed.listener);
    followed.told.store(true, Relaxed);
    logind.signal(LOGIND_NAME, "PrepareForSleep", &YES);
    followed.becomes(Outlook::Sleeps);
    drop(logind);
    followed.becomes(Outlook::Stays);
}

#[test]
fn it_ends_with_its_owner_and_needs_no_bus() {
    let followed = follow();
    let mut logind = Logind::accept(&followed.listener);
    drop(followed.power);
    let mut rest = Vec::new();
    logind.stream.read_to_end(&mut rest).expect("it hangs up in time");
    let nowhere = PathBuf::from("/nonexistent/bus");
    let (sender, outlook) = watch::channel(Outlook::default());
    let power = Power::follow(nowhere, sender, Arc::default(), || true);
    assert_eq!(*outlook.borrow(), Outlook::Stays);
    drop(power);
}
