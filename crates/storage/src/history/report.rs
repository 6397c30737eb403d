//! A process report as bytes, in storage's own form: a version, then plain fields. Reports of a stretch are
//! very much alike, so they are compressed together and need no cleverness here.

use model::{Process, ProcessReport, ProcessState, UnixMillis};

use super::cursor::{Cursor, Damaged, put_signed, put_text, put_varint};
use super::values;

const VERSION: u8 = 1;

/// How states are written; appended to, never changed.
const STATES: [ProcessState; 7] = [
    ProcessState::Unknown,
    ProcessState::Running,
    ProcessState::Sleeping,
    ProcessState::Blocked,
    ProcessState::Zombie,
    ProcessState::Stopped,
    ProcessState::Idle,
];

pub(crate) fn encode(report: &ProcessReport) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + report.processes.len() * 160);
    out.push(VERSION);
    put_signed(&mut out, report.time.0);
    for count in [report.total, report.running, report.blocked, report.zombie] {
        put_varint(&mut out, count.into());
    }
    put_varint(&mut out, report.processes.len() as u64);
    for process in &report.processes {
        put_process(&mut out, process);
    }
    out
}

/// What tells a process from others first, what changes from report to report last: like stands by like.
fn put_process(out: &mut Vec<u8>, process: &Process) {
    put_varint(out, process.pid.into());
    put_varint(out, process.parent_pid.into());
    put_signed(out, process.start_time.0);
    for text in [&process.name, &process.command_line, &process.user, &process.container_id] {
        put_text(out, text);
    }
    let state = STATES.iter().position(|&s| s == process.state).unwrap_or_default();
    put_varint(out, state as u64);
    put_varint(out, process.threads.into());
    put_varint(out, process.memory_bytes);
    for value in [process.cpu_utilization, process.disk_read_rate, process.disk_write_rate] {
        values::put(out, value);
    }
}

/// Reads one report from the front of the cursor.
pub(crate) fn take(cursor: &mut Cursor<'_>) -> Result<ProcessReport, Damaged> {
    if cursor.byte()? != VERSION {
        return Err(Damaged("it is of an unknown version"));
    }
    let mut report = ProcessReport {
        time: UnixMillis(cursor.signed()?),
        total: number(cursor)?,
        running: number(cursor)?,
        blocked: number(cursor)?,
        zombie: number(cursor)?,
        processes: Vec::new(),
    };
    for _ in 0..cursor.count()? {
        report.processes.push(take_process(cursor)?);
    }
    Ok(report)
}

fn take_process(cursor: &mut Cursor<'_>) -> Result<Process, Damaged> {
    Ok(Process {
        pid: number(cursor)?,
        parent_pid: number(cursor)?,
        start_time: UnixMillis(cursor.signed()?),
        name: cursor.text()?.to_owned(),
        command_line: cursor.text()?.to_owned(),
        user: cursor.text()?.to_owned(),
        container_id: cursor.text()?.to_owned(),
        state: STATES.get(number(cursor)? as usize).copied().unwrap_or_default(),
        threads: number(cursor)?,
        memory_bytes: cursor.varint()?,
        cpu_utilization: values::take(cursor)?,
        disk_read_rate: values::take(cursor)?,
        disk_write_rate: values::take(cursor)?,
    })
}

fn number(cursor: &mut Cursor<'_>) -> Result<u32, Damaged> {
    u32::try_from(cursor.varint()?).map_err(|_| Damaged("a number is too large"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_report_comes_back() {
        let mut report = ProcessReport {
            time: UnixMillis(1_700_000_000_123),
            total: 312,
            running: 2,
            ..ProcessReport::default()
        };
        for (pid, state) in STATES.into_iter().enumerate() {
            report.processes.push(Process {
                pid: pid as u32 + 1,
                parent_pid: u32::MAX,
                name: "compiler".into(),
                command_line: "compiler --token *** é".into(),
                user: "dev".into(),
                state,
                start_time: UnixMillis(-5),
                cpu_utilization: 1.2345,
                memory_bytes: u64::MAX,
                disk_read_rate: 0.1 + 0.2,
                disk_write_rate: 0.0,
                threads: 8,
                container_id: String::new(),
            });
        }
        let bytes = encode(&report);
        let mut cursor = Cursor::new(&bytes);
        assert_eq!(take(&mut cursor), Ok(report));
        assert!(cursor.is_empty());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = take(&mut Cursor::new(&bytes));
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            let _ = take(&mut Cursor::new(&bytes));
        }
    }
}
