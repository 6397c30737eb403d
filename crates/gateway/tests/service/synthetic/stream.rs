//! The present of one machine: what `StreamMetrics` sends.

use std::time::Duration;

use proto::v1;
use tokio::sync::mpsc;
use tonic::Status;

use super::machines::machine_id;
use super::values::{series, values_of};
use super::{now_ms, timestamp};

/// Everything that machine `i` measures from now on, after what was; `missing` is what did not arrive.
pub(super) fn send(
    i: usize,
    request: v1::StreamMetricsRequest,
    missing: std::ops::Range<i64>,
) -> mpsc::Receiver<Result<v1::StreamMetricsResponse, Status>> {
    let (sender, receiver) = mpsc::channel(16);
    let wanted = |m: &str| request.metrics.is_empty() || request.metrics.iter().any(|w| w == m);
    let names: Vec<_> = series(i)
        .into_iter()
        .map(|(series, _)| series)
        .filter(|series| wanted(&series.metric))
        .collect();
    let lookback = request.lookback.map_or(0, |d| d.seconds * 1000);
    tokio::spawn(async move {
        // Two layouts, as if from two probes: CPU alone, and the rest.
        let is_cpu = |s: &v1::SeriesDescriptor| s.metric.starts_with("system.cpu.util");
        let (cpu, rest): (Vec<_>, Vec<_>) = names.into_iter().partition(is_cpu);
        let layouts = [(1, cpu), (2, rest)];
        let mut told = [false; 2];
        let mut at = (now_ms() - lookback) / 1000 * 1000;
        let mut past = lookback > 0;
        loop {
            if missing.contains(&at) {
                at += 1000;
                continue;
            }
            if past && at >= now_ms() - 1500 {
                past = false;
                let end = v1::StreamMetricsResponse { past: true, ..Default::default() };
                if sender.send(Ok(end)).await.is_err() {
                    return;
                }
            }
            for (slot, (number, names)) in layouts.iter().enumerate() {
                let time = at + 20 * slot as i64;
                if !past {
                    // Nothing is told before it was read: how old it is when it comes is measured.
                    let until = (time - now_ms()).max(0) as u64;
                    tokio::time::sleep(Duration::from_millis(until)).await;
                }
                let values = values_of(i, names, time);
                let columns =
                    if std::mem::replace(&mut told[slot], true) { vec![] } else { names.clone() };
                let message = v1::StreamMetricsResponse {
                    machine_id: machine_id(i),
                    time: Some(timestamp(time)),
                    layout: *number,
                    columns,
                    values,
                    past,
                    ..Default::default()
                };
                if sender.send(Ok(message)).await.is_err() {
                    return;
                }
            }
            at += 1000;
        }
    });
    receiver
}
