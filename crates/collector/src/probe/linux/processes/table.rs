//! All processes at one instant, and what is remembered of each while it lives.

use std::collections::HashMap;
use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use model::ProcessState;
use rustix::fs::{CWD, Mode, OFlags, RawDir, openat};

use super::details::Details;
use super::stat;

/// More processes than this are not looked at: the machine has other worries.
const PROCESSES_MAX: usize = 100_000;

/// One process now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Row {
    pub(super) pid: u32,
    pub(super) parent_pid: u32,
    pub(super) state: ProcessState,
    pub(super) threads: u32,
    pub(super) start_ticks: u64,
    pub(super) resident_pages: u64,
    /// CPU time since the scan before, or since it started when it is newer than that.
    pub(super) cpu_ticks_new: u64,
    /// Bytes per second since the scan before.
    pub(super) read_rate: f64,
    pub(super) write_rate: f64,
}

/// What a process had used by the latest scan.
#[derive(Debug)]
struct Known {
    start_ticks: u64,
    cpu_ticks: u64,
    io: Io,
    name: [u8; 16],
    scan: u64,
    details: Option<Box<Details>>,
}

/// Bytes that a process moved from and to storage.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Io {
    /// Not looked at yet.
    Unknown,
    /// Of another user: never asked again.
    Forbidden,
    At {
        when: Instant,
        read: u64,
        written: u64,
    },
}

/// Reads `/proc` without an allocation per process.
pub(super) struct Table {
    root: PathBuf,
    proc_dir: Option<OwnedFd>,
    rows: Vec<Row>,
    known: HashMap<u32, Known>,
    scans: u64,
    entries: Vec<u8>,
    content: Vec<u8>,
}

impl Table {
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            proc_dir: None,
            rows: Vec::new(),
            known: HashMap::new(),
            scans: 0,
            entries: Vec::with_capacity(16 * 1024),
            content: vec![0; 4096],
        }
    }

    /// The processes of the latest scan.
    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Looks at every process. One that ends meanwhile is left out.
    pub(super) fn scan(&mut self, now: Instant) -> anyhow::Result<()> {
        let first = self.scans == 0;
        self.scans += 1;
        self.rows.clear();
        for pid in self.pids().with_context(|| format!("cannot list {}", self.root.display()))? {
            if let Some(row) = self.look(pid, now, first) {
                self.rows.push(row);
            }
        }
        let scans = self.scans;
        self.known.retain(|_, known| known.scan == scans);
        Ok(())
    }

    fn pids(&mut self) -> io::Result<Vec<u32>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // Opened anew: a directory that was read to its end stays there.
        let dir = openat(CWD, &self.root, flags, Mode::empty())?;
        let mut pids = Vec::with_capacity(self.known.len() + 16);
        let mut entries = RawDir::new(&dir, self.entries.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            if let Some(pid) = stat::digits(entry?.file_name().to_bytes())
                && pids.len() < PROCESSES_MAX
            {
                pids.push(u32::try_from(pid).unwrap_or(0));
            }
        }
        self.proc_dir = Some(dir);
        Ok(pids)
    }

    fn look(&mut self, pid: u32, now: Instant, first_scan: bool) -> Option<Row> {
        let len = self.read(pid, b"stat").ok()?;
        let stat = stat::parse(&self.content[..len])?;
        let mut name = [0; 16];
        let kept = stat.name.len().min(name.len());
        name[..kept].copy_from_slice(&stat.name[..kept]);
        let (start_ticks, cpu_ticks) = (stat.start_ticks, stat.cpu_ticks);
        let mut row = Row {
            pid,
            parent_pid: stat.parent_pid,
            state: stat.state,
            threads: stat.threads,
            start_ticks,
            resident_pages: stat.resident_pages,
            ..Row::default()
        };
        let before = self.known.get_mut(&pid).filter(|known| known.start_ticks == start_ticks);
        let io_before = match before {
            Some(known) => {
                row.cpu_ticks_new = cpu_ticks.saturating_sub(known.cpu_ticks);
                known.cpu_ticks = cpu_ticks;
                known.scan = self.scans;
                if known.name != name {
                    // It became another program.
                    known.name = name;
                    known.details = None;
                }
                known.io
            }
            None => {
                row.cpu_ticks_new = if first_scan { 0 } else { cpu_ticks };
                let (scan, io) = (self.scans, Io::Unknown);
                let known = Known { start_ticks, cpu_ticks, io, name, scan, details: None };
                self.known.insert(pid, known);
                Io::Unknown
            }
        };
        // Moving bytes takes CPU time: a process that used none needs no second file read.
        if io_before != Io::Forbidden && (io_before == Io::Unknown || row.cpu_ticks_new > 0) {
            let io = self.read_io(pid, now);
            (row.read_rate, row.write_rate) = rates(io_before, io);
            if let Some(known) = self.known.get_mut(&pid) {
                known.io = io;
            }
        }
        Some(row)
    }

    fn read_io(&mut self, pid: u32, now: Instant) -> Io {
        match self.read(pid, b"io") {
            Ok(len) => parse_io(&self.content[..len])
                .map_or(Io::Unknown, |(read, written)| Io::At { when: now, read, written }),
            Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => Io::Forbidden,
            Err(_) => Io::Unknown,
        }
    }

    /// Reads the beginning of a file of a process into the buffer; returns how long it is.
    fn read(&mut self, pid: u32, file: &[u8]) -> rustix::io::Result<usize> {
        let dir = self.proc_dir.as_ref().ok_or(rustix::io::Errno::NOENT)?;
        let mut path = [0; 32];
        let path = process_path(pid, file, &mut path).ok_or(rustix::io::Errno::NAMETOOLONG)?;
        let file = openat(dir, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut len = 0;
        // The kernel may give a command line in parts.
        while len < self.content.len() {
            match rustix::io::read(&file, &mut self.content[len..])? {
                0 => break,
                more => len += more,
            }
            if len < 1024 {
                // Short files come whole; another call would only confirm the end.
                break;
            }
        }
        Ok(len)
    }

    /// A file of a process, at most its first 4 KiB.
    pub(super) fn file(&mut self, pid: u32, file: &[u8]) -> Option<&[u8]> {
        let len = self.read(pid, file).ok()?;
        Some(&self.content[..len])
    }

    /// Who a process runs as.
    pub(super) fn user_id(&self, pid: u32) -> Option<u32> {
        let mut path = [0; 32];
        let path = process_path(pid, b"", &mut path)?;
        let stat = rustix::fs::statat(self.proc_dir.as_ref()?, path, rustix::fs::AtFlags::empty());
        stat.ok().map(|stat| stat.st_uid)
    }

    /// The kernel's name of a process; empty when there is none.
    pub(super) fn name(&self, pid: u32) -> &[u8] {
        self.known.get(&pid).map_or(&[], |known| until_zero(&known.name))
    }

    /// The kernel's name of a process, and the place where its details are kept.
    pub(super) fn remembered(&mut self, pid: u32) -> Option<(&[u8], &mut Option<Box<Details>>)> {
        let known = self.known.get_mut(&pid)?;
        Some((until_zero(&known.name), &mut known.details))
    }
}

fn until_zero(name: &[u8]) -> &[u8] {
    &name[..name.iter().position(|&b| b == 0).unwrap_or(name.len())]
}

/// `<pid>/<file>` in a buffer, or `<pid>` when the file is empty.
fn process_path<'a>(pid: u32, file: &[u8], buffer: &'a mut [u8; 32]) -> Option<&'a CStr> {
    let mut digits = [0; 10];
    let mut at = digits.len();
    let mut rest = pid;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let digits = &digits[at..];
    let mut len = digits.len();
    buffer[..len].copy_from_slice(digits);
    if !file.is_empty() {
        buffer[len] = b'/';
        buffer.get_mut(len + 1..len + 1 + file.len())?.copy_from_slice(file);
        len += 1 + file.len();
    }
    *buffer.get_mut(len)? = 0;
    CStr::from_bytes_with_nul(&buffer[..=len]).ok()
}

/// Bytes read and written, from `/proc/<pid>/io`.
fn parse_io(content: &[u8]) -> Option<(u64, u64)> {
    let value = |name: &[u8]| {
        let mut lines = content.split(|&b| b == b'\n');
        stat::digits(lines.find_map(|line| line.strip_prefix(name))?.trim_ascii())
    };
    Some((value(b"read_bytes:")?, value(b"write_bytes:")?))
}

fn rates(before: Io, now: Io) -> (f64, f64) {
    match (before, now) {
        (
            Io::At { when: then, read: read_before, written: written_before },
            Io::At { when, read, written },
        ) if when > then => {
            let seconds = (when - then).as_secs_f64();
            let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
            (rate(read, read_before), rate(written, written_before))
        }
        _ => (0.0, 0.0),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn paths_of_processes_are_written_by_hand_correctly() {
        fn check(pid: u32, file: &[u8], expected: &str) {
            let mut buffer = [0; 32];
            let path = process_path(pid, file, &mut buffer).expect("fits");
            assert_eq!(path.to_str(), Ok(expected));
        }
        check(0, b"stat", "0/stat");
        check(1, b"io", "1/io");
        check(4_294_967_295, b"cmdline", "4294967295/cmdline");
        check(120, b"", "120");
        assert!(process_path(1, &[b'x'; 40], &mut [0; 32]).is_none());
    }

    #[test]
    fn io_is_what_reached_storage() {
        let recorded = b"rchar: 6976\nwchar: 3\nsyscr: 10\nsyscw: 0\nread_bytes: 4096\n\
                         write_bytes: 8192\ncancelled_write_bytes: 0\n";
        assert_eq!(parse_io(recorded), Some((4096, 8192)));
        assert_eq!(parse_io(b"rchar: 1\n"), None);
    }

    #[test]
    fn rates_need_two_looks_and_never_go_below_zero() {
        let then = Instant::now();
        let at = |s, read, written| Io::At { when: then + Duration::from_secs(s), read, written };
        assert_eq!(rates(Io::Unknown, at(0, 5, 5)), (0.0, 0.0));
        assert_eq!(rates(at(0, 100, 50), at(2, 300, 40)), (100.0, 0.0));
        assert_eq!(rates(at(1, 0, 0), at(1, 9, 9)), (0.0, 0.0));
    }

    #[test]
    fn this_process_is_found_with_what_it_used_since_the_scan_before() {
        let mut table = Table::new("/proc".into());
        let own = std::process::id();
        let then = Instant::now();
        table.scan(then).expect("there is a /proc");
        let row = |table: &Table| *table.rows().iter().find(|r| r.pid == own).expect("listed");
        assert_eq!(row(&table).cpu_ticks_new, 0, "no base yet");
        // Clock ticks are 10 ms; burn some.
        let mut sum = 0u64;
        while then.elapsed() < Duration::from_millis(150) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        table.scan(Instant::now()).expect("there is a /proc");
        assert!(row(&table).cpu_ticks_new > 0);
        assert!(row(&table).resident_pages > 0);
        assert!(table.rows().len() <= table.known.len());
    }
}
