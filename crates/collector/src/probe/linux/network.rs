//! Traffic per interface, and TCP connections.
//!
//! Connection counts come from the kernel's own totals: listing the sockets costs milliseconds as soon
//! as there are thousands.

use std::collections::HashSet;

use anyhow::Context;
use model::metric::{
    NETWORK_CONNECTIONS, NETWORK_DROPPED, NETWORK_ERRORS, NETWORK_IO, NETWORK_PACKETS,
    NETWORK_TCP_RETRANSMITS,
};

use super::source::{Source, number};
use crate::probe::{At, Filter, Probe, Setup, Sheet};

/// More interfaces than this are left out and counted.
const INTERFACES_MAX: usize = 200;

struct Network {
    dev: Source,
    snmp: Source,
    sockstat: Source,
    filter: Filter,
}

pub(super) fn open(setup: &Setup) -> Box<dyn Probe> {
    let net = setup.config.vantage().join("net");
    Box::new(Network {
        dev: Source::new(net.join("dev")),
        snmp: Source::new(net.join("snmp")),
        sockstat: Source::new(net.join("sockstat")),
        filter: setup.config.interfaces.clone(),
    })
}

impl Probe for Network {
    fn read(&mut self, _: At, sheet: &mut Sheet) -> anyhow::Result<()> {
        let text = self.dev.text()?;
        let mut seen = HashSet::new();
        for (name, counts) in text.lines().skip(2).filter_map(split_line) {
            // Names with bytes that are no text may look the same once these are replaced.
            if !self.filter.allows(name, is_interesting(name)) || !seen.insert(name) {
                continue;
            }
            if seen.len() > INTERFACES_MAX {
                sheet.left_out(1);
                continue;
            }
            let counts = parse_counts(counts).with_context(|| format!("net/dev: {name}"))?;
            for (direction, one) in [("receive", counts.receive), ("transmit", counts.transmit)] {
                let labels =
                    [("network.interface.name", name), ("network.io.direction", direction)];
                sheet.put(&NETWORK_IO, labels, one.bytes as f64);
                sheet.put(&NETWORK_PACKETS, labels, one.packets as f64);
                sheet.put(&NETWORK_ERRORS, labels, one.errors as f64);
                sheet.put(&NETWORK_DROPPED, labels, one.dropped as f64);
            }
        }
        // A kernel can be built without TCP/IP statistics.
        if let Some(snmp) = self.snmp.text_if_present()? {
            let established = table_value(&snmp, "Tcp:", "CurrEstab");
            put_connections(sheet, "established", established);
            if let Some(segments) = table_value(&snmp, "Tcp:", "RetransSegs") {
                sheet.put(&NETWORK_TCP_RETRANSMITS, [], segments as f64);
            }
        }
        if let Some(sockstat) = self.sockstat.text_if_present()? {
            put_connections(sheet, "time_wait", pair_value(&sockstat, "TCP:", "tw"));
            put_connections(sheet, "orphan", pair_value(&sockstat, "TCP:", "orphan"));
        }
        Ok(())
    }
}

fn put_connections(sheet: &mut Sheet, state: &str, count: Option<u64>) {
    if let Some(count) = count {
        let labels = [("network.connection.state", state), ("network.transport", "tcp")];
        sheet.put(&NETWORK_CONNECTIONS, labels, count as f64);
    }
}

/// Whether an interface carries traffic of the machine, rather than passing on that of its containers
/// and virtual machines, which would be counted twice.
fn is_interesting(name: &str) -> bool {
    const PASSING_ON: [&str; 20] = [
        "veth",
        "docker",
        "br-",
        "virbr",
        "vnet",
        "vmnet",
        "tap",
        "cali",
        "cni",
        "flannel",
        "lxc",
        "lxdbr",
        "podman",
        "kube-",
        "nodelocaldns",
        "ifb",
        "dummy",
        "gre",
        "erspan",
        "azv",
    ];
    const TUNNEL_TEMPLATES: [&str; 6] =
        ["sit0", "tunl0", "ip6tnl0", "ip_vti0", "ip6_vti0", "ip6gre0"];
    !PASSING_ON.iter().any(|prefix| name.starts_with(prefix)) && !TUNNEL_TEMPLATES.contains(&name)
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Direction {
    bytes: u64,
    packets: u64,
    errors: u64,
    dropped: u64,
}

#[derive(Debug, PartialEq)]
struct Counts {
    receive: Direction,
    transmit: Direction,
}

/// The name and the counts of a line of `/proc/net/dev`. An alias has colons in its name, so it ends at
/// the last one.
fn split_line(line: &str) -> Option<(&str, &str)> {
    let (name, counts) = line.rsplit_once(':')?;
    Some((name.trim(), counts))
}

fn parse_counts(counts: &str) -> anyhow::Result<Counts> {
    let mut fields = counts.split_ascii_whitespace();
    let mut direction = |skip_after: usize| {
        let mut next = |what| number(fields.next(), what);
        let one = Direction {
            bytes: next("bytes")?,
            packets: next("packets")?,
            errors: next("errors")?,
            dropped: next("dropped")?,
        };
        if skip_after > 0 {
            fields.nth(skip_after - 1);
        }
        anyhow::Ok(one)
    };
    Ok(Counts { receive: direction(4)?, transmit: direction(0)? })
}

/// Bytes received and sent over all interfaces but loopback, from a whole `net/dev`.
pub(super) fn parse_totals(text: &str) -> (u64, u64) {
    let counts = text
        .lines()
        .skip(2)
        .filter_map(split_line)
        .filter(|(name, _)| *name != "lo")
        .filter_map(|(_, counts)| parse_counts(counts).ok());
    counts.fold((0, 0), |(received, sent): (u64, u64), one| {
        (received.saturating_add(one.receive.bytes), sent.saturating_add(one.transmit.bytes))
    })
}

/// A number of `/proc/net/snmp`: a line of names, then a line of values, both under one prefix.
fn table_value(text: &str, table: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with(table));
    let (names, values) = (lines.next()?, lines.next()?);
    let column = names.split_ascii_whitespace().position(|one| one == name)?;
    values.split_ascii_whitespace().nth(column)?.parse().ok()
}

/// A number of `/proc/net/sockstat`: names and values take turns.
fn pair_value(text: &str, table: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(table))?;
    let mut fields = line.split_ascii_whitespace().skip_while(|field| *field != name);
    fields.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interfaces(text: &str) -> Vec<(&str, Counts)> {
        text.lines()
            .skip(2)
            .filter_map(split_line)
            .map(|(name, counts)| (name, parse_counts(counts).expect("parses")))
            .collect()
    }

    #[test]
    fn from_within_a_container_the_interfaces_of_the_machine_are_read_and_not_its_own() {
        let procfs = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(procfs.path().join("1/net")).expect("made");
        let dev =
            "Inter-| Receive | Transmit\n face |bytes\n wan7: 11 1 0 0 0 0 0 0 22 2 0 0 0 0 0 0\n";
        std::fs::write(procfs.path().join("1/net/dev"), dev).expect("written");
        let config = crate::probe::ProberConfig {
            proc_root: procfs.path().to_owned(),
            ..Default::default()
        };
        let (layout, values) = crate::probe::tests::read_once(open, config);
        assert_eq!(layout.series()[0].labels.get("network.interface.name"), "wan7");
        assert_eq!(values[0], 11.0);
    }

    #[test]
    fn recorded_interfaces_have_both_directions() {
        let all = interfaces(include_str!("../../../fixtures/proc/net/dev"));
        let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["lo", "ifb0", "ifb1", "eth0"]);
        let eth0 = &all[3].1;
        let receive = Direction { bytes: 303_179_501, packets: 13_612, errors: 0, dropped: 0 };
        let transmit = Direction { bytes: 1_040_109, packets: 9_867, errors: 0, dropped: 0 };
        assert_eq!(*eth0, Counts { receive, transmit });
    }

    #[test]
    fn totals_leave_loopback_out() {
        let recorded = include_str!("../../../fixtures/proc/net/dev");
        assert_eq!(parse_totals(recorded), (303_179_501, 1_040_109));
    }

    #[test]
    fn numbers_may_touch_the_name_and_names_may_have_colons() {
        assert_eq!(split_line("eth0:123 4"), Some(("eth0", "123 4")));
        assert_eq!(split_line("  eth0:1: 123 4"), Some(("eth0:1", " 123 4")));
        assert_eq!(split_line("no counts"), None);
    }

    #[test]
    fn a_line_with_a_bad_count_is_named() {
        let error = parse_counts("1 2 3 4 5 6 7 8 9 x").expect_err("accepted");
        assert_eq!(error.to_string(), "packets: expected a number, found \"x\"");
    }

    #[test]
    fn interfaces_of_containers_and_bridges_are_left_out() {
        fn check(name: &str, expected: bool) {
            assert_eq!(is_interesting(name), expected, "{name}");
        }
        check("eth0", true);
        check("enp3s0f1", true);
        check("wlp2s0", true);
        check("bond0", true);
        check("wg0", true);
        check("lo", true);
        check("veth12ab", false);
        check("docker0", false);
        check("br-1f2e", false);
        check("br0", true);
        check("cali123", false);
        check("sit0", false);
    }

    #[test]
    fn connection_counts_come_from_the_recorded_totals() {
        let snmp = include_str!("../../../fixtures/proc/net/snmp");
        assert_eq!(table_value(snmp, "Tcp:", "CurrEstab"), Some(4));
        assert_eq!(table_value(snmp, "Tcp:", "RetransSegs"), Some(17));
        assert_eq!(table_value(snmp, "Tcp:", "Missing"), None);
        assert_eq!(table_value(snmp, "Tcp:", "MaxConn"), None, "-1 stands for unlimited");
        let sockstat = include_str!("../../../fixtures/proc/net/sockstat");
        assert_eq!(pair_value(sockstat, "TCP:", "tw"), Some(2));
        assert_eq!(pair_value(sockstat, "TCP:", "orphan"), Some(0));
        assert_eq!(pair_value(sockstat, "SCTP:", "tw"), None);
    }
}
