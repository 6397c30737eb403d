//! What was acknowledged is never lost and never stored twice, whatever is killed, whenever.

use crate::cluster::{Cluster, PATIENCE};
use crate::process::Process;
use crate::promises::{all_are_heard, all_is_promised, compare, drain};
use crate::random::Random;
use crate::witness::Witness;

const COLLECTORS: [&str; 3] = ["web-1", "web-2", "web-3"];
const KILLS: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_when_the_server_is_killed_twenty_times() {
    let mut cluster = Cluster::aggregator().await;
    let witness = Witness::of(&cluster.url()).await;
    let collectors = COLLECTORS.map(|name| cluster.collector(name, &witness.url()));
    all_are_heard(&witness, COLLECTORS.len()).await;

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
    all_are_heard(&witness, COLLECTORS.len()).await;

    let mut random = Random::from_environment();
    for _ in 0..KILLS {
        tokio::time::sleep(random.moment(50, 1_200)).await;
        let victim = random.below(COLLECTORS.len() as u64) as usize;
        collectors[victim].kill();
        collectors[victim] = cluster.collector(COLLECTORS[victim], &witness.url());
    }
    everything_is_kept(cluster, &witness, collectors, 1 + KILLS).await;
}

/// Stops everything in order and compares what the collectors sent with what history holds. `lives` is how
/// often a collector may have been started.
async fn everything_is_kept(
    mut cluster: Cluster,
    witness: &Witness,
    collectors: [Process; COLLECTORS.len()],
    lives: usize,
) {
    let quietly = || COLLECTORS.map(|name| cluster.collector_every("1h", name, &witness.url()));
    drain(witness, collectors, quietly).await;
    let records = witness.records();
    all_is_promised(&records, COLLECTORS.len(), lives);
    assert!(cluster.server.stop(PATIENCE).success(), "the server ends well");
    let config = storage::Config::default();
    let stores = storage::open(&config, &cluster.data_dir()).await.expect("opens");
    compare(&stores, &records).await;
}
