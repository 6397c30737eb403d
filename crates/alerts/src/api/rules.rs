//! `AlertConfigService`.

use std::sync::Arc;

use model::{TimeRange, limits};
use proto::convert::FieldError;
use proto::v1;
use proto::v1::alert_config_service_server::AlertConfigService;
use storage::alerting::SettingKind;
use tonic::{Request, Response, Status};

use super::rule::{level_to_proto, rule_to_proto, spec_from_proto};
use super::{Api, actor, limit, refused, required, stamp, time, unavailable};
use crate::backtest::{self, Firing, TestError};
use crate::book::{SaveError, now};
use crate::lifecycle::Phase;
use crate::notice::map;
use crate::rule::{Level, Rule, RuleId, Spec};
use crate::watch::Command;

const DAY_MS: i64 = 24 * 3600 * 1000;

impl Api {
    /// What a rule can only be checked against now: its metrics are known, its channels are there, it does
    /// not watch too much.
    async fn check_reach(&self, spec: &Spec) -> Result<(), Status> {
        let channels = self.directory.reload().await.map_err(unavailable)?;
        for (i, name) in spec.channels.iter().enumerate() {
            if channels.iter().all(|channel| channel.name != *name) {
                let problem = format!("there is no channel called {name:?}");
                return Err(FieldError::new(format!("rule.channels[{i}]"), problem).into());
            }
        }
        let rule = Arc::new(Rule { id: RuleId("".into()), revision: 0, spec: spec.clone() });
        let reach = self.ask(|reply| Command::Reach(rule, reply)).await?;
        if let Some(threshold) = spec.threshold() {
            let known = |name: &str| model::metric::ALL.iter().any(|m| m.name == name);
            let divisor = threshold.divide_by.as_deref();
            let metrics = [
                ("rule.threshold.metric", Some(threshold.metric.as_str()), reach.metric_seen),
                ("rule.threshold.divide_by", divisor, reach.divisor_seen),
            ];
            for (field, name, seen) in metrics {
                if let Some(name) = name
                    && !seen
                    && !known(name)
                {
                    let problem = format!("no machine sends the metric {name:?}");
                    return Err(FieldError::new(field, problem).into());
                }
            }
        }
        if reach.series > self.series_per_rule_max {
            let (found, max) = (reach.series, self.series_per_rule_max);
            let problem = format!("matches {found} series, expected at most {max}");
            return Err(FieldError::new("rule.threshold.labels", problem).into());
        }
        Ok(())
    }

    async fn read_rule(&self, id: &str) -> Result<crate::book::Entry, Status> {
        let found = self.book.rule(id).await.map_err(unavailable)?;
        found.ok_or_else(|| refused("rule", SaveError::NotFound(id.to_owned())))
    }
}

#[tonic::async_trait]
impl AlertConfigService for Api {
    async fn create_rule(
        &self,
        request: Request<v1::CreateRuleRequest>,
    ) -> Result<Response<v1::CreateRuleResponse>, Status> {
        let actor = actor(&request)?;
        let spec = spec_from_proto(required("rule", request.into_inner().rule)?)?;
        self.check_reach(&spec).await?;
        let entry = self.book.create_rule(&spec, "rpc", &actor).await;
        let entry = entry.map_err(|e| refused("rule", e))?;
        self.reload().await?;
        Ok(Response::new(v1::CreateRuleResponse { rule: Some(rule_to_proto(&entry)) }))
    }

    async fn get_rule(
        &self,
        request: Request<v1::GetRuleRequest>,
    ) -> Result<Response<v1::GetRuleResponse>, Status> {
        let entry = self.read_rule(&request.into_inner().id).await?;
        Ok(Response::new(v1::GetRuleResponse { rule: Some(rule_to_proto(&entry)) }))
    }

    async fn list_rules(
        &self,
        _: Request<v1::ListRulesRequest>,
    ) -> Result<Response<v1::ListRulesResponse>, Status> {
        let entries = self.book.rules().await.map_err(unavailable)?;
        let rules = entries.iter().map(rule_to_proto).collect();
        Ok(Response::new(v1::ListRulesResponse { rules }))
    }

    async fn update_rule(
        &self,
        request: Request<v1::UpdateRuleRequest>,
    ) -> Result<Response<v1::UpdateRuleResponse>, Status> {
        let actor = actor(&request)?;
        let rule = required("rule", request.into_inner().rule)?;
        let (id, based_on) = (rule.id.clone(), rule.revision);
        let spec = spec_from_proto(rule)?;
        self.check_reach(&spec).await?;
        let entry = self.book.update_rule(&id, based_on, &spec, &actor, false).await;
        let entry = entry.map_err(|e| refused("rule", e))?;
        self.reload().await?;
        Ok(Response::new(v1::UpdateRuleResponse { rule: Some(rule_to_proto(&entry)) }))
    }

    async fn delete_rule(
        &self,
        request: Request<v1::DeleteRuleRequest>,
    ) -> Result<Response<v1::DeleteRuleResponse>, Status> {
        let actor = actor(&request)?;
        let v1::DeleteRuleRequest { id, revision } = request.into_inner();
        let deleted = self.book.delete_rule(&id, revision, &actor, false).await;
        deleted.map_err(|e| refused("rule", e))?;
        self.reload().await?;
        Ok(Response::new(v1::DeleteRuleResponse {}))
    }

    async fn set_rule_enabled(
        &self,
        request: Request<v1::SetRuleEnabledRequest>,
    ) -> Result<Response<v1::SetRuleEnabledResponse>, Status> {
        let actor = actor(&request)?;
        let v1::SetRuleEnabledRequest { id, enabled } = request.into_inner();
        let before = self.read_rule(&id).await?;
        let spec = Spec { enabled, ..before.rule.spec.clone() };
        let revision = before.rule.revision;
        let entry = match before.rule.spec.enabled == enabled {
            true => before,
            false => {
                let entry = self.book.update_rule(&id, revision, &spec, &actor, false).await;
                entry.map_err(|e| refused("rule", e))?
            }
        };
        self.reload().await?;
        Ok(Response::new(v1::SetRuleEnabledResponse { rule: Some(rule_to_proto(&entry)) }))
    }

    async fn test_rule(
        &self,
        request: Request<v1::TestRuleRequest>,
    ) -> Result<Response<v1::TestRuleResponse>, Status> {
        let request = request.into_inner();
        let mut wire = required("rule", request.rule)?;
        if wire.name.is_empty() {
            // Not saved, so it need not have one.
            wire.name = "test".to_owned();
        }
        let spec = spec_from_proto(wire)?;
        let end = time("end", request.end.as_ref())?.unwrap_or_else(now);
        let start = time("start", request.start.as_ref())?.unwrap_or(end - DAY_MS);
        if !(1..=limits::ITEM_AGE_MS_MAX).contains(&end.since(start)) {
            let problem = "expected a moment before end and at most 7 days before it";
            return Err(FieldError::new("start", problem).into());
        }
        let range = TimeRange::new(start, end);
        let rule = Arc::new(Rule { id: RuleId::from_name(&spec.name), revision: 0, spec });
        let busy = || Status::resource_exhausted("another rule is being tested, try again soon");
        let _slot = self.tests.try_acquire().map_err(|_| busy())?;
        let report = backtest::run(&*self.history, &*self.registry, &rule, range);
        let mut report = report.await.map_err(untested)?;
        report.firings.sort_by_key(|firing| std::cmp::Reverse(firing.change.at));
        Ok(Response::new(v1::TestRuleResponse {
            incidents: report.firings.iter().take(1000).map(incident).collect(),
            notifications: report.notifications,
            machines: report.machines,
            series: report.series,
            values: report.values,
            start: stamp(start),
            end: stamp(end),
        }))
    }

    async fn list_rule_changes(
        &self,
        request: Request<v1::ListRuleChangesRequest>,
    ) -> Result<Response<v1::ListRuleChangesResponse>, Status> {
        let request = request.into_inner();
        let subject = (!request.id.is_empty()).then_some(request.id.as_str());
        let audits = self.store.audits(SettingKind::Rule, subject, limit(request.limit)?).await;
        let change = |audit: storage::alerting::Audit| v1::RuleChange {
            time: stamp(audit.time),
            actor: audit.actor,
            action: audit.action,
            rule_id: audit.subject,
            before: audit.before,
            after: audit.after,
        };
        let changes = audits.map_err(unavailable)?.into_iter().map(change).collect();
        Ok(Response::new(v1::ListRuleChangesResponse { changes }))
    }

    async fn create_channel(
        &self,
        request: Request<v1::CreateChannelRequest>,
    ) -> Result<Response<v1::CreateChannelResponse>, Status> {
        let actor = actor(&request)?;
        let channel = required("channel", request.into_inner().channel)?;
        let channel = Some(self.make_channel(channel, &actor).await?);
        Ok(Response::new(v1::CreateChannelResponse { channel }))
    }

    async fn list_channels(
        &self,
        _: Request<v1::ListChannelsRequest>,
    ) -> Result<Response<v1::ListChannelsResponse>, Status> {
        let channels = self.read_channels().await?;
        Ok(Response::new(v1::ListChannelsResponse { channels }))
    }

    async fn update_channel(
        &self,
        request: Request<v1::UpdateChannelRequest>,
    ) -> Result<Response<v1::UpdateChannelResponse>, Status> {
        let actor = actor(&request)?;
        let channel = required("channel", request.into_inner().channel)?;
        let channel = Some(self.change_channel(channel, &actor).await?);
        Ok(Response::new(v1::UpdateChannelResponse { channel }))
    }

    async fn delete_channel(
        &self,
        request: Request<v1::DeleteChannelRequest>,
    ) -> Result<Response<v1::DeleteChannelResponse>, Status> {
        let actor = actor(&request)?;
        let v1::DeleteChannelRequest { id, revision } = request.into_inner();
        self.drop_channel(&id, revision, &actor).await?;
        Ok(Response::new(v1::DeleteChannelResponse {}))
    }

    async fn test_channel(
        &self,
        request: Request<v1::TestChannelRequest>,
    ) -> Result<Response<v1::TestChannelResponse>, Status> {
        let id = request.into_inner().id;
        Ok(Response::new(self.try_channel(&id).await?))
    }
}

fn untested(error: TestError) -> Status {
    match error {
        TestError::Store(error) => unavailable(error),
        TestError::FindsTooMuch { .. } => {
            Status::failed_precondition(format!("rule.log.query: {error}"))
        }
    }
}

fn incident(firing: &Firing) -> v1::Incident {
    let alert = &firing.change.alert;
    let level = firing.last.level.or(firing.change.level).unwrap_or(Level::Critical);
    let peak = firing.last.alert.peak;
    let over = firing.last.to == Phase::Resolved;
    v1::Incident {
        id: String::new(),
        alert_id: alert.id.to_string(),
        rule_id: alert.rule.id.to_string(),
        rule_name: alert.rule.spec.name.clone(),
        machine_id: alert.machine.to_string(),
        host_name: alert.identity.host_name.clone(),
        metric: alert.series.as_ref().map_or(String::new(), |s| s.metric.to_string()),
        labels: alert.series.iter().flat_map(|s| map(&s.labels)).collect(),
        level: level_to_proto(level).into(),
        started: stamp(firing.change.at),
        resolved: firing.resolved.and_then(stamp),
        peak: (!peak.is_nan()).then_some(peak),
        summary: alert.summary(level),
        cause: if over { firing.last.cause.name() } else { "" }.to_owned(),
        acknowledged: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_finds_too_much_is_refused_for_its_query() {
        let refused = untested(TestError::FindsTooMuch { max: 7 });
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
        assert!(refused.message().starts_with("rule.log.query: finds more than 7 "), "{refused}");
        let reason = "gone".to_owned();
        let away = untested(storage::StorageError::Unavailable { store: "it", reason }.into());
        assert_eq!(away.code(), tonic::Code::Unavailable);
    }
}
