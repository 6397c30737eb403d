//! What PostgreSQL's errors mean to callers.

use sqlx::Error;

use super::STORE;
use crate::StorageError;

/// Why a step failed, before it is known as an error of this store.
#[derive(Debug)]
pub(crate) enum Failure {
    Sql(Error),
    Known(StorageError),
}

pub(crate) type Outcome<T> = Result<T, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::Known(error)
    }
}

impl From<Failure> for StorageError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Known(error) => error,
            Failure::Sql(Error::ColumnDecode { source, index }) => {
                Self::Corrupt { store: STORE, reason: format!("column {index}: {source}") }
            }
            Failure::Sql(error) if is_about_values(&error) => {
                Self::Invalid { store: STORE, reason: error.to_string() }
            }
            Failure::Sql(error) => {
                let reason = match error.as_database_error().and_then(|e| e.code()).as_deref() {
                    Some("53100") => "its disk is full".to_owned(),
                    Some("57014") => "a statement took too long".to_owned(),
                    _ => error.to_string(),
                };
                Self::Unavailable { store: STORE, reason }
            }
        }
    }
}

/// Whether the server cannot take these very values, and never will: class 22 is wrong values, 23 broken
/// constraints, 54 values that are too large. Repeating them would hold up everybody else's.
fn is_about_values(error: &Error) -> bool {
    let code = error.as_database_error().and_then(|e| e.code());
    code.is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
}

pub(crate) fn invalid(reason: String) -> Failure {
    Failure::Known(StorageError::Invalid { store: STORE, reason })
}

pub(crate) fn unavailable(reason: String) -> Failure {
    Failure::Known(StorageError::Unavailable { store: STORE, reason })
}

pub(crate) fn corrupt(what: &str, reason: &dyn std::fmt::Display) -> Failure {
    Failure::Known(StorageError::Corrupt { store: STORE, reason: format!("{what}: {reason}") })
}

pub(crate) fn cannot_open(reason: String) -> StorageError {
    StorageError::CannotOpen {
        what: STORE.to_owned(),
        reason,
        hint: "check that the server is running and that the url, user, password and database are its own",
    }
}
