//! What the containers of one machine are called, and what they took at a moment.

use std::collections::HashMap;

use model::{UnixMillis, metric};
use proto::convert::{duration_from_ms, timestamp_to_proto};
use proto::v1;
use tonic::Status;

use super::Upstream;

const ID: &str = "container.id";
const NAME: &str = "container.name";
/// Containers are read every few seconds; a window must meet one reading.
const STEP_MS: i64 = 10_000;

/// One container at a moment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ContainerUse {
    pub(crate) name: String,
    pub(crate) then: f64,
    /// NaN where nothing is known.
    pub(crate) before: f64,
}

impl Upstream {
    /// By id. Empty when it cannot be had: an id does as well.
    pub(crate) async fn container_names(&self, machine: &str) -> HashMap<String, String> {
        let request = v1::GetCurrentStateRequest {
            machine: machine.to_owned(),
            metrics: vec![metric::CONTAINER_MEMORY_USAGE.name.to_owned()],
        };
        let samples = self.current_state(request).await.map(|answer| answer.samples);
        let named = samples.unwrap_or_default().into_iter();
        named.filter_map(|mut s| Some((s.labels.remove(ID)?, s.labels.remove(NAME)?))).collect()
    }

    /// A gauge of all containers of a machine, given by its id, at a moment and some time before.
    pub(crate) async fn containers_at(
        &self,
        machine_id: &str,
        metric: &metric::Metric,
        at_ms: i64,
        before_ms: i64,
    ) -> Result<Vec<ContainerUse>, Status> {
        let answer = self
            .query_range(v1::QueryRangeRequest {
                metric: metric.name.to_owned(),
                machines: vec![v1::LabelMatcher {
                    name: "machine.id".to_owned(),
                    op: v1::label_matcher::Op::Equal.into(),
                    value: machine_id.to_owned(),
                }],
                start: Some(timestamp_to_proto(UnixMillis(at_ms - before_ms - STEP_MS))),
                end: Some(timestamp_to_proto(UnixMillis(at_ms + STEP_MS))),
                step: Some(duration_from_ms(STEP_MS)),
                ..Default::default()
            })
            .await?;
        let known = |values: Vec<f64>| {
            values.into_iter().find(|value| value.is_finite()).unwrap_or(f64::NAN)
        };
        let uses = answer.series.into_iter().map(|series| ContainerUse {
            // The window of the moment is the last but one, or the last; the nearest that was read counts.
            then: known(series.values.iter().rev().take(3).copied().collect()),
            before: known(series.values.iter().take(2).copied().collect()),
            name: [NAME, ID]
                .iter()
                .find_map(|label| series.labels.get(*label))
                .cloned()
                .unwrap_or_default(),
        });
        Ok(uses.filter(|container| container.then.is_finite()).collect())
    }
}
