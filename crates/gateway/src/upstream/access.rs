//! Who may do what, as the gateway asks for it.

use proto::v1;
use proto::v1::access_service_client::AccessServiceClient;
use tonic::Status;

use super::alerts::from_dashboard;
use super::within;

#[derive(Clone, Debug)]
pub(crate) struct Access(AccessServiceClient<proto::Link>);

impl Access {
    pub(crate) fn new(link: proto::Link) -> Self {
        Self(AccessServiceClient::new(link))
    }

    pub(crate) async fn log_in(
        &self,
        message: v1::LogInRequest,
    ) -> Result<v1::LogInResponse, Status> {
        within(self.0.clone().log_in(message)).await
    }

    pub(crate) async fn log_out(&self, secret: String) -> Result<v1::LogOutResponse, Status> {
        within(self.0.clone().log_out(v1::LogOutRequest { secret })).await
    }

    pub(crate) async fn list_tokens(&self) -> Result<v1::ListTokensResponse, Status> {
        within(self.0.clone().list_tokens(v1::ListTokensRequest {})).await
    }

    pub(crate) async fn create_token(
        &self,
        message: v1::CreateTokenRequest,
    ) -> Result<v1::CreateTokenResponse, Status> {
        within(self.0.clone().create_token(from_dashboard(message))).await
    }

    pub(crate) async fn revoke_token(&self, id: String) -> Result<v1::RevokeTokenResponse, Status> {
        within(self.0.clone().revoke_token(from_dashboard(v1::RevokeTokenRequest { id }))).await
    }
}
