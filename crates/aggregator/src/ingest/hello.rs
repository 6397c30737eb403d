//! The first message of a stream.

use std::time::Duration;

use model::{Labels, MachineFacts, MachineId, SpoolEpoch, UnixMillis, limits, pushed};
use proto::convert::{self, FieldError};
use proto::v1;
use tonic::Status;

/// Who is speaking, checked.
#[derive(Debug)]
pub(super) struct Greeting {
    pub(super) machine: MachineId,
    pub(super) facts: MachineFacts,
    pub(super) labels: Labels,
    pub(super) epoch: SpoolEpoch,
    /// The collector's clock as it wrote this.
    pub(super) time: UnixMillis,
    pub(super) interval: Duration,
}

/// Refuses with a status that names the field.
pub(super) fn read(hello: v1::Hello) -> Result<Greeting, Status> {
    let version = hello.protocol_version;
    if version != proto::PROTOCOL_VERSION {
        let ours = proto::PROTOCOL_VERSION;
        let hint = if version > ours { "update the server" } else { "update the collector" };
        return Err(Status::failed_precondition(format!(
            "hello.protocol_version: expected {ours}, found {version}; hint: {hint}"
        )));
    }
    fields(hello).map_err(|error| error.within("hello").into())
}

fn fields(hello: v1::Hello) -> Result<Greeting, FieldError> {
    let machine: MachineId =
        hello.machine_id.parse().map_err(|error| FieldError::new("machine_id", error))?;
    if pushed::is_source(machine) {
        let problem = format!(
            "expected that of a machine, found {machine}: that of a source that programs push"
        );
        return Err(FieldError::new("machine_id", problem));
    }
    let facts = hello.facts.ok_or_else(|| FieldError::new("facts", "expected them, found none"))?;
    if hello.spool_epoch == 0 {
        return Err(FieldError::new("spool_epoch", "expected a random number, found 0"));
    }
    Ok(Greeting {
        machine,
        facts: convert::facts_from_proto(facts).map_err(|error| error.within("facts"))?,
        labels: convert::labels_from_proto("labels", hello.labels)?,
        epoch: SpoolEpoch(hello.spool_epoch),
        time: UnixMillis(hello.time_unix_ms),
        interval: interval(hello.interval.as_ref())?,
    })
}

/// One second when it is absent.
fn interval(interval: Option<&prost_types::Duration>) -> Result<Duration, FieldError> {
    let Some(interval) = interval else { return Ok(Duration::from_secs(1)) };
    let ms = convert::duration_to_ms("interval", interval)?;
    let bounds = limits::INTERVAL_MS_MIN..=limits::INTERVAL_MS_MAX;
    match u64::try_from(ms) {
        Ok(ms) if bounds.contains(&ms) => Ok(Duration::from_millis(ms)),
        _ => Err(FieldError::new("interval", format!("expected 100 ms to 1 h, found {ms} ms"))),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn hello() -> v1::Hello {
        v1::Hello {
            protocol_version: 1,
            machine_id: "3d1219c7c4c5404aaa1f6d2a48adfda4".into(),
            facts: Some(v1::MachineFacts { host_name: "web-1".into(), ..Default::default() }),
            spool_epoch: 7,
            ..Default::default()
        }
    }

    #[test]
    fn a_bad_hello_is_refused_with_its_field() {
        fn check(change: impl FnOnce(&mut v1::Hello), code: Code, field: &str) {
            let mut hello = hello();
            change(&mut hello);
            let status = read(hello).expect_err("accepted");
            assert_eq!(status.code(), code, "{status}");
            assert!(status.message().starts_with(field), "{status}");
        }
        let invalid = Code::InvalidArgument;
        check(|h| h.protocol_version = 2, Code::FailedPrecondition, "hello.protocol_version:");
        check(|h| h.protocol_version = 0, Code::FailedPrecondition, "hello.protocol_version:");
        check(|h| h.machine_id = "web-1".into(), invalid, "hello.machine_id:");
        check(|h| h.machine_id = "0".repeat(32), invalid, "hello.machine_id:");
        check(|h| h.facts = None, invalid, "hello.facts:");
        check(|h| h.facts = Some(Default::default()), invalid, "hello.facts.host_name:");
        check(|h| h.spool_epoch = 0, invalid, "hello.spool_epoch:");
        check(|h| drop(h.labels.insert("a b".into(), "x".into())), invalid, "hello.labels:");
        check(|h| h.interval = Some(convert::duration_from_ms(50)), invalid, "hello.interval:");
        check(|h| h.interval = Some(convert::duration_from_ms(-1)), invalid, "hello.interval:");
    }

    #[test]
    fn a_hello_without_an_interval_means_one_second() {
        assert_eq!(read(hello()).expect("valid").interval, Duration::from_secs(1));
    }
}
