//! Whether a collector is the machine that it says it is.

use model::{Caller, Claim, Grant, MachineId};
use storage::Credentials;
use tonic::Status;

/// Without a caller, access control is off, or the collector is in this very process.
pub(super) async fn check(
    credentials: &dyn Credentials,
    caller: Option<Caller>,
    machine: MachineId,
) -> Result<(), Status> {
    let Some(caller) = caller else { return Ok(()) };
    let denied = |why: &str| {
        Err(Status::permission_denied(format!(
            "hello.machine_id: {machine}: token {:?} {why}",
            caller.name
        )))
    };
    let unavailable = |error: storage::StorageError| Status::unavailable(error.to_string());
    let Grant::Report(claim) = caller.grant else {
        return denied("is not one for collectors; hint: make one with `muster token create`");
    };
    match claim {
        Claim::Only(own) if own == machine => Ok(()),
        Claim::Only(_) => {
            denied("is that of another machine; hint: each machine has its own token")
        }
        Claim::First => match credentials.bind(&caller.id, machine).await.map_err(unavailable)? {
            true => Ok(()),
            false => denied("is that of another machine; hint: each machine has its own token"),
        },
        Claim::Any => {
            let own = Grant::Report(Claim::Only(machine));
            let all = credentials.all().await.map_err(unavailable)?;
            match all.iter().any(|credential| credential.grant == own) {
                true => denied(
                    "is for machines without one of their own; hint: use the machine's own token, or revoke that",
                ),
                false => Ok(()),
            }
        }
    }
}
