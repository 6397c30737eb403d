//! Counts of processes by state, and the report of those that use the most.
//!
//! One pass over all processes reads one small file each; names, users and command lines are read only
//! for those that are reported, and kept as long as the process lives.

use std::collections::HashSet;
use std::time::Instant;

use model::metric::{PROCESS_COUNT, PROCESS_CREATED, PROCESS_WATCHED};
use model::{Process, ProcessReport, ProcessState, UnixMillis};

use super::source::Source;
use super::watch::Watch;
use crate::probe::quantise::ratio;
use crate::probe::{At, Probe, Setup, Sheet};
use details::Reader;
use stat::parse_system_stat;
use table::{Row, Table};

mod details;
mod stat;
mod table;
mod users;

struct Processes {
    system_stat: Source,
    table: Table,
    reader: Reader,
    top: usize,
    watch: Watch,
    before: Option<Instant>,
    ticks_per_second: f64,
    page_bytes: u64,
}

pub(super) fn open(setup: &Setup) -> Box<dyn Probe> {
    let proc_root = &setup.config.proc_root;
    Box::new(Processes {
        system_stat: Source::new(proc_root.join("stat")),
        table: Table::new(proc_root.clone()),
        reader: Reader::new(),
        top: setup.config.processes_top,
        watch: Watch::new(setup.config.watched_processes.clone()),
        before: None,
        ticks_per_second: rustix::param::clock_ticks_per_second() as f64,
        page_bytes: rustix::param::page_size() as u64,
    })
}

impl Probe for Processes {
    fn read(&mut self, at: At, sheet: &mut Sheet) -> anyhow::Result<()> {
        let system = parse_system_stat(&self.system_stat.text()?)?;
        let elapsed = self.before.map(|before| (at.instant - before).as_secs_f64());
        self.table.scan(at.instant)?;
        self.before = Some(at.instant);

        let counts = Counts::of(self.table.rows());
        for (state, count) in counts.by_state() {
            sheet.put(&PROCESS_COUNT, [("process.state", state)], f64::from(count));
        }
        sheet.put(&PROCESS_CREATED, [], system.created as f64);
        if !self.watch.is_empty() {
            let mut watched = self.watch.tally();
            for row in self.table.rows().iter().filter(|row| row.state != ProcessState::Zombie) {
                watched.see_process(&String::from_utf8_lossy(self.table.name(row.pid)));
            }
            watched.put(sheet, &PROCESS_WATCHED, "process.pattern", false);
        }
        // CPU shares are of the time between two passes, so the first gives no report.
        let Some(elapsed) = elapsed.filter(|elapsed| *elapsed > 0.0) else {
            sheet.again_soon();
            return Ok(());
        };
        let ticks = elapsed * self.ticks_per_second;
        let mut processes = Vec::new();
        for index in top_rows(self.table.rows(), self.top) {
            let row = self.table.rows()[index];
            let Some(details) = self.reader.details(&mut self.table, index) else {
                continue;
            };
            let started = row.start_ticks as f64 / self.ticks_per_second * 1000.0;
            let start_time = details
                .start_time
                .get_or_insert(UnixMillis(system.boot_time_s * 1000 + started as i64));
            processes.push(Process {
                pid: row.pid,
                parent_pid: row.parent_pid,
                name: details.name.clone(),
                command_line: details.command_line.clone(),
                user: details.user.clone(),
                state: row.state,
                start_time: *start_time,
                cpu_utilization: ratio(row.cpu_ticks_new as f64 / ticks),
                memory_bytes: row.resident_pages * self.page_bytes,
                disk_read_rate: row.read_rate.round(),
                disk_write_rate: row.write_rate.round(),
                threads: row.threads,
                container_id: details.container_id.clone(),
            });
        }
        processes.sort_by(|a, b| {
            b.cpu_utilization
                .total_cmp(&a.cpu_utilization)
                .then(b.memory_bytes.cmp(&a.memory_bytes))
                .then(a.pid.cmp(&b.pid))
        });
        sheet.processes(ProcessReport {
            time: at.wall,
            processes,
            total: counts.total,
            running: counts.running,
            blocked: counts.blocked,
            zombie: counts.zombie,
        });
        Ok(())
    }
}

#[derive(Debug, Default, PartialEq)]
struct Counts {
    total: u32,
    running: u32,
    sleeping: u32,
    blocked: u32,
    zombie: u32,
    stopped: u32,
}

impl Counts {
    fn of(rows: &[Row]) -> Self {
        let mut counts = Self { total: rows.len() as u32, ..Self::default() };
        for row in rows {
            let count = match row.state {
                ProcessState::Running => &mut counts.running,
                ProcessState::Blocked => &mut counts.blocked,
                ProcessState::Zombie => &mut counts.zombie,
                ProcessState::Stopped => &mut counts.stopped,
                // Idle kernel threads sleep too.
                ProcessState::Sleeping | ProcessState::Idle | ProcessState::Unknown => {
                    &mut counts.sleeping
                }
            };
            *count += 1;
        }
        counts
    }

    fn by_state(&self) -> [(&'static str, u32); 5] {
        [
            ("running", self.running),
            ("sleeping", self.sleeping),
            ("blocked", self.blocked),
            ("zombie", self.zombie),
            ("stopped", self.stopped),
        ]
    }
}

/// Indices of the `top` rows by CPU, by memory and by disk I/O, each row once. What uses nothing of a
/// kind is not among its top.
fn top_rows(rows: &[Row], top: usize) -> Vec<usize> {
    let mut chosen = HashSet::new();
    let mut take = |usage: &dyn Fn(&Row) -> f64| {
        let mut order: Vec<(f64, usize)> = rows
            .iter()
            .enumerate()
            .map(|(index, row)| (usage(row), index))
            .filter(|(used, _)| *used > 0.0)
            .collect();
        if order.len() > top && top > 0 {
            order.select_nth_unstable_by(top - 1, |a, b| b.0.total_cmp(&a.0));
        }
        chosen.extend(order.into_iter().take(top).map(|(_, index)| index));
    };
    take(&|row| row.cpu_ticks_new as f64);
    take(&|row| row.resident_pages as f64);
    take(&|row| row.read_rate + row.write_rate);
    let mut chosen: Vec<usize> = chosen.into_iter().collect();
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cpu: u64, memory: u64, io: f64) -> Row {
        Row { cpu_ticks_new: cpu, resident_pages: memory, write_rate: io, ..Row::default() }
    }

    #[test]
    fn the_top_is_the_union_over_what_can_be_used() {
        let rows = [
            row(0, 10, 0.0),
            row(90, 20, 0.0),
            row(0, 900, 0.0),
            row(0, 30, 5e6),
            row(50, 40, 0.0),
            row(0, 0, 0.0),
        ];
        assert_eq!(top_rows(&rows, 1), [1, 2, 3]);
        assert_eq!(top_rows(&rows, 2), [1, 2, 3, 4]);
        assert_eq!(top_rows(&rows, 100), [0, 1, 2, 3, 4], "what uses nothing is not listed");
        assert!(top_rows(&rows, 0).is_empty());
        assert!(top_rows(&[], 5).is_empty());
    }

    #[test]
    fn watched_processes_are_counted_by_name_also_when_none_runs() {
        let own = std::fs::read_to_string("/proc/self/comm").expect("a Linux with procfs");
        let own = own.trim_end();
        let config = crate::probe::ProberConfig {
            watched_processes: vec![own.to_owned(), "there-is-none".to_owned()],
            ..crate::probe::ProberConfig::default()
        };
        let vitals = std::sync::Arc::new(crate::probe::vitals::Vitals::new(std::iter::empty()));
        let mut probe = open(&Setup { config, stats: std::sync::Arc::default(), vitals });
        let mut sheet = Sheet::default();
        let at = At { wall: UnixMillis(0), instant: Instant::now() };
        probe.read(at, &mut sheet).expect("readable");
        let (layout, values) = sheet.finish().expect("valid").filled.expect("series");
        let count = |pattern: &str| {
            let series = layout.series().iter().position(|series| {
                *series.metric == *PROCESS_WATCHED.name
                    && series.labels.get("process.pattern") == pattern
            });
            values[series.expect("always there")]
        };
        assert!(count(own) >= 1.0, "this very process");
        assert_eq!(count("there-is-none"), 0.0);
    }

    #[test]
    fn every_process_is_counted_in_one_state() {
        let states = ProcessState::ALL.map(|state| Row { state, ..Row::default() });
        let counts = Counts::of(&states);
        assert_eq!(counts.by_state().iter().map(|(_, n)| n).sum::<u32>(), counts.total);
        assert_eq!(counts.sleeping, 3);
    }
}
