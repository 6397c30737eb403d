//! Series and matchers.

use model::{Kind, MatchOp, Matcher, Series};

use super::{FieldError, labels_to_proto};
use crate::v1;

pub fn kind_to_proto(kind: Kind) -> v1::MetricKind {
    match kind {
        Kind::Gauge => v1::MetricKind::Gauge,
        Kind::Counter => v1::MetricKind::Counter,
    }
}

pub fn kind_from_proto(field: &str, kind: i32) -> Result<Kind, FieldError> {
    match v1::MetricKind::try_from(kind) {
        Ok(v1::MetricKind::Gauge) => Ok(Kind::Gauge),
        Ok(v1::MetricKind::Counter) => Ok(Kind::Counter),
        Ok(v1::MetricKind::Unspecified) | Err(_) => {
            Err(FieldError::new(field, format!("expected GAUGE (1) or COUNTER (2), found {kind}")))
        }
    }
}

pub fn series_to_proto(series: &Series) -> v1::SeriesDescriptor {
    v1::SeriesDescriptor {
        metric: series.metric.to_string(),
        labels: labels_to_proto(&series.labels),
        kind: kind_to_proto(series.kind).into(),
        unit: series.unit.to_string(),
    }
}

pub fn matcher_from_proto(field: &str, matcher: v1::LabelMatcher) -> Result<Matcher, FieldError> {
    use v1::label_matcher::Op;
    if matcher.name.is_empty() {
        return Err(FieldError::new(format!("{field}.name"), "expected a label name"));
    }
    let op = match Op::try_from(matcher.op) {
        Ok(Op::Unspecified | Op::Equal) => MatchOp::Equal,
        Ok(Op::NotEqual) => MatchOp::NotEqual,
        Ok(Op::Glob) => MatchOp::Glob,
        Ok(Op::NotGlob) => MatchOp::NotGlob,
        Err(_) => {
            return Err(FieldError::new(
                format!("{field}.op"),
                format!("unknown operator {}", matcher.op),
            ));
        }
    };
    Ok(Matcher { name: matcher.name, op, value: matcher.value })
}
