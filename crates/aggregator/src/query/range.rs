//! Windows of one metric over a range of time: `QueryRange`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use model::{Kind, MachineId, TimeRange, UnixMillis, limits};
use proto::convert::FieldError;
use proto::{convert, v1};
use storage::history::{SeriesSelector, StoredSeries, Tier};
use storage::registry::MachineRecord;
use tonic::Status;

use self::plan::{Asked, STEP_MS_MIN, Source};
use self::windows::{Aggregate, Line, Windows};
use super::{Desk, directory, unavailable};

mod plan;
mod windows;

/// Values that are read at once, at one a second; more series are read one part after the other.
const VALUES_AT_ONCE: i64 = 2_000_000;

pub(super) async fn answer(
    desk: &Desk,
    request: v1::QueryRangeRequest,
) -> Result<v1::QueryRangeResponse, Status> {
    let began = Instant::now();
    let work = async {
        let slot = desk.range_slots.acquire().await;
        let _slot = slot.map_err(|_| Status::unavailable("the aggregator is shutting down"))?;
        query(desk, request).await
    };
    let answer = tokio::time::timeout(desk.config.timeout.0, work).await;
    desk.metrics.query_duration.observe(began.elapsed().as_secs_f64());
    answer.unwrap_or_else(|_| {
        let timeout = desk.config.timeout;
        Err(Status::deadline_exceeded(format!(
            "the query took longer than {timeout}; hint: choose a longer step or fewer series"
        )))
    })
}

async fn query(
    desk: &Desk,
    request: v1::QueryRangeRequest,
) -> Result<v1::QueryRangeResponse, Status> {
    let read = Read::new(request)?;
    let machines = desk.machines(&read.machines).await?;
    let records: HashMap<MachineId, Arc<MachineRecord>> =
        machines.into_iter().map(|known| (known.record.id, known.record)).collect();
    let selector = SeriesSelector {
        metric: read.metric.clone(),
        labels: read.labels.clone(),
        machines: (!read.machines.is_empty()).then(|| records.keys().copied().collect()),
    };
    let max = limits::QUERY_SERIES_MAX;
    let series = desk.history.find_series(&selector, max + 1).await.map_err(unavailable)?;
    if series.len() > max {
        return Err(Status::invalid_argument(format!(
            "labels: more than {max} series match; hint: add matchers to labels or machines"
        )));
    }
    let aggregate = read.aggregate(&series)?;
    let asked = Asked {
        start: read.start,
        end: read.end,
        step_ms: read.step_ms,
        aggregate,
        kind: series.first().map_or(Kind::Gauge, |s| s.series.kind),
        series: series.len().max(1),
        raw_kept: raw_kept(desk, &series, TimeRange::new(read.start, read.end)).await?,
    };
    let (windows, source) = asked.plan()?;
    let reader = Reader { desk, windows, source, aggregate, band: read.band };
    let mut answered = Vec::new();
    for part in series.chunks(reader.series_at_once()) {
        let lines = reader.lines(part).await?;
        for (stored, line) in part.iter().zip(lines) {
            if line.values.iter().all(|v| v.is_nan()) {
                continue;
            }
            answered.push(range_series(stored, line, records.get(&stored.machine)));
        }
    }
    Ok(v1::QueryRangeResponse {
        start: Some(convert::timestamp_to_proto(windows.start)),
        step: Some(convert::duration_from_ms(windows.step_ms)),
        tier: match source {
            Source::Raw => v1::Tier::Raw,
            Source::Minute => v1::Tier::Tier1m,
            Source::Hour => v1::Tier::Tier1h,
        }
        .into(),
        series: answered,
        aggregate: aggregate_to_proto(aggregate).into(),
    })
}

/// A request whose fields make sense.
struct Read {
    metric: String,
    labels: Vec<model::Matcher>,
    machines: Vec<model::Matcher>,
    start: UnixMillis,
    end: UnixMillis,
    step_ms: Option<i64>,
    aggregate: Option<Aggregate>,
    band: bool,
}

impl Read {
    fn new(request: v1::QueryRangeRequest) -> Result<Self, Status> {
        let invalid = |field: &str, problem: String| Status::from(FieldError::new(field, problem));
        if request.metric.is_empty() || request.metric.len() > limits::METRIC_NAME_BYTES_MAX {
            let (max, found) = (limits::METRIC_NAME_BYTES_MAX, request.metric.len());
            return Err(invalid("metric", format!("expected 1 to {max} bytes, found {found}")));
        }
        let time = |field: &str, time: Option<prost_types::Timestamp>| {
            let time = time.ok_or_else(|| FieldError::new(field, "expected a time, found none"))?;
            convert::timestamp_from_proto(field, &time)
        };
        let (start, end) = (time("start", request.start)?, time("end", request.end)?);
        if end <= start {
            return Err(invalid("end", format!("expected a time after start, found {end}")));
        }
        let step_ms =
            request.step.map(|step| convert::duration_to_ms("step", &step)).transpose()?;
        if let Some(ms) = step_ms.filter(|ms| *ms < STEP_MS_MIN) {
            return Err(invalid("step", format!("expected at least 100 ms, found {ms} ms")));
        }
        Ok(Self {
            metric: request.metric,
            labels: directory::matchers_in("labels", request.labels)?,
            machines: directory::matchers_in("machines", request.machines)?,
            start,
            end,
            step_ms,
            aggregate: aggregate_from_proto(request.aggregate)?,
            band: request.with_band,
        })
    }

    /// What was asked for, or what suits the metric.
    fn aggregate(&self, series: &[StoredSeries]) -> Result<Aggregate, FieldError> {
        let kind = series.first().map(|s| s.series.kind);
        let Some(asked) = self.aggregate else {
            return Ok(match kind {
                Some(Kind::Counter) => Aggregate::Rate,
                Some(Kind::Gauge) | None => Aggregate::Mean,
            });
        };
        if asked.is_growth() && kind == Some(Kind::Gauge) {
            let problem = format!("expected none of a counter's for the gauge {}", self.metric);
            return Err(FieldError::new("aggregate", problem));
        }
        Ok(asked)
    }
}

/// Whether raw values say all there is to say about this time: they are kept since it began, or there is
/// nothing older in the tiers either.
async fn raw_kept(desk: &Desk, series: &[StoredSeries], range: TimeRange) -> Result<bool, Status> {
    let since = match desk.usage.get().raw_since {
        Some(since) => Some(since),
        // There was nothing at the last look, or none yet.
        None => desk.history.usage().await.map_err(unavailable)?.raw_since,
    };
    // Whole hours: the hour in which raw values begin is in both.
    let begin = since.map_or(range.end, |since| since.floor(Tier::Hour.window_ms()));
    let older = TimeRange::new(range.start, begin.min(range.end));
    if older.is_empty() {
        return Ok(true);
    }
    let some = &series[..series.len().min(10)];
    let rollups = desk.history.read_tier(some, Tier::Hour, older).await.map_err(unavailable)?;
    Ok(rollups.iter().all(Vec::is_empty))
}

/// Reads series and makes lines of them.
struct Reader<'a> {
    desk: &'a Desk,
    windows: Windows,
    source: Source,
    aggregate: Aggregate,
    band: bool,
}

impl Reader<'_> {
    fn series_at_once(&self) -> usize {
        let range_ms = self.windows.end().since(self.windows.start);
        let values_of_one = match self.source {
            Source::Raw => range_ms / 1000,
            Source::Minute => range_ms / Tier::Minute.window_ms(),
            Source::Hour => range_ms / Tier::Hour.window_ms(),
        };
        usize::try_from(VALUES_AT_ONCE / values_of_one.max(1)).unwrap_or(1).clamp(1, 500)
    }

    async fn lines(&self, series: &[StoredSeries]) -> Result<Vec<Line>, Status> {
        let Self { desk, windows, source, aggregate, band } = *self;
        let before = if aggregate.is_growth() { windows.reach_ms() } else { 0 };
        let range = TimeRange::new(windows.start - before, windows.end());
        let kinds: Vec<Kind> = series.iter().map(|s| s.series.kind).collect();
        let banded = move |kind: Kind| band && kind == Kind::Gauge;
        let tier = match source {
            Source::Raw => {
                let samples = desk.history.read_raw(series, range).await.map_err(unavailable)?;
                return compute(move || {
                    let both = kinds.iter().zip(&samples);
                    both.map(|(k, s)| windows.of_samples(aggregate, banded(*k), s)).collect()
                })
                .await;
            }
            Source::Minute => Tier::Minute,
            Source::Hour => Tier::Hour,
        };
        let range = TimeRange::new(range.start.floor(tier.window_ms()), range.end);
        let rollups = desk.history.read_tier(series, tier, range).await.map_err(unavailable)?;
        compute(move || {
            let line = |(kind, rollups): (&Kind, &Vec<_>)| {
                windows.of_rollups(aggregate, *kind, banded(*kind), tier.window_ms(), rollups)
            };
            kinds.iter().zip(&rollups).map(line).collect()
        })
        .await
    }
}

/// Millions of values take longer than a task may hold its thread.
async fn compute<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Status> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Status::internal("the evaluation failed"))
}

fn range_series(
    stored: &StoredSeries,
    line: Line,
    record: Option<&Arc<MachineRecord>>,
) -> v1::RangeSeries {
    v1::RangeSeries {
        machine_id: stored.machine.to_string(),
        host_name: record.map(|r| r.facts.host_name.clone()).unwrap_or_default(),
        metric: stored.series.metric.to_string(),
        labels: convert::labels_to_proto(&stored.series.labels),
        kind: convert::kind_to_proto(stored.series.kind).into(),
        unit: stored.series.unit.to_string(),
        values: line.values,
        min: line.min,
        max: line.max,
    }
}

/// `None`: as suits the metric.
fn aggregate_from_proto(aggregate: i32) -> Result<Option<Aggregate>, FieldError> {
    use v1::Aggregate as Wire;
    let unknown = || FieldError::new("aggregate", format!("unknown aggregate {aggregate}"));
    Ok(Some(match Wire::try_from(aggregate).map_err(|_| unknown())? {
        Wire::Unspecified => return Ok(None),
        Wire::Last => Aggregate::Last,
        Wire::Mean => Aggregate::Mean,
        Wire::Min => Aggregate::Min,
        Wire::Max => Aggregate::Max,
        Wire::Sum => Aggregate::Sum,
        Wire::Count => Aggregate::Count,
        Wire::Stddev => Aggregate::Stddev,
        Wire::P95 => Aggregate::P95,
        Wire::Rate => Aggregate::Rate,
        Wire::Increase => Aggregate::Increase,
    }))
}

fn aggregate_to_proto(aggregate: Aggregate) -> v1::Aggregate {
    match aggregate {
        Aggregate::Last => v1::Aggregate::Last,
        Aggregate::Mean => v1::Aggregate::Mean,
        Aggregate::Min => v1::Aggregate::Min,
        Aggregate::Max => v1::Aggregate::Max,
        Aggregate::Sum => v1::Aggregate::Sum,
        Aggregate::Count => v1::Aggregate::Count,
        Aggregate::Stddev => v1::Aggregate::Stddev,
        Aggregate::P95 => v1::Aggregate::P95,
        Aggregate::Rate => v1::Aggregate::Rate,
        Aggregate::Increase => v1::Aggregate::Increase,
    }
}
