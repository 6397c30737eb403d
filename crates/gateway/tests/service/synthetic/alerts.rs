//! What is wrong, as a test says it is. Rules and channels are not part of it: those are tried on a real server.

use std::sync::PoisonError;

use proto::v1;
use proto::v1::alert_service_server::AlertService;
use tonic::{Request, Response, Status};

use super::{Answer, Streamed, Synthetic};

impl Synthetic {
    /// From now on this is wrong, and nothing else; before the first time there is no alert service.
    pub(crate) fn alert(&self, alerts: Vec<v1::ActiveAlert>) {
        *self.0.alerts.lock().unwrap_or_else(PoisonError::into_inner) = Some(alerts);
    }

    fn active(&self) -> Result<Vec<v1::ActiveAlert>, Status> {
        let alerts = self.0.alerts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        alerts.ok_or_else(absent)
    }
}

fn absent() -> Status {
    Status::unimplemented("not part of this server")
}

#[tonic::async_trait]
impl AlertService for Synthetic {
    async fn list_active(
        &self,
        _: Request<v1::ListActiveRequest>,
    ) -> Answer<v1::ListActiveResponse> {
        let alerts = self.active()?;
        let firing = alerts.iter().filter(|a| a.phase() == v1::AlertPhase::Firing);
        let critical = firing.clone().filter(|a| a.level() == v1::AlertLevel::Critical).count();
        let (firing, critical) = (firing.count() as u32, critical as u32);
        Ok(Response::new(v1::ListActiveResponse { alerts, firing, critical }))
    }

    async fn list_history(
        &self,
        _: Request<v1::ListHistoryRequest>,
    ) -> Answer<v1::ListHistoryResponse> {
        self.active()?;
        Ok(Response::new(v1::ListHistoryResponse::default()))
    }

    async fn acknowledge(
        &self,
        _: Request<v1::AcknowledgeRequest>,
    ) -> Answer<v1::AcknowledgeResponse> {
        Err(absent())
    }

    async fn create_silence(
        &self,
        _: Request<v1::CreateSilenceRequest>,
    ) -> Answer<v1::CreateSilenceResponse> {
        Err(absent())
    }

    async fn list_silences(
        &self,
        _: Request<v1::ListSilencesRequest>,
    ) -> Answer<v1::ListSilencesResponse> {
        Err(absent())
    }

    async fn end_silence(
        &self,
        _: Request<v1::EndSilenceRequest>,
    ) -> Answer<v1::EndSilenceResponse> {
        Err(absent())
    }

    async fn list_dead_notices(
        &self,
        _: Request<v1::ListDeadNoticesRequest>,
    ) -> Answer<v1::ListDeadNoticesResponse> {
        Err(absent())
    }

    async fn retry_dead_notice(
        &self,
        _: Request<v1::RetryDeadNoticeRequest>,
    ) -> Answer<v1::RetryDeadNoticeResponse> {
        Err(absent())
    }

    async fn list_dead_events(
        &self,
        _: Request<v1::ListDeadEventsRequest>,
    ) -> Answer<v1::ListDeadEventsResponse> {
        Err(absent())
    }

    async fn retry_dead_event(
        &self,
        _: Request<v1::RetryDeadEventRequest>,
    ) -> Answer<v1::RetryDeadEventResponse> {
        Err(absent())
    }

    async fn discard_dead_event(
        &self,
        _: Request<v1::DiscardDeadEventRequest>,
    ) -> Answer<v1::DiscardDeadEventResponse> {
        Err(absent())
    }

    type FollowProbeStream = Streamed<v1::FollowProbeResponse>;

    async fn follow_probe(
        &self,
        _: Request<v1::FollowProbeRequest>,
    ) -> Answer<Self::FollowProbeStream> {
        Err(absent())
    }
}
