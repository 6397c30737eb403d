//! `ErrorBreakdown`: errors of a window, by service and by group.

use std::collections::{BTreeMap, HashMap};

use model::{MachineId, TimeRange};
use proto::{convert, v1};
use storage::history::{ErrorGroup, Errors};
use tonic::Status;

use super::super::{Desk, unavailable};

const RANGE_DEFAULT_MS: i64 = 60 * 60 * 1000;
const MINUTE_MS: i64 = 60 * 1000;
const BUCKETS_MAX: i64 = 60;
/// Of one answer.
const GROUPS_MAX: usize = 200;

pub(super) async fn answer(
    desk: &Desk,
    request: v1::ErrorBreakdownRequest,
) -> Result<v1::ErrorBreakdownResponse, Status> {
    let asked = super::range(request.start, request.end, RANGE_DEFAULT_MS)?;
    let machines = match request.machine.as_str() {
        "" => None,
        machine => Some(vec![desk.record("machine", machine)?.id]),
    };
    let (range, bucket_ms) = buckets(asked);
    let errors =
        desk.history.errors(range, bucket_ms, machines.as_deref()).await.map_err(unavailable)?;
    let service = model::words::fold(&request.service);
    let count = (range.end.since(range.start) / bucket_ms) as usize;
    Ok(Table::of(errors, &service, range, bucket_ms, count)
        .answer(|machine| desk.host_name(machine)))
}

/// Whole minutes around what was asked for, in buckets of whole minutes.
fn buckets(asked: TimeRange) -> (TimeRange, i64) {
    let start = asked.start.floor(MINUTE_MS);
    let minutes = asked.end.ceil(MINUTE_MS).since(start) / MINUTE_MS;
    let bucket_ms = (minutes + BUCKETS_MAX - 1) / BUCKETS_MAX * MINUTE_MS;
    let count = (minutes * MINUTE_MS + bucket_ms - 1) / bucket_ms;
    (TimeRange::new(start, start + count * bucket_ms), bucket_ms)
}

struct Row {
    group: ErrorGroup,
    count: u64,
    counts: Vec<u64>,
    machines: HashMap<MachineId, u64>,
}

struct Table {
    range: TimeRange,
    bucket_ms: i64,
    rows: Vec<Row>,
    /// In all, and by bucket.
    services: BTreeMap<String, (u64, Vec<u64>)>,
}

impl Table {
    fn of(errors: Errors, service: &str, range: TimeRange, bucket_ms: i64, buckets: usize) -> Self {
        let wanted = |group: &ErrorGroup| {
            service.is_empty() || model::words::equals_folded(&group.service, service)
        };
        let mut rows: HashMap<u64, Row> = errors
            .groups
            .into_iter()
            .filter(wanted)
            .map(|group| {
                let (counts, machines) = (vec![0; buckets], HashMap::new());
                (group.fingerprint, Row { group, count: 0, counts, machines })
            })
            .collect();
        let mut services: BTreeMap<String, (u64, Vec<u64>)> = BTreeMap::new();
        for count in errors.counts {
            let Some(row) = rows.get_mut(&count.fingerprint) else { continue };
            let bucket = (count.time.since(range.start) / bucket_ms) as usize;
            let service = services.entry(row.group.service.clone()).or_default();
            service.1.resize(buckets, 0);
            for (total, counts) in
                [(&mut row.count, &mut row.counts), (&mut service.0, &mut service.1)]
            {
                *total += count.count;
                if let Some(of_bucket) = counts.get_mut(bucket) {
                    *of_bucket += count.count;
                }
            }
            *row.machines.entry(count.machine).or_default() += count.count;
        }
        let mut rows: Vec<Row> = rows.into_values().filter(|row| row.count > 0).collect();
        rows.sort_by_key(|row| (std::cmp::Reverse(row.count), row.group.fingerprint));
        Self { range, bucket_ms, rows, services }
    }

    fn answer(mut self, name: impl Fn(MachineId) -> String) -> v1::ErrorBreakdownResponse {
        let left_out = self.rows.len().saturating_sub(GROUPS_MAX);
        self.rows.truncate(GROUPS_MAX);
        let mut services: Vec<v1::ServiceErrors> = self
            .services
            .into_iter()
            .map(|(service, (count, counts))| v1::ServiceErrors { service, count, counts })
            .collect();
        services.sort_by_key(|service| std::cmp::Reverse(service.count));
        let groups = self.rows.into_iter().map(|row| {
            let mut machines: Vec<(u64, String)> =
                row.machines.iter().map(|(&machine, &count)| (count, name(machine))).collect();
            machines.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
            let group = row.group;
            v1::ErrorGroup {
                id: format!("{:016x}", group.fingerprint),
                service: group.service,
                template: group.template,
                example: group.example,
                level: model::Level::of(group.severity).name().to_owned(),
                first_seen: Some(convert::timestamp_to_proto(group.first_seen)),
                last_seen: Some(convert::timestamp_to_proto(group.last_seen)),
                count: row.count,
                count_total: group.count,
                machines: machines.into_iter().map(|(_, name)| name).collect(),
                counts: row.counts,
            }
        });
        v1::ErrorBreakdownResponse {
            services,
            groups: groups.collect(),
            groups_left_out: left_out as u32,
            start: Some(convert::timestamp_to_proto(self.range.start)),
            bucket: Some(convert::duration_from_ms(self.bucket_ms)),
        }
    }
}

#[cfg(test)]
mod tests {
    use model::UnixMillis;

    use super::*;

    #[test]
    fn a_window_is_whole_minutes_in_at_most_sixty_buckets() {
        fn check(seconds: (i64, i64), expected: (i64, i64, i64)) {
            let time = |seconds: i64| UnixMillis(seconds * 1000);
            let (range, bucket) = buckets(TimeRange::new(time(seconds.0), time(seconds.1)));
            let minutes = |ms: i64| ms / MINUTE_MS;
            let found = (minutes(range.start.0), minutes(range.end.0), minutes(bucket));
            assert_eq!(found, expected, "{seconds:?}");
        }
        check((0, 1), (0, 1, 1));
        check((59, 61), (0, 2, 1));
        check((0, 3600), (0, 60, 1));
        check((0, 3601), (0, 62, 2));
        check((60, 24 * 3600), (1, 1441, 24));
    }
}
