//! What a request says, checked. Pure.

use std::borrow::Cow;

use model::{Caller, Grant, Kind, Labels, LogEvent, Series, UnixMillis, limits, pushed, secrets};
use proto::convert::{self, FieldError};
use proto::v1;
use tonic::Status;

use super::super::admission;

pub(super) const SOURCE: &str = "push";

/// A request that can be stored.
#[derive(Debug, PartialEq)]
pub(super) struct Pushed {
    /// Whose it is.
    pub(super) source: String,
    pub(super) key: Option<String>,
    pub(super) events: Vec<LogEvent>,
    pub(super) points: Vec<Point>,
}

/// One value of one series.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) series: Series,
    pub(super) value: f64,
    /// To be added to what there was.
    pub(super) delta: bool,
    /// `None`: that of the receipt.
    pub(super) time: Option<UnixMillis>,
}

/// Refuses with a status that names the field.
pub(super) fn request(
    request: v1::PushRequest,
    caller: Option<&Caller>,
    now: UnixMillis,
) -> Result<Pushed, Status> {
    let source = source(request.source, caller)?;
    let key = request.idempotency_key;
    if key.len() > limits::PUSH_KEY_BYTES_MAX {
        let max = limits::PUSH_KEY_BYTES_MAX;
        let problem = format!("expected at most {max} bytes, found {}", key.len());
        return Err(FieldError::new("idempotency_key", problem).into());
    }
    if request.events.is_empty() && request.points.is_empty() {
        return Err(FieldError::new("events", "expected some, or points; found neither").into());
    }
    Ok(Pushed {
        source,
        key: (!key.is_empty()).then_some(key),
        events: events(request.events, now)?,
        points: points(request.points, now)?,
    })
}

/// A token for pushing is for the source of its name alone.
fn source(named: String, caller: Option<&Caller>) -> Result<String, Status> {
    let own = caller.filter(|caller| caller.grant == Grant::Push).map(|caller| &caller.name);
    let source = match own {
        Some(own) if named.is_empty() || named == *own => own.clone(),
        Some(own) => {
            return Err(Status::permission_denied(format!(
                "source: token {own:?} pushes as {own:?} alone, found {named:?}"
            )));
        }
        None => named,
    };
    match pushed::is_source_name(&source) {
        true => Ok(source),
        false => {
            let max = limits::PUSH_SOURCE_BYTES_MAX;
            let shown: String = source.chars().take(80).collect();
            let problem = format!("expected 1 to {max} bytes of text, found {shown:?}");
            Err(FieldError::new("source", problem).into())
        }
    }
}

fn events(events: Vec<v1::LogEvent>, now: UnixMillis) -> Result<Vec<LogEvent>, Status> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let mut events = convert::logs_from_proto(v1::LogBatch { events })?;
    for (i, event) in events.iter_mut().enumerate() {
        SOURCE.clone_into(&mut event.source);
        mask(event);
        match event.time {
            UnixMillis(0) => event.time = now,
            time => check_time(&format!("events[{i}].time_unix_ms"), time, now)?,
        }
    }
    Ok(events)
}

/// What collectors do on their machines is done here: there is nobody before.
fn mask(event: &mut LogEvent) {
    if let Cow::Owned(masked) = secrets::mask(&event.body) {
        event.body = masked;
    }
    let value = |(name, value): (&str, &str)| (name.to_owned(), secrets::mask_value(name, value));
    // What is masked may be longer by a few bytes; a value that no longer fits is cut.
    let cut = |(name, mut value): (String, String)| {
        value.truncate(value.floor_char_boundary(limits::LABEL_VALUE_BYTES_MAX));
        (name, value)
    };
    event.attributes = Labels::new(event.attributes.iter().map(value).map(cut)).unwrap_or_default();
}

fn points(points: Vec<v1::PushedPoint>, now: UnixMillis) -> Result<Vec<Point>, Status> {
    let count = points.len();
    if count > limits::PUSH_VALUES_MAX {
        let max = limits::PUSH_VALUES_MAX;
        let problem = format!("expected at most {max}, found {count}");
        return Err(FieldError::new("points", problem).into());
    }
    points
        .into_iter()
        .enumerate()
        .map(|(i, one)| {
            let point = point(one).map_err(|error| error.within(&format!("points[{i}]")))?;
            if let Some(time) = point.time {
                check_time(&format!("points[{i}].time_unix_ms"), time, now)?;
            }
            Ok(point)
        })
        .collect()
}

fn point(point: v1::PushedPoint) -> Result<Point, FieldError> {
    let series =
        point.series.ok_or_else(|| FieldError::new("series", "expected one, found none"))?;
    let series = self::series(series).map_err(|error| error.within("series"))?;
    let value = point.value;
    if !value.is_finite() {
        return Err(FieldError::new("value", format!("expected a finite number, found {value}")));
    }
    if series.kind == Kind::Counter && value < 0.0 {
        let problem = format!("a counter only grows, found {value}; hint: send it as a gauge");
        return Err(FieldError::new("value", problem));
    }
    if point.delta && series.kind != Kind::Counter {
        return Err(FieldError::new("delta", "only what a counter has more can be added"));
    }
    let time = (point.time_unix_ms != 0).then_some(UnixMillis(point.time_unix_ms));
    if point.delta && time.is_some() {
        let problem = "what is added has the time of its receipt; hint: leave the time out, or send the \
                       counter's total";
        return Err(FieldError::new("time_unix_ms", problem));
    }
    Ok(Point { series, value, delta: point.delta, time })
}

fn series(series: v1::SeriesDescriptor) -> Result<Series, FieldError> {
    let found = || series.metric.chars().take(64).collect::<String>();
    match pushed::metric_name(&series.metric) {
        Ok(name) if *name == *series.metric => {}
        Ok(_) => {
            let problem = format!("expected letters, digits, '_' and '.', found {:?}", found());
            return Err(FieldError::new("metric", problem));
        }
        Err(error) => {
            return Err(FieldError::new("metric", format!("{error}, found {:?}", found())));
        }
    }
    let labels = convert::labels_from_proto("labels", series.labels)?;
    if labels.get("service.name").is_empty() {
        return Err(FieldError::new("labels", "expected service.name among them"));
    }
    if series.unit.len() > limits::UNIT_BYTES_MAX {
        let max = limits::UNIT_BYTES_MAX;
        return Err(FieldError::new("unit", format!("expected at most {max} bytes")));
    }
    let kind = convert::kind_from_proto("kind", series.kind)?;
    Ok(Series { metric: series.metric.into(), labels, kind, unit: series.unit.into() })
}

fn check_time(field: &str, time: UnixMillis, now: UnixMillis) -> Result<(), Status> {
    admission::check_time(field, time, now)
        .map_err(|refusal| Status::invalid_argument(refusal.message))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_795_208_400_000);

    fn point(metric: &str, kind: v1::MetricKind) -> v1::PushedPoint {
        let series = v1::SeriesDescriptor {
            metric: metric.to_owned(),
            labels: [("service.name".to_owned(), "shop".to_owned())].into(),
            kind: kind.into(),
            unit: "1".to_owned(),
        };
        v1::PushedPoint { series: Some(series), value: 1.0, ..Default::default() }
    }

    fn refused(change: impl FnOnce(&mut v1::PushedPoint), expected: &str) {
        let mut one = point("orders", v1::MetricKind::Counter);
        change(&mut one);
        let good = point("orders", v1::MetricKind::Counter);
        let error = points(vec![good, one], NOW).expect_err(expected);
        assert_eq!(error.code(), tonic::Code::InvalidArgument);
        assert!(error.message().starts_with(expected), "{}", error.message());
    }

    #[test]
    fn what_cannot_be_stored_is_refused_with_its_field() {
        refused(|p| p.value = f64::NAN, "points[1].value: ");
        refused(|p| p.value = -1.0, "points[1].value: a counter only grows");
        refused(|p| p.series = None, "points[1].series: ");
        refused(|p| p.time_unix_ms = 7, "points[1].time_unix_ms: ");
        let series = |change: fn(&mut v1::SeriesDescriptor)| {
            move |p: &mut v1::PushedPoint| change(p.series.as_mut().expect("one"))
        };
        refused(
            series(|s| s.metric = "system.cpu.utilization".into()),
            "points[1].series.metric: ",
        );
        refused(series(|s| s.metric = "a b".into()), "points[1].series.metric: ");
        refused(series(|s| s.labels.clear()), "points[1].series.labels: ");
        refused(series(|s| s.kind = 0), "points[1].series.kind: ");
        refused(
            |p| {
                p.delta = true;
                p.time_unix_ms = NOW.0;
            },
            "points[1].time_unix_ms: ",
        );
    }

    #[test]
    fn secrets_in_events_do_not_get_any_further() {
        let one = v1::LogEvent {
            body: "login with password=hunter2 failed".to_owned(),
            attributes: [("db.password", "x9"), ("user", "bob"), ("url", "http://a:b@c/")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..Default::default()
        };
        let event = events(vec![one], NOW).expect("taken").pop().expect("one");
        assert_eq!(event.body, "login with password=*** failed");
        let of = |name| event.attributes.get(name);
        assert_eq!([of("db.password"), of("user"), of("url")], ["***", "bob", "http://a:***@c/"]);
    }

    #[test]
    fn a_token_pushes_under_its_own_name_and_no_other() {
        let caller = |grant| Caller { id: "1".into(), name: "shop".into(), grant };
        let (push, admin) = (caller(Grant::Push), caller(Grant::Admin));
        let check = |named: &str, caller: Option<&Caller>, expected: Option<&str>| {
            let found = source(named.to_owned(), caller).ok();
            assert_eq!(found.as_deref(), expected, "{named:?} by {caller:?}");
        };
        check("", Some(&push), Some("shop"));
        check("shop", Some(&push), Some("shop"));
        check("bank", Some(&push), None);
        check("bank", Some(&admin), Some("bank"));
        check("bank", None, Some("bank"));
        check("", None, None);
        check("", Some(&admin), None);
    }
}
