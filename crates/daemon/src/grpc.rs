//! gRPC services with what every one of ours has beside them: `grpc.health.v1` and reflection.

use std::sync::Arc;

use axum::Router;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health as HealthService, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::server::Builder;

use crate::health::{self, Health};

/// The routes with `grpc.health.v1`, which answers for `names` and for the process as a whole (`""`), and
/// reflection v1 and v1alpha (older grpcurl) over `descriptor_set`. Has no fallback, so it can be merged
/// with a router of pages.
///
/// # Panics
/// When `descriptor_set` is not an encoded `FileDescriptorSet`: a defect of the build.
pub fn services(
    routes: Routes,
    descriptor_set: &'static [u8],
    names: &[&str],
    health: &Health,
) -> Router {
    let reflection = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(descriptor_set)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let broken = "the descriptor set comes from the same build as the services";
    let names = names.iter().map(|name| name.to_string()).chain([String::new()]).collect();
    routes
        .add_service(HealthServer::new(Follower { names, health: health.clone() }))
        .add_service(reflection().build_v1().expect(broken))
        .add_service(reflection().build_v1alpha().expect(broken))
        .into_axum_router()
        .reset_fallback()
}

/// What `grpc.health.v1` has no field for: why a process is not ready.
const REASON: &str = "muster-reason";
/// What a header may be long.
const REASON_BYTES_MAX: usize = 500;

/// Asks the process behind a channel whether it is ready; why not, when it is not.
pub async fn check(channel: Channel) -> Result<(), String> {
    let whole = HealthCheckRequest { service: String::new() };
    match HealthClient::new(channel).check(whole).await {
        Ok(answer) if answer.get_ref().status() == ServingStatus::Serving => Ok(()),
        Ok(answer) => {
            let reason = answer.metadata().get(REASON).and_then(|reason| reason.to_str().ok());
            Err(reason
                .map_or_else(|| "is not ready".to_owned(), |why| format!("is not ready: {why}")))
        }
        Err(status) => Err(format!("does not answer: {}", status.message())),
    }
}

/// Answers with the health of the process.
#[derive(Debug)]
struct Follower {
    names: Arc<[String]>,
    health: Health,
}

fn status(components: &health::Components) -> HealthCheckResponse {
    let status = match health::blockers(components) {
        None => ServingStatus::Serving,
        Some(_) => ServingStatus::NotServing,
    };
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl HealthService for Follower {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        if !self.names.contains(&service) {
            return Err(Status::not_found(format!("service: there is no {service:?} here")));
        }
        let components = self.health.watch();
        let components = components.borrow();
        let mut response = Response::new(status(&components));
        if let Some(reason) = health::blockers(&components) {
            let plain = |c: &char| c.is_ascii_graphic() || *c == ' ';
            let reason: String = reason.chars().filter(plain).take(REASON_BYTES_MAX).collect();
            if let Ok(reason) = reason.parse() {
                response.metadata_mut().insert(REASON, reason);
            }
        }
        Ok(response)
    }

    type WatchStream = ReceiverStream<Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let known = self.names.contains(&request.into_inner().service);
        let (mut components, stopping) = (self.health.watch(), self.health.stopping.clone());
        let (sender, changes) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut last = None;
            loop {
                let now = match known {
                    true => status(&components.borrow_and_update()),
                    // The contract: say so, and keep the call open.
                    false => HealthCheckResponse { status: ServingStatus::ServiceUnknown.into() },
                };
                if last.replace(now.status) != Some(now.status)
                    && sender.send(Ok(now)).await.is_err()
                {
                    return;
                }
                // A watcher must not hold up the end of the process.
                tokio::select! {
                    changed = components.changed() => if changed.is_err() { return },
                    () = stopping.cancelled() => return,
                    () = sender.closed() => return,
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(changes)))
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::http::Server;

    #[tokio::test]
    async fn whoever_asks_is_told_why_a_process_is_not_ready() {
        let health = Health::new("it");
        let storage = health.component("storage");
        let follower = Follower { names: Arc::new([String::new()]), health };
        let router = Routes::new(HealthServer::new(follower)).into_axum_router();
        let server = Server::bind("127.0.0.1:0".parse().expect("an address")).expect("binds");
        let url = format!("http://{}", server.local_addr());
        let stop = CancellationToken::new();
        let served = tokio::spawn(server.serve(router, stop.clone()));
        let channel = Channel::from_shared(url).expect("a URL").connect_lazy();

        storage.not_ready("redis does not answer:\n \u{2014} gone");
        let refused = check(channel.clone()).await.expect_err("is not ready");
        assert_eq!(refused, "is not ready: storage: redis does not answer:  gone");
        storage.ready();
        assert_eq!(check(channel).await, Ok(()));
        stop.cancel();
        served.await.expect("no panic").expect("ends well");
    }
}
