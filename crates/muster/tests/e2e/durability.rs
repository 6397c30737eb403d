//! What was acknowledged is never lost and never stored twice, whatever is killed, whenever.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use model::{MachineId, SpoolEpoch, TimeRange, UnixMillis};
use proto::convert;
use proto::v1::collector_message::Kind as Up;
use storage::history::SeriesSelector;

use crate::cluster::{Cluster, PATIENCE};
use crate::eventually::eventually;
use crate::process::Process;
use crate::random::Random;
use crate::witness::{Record, Spool, Witness};

const COLLECTORS: [&str; 3] = ["web-1", "web-2", "web-3"];
const KILLS: usize = 20;
/// Numbers that a collector reserves at a time.
const NUMBERS_RESERVED: u64 = 1 << 16;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_when_the_server_is_killed_twenty_times() {
    let mut cluster = Cluster::aggregator().await;
    let witness = Witness::of(&cluster.url()).await;
    let collectors = COLLECTORS.map(|name| cluster.collector(name, &witness.url()));
    all_are_heard(&witness).await;

    let mut random = Random::from_environment();
    for _ in 0..KILLS {
        tokio::time::sleep(random.moment(50, 1_200)).await;
        cluster.server.kill();
        cluster.restart().await;
    }
    everything_is_kept(cluster, &witness, collectors, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_when_collectors_are_killed_twenty_times() {
    let cluster = Cluster::aggregator().await;
    let witness = Witness::of(&cluster.url()).await;
    let mut collectors = COLLECTORS.map(|name| cluster.collector(name, &witness.url()));
    all_are_heard(&witness).await;

    let mut random = Random::from_environment();
    for _ in 0..KILLS {
        tokio::time::sleep(random.moment(50, 1_200)).await;
        let victim = random.below(COLLECTORS.len() as u64) as usize;
        collectors[victim].kill();
        collectors[victim] = cluster.collector(COLLECTORS[victim], &witness.url());
    }
    everything_is_kept(cluster, &witness, collectors, 1 + KILLS).await;
}

async fn all_are_heard(witness: &Witness) {
    eventually(PATIENCE, || async {
        let heard = witness.records().values().filter(|r| !r.acknowledged.is_empty()).count();
        (heard == COLLECTORS.len()).then_some(()).ok_or(format!("{heard} collectors are heard"))
    })
    .await;
}

/// A life in which hardly anything new is read, until all that was kept is delivered.
async fn drain(cluster: &Cluster, witness: &Witness, collectors: [Process; COLLECTORS.len()]) {
    for mut collector in collectors {
        // One that was started a moment ago does not listen for signals yet.
        eventually(PATIENCE, || async {
            let listens = collector.output().contains("collecting");
            listens.then_some(()).ok_or_else(|| "a collector has not started".to_owned())
        })
        .await;
        assert!(collector.stop(PATIENCE).success(), "a collector that is told to stop ends well");
    }
    let before = witness.records();
    let quiet = COLLECTORS.map(|name| cluster.collector_every("1h", name, &witness.url()));
    eventually(PATIENCE, || async {
        for (spool, record) in &witness.records() {
            let heard_again = before.get(spool).is_some_and(|b| b.items.len() < record.items.len());
            let sent = record.sent_seqs();
            if !heard_again || record.acknowledged != sent {
                return Err(format!(
                    "{spool:?}: {sent} sent, {} acknowledged",
                    record.acknowledged
                ));
            }
        }
        Ok(())
    })
    .await;
    for mut collector in quiet {
        assert!(collector.stop(PATIENCE).success(), "a collector that is told to stop ends well");
    }
}

/// Stops everything in order and compares what the collectors sent with what history holds. `lives` is how
/// often a collector may have been started.
async fn everything_is_kept(
    mut cluster: Cluster,
    witness: &Witness,
    collectors: [Process; COLLECTORS.len()],
    lives: usize,
) {
    drain(&cluster, witness, collectors).await;
    let records = witness.records();
    assert_eq!(records.len(), COLLECTORS.len(), "each collector has one spool for its whole life");
    for (spool, record) in &records {
        let sent = record.sent_seqs();
        let frames = record.frames().count();
        eprintln!("{spool:?}: sent {sent}, of these {frames} frames");
        assert!(record.changed.is_empty(), "numbers that named two items: {:?}", record.changed);
        assert!(record.rejected.is_empty(), "refused: {:?}", record.rejected);
        assert!(frames > 50, "only {frames} frames in the whole run");
        let gaps = record.items.values().filter(|item| matches!(item, Up::Gap(_))).count();
        assert_eq!(gaps, 0, "nothing had to be given up");
        assert_eq!(record.acknowledged, sent, "everything is acknowledged after the drain");
        // A collector that was killed goes on at the numbers that it had not reserved. Within one life, and
        // across clean stops, none is skipped.
        assert!(sent.len() <= lives, "{} stretches of numbers in {lives} lives", sent.len());
        for stretch in sent.iter() {
            assert_eq!(
                stretch.first() % NUMBERS_RESERVED,
                1,
                "a number is skipped before {stretch:?}"
            );
        }
    }
    assert!(cluster.server.stop(PATIENCE).success(), "the server ends well");
    compare(&cluster.data_dir(), &records).await;
}

/// Every value of every acknowledged frame is in history, once, and nothing else is.
async fn compare(data_dir: &Path, records: &BTreeMap<Spool, Record>) {
    let stores = storage::open(&storage::Config::default(), data_dir).await.expect("opens");
    for ((machine, epoch), record) in records {
        let machine: MachineId = machine.parse().expect("a machine id");
        let kept = stores.history.acknowledged(machine, SpoolEpoch(*epoch)).await.expect("answers");
        assert_eq!(kept, record.acknowledged, "history holds what was promised");

        // (metric, labels) → time → value.
        let mut expected: HashMap<model::Series, BTreeMap<UnixMillis, f64>> = HashMap::new();
        for (seq, frame) in record.frames() {
            let layout = record.layouts.get(&frame.layout_id).expect("a layout before its frame");
            let layout = convert::layout_from_proto(layout.clone()).expect("a valid layout");
            assert_eq!(layout.series().len(), frame.values.len(), "frame {seq}");
            for (series, value) in layout.series().iter().zip(&frame.values) {
                if value.is_nan() {
                    continue;
                }
                let times = expected.entry(series.clone()).or_default();
                let before = times.insert(UnixMillis(frame.time_unix_ms), *value);
                assert_eq!(before, None, "the collector read {series:?} twice at one instant");
            }
        }
        let mut compared = 0;
        for (series, times) in &expected {
            let selector = SeriesSelector {
                metric: series.metric.to_string(),
                labels: Vec::new(),
                machines: Some(vec![machine]),
            };
            let found = stores.history.find_series(&selector, 10_000).await.expect("answers");
            let same: Vec<_> = found.into_iter().filter(|s| s.series == *series).collect();
            assert_eq!(same.len(), 1, "{series:?} is kept as one series");
            let samples =
                stores.history.read_raw(&same, TimeRange::ALL).await.expect("answers").remove(0);
            assert!(samples.times.is_sorted_by(|a, b| a < b), "{series:?}: each time once");
            let stored: BTreeMap<_, _> = samples.times.into_iter().zip(samples.values).collect();
            assert_eq!(&stored, times, "{series:?} on {machine}");
            compared += stored.len();
        }
        eprintln!("{machine}: {} series, {compared} values are as they were read", expected.len());
        assert!(compared > 1_000, "only {compared} values were compared");
    }
}
