//! A machine that is no more is removed by command, and is new should it come back.

use std::process::Output;

use proto::v1;
use proto::v1::state_service_client::StateServiceClient;

use crate::cluster::{Cluster, PATIENCE};
use crate::eventually::eventually;
use crate::process;

/// `muster machine …`, as somebody types it.
async fn machine(cluster: &Cluster, args: &[&str]) -> Output {
    let mut command = process::muster();
    command.arg("machine").args(args).args(["--url", &cluster.url()]);
    tokio::task::spawn_blocking(move || command.output().expect("runs")).await.expect("no panic")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The machine of this collector, once it is as `status` says.
async fn becomes(cluster: &Cluster, name: &str, status: v1::MachineStatus) -> v1::Machine {
    let channel = cluster.channel().await;
    eventually(PATIENCE, || async {
        let mut state = StateServiceClient::new(channel.clone());
        let answer = state.list_machines(v1::ListMachinesRequest::default()).await;
        let machines = answer.map_err(|e| e.to_string())?.into_inner().machines;
        let named = |m: &&v1::Machine| m.labels.get("name").is_some_and(|found| found == name);
        let found = machines.iter().find(named).filter(|m| m.status() == status).cloned();
        found.ok_or_else(|| format!("{name} is not {status:?}: {machines:?}"))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_removed_by_command_and_comes_back_as_a_new_one() {
    let cluster = Cluster::aggregator().await;
    let mut web = cluster.collector("web", &cluster.url());
    let id = becomes(&cluster, "web", v1::MachineStatus::Online).await.id;

    let refused = machine(&cluster, &["remove", &id]).await;
    let said = text(&refused.stderr);
    assert!(!refused.status.success() && said.contains("\nhint: stop its collector"), "{said}");

    web.stop(PATIENCE);
    let before = becomes(&cluster, "web", v1::MachineStatus::Stopped).await;
    let listed = text(&machine(&cluster, &["list"]).await.stdout);
    assert!(listed.lines().any(|line| line.starts_with(&format!("{id} stopped"))), "{listed}");
    let removed = machine(&cluster, &["rm", &id[..8]]).await;
    assert!(removed.status.success(), "{}", text(&removed.stderr));
    assert!(text(&removed.stdout).contains(&format!("({id}): removed")), "{removed:?}");
    let nobody = machine(&cluster, &["list"]).await;
    assert!(text(&nobody.stderr).contains("there are no machines"), "{nobody:?}");

    let _web = cluster.collector("web", &cluster.url());
    let back = becomes(&cluster, "web", v1::MachineStatus::Online).await;
    let seen = |machine: &v1::Machine| machine.first_seen.map(|time| (time.seconds, time.nanos));
    assert_eq!(back.id, id);
    assert!(seen(&back) > seen(&before), "{back:?}");
}
