//! Events that could not be processed, on the wire.

use proto::v1;
use storage::events::{DeadLetter, Retry};
use tonic::Status;

use super::{Api, limit, stamp, unavailable};

impl Api {
    pub(super) async fn dead_events(
        &self,
        request: v1::ListDeadEventsRequest,
    ) -> Result<v1::ListDeadEventsResponse, Status> {
        let dead = self.events.dead_letters(limit(request.limit)?).await.map_err(unavailable)?;
        let events = dead.letters.into_iter().map(shown).collect();
        Ok(v1::ListDeadEventsResponse { events, total: dead.total as u32 })
    }

    pub(super) async fn retry_event(&self, id: &str) -> Result<(), Status> {
        match self.events.retry_dead(id).await.map_err(unavailable)? {
            Retry::Published => Ok(()),
            Retry::Absent => Err(absent(id)),
            Retry::Cut => Err(Status::failed_precondition(format!(
                "id: {id} was too large to be kept whole, so it can only be discarded"
            ))),
        }
    }

    pub(super) async fn discard_event(&self, id: &str) -> Result<(), Status> {
        match self.events.discard_dead(id).await.map_err(unavailable)? {
            true => Ok(()),
            false => Err(absent(id)),
        }
    }
}

fn absent(id: &str) -> Status {
    Status::not_found(format!("id: there is no dead event {id:?}"))
}

fn shown(letter: DeadLetter) -> v1::DeadEvent {
    v1::DeadEvent {
        id: letter.id,
        since: stamp(letter.since),
        machine_id: letter.machine,
        kind: letter.kind,
        reason: letter.reason,
        can_be_retried: letter.whole,
    }
}
