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

/// Asks the process behind a channel whether it is ready; why not, when it is not.
pub async fn check(channel: Channel) -> Result<(), String> {
    let whole = HealthCheckRequest { service: String::new() };
    match HealthClient::new(channel).check(whole).await {
        Ok(answer) if answer.get_ref().status() == ServingStatus::Serving => Ok(()),
        Ok(_) => Err("is not ready".to_owned()),
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
        Ok(Response::new(status(&self.health.watch().borrow())))
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
