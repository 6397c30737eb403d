//! Which machines there are, and which one is meant.

use std::collections::HashMap;
use std::sync::Arc;

use model::{Labels, MachineFacts, MachineId, MachineStatus, Matcher, UnixMillis, probe};
use proto::{convert, v1};
use storage::live::Presence;
use storage::registry::MachineRecord;
use tonic::Status;

use super::{Desk, unavailable};

/// A machine and how it is doing.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) record: Arc<MachineRecord>,
    pub(super) presence: Option<Presence>,
}

/// Matchers of one request.
const MATCHERS_MAX: usize = 64;
/// A shorter prefix of an id is more likely a mistake.
const PREFIX_DIGITS_MIN: usize = 4;

pub(super) fn matchers(matchers: Vec<v1::LabelMatcher>) -> Result<Vec<Matcher>, Status> {
    matchers_in("matchers", matchers)
}

pub(super) fn matchers_in(
    field: &str,
    matchers: Vec<v1::LabelMatcher>,
) -> Result<Vec<Matcher>, Status> {
    if matchers.len() > MATCHERS_MAX {
        return Err(Status::invalid_argument(format!(
            "{field}: expected at most {MATCHERS_MAX}, found {}",
            matchers.len()
        )));
    }
    let matcher = |(i, m)| convert::matcher_from_proto(&format!("{field}[{i}]"), m);
    Ok(matchers.into_iter().enumerate().map(matcher).collect::<Result<_, _>>()?)
}

impl Desk {
    /// Machines that all matchers accept, by host name.
    pub(super) async fn machines(&self, matchers: &[Matcher]) -> Result<Vec<Known>, Status> {
        let presences = self.live.presences().await.map_err(unavailable)?;
        let mut presences: HashMap<MachineId, Presence> = presences.into_iter().collect();
        let mut machines: Vec<Known> = self
            .roll
            .records()
            .into_iter()
            .map(|record| Known { presence: presences.remove(&record.id), record })
            .filter(|known| known.accepted_by(matchers))
            .collect();
        machines.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
        Ok(machines)
    }

    /// The machine that is meant by an id, a host name, or the beginning of an id.
    pub(super) async fn machine(&self, field: &str, reference: &str) -> Result<Known, Status> {
        let record = self.record(field, reference)?;
        let presence = self.live.presence(record.id).await.map_err(unavailable)?;
        Ok(Known { record, presence })
    }

    pub(super) fn record(
        &self,
        field: &str,
        reference: &str,
    ) -> Result<Arc<MachineRecord>, Status> {
        let id: Option<MachineId> = reference.parse().ok();
        if let Some(record) = id.and_then(|id| self.roll.record(id)) {
            return Ok(record);
        }
        if let Some(id) = id.filter(|id| probe::is_probe(*id)) {
            return Ok(Arc::new(unlisted(id)));
        }
        resolve(field, reference, self.roll.records())
    }
}

/// A probe, which is found by its id alone.
fn unlisted(id: MachineId) -> MachineRecord {
    MachineRecord {
        id,
        facts: MachineFacts::default(),
        labels: Labels::empty(),
        first_seen: UnixMillis(0),
        last_seen: UnixMillis(0),
        status: MachineStatus::Online,
        status_since: UnixMillis(0),
    }
}

fn resolve(
    field: &str,
    reference: &str,
    records: Vec<Arc<MachineRecord>>,
) -> Result<Arc<MachineRecord>, Status> {
    if reference.is_empty() {
        return Err(Status::invalid_argument(format!(
            "{field}: expected an id, a host name or the beginning of an id, found nothing"
        )));
    }
    let named = records.iter().filter(|r| r.facts.host_name == reference);
    let mut meant: Vec<_> = named.cloned().collect();
    if meant.is_empty() && reference.len() >= PREFIX_DIGITS_MIN {
        meant = records.into_iter().filter(|r| r.id.to_string().starts_with(reference)).collect();
    }
    let shown: String = reference.chars().take(64).collect();
    match meant.len() {
        0 => Err(Status::not_found(format!("{field}: no machine is called {shown:?}"))),
        1 => Ok(meant.swap_remove(0)),
        n => {
            let mut ids: Vec<_> = meant.iter().take(5).map(|r| r.id.to_string()).collect();
            ids.sort();
            Err(Status::failed_precondition(format!(
                "{field}: {n} machines are called {shown:?}; hint: use an id, such as {}",
                ids.join(" or ")
            )))
        }
    }
}

impl Known {
    pub(super) fn accepted_by(&self, matchers: &[Matcher]) -> bool {
        matchers.iter().all(|matcher| match matcher.name.as_str() {
            "host.name" => matcher.accepts(&self.record.facts.host_name),
            "machine.id" => matcher.accepts(&self.record.id.to_string()),
            "status" => matcher.accepts(self.status().name()),
            label => matcher.accepts(self.record.labels.get(label)),
        })
    }

    fn status(&self) -> model::MachineStatus {
        self.presence.as_ref().map_or(self.record.status, |presence| presence.status)
    }

    fn sort_key(&self) -> (&str, MachineId) {
        (&self.record.facts.host_name, self.record.id)
    }

    pub(super) fn to_proto(&self) -> v1::Machine {
        let Self { record, presence } = self;
        let time = |time: UnixMillis| Some(convert::timestamp_to_proto(time));
        let since = presence.as_ref().map_or(record.status_since, |p| p.status_since);
        let headline = presence.as_ref().map(|p| &p.headline);
        v1::Machine {
            id: record.id.to_string(),
            host_name: record.facts.host_name.clone(),
            labels: convert::labels_to_proto(&record.labels),
            status: convert::status_to_proto(self.status()).into(),
            status_since: time(since),
            last_seen: presence.as_ref().and_then(|p| time(p.last_seen)),
            first_seen: time(record.first_seen),
            facts: Some(convert::facts_to_proto(&record.facts)),
            headline: headline
                .filter(|headline| headline.time != UnixMillis::default())
                .map(convert::headline_to_proto),
            clock_skew: presence.as_ref().map(|p| convert::duration_from_ms(p.clock_skew_ms)),
            interval: presence
                .as_ref()
                .map(|p| convert::duration_from_ms(i64::try_from(p.interval_ms).unwrap_or(0))),
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{Labels, MachineFacts, MachineStatus};
    use tonic::Code;

    use super::*;

    fn record(id: &str, host_name: &str) -> Arc<MachineRecord> {
        Arc::new(MachineRecord {
            id: id.parse().expect("an id"),
            facts: MachineFacts { host_name: host_name.into(), ..Default::default() },
            labels: Labels::of([("env", "dev")]),
            first_seen: UnixMillis(0),
            last_seen: UnixMillis(0),
            status: MachineStatus::Online,
            status_since: UnixMillis(0),
        })
    }

    #[test]
    fn a_machine_is_found_by_host_name_or_by_the_beginning_of_its_id() {
        const A: &str = "aaaa0000000000000000000000000001";
        const B: &str = "aaaa0000000000000000000000000002";
        const C: &str = "cccc0000000000000000000000000003";
        let records = vec![record(A, "web-1"), record(B, "web-2"), record(C, "web-2")];
        let check = |reference: &str, expected: Result<&str, Code>| {
            let found = resolve("machine", reference, records.clone());
            let found = found.map(|r| r.id.to_string()).map_err(|status| {
                assert!(status.message().starts_with("machine: "), "{status}");
                status.code()
            });
            assert_eq!(found, expected.map(str::to_owned), "{reference}");
        };
        check("web-1", Ok(A));
        check("web-2", Err(Code::FailedPrecondition));
        check("cccc", Ok(C));
        check("ccc", Err(Code::NotFound));
        check("aaaa", Err(Code::FailedPrecondition));
        check("nobody", Err(Code::NotFound));
        check("", Err(Code::InvalidArgument));
    }

    #[test]
    fn machines_are_selected_by_label_host_name_status_and_id() {
        let known = Known { record: record(&"a".repeat(32), "web-1"), presence: None };
        let check = |name: &str, value: &str, expected: bool| {
            assert_eq!(known.accepted_by(&[Matcher::equal(name, value)]), expected, "{name}");
        };
        check("env", "dev", true);
        check("env", "prod", false);
        check("zone", "", true);
        check("host.name", "web-1", true);
        check("status", "online", true);
        check("status", "offline", false);
        check("machine.id", &"a".repeat(32), true);
    }
}
