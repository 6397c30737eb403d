//! `AlertService`.

use model::{MachineId, TimeRange, UnixMillis};
use proto::convert::FieldError;
use proto::v1;
use proto::v1::alert_service_server::AlertService;
use std::time::Duration;
use storage::alerting::{Incident, IncidentFilter, Setting, SettingKind, Shard};
use tonic::{Request, Response, Status};

use super::rule::{level_to_proto, matchers_from_proto, matchers_to_proto};
use super::{Api, actor, limit, probe, refused, required, stamp, time, unavailable};
use crate::alert::AlertId;
use crate::book::{SaveError, now};
use crate::desk::{self, Acknowledgement};
use crate::lifecycle::{Held, Lifecycle, Phase};
use crate::notice::{Notice, map};
use crate::rule::Level;
use crate::silence::{Every, Recurrence, Silence, accepts, zone};
use crate::watch::{Active, Command};

const MONTH_MS: i64 = 30 * 24 * 3600 * 1000;
const AUTHOR_BYTES_MAX: usize = 120;
const COMMENT_BYTES_MAX: usize = 1024;
/// How long somebody waits for another alert service; longer than it takes to replace one.
const ERRAND_PATIENCE: Duration = Duration::from_secs(10);
const ERRAND_LOOK_EVERY: Duration = Duration::from_millis(100);

#[tonic::async_trait]
impl AlertService for Api {
    async fn list_active(
        &self,
        request: Request<v1::ListActiveRequest>,
    ) -> Result<Response<v1::ListActiveResponse>, Status> {
        let matchers = matchers_from_proto("matchers", request.into_inner().matchers)?;
        let elsewhere = match self.store.shards() {
            1 => Vec::new(),
            _ => self.store.states().await.map_err(unavailable)?,
        };
        let mut active = self.ask(|reply| Command::Active(elsewhere, reply)).await?;
        let firing = |a: &&Active| a.alert.life.phase() == Phase::Firing;
        let critical = |a: &&Active| a.open.as_ref().is_some_and(|o| o.level == Level::Critical);
        let counts = (
            active.iter().filter(firing).count() as u32,
            active.iter().filter(firing).filter(critical).count() as u32,
        );
        active.retain(|a| accepts(&matchers, &a.alert, a.open.as_ref().map(|o| o.level)));
        active.sort_by_cached_key(|a| {
            let name = a.alert.identity.host_name.clone();
            let level = a.open.as_ref().map(|o| o.level);
            (urgency(&a.alert.life), std::cmp::Reverse(level), name, a.alert.id)
        });
        let alerts = active.into_iter().map(active_to_proto).collect();
        Ok(Response::new(v1::ListActiveResponse { alerts, firing: counts.0, critical: counts.1 }))
    }

    async fn list_history(
        &self,
        request: Request<v1::ListHistoryRequest>,
    ) -> Result<Response<v1::ListHistoryResponse>, Status> {
        let request = request.into_inner();
        let end = time("end", request.end.as_ref())?.unwrap_or(UnixMillis::MAX);
        let month = now() - MONTH_MS;
        let start = time("start", request.start.as_ref())?.unwrap_or(month.min(end - MONTH_MS));
        let machine: Option<MachineId> = match request.machine_id.as_str() {
            "" => None,
            id => Some(id.parse().map_err(|e| FieldError::new("machine_id", e))?),
        };
        let filter = IncidentFilter {
            started: Some(TimeRange::new(start, end)),
            rule: (!request.rule_id.is_empty()).then_some(request.rule_id),
            machine,
            open_only: false,
        };
        let incidents = self.store.incidents(&filter, limit(request.limit)?).await;
        let incidents = incidents.map_err(unavailable)?;
        let incidents = incidents.into_iter().map(incident_to_proto).collect();
        Ok(Response::new(v1::ListHistoryResponse { incidents }))
    }

    async fn acknowledge(
        &self,
        request: Request<v1::AcknowledgeRequest>,
    ) -> Result<Response<v1::AcknowledgeResponse>, Status> {
        let actor = actor(&request)?;
        let request = request.into_inner();
        let id = AlertId::from_text(&request.alert_id).ok_or_else(|| {
            FieldError::new("alert_id", "expected 32 lower-case hexadecimal digits")
        })?;
        text("author", &request.author, AUTHOR_BYTES_MAX)?;
        text("comment", &request.comment, COMMENT_BYTES_MAX)?;
        let author = if request.author.is_empty() { actor } else { request.author };
        let acknowledgement = Acknowledgement { time: now(), author, comment: request.comment };
        let given = acknowledgement.clone();
        let here = self.ask(|reply| Command::Acknowledge(id, given, reply)).await?;
        match here || self.acknowledge_elsewhere(id, &acknowledgement).await? {
            true => Ok(Response::new(v1::AcknowledgeResponse {})),
            false => Err(Status::failed_precondition("alert_id: this alert does not fire")),
        }
    }

    async fn create_silence(
        &self,
        request: Request<v1::CreateSilenceRequest>,
    ) -> Result<Response<v1::CreateSilenceResponse>, Status> {
        let actor = actor(&request)?;
        let wire = required("silence", request.into_inner().silence)?;
        let at = now();
        let end = required("silence.end", time("silence.end", wire.end.as_ref())?)?;
        let silence = Silence {
            id: format!("{:x}-{:08x}", at.0, random()),
            matchers: matchers_from_proto("silence.matchers", wire.matchers)?,
            start: time("silence.start", wire.start.as_ref())?.unwrap_or(at),
            end,
            author: if wire.author.is_empty() { actor.clone() } else { wire.author },
            comment: wire.comment,
            recurrence: wire.recurrence.map(recurrence_from_proto).transpose()?,
        };
        silence.check().map_err(|e| e.within("silence"))?;
        self.forget_old_silences(at).await?;
        let setting = silence_setting(&silence, 1, &actor);
        let document = setting.document.clone();
        let saved = self.book.save(setting, "", &document).await;
        saved.map_err(|e| refused("silence", e))?;
        self.reload().await?;
        let silence = Some(silence_to_proto(&silence));
        Ok(Response::new(v1::CreateSilenceResponse { silence }))
    }

    async fn list_silences(
        &self,
        request: Request<v1::ListSilencesRequest>,
    ) -> Result<Response<v1::ListSilencesResponse>, Status> {
        let all = request.into_inner().include_ended;
        let since = if all { now() - MONTH_MS } else { now() };
        let mut silences = self.book.silences().await.map_err(unavailable)?;
        silences.retain(|silence| silence.over() > since);
        silences.sort_by_key(|silence| silence.start);
        let silences = silences.iter().map(silence_to_proto).collect();
        Ok(Response::new(v1::ListSilencesResponse { silences }))
    }

    async fn end_silence(
        &self,
        request: Request<v1::EndSilenceRequest>,
    ) -> Result<Response<v1::EndSilenceResponse>, Status> {
        let actor = actor(&request)?;
        let id = request.into_inner().id;
        let settings = self.store.settings(SettingKind::Silence).await.map_err(unavailable)?;
        let found = settings.into_iter().find(|setting| setting.id == id);
        let silence = found.as_ref().and_then(|s| Silence::from_json(&s.id, &s.document));
        let (Some(setting), Some(mut silence)) = (found, silence) else {
            return Err(refused("silence", SaveError::NotFound(id)));
        };
        if silence.over() > now() {
            silence.end_now(now());
            let next = silence_setting(&silence, setting.revision + 1, &actor);
            let after = next.document.clone();
            let saved = self.book.save(next, &setting.document, &after).await;
            saved.map_err(|e| refused("silence", e))?;
            self.reload().await?;
        }
        Ok(Response::new(v1::EndSilenceResponse {}))
    }

    async fn list_dead_notices(
        &self,
        request: Request<v1::ListDeadNoticesRequest>,
    ) -> Result<Response<v1::ListDeadNoticesResponse>, Status> {
        let limit = limit(request.into_inner().limit)?;
        let channels = self.directory.reload().await.map_err(unavailable)?;
        let dead = self.store.dead(limit).await.map_err(unavailable)?;
        let show = |dead: storage::alerting::Dead| {
            let notice: Option<Notice> = serde_json::from_str(&dead.notice.document).ok();
            let channel = channels.iter().find(|channel| channel.id == dead.notice.channel);
            v1::DeadNotice {
                id: dead.id,
                channel_id: dead.notice.channel,
                channel_name: channel.map_or(String::new(), |channel| channel.name.clone()),
                kind: dead.notice.kind,
                summary: notice.map_or(String::new(), |notice| notice.summary),
                reason: dead.reason,
                created: stamp(dead.notice.created),
                died: stamp(dead.died),
            }
        };
        let notices = dead.into_iter().map(show).collect();
        Ok(Response::new(v1::ListDeadNoticesResponse { notices }))
    }

    async fn list_dead_events(
        &self,
        request: Request<v1::ListDeadEventsRequest>,
    ) -> Result<Response<v1::ListDeadEventsResponse>, Status> {
        self.dead_events(request.into_inner()).await.map(Response::new)
    }

    async fn retry_dead_event(
        &self,
        request: Request<v1::RetryDeadEventRequest>,
    ) -> Result<Response<v1::RetryDeadEventResponse>, Status> {
        self.retry_event(&request.into_inner().id).await?;
        Ok(Response::new(v1::RetryDeadEventResponse {}))
    }

    async fn discard_dead_event(
        &self,
        request: Request<v1::DiscardDeadEventRequest>,
    ) -> Result<Response<v1::DiscardDeadEventResponse>, Status> {
        self.discard_event(&request.into_inner().id).await?;
        Ok(Response::new(v1::DiscardDeadEventResponse {}))
    }

    async fn retry_dead_notice(
        &self,
        request: Request<v1::RetryDeadNoticeRequest>,
    ) -> Result<Response<v1::RetryDeadNoticeResponse>, Status> {
        let id = request.into_inner().id;
        match self.store.revive(id, now()).await.map_err(unavailable)? {
            true => {
                self.reload().await?;
                Ok(Response::new(v1::RetryDeadNoticeResponse {}))
            }
            false => Err(Status::not_found(format!("id: there is no dead notice {id}"))),
        }
    }

    type FollowProbeStream = probe::Samples;

    async fn follow_probe(
        &self,
        request: Request<v1::FollowProbeRequest>,
    ) -> Result<Response<Self::FollowProbeStream>, Status> {
        self.samples_of(&request.into_inner().machine_id).map(Response::new)
    }
}

impl Api {
    /// Asks the service that watches the alert, and waits until it did. False when it does not fire.
    async fn acknowledge_elsewhere(
        &self,
        id: AlertId,
        acknowledgement: &Acknowledgement,
    ) -> Result<bool, Status> {
        if self.store.shards() == 1 {
            return Ok(false);
        }
        let states = self.store.states().await.map_err(unavailable)?;
        let state = states.into_iter().find(|state| state.id == id.to_string());
        let open = state.and_then(|state| match desk::read(&state.document)? {
            (kept, Some(_)) => Some(kept.machine),
            (_, None) => None,
        });
        let Some(machine) = open else { return Ok(false) };
        let shard = Shard::of(machine, self.store.shards());
        let document = acknowledgement.write(id);
        let errand = self.store.ask(shard, &document).await.map_err(unavailable)?;
        let done = async {
            while self.store.is_asked(errand).await? {
                tokio::time::sleep(ERRAND_LOOK_EVERY).await;
            }
            Ok(true)
        };
        match tokio::time::timeout(ERRAND_PATIENCE, done).await {
            Ok(done) => done.map_err(unavailable),
            Err(_) => Err(Status::unavailable(
                "the alert service that watches this alert does not answer; it, or the one that takes over, will do so",
            )),
        }
    }

    /// Silences that ended long ago are shown to nobody any more.
    async fn forget_old_silences(&self, at: UnixMillis) -> Result<(), Status> {
        let settings = self.store.settings(SettingKind::Silence).await.map_err(unavailable)?;
        for setting in settings {
            let silence = Silence::from_json(&setting.id, &setting.document);
            if silence.is_some_and(|silence| silence.over() < at - MONTH_MS) {
                let deleted = self.book.delete(&setting, 0, &setting.document, "muster").await;
                deleted.map_err(|e| refused("silence", e))?;
            }
        }
        Ok(())
    }
}

fn urgency(life: &Lifecycle) -> u8 {
    match life {
        Lifecycle::Firing(_) => 0,
        Lifecycle::Unknown(_) => 1,
        _ => 2,
    }
}

fn active_to_proto(active: Active) -> v1::ActiveAlert {
    let Active { alert, open, silenced_by } = active;
    let spec = &alert.rule.spec;
    let level = open.as_ref().map(|open| open.level);
    let number = |value: f64| (!value.is_nan()).then_some(value);
    let (phase, since) = match alert.life {
        Lifecycle::Firing(firing) => (v1::AlertPhase::Firing, firing.since),
        Lifecycle::Pending(pending) => (v1::AlertPhase::Pending, pending.since),
        Lifecycle::Unknown(Held::Firing(firing)) => (v1::AlertPhase::Unknown, firing.since),
        Lifecycle::Unknown(Held::Pending(pending)) => (v1::AlertPhase::Unknown, pending.since),
        Lifecycle::Inactive | Lifecycle::Resolved => (v1::AlertPhase::Resolved, now()),
    };
    let shown_level = level.unwrap_or_else(|| spec.least_level());
    v1::ActiveAlert {
        id: alert.id.to_string(),
        rule_id: alert.rule.id.to_string(),
        rule_name: spec.name.clone(),
        phase: phase.into(),
        level: level.map_or(0, |level| level_to_proto(level).into()),
        machine_id: alert.machine.to_string(),
        host_name: alert.identity.host_name.clone(),
        metric: alert.series.as_ref().map_or(String::new(), |s| s.metric.to_string()),
        labels: alert.series.iter().flat_map(|s| map(&s.labels)).collect(),
        value: number(alert.value),
        peak: number(alert.peak),
        threshold: spec.limit().map(|limit| limit.threshold(shown_level)),
        since: stamp(since),
        summary: alert.summary(shown_level),
        runbook_url: spec.runbook_url.clone(),
        acknowledged: open.and_then(|open| open.acknowledged).map(|a| v1::Acknowledgement {
            time: stamp(a.time),
            author: a.author,
            comment: a.comment,
        }),
        silenced_by,
    }
}

fn incident_to_proto(incident: Incident) -> v1::Incident {
    let level = Level::from_name(&incident.level).unwrap_or(Level::Critical);
    v1::Incident {
        id: incident.id,
        alert_id: incident.alert,
        rule_id: incident.rule,
        rule_name: incident.rule_name,
        machine_id: incident.machine.to_string(),
        host_name: incident.host_name,
        metric: incident.metric,
        labels: map(&incident.labels).into_iter().collect(),
        level: level_to_proto(level).into(),
        started: stamp(incident.started),
        resolved: incident.resolved.and_then(stamp),
        peak: incident.peak,
        summary: incident.summary,
        cause: incident.cause,
        acknowledged: incident.acknowledged.map(|time| v1::Acknowledgement {
            time: stamp(time),
            author: incident.acknowledged_by,
            comment: incident.comment,
        }),
    }
}

fn silence_setting(silence: &Silence, revision: u64, actor: &str) -> Setting {
    Setting {
        kind: SettingKind::Silence,
        id: silence.id.clone(),
        revision,
        name: silence.id.clone(),
        origin: "rpc".to_owned(),
        document: silence.to_json(),
        updated: now(),
        updated_by: actor.to_owned(),
    }
}

fn silence_to_proto(silence: &Silence) -> v1::Silence {
    v1::Silence {
        id: silence.id.clone(),
        matchers: matchers_to_proto(&silence.matchers),
        start: stamp(silence.start),
        end: stamp(silence.end),
        author: silence.author.clone(),
        comment: silence.comment.clone(),
        recurrence: silence.recurrence.as_ref().map(recurrence_to_proto),
    }
}

fn recurrence_to_proto(recurrence: &Recurrence) -> v1::Recurrence {
    let every = match recurrence.every {
        Every::Day => v1::recurrence::Every::Day,
        Every::Week => v1::recurrence::Every::Week,
    };
    v1::Recurrence {
        every: every.into(),
        time_zone: recurrence.zone_name().to_owned(),
        until: recurrence.until.and_then(stamp),
    }
}

fn recurrence_from_proto(wire: v1::Recurrence) -> Result<Recurrence, FieldError> {
    let every = match v1::recurrence::Every::try_from(wire.every) {
        Ok(v1::recurrence::Every::Day) => Every::Day,
        Ok(v1::recurrence::Every::Week) => Every::Week,
        Ok(v1::recurrence::Every::Unspecified) | Err(_) => {
            let problem = format!("expected EVERY_DAY or EVERY_WEEK, found {}", wire.every);
            return Err(FieldError::new("silence.recurrence.every", problem));
        }
    };
    Ok(Recurrence {
        every,
        zone: zone("silence.recurrence.time_zone", &wire.time_zone)?,
        until: time("silence.recurrence.until", wire.until.as_ref())?,
    })
}

fn text(field: &str, text: &str, bytes_max: usize) -> Result<(), FieldError> {
    match text.len() <= bytes_max {
        true => Ok(()),
        false => Err(FieldError::new(field, format!("longer than {bytes_max} bytes"))),
    }
}

/// Tells apart what was made in the same millisecond.
fn random() -> u32 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0u8) as u32
}
