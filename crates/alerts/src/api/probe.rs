//! What tells a probe that its sample has come.

use std::pin::Pin;

use model::{MachineId, probe};
use proto::convert::FieldError;
use proto::v1;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;

use super::{Api, stamp};

pub(super) type Samples =
    Pin<Box<dyn Stream<Item = Result<v1::FollowProbeResponse, Status>> + Send>>;

impl Api {
    /// Ends with the watcher.
    pub(super) fn samples_of(&self, machine: &str) -> Result<Samples, Status> {
        let machine: MachineId =
            machine.parse().map_err(|error| FieldError::new("machine_id", error))?;
        if !probe::is_probe(machine) {
            return Err(FieldError::new("machine_id", "expected the id of a probe").into());
        }
        let Some(probes) = self.probes.upgrade() else {
            return Err(Status::unavailable("the alert service is not running"));
        };
        let samples = BroadcastStream::new(probes.subscribe());
        // What was missed by reading slowly is missed by the probe too, which says so.
        Ok(Box::pin(samples.filter_map(move |sample| {
            let (of, time) = sample.ok()?;
            (of == machine).then(|| Ok(v1::FollowProbeResponse { time: stamp(time) }))
        })))
    }
}
