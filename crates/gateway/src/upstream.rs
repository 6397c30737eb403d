//! The aggregator, as the gateway sees it: its client, with a deadline on every call.

use std::time::Duration;

use proto::v1;
use proto::v1::state_service_client::StateServiceClient;
use tonic::{Response, Status, Streaming};

/// A page must not hang because the aggregator does.
const DEADLINE: Duration = Duration::from_secs(10);
/// 1,000 machines with many labels fit many times over.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

mod access;
mod alerts;
mod containers;
mod logs;
mod push;

pub(crate) use access::Access;
pub(crate) use alerts::Alerts;
pub(crate) use containers::ContainerUse;
pub(crate) use logs::Logs;
pub(crate) use push::Push;

#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    state: StateServiceClient<proto::Link>,
}

impl Upstream {
    pub(crate) fn new(link: proto::Link) -> Self {
        Self { state: StateServiceClient::new(link).max_decoding_message_size(ANSWER_BYTES_MAX) }
    }

    pub(crate) async fn list_machines(
        &self,
        request: v1::ListMachinesRequest,
    ) -> Result<v1::ListMachinesResponse, Status> {
        within(self.state.clone().list_machines(request)).await
    }

    pub(crate) async fn machine(&self, machine: &str) -> Result<v1::Machine, Status> {
        let request = v1::GetMachineRequest { machine: machine.to_owned() };
        let answer = within(self.state.clone().get_machine(request)).await?;
        answer.machine.ok_or_else(|| Status::internal("machine: absent in the answer"))
    }

    pub(crate) async fn remove_machine(
        &self,
        machine: &str,
    ) -> Result<v1::RemoveMachineResponse, Status> {
        let request = v1::RemoveMachineRequest { machine: machine.to_owned() };
        within(self.state.clone().remove_machine(alerts::from_dashboard(request))).await
    }

    pub(crate) async fn current_state(
        &self,
        request: v1::GetCurrentStateRequest,
    ) -> Result<v1::GetCurrentStateResponse, Status> {
        within(self.state.clone().get_current_state(request)).await
    }

    pub(crate) async fn query_range(
        &self,
        request: v1::QueryRangeRequest,
    ) -> Result<v1::QueryRangeResponse, Status> {
        within(self.state.clone().query_range(request)).await
    }

    pub(crate) async fn list_processes(
        &self,
        request: v1::ListProcessesRequest,
    ) -> Result<v1::ListProcessesResponse, Status> {
        within(self.state.clone().list_processes(request)).await
    }

    pub(crate) async fn list_events(
        &self,
        request: v1::ListEventsRequest,
    ) -> Result<v1::ListEventsResponse, Status> {
        within(self.state.clone().list_events(request)).await
    }

    pub(crate) async fn server_status(&self) -> Result<v1::GetServerStatusResponse, Status> {
        within(self.state.clone().get_server_status(v1::GetServerStatusRequest {})).await
    }

    /// The deadline is on the beginning of the stream; the stream itself may be quiet for ever.
    pub(crate) async fn watch(
        &self,
        request: v1::WatchRequest,
    ) -> Result<Streaming<v1::WatchResponse>, Status> {
        within(self.state.clone().watch(request)).await
    }

    pub(crate) async fn stream_metrics(
        &self,
        request: v1::StreamMetricsRequest,
    ) -> Result<Streaming<v1::StreamMetricsResponse>, Status> {
        within(self.state.clone().stream_metrics(request)).await
    }
}

async fn within<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
    answer_of("aggregator", call).await
}

/// `who` is named to people when it does not answer in time.
async fn answer_of<T>(
    who: &str,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(answer) => answer.map(Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded(format!(
            "the {who} did not answer within {} s",
            DEADLINE.as_secs()
        ))),
    }
}
