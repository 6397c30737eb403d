//! What was promised, compared with what is kept.

use std::collections::{BTreeMap, HashMap};

use model::{MachineId, SpoolEpoch, TimeRange, UnixMillis};
use proto::convert;
use proto::v1::collector_message::Kind as Up;
use storage::Stores;
use storage::history::SeriesSelector;

use crate::cluster::PATIENCE;
use crate::eventually::eventually;
use crate::process::Process;
use crate::witness::{Record, Spool, Witness};

/// Numbers that a collector reserves at a time.
const NUMBERS_RESERVED: u64 = 1 << 16;

pub(crate) async fn all_are_heard(witness: &Witness, collectors: usize) {
    eventually(PATIENCE, || async {
        let heard = witness.records().values().filter(|r| !r.acknowledged.is_empty()).count();
        (heard == collectors).then_some(()).ok_or(format!("{heard} collectors are heard"))
    })
    .await;
}

/// A life in which hardly anything new is read, until all that was kept is delivered. `quietly` begins it.
pub(crate) async fn drain<const N: usize>(
    witness: &Witness,
    collectors: [Process; N],
    quietly: impl FnOnce() -> [Process; N],
) {
    for mut collector in collectors {
        // One that was started a moment ago does not listen for signals yet.
        eventually(PATIENCE, || async {
            let listens = collector.said().contains("collecting");
            listens.then_some(()).ok_or_else(|| "a collector has not started".to_owned())
        })
        .await;
        assert!(collector.stop(PATIENCE).success(), "a collector that is told to stop ends well");
    }
    let before = witness.records();
    let quiet = quietly();
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

/// Everything was sent under numbers of its own, none left out, and acknowledged. `lives` is how often a collector
/// may have been started.
pub(crate) fn all_is_promised(records: &BTreeMap<Spool, Record>, collectors: usize, lives: usize) {
    assert_eq!(records.len(), collectors, "each collector has one spool for its whole life");
    for (spool, record) in records {
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
}

/// Every value of every acknowledged frame is in history, once, and nothing else is.
pub(crate) async fn compare(stores: &Stores, records: &BTreeMap<Spool, Record>) {
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
