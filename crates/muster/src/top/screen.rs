//! What `muster top` shows: rows of text made from answers, and the terminal they are painted on.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};

use gateway::format;
use proto::v1;

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Sort {
    #[default]
    Cpu,
    Memory,
    /// Of machines the fullest filesystem, of processes what they read and write.
    Disk,
    Network,
    Load,
    Name,
}

/// One screen: what it is about, and a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Picture {
    pub(super) title: String,
    /// Why what is shown is old.
    pub(super) trouble: Option<String>,
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Column {
    name: &'static str,
    /// Numbers stand to the right.
    right: bool,
    /// Wide enough for what usually comes, so that columns do not move as values do.
    width_min: usize,
}

#[derive(Clone, Debug, PartialEq)]
struct Cell {
    text: String,
    mood: Mood,
}

/// Colour, never the only sign: the text says it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Plain,
    Faint,
    Warning,
    Bad,
}

impl Mood {
    fn of_ratio(ratio: Option<f64>) -> Self {
        match ratio {
            Some(ratio) if ratio >= 0.95 => Self::Bad,
            Some(ratio) if ratio >= 0.8 => Self::Warning,
            Some(_) => Self::Plain,
            None => Self::Faint,
        }
    }

    fn codes(self) -> (&'static str, &'static str) {
        match self {
            Self::Plain => ("", ""),
            Self::Faint => ("\u{1b}[2m", "\u{1b}[0m"),
            Self::Warning => ("\u{1b}[33m", "\u{1b}[0m"),
            Self::Bad => ("\u{1b}[31m", "\u{1b}[0m"),
        }
    }
}

fn cell(text: impl AsRef<str>) -> Cell {
    // What a machine calls itself must not command the terminal.
    let text = text.as_ref().chars().filter(|c| !c.is_control()).collect();
    Cell { text, mood: Mood::Plain }
}

fn ratio(ratio: Option<f64>) -> Cell {
    let text = format::percent(ratio.unwrap_or(f64::NAN));
    Cell { text, mood: Mood::of_ratio(ratio) }
}

fn columns(names: &[(&'static str, bool, usize)]) -> Vec<Column> {
    let column = |&(name, right, width_min)| Column { name, right, width_min };
    names.iter().map(column).collect()
}

/// All machines. Those that do not report come last, whatever they were last heard to do.
pub(super) fn fleet(machines: &[v1::Machine], sort: Sort, now_ms: i64) -> Picture {
    use v1::MachineStatus as S;
    let reports = |m: &v1::Machine| matches!(m.status(), S::Online | S::Stale);
    let mut order: Vec<&v1::Machine> = machines.iter().collect();
    order.sort_by(|a, b| {
        let by_value = largest_first(machine_value(a, sort), machine_value(b, sort));
        let by_status = reports(b).cmp(&reports(a));
        by_status.then(by_value).then_with(|| a.host_name.cmp(&b.host_name)).then(a.id.cmp(&b.id))
    });
    let count = |status: S| machines.iter().filter(|m| m.status() == status).count();
    let mut names: HashMap<&str, usize> = HashMap::new();
    machines.iter().for_each(|m| *names.entry(&m.host_name).or_default() += 1);
    let mut title = format!("{} machines", machines.len());
    if machines.len() == 1 {
        title.truncate("1 machine".len());
    }
    for status in [S::Online, S::Stale, S::Asleep, S::Offline, S::Stopped] {
        if let n @ 1.. = count(status) {
            let _ = write!(title, "  {n} {}", status_name(status));
        }
    }
    Picture {
        title,
        trouble: None,
        columns: columns(&[
            ("MACHINE", false, 0),
            ("STATUS", false, 0),
            ("CPU", true, 5),
            ("MEMORY", true, 0),
            ("DISK", true, 5),
            ("LOAD", true, 5),
            ("RECEIVED", true, 11),
            ("SENT", true, 11),
            ("READ", true, 11),
            ("WRITTEN", true, 11),
            ("TEMP", true, 5),
            ("UP", true, 11),
        ]),
        rows: order
            .into_iter()
            .map(|machine| machine_row(machine, called(machine, &names), now_ms))
            .collect(),
    }
}

/// By its name, and the beginning of its id where others have the same.
fn called(machine: &v1::Machine, names: &HashMap<&str, usize>) -> String {
    match names.get(machine.host_name.as_str()) {
        Some(2..) => format!("{} {:.8}", machine.host_name, machine.id),
        _ => machine.host_name.clone(),
    }
}

fn machine_row(machine: &v1::Machine, name: String, now_ms: i64) -> Vec<Cell> {
    let h = machine.headline.clone().unwrap_or_default();
    let nan = f64::NAN;
    let rate = |rate: Option<f64>| cell(format::bytes_rate(rate.unwrap_or(nan)));
    let mut row = vec![
        cell(name),
        status_cell(machine, now_ms),
        ratio(h.cpu_utilization),
        ratio(h.memory_utilization),
        ratio(h.filesystem_utilization),
        cell(format::number(h.load_1m.unwrap_or(nan))),
        rate(h.network_receive_rate),
        rate(h.network_transmit_rate),
        rate(h.disk_read_rate),
        rate(h.disk_write_rate),
        cell(format::celsius(h.temperature.unwrap_or(nan))),
        cell(format::duration(h.uptime.unwrap_or(nan))),
    ];
    if machine.status() != v1::MachineStatus::Online {
        // Values of a machine that is away are of the past.
        row[2..].iter_mut().for_each(|cell| cell.mood = Mood::Faint);
    }
    row
}

fn status_cell(machine: &v1::Machine, now_ms: i64) -> Cell {
    use v1::MachineStatus as S;
    let status = machine.status();
    let name = status_name(status);
    let since =
        machine.status_since.as_ref().map(|t| t.seconds * 1000 + i64::from(t.nanos) / 1_000_000);
    let text = match since {
        Some(since) if status != S::Online => format!("{name} {}", format::ago(now_ms, since)),
        _ => name.to_owned(),
    };
    let mood = match status {
        S::Online => Mood::Plain,
        S::Stale => Mood::Warning,
        S::Offline => Mood::Bad,
        _ => Mood::Faint,
    };
    Cell { text, mood }
}

fn status_name(status: v1::MachineStatus) -> &'static str {
    use v1::MachineStatus as S;
    match status {
        S::Online => "online",
        S::Stale => "stale",
        S::Asleep => "asleep",
        S::Offline => "offline",
        S::Stopped => "stopped",
        S::Unspecified => "unknown",
    }
}

fn machine_value(machine: &v1::Machine, sort: Sort) -> Option<f64> {
    let h = machine.headline.as_ref()?;
    match sort {
        Sort::Cpu => h.cpu_utilization,
        Sort::Memory => h.memory_utilization,
        Sort::Disk => h.filesystem_utilization,
        Sort::Network => {
            let both = [h.network_receive_rate, h.network_transmit_rate];
            both.iter().any(Option::is_some).then(|| both.iter().flatten().sum())
        }
        Sort::Load => h.load_1m,
        Sort::Name => None,
    }
}

/// One machine's processes, and how the machine does.
pub(super) fn processes(
    machine: &v1::Machine,
    report: &v1::ListProcessesResponse,
    sort: Sort,
    now_ms: i64,
) -> Picture {
    let h = machine.headline.clone().unwrap_or_default();
    let percent = |ratio: Option<f64>| format::percent(ratio.unwrap_or(f64::NAN));
    let title = format!(
        "{}  {}  cpu {}  memory {}  load {}  {} processes, {} running",
        cell(&machine.host_name).text,
        status_cell(machine, now_ms).text,
        percent(h.cpu_utilization),
        percent(h.memory_utilization),
        format::number(h.load_1m.unwrap_or(f64::NAN)),
        report.total,
        report.running,
    );
    let mut order: Vec<&v1::Process> = report.processes.iter().collect();
    order.sort_by(|a, b| {
        let by_value = largest_first(process_value(a, sort), process_value(b, sort));
        by_value.then_with(|| a.name.cmp(&b.name)).then(a.pid.cmp(&b.pid))
    });
    Picture {
        title,
        trouble: None,
        columns: columns(&[
            ("PID", true, 7),
            ("USER", false, 8),
            ("CPU", true, 5),
            ("MEMORY", true, 8),
            ("READ", true, 11),
            ("WRITTEN", true, 11),
            ("STATE", false, 8),
            ("COMMAND", false, 0),
        ]),
        rows: order.into_iter().map(process_row).collect(),
    }
}

fn process_row(process: &v1::Process) -> Vec<Cell> {
    let command = match process.command_line.is_empty() {
        true => &process.name,
        false => &process.command_line,
    };
    vec![
        cell(process.pid.to_string()),
        cell(&process.user),
        cell(format::percent(process.cpu_utilization)),
        cell(format::bytes(process.memory_bytes as f64)),
        cell(format::bytes_rate(process.disk_read_bytes_per_second)),
        cell(format::bytes_rate(process.disk_write_bytes_per_second)),
        cell(&process.state),
        cell(command),
    ]
}

fn process_value(process: &v1::Process, sort: Sort) -> Option<f64> {
    Some(match sort {
        // Of a process neither is known.
        Sort::Cpu | Sort::Load | Sort::Network => process.cpu_utilization,
        Sort::Memory => process.memory_bytes as f64,
        Sort::Disk => process.disk_read_bytes_per_second + process.disk_write_bytes_per_second,
        Sort::Name => return None,
    })
}

/// What has no value comes last.
fn largest_first(a: Option<f64>, b: Option<f64>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => b.total_cmp(&a),
        (a, b) => b.is_some().cmp(&a.is_some()),
    }
}

impl Picture {
    /// All rows, without colours, no line longer than `width`.
    pub(super) fn plain(&self, width: usize) -> String {
        self.lines(width, usize::MAX, false).into_iter().map(|line| line + "\n").collect()
    }

    /// As many rows as fit, and how many do not.
    fn lines(&self, width: usize, height: usize, colours: bool) -> Vec<String> {
        let mut lines = vec![cut(&self.title, width)];
        if let Some(trouble) = &self.trouble {
            let (on, off) = if colours { Mood::Bad.codes() } else { Mood::Plain.codes() };
            let text =
                cut(&format!("what is shown is old: {}; trying again", cell(trouble).text), width);
            lines.push(format!("{on}{text}{off}"));
        }
        lines.push(String::new());
        let widths = self.widths();
        lines.push(self.line(&widths, width, |at| (self.columns[at].name, Mood::Faint), colours));
        let room = height.saturating_sub(lines.len());
        let fit = if self.rows.len() > room { room.saturating_sub(1) } else { self.rows.len() };
        for row in &self.rows[..fit] {
            lines.push(self.line(&widths, width, |at| (&row[at].text, row[at].mood), colours));
        }
        if let hidden @ 1.. = self.rows.len() - fit {
            lines.push(cut(&format!("… and {hidden} more"), width));
        }
        lines.truncate(height);
        lines
    }

    fn widths(&self) -> Vec<usize> {
        let width = |(at, column): (usize, &Column)| {
            let cells = self.rows.iter().map(|row| row[at].text.chars().count());
            let least = column.width_min.max(column.name.len());
            cells.max().unwrap_or(0).max(least).min(CELL_WIDTH_MAX)
        };
        self.columns.iter().enumerate().map(width).collect()
    }

    /// Columns that do not fit any more are left out, except that the last one is cut.
    fn line<'a>(
        &'a self,
        widths: &[usize],
        width: usize,
        text: impl Fn(usize) -> (&'a str, Mood),
        colours: bool,
    ) -> String {
        let (mut line, mut used) = (String::new(), 0);
        for (at, column) in self.columns.iter().enumerate() {
            let gap = if at == 0 { 0 } else { 2 };
            let is_last = at + 1 == self.columns.len();
            let room = width.saturating_sub(used + gap);
            let cell = match is_last && !column.right {
                true => room,
                false => widths[at],
            };
            if cell == 0 || cell > room {
                break;
            }
            let (text, mood) = text(at);
            let text = cut(text, cell);
            let blank = " ".repeat(cell - text.chars().count());
            let (on, off) = if colours { mood.codes() } else { Mood::Plain.codes() };
            let _ = match column.right {
                true => write!(line, "{:gap$}{blank}{on}{text}{off}", ""),
                false => write!(line, "{:gap$}{on}{text}{off}{blank}", ""),
            };
            used += gap + cell;
        }
        line.trim_end().to_owned()
    }
}

/// Wider ones are cut, so that one long name does not push everything off the screen.
const CELL_WIDTH_MAX: usize = 32;

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept = text.chars().take(width.saturating_sub(1));
    kept.chain((width > 0).then_some('…')).collect()
}

/// Columns and rows of the terminal, or what a script gets.
pub(super) fn size() -> (usize, usize) {
    let size = terminal_size::terminal_size();
    size.map_or((160, usize::MAX), |(width, height)| (width.0.into(), height.0.into()))
}

/// The screen, given back as it was when this is dropped.
#[derive(Debug)]
pub(super) struct Terminal(());

impl Terminal {
    pub(super) fn take() -> io::Result<Self> {
        let terminal = Self(());
        // Another screen, without a cursor.
        write!(io::stdout(), "\u{1b}[?1049h\u{1b}[?25l")?;
        Ok(terminal)
    }

    /// Paints over what was there, in one write: a terminal that is emptied first flickers.
    pub(super) fn show(&mut self, picture: &Picture) -> io::Result<()> {
        let (width, height) = size();
        let mut text = "\u{1b}[H".to_owned();
        let lines = picture.lines(width, height, true);
        for (at, line) in lines.iter().enumerate() {
            let end = if at + 1 == lines.len() { "" } else { "\r\n" };
            let _ = write!(text, "{line}\u{1b}[K{end}");
        }
        text.push_str("\u{1b}[J");
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let mut out = io::stdout();
        let _ = write!(out, "\u{1b}[?25h\u{1b}[?1049l").and_then(|()| out.flush());
    }
}

#[cfg(test)]
mod tests {
    use v1::MachineStatus as S;

    use super::*;

    fn machine(name: &str, status: S, cpu: f64, memory: f64) -> v1::Machine {
        v1::Machine {
            id: format!("id-of-{name}"),
            host_name: name.into(),
            status: status.into(),
            status_since: Some(prost_types::Timestamp { seconds: 40, nanos: 0 }),
            headline: Some(v1::Headline {
                cpu_utilization: Some(cpu),
                memory_utilization: Some(memory),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn names(picture: &Picture, at: usize) -> Vec<&str> {
        picture.rows.iter().map(|row| row[at].text.as_str()).collect()
    }

    #[test]
    fn the_busiest_come_first_and_who_is_away_last() {
        let fleet = |sort| {
            let all = [
                machine("calm", S::Online, 0.1, 0.9),
                machine("away", S::Offline, 1.0, 1.0),
                machine("busy", S::Stale, 0.9, 0.2),
                v1::Machine {
                    host_name: "new".into(),
                    status: S::Online.into(),
                    ..Default::default()
                },
            ];
            super::fleet(&all, sort, 100_000)
        };
        assert_eq!(names(&fleet(Sort::Cpu), 0), ["busy", "calm", "new", "away"]);
        assert_eq!(names(&fleet(Sort::Memory), 0), ["calm", "busy", "new", "away"]);
        assert_eq!(names(&fleet(Sort::Name), 0), ["busy", "calm", "new", "away"]);
        let picture = fleet(Sort::Cpu);
        assert_eq!(picture.title, "4 machines  2 online  1 stale  1 offline");
        assert_eq!(names(&picture, 1), ["stale 60 s ago", "online", "online", "offline 60 s ago"]);
        assert_eq!(names(&picture, 2), ["90 %", "10 %", "–", "100 %"]);
    }

    #[test]
    fn machines_of_one_name_are_told_apart_by_their_ids() {
        let twin =
            |id: &str, cpu| v1::Machine { id: id.into(), ..machine("vm", S::Online, cpu, 0.5) };
        let all =
            [twin("0a1b2c3d4e", 0.2), twin("ffffffffff", 0.1), machine("db", S::Online, 0.0, 0.5)];
        assert_eq!(names(&fleet(&all, Sort::Cpu, 0), 0), ["vm 0a1b2c3d", "vm ffffffff", "db"]);
    }

    #[test]
    fn one_machine_is_one_machine() {
        let picture = fleet(&[machine("a", S::Online, 0.0, 0.0)], Sort::Cpu, 0);
        assert_eq!(picture.title, "1 machine  1 online");
        assert_eq!(fleet(&[], Sort::Cpu, 0).title, "0 machines");
    }

    #[test]
    fn processes_are_ordered_by_what_was_asked_for() {
        let process = |pid, name: &str, cpu, memory| v1::Process {
            pid,
            name: name.into(),
            cpu_utilization: cpu,
            memory_bytes: memory,
            ..Default::default()
        };
        let report = v1::ListProcessesResponse {
            processes: vec![process(1, "b", 0.2, 300), process(2, "a", 1.5, 100)],
            total: 90,
            running: 2,
            ..Default::default()
        };
        let machine = machine("web-1", S::Online, 0.5, 0.25);
        let shown = |sort| {
            let picture = processes(&machine, &report, sort, 0);
            names(&picture, 7).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(shown(Sort::Cpu), ["a", "b"]);
        assert_eq!(shown(Sort::Memory), ["b", "a"]);
        assert_eq!(shown(Sort::Name), ["a", "b"]);
        let title = processes(&machine, &report, Sort::Cpu, 0).title;
        assert_eq!(title, "web-1  online  cpu 50 %  memory 25 %  load –  90 processes, 2 running");
    }

    #[test]
    fn a_picture_fits_the_screen_and_says_what_does_not() {
        let all: Vec<_> =
            (0..50).map(|n| machine(&format!("m{n:02}"), S::Online, 0.5, 0.5)).collect();
        let mut picture = fleet(&all, Sort::Cpu, 0);
        let lines = picture.lines(31, 10, false);
        assert_eq!(lines.len(), 10);
        assert!(lines.iter().all(|line| line.chars().count() <= 31), "{lines:?}");
        assert_eq!(lines[9], "… and 44 more");
        assert_eq!(lines[2], "MACHINE  STATUS    CPU  MEMORY");
        assert_eq!(lines[3], "m00      online   50 %    50 %");
        picture.trouble = Some("the server is \u{1b}[2Jaway".into());
        let lines = picture.lines(80, 10, false);
        assert_eq!(lines[1], "what is shown is old: the server is [2Jaway; trying again");
        assert_eq!(lines.len(), 10);
        assert_eq!(picture.lines(0, 0, true), Vec::<String>::new());
        assert_eq!(picture.plain(80).lines().count(), 54);
    }

    #[test]
    fn a_name_never_commands_the_terminal() {
        let picture = fleet(&[machine("a\u{1b}[2Jb\n", S::Online, 0.99, 0.5)], Sort::Cpu, 0);
        let lines = picture.lines(80, 10, true).join("\n");
        assert!(lines.contains("a[2Jb"), "{lines}");
        assert!(!lines.contains("\u{1b}[2J"), "{lines}");
        assert!(lines.contains("\u{1b}[31m99 %\u{1b}[0m"), "{lines}");
    }
}
