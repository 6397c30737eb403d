//! The aggregator's log service.

use proto::v1;
use proto::v1::log_service_client::LogServiceClient;
use tonic::{Status, Streaming};

use super::within;

/// A thousand lines of 64 KiB.
const ANSWER_BYTES_MAX: usize = 128 * 1024 * 1024;

#[derive(Clone, Debug)]
pub(crate) struct Logs(LogServiceClient<proto::Link>);

impl Logs {
    pub(crate) fn new(link: proto::Link) -> Self {
        Self(LogServiceClient::new(link).max_decoding_message_size(ANSWER_BYTES_MAX))
    }

    pub(crate) async fn search(
        &self,
        request: v1::SearchRequest,
    ) -> Result<v1::SearchResponse, Status> {
        within(self.0.clone().search(request)).await
    }

    /// The deadline is on the beginning of the stream; the stream itself may be quiet for ever.
    pub(crate) async fn tail(
        &self,
        request: v1::TailRequest,
    ) -> Result<Streaming<v1::TailResponse>, Status> {
        within(self.0.clone().tail(request)).await
    }

    pub(crate) async fn error_breakdown(
        &self,
        request: v1::ErrorBreakdownRequest,
    ) -> Result<v1::ErrorBreakdownResponse, Status> {
        within(self.0.clone().error_breakdown(request)).await
    }
}
