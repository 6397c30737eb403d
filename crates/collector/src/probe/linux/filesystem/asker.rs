//! Asks filesystems for their usage without ever waiting for one that does not answer.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use super::Usage;

/// Threads that may hang in a question. With so many mounts dead, further ones that hang are not asked.
const STUCK_MAX: usize = 8;
const STACK_BYTES: usize = 128 * 1024;

type Question = fn(&Path) -> io::Result<Usage>;

/// One worker thread asks all mounts, one after the other. When a mount takes too long, its worker is
/// left behind with it and another goes on; the mount is not asked again until that worker is back.
pub(super) struct Asker {
    question: Question,
    worker: Option<Worker>,
    stuck: HashMap<PathBuf, Worker>,
}

struct Worker {
    paths: SyncSender<PathBuf>,
    answers: Receiver<io::Result<Usage>>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    Usage(Usage),
    Refused,
    /// Did not answer in time, now or before.
    Silent,
}

impl Asker {
    pub(super) fn new(question: Question) -> Self {
        Self { question, worker: None, stuck: HashMap::new() }
    }

    pub(super) fn ask(&mut self, path: &Path, within: Duration) -> Answer {
        if let Some(worker) = self.stuck.get(path) {
            match worker.answers.try_recv() {
                Err(TryRecvError::Empty) => return Answer::Silent,
                // It is back; what it brought is old, and it is not needed any more.
                Ok(_) | Err(TryRecvError::Disconnected) => drop(self.stuck.remove(path)),
            }
        }
        if self.stuck.len() >= STUCK_MAX {
            self.stuck
                .retain(|_, worker| matches!(worker.answers.try_recv(), Err(TryRecvError::Empty)));
        }
        if self.stuck.len() >= STUCK_MAX {
            return Answer::Silent;
        }
        let Some(worker) = self.worker.take().or_else(|| Worker::start(self.question).ok()) else {
            return Answer::Refused;
        };
        if worker.paths.send(path.to_owned()).is_err() {
            return Answer::Refused;
        }
        match worker.answers.recv_timeout(within) {
            Ok(answer) => {
                self.worker = Some(worker);
                answer.map_or(Answer::Refused, Answer::Usage)
            }
            Err(RecvTimeoutError::Timeout) => {
                self.stuck.insert(path.to_owned(), worker);
                Answer::Silent
            }
            Err(RecvTimeoutError::Disconnected) => Answer::Refused,
        }
    }
}

impl Worker {
    /// Its thread ends when the worker is dropped, or as soon as the question it hangs in ends.
    fn start(question: Question) -> io::Result<Self> {
        let (paths, inbox) = sync_channel::<PathBuf>(1);
        let (answer, answers) = sync_channel(1);
        thread::Builder::new().name("statvfs".to_owned()).stack_size(STACK_BYTES).spawn(
            move || {
                while let Ok(path) = inbox.recv() {
                    if answer.send(question(&path)).is_err() {
                        return;
                    }
                }
            },
        )?;
        Ok(Self { paths, answers })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};
    use std::time::Instant;

    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    /// Mounts under /dead answer only once this is open.
    static GATE: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

    fn question(path: &Path) -> io::Result<Usage> {
        if path.starts_with("/dead") {
            let closed = GATE.0.lock().expect("not poisoned");
            drop(GATE.1.wait_while(closed, |open| !*open).expect("not poisoned"));
        }
        if path.starts_with("/secret") {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(Usage { size: 1.0, ..Usage::UNKNOWN })
    }

    fn answers(asker: &mut Asker, path: &str) -> bool {
        matches!(asker.ask(Path::new(path), SOON), Answer::Usage(_))
    }

    #[test]
    fn a_dead_mount_delays_nobody_twice_and_comes_back() {
        let mut asker = Asker::new(question);
        assert!(answers(&mut asker, "/"));
        assert_eq!(asker.ask(Path::new("/secret"), SOON), Answer::Refused);
        for mount in 0..STUCK_MAX {
            let path = format!("/dead/{mount}");
            assert_eq!(asker.ask(Path::new(&path), SOON), Answer::Silent);
        }
        let before = Instant::now();
        for _ in 0..100 {
            assert_eq!(asker.ask(Path::new("/dead/0"), Duration::from_secs(60)), Answer::Silent);
            assert_eq!(asker.ask(Path::new("/dead/new"), Duration::from_secs(60)), Answer::Silent);
        }
        assert!(
            before.elapsed() < Duration::from_secs(30),
            "waited for a mount that is known dead"
        );
        assert_eq!(asker.stuck.len(), STUCK_MAX, "threads are bounded");

        *GATE.0.lock().expect("not poisoned") = true;
        GATE.1.notify_all();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !answers(&mut asker, "/dead/0") {
            assert!(Instant::now() < deadline, "never came back");
            thread::yield_now();
        }
        assert!(answers(&mut asker, "/"));
    }
}
