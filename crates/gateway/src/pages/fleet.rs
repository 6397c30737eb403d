//! `/`: every machine as a row.

use std::collections::HashMap;

use askama::Template;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse as _, Response};
use proto::v1;

mod group;

use group::Heading;

use super::Page;
use super::badge::{Badge, Badges, badges};
use super::page::{html, is_htmx};
use crate::api::{Params, now_ms};
use crate::format;
use crate::gateway::Shared;
use crate::live::{Link, Picture};
use crate::view::{MachineLine, Totals};

#[derive(Template)]
#[template(path = "fleet.html")]
struct FleetPage {
    page: Page,
    fleet: Fleet,
}

/// The table alone; fetched when machines come or go, or when a large fleet is ordered anew.
#[derive(Template)]
#[template(path = "fleet/list.html")]
struct FleetList {
    page: Page,
    fleet: Fleet,
}

/// The next rows of a large fleet, which take the place of the row that asked for them.
#[derive(Template)]
#[template(path = "fleet/rows.html")]
struct FleetRows {
    page: Page,
    fleet: Fleet,
}

/// A fleet up to this size is on the page as a whole, and scripts order and filter it; a larger one is
/// ordered and filtered here.
const WHOLE_MAX: usize = 100;
/// Rows that a larger fleet begins with: more than a screen, and no more than opens in a blink.
const ROWS_FIRST: usize = 30;
/// Rows of each further piece.
const ROWS: usize = 100;

struct Fleet {
    rows: Vec<Row>,
    /// How many fit the filter, on this page or not.
    found: usize,
    whole: bool,
    /// Where the next page begins.
    next: Option<usize>,
    totals: TotalsLine,
    /// What can be grouped by.
    groups: Vec<String>,
    choice: Choice,
    connecting: bool,
    now: i64,
}

struct Row {
    machine: MachineLine,
    fits: bool,
    /// On the first of each group.
    heading: Option<Heading>,
    /// What is wrong with it, the worst first.
    badges: Vec<Badge>,
}

/// What can be compared across machines: the key in the address and in `js/compare.js`, and words.
const METRICS: [(&str, &str); 9] = [
    ("cpu", "CPU"),
    ("memory", "Memory"),
    ("disk", "Fullest disk"),
    ("received", "Network received"),
    ("sent", "Network sent"),
    ("read", "Disk read"),
    ("written", "Disk written"),
    ("load", "Load"),
    ("temperature", "Temperature"),
];

impl Fleet {
    fn new(picture: &Picture, mut badges: Badges, choice: Choice, now: i64) -> Self {
        let whole = picture.rows.len() <= WHOLE_MAX;
        let mut machines: Vec<_> =
            picture.rows.values().map(|row| MachineLine::new(&row.machine, now)).collect();
        choice.sort(&mut machines);
        group::sort(&mut machines, &choice.group);
        let fits = |machine: &MachineLine| matches(machine, &choice.text);
        let found = machines.iter().filter(|machine| fits(machine)).count();
        let (from, most) = match choice.from {
            _ if whole => (0, WHOLE_MAX),
            0 => (0, ROWS_FIRST),
            from => (from, ROWS),
        };
        let mut headings = match choice.group.as_str() {
            "" => Default::default(),
            key => group::headings(machines.iter(), key, fits),
        };
        let mut shown = machines.into_iter().filter(|machine| whole || fits(machine));
        // The page before has the heading of the group that goes on here.
        if let Some(last) = from.checked_sub(1).and_then(|last| shown.by_ref().nth(last)) {
            headings.remove(group::group_of(&last, &choice.group));
        }
        let names = names(picture);
        let rows = shown.take(most).map(|machine| Row {
            fits: fits(&machine),
            badges: badges.remove(&machine.id).unwrap_or_default(),
            heading: headings.remove(group::group_of(&machine, &choice.group)),
            // Only rows that are sent are worth their lines.
            machine: match picture.rows.get(&machine.id) {
                Some(row) => MachineLine {
                    twin: twin(&names, &row.machine),
                    ..MachineLine::with_lines(row, now)
                },
                None => machine,
            },
        });
        Self {
            rows: rows.collect(),
            found,
            whole,
            next: (!whole && from + most < found).then_some(from + most),
            totals: TotalsLine::new(&picture.totals),
            groups: group::keys(picture),
            connecting: matches!(picture.link, Link::Connecting),
            choice,
            now,
        }
    }

    #[allow(clippy::unused_self, reason = "templates see only what belongs to a value")]
    fn metrics(&self) -> &'static [(&'static str, &'static str)] {
        &METRICS
    }
}

/// What the address of the page says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Choice {
    text: String,
    sort: Column,
    descending: bool,
    cards: bool,
    /// A label's name, or `status`; empty: no groups.
    group: String,
    /// One of `METRICS`, or empty, and how long back; only scripts use them.
    compare: String,
    span: String,
    /// First row of a large fleet.
    from: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Column {
    #[default]
    Name,
    Cpu,
    Memory,
    Disk,
    Network,
    Io,
    Load,
    Temperature,
    Uptime,
}

/// Key in the address, words in the head of the table.
const COLUMNS: [(Column, &str, &str); 9] = [
    (Column::Name, "name", "Machine"),
    (Column::Cpu, "cpu", "CPU"),
    (Column::Memory, "memory", "Memory"),
    (Column::Disk, "disk", "Fullest disk"),
    (Column::Network, "network", "Network"),
    (Column::Io, "io", "Disk I/O"),
    (Column::Load, "load", "Load/CPU"),
    (Column::Temperature, "temperature", "Temp."),
    (Column::Uptime, "uptime", "Up for"),
];

pub(crate) async fn fleet(
    State(shared): State<Shared>,
    uri: Uri,
    headers: HeaderMap,
    params: Params,
) -> Response {
    let choice = match Choice::from_params(&params) {
        Ok(choice) => choice,
        Err(error) => return error.into_response(),
    };
    let next = choice.from > 0;
    let badges = badges(&shared).await;
    let fleet = Fleet::new(&shared.hub.picture(), badges, choice, now_ms());
    let page = Page::new(&shared, &uri, "fleet");
    match (is_htmx(&headers), next) {
        (true, true) => html(&FleetRows { page, fleet }),
        (true, false) => html(&FleetList { page, fleet }),
        (false, _) => html(&FleetPage { page, fleet }),
    }
}

impl Choice {
    fn from_params(params: &Params) -> Result<Self, crate::api::ApiError> {
        params.allow(&["q", "sort", "order", "view", "from", "group", "compare", "span"])?;
        let name = params.text("sort").unwrap_or("name");
        let column = COLUMNS.iter().find(|(_, key, _)| *key == name);
        Ok(Self {
            text: params.text("q").unwrap_or_default().to_owned(),
            sort: column.map_or(Column::Name, |(column, ..)| *column),
            descending: params.text("order") == Some("desc"),
            cards: params.text("view") == Some("cards"),
            group: params.text("group").unwrap_or_default().to_owned(),
            compare: params.text("compare").unwrap_or_default().to_owned(),
            span: params.text("span").filter(|s| !s.is_empty()).unwrap_or("1h").to_owned(),
            from: params.number("from")?.unwrap_or(0),
        })
    }

    fn order(&self) -> &'static str {
        if self.descending { "desc" } else { "asc" }
    }

    fn sort_key(&self) -> &'static str {
        COLUMNS.iter().find(|(column, ..)| *column == self.sort).map_or("name", |(_, key, _)| key)
    }

    fn sort(&self, machines: &mut [MachineLine]) {
        machines.sort_by_cached_key(|m| m.name.to_lowercase());
        if self.sort == Column::Name {
            if self.descending {
                machines.reverse();
            }
            return;
        }
        let key = |m: &MachineLine| match self.sort {
            // What a silent machine last said is not how it is now.
            _ if !m.is_heard() => f64::NAN,
            Column::Name => 0.0,
            Column::Cpu => m.cpu.number,
            Column::Memory => m.memory.number,
            Column::Disk => m.disk.number,
            Column::Network => m.receive.number + m.transmit.number,
            Column::Io => m.read.number + m.write.number,
            Column::Load => m.load.number,
            Column::Temperature => m.temperature.number,
            Column::Uptime => m.uptime.number,
        };
        // What has no value comes last, whichever way the rest is ordered.
        machines.sort_by(|a, b| {
            let (a, b) = (key(a), key(b));
            let ordered = if self.descending { b.total_cmp(&a) } else { a.total_cmp(&b) };
            a.is_nan().cmp(&b.is_nan()).then(ordered)
        });
    }

    /// The head of each column: key, words, whether it is the order now, where a click leads.
    fn heads(&self) -> Vec<Head> {
        COLUMNS
            .iter()
            .map(|&(column, key, words)| {
                let chosen = self.sort == column;
                // Numbers are most interesting from the top.
                let first = column != Column::Name;
                let descending = if chosen { !self.descending } else { first };
                let aria = match (chosen, self.descending) {
                    (true, true) => "descending",
                    (true, false) => "ascending",
                    (false, _) => "none",
                };
                let order = if descending { "desc" } else { "asc" };
                Head { key, words, aria, order }
            })
            .collect()
    }
}

struct Head {
    key: &'static str,
    words: &'static str,
    aria: &'static str,
    order: &'static str,
}

/// Every word must fit: `key=value` or `key:value` a label, `status:offline` the status, anything else
/// a part of the name, of a label or of the id's beginning. `js/fleet.js` follows the same rules.
/// How many machines have each name.
fn names(picture: &Picture) -> HashMap<&str, usize> {
    let mut names = HashMap::new();
    for row in picture.rows.values() {
        *names.entry(row.machine.host_name.as_str()).or_default() += 1;
    }
    names
}

/// What tells a machine from another of the same name: as much of its id as finds it.
fn twin(names: &HashMap<&str, usize>, machine: &v1::Machine) -> String {
    match names.get(machine.host_name.as_str()) {
        Some(2..) => machine.id.chars().take(8).collect(),
        _ => String::new(),
    }
}

fn matches(machine: &MachineLine, text: &str) -> bool {
    text.to_lowercase().split_whitespace().all(|word| {
        if let Some((key, value)) = word.split_once(['=', ':']) {
            let label = |(k, v): &(String, String)| {
                k.to_lowercase() == key && v.to_lowercase().starts_with(value)
            };
            (key == "status" && machine.status.starts_with(value))
                || machine.labels.iter().any(label)
        } else {
            machine.name.to_lowercase().contains(word)
                || machine.id.starts_with(word)
                || machine.status == word
                || machine.labels.iter().any(|(k, v)| {
                    k.to_lowercase().contains(word) || v.to_lowercase().contains(word)
                })
        }
    })
}

/// The fleet's totals as text.
struct TotalsLine {
    machines: usize,
    statuses: [(&'static str, usize); 5],
    cpus: String,
    cpus_busy: String,
    memory: String,
    memory_used: String,
    receive: String,
    transmit: String,
    read: String,
    write: String,
}

impl TotalsLine {
    fn new(totals: &Totals) -> Self {
        Self {
            machines: totals.machines,
            statuses: totals.statuses(),
            cpus: format::number(f64::from(totals.cpus)),
            cpus_busy: format::number(totals.cpus_busy.0),
            memory: format::bytes(totals.memory_bytes as f64),
            memory_used: format::bytes(totals.memory_used_bytes.0),
            receive: format::bytes_rate(totals.receive_rate.0),
            transmit: format::bytes_rate(totals.transmit_rate.0),
            read: format::bytes_rate(totals.read_rate.0),
            write: format::bytes_rate(totals.write_rate.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::v1;

    use super::*;

    fn machine(name: &str, cpu: Option<f64>) -> MachineLine {
        let machine = v1::Machine {
            id: "3d12".to_owned(),
            host_name: name.to_owned(),
            labels: [("env".to_owned(), "Prod".to_owned())].into(),
            status: v1::MachineStatus::Offline.into(),
            headline: Some(v1::Headline { cpu_utilization: cpu, ..Default::default() }),
            ..Default::default()
        };
        MachineLine::new(&machine, 0)
    }

    #[test]
    fn a_filter_is_words_that_must_all_fit() {
        fn check(text: &str, fits: bool) {
            assert_eq!(matches(&machine("Web-1", None), text), fits, "{text:?}");
        }
        check("", true);
        check("web", true);
        check("web prod", true);
        check("env=prod", true);
        check("env:pr web", true);
        check("env=dev", false);
        check("status:off", true);
        check("status:online", false);
        check("offline", true);
        check("3d1", true);
        check("db", false);
    }

    #[test]
    fn machines_without_the_value_or_without_a_word_come_last_both_ways() {
        for descending in [true, false] {
            let choice = Choice { sort: Column::Cpu, descending, ..Default::default() };
            let online = |name, cpu| MachineLine { status: "online", ..machine(name, cpu) };
            let mut machines = vec![
                online("none", None),
                machine("offline", Some(0.5)),
                online("low", Some(0.1)),
                online("high", Some(0.9)),
            ];
            choice.sort(&mut machines);
            let names: Vec<_> = machines.iter().map(|m| m.name.as_str()).collect();
            let speaking = if descending { ["high", "low"] } else { ["low", "high"] };
            assert_eq!((&names[..2], &names[2..]), (&speaking[..], &["none", "offline"][..]));
        }
    }

    #[test]
    fn machines_of_the_same_name_are_told_apart() {
        let machine = |id: &str, name: &str| v1::Machine {
            id: id.to_owned(),
            host_name: name.to_owned(),
            ..Default::default()
        };
        let names = HashMap::from([("web", 2), ("db", 1)]);
        assert_eq!(twin(&names, &machine("0123456789", "web")), "01234567");
        assert_eq!(twin(&names, &machine("0123456789", "db")), "");
    }
}
