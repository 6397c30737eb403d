//! Instants and durations.

use model::UnixMillis;
use prost_types::{Duration, Timestamp};

use super::FieldError;

pub fn timestamp_to_proto(time: UnixMillis) -> Timestamp {
    Timestamp {
        seconds: time.0.div_euclid(1000),
        nanos: (time.0.rem_euclid(1000) * 1_000_000) as i32,
    }
}

pub fn timestamp_from_proto(field: &str, time: &Timestamp) -> Result<UnixMillis, FieldError> {
    if !(0..1_000_000_000).contains(&time.nanos) {
        return Err(FieldError::new(
            field,
            format!("nanos {} is not below one second", time.nanos),
        ));
    }
    let ms = time
        .seconds
        .checked_mul(1000)
        .and_then(|ms| ms.checked_add(i64::from(time.nanos / 1_000_000)));
    ms.map(UnixMillis).ok_or_else(|| FieldError::new(field, "beyond the range of time"))
}

pub fn duration_from_ms(ms: i64) -> Duration {
    Duration { seconds: ms / 1000, nanos: (ms % 1000 * 1_000_000) as i32 }
}

pub fn duration_to_ms(field: &str, duration: &Duration) -> Result<i64, FieldError> {
    let ms = duration
        .seconds
        .checked_mul(1000)
        .and_then(|ms| ms.checked_add(i64::from(duration.nanos / 1_000_000)));
    ms.ok_or_else(|| FieldError::new(field, "beyond the range of durations"))
}
