//! Where programs push to.

use proto::v1;
use proto::v1::push_service_client::PushServiceClient;
use tonic::Status;

use super::within;

#[derive(Clone, Debug)]
pub(crate) struct Push(PushServiceClient<proto::Link>);

impl Push {
    pub(crate) fn new(link: proto::Link) -> Self {
        Self(PushServiceClient::new(link))
    }

    /// Answers when all of it is durable.
    pub(crate) async fn push(&self, request: v1::PushRequest) -> Result<v1::PushResponse, Status> {
        within(self.0.clone().push(request)).await
    }
}
