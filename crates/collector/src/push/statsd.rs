//! StatsD: what programs on this machine count and time, in datagrams of a few lines.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::Context as _;
use daemon::hint::WithHint as _;
use model::{Labels, Series, pushed};
use tokio::net::UdpSocket;

use super::tally::Tally;
use line::Value;

mod line;

/// Binds the socket. Port 0 takes a free one. Must be called within a Tokio runtime.
pub(super) fn bind(address: SocketAddr) -> anyhow::Result<UdpSocket> {
    let bound = || {
        let socket = std::net::UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    };
    bound()
        .with_context(|| format!("collector.push.statsd.listen: failed to listen on {address}"))
        .hint("another StatsD server may listen there: stop it, or choose another port")
}

/// Takes one datagram in. Lines that cannot be read are counted; gives the first, and what is wrong.
pub(super) fn take_in(
    datagram: &[u8],
    service: &str,
    tally: &mut Tally,
    now: Instant,
) -> Option<String> {
    let text = String::from_utf8_lossy(datagram);
    let mut first = None;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        if let Err(problem) = take_in_line(line.trim(), service, tally, now) {
            tally.refuse(1);
            first.get_or_insert_with(|| {
                let shown: String = line.chars().take(80).collect();
                format!("{problem}, found {shown:?}")
            });
        }
    }
    first
}

fn take_in_line(
    text: &str,
    service: &str,
    tally: &mut Tally,
    now: Instant,
) -> Result<(), &'static str> {
    let line = line::read(text)?;
    let metric = pushed::metric_name(line.name)
        .map_err(|_| "expected a name of 1 to 248 bytes that does not begin with muster., system., hw. or container.")?;
    // Whatever a program sends has a service: so it is never taken for what the machine measured.
    let tags = line.tags.iter().map(|(name, value)| match *name {
        "service" => ("service.name", *value),
        name => (name, *value),
    });
    let labels = pushed::labels(tags.chain([("service.name", service)]))
        .ok_or("expected at most 63 tags")?;
    for value in line.values {
        take_in_value(value, &metric, &labels, tally, now);
    }
    Ok(())
}

fn take_in_value(value: Value<'_>, metric: &str, labels: &Labels, tally: &mut Tally, now: Instant) {
    let name = || (Box::from(metric), labels.clone());
    let gauge = || Series::gauge(metric, "1", labels.clone());
    match value {
        Value::Count(count) => {
            tally.add(Series::counter(metric, "1", labels.clone()), count, now);
        }
        Value::Gauge(value) => tally.set(gauge(), value, now),
        Value::GaugeChange(change) => tally.add(gauge(), change, now),
        Value::Timing(seconds, weight) => tally.observe(name(), "s", seconds, weight, now),
        Value::Observation(value, weight) => tally.observe(name(), "1", value, weight, now),
        Value::Member(member) => tally.member(name(), member, now),
    }
}
