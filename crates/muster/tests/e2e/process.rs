//! Real processes, with what they said kept for when a test fails.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

pub(crate) const MUSTER: &str = env!("CARGO_BIN_EXE_muster");

/// `muster` with nothing of our own environment that would configure it.
pub(crate) fn muster() -> Command {
    without_settings(Command::new(MUSTER))
}

/// The small collector when it is built, else the same library as a role of `muster`.
pub(crate) fn collector() -> Command {
    let small = Path::new(MUSTER).with_file_name("muster-collector");
    if small.exists() {
        return without_settings(Command::new(small));
    }
    let mut command = muster();
    command.arg("collector");
    command
}

fn without_settings(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MUSTER_") {
            command.env_remove(name);
        }
    }
    command
}

/// A running process. Killed when dropped; its output is shown when the test panics.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// Bytes of the log that earlier lives left.
    before: usize,
}

impl Process {
    /// Starts it with its output going to `DIR/NAME.log`, after what an earlier life left there.
    pub(crate) fn start(name: &str, dir: &Path, mut command: Command) -> Self {
        let log = dir.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).expect("a log file");
        let before = file.metadata().expect("a log file").len() as usize;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .expect("starts");
        Self { name: name.to_owned(), child, log, before }
    }

    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What was said in this life.
    pub(crate) fn said(&self) -> String {
        self.output().get(self.before..).unwrap_or_default().to_owned()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGKILL: no chance to tidy up.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("is ours to kill");
        self.child.wait().expect("is ours to wait for");
    }

    /// SIGTERM, then its end. Panics when that takes longer than `within`.
    pub(crate) fn stop(&mut self, within: Duration) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("is ours");
        let asked = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("is ours to wait for") {
                return status;
            }
            assert!(asked.elapsed() < within, "{} did not stop within {within:?}", self.name);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let output = self.output();
            let tail = output.lines().rev().take(40).collect::<Vec<_>>();
            let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
            eprintln!("--- the end of what {} said\n{tail}\n---", self.name);
        }
    }
}
