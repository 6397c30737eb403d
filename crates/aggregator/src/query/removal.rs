//! Forgetting a machine: `RemoveMachine`.

use proto::v1;
use storage::events::{Event, EventKind};
use tonic::{Request, Status};

use super::directory::Known;
use super::{Desk, unavailable};

/// From what takes longest to what makes it be listed: should a step fail, the machine can still be named, and
/// asking again does all of it anew.
pub(super) async fn answer(
    desk: &Desk,
    request: Request<v1::RemoveMachineRequest>,
) -> Result<v1::RemoveMachineResponse, Status> {
    let actor = request.metadata().get("muster-actor").and_then(|name| name.to_str().ok());
    let actor = actor.unwrap_or("somebody").to_owned();
    let known = desk.machine("machine", &request.into_inner().machine).await?;
    let (machine, host_name) = (known.record.id, known.record.facts.host_name.clone());
    if known.reports() || desk.roll.hears(machine) {
        return Err(Status::failed_precondition(format!(
            "machine: {host_name:?} reports, and would be back at once; hint: stop its collector first, \
             or revoke its token"
        )));
    }
    desk.history.remove(machine).await.map_err(unavailable)?;
    let _keeping = desk.roll.keeping.lock().await;
    let _registering = desk.roll.registering.lock().await;
    desk.live.remove(machine).await.map_err(unavailable)?;
    desk.registry.remove_machine(machine).await.map_err(unavailable)?;
    let removed = Event { machine, kind: EventKind::Removed };
    if let Err(error) = desk.events.publish(removed).await {
        // It is done; the other aggregators find out when they next read the register.
        tracing::warn!(machine.id = %machine, %error, "failed to tell others that a machine was removed");
    }
    desk.roll.forget(machine);
    tracing::info!(machine.id = %machine, host.name = host_name, by = actor, "removed a machine");
    Ok(v1::RemoveMachineResponse { machine_id: machine.to_string(), host_name })
}

impl Known {
    /// It is there, or was a moment ago.
    fn reports(&self) -> bool {
        use model::MachineStatus::{Online, Stale};
        matches!(self.status(), Online | Stale)
    }
}
