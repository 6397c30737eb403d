//! Forgetting a machine: `RemoveMachine`.

use model::{MachineId, MachineStatus};
use proto::v1;
use storage::events::{Event, EventKind};
use tonic::{Request, Status};

use super::{Desk, unavailable};

/// From what takes longest to what makes it be listed: should a step fail, the machine can still be named, and
/// asking again does all of it anew.
pub(super) async fn answer(
    desk: &Desk,
    request: Request<v1::RemoveMachineRequest>,
) -> Result<v1::RemoveMachineResponse, Status> {
    let actor = request.metadata().get("muster-actor").and_then(|name| name.to_str().ok());
    let actor = actor.unwrap_or("somebody").to_owned();
    let record = desk.record("machine", &request.into_inner().machine)?;
    let (machine, host_name) = (record.id, record.facts.host_name.clone());
    if reports(desk, machine).await? {
        return Err(Status::failed_precondition(format!(
            "machine: {host_name:?} reports, and would be back at once; hint: stop its collector first, \
             or revoke its token"
        )));
    }
    let came_back = || {
        Status::failed_precondition(format!(
            "machine: {host_name:?} began to report while it was removed: it stays, without its history"
        ))
    };
    desk.history.remove(machine).await.map_err(unavailable)?;
    {
        let _turn = desk.roll.keeping.lock().await;
        // History takes its time. A collector that came meanwhile must not lose its lease.
        if reports(desk, machine).await? {
            return Err(came_back());
        }
        desk.live.remove(machine).await.map_err(unavailable)?;
    }
    {
        // Only those wait here who wait for the registry anyway: the present goes on.
        let _turn = desk.roll.registering.lock().await;
        desk.registry.remove_machine(machine).await.map_err(unavailable)?;
        let _turn = desk.roll.keeping.lock().await;
        if !desk.roll.forget(machine) {
            desk.roll.register_again(machine);
            return Err(came_back());
        }
        // What was written since the first time. Left there it is nobody's, and goes by itself.
        let _ = desk.live.remove(machine).await;
    }
    let removed = Event { machine, kind: EventKind::Removed };
    if let Err(error) = desk.events.publish(removed).await {
        // It is done; the other aggregators find out when they next read the register.
        tracing::warn!(machine.id = %machine, %error, "failed to tell others that a machine was removed");
    }
    tracing::info!(machine.id = %machine, host.name = host_name, by = actor, "removed a machine");
    Ok(v1::RemoveMachineResponse { machine_id: machine.to_string(), host_name })
}

/// It is there, here or at another aggregator, or was a moment ago.
async fn reports(desk: &Desk, machine: MachineId) -> Result<bool, Status> {
    use MachineStatus::{Online, Stale};
    let presence = desk.live.presence(machine).await.map_err(unavailable)?;
    let status = presence.map(|presence| presence.status);
    let status = status.or_else(|| desk.roll.record(machine).map(|record| record.status));
    Ok(matches!(status, Some(Online | Stale)) || desk.roll.hears(machine))
}
