//! What a machine is, and what watching it costs; a part of its page and a fragment.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use model::metric;
use proto::v1;

use super::page::html;
use crate::api::{ApiError, now_ms};
use crate::format;
use crate::gateway::Shared;
use crate::view::{When, millis, seconds};

/// A clock that is off by more is worth a look.
const SKEW_MAX_SECONDS: f64 = 2.0;

const COSTS: [metric::Metric; 6] = [
    metric::COLLECTOR_CPU_TIME,
    metric::COLLECTOR_MEMORY_USAGE,
    metric::SPOOL_ITEMS,
    metric::SPOOL_USAGE,
    metric::ACK_LATENCY,
    metric::PROBE_FAILING,
];

#[derive(Template)]
#[template(path = "machine/facts.html")]
struct FactsFragment {
    facts: Facts,
}

pub(crate) struct Facts {
    pub(crate) lines: Vec<Fact>,
    pub(crate) first_seen: Option<When>,
}

pub(crate) struct Fact {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    /// Worth a look.
    pub(crate) trouble: bool,
}

pub(crate) async fn facts(State(shared): State<Shared>, Path(name): Path<String>) -> Response {
    match fragment(&shared, &name).await {
        Ok(facts) => html(&FactsFragment { facts }),
        Err(error) => error.into_response(),
    }
}

async fn fragment(shared: &Shared, name: &str) -> Result<Facts, ApiError> {
    let (machine, costs) =
        tokio::join!(shared.upstream.machine(name), collector_costs(shared, name));
    Ok(Facts::new(&machine?, &costs, now_ms()))
}

/// The latest that the machine's collector said of itself; empty when it cannot be had.
pub(crate) async fn collector_costs(shared: &Shared, machine: &str) -> Vec<v1::Sample> {
    let request = v1::GetCurrentStateRequest {
        machine: machine.to_owned(),
        metrics: COSTS.iter().map(|metric| metric.name.to_owned()).collect(),
    };
    shared.upstream.current_state(request).await.map(|answer| answer.samples).unwrap_or_default()
}

impl Facts {
    /// What is not known is left out.
    pub(crate) fn new(machine: &v1::Machine, costs: &[v1::Sample], now_ms: i64) -> Self {
        let facts = machine.facts.clone().unwrap_or_default();
        let cpus = match (facts.logical_cpus, facts.physical_cpus) {
            (0, _) => String::new(),
            (logical, 0) => format!("{logical} logical"),
            (logical, physical) => format!("{logical} logical, {physical} physical"),
        };
        let bytes = |b: u64| if b > 0 { format::bytes(b as f64) } else { String::new() };
        let skew = seconds(machine.clock_skew.as_ref());
        let failing = failing_probes(costs);
        let rows = [
            ("System", facts.os_description, false),
            ("Kernel", facts.kernel_version, false),
            ("Architecture", facts.arch, false),
            ("Virtualisation", facts.virtualization, false),
            ("CPU", facts.cpu_model, false),
            ("CPUs", cpus, false),
            ("Memory", bytes(facts.memory_bytes), false),
            ("Swap", bytes(facts.swap_bytes), false),
            ("Addresses", facts.addresses.join(", "), false),
            ("Clock", skew.map(clock).unwrap_or_default(), skew.is_some_and(is_off)),
            ("Collector", facts.collector_version, false),
            ("Reads every", span(machine.interval.as_ref()), false),
            ("It costs", cost(costs), false),
            ("Not yet delivered", waiting(costs), false),
            ("Acknowledged in", value(costs, &metric::ACK_LATENCY, format::duration), false),
            ("Probes that fail", failing.clone(), !failing.is_empty()),
            ("Id", machine.id.clone(), false),
        ];
        let known = rows.into_iter().filter(|(_, value, _)| !value.is_empty());
        Self {
            lines: known.map(|(name, value, trouble)| Fact { name, value, trouble }).collect(),
            first_seen: millis(machine.first_seen.as_ref()).map(|ms| When::new(now_ms, ms)),
        }
    }
}

fn span(duration: Option<&prost_types::Duration>) -> String {
    seconds(duration).map(format::duration).unwrap_or_default()
}

fn is_off(skew: f64) -> bool {
    skew.abs() > SKEW_MAX_SECONDS
}

/// `4 ms ahead of the server's`.
fn clock(skew: f64) -> String {
    if skew.abs() < 0.001 {
        return "as the server's".to_owned();
    }
    let side = if skew > 0.0 { "ahead of" } else { "behind" };
    format!("{} {side} the server's", format::duration(skew.abs()))
}

fn find<'a>(costs: &'a [v1::Sample], metric: &metric::Metric) -> Option<&'a v1::Sample> {
    costs.iter().find(|sample| sample.metric == metric.name && sample.value.is_finite())
}

fn value(costs: &[v1::Sample], metric: &metric::Metric, write: fn(f64) -> String) -> String {
    find(costs, metric).map(|sample| write(sample.value)).unwrap_or_default()
}

/// `0.41 % of one core, 14.2 MiB`.
fn cost(costs: &[v1::Sample]) -> String {
    let cpu = find(costs, &metric::COLLECTOR_CPU_TIME).and_then(|sample| sample.rate);
    let cpu = cpu.filter(|rate| rate.is_finite());
    let cpu = cpu.map(|rate| format!("{:.2} % of one core", rate * 100.0));
    let memory = value(costs, &metric::COLLECTOR_MEMORY_USAGE, format::bytes);
    let parts: Vec<_> = cpu.into_iter().chain(Some(memory)).filter(|p| !p.is_empty()).collect();
    parts.join(", ")
}

/// `3 items, 1.2 KiB in the spool`.
fn waiting(costs: &[v1::Sample]) -> String {
    let items = find(costs, &metric::SPOOL_ITEMS).map(|sample| match sample.value {
        1.0 => "1 item".to_owned(),
        items => format!("{} items", format::number(items)),
    });
    let spool = value(costs, &metric::SPOOL_USAGE, format::bytes);
    match (items, spool.is_empty()) {
        (Some(items), true) => items,
        (Some(items), false) => format!("{items}, {spool} in the spool"),
        (None, _) => String::new(),
    }
}

fn failing_probes(costs: &[v1::Sample]) -> String {
    let failing = |sample: &&v1::Sample| {
        sample.metric == metric::PROBE_FAILING.name
            && sample.value.is_finite()
            && sample.value > 0.0
    };
    let mut names: Vec<_> = costs
        .iter()
        .filter(failing)
        .filter_map(|sample| sample.labels.get("muster.probe").map(String::as_str))
        .collect();
    names.sort_unstable();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_said_to_be_ahead_or_behind() {
        assert_eq!(clock(0.004), "4 ms ahead of the server's");
        assert_eq!(clock(-3.0), "3 s behind the server's");
        assert_eq!(clock(0.0), "as the server's");
        assert!(is_off(-3.0) && !is_off(0.004));
    }

    #[test]
    fn what_the_collector_costs_and_holds_back_is_in_words() {
        let sample = |metric: &metric::Metric, value, rate| v1::Sample {
            metric: metric.name.to_owned(),
            value,
            rate,
            ..Default::default()
        };
        let mut costs = vec![
            sample(&metric::COLLECTOR_CPU_TIME, 12.0, Some(0.0041)),
            sample(&metric::COLLECTOR_MEMORY_USAGE, 14.0 * 1024.0 * 1024.0, None),
            sample(&metric::SPOOL_ITEMS, 3.0, None),
            sample(&metric::SPOOL_USAGE, 2048.0, None),
        ];
        assert_eq!(cost(&costs), "0.41 % of one core, 14.0 MiB");
        assert_eq!(waiting(&costs), "3 items, 2.0 KiB in the spool");
        assert_eq!((cost(&[]), waiting(&[])), (String::new(), String::new()));
        let mut failing = sample(&metric::PROBE_FAILING, 1.0, None);
        failing.labels.insert("muster.probe".to_owned(), "disk".to_owned());
        costs.push(failing);
        assert_eq!(failing_probes(&costs), "disk");
    }
}
