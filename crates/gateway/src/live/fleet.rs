//! The fleet: one `Watch` for everybody, kept as a picture that is replaced at each change.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use model::{UnixMillis, metric};
use proto::v1;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::spark::BUCKET_MS;
use super::{Metrics, Spark, wire};
use crate::upstream::Upstream;
use crate::view::Totals;

/// Least and longest time before the aggregator is tried again.
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// All machines at one moment. Replaced, never changed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Picture {
    /// Grows with each change; a row's `revision` says when it changed last.
    pub(crate) revision: u64,
    /// The revision at which a machine came or went last.
    pub(crate) membership: u64,
    /// By machine id.
    pub(crate) rows: BTreeMap<String, Arc<Row>>,
    pub(crate) totals: Totals,
    pub(crate) link: Link,
}

/// Whether the aggregator is heard.
#[derive(Clone, Debug, Default)]
pub(crate) enum Link {
    #[default]
    Connecting,
    Up {
        since_ms: i64,
    },
    /// What is shown is what was last heard.
    Down {
        since_ms: i64,
        reason: String,
    },
}

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) machine: v1::Machine,
    pub(crate) cpu: Spark,
    pub(crate) network: Spark,
    pub(crate) revision: u64,
    /// The row as viewers get it, written once for all of them.
    json: OnceLock<String>,
}

impl Row {
    pub(crate) fn json(&self) -> &str {
        self.json.get_or_init(|| wire::row(&self.machine))
    }
}

impl Picture {
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.link, Link::Up { .. })
    }

    /// The picture after this message.
    fn after(&self, message: v1::WatchResponse) -> Self {
        let revision = self.revision + 1;
        let mut rows = if message.snapshot { BTreeMap::new() } else { self.rows.clone() };
        for id in &message.removed_machine_ids {
            rows.remove(id);
        }
        for machine in message.machines {
            let before = self.rows.get(&machine.id);
            let mut cpu = before.map(|row| row.cpu.clone()).unwrap_or_default();
            let mut network = before.map(|row| row.network.clone()).unwrap_or_default();
            if let Some(headline) = &machine.headline
                && let Some(time) = &headline.time
                && before.and_then(|row| row.machine.headline.as_ref()?.time) != headline.time
            {
                let ms = time.seconds * 1000 + i64::from(time.nanos) / 1_000_000;
                cpu.add(ms, headline.cpu_utilization.unwrap_or(f64::NAN));
                let both = headline.network_receive_rate.zip(headline.network_transmit_rate);
                network.add(ms, both.map_or(f64::NAN, |(receive, transmit)| receive + transmit));
            }
            let row = Row { cpu, network, revision, json: OnceLock::new(), machine };
            rows.insert(row.machine.id.clone(), Arc::new(row));
        }
        let same_machines = rows.len() == self.rows.len() && rows.keys().eq(self.rows.keys());
        let membership = if same_machines { self.membership } else { revision };
        let totals = Totals::of(rows.values().map(|row| &row.machine));
        Self { revision, membership, rows, totals, link: self.link.clone() }
    }

    fn linked(&self, link: Link) -> Self {
        Self { revision: self.revision + 1, link, ..self.clone() }
    }

    /// Puts in what history knows of the last minutes, so that a line is there at once.
    fn backfilled(&self, past: Past) -> Self {
        let revision = self.revision + 1;
        let mut rows = self.rows.clone();
        for (id, row) in &mut rows {
            let (cpu, network) = (past.cpu.get(id), past.network.get(id));
            if cpu.is_none() && network.is_none() {
                continue;
            }
            let filled = |line: &Spark, past: Option<&Spark>| {
                past.map_or_else(|| line.clone(), |p| line.filled_by(p))
            };
            *row = Arc::new(Row {
                machine: row.machine.clone(),
                cpu: filled(&row.cpu, cpu),
                network: filled(&row.network, network),
                revision,
                json: OnceLock::new(),
            });
        }
        Self { revision, rows, ..self.clone() }
    }
}

/// Keeps the picture.
pub(crate) struct Follower {
    upstream: Upstream,
    picture: watch::Sender<Arc<Picture>>,
    metrics: Metrics,
}

impl Follower {
    pub(crate) fn new(
        upstream: Upstream,
        picture: watch::Sender<Arc<Picture>>,
        metrics: Metrics,
    ) -> Self {
        Self { upstream, picture, metrics }
    }

    /// Never gives up; ends with `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.follow()).await;
    }

    async fn follow(&self) {
        let mut pause = RETRY_MIN;
        loop {
            let (heard, problem) = self.one_stream().await;
            if heard {
                pause = RETRY_MIN;
                self.metrics.upstream_losses.inc();
            }
            if !matches!(self.picture.borrow().link, Link::Down { .. }) {
                tracing::warn!(reason = %problem, "lost the aggregator; trying again");
                self.replace(|p| {
                    p.linked(Link::Down { since_ms: now_ms(), reason: problem.clone() })
                });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// Whether anything was heard, and why it ended.
    async fn one_stream(&self) -> (bool, String) {
        let mut stream = match self.upstream.watch(v1::WatchRequest::default()).await {
            Ok(stream) => stream,
            Err(status) => return (false, status.message().to_owned()),
        };
        let (mut heard, mut asking) = (false, false);
        // Beside the stream: the present does not wait for history.
        let mut past = std::pin::pin!(Past::ask(&self.upstream));
        loop {
            let message = tokio::select! {
                message = stream.next() => message,
                past = &mut past, if asking => {
                    asking = false;
                    self.replace(|picture| picture.backfilled(past));
                    continue;
                }
            };
            match message {
                Some(Ok(message)) => self.replace(|picture| picture.after(message)),
                Some(Err(status)) => return (heard, status.message().to_owned()),
                None => return (heard, "the aggregator ended the stream".to_owned()),
            }
            if !heard {
                (heard, asking) = (true, true);
                self.replace(|p| p.linked(Link::Up { since_ms: now_ms() }));
            }
        }
    }

    fn replace(&self, next: impl FnOnce(&Picture) -> Picture) {
        self.picture.send_modify(|picture| *picture = Arc::new(next(picture)));
    }
}

/// The last five minutes by machine id, as far as history answers.
#[derive(Debug, Default)]
struct Past {
    cpu: BTreeMap<String, Spark>,
    network: BTreeMap<String, Spark>,
}

impl Past {
    async fn ask(upstream: &Upstream) -> Self {
        let all_cpus = vec![equal("cpu.mode", ""), equal("cpu.logical_number", "")];
        let outside = vec![v1::LabelMatcher {
            name: "network.interface.name".to_owned(),
            op: v1::label_matcher::Op::NotEqual.into(),
            value: "lo".to_owned(),
        }];
        let (cpu, network) = tokio::join!(
            Self::sparks(upstream, metric::CPU_UTILIZATION.name, all_cpus),
            Self::sparks(upstream, metric::NETWORK_IO.name, outside),
        );
        Self { cpu, network }
    }

    async fn sparks(
        upstream: &Upstream,
        metric: &str,
        labels: Vec<v1::LabelMatcher>,
    ) -> BTreeMap<String, Spark> {
        let now = now_ms();
        let request = v1::QueryRangeRequest {
            metric: metric.to_owned(),
            labels,
            start: Some(proto::convert::timestamp_to_proto(UnixMillis(
                now - model::limits::LIVE_WINDOW_MS,
            ))),
            end: Some(proto::convert::timestamp_to_proto(UnixMillis(now))),
            step: Some(proto::convert::duration_from_ms(BUCKET_MS)),
            ..Default::default()
        };
        let answer = match upstream.query_range(request).await {
            Ok(answer) => answer,
            Err(status) => {
                // Only a nicety is missing: the lines begin empty and fill by themselves.
                tracing::debug!(%metric, reason = status.message(), "no past for the fleet");
                return BTreeMap::new();
            }
        };
        let start_ms =
            answer.start.map_or(0, |t| t.seconds * 1000 + i64::from(t.nanos) / 1_000_000);
        let mut sums: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for series in answer.series {
            let sum = sums.entry(series.machine_id).or_default();
            sum.resize(sum.len().max(series.values.len()), f64::NAN);
            for (sum, value) in sum.iter_mut().zip(series.values) {
                if value.is_finite() {
                    *sum = value + if sum.is_finite() { *sum } else { 0.0 };
                }
            }
        }
        let spark = |values: Vec<f64>| {
            let mut spark = Spark::default();
            for (i, value) in values.into_iter().enumerate() {
                spark.add(start_ms + i as i64 * BUCKET_MS, value);
            }
            spark
        };
        sums.into_iter().map(|(id, values)| (id, spark(values))).collect()
    }
}

fn equal(name: &str, value: &str) -> v1::LabelMatcher {
    v1::LabelMatcher {
        name: name.to_owned(),
        op: v1::label_matcher::Op::Equal.into(),
        value: value.to_owned(),
    }
}

fn now_ms() -> i64 {
    UnixMillis::from(SystemTime::now()).0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(id: &str, time_s: i64, cpu: f64) -> v1::Machine {
        v1::Machine {
            id: id.to_owned(),
            headline: Some(v1::Headline {
                time: Some(prost_types::Timestamp { seconds: time_s, nanos: 0 }),
                cpu_utilization: Some(cpu),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn message(snapshot: bool, machines: Vec<v1::Machine>, removed: &[&str]) -> v1::WatchResponse {
        let removed_machine_ids = removed.iter().map(|&id| id.to_owned()).collect();
        v1::WatchResponse { machines, snapshot, removed_machine_ids }
    }

    #[test]
    fn a_change_touches_only_the_rows_it_names() {
        let first = Picture::default().after(message(
            true,
            vec![machine("a", 1, 0.1), machine("b", 1, 0.2)],
            &[],
        ));
        let second = first.after(message(false, vec![machine("a", 2, 0.3)], &[]));
        assert_eq!((second.rows["a"].revision, second.rows["b"].revision), (2, 1));
        assert!(Arc::ptr_eq(&first.rows["b"], &second.rows["b"]));
        assert_eq!(second.membership, 1);
    }

    #[test]
    fn machines_come_and_go() {
        let first = Picture::default().after(message(
            true,
            vec![machine("a", 1, 0.1), machine("b", 1, 0.2)],
            &[],
        ));
        let removed = first.after(message(false, vec![], &["b"]));
        assert_eq!(removed.rows.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(removed.membership, 2);
        let other = removed.after(message(true, vec![machine("c", 1, 0.1)], &[]));
        assert_eq!(other.rows.keys().collect::<Vec<_>>(), ["c"]);
        assert_eq!(other.membership, 3);
    }

    #[test]
    fn a_snapshot_after_a_reconnect_keeps_the_lines_of_the_last_minutes() {
        let first = Picture::default().after(message(true, vec![machine("a", 0, 0.1)], &[]));
        let again = first.after(message(true, vec![machine("a", 10, 0.2)], &[]));
        assert_eq!(again.rows["a"].cpu.values(10_000).iter().flatten().count(), 2);
    }
}
