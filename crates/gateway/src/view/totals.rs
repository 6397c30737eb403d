//! The fleet in one line.

use proto::v1;
use serde::Serialize;

use super::status_name;
use crate::live::Number;

/// Sums over the machines that report now.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Totals {
    pub(crate) machines: usize,
    pub(crate) online: usize,
    pub(crate) stale: usize,
    pub(crate) asleep: usize,
    pub(crate) offline: usize,
    pub(crate) stopped: usize,
    pub(crate) cpus: u32,
    /// CPUs in use.
    pub(crate) cpus_busy: Number,
    pub(crate) memory_bytes: u64,
    pub(crate) memory_used_bytes: Number,
    pub(crate) receive_rate: Number,
    pub(crate) transmit_rate: Number,
    pub(crate) read_rate: Number,
    pub(crate) write_rate: Number,
}

impl Totals {
    pub(crate) fn of<'a>(machines: impl Iterator<Item = &'a v1::Machine>) -> Self {
        let mut totals = Self::default();
        for machine in machines {
            totals.machines += 1;
            match status_name(machine.status) {
                "online" => totals.online += 1,
                "stale" => totals.stale += 1,
                "asleep" => totals.asleep += 1,
                "stopped" => totals.stopped += 1,
                _ => totals.offline += 1,
            }
            if !matches!(status_name(machine.status), "online" | "stale") {
                continue;
            }
            let facts = machine.facts.as_ref();
            let cpus = facts.map_or(0, |facts| facts.logical_cpus);
            let memory = facts.map_or(0, |facts| facts.memory_bytes);
            totals.cpus = totals.cpus.saturating_add(cpus);
            totals.memory_bytes = totals.memory_bytes.saturating_add(memory);
            let Some(headline) = &machine.headline else { continue };
            let add = |sum: &mut Number, value: Option<f64>, times: f64| {
                sum.0 += value.filter(|v| v.is_finite()).unwrap_or(0.0) * times;
            };
            add(&mut totals.cpus_busy, headline.cpu_utilization, f64::from(cpus));
            add(&mut totals.memory_used_bytes, headline.memory_utilization, memory as f64);
            add(&mut totals.receive_rate, headline.network_receive_rate, 1.0);
            add(&mut totals.transmit_rate, headline.network_transmit_rate, 1.0);
            add(&mut totals.read_rate, headline.disk_read_rate, 1.0);
            add(&mut totals.write_rate, headline.disk_write_rate, 1.0);
        }
        totals
    }

    /// How many there are of each.
    pub(crate) fn statuses(&self) -> [(&'static str, usize); 5] {
        [
            ("online", self.online),
            ("stale", self.stale),
            ("asleep", self.asleep),
            ("offline", self.offline),
            ("stopped", self.stopped),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_that_are_silent_count_but_do_not_add() {
        let machine = |status: v1::MachineStatus| v1::Machine {
            status: status.into(),
            facts: Some(v1::MachineFacts { logical_cpus: 4, ..Default::default() }),
            headline: Some(v1::Headline { cpu_utilization: Some(0.5), ..Default::default() }),
            ..Default::default()
        };
        let fleet = [machine(v1::MachineStatus::Online), machine(v1::MachineStatus::Offline)];
        let totals = Totals::of(fleet.iter());
        assert_eq!((totals.machines, totals.online, totals.offline), (2, 1, 1));
        assert_eq!((totals.cpus, totals.cpus_busy.0), (4, 2.0));
    }
}
