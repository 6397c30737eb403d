//! The fleet, and what one machine runs, in the terminal.

use crate::cluster::{Cluster, PATIENCE};
use crate::eventually::eventually;
use crate::process;

/// `muster top …`, as a script types it.
async fn top(cluster: &Cluster, args: &[&str]) -> Result<String, String> {
    let mut command = process::muster();
    command.arg("top").args(args).args(["--url", &cluster.url()]);
    let output = tokio::task::spawn_blocking(move || command.output().expect("runs"));
    let output = output.await.expect("no panic");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fleet_and_what_a_machine_runs_are_a_command_away() {
    let cluster = Cluster::aggregator().await;
    let _web = cluster.collector("web-1", &cluster.url());
    let name = eventually(PATIENCE, || async {
        let fleet = top(&cluster, &["--label", "name=web-1", "--sort", "memory"]).await?;
        let row = fleet.lines().find(|line| line.contains(" online ") && line.contains(" % "));
        let row = row.ok_or_else(|| format!("no row with values yet:\n{fleet}"))?;
        assert!(fleet.starts_with("1 machine  1 online\n"), "{fleet}");
        Ok::<_, String>(row.split_whitespace().next().unwrap_or_default().to_owned())
    })
    .await;
    let nobody = top(&cluster, &["--label", "name=other"]).await.expect("answers");
    assert!(nobody.starts_with("0 machines\n"), "{nobody}");
    eventually(PATIENCE, || async {
        let processes = top(&cluster, &[&name, "--once"]).await?;
        // The collector that reports is among what it reports.
        let there = processes.lines().any(|line| line.contains("collector"));
        there.then_some(()).ok_or_else(|| format!("not there yet:\n{processes}"))
    })
    .await;
    let strange = top(&cluster, &["no-such-machine"]).await.expect_err("is refused");
    assert!(strange.starts_with("error: ") && strange.contains("no-such-machine"), "{strange}");
}
