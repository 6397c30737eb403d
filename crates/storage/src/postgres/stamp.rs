//! Instants as `timestamptz`.

use model::UnixMillis;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueFormat, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Type};

/// An instant in a statement or a row. What PostgreSQL cannot represent becomes the nearest that it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Stamp(pub(crate) UnixMillis);

/// From 1970 to 2000, where PostgreSQL counts from.
const EPOCH_MS: i64 = 946_684_800_000;
/// From 4713 BC to the year 294246, where TimescaleDB ends, a little within.
const MIN_MS: i64 = -210_000_000_000_000;
const MAX_MS: i64 = 9_223_000_000_000_000;

impl Stamp {
    /// Microseconds since 2000, as on the wire.
    pub(crate) fn micros(self) -> i64 {
        (self.0.0.clamp(MIN_MS, MAX_MS) - EPOCH_MS) * 1000
    }

    fn from_micros(micros: i64) -> Self {
        Self(UnixMillis(micros.div_euclid(1000) + EPOCH_MS))
    }
}

impl Type<Postgres> for Stamp {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("timestamptz")
    }
}

impl PgHasArrayType for Stamp {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("_timestamptz")
    }
}

impl Encode<'_, Postgres> for Stamp {
    fn encode_by_ref(&self, buf: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buf.extend(&self.micros().to_be_bytes());
        Ok(IsNull::No)
    }
}

impl Decode<'_, Postgres> for Stamp {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        match value.format() {
            PgValueFormat::Binary => {
                Ok(Self::from_micros(i64::from_be_bytes(value.as_bytes()?.try_into()?)))
            }
            PgValueFormat::Text => Err("expected a timestamp in binary form".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_instant_comes_back(ms in MIN_MS..MAX_MS) {
            let stamp = Stamp(UnixMillis(ms));
            prop_assert_eq!(Stamp::from_micros(stamp.micros()), stamp);
        }

        #[test]
        fn no_instant_overflows(ms in any::<i64>()) {
            Stamp(UnixMillis(ms)).micros();
        }
    }
}
