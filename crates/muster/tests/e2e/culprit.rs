//! A spike is seen, and who made it is named.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use proto::v1;
use proto::v1::state_service_client::StateServiceClient;

use crate::cluster::{Cluster, PATIENCE, machines};
use crate::eventually::eventually;

const NAME: &str = "busy-culprit";

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_loop_shows_in_the_cpu_and_is_named() {
    let cluster = Cluster::up().await;
    let mut client = StateServiceClient::new(cluster.channel().await);
    let channel = cluster.channel().await;
    let machine = eventually(PATIENCE, || async {
        let known = machines(channel.clone()).await.into_iter().next();
        known.filter(|m| m.headline.is_some()).map(|m| m.id).ok_or("no headline yet".to_owned())
    })
    .await;

    // A copy of the shell under a name of its own, as the process list shows the file's name.
    let shell = cluster.dir().join(NAME);
    std::fs::copy("/bin/sh", &shell).expect("a shell to copy");
    let mut busy = Command::new(&shell)
        .args(["-c", "while :; do :; done"])
        .stdin(Stdio::null())
        .spawn()
        .expect("starts");
    let began = Instant::now();

    let cores = std::thread::available_parallelism().expect("is known").get() as f64;
    let seen = eventually(PATIENCE, || {
        let (mut client, machine) = (client.clone(), machine.clone());
        async move {
            let request = v1::GetCurrentStateRequest {
                machine,
                metrics: vec!["system.cpu.utilization".to_owned()],
            };
            let state = client.get_current_state(request).await.map_err(|e| e.to_string())?;
            let state = state.into_inner();
            let headline = state.machine.and_then(|m| m.headline).and_then(|h| h.cpu_utilization);
            let busy = headline.ok_or("no CPU utilization")?;
            // Other tests take their part of the machine, so less than a whole core counts as seen.
            (busy >= 0.5 / cores).then(|| began.elapsed()).ok_or(format!("CPU at {busy}"))
        }
    })
    .await;
    let named = eventually(PATIENCE, || {
        let (mut client, machine) = (client.clone(), machine.clone());
        async move {
            let request = v1::ListProcessesRequest { machine, at: None };
            let list = client.list_processes(request).await.map_err(|e| e.to_string())?;
            let list = list.into_inner().processes;
            let found = list.iter().find(|p| p.name == NAME && p.cpu_utilization > 0.2);
            found.map(|_| began.elapsed()).ok_or_else(|| {
                let names: Vec<_> = list.iter().map(|p| (&p.name, p.cpu_utilization)).collect();
                format!("not among {names:?}")
            })
        }
    })
    .await;
    busy.kill().expect("is ours");
    busy.wait().expect("is ours");
    eprintln!("CPU seen after {seen:?}, process named after {named:?}");
    let limit = Duration::from_secs(10);
    assert!(seen < limit && named < limit, "CPU after {seen:?}, process after {named:?}");
    let _ = client.list_machines(v1::ListMachinesRequest::default()).await.expect("still answers");
}
