//! Process reports.

use model::{Process, ProcessReport, ProcessState, UnixMillis, limits};

use super::FieldError;
use crate::v1;

pub fn report_to_proto(report: &ProcessReport) -> v1::ProcessReport {
    v1::ProcessReport {
        time_unix_ms: report.time.0,
        processes: report.processes.iter().map(process_to_proto).collect(),
        total: report.total,
        running: report.running,
        blocked: report.blocked,
        zombie: report.zombie,
    }
}

pub fn report_from_proto(report: v1::ProcessReport) -> Result<ProcessReport, FieldError> {
    if report.processes.len() > limits::PROCESSES_PER_REPORT_MAX {
        return Err(FieldError::new(
            "processes",
            format!(
                "{} are more than {}",
                report.processes.len(),
                limits::PROCESSES_PER_REPORT_MAX
            ),
        ));
    }
    let processes = report.processes.into_iter().enumerate();
    Ok(ProcessReport {
        time: UnixMillis(report.time_unix_ms),
        processes: processes
            .map(|(i, p)| process_from_proto(p).map_err(|e| e.within(&format!("processes[{i}]"))))
            .collect::<Result<_, _>>()?,
        total: report.total,
        running: report.running,
        blocked: report.blocked,
        zombie: report.zombie,
    })
}

pub fn process_to_proto(process: &Process) -> v1::Process {
    v1::Process {
        pid: process.pid,
        parent_pid: process.parent_pid,
        name: process.name.clone(),
        command_line: process.command_line.clone(),
        user: process.user.clone(),
        state: process.state.name().to_owned(),
        start_time_unix_ms: process.start_time.0,
        cpu_utilization: process.cpu_utilization,
        memory_bytes: process.memory_bytes,
        disk_read_bytes_per_second: process.disk_read_rate,
        disk_write_bytes_per_second: process.disk_write_rate,
        threads: process.threads,
        container_id: process.container_id.clone(),
    }
}

fn process_from_proto(process: v1::Process) -> Result<Process, FieldError> {
    let texts = [
        ("name", &process.name, limits::LABEL_VALUE_BYTES_MAX),
        ("command_line", &process.command_line, limits::COMMAND_LINE_BYTES_MAX),
        ("user", &process.user, limits::LABEL_VALUE_BYTES_MAX),
        ("container_id", &process.container_id, limits::LABEL_VALUE_BYTES_MAX),
    ];
    for (field, text, bytes_max) in texts {
        if text.len() > bytes_max {
            return Err(FieldError::new(field, format!("longer than {bytes_max} bytes")));
        }
    }
    Ok(Process {
        pid: process.pid,
        parent_pid: process.parent_pid,
        name: process.name,
        command_line: process.command_line,
        user: process.user,
        state: ProcessState::from_name(&process.state),
        start_time: UnixMillis(process.start_time_unix_ms),
        cpu_utilization: process.cpu_utilization,
        memory_bytes: process.memory_bytes,
        disk_read_rate: process.disk_read_bytes_per_second,
        disk_write_rate: process.disk_write_bytes_per_second,
        threads: process.threads,
        container_id: process.container_id,
    })
}
