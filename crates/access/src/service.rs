//! `AccessService`.

use std::sync::Arc;
use std::time::Duration;

use model::{Caller, Grant, UnixMillis};
use proto::convert::{FieldError, timestamp_from_proto, timestamp_to_proto};
use proto::v1;
use proto::v1::access_service_server::AccessService;
use storage::StorageError;
use storage::credentials::{Credential, CredentialKind};
use tonic::{Request, Response, Status};

use crate::access::{new_credential, new_token, now};
use crate::keyring::Keyring;
use crate::login::Door;
use crate::secret;

#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) door: Arc<Door>,
    /// How long a session lasts.
    pub(crate) session: Duration,
}

/// Who asks, for `created_by`: the caller, or whom a dashboard says that it asks for.
fn actor<T>(request: &Request<T>) -> String {
    let named = request.metadata().get("muster-actor").and_then(|name| name.to_str().ok());
    let caller = request.extensions().get::<Caller>().map(|caller| caller.name.as_str());
    named.or(caller).unwrap_or("rpc").chars().take(crate::access::NAME_BYTES_MAX).collect()
}

#[tonic::async_trait]
impl AccessService for Service {
    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let actor = actor(&request);
        let v1::CreateTokenRequest { name, grant, expires } = request.into_inner();
        let grant: Grant = grant.parse().map_err(|e| Status::from(FieldError::new("grant", e)))?;
        let expires = expires.map(|time| timestamp_from_proto("expires", &time)).transpose()?;
        if expires.is_some_and(|expires| expires <= now()) {
            return Err(FieldError::new("expires", "expected a time to come").into());
        }
        let (credential, secret) = new_token(&name, grant, expires, &actor)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        self.keyring.add(credential.clone()).await.map_err(unavailable)?;
        tracing::info!(token.id = credential.id, token.name = name, %grant, %actor, "made a token");
        Ok(Response::new(v1::CreateTokenResponse { token: Some(token(credential)), secret }))
    }

    async fn list_tokens(
        &self,
        _request: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensResponse>, Status> {
        let all = self.keyring.all().await.map_err(unavailable)?;
        let tokens = all.into_iter().filter(|c| c.kind == CredentialKind::Token).map(token);
        Ok(Response::new(v1::ListTokensResponse { tokens: tokens.collect() }))
    }

    async fn revoke_token(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::RevokeTokenResponse>, Status> {
        let actor = actor(&request);
        let id = request.into_inner().id;
        if id.starts_with("config.") {
            let problem = "id: this token is in the configuration: it is revoked there";
            return Err(Status::failed_precondition(problem));
        }
        if !self.keyring.remove(&id).await.map_err(unavailable)? {
            return Err(Status::not_found(format!("id: there is no token {id:?}")));
        }
        tracing::info!(token.id = id, %actor, "revoked a token");
        Ok(Response::new(v1::RevokeTokenResponse {}))
    }

    async fn identify(
        &self,
        request: Request<v1::IdentifyRequest>,
    ) -> Result<Response<v1::IdentifyResponse>, Status> {
        let secret = request.into_inner().secret;
        let caller = self.keyring.identify(&secret, now()).await.map_err(unavailable)?;
        let Some(Caller { id, name, grant }) = caller else {
            return Err(Status::unauthenticated("secret: it is nobody's, revoked or expired"));
        };
        Ok(Response::new(v1::IdentifyResponse { id, name, grant: grant.to_string() }))
    }

    async fn log_in(
        &self,
        request: Request<v1::LogInRequest>,
    ) -> Result<Response<v1::LogInResponse>, Status> {
        let v1::LogInRequest { name, password, address } = request.into_inner();
        let account = self.door.enter(&name, password, &address).await?;
        let length = i64::try_from(self.session.as_millis()).unwrap_or(i64::MAX);
        let expires = UnixMillis(now().0.saturating_add(length));
        let kind = CredentialKind::Session;
        let (session, secret) =
            new_credential(kind, &account.name, account.grant, Some(expires), &account.name)
                .map_err(|error| Status::internal(error.to_string()))?;
        self.keyring.add(session).await.map_err(unavailable)?;
        tracing::info!(account = account.name, client.address = address, "somebody logged in");
        let expires = Some(timestamp_to_proto(expires));
        Ok(Response::new(v1::LogInResponse { secret, expires }))
    }

    async fn log_out(
        &self,
        request: Request<v1::LogOutRequest>,
    ) -> Result<Response<v1::LogOutResponse>, Status> {
        let hash = secret::hash(&request.into_inner().secret);
        self.keyring.end_session(&hash).await.map_err(unavailable)?;
        Ok(Response::new(v1::LogOutResponse {}))
    }
}

fn token(credential: Credential) -> v1::Token {
    let stamp = |time: UnixMillis| Some(timestamp_to_proto(time));
    v1::Token {
        id: credential.id,
        name: credential.name,
        grant: credential.grant.to_string(),
        created: stamp(credential.created),
        created_by: credential.created_by,
        expires: credential.expires.and_then(stamp),
        used: credential.used.and_then(stamp),
    }
}

fn unavailable(error: StorageError) -> Status {
    match error.is_transient() {
        true => Status::unavailable(error.to_string()),
        false => Status::internal(error.to_string()),
    }
}
